"""
How much too low? The possible futures of a run
===============================================

The curve of a loss tells that steps are too small, not by how much: every rate that
is too low makes the same curve, only slower. The next steps at other rates tell. From
where the run is, :doc:`what_if </advice>` goes on at several rates, on copies and on
the same batches, and measures all of them on data that no branch trains on.
"""

import matplotlib.pyplot as plt
import numpy as np

import stepsize as ss

rng = np.random.default_rng(1)
x = rng.uniform(-3, 3, size=(2_000, 2))
y = np.sin(2 * x[:, 0]) * x[:, 1] + 0.1 * rng.normal(size=2_000)
train, held = (x[:1_600], y[:1_600]), (x[1_600:], y[1_600:])
start = {
    "hidden/w": rng.normal(size=(2, 64)),
    "hidden/b": rng.normal(size=64),
    "out/w": np.zeros(64),
}


def value_and_grad(p, batch):
    rows, goal = batch
    hidden = np.tanh(rows @ p["hidden/w"] + p["hidden/b"])
    error = hidden @ p["out/w"] - goal
    back = 2 * error / len(goal)
    slope = np.outer(back, p["out/w"]) * (1 - hidden**2)
    grads = {"hidden/w": rows.T @ slope, "hidden/b": slope.sum(0)}
    return np.mean(error**2), grads | {"out/w": hidden.T @ back}


def fit(params, optimizer, epochs):
    return ss.fit(
        value_and_grad,
        params,
        optimizer,
        train,
        epochs=epochs,
        validation=held,
        progress=False,
    )


# %%
# Thirty epochs at a guessed rate. The diagnosis reads it off the curve, and advises a
# cautious step: it has seen one rate only.

params = {name: array.copy() for name, array in start.items()}
optimizer = ss.Adam(params, lr=3e-4)
history = fit(params, optimizer, 30)
print(ss.diagnose(history))

# %%
# The experiment: a hundred more steps at 0.1, 1, 3, 30, 300 and 3000 times the rate.
# The run itself, its parameters and the state of its optimizer stay as they are.

found = ss.what_if(
    value_and_grad, params, optimizer, train, factors=(0.1, 1, 3, 30, 300, 3000),
    steps=100, history=history, progress=False,
)  # fmt: skip
print(found)
print(ss.diagnose(history, what_if=found))

# %%
# The run goes on at the factor that ends lowest. To see whether the experiment told the
# truth, a copy goes on at the old rate, and one at the cautious one.

runs = {}
for factor in (1, 3, found.best):
    copy = {name: array.copy() for name, array in params.items()}
    going_on = ss.Adam(copy, lr=3e-4)
    going_on.load_state_dict(optimizer.state_dict())
    going_on.lr = factor * 3e-4
    runs[factor] = fit(copy, going_on, 30)
    print(f"x{factor:g}, 30 epochs on: held-out {runs[factor].last('val_loss'):.3f}")

# %%
# On the left the futures as they were measured, on the right what came of three.

fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.6), width_ratios=(1.35, 1))
found.plot(left)
left.set_title("Measured: 100 steps on copies")
for (factor, run), colour in zip(
    runs.items(), ("#8a8f96", "#0072b2", "#d55e00"), strict=True
):
    seen = np.isfinite(run["val_loss"])
    right.plot(
        run["epoch"][seen], run["val_loss"][seen], color=colour, label=f"x{factor:g}"
    )
right.set(
    xlabel="epoch", ylabel="held-out loss", title="What came of it", ylim=(0, None)
)
right.legend()
plt.show()
assert found.best >= 30
assert runs[found.best].last("val_loss") < 0.5 * runs[1].last("val_loss")

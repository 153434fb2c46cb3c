"""
Sixty trainings on a Dask cluster
=================================

How do rate and momentum go together? A grid of sixty short trainings tells, and each
can run elsewhere. The cluster here is two processes of one machine; with the address
of a scheduler in place of ``LocalCluster`` the same lines run on many machines
(:doc:`/beyond-one-machine`). Each run sends back its loss and its history, and every
history is diagnosed.
"""

import matplotlib.pyplot as plt
import numpy as np

import stepsize as ss

GRID = {
    "lr": [float(f"{rate:.1g}") for rate in np.geomspace(1e-4, 3, 10)],
    "momentum": [0.0, 0.5, 0.8, 0.9, 0.95, 0.99],
}


def train(point):
    """The loss after eight epochs of a logistic regression, and the run."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 12)) * np.geomspace(0.3, 3, 12)
    y = (x @ rng.normal(size=12) + rng.normal(size=512) > 0).astype(float)

    def value_and_grad(w, batch):
        x, y = batch
        score = np.clip(x @ w, -500, 500)
        chance = 1 / (1 + np.exp(-score))
        loss = np.mean(np.logaddexp(0, score) - y * score)
        return float(loss), x.T @ (chance - y) / len(y)

    w = np.zeros(12)
    opt = ss.SGD(w, lr=point["lr"], momentum=point["momentum"])
    history = ss.fit(value_and_grad, w, opt, (x, y), epochs=8, progress=False)
    return value_and_grad(w, (x, y))[0], history


# %%
# Processes are started afresh and read this file once more, which is why the work
# stands under ``if __name__ == "__main__"``. A notebook needs no such line.

if __name__ == "__main__":
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        result = ss.sweep(train, GRID, client, progress=False)
    print("best:", result.best, f"with a loss of {result.best_value:.4f}")

# %%
# Runs come back in another order each time, and the result is the same: bit for bit
# that of this process.

if __name__ == "__main__":
    fewer = {name: values[::3] for name, values in GRID.items()}
    here = ss.sweep(train, fewer, progress=False)
    there = {tuple(run.point.values()): run.value for run in result.trials}
    same = [there[tuple(run.point.values())] == run.value for run in here.trials]
    print(f"{sum(same)} of {len(same)} runs made once more, here, have the same bits")
    assert all(same)

# %%
# The more momentum, the lower the rates that learn, and the nearer they are to those
# that break. The diagnosis of each run says on which side it is: "low" where longer
# steps would have learnt more, "high" where they overshot, "lost" where the run
# diverged.

WORDS = {"too_low": "low", "too_high": "high", "diverging": "lost"}

if __name__ == "__main__":
    rates, momenta = GRID["lr"], GRID["momentum"]
    values = [run.value for run in result.trials]
    loss = np.reshape(values, (len(rates), len(momenta))).T
    fig, ax = plt.subplots(figsize=(7.4, 3.8))
    image = ax.imshow(
        np.log10(loss), aspect="auto", origin="lower", cmap="viridis_r", vmax=0
    )
    for run in result.trials:
        at = rates.index(run.point["lr"]), momenta.index(run.point["momentum"])
        word = "best" if run.point == result.best else WORDS.get(run.verdict, "")
        paint = "white" if run.value > 0.3 else "black"
        weight = "bold" if word == "best" else "normal"
        ax.text(*at, word, ha="center", va="center", color=paint, weight=weight)
    ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    ax.set_yticks(range(len(momenta)), momenta)
    ax.set(xlabel="learning rate", ylabel="momentum", title="Sixty runs")
    ax.grid(visible=False)
    fig.colorbar(image, label="log10 of the loss")
    plt.show()

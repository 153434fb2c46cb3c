"""
Handwritten digits from scratch
===============================

A network with one hidden layer, its gradient written by hand in six lines, and no
framework. What is left to decide is the learning rate: here it is measured rather than
guessed.

The 1,797 digits of scikit-learn are images of 8 x 8 pixels. A quarter of them is held
out.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import stepsize as ss

pixels, labels = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(
    pixels / 16, labels, random_state=0, stratify=labels
)


def network():
    rng = np.random.default_rng(0)
    return {
        "w1": rng.normal(size=(64, 48)) / 8,
        "b1": np.zeros(48),
        "w2": rng.normal(size=(48, 10)) / 7,
        "b2": np.zeros(10),
    }


def forward(p, x):
    hidden = np.maximum(x @ p["w1"] + p["b1"], 0)
    scores = hidden @ p["w2"] + p["b2"]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, odds / odds.sum(axis=1, keepdims=True)


def value_and_grad(p, batch):
    x, y = batch
    hidden, chance = forward(p, x)
    loss = -np.log(chance[np.arange(len(y)), y] + 1e-12).mean()
    wrong = (chance - np.eye(10)[y]) / len(y)
    back = wrong @ p["w2"].T * (hidden > 0)
    grads = {
        "w1": x.T @ back,
        "b1": back.sum(0),
        "w2": hidden.T @ wrong,
        "b2": wrong.sum(0),
    }
    return float(loss), grads


# %%
# Is that gradient right? And which rate does this network want? Both questions are
# answered on copies.

print(ss.check_gradients(value_and_grad, network(), (x, y)))
found = ss.lr_find(value_and_grad, network(), (x, y), optimizer=ss.Adam)
print(found)

# %%
# Now the same training, with the same schedule, at that rate, at a hundredth of it and
# at a hundred times it.


def train(peak):
    params = network()
    lr = ss.schedules.warmup_cosine(peak, warmup_steps=40, total_steps=20 * 43)
    opt = ss.Adam(params, lr=lr)
    return params, ss.fit(
        value_and_grad, params, opt, (x, y), epochs=20, progress=False
    )


def accuracy(p):
    return float((forward(p, x_test)[1].argmax(axis=1) == y_test).mean())


runs = {factor: train(factor * found.peak) for factor in (0.01, 1, 100)}
best, history = runs[1]
print(ss.diagnose(history))

fig, ax = plt.subplots(figsize=(6.8, 3.8))
for factor, name in (
    (0.01, "a hundredth of it"),
    (1, "the rate found"),
    (100, "100 times it"),
):
    params, run = runs[factor]
    means = run["loss"][: 20 * 43].reshape(20, -1).mean(axis=1)
    ax.plot(
        range(1, 21), means, label=f"{name}: {accuracy(params):.1%} of new digits right"
    )
ax.set(
    xlabel="epoch",
    ylabel="loss",
    yscale="log",
    title="One network, three learning rates",
)
ax.set_xticks(range(0, 21, 5))
ax.legend()
plt.show()

# %%
# The digits that it got wrong are hard for us too.

answers = forward(best, x_test)[1].argmax(axis=1)
wrong = np.flatnonzero(answers != y_test)
print(f"{len(wrong)} of {len(y_test)} are wrong")
assert accuracy(best) > 0.96

fig, axes = plt.subplots(1, 8, figsize=(7, 1.5))
for ax, i in zip(axes, wrong, strict=False):
    ax.imshow(x_test[i].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"{answers[i]}, not {y_test[i]}", fontsize=8, fontweight="normal")
for ax in axes:
    ax.set_axis_off()
plt.show()

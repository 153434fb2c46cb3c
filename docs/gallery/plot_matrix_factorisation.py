"""
What you may also like: factorising ratings
===========================================

Four thousand people have each rated a few of a thousand films. Every film gets a few
numbers, and every person too, so that their product predicts the rating. A batch of
256 ratings touches few of these rows; a gradient for the others would be zeros, made
to be added. ``ss.RowGradient`` names the rows instead, and the step reads and moves
these alone.

The ratings are made up here, from four genres that the model is never told of.
"""

import matplotlib.pyplot as plt
import numpy as np

import stepsize as ss

PEOPLE, FILMS, SEEN, NOISE = 4000, 1000, 25, 0.5
rng = np.random.default_rng(0)
corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
genre = rng.integers(0, 4, FILMS)
films = corners[genre] + 0.3 * rng.normal(size=(FILMS, 2))
taste = rng.normal(size=(PEOPLE, 2)) / 2

who = np.repeat(np.arange(PEOPLE), SEEN)
what = rng.integers(0, FILMS, PEOPLE * SEEN)
stars = 3 + (taste[who] * films[what]).sum(axis=1) + NOISE * rng.normal(size=len(who))
held = np.arange(len(who)) % 10 == 0
train = who[~held], what[~held], stars[~held]
test = who[held], what[held], stars[held]


def start():
    rng = np.random.default_rng(1)
    return {
        "person": rng.normal(size=(PEOPLE, 2)) / 10,
        "film": rng.normal(size=(FILMS, 2)) / 10,
        "mean": np.array([3.0]),
    }


def value_and_grad(p, batch):
    who, what, stars = batch
    a, b = p["person"][who], p["film"][what]
    miss = (a * b).sum(axis=1) + p["mean"] - stars
    e = 2 * miss[:, None] / len(miss)
    # A row may come several times in a batch: what is given for it is added up.
    return float((miss**2).mean()), {
        "person": ss.RowGradient(who, e * b),
        "film": ss.RowGradient(what, e * a),
        "mean": e.sum(axis=0),
    }


# %%
# ``ss.autolr`` finds the rate, tries it in rehearsals of half the length, and
# trains with it.

params = start()
done = ss.autolr(
    value_and_grad,
    params,
    train,
    epochs=10,
    optimizer=ss.Adam,
    batch_size=256,
    validation=test,
    progress=False,
)
print(done)

# %%
# No model can predict the noise of a rating, so that its deviation is where the error
# has to end.

history = done.history
there = np.isfinite(history["val_loss"])
rmse = np.sqrt(history["val_loss"][there])
print(f"error of the mean of all ratings: {test[2].std():.3f}")
print(f"error after training: {rmse[-1]:.3f}; of that, noise: {NOISE}")

fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.6))
left.plot(history["step"][there], rmse, marker="o")
left.axhline(test[2].std(), color="#8a8f96", ls="--")
left.axhline(NOISE, color="#8a8f96", ls="--")
last = history["step"][-1]
left.text(last, test[2].std(), "mean rating", ha="right", va="top", color="#646c76")
left.text(last, NOISE, "noise", ha="right", va="bottom", color="#646c76")
left.set(xlabel="step", ylabel="error in stars", title="Ratings held out")
for k, name in enumerate(("drama", "comedy", "thriller", "cartoon")):
    points = params["film"][genre == k]
    right.plot(*points.T, ".", ms=3, alpha=0.6)
    right.text(*points.mean(axis=0), name, ha="center", va="center", fontweight="bold")
right.set(title="The films, from ratings", xticks=[], yticks=[], aspect="equal")
plt.show()
assert rmse[-1] < NOISE + 0.6 * (test[2].std() - NOISE)

"""
One more word in a scikit-learn pipeline
========================================

The networks of scikit-learn have a learning rate of 0.001 until somebody tunes it.
``stepsize`` has networks with the same parameters and, up to rounding, the same losses;
what they add is ``lr="auto"``, a range test of at most a hundred gradients inside of
``fit``. So it works wherever a scikit-learn estimator does: here behind a scaler, in a
pipeline, under cross-validation.

The table is scikit-learn's on breast cancer, 569 tumours with 30 measurements each.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stepsize.interop.sklearn import MLPClassifier

warnings.simplefilter(
    "ignore", ConvergenceWarning
)  # twenty epochs are few, and meant to be
x, y = load_breast_cancer(return_X_y=True)
folds = StratifiedKFold(5, shuffle=True, random_state=0)


def score(lr):
    """Log loss and accuracy of each held-out fold after twenty epochs, and the nets."""
    net = MLPClassifier(lr=lr, max_iter=20, random_state=0)
    model = make_pipeline(StandardScaler(), net)
    result = cross_validate(
        model,
        x,
        y,
        cv=folds,
        scoring=("neg_log_loss", "accuracy"),
        return_estimator=True,
    )
    fitted = [pipeline[-1] for pipeline in result["estimator"]]
    return -result["test_neg_log_loss"], result["test_accuracy"], fitted


# %%
# A grid of rates, each with five fits, and one line for ``"auto"``.

grid = np.geomspace(1e-5, 1, 11)
losses = np.array([score(lr)[0].mean() for lr in grid])
auto_loss, auto_accuracy, fitted = score("auto")
default_loss, default_accuracy, _ = score(0.001)
rates = [net.lr_find_.suggestion for net in fitted]
print("rates found in the folds:", " ".join(f"{rate:.1e}" for rate in rates))
print(
    f"default 0.001: loss {default_loss.mean():.3f}, accuracy {default_accuracy.mean():.1%}"
)
print(
    f"lr='auto':     loss {auto_loss.mean():.3f}, accuracy {auto_accuracy.mean():.1%}"
)
print(f"best of grid:  loss {losses.min():.3f}, at {grid[losses.argmin()]:.1e}")

# %%
# Each star is the rate that one fold found without seeing its held-out part.

fig, ax = plt.subplots(figsize=(6.8, 3.8))
ax.plot(grid, losses, marker="o", label="a rate of the grid, mean of five folds")
ax.plot(rates, auto_loss, "*", ms=11, color="#d55e00", label='lr="auto", each fold')
ax.axvline(0.001, color="#8a8f96", ls="--")
ax.text(0.00105, losses.max(), "default", color="#646c76", va="top")
ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="log loss, held out")
ax.set_title("Found inside of fit")
ax.legend()
plt.show()
assert auto_loss.mean() < default_loss.mean()

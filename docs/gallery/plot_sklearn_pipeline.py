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
loss, right = default_loss.mean(), default_accuracy.mean()
print(f"default 0.001: loss {loss:.3f}, accuracy {right:.1%}")
loss, right = auto_loss.mean(), auto_accuracy.mean()
print(f"lr='auto':     loss {loss:.3f}, accuracy {right:.1%}")
print(f"best of grid:  loss {losses.min():.3f}, at {grid[losses.argmin()]:.1e}")

# %%
# The star is ``"auto"``, and the ticks are the rates that the five folds found, each
# without seeing its held-out part.

fig, ax = plt.subplots(figsize=(6.8, 3.8))
ax.plot(grid, losses, marker="o", label="one rate for all folds")
ax.plot(np.median(rates), auto_loss.mean(), "*", ms=15, label='lr="auto"')
ax.plot(rates, np.full(5, losses.min() * 0.8), "|", color="#d55e00", ms=12)
ax.axvline(0.001, color="#8a8f96", ls="--")
ax.text(0.00105, losses.max(), "default", color="#646c76", va="top")
ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="log loss, held out")
ax.set_title("Mean of five folds, twenty epochs")
ax.legend()
plt.show()
assert auto_loss.mean() < default_loss.mean()

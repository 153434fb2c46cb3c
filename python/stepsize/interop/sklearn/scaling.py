"""Weights of rows, columns of unlike scales, and whether these kept a fit from converging."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.metrics import d2_tweedie_score
from sklearn.utils.sparsefuncs import mean_variance_axis

from stepsize.arrays import Array

__all__ = ["relative", "scaling_hint", "warn_of_scales"]

ROWS = 2_000  # on which a fit is compared with that of a linear model on scaled columns
WEIGHTS = 2_000  # columns times outputs; more are not compared: that would take long
WORSE = 0.02  # of the score, that a linear model is better by
UNLIKE = 10.0  # a deviation further from 1 by this factor, or a mean of so many deviations


def _scales(x: Any) -> tuple[Array, Array]:
    """Mean and deviation of the columns."""
    if hasattr(x, "toarray"):
        mean, variance = mean_variance_axis(x.astype(np.float64), axis=0)
        return mean, np.sqrt(variance)
    with np.errstate(over="ignore", invalid="ignore"):
        return x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)


def _unlike(x: Any) -> str:
    """What is unlike in the scales of the columns, in words; nothing where they are alike."""
    mean, deviation = _scales(x)
    used = np.isfinite(deviation) & (deviation > 1e-12 * np.abs(mean))
    if not used.any():
        return ""
    mean, deviation = np.abs(mean[used]), deviation[used]
    if deviation.max() > UNLIKE or deviation.min() < 1 / UNLIKE:
        if len(deviation) == 1:
            return f"the column has deviation {deviation[0]:.2g}"
        return f"the columns have deviations from {deviation.min():.2g} to {deviation.max():.2g}"
    far = int(np.argmax(mean / deviation))
    if mean[far] > UNLIKE * deviation[far]:
        return f"a column of deviation {deviation[far]:.2g} lies around {mean[far]:.2g}"
    return ""


def relative(weight: Array, estimator: Any) -> tuple[Array, float]:
    """The weights of rows over their mean, and the mean; no sum of large weights overflows.

    Raises:
        ValueError: a weight is negative or not finite, all are 0, or the penalty over their mean
            is no number.
    """
    name = type(estimator).__name__
    wrong = ~((weight >= 0) & np.isfinite(weight))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{name}: sample_weight must be finite and >= 0, and the same goes for its product "
            f"with class_weight, got {weight[row]} in row {row}; leave out the rows that are not "
            "to count, or give 0"
        )
    exponent = math.frexp(float(weight.max(initial=0.0)))[1]
    small = np.ldexp(np.asarray(weight, np.float64), -exponent)
    if not small.sum() > 0:
        raise ValueError(f"{name}: sample_weight must have a sum above 0, got {weight.sum()}")
    mean = float(small.mean())
    mass = math.ldexp(mean, exponent)
    if not (mass > 0 and math.isfinite(float(estimator.alpha) / mass)):
        raise ValueError(
            f"{name}: sample_weight has the mean {mass:g}, too small to divide alpha="
            f"{estimator.alpha:g} by it; multiply the weights by a number"
        )
    return small / mean, mass


def scaling_hint(x: Any) -> str:
    """What to do about columns of unlike scales, to end a warning with; else nothing."""
    unlike = _unlike(x)
    return f"; {unlike}: scale them with StandardScaler" if unlike else ""


def warn_of_scales(owner: Any, loss: str, outputs: Any, data: tuple[Any, ...]) -> None:
    """Warn of a fit that a linear model on scaled columns is better than.

    It looks only where the scales of the columns are unlike, at `ROWS` rows, evenly spaced, of at
    most `WEIGHTS` weights, and at no fewer rows than five for each column.

    Args:
        loss: of the network.
        outputs: a function from rows to the outputs of the network.
        data: rows, targets and, where there are any, weights.
    """
    unlike = _unlike(data[0])
    count = data[0].shape[1]
    if not unlike or count * owner.n_outputs_ > WEIGHTS:
        return
    step = max(1, data[0].shape[0] // max(ROWS, 5 * count))
    x, y, *weights = (part[::step] for part in data)
    if x.shape[0] < 5 * count:
        return
    weight = weights[0] if weights else None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found, best, what = _compared(loss, np.asarray(outputs(x)), _scaled(x), y, weight)
    if found < best - WORSE:
        name = type(owner).__name__
        warnings.warn(
            f"{name}: not converged: {what} is {found:.3f}, where a linear model on scaled "
            f"columns reaches {best:.3f}; {unlike}: fit make_pipeline(StandardScaler(), "
            f"{name}(...)) instead",
            ConvergenceWarning,
            stacklevel=7,
        )


def _scaled(x: Any) -> Array:
    x = np.asarray(x.toarray() if hasattr(x, "toarray") else x, np.float64)
    mean, deviation = _scales(x)
    used = deviation > 1e-12 * np.abs(mean)
    return np.asarray((x - mean) / np.where(used, deviation, np.inf))


def _compared(
    loss: str, outputs: Array, x: Array, y: Array, weight: Array | None
) -> tuple[float, float, str]:
    """The worst score of the network's outputs, and that of the linear model there."""
    if loss == "squared_error":
        return *_least_squares(outputs, x, y, weight), "R squared"
    pairs: list[tuple[float, float]] = []
    if loss == "poisson":
        for k in range(y.shape[1]):
            model = PoissonRegressor(alpha=1e-6).fit(x, y[:, k], weight)
            means = (np.maximum(outputs[:, k], 1e-300), model.predict(x))
            scores = [d2_tweedie_score(y[:, k], m, sample_weight=weight, power=1) for m in means]
            pairs.append((float(scores[0]), float(scores[1])))
        found, best = max(pairs, key=lambda pair: pair[1] - pair[0])
        return found, best, "the explained share of the deviance"
    labels = [y] if loss == "cross_entropy" else list((y > 0.5).astype(int).T)
    for k, label in enumerate(labels):
        if len(np.unique(label)) < 2:
            continue
        model = LogisticRegression(C=1e4, max_iter=200).fit(x, label, weight)
        answers = outputs.argmax(axis=1) if loss == "cross_entropy" else outputs[:, k] > 0.5
        found, best = (
            float(np.average(a == label, weights=weight)) for a in (answers, model.predict(x))
        )
        # The linear model has fitted these very rows, its noise too.
        pairs.append((found, best - x.shape[1] / len(x) * (1 - best)))
    found, best = max(pairs, key=lambda pair: pair[1] - pair[0], default=(0.0, 0.0))
    return found, best, "accuracy"


def _least_squares(outputs: Array, x: Array, y: Array, weight: Array | None) -> tuple[float, float]:
    """R squared of the outputs, and that of least squares, for the degrees of freedom it took."""
    root = np.ones((len(x), 1)) if weight is None else np.sqrt(np.asarray(weight, float))[:, None]
    y = np.asarray(y, np.float64)
    mean = np.average(y, axis=0, weights=root[:, 0] ** 2)
    inputs = np.hstack([x, np.ones((len(x), 1))])
    coef = np.linalg.lstsq(root * inputs, root * (y - mean), rcond=None)[0]
    total = ((root * (y - mean)) ** 2).sum(axis=0)
    lost = [((root * (y - p)) ** 2).sum(axis=0) for p in (outputs, mean + inputs @ coef)]
    used = total > 0
    if not used.any():
        return 0.0, 0.0
    freedom = (len(x) - 1) / (len(x) - 1 - x.shape[1])
    found, best = 1 - lost[0][used] / total[used], 1 - freedom * lost[1][used] / total[used]
    worst = int(np.argmax(best - found))
    return float(found[worst]), float(best[worst])

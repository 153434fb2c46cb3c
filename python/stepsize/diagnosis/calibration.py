"""How sure a verdict is: the probabilities of all eight, from the features and the verdict.

A multinomial logistic regression (L2, C = 0.1) on 4,773 runs of 61 tasks of bench/advice, labelled
by the counterfactual definitions of the verdicts, each also without the validation loss and without
what `fit` says of the steps. On tasks held out, in eight folds, of what was said with more than
0.97, 99% was right; with 0.9 to 0.97, 96%; 0.8 to 0.9, 85%; 0.6 to 0.8, 69%; less, 50%. Given the
loss and the rate alone, of 0.8 to 0.9 only 81%, of 0.6 to 0.8 only 64%. Runs between two labels
were left out, and where fewer runs are at wrong rates than there, the frequencies are others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stepsize.curves import TINY
from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.features import CurveFeatures
from stepsize.diagnosis.verdicts import VERDICTS

CLEAR_Z = 1  # a late decrease of fewer standard errors counts as none
BIAS = (3.15, 5.33, 3.56, 2.34, -1.59, -7.40, 2.67, -8.07)
# A row for each feature, a column for each verdict in the order of their table.
WEIGHTS = {
    "path_known": (-0.77, -0.16, 0.19, 0.05, 0.03, 0.44, 0.30, -0.09),
    "log_path": (0.57, 0.17, -0.01, -1.62, 0.52, 0.11, -0.27, 0.53),
    "log_late_decrease": (0.33, 0.14, 0.14, 0.41, -0.33, -0.13, 0.06, -0.61),
    "late_decrease_z": (-0.06, -1.30, 0.72, 1.83, -0.99, 0.07, -0.32, 0.03),
    "log_extrapolated": (0.42, 0.23, 0.49, 1.36, -0.35, -1.05, 0.16, -1.25),
    "log_jitter": (0.45, 0.25, 0.06, -0.38, 0.22, -0.54, 0.35, -0.42),
    "log_swing": (-0.61, -0.49, 0.07, 2.53, -0.28, -0.59, -0.28, -0.34),
    "remaining": (1.07, -0.09, -0.94, 0.66, -0.18, 0.42, 0.17, -1.11),
    "log_remaining": (-0.57, 1.79, -0.02, -0.23, -0.33, -1.12, -0.75, 1.24),
    "log_rebound": (-0.04, 0.47, 0.13, 0.49, 0.19, -0.35, 0.34, -1.24),
    "log_peak": (0.57, 0.71, -0.12, -0.91, -0.01, 0.01, -0.30, 0.05),
    "rise": (2.42, -0.93, -0.68, 0.08, -0.99, 0.06, 0.58, -0.54),
    "validated": (-0.74, -0.10, 0.20, -0.12, 0.01, 0.68, -0.65, 0.72),
    "validation_rise": (0.95, 0.49, -0.78, -0.58, -0.37, 0.06, 0.33, -0.10),
    "gradient_ratio": (0.37, -0.07, -0.29, -0.04, 0.11, 0.11, 0.02, -0.21),
    "broke": (2.84, -0.49, -0.43, -0.30, -0.22, -0.76, -0.40, -0.25),
    "verdict_diverging": (2.20, 0.53, -0.45, -0.04, -0.39, -0.83, -0.77, -0.27),
    "verdict_too_high": (0.35, 1.25, -0.15, -0.10, -0.19, -0.35, -0.17, -0.65),
    "verdict_healthy": (-0.72, -0.25, 1.81, -0.55, 0.70, -0.40, -0.26, -0.34),
    "verdict_too_low": (-0.34, -0.40, -0.25, 1.51, -0.17, 0.04, -0.28, -0.12),
    "verdict_plateau": (-0.18, 0.17, 0.30, 0.06, -0.14, -0.09, 0.02, -0.14),
    "verdict_converged": (-0.91, -1.01, 0.53, -0.36, 0.44, 1.38, -0.52, 0.45),
    "verdict_overfitting": (-0.30, -0.03, -1.24, -0.27, -0.24, -0.33, 2.59, -0.19),
    "verdict_underfitting": (-0.16, -0.11, -0.53, -0.36, -0.01, 0.54, -0.60, 1.23),
}

# With an experiment: the power of the shares that the curves give, and what the verdict of curves
# and branches adds to the logarithm of each. Fitted on 296 runs that an experiment was asked for,
# of 61 tasks of bench/advice; on 193 other runs of most of these, under the rule as it is now,
# of what was said with over 0.8 92% was right, of 0.6 to 0.8 73%, of less 43%.
CURVES_COUNT = 0.85
TOLD = {
    "too_high": (-0.35, 1.97, -0.92, -0.29, -0.71, -0.25, 1.08, -0.53),
    "healthy": (-0.33, -0.24, 0.82, -0.96, 0.00, 1.46, -0.33, -0.42),
    "too_low": (-0.12, 0.16, -0.13, 0.81, -0.08, -0.11, -0.27, -0.25),
    "plateau": (-0.34, -0.92, 0.23, -0.57, 1.23, 0.11, 0.33, -0.09),
    "converged": (-0.22, -0.31, 0.37, -0.26, -0.44, 1.22, -0.30, -0.06),
    "underfitting": (-0.31, -1.44, -0.74, -0.36, -0.33, 1.76, 0.26, 1.15),
}


def _log(value: float, low: float, high: float) -> float:
    """The decimal logarithm between two limits; 0 where the value is not known."""
    return math.log10(min(max(value, low), high)) if value == value else 0.0


def _clipped(value: float, low: float, high: float, unknown: float = 0.0) -> float:
    return min(max(value, low), high) if value == value else unknown


def row(f: CurveFeatures) -> list[float]:
    """The features of the regression, in the order of `WEIGHTS`, without the verdict."""
    levels, trend, path, v = f.levels, f.trend, f.movement.relative_path, f.validation
    late = trend.late_decrease if trend.late_decrease_z > CLEAR_Z else 0.0
    return [
        float(not math.isnan(path)),
        _log(path, 1e-3, 1e3),
        _log(late, 1e-3, 1),
        _clipped(trend.late_decrease_z, -3, 10) / 10,
        _log(trend.extrapolated_decrease, 1e-3, 1),
        _log(f.noise.jitter, 1e-4, 1),
        _log(f.noise.swing, 1e-3, 10),
        _clipped(levels.remaining, 0, 2),
        _log(levels.remaining, 1e-3, 1),
        _log(trend.rebound, 1e-3, 1),
        _log(levels.peak, 1e-2, 1e3),
        _clipped(levels.rise, -1, 1),
        float(v is not None),
        0.0 if v is None else _clipped(v.rise, 0, 1),
        _clipped(f.movement.gradient_ratio, 0, 3, unknown=1.0),
        float(f.broke_at is not None),
    ]


def probabilities(f: CurveFeatures, verdict: str) -> dict[str, float]:
    """A probability for each verdict; they sum to 1.

    With fewer losses than are enough for a verdict, that share of nothing known is mixed in.
    """
    given = np.array([*row(f), *(float(name == verdict) for name in VERDICTS)])
    scores = given @ np.array(list(WEIGHTS.values())) + np.array(BIAS)
    shares = np.exp(scores - scores.max())
    known = min(f.steps / th.FEWEST_STEPS, 1.0) if verdict != "diverging" else 1.0
    shares = known * shares / shares.sum() + (1 - known) / len(VERDICTS)
    return dict(zip(VERDICTS, (shares / shares.sum()).tolist(), strict=True))


def without(shares: dict[str, float], refuted: Sequence[str]) -> dict[str, float]:
    """The probabilities where some verdicts are out of the question."""
    left = {name: 0.0 if name in refuted else share for name, share in shares.items()}
    total = sum(left.values())
    return {name: share / total for name, share in left.items()} if total > 0 else shares


def at_least(shares: dict[str, float], verdict: str, least: float) -> dict[str, float]:
    """The probabilities where a verdict has at least so much, and the others share the rest."""
    share = shares[verdict]
    if share >= least:
        return shares
    rest = (1 - least) / (1 - share)
    return {name: least if name == verdict else rest * p for name, p in shares.items()}


def after_experiment(shares: dict[str, float], verdict: str) -> dict[str, float]:
    """The probabilities of the curves, and what the verdict with branches adds to them."""
    row = TOLD.get(verdict)
    if row is None:
        return shares
    log = CURVES_COUNT * np.log(np.maximum(list(shares.values()), TINY)) + np.array(row)
    scores = np.exp(log - log.max())
    return dict(zip(VERDICTS, (scores / scores.sum()).tolist(), strict=True))

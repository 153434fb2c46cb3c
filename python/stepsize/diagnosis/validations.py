"""What validations show: the loss, a metric, one or two looks, the lag of averaged weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from stepsize.arrays import Curve
from stepsize.curves import TINY, linear_trend, mad_noise
from stepsize.diagnosis.features import EarlyStop, FewValidations, ValidationFeatures
from stepsize.diagnosis.reading import is_metric

FEWEST_VALIDATIONS = 5
MOST = 1e100  # losses are clipped here: their squares must stay finite
ROUNDING = 1e-12  # of a level: a smaller decrease is rounding
NO_UNIT = 0.3  # least unit of the validation's jitter, in training decreases: one that never fell
ALIKE = 3  # factor between the first validation and the training loss then, to be compared
LAG = 0.5  # training decreases: an average of weights that fell by less has not caught up
AVERAGES = ("EMA", "SWA")  # wrappers whose average is what `fit` validates


def _training_at(blocks: Curve, place: float) -> float:
    """The level of the training loss at a place in the run."""
    return float(blocks[min(int(place * len(blocks)), len(blocks) - 1)])


def features(name: str, val: Curve, blocks: Curve, decrease: float) -> ValidationFeatures | None:
    """Of a series with at least five values; the training loss is known by its levels."""
    rows, when = len(val), np.flatnonzero(np.isfinite(val))
    v = np.clip(val[when], -MOST, MOST)
    if len(v) < FEWEST_VALIDATIONS:
        return None
    # Means of neighbours, so that one lucky moment does not count as the best.
    level = (v[1:] + v[:-1]) / 2
    best = int(np.argmin(level))
    own = max(float(v[0] - level[best]), ROUNDING * abs(float(v[0])), TINY)
    late = v[len(v) // 2 :]
    noise = mad_noise(late, order=2)
    # A line through fewer has no error to speak of.
    trend = linear_trend(late) if len(late) >= FEWEST_VALIDATIONS else (math.nan,) * 3
    first = _training_at(blocks, when[0] / rows)
    # Losses that are no means of the same thing, as sums and means of rows, have no common unit.
    alike = not (v[0] > 0 and first > 0) or 1 / ALIKE < v[0] / first < ALIKE
    unit = decrease if alike else own
    then = _training_at(blocks, (when[best] + when[best + 1]) / 2 / rows)
    rise = float(level[-1] - level[best])
    return ValidationFeatures(
        name=name,
        first=float(v[0]),
        lowest=float(v[best : best + 2].min()),
        last=float(max(v[-1], level[-1])),
        best=float(level[best]),
        end=float(level[-1]),
        best_at=float(when[best + int(v[best + 1] < v[best])]) / rows,
        decrease=own / decrease,
        rise=rise / unit,
        own_rise=rise / own,
        rise_z=rise / (noise + TINY),
        late_decrease=trend[0] / own,
        late_decrease_z=trend[1],
        jitter=trend[2] / max(own, NO_UNIT * decrease),
        training_first=first,
        training_then=then,
        training_decrease=(then - float(blocks[-1])) / decrease,
        above_start=bool(level[-1] > v[0]),
    )


def metric(
    given: dict[str, Curve], blocks: Curve, decrease: float, stopped_on: str | None = None
) -> ValidationFeatures | None:
    """The features of the negative of the first metric that is better when higher.

    The one that ended the run comes first.
    """
    names = sorted((name for name in given if is_metric(name)), key=lambda name: name != stopped_on)
    found = (features(name, -given[name], blocks, decrease) for name in names)
    return next((one for one in found if one is not None), None)


def few(val: Curve, blocks: Curve) -> FewValidations | None:
    """Two to four validation losses, where there are no more."""
    when = np.flatnonzero(np.isfinite(val))
    if not 1 < len(when) < FEWEST_VALIDATIONS:
        return None
    at = float(when[0]) / len(val)
    return FewValidations(tuple(val[when].tolist()), at, _training_at(blocks, at))


def lagging_average(history: Any, validation: ValidationFeatures | None) -> str:
    """The wrapper whose average was validated while it lags far behind the weights, or ""."""
    meta = getattr(history, "meta", None)
    rule = meta.get("rule") if isinstance(meta, dict) else None
    if validation is None or rule not in AVERAGES:
        return ""
    return str(rule) if validation.decrease < LAG and validation.rise < LAG / 5 else ""


def early_stopping(history: Any) -> EarlyStop | None:
    """What early stopping on a validation metric said when it ended the run."""
    said = str(getattr(history, "stopped", None) or "")
    told = re.fullmatch(r"(val_\S+) has not improved on (\S+) since step (\d+)", said)
    return None if told is None else EarlyStop(told[1], float(told[2]), int(told[3]))


def all_skipped(history: Any, rows: int) -> bool:
    """Whether no step of the run was made, since no gradient was finite and all were skipped."""
    meta = getattr(history, "meta", None)
    skipped = meta.get("skipped", 0) if isinstance(meta, Mapping) else 0
    return isinstance(skipped, int) and skipped >= rows > 0

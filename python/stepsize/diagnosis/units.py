"""Losses of extreme scales: measured in a unit of their own, and told in that of the user."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

import numpy as np

from stepsize.arrays import Curve
from stepsize.diagnosis.features import CurveFeatures, ValidationFeatures

USUAL = 1e-90, 1e90  # typical losses whose squares and errors are numbers
HIGH, HIGHEST = 0.9, 1e90  # a share of the losses so far above the typical one is no spike
LAST = 3  # losses whose level is told, too
LEVELS = ("start", "end", "best", "highest", "decrease")
VALIDATION = ("first", "lowest", "last", "best", "end")
TRAINING = ("training_first", "training_then")

Part = TypeVar("Part")


def unit_of(loss: Curve) -> float:
    """The unit to measure losses in: 1, or a power of 2 near those of an extreme scale."""
    seen = np.abs(loss[np.isfinite(loss) & (loss != 0)])
    if not len(seen):
        return 1.0
    typical, high = _lower(seen, 0.5), max(_lower(seen, HIGH), _lower(seen[-LAST:], 0.5))
    unit = _near(typical)
    return _near(high) if high > HIGHEST * unit else unit


def _near(size: float) -> float:
    """1, or a power of 2 near a size that is not usual."""
    if USUAL[0] < size < USUAL[1]:
        return 1.0
    return math.ldexp(1.0, min(max(math.frexp(size)[1], -1020), 1020))


def _lower(sizes: Curve, share: float) -> float:
    """A quantile that is one of the numbers: between two of the largest there may be no mean."""
    return float(np.quantile(sizes, share, method="lower"))


def in_unit(f: CurveFeatures, unit: float) -> CurveFeatures:
    """Features measured in a unit, with every level as the user has it."""
    few = f.few
    if few is not None:
        values = tuple(value * unit for value in few.values)
        few = replace(few, values=values, training_then=few.training_then * unit)
    return replace(
        f,
        levels=_times(f.levels, LEVELS, unit),
        validation=_validation(f.validation, unit),
        averaged_validation=_validation(f.averaged_validation, unit),
        metric=None if f.metric is None else _times(f.metric, TRAINING, unit),
        few=few,
    )


def _validation(found: ValidationFeatures | None, unit: float) -> ValidationFeatures | None:
    return None if found is None else _times(found, (*VALIDATION, *TRAINING), unit)


def _times(part: Part, names: tuple[str, ...], unit: float) -> Part:
    changed = {name: getattr(part, name) * unit for name in names}
    return replace(part, **changed)  # type: ignore[type-var]

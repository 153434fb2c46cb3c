"""What the curves of a run show (learning-curve features), each with its error.

Losses are taken relative to their whole decrease, so neither scale nor sign matters. Where a number
could be chance, its z-score, the distance from nothing in standard errors, is given too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TYPICAL_LEVEL = 0.2  # end as a share of the start, where that is not known
NEARLY_START = 0.95  # a larger share says that the loss may have no floor at 0


@dataclass(frozen=True)
class Levels:
    """Where the loss was, in its own unit; places in the run go from 0 to 1.

    `decrease` is from the start to the best level, at least what noise alone would make, and the
    unit of all shares. `decrease_z` belongs to the fall from start to end. `peak` is how far the
    highest level lay above the start, in decreases; `rise` how far the end does, as a share of how
    far any single loss went below the start; `late_above_start`, whether nine in ten of the losses
    of the last quarter do. `runs_away` is whether the losses rise one after the other, or end far
    above the first half: what a few of them can show of divergence.
    """

    start: float
    end: float
    best: float
    best_at: float
    highest: float
    highest_at: float
    decrease: float
    decrease_z: float
    peak: float
    rise: float
    late_above_start: bool
    runs_away: bool

    @property
    def fell(self) -> bool:
        """Whether the best level lies below the start, by more than noise alone would make."""
        return self.best < self.start and self.start - self.best >= self.decrease

    @property
    def end_share(self) -> float:
        """The end as a share of the start, NaN where the loss may not have its floor at 0."""
        share = self.end / self.start if self.start > 0 else 0.0
        # Nearly the start: as likely a loss with a constant in it, of which nothing follows.
        return share if 0 <= share <= NEARLY_START else math.nan

    @property
    def remaining(self) -> float:
        """The same, a middling number where it is not known."""
        return TYPICAL_LEVEL if math.isnan(self.end_share) else self.end_share


@dataclass(frozen=True)
class Trend:
    """Where the loss was going, in decreases.

    `late_decrease` over the last half; `extrapolated_decrease` in as many steps again, by the shape
    of the decay; `rebound` from the best level to the end. `flat`: a loss that never moved beyond
    its noise, asked only where the path of the weights is not known. `forecast` is what as many
    steps again may gain by the last decreases alone, never more than `extrapolated_decrease`;
    `slope` the decrease of the training loss in one step of the last half, with its error;
    `slowing` the decrease of the last quarter over that of the second.
    """

    late_decrease: float
    late_decrease_z: float
    extrapolated_decrease: float
    rebound: float
    rebound_z: float
    flat: bool
    forecast: float = 0.0
    slope: float = 0.0
    slope_error: float = 0.0
    slowing: float = math.nan


@dataclass(frozen=True)
class Noise:
    """What moves the loss besides its trend, in decreases.

    `swing` is from the tenth to the ninetieth percentile of the last quarter, `jitter` the residual
    around the trend without what batches explain, `gradient_jitter` that of the log of its norm.
    """

    swing: float
    jitter: float
    gradient_jitter: float


@dataclass(frozen=True)
class Movement:
    """How the weights moved; NaN where the history does not say.

    `relative_path` is the length of the way of the weights and `first_update_ratio` that of the
    first steps, both in norms of the weights (NaN where weights began at zero and the unit says
    nothing), of those alone that have a gradient. `gradient_ratio` is the gradient norm at the end
    over that at the start, `gradient_vanished` whether it fell to nothing, `no_gradient` whether it
    was 0 from the start. `sign_flip_rate` is the share of gradient signs that change from step to
    step, `lr_times_sharpness` above 2 is beyond the edge of stability, both late in the run.
    `lr` is the highest rate, `idle` the share of the run at a rate of 0 (or a millionth of the
    highest), `idle_from` where the last such part began. `moving` is the norm of the weights that
    have a gradient, as a share of that of all. `reach` is what all steps together can have changed
    the loss by at first order, the sum of gradient norm times update norm, and `late_reach` that of
    one step of the last quarter; both in decreases. `last_rate` is the last rate as a share of the
    highest.
    """

    relative_path: float
    first_update_ratio: float
    gradient_ratio: float
    gradient_vanished: bool
    sign_flip_rate: float
    lr_times_sharpness: float
    lr: float
    idle: float
    idle_from: float
    no_gradient: bool = False
    moving: float = 1.0
    reach: float = math.nan
    late_reach: float = math.nan
    last_rate: float = 1.0


@dataclass(frozen=True)
class ValidationFeatures:
    """The validation loss. It is over all of its data, so what it jitters by is the weights'.

    `rise` above the `best` level at `best_at` and `decrease` down to it are in units of the
    training loss's decrease (`rise` in its own where the two cannot be compared); `own_rise`,
    `late_decrease` over the last half and `jitter` around that trend in those of its own.
    `training_first` and `training_then` are the levels of the training loss at the first value and
    at `best_at`, `training_decrease` is the share of its decrease that came after that. Levels are
    means of two neighbours; `lowest` and `last` are the values themselves, to be told. Of a metric
    that is better when higher all this is told of its negative.
    """

    name: str
    first: float
    lowest: float
    last: float
    best: float
    end: float
    best_at: float
    decrease: float
    rise: float
    own_rise: float
    rise_z: float
    late_decrease: float
    late_decrease_z: float
    jitter: float
    training_first: float
    training_then: float
    training_decrease: float
    above_start: bool


@dataclass(frozen=True)
class FewValidations:
    """Validation losses that are too few for features: the values, and where the first was."""

    values: tuple[float, ...]
    first_at: float
    training_then: float


@dataclass(frozen=True)
class EarlyStop:
    """The validation metric that early stopping watched, its best value, and the step of that."""

    metric: str
    best: float
    step: int


@dataclass(frozen=True)
class CurveFeatures:
    """What every check looks at: `steps` losses in `rows` rows of the history.

    `broke_at` is the row where loss or gradient stopped being finite, or None, and `broke_step` its
    step. `metric` is a validation metric, where one was recorded; `averaged` the name of the rule
    whose averaged weights were validated, where they lag so far behind that the validation loss
    was left aside. `stop` is what early stopping said where it ended the run.
    """

    rows: int
    steps: int
    broke_at: int | None
    broke_step: int | None
    levels: Levels
    trend: Trend
    noise: Noise
    movement: Movement
    validation: ValidationFeatures | None
    metric: ValidationFeatures | None = None
    few: FewValidations | None = None
    averaged: str = ""
    averaged_validation: ValidationFeatures | None = None
    stop: EarlyStop | None = None

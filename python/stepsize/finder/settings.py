"""The settings of `lr_find`: their defaults, what is allowed, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from stepsize.validation import choice, number, whole

LR_MIN, LR_MAX = 1e-7, 10.0  # ends that are searched beyond; others bind
FEWEST_STEPS = 20
MOST_STEPS = 10_000_000  # the rates of a test are kept in memory


class Options(TypedDict, total=False):
    """The keywords of `Settings`, for type checkers; a test holds the two alike."""

    lr_min: float
    lr_max: float
    steps: int
    spacing: str
    smoothing: float
    stop_ratio: float
    repeats: int
    refine: bool | int
    batch_size: int | None
    for_steps: int | None


@dataclass(frozen=True)
class Settings:
    """What a caller may set. `steps` is the budget of gradients per repeat."""

    lr_min: float = LR_MIN
    lr_max: float = LR_MAX
    steps: int = 100
    spacing: str = "exponential"
    smoothing: float = 0.98
    stop_ratio: float = 4.0
    repeats: int = 1
    refine: bool | int = False
    batch_size: int | None = None
    for_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("lr_min", "lr_max", "smoothing", "stop_ratio"):
            found = number(f"lr_find: {name}", getattr(self, name), -math.inf, high_open=False)
            object.__setattr__(self, name, found)
        if not 0 < self.lr_min < self.lr_max < math.inf:
            raise ValueError(
                "lr_find: need 0 < lr_min < lr_max, both finite, got "
                f"lr_min={self.lr_min} and lr_max={self.lr_max}"
            )
        for name, least in (("steps", FEWEST_STEPS), ("repeats", 1)):
            value = getattr(self, name)
            if isinstance(value, int) and value < least:
                raise ValueError(f"lr_find: {name} must be at least {least}, got {value}")
            whole(f"lr_find: {name}", value, least, MOST_STEPS)
        choice("lr_find: spacing", self.spacing, ("exponential", "linear"))
        number("lr_find: smoothing", self.smoothing, 0, 1)
        if not self.stop_ratio > 0:
            raise ValueError(f"lr_find: stop_ratio must be positive, got {self.stop_ratio}")
        if not isinstance(self.refine, bool | np.bool_):
            whole("lr_find: refine", self.refine, 0)
        if self.for_steps is not None:
            whole("lr_find: for_steps", self.for_steps)
        if self.horizon and self.horizon < self.steps:
            raise ValueError(
                f"lr_find: refine must be at least steps={self.steps}, got {self.refine}"
            )

    @property
    def bounds(self) -> tuple[float, float]:
        """The rates that may be tried: between the ends that were given, if they are no default."""
        low = 0.0 if self.lr_min == LR_MIN else float(self.lr_min)
        return low, math.inf if self.lr_max == LR_MAX else float(self.lr_max)

    def bounded(self, rate: float) -> float:
        """The rate, or the end nearest to it."""
        low, high = self.bounds
        return min(max(rate, low), high)

    @property
    def range_steps(self) -> int:
        """Steps of one range test: a fifth of the budget."""
        return max(12, self.steps // 5)

    @property
    def race_steps(self) -> int:
        """Steps that each rate of a race gets before the two best go on."""
        return max(3, round(0.12 * self.steps))

    @property
    def horizon(self) -> int:
        """Steps of the training to refine the rate for; 0 for no refinement."""
        return 2 * self.steps if self.refine is True else int(self.refine)

    @property
    def ema_decay(self) -> float:
        """The decay per step of a range test; `smoothing` is said of a hundredth of it."""
        decay: float = self.smoothing ** (100 / self.range_steps)
        return decay

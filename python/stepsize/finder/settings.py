"""The settings of `lr_find`: their defaults, what is allowed, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict


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


@dataclass(frozen=True)
class Settings:
    """What a caller may set. `steps` is the budget of gradients per repeat."""

    lr_min: float = 1e-7
    lr_max: float = 10.0
    steps: int = 100
    spacing: str = "exponential"
    smoothing: float = 0.98
    stop_ratio: float = 4.0
    repeats: int = 1
    refine: bool | int = False

    def __post_init__(self) -> None:
        if not 0 < self.lr_min < self.lr_max < math.inf:
            raise ValueError(
                "lr_find: need 0 < lr_min < lr_max, both finite, got "
                f"lr_min={self.lr_min} and lr_max={self.lr_max}"
            )
        if self.steps < 20:
            raise ValueError(f"lr_find: steps must be at least 20, got {self.steps}")
        if self.spacing not in ("exponential", "linear"):
            raise ValueError(
                f"lr_find: spacing must be 'exponential' or 'linear', got {self.spacing!r}"
            )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"lr_find: smoothing must be in [0, 1), got {self.smoothing}")
        if not self.stop_ratio > 0:
            raise ValueError(f"lr_find: stop_ratio must be positive, got {self.stop_ratio}")
        if self.horizon and self.horizon < self.steps:
            raise ValueError(
                f"lr_find: refine must be at least steps={self.steps}, got {self.refine}"
            )
        if self.repeats < 1:
            raise ValueError(f"lr_find: repeats must be at least 1, got {self.repeats}")

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

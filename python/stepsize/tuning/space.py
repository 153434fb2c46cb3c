"""What `tune` searches over: ranges and choices, a name each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Point = dict[str, Any]


@dataclass(frozen=True)
class Uniform:
    """A number between `low` and `high`, uniformly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"Uniform: need low < high, both finite, got {self.low}, {self.high}")

    def grid(self, count: int) -> list[float]:
        """`count` values from end to end."""
        return [float(v) for v in np.linspace(self.low, self.high, count)]


@dataclass(frozen=True)
class LogUniform:
    """A positive number between `low` and `high`, uniform in the logarithm: rates, decays."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(
                f"LogUniform: need 0 < low < high, both finite, got {self.low}, {self.high}"
            )

    def grid(self, count: int) -> list[float]:
        """`count` values from end to end, at equal factors."""
        return [float(v) for v in np.geomspace(self.low, self.high, count)]


@dataclass(frozen=True, init=False)
class Choice:
    """One of some values: `Choice("sgd", "adam")`."""

    options: tuple[Any, ...]

    def __init__(self, *options: Any) -> None:
        if len(options) == 1 and isinstance(options[0], list | tuple):
            options = tuple(options[0])
        if not options:
            raise ValueError("Choice: give at least one option")
        object.__setattr__(self, "options", options)

    def grid(self, count: int) -> list[Any]:
        """Every option."""
        return list(self.options)


Space = Mapping[str, Uniform | LogUniform | Choice]


def coded(point: Point, space: Space) -> dict[str, Any]:
    """A point in numbers: a choice by its index."""
    return {
        name: values.options.index(point[name]) if isinstance(values, Choice) else point[name]
        for name, values in space.items()
    }


def decoded(plain: Mapping[str, Any], space: Space) -> Point:
    """The point of such numbers."""
    return {
        name: values.options[plain[name]] if isinstance(values, Choice) else plain[name]
        for name, values in space.items()
    }


def ends(values: Uniform | LogUniform | Choice) -> tuple[float, float]:
    """The least and the largest number of a coded value."""
    return (0, len(values.options) - 1) if isinstance(values, Choice) else (values.low, values.high)

"""What `tune` searches over: ranges and choices, a name each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepsize.tuning.identity import exact, identity
from stepsize.validation import number, truth, whole

Point = dict[str, Any]


@dataclass(frozen=True)
class Uniform:
    """A number between `low` and `high`, uniformly; with `whole` a whole number, ends included.

    >>> import stepsize as ss
    >>> ss.Uniform(1, 9, whole=True).grid(3)
    [1, 5, 9]
    """

    low: float
    high: float
    whole: bool = field(default=False, kw_only=True)
    step: int = field(default=1, kw_only=True)  # of whole numbers, as in a range

    def __post_init__(self) -> None:
        _check_ends(self)
        if not self.low < self.high:
            raise ValueError(f"Uniform: need low < high, both finite, got {self.low}, {self.high}")
        whole("Uniform: step", self.step)
        if self.step > 1 and not self.whole:
            raise ValueError(f"Uniform: step={self.step} goes with whole=True")

    def grid(self, count: int) -> list[Any]:
        """`count` values from end to end, or fewer where there are fewer whole ones."""
        return _rounded(self, np.linspace(self.low, self.high, count))

    def draw(self, rng: np.random.Generator) -> Any:
        """A random value."""
        if self.whole:
            return int(self.low) + self.step * int(rng.integers(self._last + 1))
        return float(rng.uniform(self.low, self.high))

    def nearest(self, value: float) -> Any:
        """The value of the space nearest to a number."""
        if not self.whole:
            return min(max(value, self.low), self.high)
        steps = round((value - self.low) / self.step)
        return int(self.low) + self.step * min(max(steps, 0), self._last)

    def within(self, low: float, high: float) -> tuple[int, int]:
        """The least and the largest whole number of the space between two places."""
        first = int(self.low)
        least, most = _inner((low - first) / self.step, (high - first) / self.step)
        return first + self.step * least, first + self.step * most

    @property
    def _last(self) -> int:
        return (int(self.high) - int(self.low)) // self.step


@dataclass(frozen=True)
class LogUniform:
    """A positive number between `low` and `high`, uniform in the logarithm: rates, decays.

    With `whole` a whole number, ends included: widths, batch sizes.
    """

    low: float
    high: float
    whole: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _check_ends(self)
        if not 0 < self.low < self.high:
            raise ValueError(
                f"LogUniform: need 0 < low < high, both finite, got {self.low}, {self.high}"
            )

    def grid(self, count: int) -> list[Any]:
        """`count` values from end to end, at equal factors, or fewer where there are fewer."""
        return _rounded(self, np.geomspace(self.low, self.high, count))

    def draw(self, rng: np.random.Generator) -> Any:
        """A random value."""
        return self.nearest(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))

    def nearest(self, value: float) -> Any:
        """The value of the space nearest to a number."""
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value

    def within(self, low: float, high: float) -> tuple[int, int]:
        """The least and the largest whole number between two places."""
        return _inner(low, high)


def _inner(low: float, high: float) -> tuple[int, int]:
    """The outermost whole numbers between two, each of which may miss one by rounding."""
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    return math.ceil(low - slack), math.floor(high + slack)


def _check_ends(values: Uniform | LogUniform) -> None:
    """Refuse ends that are no finite numbers, or no whole ones where these are asked for."""
    owner = type(values).__name__
    truth(f"{owner}: whole", values.whole)
    ends = [number(f"{owner}: {name}", getattr(values, name), high_open=False, low_open=False)
            for name in ("low", "high")]  # fmt: skip
    if not all(map(math.isfinite, ends)):
        low = "0 < low" if isinstance(values, LogUniform) else "low"
        raise ValueError(f"{owner}: need {low} < high, both finite, got {ends[0]}, {ends[1]}")
    if values.whole and any(end != int(end) for end in ends):
        raise ValueError(f"{owner}: whole=True needs whole ends, got {ends[0]}, {ends[1]}")


def _rounded(values: Uniform | LogUniform, grid: Any) -> list[Any]:
    if not values.whole:
        return [float(v) for v in grid]
    return list(dict.fromkeys(values.nearest(float(v)) for v in grid))


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

    def draw(self, rng: np.random.Generator) -> Any:
        """A random option."""
        return self.options[int(rng.integers(len(self.options)))]

    def grid(self, count: int) -> list[Any]:
        """Every option."""
        return list(self.options)


class Listed(Choice):
    """The values of a sweep: of numbers, places along an axis."""

    @property
    def is_numeric(self) -> bool:
        """Whether all of them are numbers."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.options)


Space = Mapping[str, Uniform | LogUniform | Choice]
Given = Mapping[str, Uniform | LogUniform | Choice | range]  # as users may say it


def checked(space: Given) -> Space:
    """The space, its ranges as whole numbers; TypeError and ValueError name what is none."""
    if not isinstance(space, Mapping):
        raise TypeError(
            'tune: space must be a dict of names, {"lr": ss.LogUniform(1e-5, 1)}, got '
            f"{space!r:.80}"
        )
    if not space:
        raise ValueError('tune: space is empty; name something, {"lr": ss.LogUniform(1e-5, 1)}')
    return {name: _span(name, values) for name, values in space.items()}


def _span(name: str, values: Any) -> Uniform | LogUniform | Choice:
    if isinstance(values, range):
        if not values:
            raise ValueError(f"tune: space[{name!r:.80}] is {values!r:.80}, which holds no number")
        low, high = min(values), max(values)
        return Uniform(low, high, whole=True, step=abs(values.step)) if low < high else Choice(low)
    if not isinstance(values, Uniform | LogUniform | Choice):
        move = "ss.LogUniform(low, high) for a range of rates"
        if isinstance(values, list | set | frozenset):
            move = "ss.Choice(...) for one of some values"
        raise TypeError(
            f"tune: space[{name!r}] must be Uniform, LogUniform, Choice or a range, "
            f"got {type(values).__name__}; write {move}"
        )
    return values


def coded(point: Point, space: Space) -> dict[str, Any]:
    """A point in numbers: a choice by its index."""
    return {
        name: place(values, point[name]) if isinstance(values, Choice) else point[name]
        for name, values in space.items()
    }


def place(values: Choice, option: Any) -> int:
    """The index of an option: True is not 1, and arrays are compared by their bytes."""
    same = (k for k, own in enumerate(values.options) if own is option)
    found = next(same, None)
    return [identity(o) for o in values.options].index(identity(option)) if found is None else found


class Places:
    """Where the options of each choice of a space are, found without a walk along them."""

    def __init__(self, space: Space) -> None:
        choices = {name: v for name, v in space.items() if isinstance(v, Choice)}
        # The space keeps its options alive, so that no other object has the identity of one.
        self._same = {n: _first_places(map(id, v.options)) for n, v in choices.items()}
        self._exact = {n: _first_places(map(identity, v.options)) for n, v in choices.items()}
        self._space = space

    def coded(self, point: Point) -> dict[str, Any]:
        """`coded`, of a space with many options."""
        plain = dict(point)
        for name, places in self._same.items():
            at = places.get(id(point[name]))
            plain[name] = self._exact[name][identity(point[name])] if at is None else at
        return {name: plain[name] for name in self._space}

    def options(self, point: Point) -> dict[str, str]:
        """The options of a point as text that says exactly what they are."""
        return {name: str(exact(point[name])) for name in self._exact}

    def find(self, name: str, text: str) -> int:
        """The place of an option given as text; -1 where it has none."""
        at = self._exact[name].get(text)
        if at is not None:
            return at
        # Files of before hold what an option prints, which may stand for several.
        options: Any = self._space[name]
        alike = [k for k, option in enumerate(options.options) if shown(option) == text]
        return alike[0] if len(alike) == 1 else -1

    def check(self, label: str) -> None:
        """Refuse options that no text tells from others, of which a file could not keep runs."""
        for name in self._exact:
            options: Any = self._space[name]
            for option in options.options:
                if exact(option) is None:
                    raise TypeError(
                        f"{label}: {name}={option!r:.80} cannot be kept in a storage, which must "
                        "find it again exactly; give names or numbers, and look the object up in "
                        "the objective"
                    )


def _first_places(keys: Iterable[Any]) -> dict[Any, int]:
    places: dict[Any, int] = {}
    for k, key in enumerate(keys):
        places.setdefault(key, k)
    return places


def shown(option: Any) -> str:
    """An option as text, alike in every process: without the address of an object."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(option))


def decoded(plain: Mapping[str, Any], space: Space) -> Point:
    """The point of such numbers."""
    return {
        name: values.options[plain[name]] if isinstance(values, Choice) else plain[name]
        for name, values in space.items()
    }


def ends(values: Uniform | LogUniform | Choice) -> tuple[float, float]:
    """The least and the largest number of a coded value."""
    return (0, len(values.options) - 1) if isinstance(values, Choice) else (values.low, values.high)


def described(values: Uniform | LogUniform | Choice) -> str:
    """A range or choice in words."""
    if not isinstance(values, Choice):
        return repr(values)
    options = f"{', '.join(map(repr, values.options)):.80}"
    return f"one of {options}" if len(values.options) > 1 else f"{options} alone"

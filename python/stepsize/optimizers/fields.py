"""Hyperparameters as declarations: default, range, error text and tuning range in one place.

A field sits in an optimizer class, ``lr = nonnegative(1e-3)``, and is at once the keyword of the
constructor, the attribute of the instance and the entry of ``hyperparams``.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from stepsize.validation import as_float, is_truth, range_text, whole, within

Value = Any  # float | Schedule | Callable[[int], float], or a tuple of two of them, bool or str


@dataclass(frozen=True)
class Part:
    """One number that the compiled step reads, with the range it must keep."""

    name: str  # what rules call it: beta1
    label: str  # what users call it: betas[0]
    low: float = 0.0
    high: float = math.inf
    low_open: bool = False
    high_open: bool = True
    varies: bool = True  # whether a schedule or a function of the step may stand for it

    def describe(self) -> str:
        return range_text(self.low, self.high, self.low_open, self.high_open)

    def holds(self, value: float) -> bool:
        return within(value, self.low, self.high, self.low_open, self.high_open)

    def check(self, owner: str, value: Value) -> Value:
        """The value as a float, or unchanged where it is a schedule or a function of the step."""
        if self.varies and callable(value):
            return value
        try:
            if isinstance(value, str | bytes) or is_truth(value) or np.ndim(value):
                raise TypeError
            number = as_float(value)
        except OverflowError:
            number = math.inf
        except (TypeError, ValueError):
            kinds = "a number, a schedule or a function of the step" if self.varies else "a number"
            raise TypeError(
                f"{owner}: {self.label} must be {kinds}, got {type(value).__name__} {value!r:.80}"
            ) from None
        if not self.holds(number):
            raise ValueError(f"{owner}: {self.label} must be {self.describe()}, got {value!r:.80}")
        return number


class Field:
    """Base of the declarations; an attribute of an optimizer reads and sets the current value."""

    name: str
    default: Value
    _parts: tuple[Part, ...]

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self._parts = self.make_parts()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if self.name not in instance.fields:  # of a base, and not sound for the class
            raise AttributeError(self.name)
        return instance.internals.groups.read(self)

    def __set__(self, instance: Any, value: Value) -> None:
        instance.internals.groups.write(self, value)

    def with_default(self, owner: str, value: Value) -> Self:
        """The same with another default, which a class gives as a plain value."""
        if callable(value):
            raise TypeError(
                f"{owner}: {self.name} = {value!r:.80} cannot be the default of a class; give "
                "schedules and functions of the step to the constructor"
            )
        made = copy.copy(self)
        made.default = self.check(owner, value)
        return made

    def parts(self) -> tuple[Part, ...]:
        """The numbers of this field that the compiled step reads."""
        return self._parts

    def make_parts(self) -> tuple[Part, ...]:
        return ()

    def values(self, value: Value) -> tuple[Value, ...]:
        """The value of each part."""
        return ()

    def check(self, owner: str, value: Value) -> Value:
        raise NotImplementedError

    def range(self) -> str:
        raise NotImplementedError

    def same_kind(self, old: Value, new: Value) -> bool:
        """Whether a running optimizer may change from one value to the other."""
        return True


class Number(Field):
    """A number that may also be a schedule or a function of the step.

    ``fixed`` numbers act at construction only and take no schedule.
    """

    def __init__(
        self,
        default: float | None,
        low: float = 0.0,
        high: float = math.inf,
        *,
        low_open: bool = False,
        high_open: bool = True,
        fixed: bool = False,
    ) -> None:
        self.default = default
        self.fixed = fixed
        self._range = (low, high, low_open, high_open)

    def make_parts(self) -> tuple[Part, ...]:
        return (Part(self.name, self.name, *self._range),)

    def values(self, value: Value) -> tuple[Value, ...]:
        return (value,)

    def check(self, owner: str, value: Value) -> Value:
        if value is None:
            return _none(owner, self)
        if self.fixed and callable(value):
            raise TypeError(f"{owner}: {self.name} acts once, at the start: give a number")
        return self.parts()[0].check(owner, value)

    def range(self) -> str:
        return self.parts()[0].describe()

    def same_kind(self, old: Value, new: Value) -> bool:
        return not self.fixed or bool(old == new)


class Several(Field):
    """A few numbers of one range ``[low, high)``, such as betas.

    With ``optional``, None stands for the default of one of them.
    """

    def __init__(
        self, *values: float, low: float = 0.0, high: float = 1.0, optional: bool = False
    ) -> None:
        self.default = values
        self._range = (low, high, low == -math.inf)
        self.optional = optional

    def make_parts(self) -> tuple[Part, ...]:
        stem = self.name if self.name == "eps" else self.name.removesuffix("s")
        return tuple(
            Part(f"{stem}{i + 1}", f"{self.name}[{i}]", *self._range)
            for i in range(len(self.default))
        )

    def values(self, value: Value) -> tuple[Value, ...]:
        return tuple(value)

    def check(self, owner: str, value: Value) -> Value:
        if value is None:
            return _none(owner, self)
        count = len(self.default)
        if not isinstance(value, tuple | list) or len(value) != count:
            raise ValueError(f"{owner}: {self.name} must be {count} numbers, got {value!r:.80}")
        if self.optional:
            pairs = zip(value, self.default, strict=True)
            value = [default if item is None else item for item, default in pairs]
        pairs = zip(self.parts(), value, strict=True)
        return tuple(part.check(owner, item) for part, item in pairs)

    def range(self) -> str:
        return f"each {self.parts()[0].describe()}"


class Flag(Field):
    """Yes or no, settled at construction."""

    def __init__(self, default: bool) -> None:
        self.default = default

    def make_parts(self) -> tuple[Part, ...]:
        return (Part(self.name, self.name, 0.0, 1.0, high_open=False),)

    def values(self, value: Value) -> tuple[Value, ...]:
        return (float(value),)

    def check(self, owner: str, value: Value) -> Value:
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{owner}: {self.name} must be True or False, got {value!r:.80}")
        return bool(value)

    def range(self) -> str:
        return "True or False"

    def same_kind(self, old: Value, new: Value) -> bool:
        return bool(old == new)


LARGEST_COUNT = (
    2**53
)  # the compiled step reads counts as doubles, which hold no larger ones exactly


class Count(Field):
    """A whole number >= 1, settled at construction; None where that is the default."""

    def __init__(self, default: int | None) -> None:
        self.default = default

    def check(self, owner: str, value: Value) -> Value:
        if value is None and self.default is None:
            return None
        return whole(f"{owner}: {self.name}", value, most=LARGEST_COUNT)

    def range(self) -> str:
        return "a whole number >= 1"

    def same_kind(self, old: Value, new: Value) -> bool:
        return bool(old == new)


class Choice(Field):
    """One of a few words, settled at construction; ``none`` is the one that None stands for."""

    def __init__(self, default: str | None, *others: str, none: str | None = None) -> None:
        self.default = default
        self.words = (default, *others)
        self._none = none
        self.accepts_none = none is not None

    def check(self, owner: str, value: Value) -> Value:
        value = self._none if value is None else value
        if not isinstance(value, str | None) or value not in self.words:
            words = ", ".join(repr(word) for word in self.words)
            raise ValueError(f"{owner}: {self.name} must be one of {words}, got {value!r:.80}")
        return value

    def range(self) -> str:
        return " or ".join(repr(word) for word in self.words)

    def same_kind(self, old: Value, new: Value) -> bool:
        return bool(old == new)


def _none(owner: str, field: Field) -> None:
    """None where it is the default; an error where it is not."""
    if field.default is not None:
        raise TypeError(
            f"{owner}: {field.name} must be {field.range()}, got None; leave it out for the "
            f"default, {field.default!r}"
        )


def nonnegative(default: float | None, *, fixed: bool = False) -> Any:
    """A finite number >= 0."""
    return Number(default, fixed=fixed)


def positive(default: float | None, *, fixed: bool = False) -> Any:
    """A finite number > 0."""
    return Number(default, low_open=True, fixed=fixed)


def real(default: float) -> Any:
    """A finite number of either sign."""
    return Number(default, low=-math.inf, low_open=True)


def nonpositive(default: float) -> Any:
    """A number <= 0."""
    return Number(default, low=-math.inf, high=0.0, low_open=True, high_open=False)


def growth(default: float = math.inf) -> Any:
    """A factor >= 1, infinite for no bound."""
    return Number(default, low=1.0, high_open=False)


def unit(default: float, *, low_open: bool = False) -> Any:
    """A number in [0, 1), or in (0, 1)."""
    return Number(default, high=1.0, low_open=low_open)


def unit_pair(first: float, second: float) -> Any:
    """Two numbers in [0, 1)."""
    return Several(first, second)


def unit_triple(first: float, second: float, third: float) -> Any:
    """Three numbers in [0, 1)."""
    return Several(first, second, third)


def reals(*defaults: float) -> Any:
    """A few finite numbers of either sign."""
    return Several(*defaults, low=-math.inf, high=math.inf)


def nonnegative_pair(first: float, second: float) -> Any:
    """Two finite numbers >= 0."""
    return Several(first, second, high=math.inf)


def flag(default: bool = False) -> Any:
    """True or False."""
    return Flag(default)


def count(default: int | None) -> Any:
    """A whole number >= 1."""
    return Count(default)


def choice(default: str, *others: str, none: str | None = None) -> Any:
    """One of a few words; ``none`` is the one that None stands for."""
    return Choice(default, *others, none=none)

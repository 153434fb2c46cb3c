"""Types of schedule arguments: each states its range, error message and next move once."""

from __future__ import annotations

import itertools
import math
import sys
import types
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from stepsize import validation

LAST_STEP = 2.0**53

Check = Callable[[str, str, Any], Any]


def fail(where: str, name: str, allowed: str, value: object, move: str = "") -> ValueError:
    """An error naming the call, the argument, what it may be, what it was and the next move."""
    return validation.refusal(f"{where}: {name}", allowed, value, move)


@dataclass(frozen=True)
class Number:
    """A finite number in a range; whole numbers come back as int where `whole` is set."""

    allowed: str
    move: str = ""
    low: float = 0.0
    high: float = sys.float_info.max
    above: bool = False
    whole: bool = False
    count: bool = False

    def __call__(self, where: str, name: str, value: Any) -> float:
        number = validation.real(f"{where}: {name}", value)
        inside = self.low <= number <= self.high and not (self.above and number == self.low)
        if not inside or (self.count and not number.is_integer()):
            raise fail(where, name, self.allowed, value, self.move)
        return int(number) if self.whole and number.is_integer() else number


@dataclass(frozen=True)
class Many:
    """A sequence of numbers, kept as a tuple."""

    each: Number
    least: int = 1
    ascending: bool = False

    def __call__(self, where: str, name: str, value: Any) -> tuple[float, ...]:
        unordered = isinstance(value, str | bytes | bytearray | Set | Mapping)
        if unordered or not hasattr(value, "__iter__"):
            raise TypeError(f"{where}: {name} must be a sequence of numbers, got {value!r:.80}")
        if getattr(value, "ndim", 1) == 0:  # an array of one number, which only seems iterable
            raise TypeError(f"{where}: {name} must be a sequence of numbers, got {value!r:.80}")
        items = tuple(self.each(where, f"{name}[{i}]", item) for i, item in enumerate(value))
        if len(items) < self.least:
            raise ValueError(
                f"{where}: {name} must have a length of at least {self.least}, got {items!r:.80}"
            )
        if self.ascending:
            for i, (left, right) in enumerate(itertools.pairwise(items), start=1):
                if left >= right:
                    raise fail(where, f"{name}[{i}]", f"above {left!r}", right, "sort the steps")
        return items


Rate = Annotated[
    float, Number("a finite number >= 0", "a negative rate would climb the loss instead")
]
Positive = Annotated[float, Number("a finite number > 0", above=True)]
Fraction = Annotated[float, Number("in [0, 1]", high=1.0)]
Share = Annotated[float, Number("in (0, 1]", high=1.0, above=True)]
Finite = Annotated[float, Number("a finite number", low=-sys.float_info.max)]
Length = Annotated[
    float,
    Number(
        "a number of steps in (0, 2**53]",
        "count the updates it should take",
        high=LAST_STEP,
        above=True,
        whole=True,
    ),
]
Offset = Annotated[float, Number("in [-2**53, 2**53]", low=-LAST_STEP, high=LAST_STEP, whole=True)]
Step = Annotated[
    float, Number("a step in [0, 2**53]", "steps count from 0", high=LAST_STEP, whole=True)
]
Total = Annotated[
    int,
    Number(
        "a whole number of steps >= 1",
        "round it with int()",
        low=1.0,
        high=LAST_STEP,
        whole=True,
        count=True,
    ),
]
Rates = Annotated[Sequence[float], Many(Rate.__metadata__[0])]
Steps = Annotated[
    Sequence[float],
    Many(Step.__metadata__[0], least=0, ascending=True),
]


def check_for(annotation: Any) -> Check:
    """The check for an annotation: Annotated, Literal, bool, or one of these or None."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return annotation.__metadata__[0]  # type: ignore[no-any-return]
    if origin in (Union, types.UnionType) and type(None) in parts:
        return optional(check_for(next(part for part in parts if part is not type(None))))
    if origin is Literal:
        return lambda where, name, value: validation.choice(f"{where}: {name}", value, parts)
    if annotation is bool:
        return lambda where, name, value: validation.truth(f"{where}: {name}", value)
    raise TypeError(f"no check for the annotation {annotation!r}")


def optional(check: Check) -> Check:
    """The same check, but None is allowed."""
    return lambda where, name, value: None if value is None else check(where, name, value)


def is_close_to_whole(number: float) -> bool:
    """Whether a product such as 0.3 * 100 differs from a whole number by rounding only."""
    return math.isclose(number, round(number), rel_tol=1e-12, abs_tol=1e-12)

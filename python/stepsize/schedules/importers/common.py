"""Common functions of the importers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from stepsize.names import did_you_mean
from stepsize.schedules.basic import constant, cosine, linear
from stepsize.schedules.schedule import Schedule, signature_text

Builder = Callable[..., Schedule]


def build(where: str, known: Mapping[str, Builder | str], name: str, **arguments: Any) -> Schedule:
    """The schedule named `name`; errors list the known names and the expected arguments."""
    builder = known.get(name) if isinstance(name, str) else None
    if builder is None:
        hint = did_you_mean(name, sorted(known)) if isinstance(name, str) else "give its name"
        raise ValueError(f"{where}: {name!r:.80} is not a scheduler it knows; {hint}")
    if isinstance(builder, str):
        raise ValueError(f"{where}: {name} is not a function of the step; {builder}")
    signature = inspect.signature(builder)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise TypeError(f"{where}: {name}{signature_text(signature)}: {error}") from None
    try:
        return builder(**arguments)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, AttributeError | TypeError) else ValueError
        text = f"{error} is missing" if isinstance(error, LookupError) else str(error)
        raise kind(f"{where}: {name}: {text.removeprefix(f'{where}: ')}") from error


def wave(high: float, low: float, half: float) -> Schedule:
    """A cosine wave without end that starts at `high`, with `half` steps from top to bottom."""
    down_and_up = cosine(high, low, half).then(cosine(low, high, half), at=half)
    return down_and_up.repeat(2 * half)


def warmed(schedule: Schedule, peak: float, steps: float, init: float = 0.0) -> Schedule:
    """Linear warm-up from `init` to `peak`, then the schedule, whatever its first value is."""
    return linear(init, peak, steps).then(schedule, at=steps) if steps > 0 else schedule


def cycles(
    shape: Callable[[float, float], Schedule],
    length: float,
    multiplier: float,
    peak: float,
    decay: float,
    limit: int,
    rest: float,
) -> Schedule:
    """`limit` cycles, each `multiplier` times as long and `decay` times as high; then `rest`."""
    made, start = constant(rest), 0.0
    for i in range(limit):
        cycle = shape(peak * decay**i, length * multiplier**i)
        made = made.then(cycle, at=start) if i else cycle
        start += length * multiplier**i
    return made.then(rest, at=start)

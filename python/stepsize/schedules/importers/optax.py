"""optax.schedules, by name and arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import mul
from typing import Any

from stepsize.schedules.basic import (
    constant,
    cosine,
    exponential,
    linear,
    piecewise_constant,
    piecewise_linear,
    polynomial,
)
from stepsize.schedules.importers.common import Builder, build, warmed
from stepsize.schedules.schedule import Schedule
from stepsize.validation import choice


def from_optax(name: str, **arguments: Any) -> Schedule:
    """Convert `optax.schedules.<name>(**arguments)`; optax need not be installed.

    An optax schedule is a closure, so it must be given by name and arguments. `join_schedules`
    takes schedules of this package.

    Raises:
        ValueError: For an unknown name.

    >>> import stepsize as ss
    >>> ss.schedules.from_optax("cosine_decay_schedule", init_value=0.1, decay_steps=100)
    cosine(0.1, 0.0, 100)
    """
    return build("from_optax", BUILDERS, name, **arguments)


def constant_schedule(value: float) -> Schedule:
    return constant(value)


def polynomial_schedule(
    init_value: float,
    end_value: float,
    power: float,
    transition_steps: int,
    transition_begin: int = 0,
) -> Schedule:
    if transition_steps <= 0:
        return constant(init_value)
    made = polynomial(init_value, end_value, transition_steps, power)
    return delayed(made, transition_begin)


def linear_schedule(
    init_value: float, end_value: float, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    if transition_steps <= 0:
        return constant(init_value)
    return delayed(linear(init_value, end_value, transition_steps), transition_begin)


def delayed(schedule: Schedule, begin: int) -> Schedule:
    return schedule.shift(begin) if begin > 0 else schedule


def piecewise_constant_schedule(
    init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    boundaries, values = scaled(init_value, boundaries_and_scales)
    return piecewise_constant(boundaries, values)


def scaled(
    init_value: float, boundaries_and_scales: Mapping[int, float] | None
) -> tuple[list[int], list[float]]:
    """Sorted boundaries and the values between them; the scales are cumulative."""
    ordered = sorted((boundaries_and_scales or {}).items())
    values = list(accumulate([init_value, *(scale for _, scale in ordered)], mul))
    return [boundary for boundary, _ in ordered], values


def exponential_decay(
    init_value: float,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    if transition_steps <= 0 or decay_rate == 0:
        return constant(init_value)
    made = delayed(
        exponential(init_value, decay_rate, transition_steps, staircase), transition_begin
    )
    if end_value is None:
        return made
    return made.clip(low=end_value) if decay_rate < 1 else made.clip(high=end_value)


def cosine_decay_schedule(
    init_value: float, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0
) -> Schedule:
    return cosine(init_value, alpha * init_value, decay_steps, exponent)


def piecewise_interpolate_schedule(
    interpolate_type: str,
    init_value: float,
    boundaries_and_scales: Mapping[int, float] | None = None,
) -> Schedule:
    choice("interpolate_type", interpolate_type, ("linear", "cosine"))
    boundaries, values = scaled(init_value, boundaries_and_scales)
    at = [0, *boundaries]
    if boundaries[:1] == [0]:
        at, values = at[1:], values[1:]
    if interpolate_type == "linear":
        return piecewise_linear(list(zip(at, values, strict=True)))
    made = constant(values[0])
    for start, stop, begin, end in zip(at, at[1:], values, values[1:], strict=False):
        made = made.then(cosine(begin, end, stop - start), at=start)
    return made


def linear_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    first = peak_value / div_factor
    points = {
        0: first,
        int(pct_start * transition_steps): peak_value,
        int(pct_final * transition_steps): first,
        transition_steps: first / final_div_factor,
    }
    return piecewise_linear(list(points.items()))


def cosine_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    first, top = peak_value / div_factor, int(pct_start * transition_steps)
    last = first / final_div_factor
    down = cosine(peak_value, last, transition_steps - top)
    return cosine(first, peak_value, top).then(down, at=top) if top else down


def warmup_constant_schedule(init_value: float, peak_value: float, warmup_steps: int) -> Schedule:
    return linear_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:
    end = 0.0 if peak_value == 0 else end_value
    decay = cosine(peak_value, end, decay_steps - warmup_steps, exponent)
    return warmed(decay, peak_value, warmup_steps, init_value)


def warmup_exponential_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    decay = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return warmed(decay, peak_value, warmup_steps, init_value)


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    cycles, starts, start = [], [], 0
    for arguments in cosine_kwargs:
        cycles.append(warmup_cosine_decay_schedule(**arguments))
        starts.append(start)
        start += arguments["decay_steps"]
    return join_schedules(cycles, starts[1:])


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    joined = schedules[0]
    for schedule, boundary in zip(schedules[1:], boundaries, strict=True):
        joined = joined.then(schedule, at=boundary)
    return joined


BUILDERS: dict[str, Builder | str] = {
    builder.__name__: builder
    for builder in (
        constant_schedule,
        polynomial_schedule,
        linear_schedule,
        piecewise_constant_schedule,
        exponential_decay,
        cosine_decay_schedule,
        piecewise_interpolate_schedule,
        linear_onecycle_schedule,
        cosine_onecycle_schedule,
        warmup_constant_schedule,
        warmup_cosine_decay_schedule,
        warmup_exponential_decay_schedule,
        sgdr_schedule,
        join_schedules,
    )
}

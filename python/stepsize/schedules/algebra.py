"""Combinators: the functions behind the operators and methods of Schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from stepsize.schedules import nodes
from stepsize.schedules.arguments import Length, Offset, Rate, Step, Steps, fail
from stepsize.schedules.nodes import Node
from stepsize.schedules.schedule import Schedule, as_schedule, recipe


def one(where: str, name: str, value: Any) -> Schedule:
    """A schedule; a number becomes a constant one."""
    return as_schedule(where, value)


def several(where: str, name: str, value: Any) -> tuple[Schedule, ...]:
    """Schedules, in order."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"{where}: {name} must be a list of schedules, got {value!r:.200}")
    return tuple(as_schedule(where, item) for item in value)


Tree = Annotated[Schedule, one]
Trees = Annotated[Sequence[Schedule], several]


def combined(node: Node, length: float) -> Schedule:
    """A schedule without a name, which `recipe` gives it."""
    return Schedule("", {}, node, length)


def later(length: float, steps: float) -> float:
    """`length + steps`, rounded up so that the child has reached its own length there."""
    end = length + steps
    return end if end - steps >= length else math.nextafter(end, math.inf)


@recipe
def then(pieces: Trees, starts: Steps) -> Schedule:
    """Each piece from its start on, evaluated at the steps since then."""
    if len(pieces) != len(starts) or not starts or starts[0] != 0:
        raise fail("then", "starts", "one step for each piece, the first 0", starts)
    node = nodes.join([(s, p._node) for s, p in zip(starts, pieces, strict=True)])
    return combined(node, later(pieces[-1].length, starts[-1]))


@recipe
def scale(schedule: Tree, factor: Rate) -> Schedule:
    """A schedule times a number."""
    return combined(Node("scale", (factor,), (schedule._node,)), schedule.length)


@recipe
def product(left: Tree, right: Tree) -> Schedule:
    """Two schedules multiplied step by step."""
    node = Node("product", (), (left._node, right._node))
    return combined(node, max(left.length, right.length))


@recipe
def sum_(left: Tree, right: Tree) -> Schedule:
    """Two schedules added step by step."""
    node = Node("sum", (), (left._node, right._node))
    return combined(node, max(left.length, right.length))


@recipe
def clip(schedule: Tree, low: Rate | None = None, high: Rate | None = None) -> Schedule:
    """A schedule kept within two numbers."""
    bounds = (0.0 if low is None else low, nodes.LARGEST if high is None else high)
    if bounds[0] > bounds[1]:
        raise fail("clip", "low", f"at most high={high!r}", low)
    return combined(Node("clip", bounds, (schedule._node,)), schedule.length)


@recipe
def shift(schedule: Tree, steps: Offset) -> Schedule:
    """A schedule moved to later steps, or to earlier ones where `steps` is negative."""
    node = Node("shift", (steps,), (schedule._node,))
    return combined(node, max(0, later(schedule.length, steps)))


@recipe
def warmup(schedule: Tree, steps: Step, init: Rate = 0.0) -> Schedule:
    """A schedule after a line from `init` to its first value."""
    if steps == 0:
        return schedule
    line = Node("linear", (init, schedule(0), steps))
    return combined(nodes.join([(0, line), (steps, schedule._node)]), later(schedule.length, steps))


@recipe
def repeat(schedule: Tree, period: Length) -> Schedule:
    """The first `period` steps of a schedule, repeated without end."""
    return combined(Node("repeat", (period,), (schedule._node,)), math.inf)


@recipe
def by_epoch(schedule: Tree, steps_per_epoch: Length, smooth: bool = False) -> Schedule:
    """A schedule over epochs as one over steps."""
    node = Node("pace", (steps_per_epoch, float(not smooth)), (schedule._node,))
    whole = schedule.length if smooth or math.isinf(schedule.length) else math.ceil(schedule.length)
    length = whole * steps_per_epoch
    # Rounded down, the last step would be read as one before the end.
    while math.isfinite(length) and length / steps_per_epoch < whole:
        length = math.nextafter(length, math.inf)
    return combined(node, length)


@recipe
def stretch(schedule: Tree, total: Length) -> Schedule:
    """A schedule stretched or compressed to the length `total`."""
    length = finite_length("stretch", schedule)
    if length == 0:
        return schedule
    return combined(Node("stretch", (length, total), (schedule._node,)), total)


@recipe
def resume_at(schedule: Tree, step: Step, new_end: Length) -> Schedule:
    """A schedule up to `step`, then its remaining part, stretched to end at `new_end`."""
    left = finite_length("resume_at", schedule) - step
    if left <= 0:
        raise fail("resume_at", "step", f"before the end at {schedule.length:g}", step)
    if new_end <= step:
        raise fail("resume_at", "new_end", f"after step={step:g}", new_end)
    rest = Node("shift", (-step,), (schedule._node,))
    rest = Node("stretch", (left, new_end - step), (rest,))
    return combined(nodes.join([(0, schedule._node), (step, rest)]), new_end)


def finite_length(where: str, schedule: Schedule) -> float:
    """The length of a schedule, if it is finite."""
    if math.isinf(schedule.length):
        raise ValueError(
            f"{where}: {schedule!r} never stops changing, so it has no length to stretch; "
            "end it first with .then(value, at=step)"
        )
    return schedule.length

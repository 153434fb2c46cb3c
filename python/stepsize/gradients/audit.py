"""Whether the function is one: the same call again, after a call elsewhere, with other numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepsize.arrays import Array, computed
from stepsize.curves import spacing
from stepsize.gradients.calls import MOST, OWNER, Answer, Calls, Point
from stepsize.optimizers.half import to_float32

SAME = 1e3  # units of rounding within which two answers are the same: sums in another order
ORDER = 16  # units of rounding that a loss may differ by for sums in another order
BESIDE = 0.2  # how far the second point lies from the first, in units of each leaf's scale
RATHER = 0.8  # share of the change after a call elsewhere that must recur to be called stale
CLOSE = 50.0  # units of rounding between points whose losses show its noise
FURTHER = (1e3, 1e6, 1e9, 1e12, 1e15)  # times further apart, where losses are equal
FURTHEST = 0.5  # in units of each leaf's scale
ROUNDED = 0.5  # of the last digit, the most that rounding takes away
COARSE = 64  # units of rounding between losses that were rounded on purpose
MOST_LOSSES = 64  # which show what they were rounded to
ROUNDS = 8  # pairs of calls behind that share


@dataclass
class Base:
    """A point that directions start from: answer, and the noise of loss and gradients there."""

    name: str
    point: list[Array]
    answer: Answer
    noise: float = 0.0
    rounding: float = 0.0  # the noise of the same random numbers, which nothing else is taken for
    grad_noise: list[float] = field(default_factory=list)
    step: float = 0.0  # between losses, where they were rounded


@dataclass
class Audit:
    """What the same call again has shown."""

    scales: list[float]
    whole: float  # the size of the elements of all leaves
    bases: list[Base]
    hidden: bool  # the loss is noisy, and no generator that we can find is why
    stochastic: bool  # random numbers are drawn
    causes: dict[str, str]  # leaves whose gradient hangs on more than parameters and batch


def wide(array: Array) -> Array:
    return np.asarray(to_float32(array), np.float64)


def norm(array: Array) -> float:
    values = wide(array).ravel()
    top = float(np.abs(values).max(initial=0.0))
    if not top or not math.isfinite(top) or 1 / MOST < top < MOST:
        return float(np.linalg.norm(values))
    return top * float(np.linalg.norm(values / top))  # squares would be no numbers


def rounding(dtype: Any) -> float:
    return float(np.finfo(computed(dtype)).eps)


def scales_of(point: Point) -> list[float]:
    """The size of each leaf's elements; of all elements where a leaf is nearly zero."""
    sizes = [norm(leaf) / math.sqrt(max(1, leaf.size)) for leaf in point]
    least = 0.1 * size_of(point)
    found = [max(size, least) or 1.0 for size in sizes]
    return [scale if math.isfinite(scale) else 1.0 for scale in found]


def size_of(point: Point) -> float:
    """The root mean square of all elements."""
    count = sum(max(1, leaf.size) for leaf in point)
    return norm(np.array([norm(leaf) for leaf in point])) / math.sqrt(count)


def shifted(point: Point, scales: Sequence[float], t: float, rng: np.random.Generator) -> Point:
    """Another point, `t` scales away in a random direction of all leaves."""
    return [
        (wide(leaf) + t * scale * rng.standard_normal(leaf.shape)).astype(leaf.dtype)
        for leaf, scale in zip(point, scales, strict=True)
    ]


def audit(calls: Calls, rng: np.random.Generator) -> Audit:
    """Call the function at the parameters and beside them, and compare what recurs."""
    x = calls.start
    scales = scales_of(x)
    first = calls.at(x)
    if not math.isfinite(first.loss):
        raise ValueError(
            f"{OWNER}: the loss at the parameters is {first.loss}; check where it is finite"
        )
    calls.broken = first.broken
    again = calls.at(x)
    flat = calls.exponent is None
    beside: Point = x
    other = None
    for t in (BESIDE, BESIDE / 10, BESIDE / 100):
        beside = shifted(x, scales, t, rng)
        other = calls.near(beside)
        if other is not None:
            break
    if flat and calls.exponent:
        calls.losses.clear()  # of another unit, which is known only now
        first, again, other = calls.at(x), calls.at(x), calls.near(beside)
    later = [calls.at(x) for _ in range(3)]
    losses = [answer.loss for answer in (first, again, *later)]
    single = all(float(np.float32(loss)) == loss for loss in losses)
    unit = float(np.finfo(np.float32 if single else np.float64).eps)
    hidden = max(losses) - min(losses) > ORDER * unit * max(map(abs, losses))
    calls.frozen = False
    unfrozen = [calls.at(x) for _ in range(2)]
    calls.frozen = True
    stochastic = hidden or not _alike(unfrozen[0], unfrozen[1])
    causes = {} if hidden else _history(calls.paths, first, again, later)
    if hidden and other is not None:
        causes = {calls.paths[i]: "stale" for i in _recurring(calls, x, beside)}
    grads = [
        later[0].grads[i] if causes.get(path) == "stale" else again.grads[i]
        for i, path in enumerate(calls.paths)
    ]
    grads = [
        first.grads[i] if causes.get(path) == "accumulated" else grads[i]
        for i, path in enumerate(calls.paths)
    ]
    bases = [Base("here", list(x), Answer(again.loss, grads))]
    if other is not None:
        calls.at(beside)  # so that a gradient of the point before is told by what follows
        answer = calls.near(beside)
        bases += [Base("beside", list(beside), answer)] if answer is not None else []
    for base in bases:
        _measure_noise(calls, base, scales, rng)
        if hidden:
            base.noise = float(np.std(losses, ddof=1))
    return Audit(scales, size_of(x), bases, hidden, stochastic, causes)


def _same(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    if np.array_equal(one, other, equal_nan=True):
        return True
    size = max(norm(one), norm(other))
    return norm(wide(one) - wide(other)) <= SAME * rounding(one.dtype) * size


def _alike(one: Answer, other: Answer) -> bool:
    close = abs(one.loss - other.loss) <= SAME * 1e-7 * max(abs(one.loss), abs(other.loss))
    return close and all(map(_same, one.grads, other.grads))


def _history(
    paths: Sequence[str], first: Answer, again: Answer, later: Sequence[Answer]
) -> dict[str, str]:
    """Leaves whose gradient at one point differs from call to call, with the loss the same."""
    found = {}
    for i, path in enumerate(paths):
        a, b = first.grads[i], again.grads[i]
        d, e, f = (answer.grads[i] for answer in later)
        if a is None or b is None or d is None or e is None or f is None:
            continue
        if _same(d, e) and _same(e, f) and _same(b, d):
            continue
        steps = [wide(b) - wide(a), wide(e) - wide(d), wide(f) - wide(e)]
        if norm(steps[1]) > 0 and all(
            norm(step - steps[1]) <= 1e-3 * norm(steps[1]) for step in steps
        ):
            found[path] = "accumulated"
        elif _same(e, f) and not _same(d, e):
            found[path] = "stale"
        else:
            found[path] = "not_deterministic"
    return found


def _recurring(calls: Calls, x: Point, beside: Point) -> list[int]:
    """Leaves whose noisy gradient is, after a call elsewhere, reliably another one."""
    changes: list[list[Array]] = [[] for _ in x]
    for _ in range(ROUNDS):
        calls.near(beside)
        one, two = calls.near(x), calls.near(x)
        if one is None or two is None:
            return []
        for i, (a, b) in enumerate(zip(one.grads, two.grads, strict=True)):
            if a is not None and b is not None:
                changes[i].append((wide(a) - wide(b)).ravel())
    found = []
    for i, some in enumerate(changes):
        total = np.sum(some, axis=0) if some else np.zeros(1)
        squares = sum(float(c @ c) for c in some)
        cross = (float(total @ total) - squares) / (ROUNDS - 1)
        if squares > 0 and cross / squares > RATHER:
            found.append(i)
    return found


def _measure_noise(calls: Calls, base: Base, scales: list[float], rng: np.random.Generator) -> None:
    """Rounding noise of loss and gradients, from differences of six points close together.

    Where most of these losses are equal the points were too close for its digits, and others are
    taken further apart. What losses were rounded to shows in their digits.

    Source: More & Wild 2011, SIAM J. Sci. Comput. 33, 1292 (ECnoise).
    """
    move = [rng.standard_normal(leaf.shape) for leaf in base.point]
    answers = _in_a_row(calls, base, scales, move, CLOSE)
    losses = np.array([answer.loss for answer in answers])
    single = all(float(np.float32(loss)) == loss for loss in losses)
    floor = float(np.finfo(np.float32 if single else np.float64).eps) * float(np.abs(losses).max())
    base.noise = base.rounding = float(max(_noise_of(losses), floor))
    base.grad_noise = [_gradient_noise([a.grads[i] for a in answers[:4]]) for i in range(len(move))]
    for further in FURTHER:
        if len(set(losses)) > len(losses) // 2:
            break
        answers = _in_a_row(calls, base, scales, move, CLOSE * further)
        losses = np.array([answer.loss for answer in answers])
        base.noise = max(base.noise, _noise_of(losses))
    step = digit(calls, float(np.abs(losses).max()))
    if step > COARSE * floor:
        base.step, base.noise = step, max(base.noise, ROUNDED * step)


def digit(calls: Calls, loss: float) -> float:
    """How far apart neighbours of a loss lie, by what is common to the losses seen."""
    return float(spacing([loss, *calls.losses[:MOST_LOSSES]])[0])


def _in_a_row(
    calls: Calls, base: Base, scales: list[float], move: list[Array], units: float
) -> list[Answer]:
    """The answers at six points in equal distances, the third of them the base."""
    answers = [base.answer]
    for k in (-2, -1, 1, 2, 3):
        point = []
        for leaf, v, scale in zip(base.point, move, scales, strict=True):
            tiny = min(units * rounding(leaf.dtype), FURTHEST) * scale
            point.append((wide(leaf) + k * tiny * v).astype(leaf.dtype))
        answer = calls.near(point)
        answers.insert(len(answers) - 1 if k < 0 else len(answers), answer or base.answer)
    return answers


def _noise_of(losses: Array) -> float:
    third, fourth = np.diff(losses, 3), np.diff(losses, 4)
    return max(math.sqrt((third**2).mean() / 20), math.sqrt((fourth**2).mean() / 70))


def _gradient_noise(grads: Sequence[Array | None]) -> float:
    one, two, three, four = (None if g is None else wide(g) for g in grads)
    if one is None or two is None or three is None or four is None:
        return 0.0
    size = norm(one - 3 * two + 3 * three - four) / math.sqrt(20)
    return size if math.isfinite(size) else 0.0

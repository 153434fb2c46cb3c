"""A leaf whose gradient is 0: is it missing, is the leaf unused, or is the loss flat just here?

A slope shows in steps of several lengths, in proportion. Behind saturated units the loss is flat to
its last digit, or goes in jumps where a unit tips over, and a gradient of 0 is right as far as
numbers go: no step of the loss can tell it from one that was forgotten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stepsize.arrays import Array
from stepsize.gradients.audit import Base, wide
from stepsize.gradients.probes import LARGEST, REPEATS, SIGMAS, SIGMAS_FEW, Prober

SHORTER = 8.0  # each step is so many times shorter than the one before
LEVELS = 10
ALIKE = 3.0  # times that slopes of steps of different lengths may differ by where there is one
DIRECTIONS = 2  # from each point
ELSEWHERE = (0.0, 1e-3, -1.0)  # times the leaf: units that are saturated here are not there

MISSING = (
    "the gradient is None, and the loss depends on this leaf, which training would leave as it is: "
    "give its gradient, or keep the leaf out of params if it is to stay"
)
REACHES = (LARGEST, 1e-2)  # steps, in units of the leaf's scale, that show that the loss depends
UNUSED = "neither loss nor gradient depend on it"
FLAT = (
    "the loss does not change along any direction here, to its last digit, so there is nothing to "
    "compare the gradient with, though it does elsewhere, as behind saturated units; check where "
    "the loss has a slope, such as at smaller parameters"
)
JUMPS = (
    "the gradient is 0 and the loss goes in jumps here, flat between them, as behind saturated "
    "units, so there is no slope to compare with; check where the loss has one, such as at smaller "
    "parameters"
)
HIDDEN = "the gradient is 0, and the loss has too few digits to say whether it has a slope"


@dataclass(frozen=True)
class Still:
    """What the loss does where a gradient is 0: the verdict, and why in words."""

    verdict: str  # "wrong", "unused" or "unclear"
    words: str


def still(prober: Prober, i: int) -> Still:
    """What the loss does along a leaf whose gradient is 0 at the parameters and beside them."""
    changes, jumps = False, False
    for base in prober.audit.bases:
        for _ in range(DIRECTIONS):
            found = _along(prober, base, i, prober.random(base.point[i]))
            if found == "slope":
                return Still("wrong", "")
            jumps |= found == "jumps"
            changes |= found != "flat"
    if jumps:
        return Still("unclear", JUMPS)
    if changes:
        return Still("unclear", HIDDEN)
    if _depends_elsewhere(prober, i):
        return Still("unclear", FLAT)
    return Still("unused", UNUSED)


def depends(prober: Prober, i: int) -> bool:
    """Whether the loss changes, beyond its noise, with a leaf that no gradient is given for."""
    base, hidden = prober.audit.bases[0], prober.audit.hidden
    repeats = REPEATS if hidden else 1
    for t in REACHES if base.point[i].size else ():
        move = t * prober.audit.scales[i] * prober.random(base.point[i])
        ends = [[_loss(prober, base, i, side * move) for side in (-1, 1)] for _ in range(repeats)]
        known = [(down, up) for down, up in ends if down is not None and up is not None]
        if len(known) < repeats:
            continue
        changes = np.array([up - down for down, up in known])
        noise = SIGMAS * base.rounding
        if hidden:
            noise = SIGMAS_FEW * float(np.std(changes, ddof=1)) / math.sqrt(repeats)
        if abs(float(changes.mean())) > noise:
            return True
        if not hidden and max(abs(end - base.answer.loss) for end in known[0]) > noise:
            return True  # as far up on both sides
    return False


def _loss(prober: Prober, base: Base, i: int, move: Array) -> float | None:
    """The loss beside a point, None where it is not defined."""
    point = list(base.point)
    point[i] = (wide(point[i]) + move).astype(point[i].dtype)
    answer = prober.calls.near(point)
    return None if answer is None else answer.loss


def _along(prober: Prober, base: Base, i: int, v: Array) -> str:
    """ "slope", "jumps", "noise" or "flat": from the longest step to the shortest that shows it.

    Many jumps look like a slope from afar, so that the shortest steps decide.
    """
    slope = 0.0  # by the last step that showed one beyond rounding
    found, exact, t = "noise", True, LARGEST
    for _ in range(LEVELS):
        h = t * prober.audit.scales[i]
        t /= SHORTER
        ends = [_at(prober, base, i, side * h * v) for side in (-1.0, 1.0)]
        down, up = ends
        if down is None or up is None:
            continue  # not defined there, or the gradient is not 0
        exact = exact and down == up == base.answer.loss
        change, noise, expected = up - down, SIGMAS * base.rounding, abs(slope) * 2 * h
        if slope and expected < 4 * noise:
            break  # steps as short as this show nothing of a slope of that size
        if abs(change) > noise:
            alike = expected / ALIKE <= abs(change) <= expected * ALIKE
            found, slope = "slope" if slope and alike else "noise", change / (2 * h)
        elif slope:
            return "jumps" if down == up else "noise"
    return "flat" if exact else found


def _at(prober: Prober, base: Base, i: int, move: Array) -> float | None:
    """The loss beside a point, None where it is not defined or the gradient is not 0."""
    point = list(base.point)
    point[i] = (wide(point[i]) + move).astype(point[i].dtype)
    answer = prober.calls.near(point)
    return None if answer is None or np.any(answer.grads[i]) else answer.loss


def _depends_elsewhere(prober: Prober, i: int) -> bool:
    """Whether another value of the leaf gives another loss, or a gradient."""
    base = prober.audit.bases[0]
    others = [factor * wide(base.point[i]) for factor in ELSEWHERE]
    others += [size * wide(prober.random(base.point[i])) for size in (1e-3, 1.0)]
    for other in others:
        point = list(base.point)
        point[i] = np.asarray(other).astype(point[i].dtype)
        answer = prober.calls.near(point)
        if answer is None or answer.loss != base.answer.loss or np.any(answer.grads[i]):
            return True
    return False

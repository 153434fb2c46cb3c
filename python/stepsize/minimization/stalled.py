"""Why a line search finds no lower point, by a few values along the gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepsize.arrays import Array, flatten, loss_and_grads, sum_of_squares, unflatten
from stepsize.finder.evaluations import Evaluations, Point
from stepsize.minimization.rates import CHECK

SHARES = (1e-3, 1e-5)  # of the length of the point: the distances looked at
SEEN = 1e4  # roundings of the value: a smaller change tells nothing
APART = 0.5  # a slope so far from that of the gradient is another
CHECKED = f"{CHECK} says which one is wrong, and how"


def cause(seen: Evaluations, point: Point) -> str:
    """What speaks for a gradient of the wrong sign or size, or for a kink; empty where nothing.

    The gradient says that the value changes by t |g|^2 from x to x + t g. Of two distances both
    have to tell the same.
    """
    leaves: list[Array] = flatten(point.x)[0]
    grads: list[Any] = list(seen.structure.spec.flatten_up_to(point.grad))
    size = math.sqrt(sum(sum_of_squares(g) for g in grads if g is not None))
    length = max(math.sqrt(sum(map(sum_of_squares, leaves))), 1.0)
    eps = max(float(np.finfo(leaf.dtype).eps) for leaf in leaves)
    slopes, sides, told = [], [], ""
    for share in SHARES:
        t = share * length / size if 0 < size < math.inf else math.nan
        predicted = t * size * size
        if not predicted > SEEN * eps * abs(point.fun):
            continue
        down, up = (_value(seen, leaves, grads, sign * t) for sign in (-1, 1))
        if not (math.isfinite(down) and math.isfinite(up)):
            continue
        slopes.append((up - down) / (2 * predicted))
        sides.append(min(up, down) - point.fun)
        told = told or (
            f"over a step of {share * length:.2g} along the gradient, by which the value would "
            f"rise by {predicted:.3g}, it changes by {up - point.fun:+.3g}, and by "
            f"{down - point.fun:+.3g} over one against it"
        )
    if len(slopes) < len(SHARES):
        return ""
    if all(abs(slope - 1) < APART for slope in slopes):
        return ""
    if min(sides) > 0:
        return f"{told}: it is a kink, or the gradient is wrong; {CHECKED}"
    if max(slopes) < -APART:
        return f"{told}: the gradient has the wrong sign; {CHECKED}"
    if all(abs(slope - 1) >= APART for slope in slopes):
        return f"{told}: the gradient does not fit the values; {CHECKED}"
    return ""


def _value(seen: Evaluations, leaves: list[Array], grads: list[Any], t: float) -> float:
    """The value at x + t g; NaN where there is none."""
    moved = [
        leaf.copy() if g is None else (leaf + t * g).astype(leaf.dtype)
        for leaf, g in zip(leaves, grads, strict=True)
    ]
    seen.calls += 1
    seen.beside += 1
    try:
        answer = seen.function(unflatten(seen.structure.spec, moved))
        return float(loss_and_grads(answer, "fun_and_grad")[0])
    except (ArithmeticError, ValueError):  # it is not defined there
        return math.nan

"""A few calls that see whether gradients may be wrong, before `check_gradients` is asked.

All leaves move at once, each along its own gradient and by so much that each is to change the loss
alike: a sign that is flipped in one of them shows in the loss of the whole step, however little of
the gradient is its own. Leaves whose gradient is 0 move at random, and the loss has to stay.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepsize.arrays import Array, Nest, ValueAndGrad, flatten, is_narrow
from stepsize.curves import spacing
from stepsize.gradients.audit import norm, scales_of, wide
from stepsize.gradients.calls import Answer, Calls
from stepsize.gradients.checking import checked
from stepsize.gradients.probes import CURVE, second
from stepsize.gradients.results import in_words
from stepsize.schedules import Schedule

STEPS = (1e-3, 0.03)  # lengths in units of a leaf's scale, tried until the loss shows the change
LONGER = 10.0  # times longer steps that a leaf with little gradient may make
ALIKE = 3.0  # times less change than the others' that is still looked at together with them
STRAY = 0.03  # of what the leaves together are to change: how far beyond curvature is suspect
UNITS = 64  # of rounding that a loss may differ by
MOST_SAID = 3  # causes that are told
MIXES = 2  # of the leaves, with other shares of the change


def wrong_gradients(
    value_and_grad: ValueAndGrad, params: Nest, batch: Any, optimizer: Any, *, start: Nest = None
) -> tuple[str, int]:
    """What is wrong with the gradients in words, "" if nothing was seen, and the number of calls.

    Leaves that the optimizer holds at a rate of 0 stay, and what their gradients are is not asked.
    Where training has led to, from `start` if that is given, what gradients go through may be
    saturated, and loss and gradient have few digits: 0 is no sign that a gradient is missing there,
    and leaves pass whose gradients fit at the start.

    Some six calls where the gradients are right; where they look wrong `check_gradients` has the
    last word, which takes some hundred. Parameters, batch and random generators stay as they are.
    """
    leaves = flatten(params)[0]
    if any(is_narrow(leaf.dtype) for leaf in leaves):
        return "", 0
    moving, bounds = [True] * len(leaves), None
    if hasattr(optimizer, "internals"):  # another package's has none
        parts = optimizer.internals.groups
        groups = [parts.table_of(i) for i in range(len(parts.assignment))]
        bounds = getattr(optimizer.internals.options.bounds, "by_leaf", None)
        moving = [isinstance(lr := group.get("lr"), Schedule) or lr != 0 for group in groups]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        try:
            calls = Calls(value_and_grad, params, batch, bounds)
            try:
                suspect, silent = _suspect(calls, moving, idle=start is None)
            finally:
                calls.rewind()
            if not suspect:
                return "", calls.count
            check = checked(Calls(value_and_grad, params, batch, bounds))
            count = calls.count + check.calls
            fits: set[str] = set()
            if check.wrong and start is not None:
                before = checked(Calls(value_and_grad, start, batch, bounds))
                count += before.calls
                fits = {path for path, leaf in before.leaves.items() if leaf.verdict == "fits"}
        except Exception:
            return "", 0  # the function is not defined there, and what is known stays known
    said = {
        path: leaf
        for i, (path, leaf) in enumerate(check.leaves.items())
        if path in check.wrong
        and path not in fits
        and moving[i]
        # Behind a tanh so saturated that its slope has no digits left, the loss goes in jumps.
        and (i not in silent or leaf.cause == "zero")
    }
    return "; ".join(in_words(said)[:MOST_SAID]), count


def _suspect(calls: Calls, moving: list[bool], idle: bool) -> tuple[bool, set[int]]:
    """Whether the loss does not do what the gradients say, and the leaves where they are 0."""
    x = calls.start
    first, again = calls.at(x), calls.at(x)
    noise = _rounding(first, again)
    if first.broken or not math.isfinite(first.loss) or abs(first.loss - again.loss) > noise:
        # What is not finite is told elsewhere, and a noisy loss tells nothing so fast.
        return False, set()
    grads = [None if g is None else wide(g) for g in again.grads]
    scales, rng = scales_of(x), np.random.default_rng(0)
    sizes = [0.0 if g is None else norm(g) for g in grads]
    silent = {i for i, g in enumerate(grads) if g is not None and not sizes[i]}
    # What a leaf changes the loss by, where each of its numbers moves by its scale.
    reach = [
        size * scale * math.sqrt(max(1, leaf.size))
        for size, scale, leaf in zip(sizes, scales, x, strict=True)
    ]
    left = [i for i in range(len(x)) if reach[i] > 0 and moving[i]]
    while left:
        common = float(np.median([reach[i] for i in left]))
        together = [i for i in left if reach[i] >= common / (LONGER * ALIKE)]
        shares = {i: min(1.0, LONGER * reach[i] / common) for i in together}
        for mix in range(MIXES):
            weights = rng.uniform(0.3, 1.0, len(together)) if mix else np.ones(len(together))
            moves: dict[int, Array] = {}
            for i, w in zip(together, weights, strict=True):
                size = common * shares[i] * float(w) / sizes[i] ** 2
                moves[i] = size * np.asarray(grads[i])
            if _strays(calls, again, moves, noise):
                return True, silent
        left = [i for i in left if i not in together]
    for longer in (1.0, LONGER) if idle else ():
        still = {
            i: longer * scales[i] * rng.standard_normal(x[i].shape)
            for i in sorted(silent)
            if x[i].size and moving[i]
        }
        if still and _strays(calls, again, still, noise):
            return True, silent
    return False, silent


def _rounding(one: Answer, other: Answer) -> float:
    single = all(float(np.float32(answer.loss)) == answer.loss for answer in (one, other))
    unit = float(np.finfo(np.float32 if single else np.float64).eps)
    return UNITS * unit * max(abs(one.loss), abs(other.loss))


def _strays(calls: Calls, here: Answer, moves: dict[int, Array], noise: float) -> bool:
    """Whether the loss changes by another amount than the gradients on the way say."""
    moves = {i: _held_inside(calls, i, move) for i, move in moves.items()}
    for t in STEPS:
        ends = [calls.near(_moved(calls, moves, sign * t)) for sign in (-1.0, 1.0)]
        low, high = ends
        if low is None or high is None:
            return False
        products = []
        for answer in (low, here, high):
            given = ((answer.grads[i], move) for i, move in moves.items())
            parts = [0.0 if g is None else float(np.vdot(wide(g), move)) for g, move in given]
            products.append(2 * t * np.array(parts))
        each = np.array(products)
        whole = max(float(np.abs(each[1]).sum()), abs(high.loss - low.loss))
        noise = max(noise, float(spacing([low.loss, high.loss, *calls.losses])[:2].max()))
        if noise > STRAY * whole and t != STEPS[-1]:
            continue  # too short for the digits of the loss
        predicted = (each[0] + 4 * each[1] + each[2]).sum() / 6
        curve = CURVE * abs(float(second(each.sum(axis=1))))
        rest = abs(high.loss - low.loss - float(predicted))
        return rest > STRAY * whole + curve + noise
    return False


def _held_inside(calls: Calls, i: int, move: Array) -> Array:
    """The move without the numbers that it would take out of their bounds."""
    leaf, far = calls.start[i], max(STEPS) * move
    ends = ((wide(leaf) + side * far).astype(leaf.dtype) for side in (-1.0, 1.0))
    low, high = (calls.inside(i, end) for end in ends)
    held: Array = move * (low & high)
    return held


def _moved(calls: Calls, moves: dict[int, Array], t: float) -> list[Array]:
    return [
        (wide(leaf) + t * moves[i]).astype(leaf.dtype) if i in moves else leaf
        for i, leaf in enumerate(calls.start)
    ]

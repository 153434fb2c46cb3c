"""Causes that lie in how a gradient is arranged: axes, rows, parts, draws, and its symmetry."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.gradients.audit import wide
from stepsize.gradients.probes import Probe, Prober

ROWS = 6  # rows that are looked for among the others
DRAWS = 16  # draws of random numbers that a gradient is averaged over
PAIRS = 3  # of directions, for the symmetry of second derivatives
FITS = 0.2  # mismatch, as a share of what is measured, below which a part fits


def changes_of_order(g: Array, pairs: bool = False) -> dict[str, Array]:
    """The gradient with its axes exchanged or reversed, as `kind: words`.

    With `pairs` its last axis holds real and imaginary parts, which is no axis of the leaf.
    """
    found: dict[str, Array] = {}
    axes = range(g.ndim - pairs)
    if pairs:
        words = "the complex conjugate fits: gradient.conj(), the direction of steepest ascent"
        found[f"conjugated: {words}"] = g * np.array([1.0, -1.0])
    for a, b in itertools.combinations(axes, 2):
        if g.shape[a] == g.shape[b] > 1:
            found[f"transposed: np.swapaxes(gradient, {a}, {b}) fits"] = np.swapaxes(g, a, b)
    if g.ndim == 2 and not pairs and g.shape[0] != g.shape[1] and min(g.shape) > 1:
        words = f"transposed: gradient.reshape{g.shape[::-1]}.T fits"
        found[words] = g.reshape(g.shape[::-1]).T
    long = [axis for axis in axes if g.shape[axis] > 2]
    for count in (1, 2):
        for some in itertools.combinations(long, count):
            text = some[0] if count == 1 else some
            found[f"reversed: np.flip(gradient, {text}) fits"] = np.flip(g, some)
    return found


def fits_where_not_zero(prober: Prober, i: int) -> bool:
    """Whether the gradient is right in its elements that are not 0, and wrong in the others."""
    gradient = prober.audit.bases[0].answer.grads[i]
    assert gradient is not None
    return fits_inside(prober, i, wide(gradient) != 0)


def fits_inside(prober: Prober, i: int, mask: Array) -> bool:
    """Whether the gradient is right in some of its elements, and wrong in the others."""
    base = prober.audit.bases[0]
    if mask.all() or not mask.any():
        return False
    inside, outside = [], []
    for _ in range(2):
        v = prober.random(base.point[i])
        inside.append(prober.settled(base, i, v * mask))
        outside.append(prober.settled(base, i, v * ~mask))
    return all(p is not None and not p.off for p in inside) and any(
        p is not None and p.off for p in outside
    )


def rows_are_elsewhere(prober: Prober, i: int) -> int | None:
    """The axis along which the slices are right but in other places, or None."""
    base = prober.audit.bases[0]
    leaf = base.point[i]
    for axis in range(leaf.ndim):
        if leaf.shape[axis] > 2 and _sums_fit(prober, i, axis) and _rows_found(prober, i, axis):
            return axis
    return None


def _sums_fit(prober: Prober, i: int, axis: int) -> bool:
    """Whether the sums over an axis are right: no change of the order alters them."""
    base = prober.audit.bases[0]
    leaf = base.point[i]
    for _ in range(2):
        row = prober.rng.standard_normal([n if k != axis else 1 for k, n in enumerate(leaf.shape)])
        probe = prober.probe(base, i, np.broadcast_to(row, leaf.shape).copy(), "sums")
        if probe is None:
            return False
        # Elements with equal weights add up to as much as with random ones.
        if abs(probe.residual) > probe.bar + FITS * probe.size:
            return False
    return True


def _rows_found(prober: Prober, i: int, axis: int) -> bool:
    """Whether the slopes along single slices are those that other slices of the gradient say."""
    base = prober.audit.bases[0]
    gradient = np.moveaxis(wide(base.answer.grads[i]), axis, 0)  # type: ignore[arg-type]
    n = len(gradient)
    rows = gradient.reshape(n, -1)
    looks = prober.rng.standard_normal((2 if rows.shape[1] > 1 else 1, rows.shape[1]))
    products = math.sqrt(n) * rows @ looks.T  # of every slice with each look
    spread = float(np.abs(products - products.mean(axis=0)).max())
    chosen = prober.rng.permutation(n)[: max(ROWS, min(n, 2 * ROWS))]
    found = moved = 0
    for k in chosen:
        measured, slack = [], []
        for look in looks:
            v = np.zeros_like(rows)
            v[k] = math.sqrt(n) * look
            shaped = np.moveaxis(v.reshape(gradient.shape), 0, axis)
            probe = prober.probe(base, i, shaped, "row")
            if probe is None:
                return False
            measured.append(probe.slope)
            slack.append(probe.bar + 0.02 * spread)
        near = np.all(np.abs(products - measured) <= slack, axis=1)
        found += bool(near.any())
        moved += bool(near.any() and not near[k])
    return found >= 0.8 * len(chosen) and moved >= 2


def not_of_this_draw(prober: Prober, i: int) -> bool:
    """Whether the mismatch is another with each draw, and vanishes in the mean."""
    base, calls = prober.audit.bases[0], prober.calls
    directions = [prober.random(base.point[i]) for _ in range(4)]
    kept = base.answer
    residuals = []
    try:
        for _ in range(DRAWS):
            calls.redraw(base.point)
            base.answer = calls.at(base.point)
            found = [prober.probe(base, i, v) for v in directions]
            if any(probe is None for probe in found):
                return False
            residuals.append([probe.residual for probe in found if probe is not None])
    finally:
        base.answer = kept
        calls.same_draw()
    each = np.array(residuals)
    whole = math.sqrt(float((each**2).mean()))
    left = math.sqrt(float((each.mean(axis=0) ** 2).mean()))
    return whole > 0 and left < 0.5 * whole


def twist(prober: Prober, i: int) -> float | None:
    """How far the derivatives of the gradient are from symmetric, 0 to 1; None if not measured.

    The second derivatives of a function are symmetric, so a gradient of which they are not is the
    gradient of no function.
    """
    base = prober.audit.bases[0]
    sums, differences = [], []
    for _ in range(PAIRS):
        u, v = prober.random(base.point[i]), prober.random(base.point[i])
        first, other = _changes(prober, i, u, v), _changes(prober, i, v, u)
        if first is None or other is None:
            return None
        sums.append(first + other)
        differences.append(first - other)
    whole = float(np.abs(sums).sum() + np.abs(differences).sum())
    return float(np.abs(differences).sum()) / whole if whole else None


def _changes(prober: Prober, i: int, along: Array, other: Array) -> float | None:
    """The second derivative along one direction, then the other, from the gradient given."""

    def look(nodes: list[Array], v: Array, points: list[Array]) -> dict[str, Any]:
        return {"change": float(np.vdot(nodes[2] - nodes[0], other))}

    probe: Probe | None = prober.probe(prober.audit.bases[0], i, along, "twist", look)
    return None if probe is None else probe.features["change"] / (2 * probe.h)

"""What a wrong gradient has to be changed by to fit: each likely cause, tried on the evidence.

Every cause says what the right gradient is, as a linear function of the one that was given. Its
products with the directions are collected while slopes are measured, so that all causes are tried
on the same calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.gradients.all_leaves import from_all
from stepsize.gradients.audit import wide
from stepsize.gradients.probes import CURVE, Probe, Prober, second
from stepsize.gradients.structure import (
    changes_of_order,
    fits_where_not_zero,
    not_of_this_draw,
    rows_are_elsewhere,
    twist,
)

DIRECTIONS = 6  # from each point
EXPLAINED = 0.15  # mismatch that a cause may leave, as a share of what was there
SHARE = 0.05  # how near a factor must come to one that has a name
UNNAMED = 1.5  # the rank of a factor that is no number known
TWISTED = 0.03  # asymmetry of the second derivatives above which there is no such function


@dataclass(frozen=True)
class Cause:
    """A cause by name, the number that goes with it, and the evidence in words."""

    name: str
    words: str
    factor: float = math.nan


@dataclass(frozen=True)
class _Tried:
    cause: Cause
    left: float  # root mean square of the mismatch that it leaves
    rank: float  # its simplicity: what is left counts so many times


def find_cause(prober: Prober, i: int, sizes: dict[int, str]) -> Cause:
    """The likely cause of a gradient that does not fit; `sizes` are lengths found in the batch."""
    here = prober.audit.bases[0]
    gradient = here.answer.grads[i]
    assert gradient is not None
    if not any(np.any(base.answer.grads[i]) for base in prober.audit.bases):
        return ZERO
    probes = _probes(prober, i)
    if not probes:
        return Cause("unknown", UNKNOWN)
    if all(probe.slope == 0 for probe in probes):
        return Cause("unused", "the loss does not depend on this leaf, and the gradient is not 0")
    tried = _simple(
        probes,
        gradient,
        sizes | _own_sizes(gradient),
        prober.calls.unscaled,
        prober.audit.hidden,
    )
    tried += _of_its_function(prober, probes)
    best = min(tried, key=lambda one: one.left * one.rank, default=None)
    if best is None or best.rank == UNNAMED:
        whole = from_all(prober, i)
        if whole is not None:
            return Cause(*whole)
    return _by_structure(prober, i, gradient, probes) if best is None else best.cause


ZERO = Cause("zero", "the gradient is 0 where the loss has a slope")
STALE = "the gradient is of the parameters of an earlier call"
KEPT = (
    "the gradient is the same at other parameters: it is of an earlier call, or of arrays other "
    "than those that the function is given"
)
UNKNOWN = "no known cause fits; look at this leaf's backward pass"
ONE_USE = (
    "a part of the gradient is missing, as where one of several uses of the leaf is left out: "
    "what was given is not the gradient of any function"
)
TERM = (
    "the gradient is that of another function: a term of the loss in which this leaf is used has "
    "no gradient, or a wrong one"
)


def _by_structure(prober: Prober, i: int, gradient: Array, probes: Sequence[Probe]) -> Cause:
    """Causes that ask for calls of their own."""
    if prober.audit.stochastic and not prober.audit.hidden and not_of_this_draw(prober, i):
        return Cause(
            "not_deterministic",
            "the gradient fits on average but not to the same random numbers: it draws others "
            "than the loss",
        )
    if fits_where_not_zero(prober, i):
        return Cause("zero_in_part", "the gradient is right where it is not 0, and 0 elsewhere")
    axis = rows_are_elsewhere(prober, i)
    if axis is not None:
        what = "elements" if gradient.ndim < 2 else f"slices of axis {axis}"
        return Cause("permuted", f"the {what} of the gradient are in another order")
    if len(prober.audit.bases) > 1:
        one, other = (base.answer.grads[i] for base in prober.audit.bases[:2])
        if one is not None and other is not None and np.array_equal(one, other):
            return Cause("stale", KEPT)
    towards = sum(p.slope * p.predicted for p in probes)
    given = sum(p.predicted**2 for p in probes)
    part = given > 0 and towards / given > 0.1
    if gradient.size == 1:
        return Cause("one_use", ONE_USE) if part else Cause("unknown", UNKNOWN)
    twisted = twist(prober, i)
    if twisted is not None and twisted < TWISTED:
        return Cause("missing_term", TERM)
    return Cause("one_use", ONE_USE) if part else Cause("unknown", UNKNOWN)


def _probes(prober: Prober, i: int) -> list[Probe]:
    found = []
    look = partial(features, pairs=prober.calls.complex[i])
    for base in prober.audit.bases:
        leaf = base.point[i]
        for _ in range(DIRECTIONS):
            probe = prober.probe(base, i, prober.random(leaf), look=look)
            if probe is not None:
                found.append(probe)
    return found


def features(
    nodes: list[Array], v: Array, points: list[Array], pairs: bool = False
) -> dict[str, Any]:
    """Products of the direction with every change of the gradient, at the three points."""
    found: dict[str, Any] = {
        "decay": np.array([float(np.vdot(x, v)) for x in points]),
        "l1": np.array([float(np.vdot(np.sign(x), v)) for x in points]),
    }
    changes = [changes_of_order(g, pairs) for g in nodes]
    if not pairs:
        changes = [{**c, **by_scale(g, x)} for c, g, x in zip(changes, nodes, points, strict=True)]
    for name in changes[0]:
        found[name] = np.array([float(np.vdot(change[name], v)) for change in changes])
    for axis, n in enumerate(v.shape[: v.ndim - pairs]):
        if n > 1:
            found[f"shift/{axis}"] = np.array([_correlated(g, v, axis) for g in nodes])
    return found


def by_scale(g: Array, x: Array) -> dict[str, Array]:
    """What a gradient by exp(x) or by log(x) lacks to be that by x, as `kind: words`."""
    x = wide(x)
    return {
        "log_scale: multiply it by exp(x): it is the gradient by exp(x)": g * np.exp(x),
        "log_scale: divide it by x: it is the gradient by log(x)": g / x,
    }


def _correlated(g: Array, v: Array, axis: int) -> Array:
    """The products of v with g rolled by 0, 1, 2 ... along an axis."""
    n = v.shape[axis]
    g = np.moveaxis(g, axis, 0).reshape(n, -1)
    v = np.moveaxis(v, axis, 0).reshape(n, -1)
    both = (np.conj(np.fft.rfft(g, axis=0)) * np.fft.rfft(v, axis=0)).sum(axis=1)
    return np.fft.irfft(both, n)


def _simpson(products: Any) -> Any:
    return (products[0] + 4 * products[1] + products[2]) / 6


def _rms(values: Any) -> float:
    return math.sqrt(float(np.mean(np.square(values))))


def _own_sizes(gradient: Array) -> dict[int, str]:
    found = {n: "the length of an axis: a sum against a mean" for n in gradient.shape if n > 1}
    if gradient.size > 1:
        found.setdefault(gradient.size, "the number of elements: a sum against a mean")
    return found


class _Evidence:
    """Slopes with their noise, and what a cause leaves of the mismatch."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self.slopes = np.array([p.slope for p in probes])
        self.given = np.array([p.predicted for p in probes])
        self.noise = np.array([p.noise for p in probes])
        self.floor = np.array([p.floor for p in probes])
        self.sizes = np.array([p.size for p in probes])
        self.before = _rms(self.slopes - self.given)

    def left(self, products: Any, weight: Any = 1.0) -> tuple[float, bool]:
        """The mismatch left by products of shape (3, probes), and whether it explains."""
        rest = self.slopes - _simpson(products) * weight
        return self.judged(rest, CURVE * np.abs(second(products) * weight))

    def judged(self, rest: Any, curve: Any) -> tuple[float, bool]:
        left = _rms(rest)
        allowed = max(EXPLAINED * self.before, 0.4 * _rms(self.noise))
        # Rounding and curvature may leave a little more than a share of the mismatch.
        within = np.abs(rest) <= self.noise + curve + self.floor + EXPLAINED * self.before
        return left, left <= allowed and bool(np.all(within))


def _simple(
    probes: Sequence[Probe],
    gradient: Array,
    sizes: dict[int, str],
    unscaled: Callable[[Any], Any],
    hidden: bool,
) -> list[_Tried]:
    """The causes that need no more calls and explain the mismatch."""
    seen = _Evidence(probes)
    found: list[_Tried] = []
    given = np.array([p.products for p in probes]).T
    weights = 1 / (seen.noise + seen.floor + 1e-300) ** 2
    weights /= weights.max()
    energy = float(weights @ seen.given**2)
    if energy > 0:
        factor = float(weights @ (seen.slopes * seen.given)) / energy
        left, fits = seen.left(given, factor)
        if fits and factor:
            each = _of_each_point(probes, seen)
            found.append(_factor(factor, left, sizes, {} if hidden else each))
    for name in (key for key in probes[0].features if key not in ("decay", "l1")):
        products = np.array([p.features[name] for p in probes])
        if name.startswith("shift/"):
            found += _shift(seen, products, int(name.split("/")[1]), gradient)
            continue
        left, fits = seen.left(products.T)
        if fits:
            kind, _, words = name.partition(": ")
            found.append(_Tried(Cause(kind, words), left, 1.0))
    for name in ("decay", "l1"):
        products = np.array([p.features[name] for p in probes]).T
        term, rest = _simpson(products), seen.slopes - seen.given
        energy = float(weights @ term**2)
        if not energy:
            continue
        size, rank = float(weights @ (rest * term)) / energy, 1.5 if name == "decay" else 2.5
        left, fits = seen.left(given + size * products)
        if fits and size:
            found.append(_Tried(_term(name, float(unscaled(size))), left, rank))
    return found


def _shift(seen: _Evidence, products: Any, axis: int, gradient: Array) -> list[_Tried]:
    """The shift along an axis that explains best, if one does."""
    n = gradient.shape[axis]
    rests = seen.slopes[:, None] - _simpson(np.moveaxis(products, 1, 0))
    k = int((rests**2).mean(axis=0).argmin())
    left, fits = seen.left(products[:, :, k].T)
    if not fits or not k:
        return []
    back = k if k <= n // 2 else k - n
    what = "elements" if gradient.ndim < 2 else f"slices along axis {axis}"
    words = f"the {what} are shifted: np.roll(gradient, {back}, axis={axis}) fits"
    return [_Tried(Cause("shifted", words, float(back)), left, 1.1)]


def _term(name: str, size: float) -> Cause:
    what, kind = ("x", "weight decay") if name == "decay" else ("sign(x)", "an L1 penalty")
    if size > 0:
        words = f"{size:.3g} * {what} is missing: {kind} in the loss, not in the gradient"
    else:
        words = f"{-size:.3g} * {what} is too much: {kind} in the gradient, not in the loss"
    return Cause("missing_decay" if name == "decay" else "missing_l1", words, size)


def _of_each_point(probes: Sequence[Probe], seen: _Evidence) -> dict[str, float]:
    """The factor that fits best at each of the points alone, where it has the digits."""
    found = {}
    for name in dict.fromkeys(probe.base for probe in probes):
        some = np.array([probe.base == name for probe in probes])
        given, slopes = seen.given[some], seen.slopes[some]
        unsure = [p.noise + p.curve for p in probes if p.base == name]
        if min(_rms(given), _rms(slopes)) > _rms(unsure) / SHARE:
            found[name] = float(given @ slopes / (given @ given))
    return found


def _factor(factor: float, left: float, sizes: dict[int, str], each: dict[str, float]) -> _Tried:
    """A constant factor, with what is known of such a number; `each` are those of the points."""
    here, beside = each.get("here", factor), each.get("beside", factor)
    if abs(here - beside) > SHARE * abs(factor):
        words = f"multiply it by {here:.4g} here, and by {beside:.4g} beside: its length is wrong"
        return _Tried(Cause("factor", words, here), left, UNNAMED)
    size, sign = abs(factor), "-" if factor < 0 else ""
    if abs(size - 1) < SHARE and factor < 0:
        return _Tried(Cause("sign_flipped", "the sign is flipped", -1.0), left, 0.9)
    named: dict[float, str] = {2.0: "as of a square", 0.5: "as of half a square"}
    for n, words in sizes.items():
        named.setdefault(float(n), words)
        named.setdefault(1 / n, words)
    near = min(named, key=lambda known: abs(math.log(size / known)))
    if abs(size / near - 1) < SHARE:
        number = f"{near:g}" if near >= 1 else f"1/{round(1 / near)}"
        words = f"multiply it by {sign}{number} ({named[near]})"
        return _Tried(Cause("factor", words, math.copysign(near, factor)), left, 0.9)
    words = f"multiply it by {factor:.4g}"
    return _Tried(Cause("factor", words, factor), left, UNNAMED)


def _of_its_function(prober: Prober, probes: Sequence[Probe]) -> list[_Tried]:
    """Where the loss is the square root, or the logarithm, of the function differentiated."""
    if prober.audit.hidden or len(prober.audit.bases) < 2:
        return []  # another factor at each point is what tells these from a factor
    losses = {b.name: float(prober.calls.unscaled(b.answer.loss)) for b in prober.audit.bases}
    seen, found = _Evidence(probes), []
    given = np.array([p.products for p in probes]).T
    if min(losses.values()) > 0:
        left, fits = seen.left(given, np.array([1 / (2 * losses[p.base]) for p in probes]))
        if fits:
            words = "divide it by 2 * loss: it is that of the square of the loss"
            found.append(_Tried(Cause("of_function", words), left, 1.0))
    left, fits = seen.left(given, np.array([np.exp(-losses[p.base]) for p in probes]))
    if fits:
        words = "divide it by exp(loss): it is that of exp(loss), of which the loss is the log"
        found.append(_Tried(Cause("of_function", words), left, 1.0))
    return found

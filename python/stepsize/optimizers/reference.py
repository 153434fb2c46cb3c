"""The reference loop in NumPy: for rules without a compiled twin, and the oracle of the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from stepsize import _core
from stepsize.arrays import Array, is_narrow, view_as_real
from stepsize.optimizers import half, quantization
from stepsize.optimizers.constraints import constrain
from stepsize.optimizers.internals import Internals
from stepsize.optimizers.loop import LAST, corrected, decay_share, rate_factor
from stepsize.optimizers.primitives import (
    clamp,
    not_descending,
    outward,
    select,
    sum_of_blocks,
)
from stepsize.optimizers.rule import Rule, rebinds_parameter
from stepsize.optimizers.stats import Sums, extremes
from stepsize.optimizers.transaction import assignment


class State(SimpleNamespace):
    """What a rule sees as ``s``; ``s.m = ...`` writes into the array, as ``s.m[...] = ...``."""

    def __setattr__(self, name: str, value: Any) -> None:
        known = self.__dict__
        if name not in known:
            raise AttributeError(
                f"the state has no {name!r}, it has {', '.join(known) or 'nothing'}; declare an "
                "array in slots, a number in scalars"
            )
        if not isinstance(known[name], np.ndarray):
            known[name] = value
        elif value is not known[name]:
            known[name][...] = value


class _Leaf:
    """One leaf in one step: views of parameter, gradient and state, and the numbers.

    The views are flat, unless the rule asks for shapes.
    """

    def __init__(self, parts: Internals, i: int, gradient: Array, t: int) -> None:
        self.group = parts.groups.assignment[i]
        self.rule = parts.rule_of(i)
        self.leaf = view_as_real(parts.leaves.contiguous[i])
        self.master, self.stochastic = parts.leaves.masters[i], parts.leaves.stochastic[i]
        self.x = half.load_master(self.leaf, self.master)
        self.raw = half.to_float32(view_as_real(gradient))
        self.place, self.t = parts.slots.places[i], t
        arrays = parts.slots.arrays[i]
        self.slots = {name: view_as_real(slot) for name, slot in arrays.items()}
        self.scales = parts.slots.scales[i]
        self.constraint = parts.options.constraint(i)
        bound = parts.leaves.rows.get(i)
        if bound is not None and bound.grad is gradient:
            self.leaf, self.slots = bound.x, dict(bound.slots)
            self.x = bound.x
            self.constraint = self.constraint and self.constraint.of_rows(bound.rows)
        if not self.rule.shaped:
            self.x, self.raw = self.x.reshape(-1), self.raw.reshape(-1)
            self.slots = {name: slot.reshape(-1) for name, slot in self.slots.items()}
        known = {
            name: quantization.dequantize(slot, self.scales.get(name), self.x.dtype)
            for name, slot in self.slots.items()
        }
        self.s = State(**known)
        self.h = parts.groups.evaluate(self.group, t)
        self.kind = self.rule.decay_kind(parts.groups.tables[self.group])
        self.decay = getattr(self.h, "weight_decay", 0.0)

    def store(self) -> None:
        """Write back what was dequantized."""
        if is_narrow(self.leaf.dtype):
            key = quantization.parameter_key(self.t, self.place.leaf) + self.place.tile
            half.store(self.leaf, self.master, self.x, key if self.stochastic else None)
        for k, (name, slot) in enumerate(self.slots.items()):
            if slot.dtype.kind != "f":
                key = quantization.rounding_key(self.t, self.place.leaf, k) + self.place.tile
                quantization.quantize(getattr(self.s, name), slot, self.scales.get(name), key)

    def gradient(self, scale: float, limit: float) -> Array:
        """What the rule sees: scaled, clamped, with coupled decay."""
        pull = self.x * (self.decay if self.kind == "coupled" else 0.0)
        return np.asarray(clamp(self.raw * self.x.dtype.type(scale), limit) + pull)


Blocks = list[tuple[int, tuple[float, ...]]]  # the leaf of each block, and its nine sums


def run(
    parts: Internals,
    grads: Sequence[Array | None],
    scale: float,
    stats: bool,
    blocks: Blocks | None = None,
) -> Sums:
    """One step for all leaves; the sums of squares of gradients, parameters and updates.

    Their terms go to ``blocks``. Where a rule raises, or a signal handler, nothing has changed.
    """
    times = parts.engine.times
    leaves = {
        i: _Leaf(parts, i, gradient, times[i] + 1)
        for i, gradient in enumerate(grads)
        if gradient is not None and gradient.size
    }
    before = _Before(parts, leaves)
    try:
        with np.errstate(all="ignore"):
            return _move(parts, leaves, scale, stats, [] if blocks is None else blocks)
    except BaseException:
        before.restore()
        raise


class _Before:
    """All that a step writes, as it was before."""

    def __init__(self, parts: Internals, leaves: dict[int, _Leaf]) -> None:
        self.parts = parts
        self.arrays: list[Array] = []
        for i, leaf in leaves.items():
            master = parts.leaves.masters[i]
            self.arrays += [leaf.leaf, *leaf.slots.values(), *leaf.scales.values()]
            self.arrays += [] if master is None else [master]
        self.write = assignment(self.arrays, [array.copy() for array in self.arrays])
        kept = [i for i, leaf in leaves.items() if leaf.rule.scalars]
        self.scalars = {i: parts.engine.scalars(i) for i in kept}

    def restore(self) -> None:
        self.write()
        for i, values in self.scalars.items():
            self.parts.engine.set_scalars(i, values)


def _move(
    parts: Internals, leaves: dict[int, _Leaf], scale: float, stats: bool, blocks: Blocks
) -> Sums:
    limit = parts.options.clip_value or math.inf
    _measure(parts, leaves, scale, limit)
    for i, leaf in leaves.items():
        before = leaf.x.copy()
        # The gradient may be the parameter.
        given = leaf.raw.copy() if stats else before
        seen = leaf.gradient(scale, limit)
        seen, h = _looked_at(leaf.rule, leaf, seen)
        share = decay_share(leaf.h) if leaf.kind == "decoupled" else 0.0
        apart = getattr(leaf.h, "cautious_decay", False)
        leaf.x *= 1.0 if apart else 1 - share
        start = leaf.x.copy()
        names = _lend_scalars(parts, i, leaf.s)
        _apply(parts, leaf, seen, h)
        if rebinds_parameter(type(leaf.rule).rule) and np.array_equal(leaf.x, start):
            raise TypeError(
                f"{parts.owner}: rule gives x another array, as x = x - ... does, and the "
                "parameters stay as they are; change x in place: x -= ..., or x[...] = ..."
            )
        if getattr(leaf.h, "cautious", False):
            leaf.x[...] = select(not_descending(start, leaf.x, seen), start, leaf.x)
        if apart:
            decayed = leaf.x - leaf.x.dtype.type(share) * start
            leaf.x[...] = select(outward(start, leaf.x), leaf.x, decayed)
        if leaf.constraint is not None:
            constrain(leaf.x, leaf.constraint, leaf.h.lr)
        leaf.store()
        if leaf.rule.scope is None:
            _keep_scalars(parts, i, leaf.s, names)
        if stats:
            columns = _squares(given), _squares(before), _squares(leaf.x, before)
            blocks += [(i, _in_order(*three)) for three in zip(*columns, strict=True)]
    sums = [0.0] * 9
    for _, row in blocks:
        sums = [total + term for total, term in zip(sums, row, strict=True)]
    return cast(Sums, tuple(sums))


def _looked_at(rule: Rule, leaf: _Leaf, seen: Array) -> tuple[Array, SimpleNamespace]:
    """The gradient and the numbers as the sums over a leaf leave them for its update."""
    corrects = hasattr(leaf.h, "mars_gamma")
    if corrects:
        seen = corrected(seen, getattr(leaf.s, LAST), leaf.h)
    h = leaf.h
    if hasattr(h, "update_clip"):
        factor = rate_factor(seen, getattr(leaf.s, rule.second_moment), h)
        h = SimpleNamespace(**{**vars(h), "lr": h.lr * factor})
    return seen + leaf.x * 0.0 if corrects else seen, h


Squares = tuple[float, float, float]


def _in_order(grad: Squares, param: Squares, update: Squares) -> tuple[float, ...]:
    """The nine sums of a block in the order of `Sums`: the plain ones first."""
    return tuple(one[k] for k in range(3) for one in (grad, param, update))


def _squares(values: Array, before: Array | None = None) -> Iterator[Squares]:
    """The sum of squares of each block, of the values or of their difference, and its extremes."""
    values = values.reshape(-1)
    old = None if before is None else before.reshape(-1)
    for start in range(0, values.size, _core.chunk_size):
        block = values[start : start + _core.chunk_size]
        less = None if old is None else old[start : start + _core.chunk_size]
        moved = block.astype(float) if less is None else block.astype(float) - less.astype(float)
        plain = float(_core.sum_lanes(np.square(moved)))
        yield (plain, *extremes(plain, block, less))


def _matrices(leaf: _Leaf, gradient: Array) -> Iterator[tuple[Array, Array, Any]]:
    """What a rule sees one after another: the leaf, or each of its stacked matrices.

    With ``flatten``, leaves of three axes or more are matrices of their first axis and the rest.
    """
    by_matrix = leaf.rule.by_matrix
    count = (leaf.h.stacked or 0) if by_matrix else 0
    shape = leaf.x.shape[count:]
    seen = (shape[0], -1) if by_matrix and leaf.h.flatten and len(shape) > 2 else shape
    if not count and seen == shape:
        yield leaf.x, gradient, leaf.s
        return
    for index in np.ndindex(leaf.x.shape[:count]):

        def view(array: Any, index: tuple[int, ...] = index) -> Any:
            one = array[(*index, ...)]
            return one.reshape(seen) if one.shape == shape else one

        state = State(**{name: view(slot) for name, slot in vars(leaf.s).items()})
        yield view(leaf.x), view(gradient), state


def _apply(parts: Internals, leaf: _Leaf, gradient: Array, h: SimpleNamespace) -> None:
    for x, g, s in _matrices(leaf, gradient):
        _apply_to(parts, leaf.rule, x, g, s, h)


def _apply_to(parts: Internals, rule: Rule, x: Array, g: Array, s: Any, h: SimpleNamespace) -> None:
    found: Any = rule.rule(x, g, s, h)  # type: ignore[func-returns-value]
    if found is not None:
        raise TypeError(
            f"{parts.owner}: rule returned a {type(found).__name__}, but it has to change x in "
            "place and return nothing: x -= ..., or x[...] = ..."
        )


def _measure(parts: Internals, leaves: dict[int, _Leaf], scale: float, limit: float) -> None:
    """The first pass of two-pass rules, and what they settle, per leaf or for all together."""
    together: dict[int, tuple[int, list[float]]] = {}  # by rule: a leaf, and the sums so far
    for i, leaf in leaves.items():
        if leaf.rule.scope is None:
            continue
        _lend_scalars(parts, i, leaf.s)
        terms = leaf.rule.measure(leaf.x, leaf.gradient(scale, limit), leaf.s, leaf.h)
        alone = leaf.rule.scope == "leaf"
        nothing = (i, [0.0] * (len(terms) + 1))
        _, before = nothing if alone else together.get(id(leaf.rule), nothing)
        columns = zip(before[:-1], terms, strict=True)
        totals = [sum_of_blocks(np.asarray(term, float), total) for total, term in columns]
        totals.append(before[-1] + leaf.x.size)
        if alone:
            _settle(parts, i, leaf.h, totals)
        else:
            together[id(leaf.rule)] = (i, totals)
    for i, totals in together.values():
        # By the first group's numbers, whoever has a gradient.
        first = next(
            k for k in range(len(parts.groups.tables)) if parts.rule.rule_at(k) is leaves[i].rule
        )
        h = parts.groups.evaluate(first, int(parts.engine.step_count) + 1)
        _settle(parts, i, h, totals)


def _settle(parts: Internals, i: int, h: SimpleNamespace, totals: Sequence[float]) -> None:
    """Let the rule turn sums into scalars, with NumPy's numbers: 1 / 0 is infinite, no error."""
    s = SimpleNamespace()
    names = _lend_scalars(parts, i, s)
    for name in names:
        setattr(s, name, np.float64(getattr(s, name)))
    parts.rule_of(i).settle(s, h, [np.float64(total) for total in totals])
    _keep_scalars(parts, i, s, names)


def _lend_scalars(parts: Internals, i: int, s: SimpleNamespace) -> tuple[str, ...]:
    """Put the leaf's scalars beside its state, under their names."""
    names = tuple(parts.rule_of(i).scalars)
    s.__dict__.update(zip(names, parts.engine.scalars(i), strict=True))
    return names


def _keep_scalars(parts: Internals, i: int, s: SimpleNamespace, names: Sequence[str]) -> None:
    if names:
        parts.engine.set_scalars(i, [float(getattr(s, name)) for name in names])

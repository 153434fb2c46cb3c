"""Bounds of parameters, and the proximal step of an L1 penalty: what follows the update of a rule.

Both are settled when an optimizer is made. `constrain` is their definition; ``constrain`` of
cpp/kernels/loop.hpp is its twin, in the pass that updates the parameters.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from stepsize.arrays import (
    Array,
    Nest,
    Structure,
    check_parameters,
    computed,
    is_narrow,
    refuse_complex,
    refuse_masked,
)
from stepsize.optimizers.groups import GroupSpec, is_grouped
from stepsize.optimizers.half import inward, to_float32
from stepsize.optimizers.options import CONSTRAINTS, Options
from stepsize.optimizers.primitives import clamp, select
from stepsize.validation import number

if TYPE_CHECKING:
    from stepsize.optimizers.rule import Rule

FORMS = (
    "bounds must be a pair (low, high), each a number, an array, None for no bound, or a nest of "
    "those like params"
)


class Constraint(NamedTuple):
    """What holds for one leaf.

    Attributes:
        low: A number, or an array of the leaf's shape, in the type that the leaf is computed in.
        high: The same.
        l1: The weight of the penalty.
    """

    low: Array
    high: Array
    l1: float

    def text(self) -> str:
        """In words, an array by its checksum."""
        words = f"({_side_text(self.low)}, {_side_text(self.high)})"
        return f"{words} with l1={self.l1:g}" if self.l1 else words

    def of_rows(self, rows: Array) -> Constraint:
        """The constraint of some rows of the leaf."""
        low, high = (side[rows] if side.ndim else side for side in (self.low, self.high))
        return Constraint(low, high, self.l1)

    @property
    def bounded(self) -> bool:
        """Whether there is a bound."""
        return bool(np.any(self.low > -np.inf) or np.any(self.high < np.inf))


class Constraints:
    """What holds for each leaf, None where nothing does; in the place of ``Options.bounds``.

    Prints as what is alike for equal constraints, which a resumed run compares.
    """

    def __init__(self, by_leaf: Sequence[Constraint | None]) -> None:
        self.by_leaf = tuple(by_leaf)

    def __repr__(self) -> str:
        words = [str(one and one.text()) for one in self.by_leaf]
        return words[0] if len(set(words)) == 1 else f"[{', '.join(words)}]"


def _side_text(side: Array) -> str:
    if side.ndim == 0:
        short, exact = f"{float(side):g}", float(side)
        return short if float(short) == exact else repr(exact)
    return f"<array of shape {side.shape}, {zlib.crc32(side.tobytes()):08x}>"


def _crossed(pair: Any) -> bool:
    """Whether two numbers are no lower and upper bound."""
    return all(isinstance(end, int | float) for end in pair) and pair[0] > pair[1]


def refuse_pairs(owner: str, given: Any, structure: Structure) -> None:
    """Refuse what is two sides by its form and reads as well as one pair for each of two numbers.

    That is so where a leaf has two numbers or a last axis of two, and where there are two leaves.
    Arrays are sides, and so is what says the same either way.
    """
    two = isinstance(given, tuple | list) and len(given) == 2 and all(map(is_pair, given))
    if not two or given[0][1] == given[1][0] or any(map(_crossed, given)):
        return
    transposed = list(zip(*given, strict=True))
    nest = structure.spec.type
    if len(structure.leaves) == 1:
        if structure.leaves[0].shape[-1:] != (2,) or None in (*given[0], *given[1]):
            return  # it can be no sides
        sides, pairs = (
            ", ".join(f"np.array({list(side)})" for side in one) for one in (given, transposed)
        )
    else:
        if len(structure.leaves) != 2 or any(type(side) is not nest for side in given):
            return
        if nest not in (tuple, list):  # a type of one's own has a value for each leaf
            return
        sides, pairs = (
            ", ".join(str(nest(map("np.array({})".format, side))) for side in one).replace("'", "")
            for one in (given, transposed)
        )
    raise ValueError(
        f"{owner}: bounds={given!r:.80} may mean a lower and an upper side, or a pair (low, high) "
        f"for each of two; give arrays, for the sides ({sides}), for the pairs ({pairs})"
    )


def is_pair(side: Any) -> bool:
    kinds = (int, float, np.number, type(None))
    return (
        isinstance(side, tuple | list)
        and len(side) == 2
        and all(isinstance(number, kinds) for number in side)
    )


def constrain(x: Array, one: Constraint, lr: float) -> None:
    """The steps that follow an update at rate `lr`, in place: soft threshold, then bounds."""
    if one.l1:
        # In the type of the numbers, into which the product of two doubles is rounded once.
        threshold = x.dtype.type(lr * one.l1)
        if threshold > 0:
            x[...] = x - clamp(x, threshold)
    low, high = np.reshape(one.low, _shape(one.low, x)), np.reshape(one.high, _shape(one.high, x))
    x[...] = select(low > x, low, x)
    x[...] = select(high < x, high, x)


def _shape(side: Array, x: Array) -> tuple[int, ...]:
    return x.shape if side.ndim else ()


def overrides_of(params: Nest, specs: Sequence[GroupSpec]) -> list[Mapping[str, Any]]:
    """What each group has been given of its own, in the order of their tables."""
    if is_grouped(params):
        return list(params)
    return [{}, *(spec.overrides for spec in specs)]


def resolve(
    rule: type[Rule],
    owner: str,
    options: Options,
    structure: Structure,
    overrides: Sequence[Mapping[str, Any]],
    groups: tuple[Sequence[int], Sequence[Mapping[str, Any]]],
    *,
    starts: bool = True,
) -> Options:
    """The options with bounds and penalties by leaf; an error names what does not fit.

    With ``starts=False``, parameters may lie outside now: the next step moves them inside.
    """
    own = [name for name in CONSTRAINTS if name not in rule.fields]
    everywhere = {name: getattr(options, name) for name in own}
    settings = [
        {"bounds": None, "l1": 0.0, **everywhere, **{k: each[k] for k in own if k in each}}
        for each in overrides
    ]
    for each in settings:
        each["l1"] = number(f"{owner}: l1", each["l1"], 0.0)
    if all(each["bounds"] is None and each["l1"] == 0 for each in settings):
        return options
    check_parameters(structure.leaves, structure.paths, owner)
    assignment, tables = groups
    found: list[Constraint | None] = []
    for i, group in enumerate(assignment):
        sides = _Sides(owner, settings[group]["bounds"], structure, i)
        l1 = settings[group]["l1"]
        if l1:
            path, dtype = structure.paths[i], structure.leaves[i].dtype
            refuse_complex(owner, path, dtype, "an L1 penalty is of real numbers; leave l1 out")
            _check_l1(rule, owner, tables[group], l1)
        one = sides.constraint(l1, starts)
        if one is not None and one.bounded:
            _check_rule(rule, owner)
        found.append(one)
    return replace(options, bounds=Constraints(found) if any(found) else None)


def for_numbers(
    rule: type[Rule], owner: str, options: Options, values: Mapping[str, Any]
) -> list[float]:
    """The bounds of a function's arrays, a lower and an upper one in each precision, or nothing."""
    given, l1 = options.bounds, number(f"{owner}: l1", options.l1, 0.0)
    if l1:
        _check_l1(rule, owner, values, l1)
    if given is None:
        return [-math.inf, math.inf] * 2 if l1 else []
    sides = given if isinstance(given, tuple | list) else ()
    if any(isinstance(side, list | tuple) or np.ndim(side) for side in sides):
        raise ValueError(
            f"{owner}: bounds must be numbers here, got {given!r:.80}; for arrays call "
            "np.clip(params, low, high, out=params) after it"
        )
    _check_rule(rule, owner)
    found = []
    for dtype in (np.float32, np.float64):
        structure = Structure({"params": np.empty(0, dtype)})
        one = _Sides(owner, given, structure, 0).constraint(0.0)
        found += [-math.inf, math.inf] if one is None else [float(one.low), float(one.high)]
    return found


def _check_rule(rule: type[Rule], owner: str) -> None:
    """Refuse bounds where what the user reads would leave them."""
    if rule.needs_closure:
        raise ValueError(
            f"{owner}: bounds are not possible with a line search, which looks at points outside; "
            "give another rule, or use scipy.optimize.minimize(method='L-BFGS-B')"
        )
    if hasattr(rule, "averaged"):
        raise TypeError(
            f"{owner}: bounds are not possible where the answer is an average of points, some of "
            "which no bound holds; give another rule, such as AdamW"
        )


def _check_l1(rule: type[Rule], owner: str, values: Mapping[str, Any], l1: float) -> None:
    """Refuse a penalty where the soft threshold by lr * l1 would not be its proximal step."""
    plain = rule.scope is None and not rule.shaped and not rule.adapts_lr
    proximal = rule.proximal
    if proximal is None:
        proximal = rule.decay_kind(values) == "decoupled"
    if hasattr(rule, "averaged") or not (plain and proximal):
        raise ValueError(
            f"{owner}: l1={l1:g} is not possible for this rule: the proximal step of the penalty "
            "would have to know how the rule scales each coordinate; give SGD, or a rule whose "
            "weight decay is decoupled, such as AdamW"
        )


def bounds_of_leaf(owner: str, given: Any, params: Structure, i: int) -> Constraint | None:
    """The bounds of one leaf of a nest in the forms that optimizers take; it lies inside."""
    return _Sides(owner, given, params, i).constraint(0.0)


class _Sides:
    """The bounds of one leaf, on their way from what was given."""

    def __init__(self, owner: str, given: Any, structure: Structure, i: int) -> None:
        self.owner, self.structure, self.i = owner, structure, i
        self.path, self.leaf = structure.paths[i], structure.leaves[i]
        if hasattr(given, "lb") and hasattr(given, "ub"):
            given = (given.lb, given.ub)
        if given is not None and not (isinstance(given, tuple | list) and len(given) == 2):
            raise ValueError(f"{owner}: {FORMS}, got {given!r:.80}")
        refuse_pairs(owner, given, structure)
        self.given: Any = (None, None) if given is None else given

    def constraint(self, l1: float, starts: bool = True) -> Constraint | None:
        least, most = (self._of_leaf(k) for k in (0, 1))
        if least is None and most is None:
            infinite = np.array(np.inf, computed(self.leaf.dtype))
            return Constraint(np.array(-infinite), infinite, l1) if l1 else None
        refuse_complex(
            self.owner,
            self.path,
            self.leaf.dtype,
            "bounds are of real numbers; hold its real and imaginary parts in two arrays",
        )
        low, high = self._array(0, least), self._array(1, most)
        self._check_order(low, high)
        inner: tuple[Any, ...] = (
            inward(low, self.leaf.dtype.name, 1),
            inward(high, self.leaf.dtype.name, -1),
        )
        if np.any(inner[0] > inner[1]):
            raise ValueError(
                f"{self.owner}: no {self.leaf.dtype} lies between the bounds of {self.path}, "
                f"{np.ravel(low)[0]!s} and {np.ravel(high)[0]!s}; set them apart"
            )
        if starts:
            self._check_start(low, high)
        alike = all(side.size and (side == side.flat[0]).all() for side in inner)
        shape = () if alike else self.leaf.shape
        least, most = (
            np.array(side.flat[0] if alike else np.broadcast_to(side, shape), order="C")
            for side in inner
        )
        return Constraint(least, most, l1)

    def _of_leaf(self, k: int) -> Any:
        """What was given for a side of this leaf."""
        side = self.given[k]
        several = len(self.structure.leaves) > 1
        if isinstance(side, dict) or (isinstance(side, list | tuple) and several):
            try:
                return list(self.structure.spec.flatten_up_to(cast(Any, side)))[self.i]
            except ValueError:
                raise ValueError(
                    f"{self.owner}: {('low', 'high')[k]} of bounds must have the nesting of "
                    f"params, got {side!r:.80}"
                ) from None
        return side

    def _array(self, k: int, side: Any) -> Array:
        """A side as double precision numbers that fit the leaf."""
        name = f"{('low', 'high')[k]} of the bounds of {self.path}"
        if side is None:
            return np.array((-np.inf, np.inf)[k])
        refuse_masked(self.owner, name, side, "give -inf or inf where there is no bound")
        try:
            array = np.asarray(side)
            if array.dtype.kind not in "fiu" and not is_narrow(array.dtype):
                raise TypeError
            wide = np.asarray(to_float32(array), np.float64)
            np.broadcast_to(wide, self.leaf.shape)
        except (TypeError, ValueError):
            raise ValueError(
                f"{self.owner}: {name} must be real numbers that fit its shape {self.leaf.shape}, "
                f"got {side!r:.80}"
            ) from None
        if np.isnan(wide).any():
            raise ValueError(
                f"{self.owner}: {name} holds NaN, got {side!r:.80}; give None or inf for no bound"
            )
        return wide

    def _check_order(self, low: Array, high: Array) -> None:
        least, most = np.broadcast_arrays(low, high)
        crossed = least > most
        if crossed.any():
            raise ValueError(
                f"{self.owner}: {int(crossed.sum())} lower bounds of {self.path} lie above the "
                f"upper ones, the first {least[crossed][0]:g} above {most[crossed][0]:g}; "
                "exchange them"
            )
        if np.any(least == np.inf) or np.any(most == -np.inf):
            raise ValueError(
                f"{self.owner}: the bounds of {self.path} leave no number, a lower one is inf or "
                "an upper one -inf; give None for no bound"
            )

    def _check_start(self, low: Array, high: Array) -> None:
        """Refuse a start outside; one at a bound as its dtype rounds it counts as inside."""
        x = to_float32(self.leaf)
        with np.errstate(over="ignore"):
            least, most = (to_float32(side.astype(self.leaf.dtype)) for side in (low, high))
        outside = (x < least) | (x > most)
        if outside.any():
            place = tuple(int(k) for k in np.argwhere(outside)[0])
            raise ValueError(
                f"{self.owner}: {int(outside.sum())} of {x.size} elements of {self.path} start "
                f"outside of the bounds, the first {x[place]:g} at {list(place)}; start inside, "
                f"np.clip({self.path}, low, high, out={self.path})"
            )

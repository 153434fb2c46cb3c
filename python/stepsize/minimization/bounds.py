"""Bounds of `minimize`, in the forms that people write, as arrays of the shape of each leaf."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize.arrays import Array, Nest, Structure, refuse_complex, refuse_masked, unflatten
from stepsize.optimizers.constraints import is_pair, refuse_pairs

FORMS = (
    "bounds must be a tuple (low, high), each a number, an array, a nest like x0 or None, a list "
    "or tuple of pairs, one for each number of x0, or SciPy's Bounds"
)


class Bounds:
    """A lower and an upper bound for each number of a nest, infinite where there is none."""

    def __init__(self, given: Any, x: Nest) -> None:
        self._structure = Structure(x)
        for path, leaf in zip(self._structure.paths, self._structure.leaves, strict=True):
            cure = "bounds are of real numbers; search its real and imaginary parts, as two arrays"
            refuse_complex("minimize", f"{path} of x0", leaf.dtype, cure)
        low, high = _sides(given, self._structure)
        self.low = [self._side("low", low, i) for i in range(len(self._structure.leaves))]
        self.high = [self._side("high", high, i) for i in range(len(self._structure.leaves))]
        places = zip(
            self._structure.paths, self._structure.leaves, self.low, self.high, strict=True
        )
        for path, leaf, least, most in places:
            _check(path, leaf, least, most)

    def _side(self, name: str, given: Any, i: int) -> Array:
        leaf, path = self._structure.leaves[i], self._structure.paths[i]
        side = given
        if isinstance(side, dict) or (isinstance(side, list | tuple) and len(self.paths) > 1):
            try:
                side = list(self._structure.spec.flatten_up_to(given))[i]
            except ValueError:
                raise ValueError(
                    f"minimize: {name} of bounds must have the nesting of x0, got {side!r:.80}"
                ) from None
        if side is None:
            side = -np.inf if name == "low" else np.inf
        cure = "give -inf or inf where there is no bound"
        refuse_masked("minimize", f"{name} of bounds", side, cure)
        try:
            array = np.asarray(side)
            if array.dtype.kind not in "fiu":
                raise TypeError
            return np.broadcast_to(array.astype(leaf.dtype), leaf.shape)
        except (TypeError, ValueError):
            raise ValueError(
                f"minimize: {name} of bounds must be real and fit {path} of shape {leaf.shape}, "
                f"got {side!r:.80}"
            ) from None

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of the leaves."""
        return self._structure.paths

    def sides(self) -> tuple[Nest, Nest]:
        """The lower and the upper bounds as nests, as optimizers take them."""
        spec = self._structure.spec
        return unflatten(spec, self.low), unflatten(spec, self.high)

    def largest(self, i: int, x: Array, g: Array) -> float:
        """The largest component of the projected gradient of a leaf, P(x - g) - x."""
        moved = np.clip(x - g, self.low[i], self.high[i]) - x
        return float(np.abs(moved).max(initial=0.0))


def _sides(given: Any, structure: Structure) -> tuple[Any, Any]:
    if hasattr(given, "lb") and hasattr(given, "ub"):
        return given.lb, given.ub
    single = len(structure.leaves) == 1
    if isinstance(given, tuple) and len(given) == 2:
        refuse_pairs("minimize", given, structure)
        if not (single and all(map(is_pair, given)) and not _are_sides(given, structure.leaves[0])):
            return given
    if isinstance(given, list | tuple) and single:
        leaf = structure.leaves[0]
        if len(given) == leaf.size and all(np.shape(_pair(pair)) == (2,) for pair in given):
            pairs = [_pair(pair) for pair in given]
            low = [-np.inf if least is None else least for least, _ in pairs]
            high = [np.inf if most is None else most for _, most in pairs]
            return np.reshape(low, leaf.shape), np.reshape(high, leaf.shape)
    raise ValueError(f"minimize: {FORMS}, got {given!r:.80}")


def _are_sides(given: Any, leaf: Array) -> bool:
    """Whether two lists of two numbers fit a leaf as its lower and its upper bounds."""
    return leaf.shape[-1:] == (2,) and None not in (*given[0], *given[1])


def _pair(pair: Any) -> Any:
    return tuple(pair) if isinstance(pair, list | tuple | np.ndarray) else ()


def _check(path: str, leaf: Array, low: Array, high: Array) -> None:
    """Refuse bounds that leave no room, and a start outside of them."""
    if np.isnan(low).any() or np.isnan(high).any():
        raise ValueError(f"minimize: bounds of {path} hold NaN; give None or inf for no bound")
    crossed = low > high
    if crossed.any():
        place = np.argwhere(crossed)[0]
        raise ValueError(
            f"minimize: {int(crossed.sum())} lower bounds of {path} lie above the upper ones, the "
            f"first {low[tuple(place)]:g} above {high[tuple(place)]:g} at {place.tolist()}; "
            "exchange them"
        )
    outside = (leaf < low) | (leaf > high)
    if outside.any():
        place = np.argwhere(outside)[0]
        raise ValueError(
            f"minimize: {int(outside.sum())} of {leaf.size} numbers of x0 ({path}) lie outside of "
            f"the bounds, the first {leaf[tuple(place)]:g} at {place.tolist()}; start inside, "
            "np.clip(x0, low, high)"
        )

"""Memory of arrays: dtypes, packing into one buffer, and what cannot be updated in place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from stepsize import _core
from stepsize.arrays.parts import COMPLEX, UNMASK, as_numpy, refuse_masked, view_as_real
from stepsize.arrays.tree import Structure, flatten, unflatten
from stepsize.arrays.types import Array, Nest

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LEAST_SUM = 1e-280  # below it squares have been lost to underflow
_NARROW = ("float16", "bfloat16")  # the second one is a dtype of ml_dtypes


def is_narrow(dtype: Any) -> bool:
    """Whether numbers of the dtype have two bytes and are computed with in float32."""
    return dtype.name in _NARROW and bool(dtype.isnative)


def computed(dtype: Any) -> np.dtype[Any]:
    """The dtype that numbers of this one are computed in."""
    return np.dtype(np.float32) if is_narrow(dtype) else np.dtype(dtype)


def check_dtype(leaf: Any, path: str, owner: str) -> None:
    """Refuse what is not an array of floats of two, four or eight bytes, or of complex numbers."""
    if not isinstance(leaf, np.ndarray):
        cure = "convert it with np.array(..., np.float32)"
        if isinstance(leaf, Iterator) or type(leaf).__module__.partition(".")[0] == "torch":
            cure = "for a model of PyTorch take the optimizers of stepsize.interop.torch"
        raise TypeError(
            f"{owner}: parameter {path} is a {type(leaf).__name__}, expected a NumPy array or a "
            f"nest of them; {cure}"
        )
    refuse_masked(owner, f"parameter {path}", leaf, UNMASK)
    if leaf.dtype not in (*FLOATS, *COMPLEX) and not is_narrow(leaf.dtype):
        nearest = "complex64" if leaf.dtype.kind == "c" else "float32"
        raise TypeError(
            f"{owner}: {path} has dtype {leaf.dtype}, expected float32, float64, complex64, "
            f"complex128, float16 or bfloat16; convert it with .astype(np.{nearest})"
        )


def refuse_same_names(paths: Sequence[str], owner: str) -> None:
    """Refuse two leaves of one name, as in ``{"a/b": x, "a": {"b": y}}``: one would be lost."""
    if len(set(paths)) < len(paths):
        path = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(
            f"{owner}: two arrays are both named {path}, but states and checkpoints go by name; "
            "rename a key"
        )


def check_parameters(leaves: Sequence[Array], paths: Sequence[str], owner: str) -> None:
    """Refuse leaves that cannot be updated in place: wrong type, read-only, or sharing memory."""
    if not leaves:
        raise ValueError(f"{owner}: params holds no array; give at least one")
    refuse_same_names(paths, owner)
    for leaf, path in zip(leaves, paths, strict=True):
        check_dtype(leaf, path, owner)
        if not leaf.flags.writeable:
            raise ValueError(
                f"{owner}: {path} is read-only, but parameters are updated in place; pass a copy"
            )
    check_apart(leaves, paths, owner)


def _described(path: str, leaf: Any) -> str:
    return path if isinstance(leaf, np.ndarray) else f"{path} ({type(leaf).__name__})"


def check_alike(structure: Structure, other: Structure, owner: str) -> None:
    """Refuse leaves that differ from those of a structure in name, shape or dtype."""
    if structure.paths != other.paths:
        raise ValueError(
            f"{owner}: expected the leaves {', '.join(structure.paths)}, got "
            f"{', '.join(map(_described, other.paths, other.leaves)) or 'none'}"
        )
    for path, here, there in zip(structure.paths, structure.leaves, other.leaves, strict=True):
        check_dtype(there, path, owner)
        if (here.shape, here.dtype) != (there.shape, there.dtype):
            raise ValueError(
                f"{owner}: {path} must have shape {here.shape} and dtype {here.dtype}, got "
                f"{there.shape} and {there.dtype}"
            )


def check_apart(leaves: Sequence[Array], paths: Sequence[str], owner: str) -> None:
    """Refuse leaves that share memory with themselves or with each other."""
    bounds = []
    for i, leaf in enumerate(leaves):
        if _overlaps_itself(leaf):
            raise ValueError(
                f"{owner}: {paths[i]} overlaps itself (strides {leaf.strides} for shape "
                f"{leaf.shape}); pass a copy"
            )
        if leaf.size:
            low, high = np.lib.array_utils.byte_bounds(leaf)
            bounds.append((low, high, i))
    bounds.sort()
    tangle: list[int] = []  # leaves that may lie between each other's elements
    top = 0
    for low, high, i in bounds:
        if low >= top:
            _check_tangle(tangle, leaves, paths, owner)
            tangle = []
        tangle.append(i)
        top = max(top, high)
    _check_tangle(tangle, leaves, paths, owner)


def _check_tangle(tangle: Sequence[int], leaves: Sequence[Array], paths: Any, owner: str) -> None:
    """Refuse the first leaf that shares memory with one before it; linear in the elements."""
    if len(tangle) < 2:
        return
    chosen = [leaves[i] for i in tangle]
    bounds = [np.lib.array_utils.byte_bounds(leaf) for leaf in chosen]
    start, end = bounds[0][0], max(high for _, high in bounds)
    # The map of the memory has one place for every unit in which all of them lie.
    strides = [stride for leaf in chosen for stride in (leaf.itemsize, *leaf.strides)]
    unit = math.gcd(*(low - start for low, _ in bounds), *strides)
    taken = np.zeros((end - start) // unit, np.bool_)
    for k, (i, leaf) in enumerate(zip(tangle, chosen, strict=True)):
        shape = (*leaf.shape, leaf.itemsize // unit)
        steps = (*(abs(stride) // unit for stride in leaf.strides), 1)
        first = taken[(bounds[k][0] - start) // unit :]
        places = np.lib.stride_tricks.as_strided(first, shape, steps)
        if places.any():
            other = next(o for o in tangle[:k] if np.shares_memory(leaf, leaves[o]))
            raise ValueError(
                f"{owner}: {paths[i]} overlaps {paths[other]} in memory, so one step would update "
                "it twice; pass each array once, or a copy"
            )
        places[...] = True


def _overlaps_itself(leaf: Array) -> bool:
    lengths = [
        (abs(stride), n) for stride, n in zip(leaf.strides, leaf.shape, strict=True) if n > 1
    ]
    if leaf.size == 0 or leaf.flags.c_contiguous or leaf.flags.f_contiguous:
        return False
    reach = leaf.itemsize
    for stride, n in sorted(lengths):
        if stride < reach:
            # Rare: interleaved strides may still be apart, so count the distinct addresses.
            return _distinct_offsets(leaf) < leaf.size
        reach = stride * (n - 1) + reach
    return False


def _distinct_offsets(leaf: Array) -> int:
    offsets = np.zeros((), np.int64)
    for stride, n in zip(leaf.strides, leaf.shape, strict=True):
        offsets = np.add.outer(offsets, stride * np.arange(n))
    return int(np.unique(offsets).size)


def pack(params: Nest) -> Nest:
    """The same nest as views into one aligned buffer per dtype, with the same values.

    Leaves that lie side by side are updated as one span, and packed gradients too make the fastest
    step for many small arrays. The nest that was given is left as it is.

    Args:
        params: A nest of arrays of any shapes, of float32, float64, complex64, complex128, float16
            or bfloat16.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> packed = ss.pack({"w": np.ones((2, 3)), "b": np.zeros(3)})
        >>> packed["w"].base is packed["b"].base
        True
    """
    leaves, paths, spec = flatten(params)
    for leaf, path in zip(leaves, paths, strict=True):
        check_dtype(leaf, path, "pack")
    views: list[Array | None] = [None] * len(leaves)
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
        chosen = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
        total = sum(leaves[i].nbytes for i in chosen)
        buffer = _core.allocate(total).view(dtype)
        start = 0
        for i in chosen:
            view = buffer[start : start + leaves[i].size].reshape(leaves[i].shape)
            view[...] = leaves[i]
            views[i] = view
            start += leaves[i].size
    return unflatten(spec, views)


def norm(leaves: Iterable[Array]) -> float:
    """The Euclidean norm over all of them, also where their squares leave the range of double."""
    known = [view_as_real(as_numpy(leaf)) for leaf in leaves]
    total = sum(map(sum_of_squares, known))
    if LEAST_SUM <= total < math.inf or math.isnan(total):
        return math.sqrt(total)
    top = max((float(np.abs(leaf).max(initial=0)) for leaf in known), default=0.0)
    if top == 0 or not math.isfinite(top):
        return math.sqrt(total)
    unit = math.ldexp(1.0, min(max(math.frexp(top)[1], -1020), 1020))
    scaled = (np.asarray(leaf, np.float64) * (1 / unit) for leaf in known)
    return unit * math.sqrt(sum(map(sum_of_squares, scaled)))


def sum_of_squares(array: Array) -> float:
    """The sum of the squares in double precision, the same bits on every machine."""
    array = view_as_real(as_numpy(array))
    return float(_core.sum_of_squares(np.require(array, computed(array.dtype), ["C", "A"])))

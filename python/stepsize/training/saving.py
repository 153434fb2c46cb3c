"""Saving and loading parameters and optimizer in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from stepsize.arrays import Nest, check_dtype, copy, flatten, refuse_same_names
from stepsize.optimizers.optimizer import Optimizer
from stepsize.serialization import nested
from stepsize.validation import truth

KIND = "parameters and optimizer"


class Loaded(NamedTuple):
    """What a load with ``strict=False`` found, by the names of leaves."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # here and not in the file: left as they are
    unexpected: tuple[str, ...]  # in the file and not here: not used


def save(
    path: nested.Path,
    params: Nest,
    optimizer: Optimizer | None = None,
    *,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write parameters and optimizer to one file, whole or not at all.

    Steps of the optimizer in other threads wait while both are copied.

    Args:
        path: the file.
        params: a nest of arrays.
        optimizer: its state goes along; None writes the parameters alone.
        extra: numbers, text, arrays and nests of them to keep beside; `load` does not look at it.

    Example:
        >>> import os, tempfile, numpy as np, stepsize as ss
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> params = {"w": np.ones(3)}
        >>> opt = ss.Adam(params)
        >>> ss.save(path, params, opt)
        >>> params["w"][:] = 7
        >>> ss.load(path, params, opt)
        >>> params["w"]
        array([1., 1., 1.])
    """
    _check_path("save", path)
    if params is None:
        raise TypeError(
            "save: params is None; give the nest of arrays to save, or write an optimizer alone by "
            "optimizer.save(path)"
        )
    if optimizer is not None and not hasattr(optimizer, "state_dict"):
        raise TypeError(
            "save: optimizer must be the optimizer whose state goes along, or None, got "
            f"{optimizer!r:.80}; what else is to be kept goes into extra="
        )
    leaves, paths, _ = flatten(params)
    refuse_same_names(paths, "save")
    for leaf, name in zip(leaves, paths, strict=True):
        check_dtype(leaf, name, "save")
    contents: dict[str, Any] = {}
    if optimizer is None:
        contents["params"] = named(params)
    else:
        with _held(optimizer):  # both after the same step, whatever other threads do
            contents |= {"params": named(copy(params)), "optimizer": optimizer.state_dict()}
    if extra is not None:
        contents["extra"] = extra
    nested.dump(path, KIND, contents)


@overload
def load(
    path: nested.Path,
    params: Nest,
    optimizer: Optimizer | None = None,
    *,
    strict: Literal[True] = True,
) -> None: ...
@overload
def load(path: nested.Path, params: Nest, *, strict: Literal[False]) -> Loaded: ...
def load(
    path: nested.Path, params: Nest, optimizer: Optimizer | None = None, *, strict: bool = True
) -> Loaded | None:
    """Load parameters and optimizer from a file of `save`, or from the checkpoint of a run.

    Args:
        path: the file.
        params: arrays of the names, shapes and dtypes that were saved.
        optimizer: one of the same rule, groups and options; None loads the parameters alone.
        strict: False loads the leaves that are both in the file and in ``params``, for a model that
            has gained or lost some, and returns their names; shapes and dtypes must still agree. An
            optimizer's state has no such choice, as in torch: it is loaded whole or made anew.

    Raises:
        CheckpointError: the file is damaged or does not fit; then nothing has changed.

    Example:
        >>> import os, tempfile, numpy as np, stepsize as ss
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> ss.save(path, {"body": np.ones(2), "old": np.ones(5)})
        >>> params = {"body": np.zeros(2), "head": np.zeros(3)}
        >>> ss.load(path, params, strict=False)
        Loaded(loaded=('body',), missing=('head',), unexpected=('old',))
    """
    _check_path("load", path)
    if optimizer is not None and not hasattr(optimizer, "load_state_dict"):
        raise TypeError(
            "load: optimizer must be the optimizer that takes the state over, or None, got "
            f"{optimizer!r:.80}"
        )
    if not truth("load: strict", strict) and optimizer is not None:
        raise ValueError(
            "load: strict=False loads parameters alone, since the optimizer's state is of all of "
            "them; leave the optimizer out, and go on with one made anew over params"
        )
    leaves, paths, _ = flatten(params)
    if not leaves:
        raise ValueError("load: params holds no array; give at least one")
    for leaf, name in zip(leaves, paths, strict=True):
        check_dtype(leaf, name, "load")
    refuse_same_names(paths, "load")
    contents = nested.load(path, KIND, "run")
    with nested.contents_of(path):
        saved = contents["params"]
        if not isinstance(saved, Mapping):
            raise ValueError("its parameters are missing")
        chosen = [i for i, path in enumerate(paths) if strict or path in saved]
        found = saved if strict else {path: saved[path] for path in paths if path in saved}
        if not chosen:
            raise ValueError(f"it holds none of the parameters {', '.join(paths[:5])}")
        leaves, names = [leaves[i] for i in chosen], [paths[i] for i in chosen]
        check_params(found, leaves, names)
        if optimizer is not None:
            if "optimizer" not in contents:
                raise ValueError("it holds parameters alone; leave the optimizer out")
            optimizer.load_state_dict(contents["optimizer"])
    for leaf, name in zip(leaves, names, strict=True):
        np.copyto(leaf, found[name])
    if strict:
        return None
    missing = tuple(path for path in paths if path not in saved)
    return Loaded(tuple(names), missing, tuple(name for name in saved if name not in paths))


def _held(optimizer: Any) -> AbstractContextManager[Any]:
    """A block in which no other thread makes a step."""
    parts = getattr(optimizer, "internals", None)
    return nullcontext() if parts is None else parts.engine


def _check_path(owner: str, path: Any) -> None:
    """Refuse parameters in the place of the path."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(
            f"{owner}: path must be the path of a file, got {path!r:.80}; it comes first, the "
            "parameters second"
        )


def named(params: Nest) -> dict[str, Any]:
    """The leaves by path."""
    leaves, paths, _ = flatten(params)
    return dict(zip(paths, leaves, strict=True))


def check_params(saved: Mapping[str, Any], leaves: Sequence[Any], paths: Sequence[str]) -> None:
    """Refuse saved parameters whose names, shapes or dtypes differ from these leaves."""
    if set(saved) != set(paths):
        odd = sorted(set(saved) ^ set(paths))
        raise ValueError(f"its parameters differ from this model's in {', '.join(odd[:5])}")
    for leaf, path in zip(leaves, paths, strict=True):
        found = saved[path]
        if not leaf.flags.writeable:
            raise ValueError(f"its parameter {path} cannot be read into a read-only array")
        if not isinstance(found, np.ndarray):
            raise ValueError(f"its parameter {path} is {found!r}, not an array")
        if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
            raise ValueError(
                f"its parameter {path} is {found.dtype}{list(found.shape)}, "
                f"this model's is {leaf.dtype}{list(leaf.shape)}"
            )

"""Saving and loading parameters and optimizer in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stepsize.arrays import Nest, check_dtype, flatten
from stepsize.errors import CheckpointError
from stepsize.optimizers.optimizer import Optimizer
from stepsize.serialization import nested


def save(path: nested.Path, params: Nest, optimizer: Optimizer) -> None:
    """Write parameters and optimizer to one file, whole or not at all.

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
    leaves, paths, _ = flatten(params)
    for leaf, name in zip(leaves, paths, strict=True):
        check_dtype(leaf, name, "save")
    contents = {"params": named(params), "optimizer": optimizer.state_dict()}
    nested.dump(path, "parameters and optimizer", contents)


def load(path: nested.Path, params: Nest, optimizer: Optimizer) -> None:
    """Load parameters and optimizer from a file of `save`, or from the checkpoint of a run.

    Args:
        path: the file.
        params: arrays of the names, shapes and dtypes that were saved.
        optimizer: one of the same rule, groups and options.

    Raises:
        CheckpointError: the file is damaged or does not fit; then nothing has changed.
    """
    contents = nested.load(path, "parameters and optimizer", "run")
    leaves, paths, _ = flatten(params)
    try:
        check_params(contents["params"], leaves, paths)
        optimizer.load_state_dict(contents["optimizer"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {explained(error)}") from error
    for leaf, name in zip(leaves, paths, strict=True):
        np.copyto(leaf, contents["params"][name])


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


def explained(error: Exception) -> str:
    """What an error in the contents of a file means, in words."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)

"""What must be the same on all ranks at a step, small enough to be compared at each."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from stepsize.arrays import Nest, Structure
from stepsize.collectives.digests import digest
from stepsize.collectives.team import RankError, Team
from stepsize.optimizers.wrappers.base import Wrapper
from stepsize.serialization.functions import without_address

__all__ = ["arguments_of", "options_of", "refuse_other_parameters", "settings_of"]


def settings_of(optimizer: Any) -> dict[str, Any]:
    """The hyperparameters that the next step will use, by name, and the number of steps made.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> settings_of(ss.SGD(np.zeros(2), lr=0.5))["lr"]
        0.5
    """
    parts = optimizer.internals
    fields = parts.fields
    # The scale comes first, since the rate that is read is a multiple of it.
    found: dict[str, Any] = {
        "step_count": int(parts.engine.step_count),
        "lr_scale": float(parts.engine.lr_scale),
    }
    return found | {name: parts.groups.read(field) for name, field in fields.items()}


def options_of(options: Any) -> dict[str, Any]:
    """The keywords that all optimizers take, by name; of bounds a checksum."""
    names = [field.name for field in dataclasses.fields(options) if field.name != "bounds"]
    found = {name: getattr(options, name) for name in names}
    bounds = getattr(options.bounds, "by_leaf", None)
    if bounds is not None:
        sides = [None if one is None else [one.low, one.high, float(one.l1)] for one in bounds]
        found["bounds"] = digest(sides)
    return found


def arguments_of(optimizer: Any) -> dict[str, Any]:
    """What the wrappers of an optimizer were given, by name, and which they are.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> arguments_of(ss.Lookahead(ss.SGD(np.zeros(2)), k=3))
        {'optimizer': 'Lookahead around SGD', 'Lookahead.k': 3, 'Lookahead.alpha': 0.5}
    """
    names: list[str] = []
    found: dict[str, Any] = {}
    while isinstance(optimizer, Wrapper):
        names.append(type(optimizer).__name__)
        given = {name: value for name, value in vars(optimizer).items() if name[0] != "_"}
        optimizer = given.pop("inner")
        found |= {f"{names[-1]}.{name}": _in_text(value) for name, value in given.items()}
    names.append(type(optimizer).__name__)
    return {"optimizer": " around ".join(names)} | found


def _in_text(value: Any) -> Any:
    """A value that prints alike on all ranks: arrays by a checksum, objects without an address."""
    if isinstance(value, dict):
        return {name: _in_text(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_in_text(part) for part in value]
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}, {digest(value):08x}"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return without_address(repr(value))


def refuse_other_parameters(owner: str, team: Team, params: Nest, grads: Nest = None) -> None:
    """Refuse parameters that are not the same on all ranks.

    A leaf without a gradient, None in ``grads``, may differ: it is a state of the function, which
    sees other rows on each rank.

    Raises:
        RankError: on every rank, naming the leaves.
    """
    structure = Structure(params)
    flat = [0] * len(structure.leaves) if grads is None else structure.flatten(grads)
    here = [
        None if grad is None else digest(leaf)
        for leaf, grad in zip(structure.leaves, flat, strict=True)
    ]
    given = team.meet(f"{owner}: parameters", here)
    columns = zip(structure.paths, zip(*given, strict=True), strict=True)
    other = [path for path, column in columns if len(set(column)) > 1]
    if other:
        raise RankError(
            f"{owner}: the parameters are not the same on all ranks: {', '.join(other[:8])}; "
            "change them on all ranks alike, also in callbacks"
        )

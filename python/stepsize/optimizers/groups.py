"""Parameter groups: leaves that share their own values of some hyperparameters."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepsize.arrays import Nest
from stepsize.optimizers.fields import Field


@dataclass(frozen=True)
class GroupSpec:
    """A pattern of leaf names and the hyperparameters that differ there."""

    pattern: str
    overrides: Mapping[str, Any]


def group(pattern: str, **overrides: Any) -> GroupSpec:
    """Give the leaves whose path matches a glob their own hyperparameters.

    Args:
        pattern: A shell-style pattern of leaf paths; ``*`` also matches ``/``, so ``"*/b"`` or
            ``"*b"`` finds every bias. The first group that matches a leaf takes it.
        **overrides: Hyperparameters of the optimizer, numbers or schedules.

    Raises:
        ValueError: By the optimizer, if the pattern matches no leaf.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = {"w": np.ones(3), "b": np.ones(1)}
        >>> opt = ss.AdamW(params, lr=0.1, groups=[ss.group("b", weight_decay=0.0)])
        >>> opt.weight_decay
        (0.01, 0.0)
    """
    if not isinstance(pattern, str):
        raise TypeError(
            f"group: pattern must be a glob of leaf paths such as '*/b', got {pattern!r}"
        )
    return GroupSpec(pattern, overrides)


def is_grouped(params: Nest) -> bool:
    """Whether ``params`` is torch's form, a list of dicts with the key "params"."""
    return (
        isinstance(params, list)
        and len(params) > 0
        and all(isinstance(item, dict) and "params" in item for item in params)
    )


def ungroup(nests: Nest) -> Nest:
    """The list of the groups' nests, for a list of dicts or of nests."""
    return [item["params"] for item in nests] if is_grouped(nests) else nests


def check_values(
    fields: Mapping[str, Field], owner: str, given: Mapping[str, Any], also: Sequence[str] = ()
) -> dict[str, Any]:
    """The given hyperparameters, checked; TypeError for names that are not fields."""
    checked = {}
    for name, value in given.items():
        if name not in fields:
            names = [*fields, *also]
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise TypeError(
                f"{owner}: unknown argument {name!r}{hint} (it takes {', '.join(names)})"
            )
        checked[name] = fields[name].check(owner, value)
    return checked


def assign_groups(
    fields: Mapping[str, Field],
    owner: str,
    values: dict[str, Any],
    paths: Sequence[str],
    params: Nest,
    specs: Sequence[GroupSpec],
) -> tuple[list[int], list[dict[str, Any]]]:
    """The group of each leaf, and each group's hyperparameters."""
    if is_grouped(params):
        if specs:
            raise ValueError(f"{owner}: give groups either in params or by groups=, not both")
        tables = []
        for i, item in enumerate(params):
            overrides = {name: value for name, value in item.items() if name != "params"}
            tables.append({**values, **check_values(fields, f"{owner}: group {i}", overrides)})
        return [int(path.split("/")[0]) for path in paths], tables

    if not isinstance(specs, list | tuple):
        raise TypeError(f"{owner}: groups must be a list of ss.group(pattern, ...), got {specs!r}")
    tables = [values]
    assignment = [0] * len(paths)
    for number, spec in enumerate(specs, 1):
        if not isinstance(spec, GroupSpec):
            raise TypeError(
                f"{owner}: groups must be a list of ss.group(pattern, ...), got {spec!r}"
            )
        matched = [i for i, path in enumerate(paths) if fnmatch.fnmatchcase(path, spec.pattern)]
        if not matched:
            raise ValueError(
                f"{owner}: group {spec.pattern!r} matches no leaf; the leaves are "
                f"{', '.join(paths[:8])}{', ...' if len(paths) > 8 else ''}"
            )
        label = f"{owner}: group {spec.pattern!r}"
        tables.append({**values, **check_values(fields, label, spec.overrides)})
        for i in matched:
            if assignment[i] == 0:
                assignment[i] = number
    return assignment, tables

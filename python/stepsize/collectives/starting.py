"""The same parameters and state on all ranks before the first step."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize.arrays import Nest, Structure
from stepsize.collectives.alike import arguments_of, options_of
from stepsize.collectives.digests import digest
from stepsize.collectives.team import Team
from stepsize.optimizers.partition import Partition

__all__ = ["same_parameters", "same_start"]


def same_start(owner: str, team: Team, params: Nest, optimizer: Any) -> None:
    """Refuse other shapes or another rule; send parameters and state of rank 0 to all.

    An optimizer that knows its ranks has a state of its own on each, and keeps it.

    Raises:
        ValueError: on every rank, naming what differs.
    """
    same_parameters(owner, team, params)
    given = arguments_of(optimizer)
    team.agree(f"{owner}: optimizer", "the optimizer", given["optimizer"])
    if getattr(optimizer, "comm", None) is not None:
        return
    options, rule = options_of(optimizer.internals.options), optimizer.internals.rule
    for pattern, part in rule.parts.items() if isinstance(rule, Partition) else ():
        own = {"rule": part.rule.__name__, **options_of(part.options)}
        options |= {f"{pattern}: {name}": value for name, value in own.items()}
    team.alike(f"{owner}: optimizer", given | options, ValueError)
    here = optimizer.state_dict()
    if len(set(team.meet(f"{owner}: state", digest(here)))) == 1:
        return
    state = team.meet(f"{owner}: state", here if team.leads else None)[0]
    with team.together(f"{owner}: start"):
        if not team.leads:
            optimizer.load_state_dict(state)


def same_parameters(owner: str, team: Team, params: Nest) -> None:
    """Refuse other names, shapes or dtypes; send the parameters of rank 0 to all."""
    structure = Structure(params)
    kinds = [
        (path, tuple(np.shape(leaf)), str(getattr(leaf, "dtype", type(leaf).__name__)))
        for path, leaf in zip(structure.paths, structure.leaves, strict=True)
    ]
    team.agree(f"{owner}: params", "params", kinds)
    if len(set(team.meet(f"{owner}: params", digest(structure.leaves)))) == 1:
        return
    for leaf in structure.leaves:
        np.copyto(leaf, team.meet(f"{owner}: params", leaf if team.leads else None)[0])

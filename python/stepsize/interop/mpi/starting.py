"""The same parameters and state on all ranks before the first step."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from stepsize.arrays import Nest, Structure
from stepsize.collectives import Team

__all__ = ["same_parameters", "same_start"]


def same_start(owner: str, team: Team, params: Nest, optimizer: Any) -> None:
    """Refuse other shapes or another rule; send parameters and state of rank 0 to all.

    Raises:
        ValueError: on every rank, naming what differs.
    """
    same_parameters(owner, team, params)
    team.agree(f"{owner}: optimizer", "the optimizer", type(optimizer).__name__)
    state = team.from_first(f"{owner}: state", optimizer.state_dict)
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
    sums = [zlib.crc32(np.ascontiguousarray(leaf).tobytes()) for leaf in structure.leaves]
    if len(set(map(tuple, team.meet(f"{owner}: params", sums)))) == 1:
        return
    for leaf in structure.leaves:
        np.copyto(leaf, team.meet(f"{owner}: params", leaf if team.leads else None)[0])

"""A search on several ranks: the same function, and so the same decisions, on all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from stepsize.arrays import Nest, ValueAndGrad, copy, rows_of
from stepsize.collectives import (
    GradientMean,
    Team,
    arguments_of,
    averaged,
    digest,
    options_of,
    own_rows,
    same_parameters,
    settings_of,
    team_of,
)
from stepsize.finder.cached_batches import is_cut
from stepsize.finder.settings import Settings


@contextlib.contextmanager
def on_ranks(comm: Any) -> Iterator[Team | None]:
    """The ranks of a search, None without a communicator: all of them leave the block alike."""
    team = None if comm is None else team_of("lr_find", comm)
    with contextlib.nullcontext() if team is None else team.together("lr_find"):
        yield team


def same_copies(team: Team, params: Nest, batches: Any, settings: Settings) -> Nest:
    """Copies of the parameters of rank 0, where all ranks were given the same settings."""
    rows = {"the number of samples in batches": batches.rows if is_cut(batches) else None}
    team.alike("lr_find", vars(settings) | rows, ValueError)
    found = copy(params)
    same_parameters("lr_find", team, found)
    return found


def same_optimizer(team: Team, optimizer: Any, parameter: str) -> None:
    """Refuse another optimizer, or one made otherwise: ranks would search for other things."""
    told = {"parameter": parameter, **arguments_of(optimizer)}
    if hasattr(optimizer, "internals"):
        told |= settings_of(optimizer) | options_of(optimizer.internals.options)
        if getattr(optimizer, "comm", None) is None:  # else each rank has a state of its own
            told["the state of the optimizer"] = digest(optimizer.state_dict())
    team.alike("lr_find: optimizer", told, ValueError)


def shared(team: Team, function: ValueAndGrad, params: Nest, batches: Any) -> ValueAndGrad:
    """The function as a mean over the rows of all ranks, which split batches cut from arrays."""
    splits = is_cut(batches)

    def own(batch: Any) -> tuple[Any, float]:
        if not splits:
            return batch, rows_of(batch)[0]
        return own_rows(batch, team.rank, team.size)

    return averaged(function, GradientMean(team, params, "lr_find"), own, "lr_find")

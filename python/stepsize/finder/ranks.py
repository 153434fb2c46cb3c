"""A search on several ranks: the same function, and so the same decisions, on all of them."""

from __future__ import annotations

from typing import Any

from stepsize.arrays import Nest, ValueAndGrad, copy, rows_of
from stepsize.collectives import (
    GradientMean,
    Team,
    averaged,
    own_rows,
    same_parameters,
    team_of,
)
from stepsize.finder.cached_batches import is_cut
from stepsize.finder.settings import Settings


def on_ranks(
    comm: Any, function: ValueAndGrad, params: Nest, batches: Any, settings: Settings
) -> tuple[ValueAndGrad, Nest, bool]:
    """The function and the parameters of all ranks, and whether this one shows the progress."""
    if comm is None:
        return function, params, True
    team = team_of("lr_find", comm)
    params = same_copies(team, params, settings)
    return shared(team, function, params, batches), params, team.leads


def same_copies(team: Team, params: Nest, settings: Settings) -> Nest:
    """Copies of the parameters of rank 0, where all ranks were given the same settings."""
    team.agree("lr_find", "the settings", repr(settings))
    found = copy(params)
    same_parameters("lr_find", team, found)
    return found


def shared(team: Team, function: ValueAndGrad, params: Nest, batches: Any) -> ValueAndGrad:
    """The function as a mean over the rows of all ranks, which split batches cut from arrays."""
    splits = is_cut(batches)

    def own(batch: Any) -> tuple[Any, float]:
        if not splits:
            return batch, rows_of(batch)[0]
        return own_rows(batch, team.rank, team.size)

    return averaged(function, GradientMean(team, params, "lr_find"), own, "lr_find")

"""What a step on one rank asks of the others: sums, norms, and whether all is finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from stepsize.arrays import Array
from stepsize.collectives import Part, Team
from stepsize.collectives.layout import block_of
from stepsize.collectives.sums import ordered_total
from stepsize.optimizers import reference
from stepsize.optimizers.own_host import OptimizerHost, refuse_gradient
from stepsize.optimizers.stats import StepStats, Sums

__all__ = ["ShardHost"]


class ShardHost(OptimizerHost):
    """The host of an optimizer over parts of leaves, of which other ranks have the others.

    Args:
        optimizer: that over the parts.
        team: the ranks.
        parts: the parts here, in the order of the optimizer's leaves.
        leaves: the whole leaves.
        paths: their names.
    """

    def __init__(
        self,
        optimizer: Any,
        team: Team,
        parts: Sequence[Part],
        leaves: Sequence[Array],
        paths: Sequence[str],
    ) -> None:
        super().__init__(optimizer)
        self._team, self._leaves, self._paths = team, leaves, paths
        self._leaf = np.array([part.leaf for part in parts], np.int64)
        self._first = np.array(
            [part.start // block_of(leaves[part.leaf]) for part in parts], np.int64
        )

    def combine(self, by_leaf: bool, leaves: bytes, terms: bytes, width: int) -> list[float]:
        """Sums over the chunks of all ranks, in the order of the leaves."""
        return self._combined(
            by_leaf, np.frombuffer(leaves, np.int64), np.frombuffer(terms).reshape(-1, width)
        )

    def _combined(self, by_leaf: bool, here: Array, terms: Array) -> list[float]:
        # The chunks of one leaf follow each other.
        number = np.arange(len(here)) - np.searchsorted(here, here)
        given = self._team.meet(
            "Zero1: sums", (self._leaf[here], self._first[here] + number, terms)
        )
        leaf, block, rows = (np.concatenate(column) for column in zip(*given, strict=True))
        order = np.lexsort((block, leaf))
        leaf, rows = leaf[order], rows[order]
        if not by_leaf:
            return [] if not len(rows) else ordered_total(rows).tolist()
        totals: list[float] = []
        for own in self._leaf:
            totals += ordered_total(rows[leaf == own]).tolist()
        return totals

    def largest(self, value: float) -> float:
        """The largest of a number on all ranks."""
        return float(max(self._team.meet("Zero1: finite", value)))

    def fail(self, kind: str, *details: Any) -> NoReturn:
        """Raise the error of this kind: of a gradient on all ranks, for the first leaf."""
        if kind != "gradient":
            super().fail(kind, *details)
        leaf, finite = details
        own = None if leaf < 0 else (int(self._leaf[leaf]), finite)
        found = [one for one in self._team.meet("Zero1: not finite", own) if one is not None]
        wrong, finite = min(found, key=lambda one: (one[1], one[0]))
        refuse_gradient(self.optimizer, self._paths[wrong], self._leaves[wrong].dtype, finite)

    def step_stats(
        self, grad_norm: float, update_norm: float, param_norm: float, nonfinite: int
    ) -> StepStats:
        """The statistics of a step over all ranks."""
        if not math.isfinite(grad_norm):
            nonfinite = sum(self._team.meet("Zero1: statistics", nonfinite))
        return super().step_stats(grad_norm, update_norm, param_norm, nonfinite)

    def run_reference(self, grads: Sequence[Array | None], scale: float, stats: bool) -> Sums:
        """One step in NumPy; the sums are over all ranks."""
        rows: list[tuple[int, tuple[float, ...]]] = []
        found = reference.run(self.optimizer.internals, grads, scale, stats, rows)
        if not stats:
            return found
        here = np.array([leaf for leaf, _ in rows], np.int64)
        terms = np.array([row for _, row in rows], np.float64).reshape(-1, 9)
        totals: Any = self._combined(False, here, terms) or [0.0] * 9
        return tuple(totals)  # type: ignore[return-value]

"""What the optimizers on several ranks have in common: their ranks, and how a step is asked for."""

from __future__ import annotations

from typing import Any

from stepsize._core import BOUND
from stepsize.arrays import Nest
from stepsize.collectives import GradientMean, Team
from stepsize.interop.mpi.arguments import Asked, asked
from stepsize.optimizers.wrappers.base import Wrapper

__all__ = ["OnRanks"]


class OnRanks(Wrapper):
    """Base of the wrappers that step with the mean of the gradients of all ranks."""

    _team: Team
    _mean: GradientMean
    _owner: str

    @property
    def comm(self) -> Team:
        """The ranks."""
        return self._team

    @property
    def bytes_sent(self) -> int:
        """The bytes of gradients and parameters that this rank has sent to others so far."""
        return int(self._mean.exchange.sent)

    def step(
        self,
        grads: Nest = BOUND,
        *,
        loss: float | None = None,
        stats: bool = False,
        rows: float = 1.0,
    ) -> Any:
        """One step of all ranks with the mean of their gradients.

        Args:
            grads: the gradients of this rank; not looked at where ``rows`` is 0.
            loss: the loss of this rank; the rule gets the mean.
            stats: whether to return norms: those of the mean gradients, over all parameters. One
                rank may ask for them alone.
            rows: the rows of this rank's batch, where ranks have different numbers of them.
        """
        return self._make(asked(self._owner, lambda: self._given(grads), rows, loss, stats))

    def _make(self, given: Asked) -> Any:
        """The step, once the arguments of this rank are known."""
        raise NotImplementedError

"""Data parallelism: every rank has all parameters and a part of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from stepsize.arrays import Nest
from stepsize.collectives import GradientMean, same_start, settings_of, team_of
from stepsize.interop.mpi.arguments import Asked
from stepsize.interop.mpi.stepping import OnRanks
from stepsize.serialization import nested

__all__ = ["DataParallel"]


class DataParallel(OnRanks):
    r"""Step with the mean of the gradients of all ranks, the same step on every rank.

    .. math::
        \bar g = \frac{1}{\sum_r n_r} \sum_r n_r g_r

    where :math:`g_r` is the gradient of rank :math:`r`, a mean over its :math:`n_r` rows. The sum
    is a fixed tree over the ranks, ((0 + 1) + (2 + 3)) + ..., so its bits depend on no arrival.
    Each rank sends and receives :math:`2 (n - 1) / n` of the gradients' bytes a step, as a ring
    does; half precision travels in two bytes and is added up in float32.

    All other attributes are those of the optimizer inside. Its state is the same on all ranks, and
    so is a file: `save` writes it on rank 0, and it loads without ranks as well. At the start the
    parameters and the state of rank 0 are sent to all. What one rank refuses all refuse, and
    nothing has changed on any.

    Args:
        optimizer: any optimizer, with its wrappers.
        comm: a communicator of mpi4py, such as ``MPI.COMM_WORLD``, or one of a `LocalComm`.

    Raises:
        RankError: another rank failed, or is somewhere else; the message says which.

    Source: synchronous data-parallel SGD, Goyal et al. 2017, arXiv:1706.02677, section 2.3.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> from stepsize.interop.mpi import DataParallel, LocalComm
        >>> def program(comm):
        ...     x = np.zeros(2)
        ...     opt = DataParallel(ss.SGD(x, lr=1.0), comm)
        ...     opt.step(np.array([1.0, comm.rank]))
        ...     return x
        >>> LocalComm.run(2, program)
        [array([-1. , -0.5]), array([-1. , -0.5])]
    """

    _owner = "DataParallel"

    def __init__(self, optimizer: Any, comm: Any) -> None:
        team = team_of("DataParallel", comm)
        with team.together("DataParallel: arguments"):
            super().__init__(optimizer)
        same_start("DataParallel", team, self.params, optimizer)
        self._set(_team=team)
        self._set(_mean=self._mean_over(self.params))

    def _mean_over(self, params: Nest) -> GradientMean:
        def settings() -> dict[str, Any]:
            return settings_of(self.inner)

        return GradientMean(self._team, params, "DataParallel", reuse=True, settings=settings)

    def _make(self, given: Asked) -> Any:
        mean, means = self._mean(*given[:4])
        with self._team.together("DataParallel: step"):
            return self.inner.step(means, loss=mean, stats=given.stats)

    def step_averaged(self, grads: Nest, *, loss: float | None = None, stats: bool = False) -> Any:
        """A step with gradients that are the same on all ranks already."""
        return self.inner.step(grads, loss=loss, stats=stats)

    step_alike = step_averaged  # which asks the others for nothing

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer inside."""
        found: dict[str, Any] = self.inner.state_dict()
        return found

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """Load the state of the optimizer inside."""
        self.inner.load_state_dict(d)

    def save(self, path: nested.Path) -> None:
        """Write the state of the optimizer inside on rank 0; all ranks call it."""
        with self._team.together("DataParallel: save"):
            if self._team.leads:
                self.inner.save(path)

    def load(self, path: nested.Path) -> None:
        """Load what `save` wrote, read on rank 0; all ranks call it."""
        state = self._team.from_first("DataParallel: load", lambda: nested.load(path, "optimizer"))
        with self._team.together("DataParallel: load"), nested.contents_of(path):
            self.inner.load_state_dict(state)

    def clone(self, params: Nest) -> Self:
        """The same over other arrays of the same shapes, on the same ranks."""
        twin = super().clone(params)
        twin._set(_mean=twin._mean_over(params))
        return twin

"""Optimizers that answer with an average of the points they pass: one contract for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, SupportsIndex

import numpy as np

from stepsize._core import BOUND
from stepsize.arrays import Array, Nest, unflatten
from stepsize.optimizers.transaction import Uninterrupted, assign


class SwapsAverage:
    """Puts the average into the parameters for a while, and refuses what needs the training point.

    The parameters hold the training point. `eval_params` gives the average as new arrays,
    `averaged` puts it into the parameters for a while. Checkpoints hold the training point (the
    parameters) and the state, so both come back.
    """

    internals: Any  # of an `Optimizer` or a `Wrapper`
    _training: list[Array] | None = None  # the training point, while the average is in its place

    def _averages(self) -> list[Array]:
        """The average of every leaf, as new arrays."""
        raise NotImplementedError

    def _keep_training(self, training: list[Array] | None) -> None:
        self._training = training

    def eval_params(self) -> Nest:
        """The averaged parameters: new arrays in the nesting of the parameters.

        Wrappers give the average of half-precision parameters in float32.
        """
        self.internals.refuse_arriving("an average")
        structure = self.internals.leaves.structure
        return unflatten(structure.spec, self._averages())

    @contextmanager
    def averaged(self) -> Iterator[Nest]:
        """Hold the average in the parameters inside a ``with`` block, the training point after it.

        Inside, `step`, `state_dict`, `save` and their like raise RuntimeError, and what is written
        into the parameters is lost.
        """
        self._refuse_average("averaged() cannot be nested")
        self.internals.refuse_arriving("an average")
        leaves, averages = self.internals.leaves, self._averages()
        training = [np.array(leaf) for leaf in leaves.arrays]
        try:
            with Uninterrupted():
                self._keep_training(training)
                assign(leaves.arrays, averages)
            yield leaves.params
        finally:
            with Uninterrupted():
                assign(leaves.arrays, training)
                self._keep_training(None)

    def _refuse_average(self, problem: str) -> None:
        if self._training is not None:
            raise RuntimeError(
                f"{type(self).__name__}: {problem}; the parameters hold the average now, leave "
                "the `with opt.averaged():` block first"
            )

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """As any step; RuntimeError while the parameters hold the average."""
        self._refuse_average("a step starts from the training point")
        return super().step(grads, loss=loss, stats=stats)  # type: ignore[misc]

    def arriving(self, **policies: Any) -> Any:
        """As any optimizer's; RuntimeError while the parameters hold the average."""
        self._refuse_average("a step starts from the training point")
        return super().arriving(**policies)  # type: ignore[misc]

    def state_dict(self) -> dict[str, Any]:
        """As any optimizer's; RuntimeError while the parameters hold the average."""
        self._refuse_average("a checkpoint needs the training point")
        return super().state_dict()  # type: ignore[misc, no-any-return]

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """As any optimizer's; RuntimeError while the parameters hold the average."""
        self._refuse_average("a checkpoint brings a training point")
        super().load_state_dict(d)  # type: ignore[misc]

    def clone(self, params: Nest) -> Self:
        """As any optimizer's; RuntimeError while the parameters hold the average."""
        self._refuse_average("a copy starts from the training point")
        return super().clone(params)  # type: ignore[misc, no-any-return]

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        self._refuse_average("a copy starts from the training point")
        return super().__reduce_ex__(protocol)

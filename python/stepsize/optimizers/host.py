"""All that the compiled step asks of Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from stepsize.arrays import Array, Nest
from stepsize.optimizers.leaves import Leaves
from stepsize.optimizers.stats import StepStats, Sums


class StepHost(Protocol):
    """What the compiled step is given to call; ``Host`` in cpp/bind/host.hpp has the same names."""

    def gather(self, grads: Nest) -> list[Any]:
        """The gradients as a flat list of plain arrays or None, or an error that names the leaf.

        Rows come as a tuple: their gradient, and their numbers, each once.
        """

    def gather_leaf(self, leaf: int, grad: Any) -> list[Any]:
        """The same of the gradient of one leaf, by its number, as a list of one."""

    def fail(self, kind: str, *details: Any) -> NoReturn:
        """Raise the error of this kind. Nothing has changed when a step calls this."""

    def step_stats(
        self, grad_norm: float, update_norm: float, param_norm: float, nonfinite: int
    ) -> StepStats:
        """The statistics of a step as an object."""

    def run_reference(self, grads: Sequence[Array | None], scale: float, stats: bool) -> Sums:
        """One step in NumPy; the sums of squares of gradients, parameters and updates."""

    def combine(self, by_leaf: bool, leaves: bytes, terms: bytes, width: int) -> list[float]:
        """Where ranks share the leaves: sums over the chunks of all of them, in their order.

        From the leaf of each chunk here, as 64-bit numbers, and so many terms of each, as doubles.
        With ``by_leaf`` the totals of each leaf here, else one row, or none where nobody has a
        chunk.
        """

    def largest(self, value: float) -> float:
        """The largest of a number on all ranks."""

    def attach(self, leaves: Leaves) -> None:
        """Take over the leaves, once they are there."""

    def read_strided(self) -> None:
        """Copy parameters whose elements do not lie side by side into memory where they do."""

    def write_strided(self) -> None:
        """And back, after the step."""

    def write_rows(self) -> None:
        """Put rows that `run_reference` has moved back into their leaves and state arrays."""

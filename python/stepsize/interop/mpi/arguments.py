"""The arguments of a step on ranks, checked where the others hear of what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from stepsize.arrays import Nest
from stepsize.validation import as_float, number

__all__ = ["Asked", "asked"]


class Asked(NamedTuple):
    """What a rank brings to the meeting of a step, in the order that `GradientMean` takes.

    Attributes:
        grads: its gradients.
        rows: how much it counts.
        loss: its loss.
        error: why it cannot step; the meeting raises it, and tells the others.
        stats: whether it asks for statistics.
    """

    grads: Nest
    rows: float
    loss: float | None
    error: Exception | None
    stats: bool = False


def asked(
    owner: str, gradients: Callable[[], Nest], rows: Any, loss: Any, stats: Any = False
) -> Asked:
    """The arguments of a step; what is wrong with them is not raised but brought along.

    Raised before the meeting, it would leave the other ranks waiting for this one.

    Args:
        owner: whose step.
        gradients: gives or refuses those of this rank; not called where ``rows`` is 0.
        rows: as given.
        loss: as given.
        stats: as given.
    """
    try:
        asks, weight = bool(stats), number(f"{owner}: rows", rows, 0.0)
        if not weight:
            return Asked(None, 0.0, None, None, asks)
        return Asked(gradients(), weight, _loss(owner, loss), None, asks)
    except Exception as error:
        return Asked(None, 0.0, None, error)


def _loss(owner: str, loss: Any) -> float | None:
    try:
        return None if loss is None else as_float(loss)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{owner}: loss must be a number, got {loss!r:.80}") from None

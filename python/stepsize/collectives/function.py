"""A function of parameters and batch that all ranks evaluate together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from stepsize.arrays import Nest, ValueAndGrad, loss_and_grads
from stepsize.collectives.averaging import GradientMean

__all__ = ["averaged", "step_averaged"]


def step_averaged(optimizer: Any) -> Callable[..., Any]:
    """The step of an optimizer for gradients that are means over all ranks already."""
    own = getattr(type(optimizer), "step_alike", None)  # not what a wrapper passes on
    step: Callable[..., Any] = optimizer.step
    return step if own is None else functools.partial(own, optimizer)


def averaged(
    function: ValueAndGrad, mean: GradientMean, own: Callable[[Any], tuple[Any, float]], owner: str
) -> ValueAndGrad:
    """The mean of loss and gradients over the rows of all ranks; what one raises all raise.

    Args:
        function: of parameters and what this rank has of a batch.
        mean: what averages.
        own: what this rank has of a batch, and its rows: with 0 rows the function is not called.
        owner: who calls, in messages.
    """

    @functools.wraps(function)
    def evaluate(params: Nest, batch: Any) -> tuple[float, Nest]:
        rows, loss, grads = 0.0, None, None
        error: Exception | None = None
        try:
            part, rows = own(batch)
            if rows:
                loss, grads = loss_and_grads(function(params, part))
        except Exception as failure:
            error = failure
        total, means = mean(grads, rows, loss, error)
        if total is None:
            raise ValueError(f"{owner}: no rank has a row of this batch")
        return total, means

    return evaluate

"""The data class of a training problem."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepsize.arrays import ValueAndGrad, data_set

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """What a training run needs: parameters, loss with gradients, and data.

    `value_and_grad(params, batch)` returns a float and gradients nested like `params`.
    `train` and `validation` are tuples of arrays with one row per sample, or iterables of batches.
    `evaluate(params, batch)` returns named numbers, such as loss and accuracy.

    >>> from stepsize.problems import quadratic
    >>> problem = quadratic([1.0, 10.0])
    >>> loss, grad = problem.value_and_grad(problem.params, None)
    >>> loss, grad.tolist()
    (5.5, [1.0, 10.0])
    """

    params: Any
    value_and_grad: ValueAndGrad
    train: Any
    validation: Any = None
    evaluate: Callable[[Any, Any], dict[str, float]] | None = None
    name: str = "problem"

    def __post_init__(self) -> None:
        """Refuse what is no function or text."""
        evaluate = self.evaluate
        for label, given in (("value_and_grad", self.value_and_grad), ("evaluate", evaluate)):
            if not callable(given) and (label != "evaluate" or given is not None):
                raise TypeError(f"Problem: {label} must be a function, got {given!r:.80}")
        if not isinstance(self.name, str):
            raise TypeError(f"Problem: name must be text, got {self.name!r:.80}")

    def fresh(self) -> Problem:
        """The same problem with a copy of its parameters, so that a run does not change this one.

        >>> from stepsize.problems import saddle
        >>> problem = saddle()
        >>> other = problem.fresh()
        >>> other.params[:] = 0.0
        >>> bool((problem.params != 0).all())
        True
        """
        return replace(self, params=copy.deepcopy(self.params))

    def batches(self, batch_size: int = 32, seed: int = 0) -> Any:
        """One shuffled pass over the training data, as a list of tuples of arrays.

        Training data that already comes in batches is returned as it is. A short last batch is left
        out, unless it is the only one.
        """
        arrays = data_set("train", self.train)
        if arrays is None:
            return self.train
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        rows = len(arrays[0])
        order = np.random.default_rng(seed).permutation(rows)
        stops = range(batch_size, rows + 1, batch_size) or (rows,)
        return [
            tuple(array[order[max(0, stop - batch_size) : stop]] for array in arrays)
            for stop in stops
        ]

"""Branches in place of a fixed factor: how far the rate of a run is raised.

None say how far it is lowered: a lower rate pays at once, by averaging noise away, and learns more
slowly afterwards (short-horizon bias, Wu et al. 2018, arXiv:1803.02021).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from stepsize.arrays import ValueAndGrad
from stepsize.experiments.branching import what_if
from stepsize.experiments.results import WhatIf
from stepsize.training.batches import Batches

if TYPE_CHECKING:
    from stepsize.training.run import Run

Look = Callable[["Run", tuple[float, ...]], WhatIf | None]

SHARE = 20  # all branches together cost this part of the run
HELD = 4  # batches that each branch is measured on
BRANCHES = 3  # two factors and the present rate
FEWEST = 5  # steps of a branch


def steps_of(total: int) -> int:
    """Steps of each branch in a run of `total`.

    >>> steps_of(400), steps_of(2000)
    (5, 28)
    """
    return max(FEWEST, (total // SHARE - HELD * (BRANCHES + 1)) // BRANCHES)


def looking(value_and_grad: ValueAndGrad, source: Batches, total: int) -> Look:
    """A function that tries two factors from where a run is, on copies and over batches to come.

    It returns None where no branches can be made, as for a rule without a rate of its own.
    """

    def look(run: Run, factors: tuple[float, ...]) -> WhatIf | None:
        def stream() -> Iterator[Any]:
            epochs = itertools.count(run.epoch + 1)
            return (batch for epoch in epochs for batch, _ in source.epoch(epoch, 0))

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the function, which the run gives too
                return what_if(
                    value_and_grad,
                    run.params,
                    run.optimizer,
                    stream,
                    factors=factors,
                    steps=steps_of(total),
                    held=HELD,
                    average=False,
                    memorise=False,
                    progress=False,
                )
        except (TypeError, ValueError):
            return None

    return look

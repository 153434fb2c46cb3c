"""The tasks that the advice is measured on, each in one of four splits.

`tuning`: constants were fitted on these. `report`: held back from the fits, and reported.
`validation`: other kinds of tasks, at which decisions have looked. `held_out`: made after every
decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from models import Batch, Params

from tasks import held_out, tuning, validation, validation_wider

SPLITS = ("tuning", "report", "validation", "held_out")
RULES = ("sgd", "momentum", "adam", "rmsprop", "adagrad", "lion")


@dataclass(frozen=True)
class Task:
    """A problem and its training length; `split` says what it is for: see SPLITS."""

    name: str
    init: Callable[[np.random.Generator], Params]
    value_and_grad: Callable[[Params, Batch], tuple[float, Params]]
    data: Batch
    batch_size: int
    steps: int
    split: str

    def params(self, seed: int) -> Params:
        return self.init(np.random.default_rng(1000 + seed))

    def batches(self, seed: int) -> Iterator[Batch]:
        """Shuffled mini-batches without end; a batch as large as the data is the data."""
        rng = np.random.default_rng(2000 + seed)
        size = len(self.data[0])
        while True:
            order = rng.permutation(size)
            for start in range(0, size - self.batch_size + 1, self.batch_size):
                rows = order[start : start + self.batch_size]
                yield tuple(a[rows] for a in self.data)

    def loss(self, params: Params) -> float:
        """The loss over all the data: what training is for."""
        with np.errstate(all="ignore"):
            return self.value_and_grad(params, self.data)[0]


@cache
def tasks() -> tuple[Task, ...]:
    """Every task; pairs of neighbours of the first file alternate between tuning and report."""
    known = [Task(*row, split=SPLITS[k % 4 // 2]) for k, row in enumerate(tuning.rows())]
    others = validation.rows() + validation_wider.rows()
    return (
        *known,
        *(Task(*row, split="validation") for row in others),
        *(Task(*row, split="held_out") for row in held_out.rows()),
    )

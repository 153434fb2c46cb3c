"""What makes the numbers those of scikit-learn: the order of the rows, epsilon, velocity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import shuffle

from stepsize.optimizers import LBFGS, SGD, Optimizer
from stepsize.training.batches import ArrayBatches


class ShuffledRows(ArrayBatches):
    """Batches of rows in the order that scikit-learn draws from its random state.

    Each epoch shuffles the order of the epoch before, so that epochs must come in their turn.
    """

    def __init__(self, arrays: tuple[Any, ...], batch_size: int, random: np.random.RandomState):
        super().__init__(arrays, batch_size, None, "X")
        self._random = random
        self._rows = np.arange(self.length)
        self._drawn = 0

    def order(self, number: int) -> Any:
        """The order of an epoch, the same one however often it is asked for."""
        while self._drawn <= number:
            self._rows = shuffle(self._rows, random_state=self._random)
            self._drawn += 1
        return self._rows


@dataclass(frozen=True)
class EpsilonHat:
    r"""Adam's epsilon where it is added before the bias correction, as a function of the step.

    .. math:: \epsilon_t = \hat\epsilon / \sqrt{1 - \beta_2^t}

    Source: Kingma & Ba 2015, arXiv:1412.6980, the last lines of section 2.
    """

    epsilon: float
    beta_2: float

    def __call__(self, step: int) -> float:
        return self.epsilon / math.sqrt(1 - self.beta_2 ** (step + 1))


def scale_rate(optimizer: Optimizer, scale: float) -> None:
    """Set ``lr_scale``; momentum goes on at its velocity, which the rate before has made."""
    if type(optimizer) is SGD:
        for slots in optimizer.state.values():
            for velocity in slots.values():
                velocity *= optimizer.lr_scale / scale
    optimizer.lr_scale = scale


def forget_curvature(optimizer: Any) -> None:
    """Let L-BFGS begin again along the gradient, as SciPy does after a line search that failed."""
    if isinstance(optimizer, LBFGS):
        scalars = optimizer.internals.scalars(0)
        scalars.kept = scalars.iterations = 0.0
        optimizer.internals.set_scalars(0, scalars)

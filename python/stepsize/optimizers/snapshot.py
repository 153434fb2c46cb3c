"""A snapshot of parameters and an optimizer, to go back to."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize.arrays import Array, Nest, flatten
from stepsize.optimizers.transaction import assign


class Snapshot:
    """Parameters, and if given the optimizer's state, as they are now.

    Args:
        params: A nest of arrays.
        optimizer: The optimizer whose state belongs to them.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.ones(2)
        >>> opt = ss.SGD(x, lr=0.5)
        >>> here = Snapshot(x, opt)
        >>> opt.step(np.ones(2))
        >>> here.restore()
        >>> x, opt.step_count
        (array([1., 1.]), 0)
    """

    def __init__(self, params: Nest, optimizer: Any = None) -> None:
        self.optimizer = optimizer
        self.leaves: list[Array] = flatten(params)[0]
        self.values = [np.array(leaf) for leaf in self.leaves]
        self.state = None if optimizer is None else optimizer.state_dict()

    def restore(self) -> None:
        """Put the values back into the same arrays, and the state into the optimizer."""
        if self.optimizer is not None:
            self.optimizer.load_state_dict(self.state)
        assign(self.leaves, self.values)

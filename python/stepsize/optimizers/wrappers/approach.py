"""An average on its way to the parameters, without memory of its own once a step has begun."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepsize.arrays import Array, view_as_real
from stepsize.optimizers.half import to_float32

__all__ = ["Approach"]


class Approach:
    """Moves arrays towards leaves as `lerp` does, in memory that is there before a step.

    Real and imaginary parts each move on their own.
    """

    def __init__(self, arrays: Sequence[Array], leaves: Sequence[Array]) -> None:
        reals = [view_as_real(array) for array in arrays]
        ends = [view_as_real(leaf) for leaf in leaves]
        self._triples = list(zip(reals, ends, map(np.empty_like, reals), strict=True))

    def move(self, share: float) -> None:
        for array, leaf, gap in self._triples:
            end = to_float32(leaf)
            weight = array.dtype.type(share)
            np.subtract(end, array, out=gap)
            if weight < 0.5:
                np.multiply(gap, weight, out=gap)
                np.add(array, gap, out=array)
            else:
                np.multiply(gap, array.dtype.type(1) - weight, out=gap)
                np.subtract(end, gap, out=array)

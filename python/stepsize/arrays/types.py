"""Names of the types that signatures share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Nest: TypeAlias = Any  # a pytree: an array, or any nest of dict, list and tuple of arrays
Curve: TypeAlias = NDArray[np.float64]
ValueAndGrad: TypeAlias = Callable[[Nest, Any], tuple[Any, Nest]]  # params, batch -> loss, grads

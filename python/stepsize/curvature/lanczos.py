"""The largest eigenvalue of a Hessian of which only gradients are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stepsize.arrays import Array

Product = Callable[[Array], Array]

ROUNDING = 1e-12  # nothing is left of the space that gradients reach
PATIENCE = 5  # products that must bring no larger eigenvalue


def largest_eigenvalue(
    product: Product, size: int, most: int, tolerance: float, seed: int
) -> tuple[float, float, int]:
    """By Lanczos with full reorthogonalization: the value, its residual, products used.

    The residual bounds the distance to an eigenvalue, which early on need not be the largest: so it
    stops where ``PATIENCE`` further products keep residual and change within ``tolerance`` times
    the value, or after ``most`` products.

    Source: Golub & Van Loan 2013, Matrix Computations, sections 10.1 and 10.3.

    Example:
        >>> matrix = np.diag([1.0, 2.0, 5.0])
        >>> value, residual, products = largest_eigenvalue(lambda v: matrix @ v, 3, 10, 1e-6, 0)
        >>> round(value, 6), products
        (5.0, 3)
    """
    vector = np.random.default_rng(seed).normal(size=size)
    basis = [vector / np.linalg.norm(vector)]
    diagonal: list[float] = []
    off: list[float] = []
    value = residual = settled = np.nan
    quiet = 0
    for _ in range(min(most, size)):
        image = product(basis[-1])
        diagonal.append(float(basis[-1] @ image))
        for _twice in range(2):  # once leaves rounding errors that bring back what was found
            for known in basis:
                image = image - (known @ image) * known
        length = float(np.linalg.norm(image))
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
        value, residual = float(values[-1]), length * abs(float(vectors[-1, -1]))
        near = residual <= tolerance * abs(value)
        quiet = quiet + 1 if near and abs(value - settled) <= tolerance * abs(value) else 0
        settled = value if quiet == 0 else settled
        if not np.isfinite(length) or quiet == PATIENCE or length <= ROUNDING * abs(value):
            break
        off.append(length)
        basis.append(image / length)
    return value, residual, len(diagonal)

"""SAGA for linear models, which remembers one number a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optree

from stepsize.arrays import Array, Nest
from stepsize.callbacks.variance_reduction import Corrected, leaves_of
from stepsize.serialization import states
from stepsize.validation import number

__all__ = ["LinearSAGA"]


class LinearSAGA(Corrected):
    r"""SAGA for linear models, with one number a row in place of a gradient.

    .. math::
        g = \frac{1}{|B|} \sum_{i \in B} (s_i - \alpha_i) x_i
            + \frac{1}{n} \sum_i \alpha_i x_i + \lambda w, \quad
            s_i = \phi'(x_i^T w, y_i), \quad \alpha_i \leftarrow s_i \text{ in } B

    for :math:`f(w) = \frac1n \sum_i \phi(x_i^T w, y_i) + \frac\lambda2 \|w\|^2`. A callback of
    `fit` with ``train=(X, y, np.arange(len(X)))``: the last array of a batch says which rows it is
    made of. By hand, ``grads = saga(params, rows)``. Any batch size. State: a number for each row
    and output, and one gradient.

    Args:
        slope: ``(z, y) -> the derivative of the loss by z`` of each row: ``z - y`` for least
            squares, ``-y / (1 + np.exp(y * z))`` for logistic regression with labels -1 and 1.
        X: the rows; a column of ones is the intercept.
        y: what ``slope`` gets, one for each row.
        l2: :math:`\lambda`.

    Source: Defazio, Bach & Lacoste-Julien 2014, arXiv:1407.0202, equation 1 and section 4.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> X, y = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0, 2.0])
        >>> w = np.zeros(2)
        >>> saga = ss.LinearSAGA(lambda z, y: z - y, X, y)
        >>> opt, rng = ss.SGD(w, lr=0.03), np.random.default_rng(0)
        >>> for _ in range(3000):
        ...     opt.step(saga(w, rng.integers(3, size=1)))
        >>> np.allclose(w, np.linalg.lstsq(X, y)[0], atol=1e-12)
        True
    """

    def __init__(self, slope: Callable[[Array, Any], Array], X: Any, y: Any, *, l2: float = 0.0):
        if not callable(slope):
            raise TypeError(f"LinearSAGA: slope must be a function, got {type(slope).__name__}")
        self._slope, self._X, self._y = slope, np.asarray(X), np.asarray(y)
        if self._X.ndim != 2 or not self._X.size or self._y.shape[:1] != self._X.shape[:1]:
            raise ValueError(
                "LinearSAGA: X must be rows, with as many of y, got shapes "
                f"{self._X.shape} and {self._y.shape}"
            )
        if "c" in (self._X.dtype.kind, self._y.dtype.kind):
            raise TypeError("LinearSAGA: X and y must be real; take SAGA for complex numbers")
        self._l2 = number("LinearSAGA: l2", l2, 0.0)
        self._kept: Array | None = None
        self._mean: Array | None = None

    def __call__(self, params: Nest, rows: Any) -> Nest:
        """The gradient for a step from some rows, given by their numbers, each at most once."""
        leaves, spec = leaves_of(params)
        if len(leaves) != 1 or np.shape(leaves[0])[:1] != self._X.shape[1:]:
            raise ValueError(
                "LinearSAGA: params must be one array with a weight for each of "
                f"{self._X.shape[1]} columns of X, got {[np.shape(leaf) for leaf in leaves]!r:.80}"
            )
        w, rows = np.asarray(leaves[0]), np.asarray(rows)
        if rows.dtype.kind not in "iu" or rows.ndim != 1 or not rows.size:
            raise TypeError(
                "LinearSAGA: rows must be numbers of rows, in fit the last array of a batch, as in "
                f"train=(X, y, np.arange(len(X))); got {rows.dtype} of shape {rows.shape}"
            )
        if rows.min() < 0 or rows.max() >= len(self._X) or len(np.unique(rows)) < len(rows):
            raise ValueError(
                f"LinearSAGA: rows must be different numbers from 0 to {len(self._X) - 1}"
            )
        if self._kept is None or self._mean is None:
            kept = self._slopes(w, slice(None))
            if not np.isfinite(kept).all():
                row = int(np.argmin(np.isfinite(kept)))
                raise ValueError(f"LinearSAGA: slope is not finite at the start, in row {row}")
            self._kept, self._mean = kept, self._X.T @ kept / len(self._X)
        fresh = self._slopes(w, rows)
        way = self._X[rows].T @ (fresh - self._kept[rows])
        g = way / len(rows) + self._mean + self._l2 * w
        if np.isfinite(fresh).all():  # else the mean would never be finite again
            self._mean = self._mean + way / len(self._X)
            self._kept[rows] = fresh
        nest: Nest = optree.tree_unflatten(spec, [np.asarray(g, w.dtype)])
        return nest

    def corrected(self, params: Nest, batch: Any, grads: Nest) -> Nest:
        """As `Corrected.corrected`, from the rows that the last array of the batch names."""
        if not isinstance(batch, tuple):
            return self(params, batch)
        seen, rows = np.asarray(batch[0]), np.asarray(batch[-1])
        known = rows.dtype.kind in "iu" and rows.ndim == 1 and rows.size and rows.min() >= 0
        meant = self._X[rows] if known and rows.max() < len(self._X) else None
        if meant is not None and seen.shape == meant.shape and not np.array_equal(seen, meant):
            raise ValueError(
                "LinearSAGA: the last array of a batch must be the numbers of its rows, and these "
                "rows of X are others; train on (X, y, np.arange(len(X)))"
            )
        return self(params, rows)

    def _slopes(self, w: Array, rows: Any) -> Array:
        z = self._X[rows] @ w
        found = np.array(self._slope(z, self._y[rows]), z.dtype)
        if found.shape != z.shape:
            raise ValueError(
                f"LinearSAGA: slope must give an array of shape {z.shape}, as z, got {found.shape}"
            )
        return found

    def state_dict(self) -> dict[str, Any]:
        """The slope of each row, and the mean gradient."""
        kept = None if self._kept is None else np.array(self._kept)  # which steps change in place
        return {"kept": kept, "mean": self._mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        checks = {"kept": _array_or_none, "mean": _array_or_none}
        found = states.checked("LinearSAGA", state, checks)
        kept = found["kept"]
        if kept is not None and kept.shape != (len(self._X),):
            raise ValueError(
                f"LinearSAGA: kept must be {len(self._X)} numbers, got shape {kept.shape}"
            )
        self._kept, self._mean = found["kept"], found["mean"]


def _array_or_none(label: str, value: Any) -> Array | None:
    return None if value is None else np.array(states.leaves(label, [value])[0])

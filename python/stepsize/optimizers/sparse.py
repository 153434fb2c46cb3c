"""Gradients of a few rows of a leaf, such as the embeddings of the words of one batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize import _core
from stepsize.arrays import Array, conversion, refuse_masked


class RowGradient:
    """The gradient of a leaf that is 0 but for some rows.

    Put it in the place of the leaf's gradient: ``opt.step({"embedding": ss.RowGradient(rows,
    values), ...})``. `SGD`, `Adagrad`, `Adam` and `AdamW` then read and move these rows and their
    state alone: momentum, averages and weight decay of the others stand still (the lazy form, as
    torch.optim.SparseAdam's). Norms for clipping and statistics are over the rows. `Lookahead`,
    `EMA` and `SWA` pass the rows on, and ``fit(accumulate=)`` adds them up as rows; the other
    wrappers see a whole array, and ``bind``, `population` and ``ss.functional`` refuse it.

    Args:
        rows: Whole numbers, the rows' indices on axis 0, in any order. Rows that are given several
            times are added up in the order in which they are given.
        values: Their gradients, of shape ``(len(rows), *leaf.shape[1:])`` and the leaf's dtype.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.zeros((4, 2))
        >>> ss.SGD(x, lr=1.0).step(ss.RowGradient([2, 0, 2], np.ones((3, 2))))
        >>> x
        array([[-1., -1.],
               [ 0.,  0.],
               [-2., -2.],
               [ 0.,  0.]])
    """

    def __init__(self, rows: Any, values: Any) -> None:
        for name, given in (("rows", rows), ("values", values)):
            cure = "leave out the rows that are masked, or give 0, values.filled(0)"
            refuse_masked("RowGradient", name, given, cure)
        try:
            self.rows, self.values = np.asarray(rows), np.asarray(values)
        except ValueError:  # a nest of lists of different lengths
            raise TypeError(
                "RowGradient: rows must be a list of whole numbers and values an array, got "
                f"{rows!r:.80} and {values!r:.80}"
            ) from None
        if self.rows.ndim != 1 or (self.rows.size and self.rows.dtype.kind not in "iu"):
            raise TypeError(
                f"RowGradient: rows must be a list of whole numbers, got an array of shape "
                f"{self.rows.shape} and dtype {self.rows.dtype}"
            )
        if self.values.ndim < 1 or len(self.values) != len(self.rows):
            raise ValueError(
                f"RowGradient: {len(self.rows)} rows need as many values, got values of shape "
                f"{self.values.shape}"
            )

    def __repr__(self) -> str:
        return f"<RowGradient of {len(self.rows)} rows, values of shape {self.values.shape}>"

    def merged(self, owner: str, path: str, leaf: Array) -> tuple[Array, Array]:
        """Each row once, in order, and its gradient; an error names what does not fit the leaf."""
        if leaf.ndim < 1 or self.values.shape[1:] != leaf.shape[1:]:
            raise ValueError(
                f"{owner}: the rows of the gradient of {path} have shape {self.values.shape[1:]}, "
                f"expected {leaf.shape[1:]}"
            )
        if self.values.dtype != leaf.dtype:
            raise TypeError(
                f"{owner}: the gradient of {path} has dtype {self.values.dtype}, expected "
                f"{leaf.dtype}; {conversion(self.values.dtype, leaf.dtype)}"
            )
        given = self.rows
        if given.size and not 0 <= given.min() <= given.max() < len(leaf):
            bad = given[(given < 0) | (given >= len(leaf))]
            raise ValueError(
                f"{owner}: the gradient of {path} has row {bad[0]}, but the leaf has rows 0 to "
                f"{len(leaf) - 1}"
            )
        rows = given.astype(np.int64)  # which would turn numbers beyond its range into others
        if leaf.dtype.char in "fd":
            return _core.merge_rows(rows, np.require(self.values, leaf.dtype, ["C", "A"]))
        unique, place = np.unique(rows, return_inverse=True)
        total = np.zeros((len(unique), *leaf.shape[1:]), leaf.dtype)
        np.add.at(total, place, self.values)
        return unique, total

    def whole(self, owner: str, path: str, leaf: Array) -> Array:
        """The gradient as an array of the leaf's shape."""
        rows, values = self.merged(owner, path, leaf)
        result: Array = np.zeros(leaf.shape, leaf.dtype)
        result[rows] = values
        return result


class RowSlice:
    """Some rows of a leaf and of its state, copied out for one step of `reference`."""

    def __init__(self, leaf: Array, state: dict[str, Array], rows: Array, grad: Array) -> None:
        self.leaf, self.state, self.rows, self.grad = leaf, state, rows, grad
        self.x = np.ascontiguousarray(leaf[rows])
        self.slots = {name: np.ascontiguousarray(slot[rows]) for name, slot in state.items()}

    def written(self) -> list[tuple[Array, Array, Array]]:
        """Array, rows and values of all that the step has moved."""
        slots = [(self.state[name], self.rows, slot) for name, slot in self.slots.items()]
        return [(self.leaf, self.rows, self.x), *slots]

"""Gradients of finite sums whose noise goes to 0 with the distance to the solution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from stepsize import arrays
from stepsize.arrays import Array, Nest
from stepsize.serialization import states
from stepsize.validation import number, whole

if TYPE_CHECKING:
    from stepsize.training.run import Run

__all__ = ["SAGA", "SVRG", "LinearSAGA"]

ValueAndGrad = Callable[[Nest, Any], tuple[float, Nest]]


class _Corrected:
    """Base: what replaces the gradients of a run, and gives gradients by hand."""

    def on_start(self, run: Run) -> None:
        """Refuse a run whose gradients are not those of one batch of this process."""
        owner = type(self).__name__
        if run.accumulate > 1:
            raise ValueError(
                f"{owner}: a step must be of one batch, got accumulate={run.accumulate}; give fit "
                "a larger batch_size instead"
            )
        if run.team is not None:
            raise ValueError(f"{owner}: a run on several ranks is not possible; leave out comm")

    def on_gradients(self, run: Run) -> None:
        """Put the corrected gradients in the place of those of the batch."""
        run.grads = self.corrected(run.params, run.batch, run.grads)

    def corrected(self, params: Nest, batch: Any, grads: Nest) -> Nest:
        """The gradients for a step, from those of the batch at the parameters."""
        raise NotImplementedError


def _leaves(nest: Nest) -> tuple[list[Any], Any]:
    found: tuple[list[Any], Any] = optree.tree_flatten(nest, none_is_leaf=True)
    return found


def _known(owner: str, grads: list[Any], like: list[Any]) -> list[Array]:
    """The leaves of gradients, which must be there, and in the same places each time."""
    if len(grads) != len(like) or any(g is None for g in grads):
        raise ValueError(
            f"{owner}: value_and_grad must give the gradient of every leaf at every call; "
            "freeze leaves by a rate of 0, ss.group(..., lr=0.0)"
        )
    return [np.asarray(g) for g in grads]


class SVRG(_Corrected):
    r"""Stochastic variance-reduced gradients: each batch is corrected by a full gradient.

    .. math::
        g_B(x) - g_B(\tilde x) + \mu, \quad \mu = \nabla f(\tilde x), \quad
            \tilde x \leftarrow x \text{ every } m \text{ steps}

    A callback of `fit`, for any rule: SGD at a constant rate then converges linearly on strongly
    convex sums, where without it stalls at the noise. By hand, ``loss, grads = svrg(params,
    batch)``. A step costs another gradient of its batch, and every m-th one the gradient of all
    data. State: two copies of the parameters; saved with the run.

    Args:
        value_and_grad: that of `fit`, ``(params, batch) -> (loss, grads)``, a mean over the rows.
        data: all data: a tuple of arrays, one row a sample, or a list of batches; their gradients
            count by their rows.
        every: :math:`m`, steps from one full gradient to the next; twice the steps of an epoch is
            usual for convex functions.
        batch_size: rows at a time in a full gradient of arrays.

    Source: Johnson & Zhang 2013, "Accelerating Stochastic Gradient Descent using Predictive
    Variance Reduction", Procedure SVRG, option I.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> a = np.array([1.0, 2.0, 6.0])
        >>> def value_and_grad(x, batch):
        ...     return float(((x - batch[0]) ** 2).mean()), 2 * (x - batch[0].mean(keepdims=True))
        >>> x = np.zeros(1)
        >>> svrg = ss.SVRG(value_and_grad, (a,), every=6)
        >>> opt, given = ss.SGD(x, lr=0.2), {"batch_size": 1, "epochs": 60}
        >>> history = ss.fit(value_and_grad, x, opt, (a,), callbacks=[svrg], **given)
        >>> bool(abs(x[0] - 3) < 1e-12)
        True
    """

    def __init__(
        self, value_and_grad: ValueAndGrad, data: Any, *, every: int, batch_size: int = 1024
    ):
        if not callable(value_and_grad):
            raise TypeError(
                f"SVRG: value_and_grad must be a function, got {type(value_and_grad).__name__}"
            )
        self._function, self._data = value_and_grad, _data_of("SVRG", data)
        self.every = whole("SVRG: every", every)
        self.batch_size = whole("SVRG: batch_size", batch_size)
        self._steps = 0
        self._snapshot: list[Array] | None = None
        self._mean: list[Array] | None = None

    def __call__(self, params: Nest, batch: Any) -> tuple[float, Nest]:
        """The loss of a batch, and the corrected gradients."""
        loss, grads = self._evaluate(params, batch)
        return loss, self.corrected(params, batch, grads)

    def corrected(self, params: Nest, batch: Any, grads: Nest) -> Nest:
        """As `_Corrected.corrected`; the call is a step."""
        points, spec = _leaves(params)
        found, shape = _leaves(grads)
        found = _known("SVRG", found, points)
        if self._snapshot is None or self._steps % self.every == 0:
            mean = self._full(params, points)  # may raise
            self._snapshot, self._mean = [np.array(leaf) for leaf in points], mean
            result = [np.array(m) for m in mean]
        else:
            assert self._mean is not None
            there = optree.tree_unflatten(spec, [np.array(leaf) for leaf in self._snapshot])
            old = _known("SVRG", _leaves(self._evaluate(there, batch)[1])[0], points)
            result = [g - o + m for g, o, m in zip(found, old, self._mean, strict=True)]
        self._steps += 1
        nest: Nest = optree.tree_unflatten(shape, result)
        return nest

    def _evaluate(self, params: Nest, batch: Any) -> tuple[float, Nest]:
        return arrays.loss_and_grads(self._function(params, batch))

    def _full(self, params: Nest, points: list[Any]) -> list[Array]:
        total, rows = [np.zeros_like(leaf) for leaf in points], 0
        for batch in _batches(self._data, self.batch_size):
            count = arrays.rows_of(batch)[0]
            grads = _known("SVRG", _leaves(self._evaluate(params, batch)[1])[0], points)
            total = [t + count * g for t, g in zip(total, grads, strict=True)]
            rows += count
        return [t / rows for t in total]

    def state_dict(self) -> dict[str, Any]:
        """The steps made, and the point and gradient that correct those to come."""
        return {"steps": self._steps, "snapshot": self._snapshot, "mean": self._mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        copies = states.optional(states.leaves)
        checks = {"steps": states.count, "snapshot": copies, "mean": copies}
        found = states.checked("SVRG", state, checks)
        self._steps, self._snapshot, self._mean = (found[name] for name in checks)


class SAGA(_Corrected):
    r"""SAGA for a finite sum of batches: the last gradient of each corrects the next.

    .. math::
        g = k w_j (g_j(x) - \alpha_j) + \sum_i w_i \alpha_i, \quad \alpha_j \leftarrow g_j(x),
            \quad w_j = n_j / n

    of :math:`k` batches with :math:`n_j` rows each, of which :math:`j` is drawn: without bias for
    batches of different sizes. The first call takes the gradients of all of them. A callback of
    `fit` with these batches to train on, shuffled, ``train=lambda: random.sample(batches, k)``; by
    hand, ``loss, grads = saga(params, batches[j])``. Batches are known by what they are, not by
    what they hold. State: a gradient for each batch, and the mean of them. `LinearSAGA` keeps a
    number a row.

    Args:
        value_and_grad: that of `fit`, ``(params, batch) -> (loss, grads)``, a mean over the rows.
        batches: the list of batches.

    Source: Defazio, Bach & Lacoste-Julien 2014, arXiv:1407.0202, equation 1 (without proximal
    step), where all weights are equal.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> batches = [np.array([1.0, 2.0]), np.array([6.0])]
        >>> x = np.zeros(1)
        >>> saga = ss.SAGA(lambda x, a: (0.0, x - a.mean(keepdims=True)), batches)
        >>> opt = ss.SGD(x, lr=0.3)
        >>> for j in np.random.default_rng(0).integers(2, size=300):
        ...     opt.step(saga(x, batches[j])[1])
        >>> bool(abs(x[0] - 3) < 1e-12)
        True
    """

    def __init__(self, value_and_grad: ValueAndGrad, batches: Sequence[Any]):
        if not callable(value_and_grad):
            raise TypeError(
                f"SAGA: value_and_grad must be a function, got {type(value_and_grad).__name__}"
            )
        if not isinstance(batches, list | tuple) or not batches:
            raise TypeError(
                f"SAGA: batches must be a list of batches, got {type(batches).__name__}"
            )
        self._function, self._list = value_and_grad, list(batches)
        self._places = {id(batch): j for j, batch in enumerate(self._list)}
        if len(self._places) < len(self._list):
            raise ValueError("SAGA: batches must be different objects; one stands there twice")
        rows = np.array([arrays.rows_of(batch)[0] for batch in self._list], float)
        self._weights = rows / rows.sum()
        self._table: list[list[Array]] = []
        self._mean: list[Array] = []

    def __call__(self, params: Nest, batch: Any) -> tuple[float, Nest]:
        """The loss of one of the batches, and the corrected gradients."""
        loss, grads = arrays.loss_and_grads(self._function(params, batch))
        return loss, self.corrected(params, batch, grads)

    def corrected(self, params: Nest, batch: Any, grads: Nest) -> Nest:
        """As `_Corrected.corrected`, where the batch is one of those given."""
        if id(batch) not in self._places:
            raise ValueError(
                "SAGA: the batch is none of batches; train on these objects themselves, "
                "train=lambda: random.sample(batches, len(batches))"
            )
        j, points = self._places[id(batch)], _leaves(params)[0]
        found, shape = _leaves(grads)
        found = _known("SAGA", found, points)
        if not self._table:
            table = [self._first(params, other, points) for other in self._list]
            self._mean = [
                sum(w * g for w, g in zip(self._weights, column, strict=True))
                for column in zip(*table, strict=True)
            ]
            self._table = table
        w, k = float(self._weights[j]), len(self._list)
        change = [g - old for g, old in zip(found, self._table[j], strict=True)]
        result = [m + k * w * c for m, c in zip(self._mean, change, strict=True)]
        self._mean = [m + w * c for m, c in zip(self._mean, change, strict=True)]
        self._table[j] = [np.array(g) for g in found]
        nest: Nest = optree.tree_unflatten(shape, result)
        return nest

    def _first(self, params: Nest, batch: Any, points: list[Any]) -> list[Array]:
        grads = arrays.loss_and_grads(self._function(params, batch))[1]
        return [np.array(g) for g in _known("SAGA", _leaves(grads)[0], points)]

    def state_dict(self) -> dict[str, Any]:
        """The gradient of each batch, and their mean."""
        return {"table": [list(row) for row in self._table], "mean": list(self._mean)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        checks = {"table": states.each(states.leaves), "mean": states.leaves}
        found = states.checked("SAGA", state, checks)
        if len(found["table"]) not in (0, len(self._list)):
            raise ValueError(
                f"SAGA: table must have a gradient for each of {len(self._list)} batches, got "
                f"{len(found['table'])}"
            )
        self._table, self._mean = found["table"], found["mean"]


class LinearSAGA(_Corrected):
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
        self._l2 = number("LinearSAGA: l2", l2, 0.0)
        self._kept: Array | None = None
        self._mean: Array | None = None

    def __call__(self, params: Nest, rows: Any) -> Nest:
        """The gradient for a step from some rows, given by their numbers, each at most once."""
        leaves, spec = _leaves(params)
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
            self._kept, self._mean = kept, self._X.T @ kept / len(self._X)
        fresh = self._slopes(w, rows)
        way = self._X[rows].T @ (fresh - self._kept[rows])
        g = way / len(rows) + self._mean + self._l2 * w
        self._mean = self._mean + way / len(self._X)
        self._kept[rows] = fresh
        nest: Nest = optree.tree_unflatten(spec, [np.asarray(g, w.dtype)])
        return nest

    def corrected(self, params: Nest, batch: Any, grads: Nest) -> Nest:
        """As `_Corrected.corrected`, from the rows that the last array of the batch names."""
        return self(params, batch[-1] if isinstance(batch, tuple) else batch)

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
        return {"kept": self._kept, "mean": self._mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        checks = {"kept": _array_or_none, "mean": _array_or_none}
        found = states.checked("LinearSAGA", state, checks)
        if found["kept"] is not None and len(found["kept"]) != len(self._X):
            raise ValueError(
                f"LinearSAGA: kept must have {len(self._X)} rows, got {len(found['kept'])}"
            )
        self._kept, self._mean = found["kept"], found["mean"]


def _array_or_none(label: str, value: Any) -> Array | None:
    return None if value is None else np.array(states.leaves(label, [value])[0])


def _data_of(owner: str, data: Any) -> Any:
    """Arrays of one data set as a tuple, or batches as a list; refuses what gives them once."""
    found = arrays.data_set(f"{owner}: data", data)
    if found is not None:
        return found
    if not isinstance(data, list) or not data:
        raise TypeError(
            f"{owner}: data must be a tuple of arrays or a list of batches, got "
            f"{type(data).__name__}"
        )
    return data


def _batches(data: Any, size: int) -> Iterator[Any]:
    if isinstance(data, list):
        yield from data
        return
    for start in range(0, len(data[0]), size):
        yield tuple(part[start : start + size] for part in data)

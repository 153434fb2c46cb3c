"""Gradients of finite sums whose noise goes to 0 with the distance to the solution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from stepsize import arrays
from stepsize.arrays import Array, Nest
from stepsize.serialization import states
from stepsize.validation import whole

if TYPE_CHECKING:
    from stepsize.training.run import Run

__all__ = ["SAGA", "SVRG"]

ValueAndGrad = Callable[[Nest, Any], tuple[float, Nest]]


class Corrected:
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


def leaves_of(nest: Nest) -> tuple[list[Any], Any]:
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


class SVRG(Corrected):
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
        """As `Corrected.corrected`; the call is a step."""
        points, spec = leaves_of(params)
        found, shape = leaves_of(grads)
        found = _known("SVRG", found, points)
        if self._snapshot is None or self._steps % self.every == 0:
            mean = self._full(params, points)  # may raise
            if _all_finite(mean):  # else the next step asks again
                self._snapshot, self._mean = [np.array(leaf) for leaf in points], mean
            result = [np.array(m) for m in mean]
        else:
            assert self._mean is not None
            there = optree.tree_unflatten(spec, [np.array(leaf) for leaf in self._snapshot])
            old = _known("SVRG", leaves_of(self._evaluate(there, batch)[1])[0], points)
            result = [g - o + m for g, o, m in zip(found, old, self._mean, strict=True)]
        self._steps += 1
        nest: Nest = optree.tree_unflatten(shape, result)
        return nest

    def _evaluate(self, params: Nest, batch: Any) -> tuple[float, Nest]:
        return arrays.loss_and_grads(self._function(params, batch))

    def _full(self, params: Nest, points: list[Any]) -> list[Array]:
        # Sums over all rows leave the range of half precision.
        total, rows = [np.zeros_like(leaf, np.result_type(leaf, np.float32)) for leaf in points], 0
        for batch in _batches(self._data, self.batch_size):
            count = arrays.rows_of(batch)[0]
            grads = _known("SVRG", leaves_of(self._evaluate(params, batch)[1])[0], points)
            total = [t + count * g for t, g in zip(total, grads, strict=True)]
            rows += count
        return [(t / rows).astype(p.dtype) for t, p in zip(total, points, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """The steps made, and the point and gradient that correct those to come."""
        return {"steps": self._steps, "snapshot": self._snapshot, "mean": self._mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        copies = states.optional(states.leaves)
        checks = {"steps": states.count, "snapshot": copies, "mean": copies}
        found = states.checked("SVRG", state, checks)
        if (found["snapshot"] is None) != (found["mean"] is None):
            raise ValueError("SVRG: snapshot and mean must both be there, or neither")
        self._steps, self._snapshot, self._mean = (found[name] for name in checks)


class SAGA(Corrected):
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
        self._find_places()
        if len(self._places) < len(self._list):
            raise ValueError("SAGA: batches must be different objects; one stands there twice")
        rows = np.array([arrays.rows_of(batch)[0] for batch in self._list], float)
        self._weights = rows / rows.sum()
        self._table: list[list[Array]] = []
        self._mean: list[Array] = []

    def _find_places(self) -> None:
        self._places = {id(batch): j for j, batch in enumerate(self._list)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy has batches of its own."""
        self.__dict__.update(state)
        self._find_places()

    def __call__(self, params: Nest, batch: Any) -> tuple[float, Nest]:
        """The loss of one of the batches, and the corrected gradients."""
        loss, grads = arrays.loss_and_grads(self._function(params, batch))
        return loss, self.corrected(params, batch, grads)

    def corrected(self, params: Nest, batch: Any, grads: Nest) -> Nest:
        """As `Corrected.corrected`, where the batch is one of those given."""
        if id(batch) not in self._places:
            raise ValueError(
                "SAGA: the batch is none of batches; train on these objects themselves, "
                "train=lambda: random.sample(batches, len(batches))"
            )
        j, points = self._places[id(batch)], leaves_of(params)[0]
        found, shape = leaves_of(grads)
        found = _known("SAGA", found, points)
        if not self._table:
            table = [self._first(params, other, points) for other in self._list]
            for k, row in enumerate(table):
                if not _all_finite(row):
                    raise ValueError(f"SAGA: the gradient of batch {k} is not finite at the start")
            self._mean = [
                sum(w * g for w, g in zip(self._weights, column, strict=True))
                for column in zip(*table, strict=True)
            ]
            self._table = table
        w, k = float(self._weights[j]), len(self._list)
        change = [g - old for g, old in zip(found, self._table[j], strict=True)]
        result = [m + k * w * c for m, c in zip(self._mean, change, strict=True)]
        if _all_finite(found):  # else the mean would never be finite again
            self._mean = [m + w * c for m, c in zip(self._mean, change, strict=True)]
            self._table[j] = [np.array(g) for g in found]
        nest: Nest = optree.tree_unflatten(shape, result)
        return nest

    def _first(self, params: Nest, batch: Any, points: list[Any]) -> list[Array]:
        grads = arrays.loss_and_grads(self._function(params, batch))[1]
        return [np.array(g) for g in _known("SAGA", leaves_of(grads)[0], points)]

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


def _all_finite(leaves: Sequence[Any]) -> bool:
    return all(bool(np.isfinite(leaf).all()) for leaf in leaves)


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

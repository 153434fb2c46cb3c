"""Neural networks in plain NumPy, with backpropagation written out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from stepsize.arrays import Array
from stepsize.problems.problem import Problem
from stepsize.validation import number, numeric, whole


def init_mlp(sizes: Sequence[int], seed: int = 0, dtype: DTypeLike = np.float32) -> dict[str, Any]:
    """Parameters of a fully connected network with ReLU between its layers.

        w[l] ~ Normal(0, 2 / sizes[l]),  b[l] = 0

    `sizes` counts the units from input to output; two sizes make a linear model.
    Source: He et al. 2015, arXiv:1502.01852, equation 10.

    >>> params = init_mlp([64, 32, 10])
    >>> [layer["w"].shape for layer in params["layers"]]
    [(64, 32), (32, 10)]
    """
    sizes = _sizes("init_mlp: sizes", sizes)
    if len(sizes) < 2:
        raise ValueError(
            f"init_mlp: sizes must hold at least an input and an output size, got {sizes}"
        )
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"init_mlp: dtype must be a dtype of NumPy, got {dtype!r:.80}") from None
    rng = np.random.default_rng(None if seed is None else whole("init_mlp: seed", seed, 0))
    return {
        "layers": [
            {
                "w": (rng.standard_normal((n, m)) * np.sqrt(2.0 / n)).astype(dtype),
                "b": np.zeros(m, dtype),
            }
            for n, m in itertools.pairwise(sizes)
        ]
    }


def _sizes(label: str, sizes: Any) -> list[int]:
    """Numbers of units, checked."""
    if not isinstance(sizes, list | tuple) and getattr(sizes, "ndim", 0) != 1:
        raise TypeError(f"{label} must be a list of whole numbers, got {sizes!r:.80}")
    return [whole(f"{label}[{i}]", size) for i, size in enumerate(sizes)]


def mlp_forward(params: Any, x: Array) -> list[Array]:
    """The activations: the input of every layer and, last, the network's output.

        a[0] = x,  a[l+1] = relu(a[l] w[l] + b[l]),  no relu on the last

    A network whose weights have diverged gives infinities and NaN without a warning; the loss shows
    it.
    """
    layers = params["layers"]
    activations = [x]
    with np.errstate(over="ignore", invalid="ignore"):
        for index, layer in enumerate(layers):
            x = x @ layer["w"] + layer["b"]
            if index < len(layers) - 1:
                x = np.maximum(x, 0)
            activations.append(x)
    return activations


def mlp_backward(params: Any, activations: list[Array], delta: Array) -> dict[str, Any]:
    """Gradients of all layers from `delta`, the derivative of the loss by the network's output."""
    grads = []
    with np.errstate(over="ignore", invalid="ignore"):
        for index in range(len(params["layers"]) - 1, -1, -1):
            a = activations[index]
            grads.append({"w": a.T @ delta, "b": delta.sum(axis=0)})
            if index:
                delta = (delta @ params["layers"][index]["w"].T) * (a > 0)
    return {"layers": grads[::-1]}


def cross_entropy(scores: Array, labels: Array) -> tuple[float, Array]:
    """Mean softmax cross-entropy of integer labels, and its derivative by the scores.

    loss = mean(log(sum_k exp(s_k)) - s_label),  delta = (softmax(s) - onehot) / batch
    """
    rows = np.arange(len(labels))
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = scores - scores.max(axis=1, keepdims=True)
        delta = np.exp(shifted)
        total = delta.sum(axis=1, keepdims=True)
        loss = float(np.mean(np.log(total[:, 0]) - shifted[rows, labels]))
        delta /= total
        delta[rows, labels] -= 1
        delta /= len(labels)
    return loss, delta


def squared_error(scores: Array, targets: Array) -> tuple[float, Array]:
    """Half the mean squared error, and its derivative by the scores.

    `loss = mean_i |s_i - y_i|^2 / 2`, `delta = (s - y) / batch`
    """
    with np.errstate(over="ignore", invalid="ignore"):
        delta = (scores - targets.reshape(scores.shape)).astype(scores.dtype)
        loss = float(np.sum(delta * delta, dtype=np.float64) / (2 * len(scores)))
    return loss, delta / len(scores)


def cross_entropy_loss(params: Any, batch: tuple[Array, Array]) -> tuple[float, Any]:
    """Loss and gradients of a classification network, as a `value_and_grad`."""
    x, labels = batch
    activations = mlp_forward(params, x)
    loss, delta = cross_entropy(activations[-1], labels)
    return loss, mlp_backward(params, activations, delta)


def squared_error_loss(params: Any, batch: tuple[Array, Array]) -> tuple[float, Any]:
    """Loss and gradients of a regression network, as a `value_and_grad`."""
    x, targets = batch
    activations = mlp_forward(params, x)
    loss, delta = squared_error(activations[-1], targets)
    return loss, mlp_backward(params, activations, delta)


def cross_entropy_scores(params: Any, batch: tuple[Array, Array]) -> dict[str, float]:
    """Loss and accuracy (a fraction, 0 to 1) of a classification network."""
    x, labels = batch
    scores = mlp_forward(params, x)[-1]
    accuracy = float(np.mean(scores.argmax(axis=1) == labels))
    return {"loss": cross_entropy(scores, labels)[0], "accuracy": accuracy}


def squared_error_scores(
    params: Any, batch: tuple[Array, Array], spread: float | None = None
) -> dict[str, float]:
    """Loss and R^2 (1 is perfect, 0 is no better than the mean) of a regression network.

    Where the rows come in several batches, `spread` is the loss that the mean of all of them has:
    the mean of R^2 over the rows is then that of all rows together, whatever the batches.
    """
    x, targets = batch
    scores = mlp_forward(params, x)[-1]
    loss = squared_error(scores, targets)[0]
    spread = _spread(targets.reshape(scores.shape)) if spread is None else spread
    return {"loss": loss, "r2": 1 - loss / spread if spread else 0.0}


def _spread(y: Array) -> float:
    """The loss of the mean."""
    return float(np.sum((y - y.mean(axis=0)) ** 2, dtype=np.float64) / (2 * len(y)))


def _split(
    arrays: tuple[Array, ...], validation: float, seed: int
) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
    validation = number("validation", validation, 0.0, 1.0)
    seed = whole("seed", seed, 0)
    rows = len(arrays[0])
    held_out = round(rows * validation)
    if held_out == 0:
        return arrays, None
    order = np.random.default_rng(seed).permutation(rows)
    return tuple(a[order[held_out:]] for a in arrays), tuple(a[order[:held_out]] for a in arrays)


def classifier(
    x: ArrayLike,
    y: ArrayLike,
    *,
    hidden: Sequence[int] = (32,),
    validation: float = 0.25,
    seed: int = 0,
    name: str = "classifier",
) -> Problem:
    """A classification network, rows of `x` to classes `y`, trained by cross-entropy.

    `y` holds integers from 0; `hidden=()` gives softmax regression. `seed` determines the weights
    and the `validation` fraction of rows that is held out.

    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [0.1, 0.9], [0.8, 0.1]])
    >>> problem = classifier(x, [0, 1, 0, 1], hidden=(), validation=0.5)
    >>> len(problem.train[0]), len(problem.validation[0])
    (2, 2)
    """
    x, y = numeric("classifier: x", x, np.float32), numeric("classifier: y", y, None)
    hidden = _sizes("classifier: hidden", hidden)
    if x.ndim != 2 or y.shape != (len(x),):
        raise ValueError(f"x must be (rows, features) and y (rows,), got {x.shape} and {y.shape}")
    if y.dtype.kind not in "iu" or y.min() < 0:
        raise ValueError(
            f"y must hold class numbers from 0, got {y.dtype} from {y.min()}: "
            "number the classes with np.unique(y, return_inverse=True)[1]"
        )
    train, held_out = _split((x, y.astype(np.int64)), validation, seed)
    params = init_mlp([x.shape[1], *hidden, int(y.max()) + 1], seed)
    return Problem(params, cross_entropy_loss, train, held_out, cross_entropy_scores, name)


def regressor(
    x: ArrayLike,
    y: ArrayLike,
    *,
    hidden: Sequence[int] = (32,),
    validation: float = 0.25,
    seed: int = 0,
    name: str = "regressor",
) -> Problem:
    """A regression network, rows of `x` to numbers `y`, trained by squared error.

    `hidden=()` gives linear least squares.

    >>> problem = regressor([[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0], hidden=())
    >>> [layer["w"].shape for layer in problem.params["layers"]]
    [(1, 1)]
    """
    x, y = numeric("regressor: x", x, np.float32), numeric("regressor: y", y, np.float32)
    hidden = _sizes("regressor: hidden", hidden)
    if x.ndim != 2 or y.ndim not in (1, 2) or len(y) != len(x):
        raise ValueError(f"x must be (rows, features) and y (rows,), got {x.shape} and {y.shape}")
    y = y.reshape(len(y), -1)
    train, held_out = _split((x, y), validation, seed)
    params = init_mlp([x.shape[1], *hidden, y.shape[1]], seed)
    scores: Any = squared_error_scores
    if held_out is not None:
        scores = partial(squared_error_scores, spread=_spread(held_out[1]))
    return Problem(params, squared_error_loss, train, held_out, scores, name)


def digits(
    seed: int = 0,
    *,
    hidden: Sequence[int] = (32,),
    validation: float = 0.25,
    rows: int | None = None,
) -> Problem:
    """Handwritten digits, 8 x 8 pixels in ten classes: 1,797 real images that scikit-learn bundles.

    `rows` keeps only that many training images, to see how little data a question needs. Needs the
    extra `demo`.

    >>> problem = digits()
    >>> problem.train[0].shape, problem.validation[0].shape
    ((1348, 64), (449, 64))
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('digits needs scikit-learn: pip install "stepsize[demo]"') from error
    x, y = load_digits(return_X_y=True)
    problem = classifier(
        x / 16.0, y, hidden=hidden, validation=validation, seed=seed, name="digits"
    )
    if rows is None:
        return problem
    rows = whole("digits: rows", rows, most=len(problem.train[0]))
    return replace(problem, train=tuple(array[:rows] for array in problem.train))

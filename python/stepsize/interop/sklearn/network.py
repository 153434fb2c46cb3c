"""Fully connected networks with scikit-learn's activations, losses and penalty, in plain NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepsize.arrays import Array

Params = dict[str, list[Array]]  # coefs: (inputs, outputs) of each layer; intercepts: (outputs,)


def _expit(z: Array) -> Array:
    # tanh neither overflows nor loses small values, and it works in the dtype of z.
    z *= 0.5
    np.tanh(z, out=z)
    z *= 0.5
    z += 0.5
    return z


def _relu_slope(a: Array, delta: Array) -> Array:
    delta *= a > 0
    return delta


def _logistic_slope(a: Array, delta: Array) -> Array:
    delta *= a * (1 - a)
    return delta


def _tanh_slope(a: Array, delta: Array) -> Array:
    delta *= 1 - a * a
    return delta


# Each changes z in place; each slope multiplies delta in place by the derivative at a = f(z).
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]] = {
    "identity": (lambda z: z, lambda a, delta: delta),
    "logistic": (_expit, _logistic_slope),
    "tanh": (lambda z: np.tanh(z, out=z), _tanh_slope),
    "relu": (lambda z: np.maximum(z, 0, out=z), _relu_slope),
}


def _cross_entropy(scores: Array, y: Array) -> tuple[Array, Array]:
    rows = np.arange(len(y))
    scores -= scores.max(axis=1, keepdims=True)
    chosen = scores[rows, y]
    delta = np.exp(scores, out=scores)
    total = delta.sum(axis=1)
    delta /= total[:, None]
    delta[rows, y] -= 1
    return np.log(total) - chosen, delta


def _log_loss(scores: Array, y: Array) -> tuple[Array, Array]:
    losses = np.logaddexp(0, scores) - y * scores
    return losses.sum(axis=1), _expit(scores) - y


def _squared_error(scores: Array, y: Array) -> tuple[Array, Array]:
    delta = np.subtract(scores, y, out=scores)
    return np.einsum("ij,ij->i", delta, delta) / 2, delta


def _poisson(scores: Array, y: Array) -> tuple[Array, Array]:
    mean = np.exp(scores)
    own = y * np.log(np.where(y > 0, y, 1)) - y  # the loss of a perfect prediction
    return (mean - y * scores + own).sum(axis=1), mean - y


def _softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


# Each returns the loss of every row and its derivative by the scores, which it may overwrite.
LOSSES: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
    "cross_entropy": _cross_entropy,
    "log_loss": _log_loss,
    "squared_error": _squared_error,
    "poisson": _poisson,
}

# From scores to predictions: probabilities or values.
OUTPUTS: dict[str, Callable[[Array], Array]] = {
    "cross_entropy": _softmax,
    "log_loss": _expit,
    "squared_error": lambda scores: scores,
    "poisson": np.exp,
}

# The output activations, by scikit-learn's names.
ENDS = {
    "cross_entropy": "softmax",
    "log_loss": "logistic",
    "squared_error": "identity",
    "poisson": "exp",
}


def draw(sizes: Sequence[int], activation: str, random: Any, dtype: Any) -> Params:
    r"""Weights and intercepts as scikit-learn draws them, number by number.

        w, b ~ Uniform(-r, r),  r = sqrt(6 / (inputs + outputs)),  2 instead of 6 for "logistic"

    Source: Glorot & Bengio 2010, AISTATS, equation 16.
    """
    params: Params = {"coefs": [], "intercepts": []}
    for n, m in itertools.pairwise(sizes):
        reach = np.sqrt((2.0 if activation == "logistic" else 6.0) / (n + m))
        params["coefs"].append(random.uniform(-reach, reach, (n, m)).astype(dtype))
        params["intercepts"].append(random.uniform(-reach, reach, m).astype(dtype))
    return params


SAMPLE = 10_000  # rows on which a trained network is compared with a constant


@dataclass(frozen=True)
class Network:
    """A fully connected network as a ``value_and_grad`` of a batch ``(x, y, weights)``.

        loss = mean_i w_i loss_i + penalty sum |coefs|^2 / 2

    A batch is ``(x, y)``, or ``(x, y, weights)`` with one weight per row. ``penalty`` is a function
    of the number of rows in the batch. Overflow and NaN raise no warning.
    """

    activation: str
    loss: str
    penalty: Callable[[int], float]
    intercept: bool = True

    def forward(self, params: Params, x: Any) -> list[Any]:
        """The input of every layer and, last, the scores."""
        function = ACTIVATIONS[self.activation][0]
        layers = list(zip(params["coefs"], params["intercepts"], strict=True))
        activations = [x]
        for index, (w, b) in enumerate(layers, 1):
            x = x @ w
            x += b
            if index < len(layers):
                x = function(x)
            activations.append(x)
        return activations

    def predict(self, params: Params, x: Any) -> Array:
        """Probabilities or values."""
        with np.errstate(over="ignore", invalid="ignore"):
            return OUTPUTS[self.loss](self.forward(params, x)[-1])

    def is_blind(self, params: Params, batch: tuple[Any, ...]) -> bool:
        """Whether the loss is no lower than that of the best constant, as of a dead network.

        It looks at `SAMPLE` rows at most, evenly spaced.
        """
        step = max(1, len(batch[1]) // SAMPLE)
        x, y, *weights = (part[::step] for part in batch)
        weight = weights[0] if weights else np.ones(len(y))
        share = np.bincount(y, weight, params["intercepts"][-1].size) if y.ndim == 1 else None
        mean = np.average(y, axis=0, weights=weight) if share is None else share / share.sum()
        with np.errstate(all="ignore"):
            odds = mean if self.loss == "squared_error" else np.log(mean)
            constant = odds - np.log1p(-mean) if self.loss == "log_loss" else odds
            function = LOSSES[self.loss]
            scores = np.asarray(self.forward(params, x)[-1], np.float64)
            found = np.average(function(scores, y)[0], weights=weight)
            blind = np.average(
                function(np.tile(constant, (len(y), 1)).astype(np.float64), y)[0], weights=weight
            )
        return bool(np.isfinite(blind) and blind > 0 and found >= (1 - 1e-3) * blind)

    def __call__(self, params: Params, batch: tuple[Any, ...]) -> tuple[float, Params]:
        """Loss and gradients: a ``value_and_grad``."""
        x, y, *weights = batch
        with np.errstate(over="ignore", invalid="ignore"):
            activations = self.forward(params, x)
            losses, delta = LOSSES[self.loss](activations[-1], y)
            rows = len(losses)
            if weights:
                losses = losses * weights[0]
                delta *= weights[0][:, None]
            delta /= rows
            penalty = self.penalty(rows)
            loss = float(losses.sum()) / rows
            if penalty:
                loss += penalty / 2 * sum(float(np.vdot(w, w)) for w in params["coefs"])
            return loss, self._backward(params, activations, delta, penalty)

    def _backward(
        self, params: Params, activations: list[Any], delta: Array, penalty: float
    ) -> Any:
        slope = ACTIVATIONS[self.activation][1]
        coefs: list[Array] = []
        intercepts: list[Array | None] = []
        for index in range(len(params["coefs"]) - 1, -1, -1):
            w = params["coefs"][index]
            grad = activations[index].T @ delta
            if penalty:
                grad += w.dtype.type(penalty) * w
            coefs.append(grad)
            intercepts.append(delta.sum(axis=0) if self.intercept else None)
            if index:
                delta = slope(activations[index], delta @ w.T)
        return {"coefs": coefs[::-1], "intercepts": intercepts[::-1]}

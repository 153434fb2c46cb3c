"""Small hand-written models whose gradients the advice benchmarks need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Params = dict[str, np.ndarray]
Batch = tuple[np.ndarray, ...]
Head = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


def softmax_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of integer labels and its gradient with respect to the logits."""
    out = out - out.max(axis=1, keepdims=True)
    e = np.exp(out)
    total = e.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = float(np.mean(np.log(total[:, 0]) - out[rows, y]))
    d = e / total
    d[rows, y] -= 1
    return loss, d / np.float32(len(y))


def square_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Half the mean squared error per row, summed over outputs."""
    d = out - y.reshape(out.shape)
    return 0.5 * float(np.mean(np.sum(np.square(d, dtype=np.float64), axis=1))), d / np.float32(
        len(y)
    )


def logistic_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean logistic loss for labels 0 and 1."""
    z = out[:, 0]
    loss = float(np.mean(np.logaddexp(0, z) - y * z))
    p = np.where(z > 0, 1 / (1 + np.exp(-np.abs(z))), 1 - 1 / (1 + np.exp(-np.abs(z))))
    return loss, ((p - y) / np.float32(len(y)))[:, None].astype(out.dtype)


def hinge_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean hinge loss for labels 0 and 1."""
    sign = (2 * y - 1).astype(out.dtype)
    margin = 1 - sign * out[:, 0]
    active = margin > 0
    return float(np.mean(np.maximum(margin, 0))), (-(sign * active) / np.float32(len(y)))[:, None]


def gaussian_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Negative log-likelihood of a normal law with learnt mean and log-deviation; goes below 0."""
    z = (y - out[:, 0]) * np.exp(-out[:, 1])
    loss = float(np.mean(0.5 * np.square(z) + out[:, 1]))
    d = np.stack([-z * np.exp(-out[:, 1]), 1 - np.square(z)], axis=1)
    return loss, (d / np.float32(len(y))).astype(out.dtype)


def poisson_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Poisson negative log-likelihood with a log link, without its constant."""
    rate = np.exp(out[:, 0])
    return float(np.mean(rate - y * out[:, 0])), ((rate - y) / np.float32(len(y)))[:, None]


def mlp(sizes: Sequence[int], head: Head, activation: str = "tanh", l2: float = 0.0) -> tuple:
    """`init(rng)` and `value_and_grad(params, (x, y))` of a fully connected network."""
    depth = len(sizes) - 1
    gain = {"tanh": 1.0, "relu": 2.0}[activation]

    def init(rng: np.random.Generator) -> Params:
        params = {}
        for k in range(depth):
            scale = np.sqrt((gain if k + 1 < depth else 1.0) / sizes[k])
            weights = rng.standard_normal((sizes[k], sizes[k + 1])) * scale
            params[f"w{k}"] = weights.astype(np.float32)
            params[f"b{k}"] = np.zeros(sizes[k + 1], np.float32)
        return params

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        hidden = [batch[0]]
        for k in range(depth):
            z = hidden[-1] @ params[f"w{k}"] + params[f"b{k}"]
            if k + 1 < depth:
                z = np.tanh(z) if activation == "tanh" else np.maximum(z, 0)
            hidden.append(z)
        loss, d = head(hidden[-1], batch[1])
        grads = {}
        for k in reversed(range(depth)):
            grads[f"w{k}"] = hidden[k].T @ d
            grads[f"b{k}"] = d.sum(axis=0)
            if k:
                slope = 1 - np.square(hidden[k]) if activation == "tanh" else hidden[k] > 0
                d = (d @ params[f"w{k}"].T) * slope
        if l2:
            for name, w in params.items():
                loss += 0.5 * l2 * float(np.vdot(w, w))
                grads[name] = grads[name] + np.float32(l2) * w
        return loss, grads

    return init, value_and_grad


def conv(channels: int, classes: int) -> tuple:
    """A 3x3 convolution on 8x8 images, ReLU, 2x2 mean pooling, and a linear read-out."""
    offsets = np.arange(6)
    rows = offsets[:, None, None, None] + np.arange(3)[None, None, :, None]
    cols = offsets[None, :, None, None] + np.arange(3)[None, None, None, :]
    where = (rows * 8 + cols).reshape(36, 9)

    def init(rng: np.random.Generator) -> Params:
        return {
            "kernel": (rng.standard_normal((9, channels)) * np.sqrt(2 / 9)).astype(np.float32),
            "bias": np.zeros(channels, np.float32),
            "out": (rng.standard_normal((9 * channels, classes)) / np.sqrt(9 * channels)).astype(
                np.float32
            ),
        }

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        n = len(batch[0])
        patches = batch[0][:, where].reshape(n * 36, 9)
        z = np.maximum(patches @ params["kernel"] + params["bias"], 0)
        pooled = z.reshape(n, 3, 2, 3, 2, channels).mean(axis=(2, 4)).reshape(n, 9 * channels)
        loss, d = softmax_head(pooled @ params["out"], batch[1])
        dz = (d @ params["out"].T).reshape(n, 3, 1, 3, 1, channels) / np.float32(4)
        dz = np.broadcast_to(dz, (n, 3, 2, 3, 2, channels)).reshape(n * 36, channels) * (z > 0)
        return loss, {"kernel": patches.T @ dz, "bias": dz.sum(axis=0), "out": pooled.T @ d}

    return init, value_and_grad


def embedding(vocabulary: int, context: int, width: int, hidden: int) -> tuple:
    """Next-character model: embed `context` characters, one tanh layer, softmax."""

    def init(rng: np.random.Generator) -> Params:
        def normal(*shape: int) -> np.ndarray:
            return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

        return {
            "embed": rng.standard_normal((vocabulary, width)).astype(np.float32),
            "w": normal(context * width, hidden),
            "out": normal(hidden, vocabulary) * np.float32(0.1),
        }

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        x = params["embed"][batch[0]].reshape(len(batch[0]), -1)
        h = np.tanh(x @ params["w"])
        loss, d = softmax_head(h @ params["out"], batch[1])
        dh = (d @ params["out"].T) * (1 - np.square(h))
        dx = (dh @ params["w"].T).reshape(-1, width)
        demb = np.zeros_like(params["embed"])
        np.add.at(demb, batch[0].reshape(-1), dx)
        return loss, {"embed": demb, "w": x.T @ dh, "out": h.T @ d}

    return init, value_and_grad


def factorisation(rows: int, cols: int, rank: int) -> tuple:
    """Matrix factorisation from observed entries: `batch = (i, j, value)`."""

    def init(rng: np.random.Generator) -> Params:
        return {
            "u": (rng.standard_normal((rows, rank)) * 0.3).astype(np.float32),
            "v": (rng.standard_normal((cols, rank)) * 0.3).astype(np.float32),
        }

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        i, j, value = batch
        u, v = params["u"][i], params["v"][j]
        d = np.sum(u * v, axis=1) - value
        scaled = (d / np.float32(len(d)))[:, None]
        du, dv = np.zeros_like(params["u"]), np.zeros_like(params["v"])
        np.add.at(du, i, scaled * v)
        np.add.at(dv, j, scaled * u)
        return 0.5 * float(np.mean(np.square(d, dtype=np.float64))), {"u": du, "v": dv}

    return init, value_and_grad


def rosenbrock(size: int) -> tuple:
    """The banana valley in `size` dimensions, deterministic."""

    def init(rng: np.random.Generator) -> Params:
        return {"x": np.asarray(rng.uniform(-1.2, 1.2, size), np.float64)}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        x = params["x"]
        a, b = x[1:] - np.square(x[:-1]), 1 - x[:-1]
        grad = np.zeros_like(x)
        grad[1:] += 200 * a
        grad[:-1] += -400 * a * x[:-1] - 2 * b
        return float(np.sum(100 * np.square(a) + np.square(b))), {"x": grad}

    return init, value_and_grad


def quadratic(curvatures: np.ndarray) -> tuple:
    """Noisy quadratic: `batch = (shift,)` moves the minimum, so gradients are noisy."""
    h = curvatures.astype(np.float32)

    def init(rng: np.random.Generator) -> Params:
        return {"x": (rng.standard_normal(len(h)) / np.sqrt(h)).astype(np.float32)}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        d = params["x"] - batch[0].mean(axis=0)
        return 0.5 * float(np.sum(h * np.square(d, dtype=np.float64))), {"x": h * d}

    return init, value_and_grad

"""Problems that `check_gradients` had not seen while it was built."""

from __future__ import annotations

from typing import Any

import numpy as np
from models import Model, Params, Sizes, activation, arrays_of, penalty, softmax_loss


def _convolved(x: Any, kernel: Any) -> Any:
    """Images (n, height, width, channels) with a 3x3 kernel, zeros around."""
    n, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((n, height, width, kernel.shape[3]), x.dtype)
    for i in range(3):
        for j in range(3):
            out += padded[:, i : i + height, j : j + width] @ kernel[i, j]
    return out


def _convolved_back(x: Any, kernel: Any, d: Any) -> tuple[Any, Any]:
    """Derivatives of the images and of the kernel."""
    _, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    dx, dk = np.zeros_like(padded), np.zeros_like(kernel)
    for i in range(3):
        for j in range(3):
            window = padded[:, i : i + height, j : j + width]
            dk[i, j] = np.einsum("nhwc,nhwd->cd", window, d)
            dx[:, i : i + height, j : j + width] += d @ kernel[i, j].T
    return dx[:, 1:-1, 1:-1], dk


def convolution(
    rng: np.random.Generator, dtype: Any, kinked: bool, sizes: Sizes = (10, 6, 4, 5)
) -> Model:
    """Two layers with one kernel, a mean over the image, ten classes or fewer."""
    n, size, c, k = sizes
    x = rng.standard_normal((n, size, size, 2)).astype(dtype)
    target = rng.integers(0, k, n)
    params = arrays_of(
        rng, dtype, first=(0.4, (3, 3, 2, c)), kernel=(0.3, (3, 3, c, c)), b=(0.2, (c,)),
        v=(0.8, (c, k)),
    )  # fmt: skip

    def core(p: Params, batch: Any) -> Any:
        x, target = batch
        a1, s1 = activation(_convolved(x, p["first"]) + p["b"], kinked)
        a2, s2 = activation(_convolved(a1, p["kernel"]), kinked)
        a3, s3 = activation(_convolved(a2, p["kernel"]), kinked)
        pooled = a3.mean(axis=(1, 2))
        loss, dl = softmax_loss(pooled @ p["v"], target)
        d3 = s3 * (dl @ p["v"].T)[:, None, None, :] / x.dtype.type(size * size)
        d_a2, part = _convolved_back(a2, p["kernel"], d3)
        d_a1, other = _convolved_back(a1, p["kernel"], d_a2 * s2)
        d1 = d_a1 * s1
        grads = {
            "first": _convolved_back(x, p["first"], d1)[1],
            "kernel": part + other,
            "b": d1.sum(axis=(0, 1, 2)),
            "v": pooled.T @ dl,
        }
        return loss, {name: g.astype(x.dtype) for name, g in grads.items()}, part

    return Model("convolution", core, params, (x, target), "kernel", "kernel", "v", n, k)


def recurrent(
    rng: np.random.Generator, dtype: Any, kinked: bool, sizes: Sizes = (14, 6, 4, 7, 3)
) -> Model:
    """A plain recurrent network over six steps; the part is truncated to the last one."""
    n, steps, d, h, k = sizes
    data = arrays_of(rng, dtype, x=(1, (n, steps, d)), y=(1, (n, k)))
    params = arrays_of(
        rng, dtype, u=(0.5, (d, h)), w=(0.45, (h, h)), b=(0.2, (h,)), v=(0.5, (h, k))
    )

    def core(p: Params, batch: Any) -> Any:
        x, y = batch
        states, slopes = [np.zeros((n, h), x.dtype)], []
        for t in range(steps):
            a, s = activation(x[:, t] @ p["u"] + states[-1] @ p["w"] + p["b"], kinked)
            states.append(a)
            slopes.append(s)
        error = states[-1] @ p["v"] - y
        e = error * x.dtype.type(2 / error.size)
        grads = {name: np.zeros_like(leaf) for name, leaf in p.items()}
        grads["v"] = states[-1].T @ e
        d_state, part = e @ p["v"].T, None
        for t in reversed(range(steps)):
            dz = d_state * slopes[t]
            grads["u"] += x[:, t].T @ dz
            grads["w"] += states[t].T @ dz
            grads["b"] += dz.sum(0)
            part = grads["w"].copy() if part is None else part
            d_state = dz @ p["w"].T
        return (error * error).mean(), grads, part

    return Model("recurrent", core, params, tuple(data.values()), "w", "w", "u", n, k)


def gaussian_process(
    rng: np.random.Generator, dtype: Any, kinked: bool, sizes: Sizes = (18, 3)
) -> Model:
    """Marginal likelihood; a projection of the inputs serves the kernel and the mean."""
    n, d = sizes
    data = arrays_of(rng, dtype, x=(1, (n, d)), y=(1, (n,)))
    params = arrays_of(rng, dtype, q=(0.6, (d, d)), scale=(0.3, ()), noise=(0.2, ()), m=(0.5, (d,)))

    def core(p: Params, batch: Any) -> Any:
        x, y = batch
        z = x @ p["q"]
        difference = z[:, None] - z[None]
        variance, noise = np.exp(p["scale"]), np.exp(p["noise"])
        kernel = variance * np.exp(-(difference**2).sum(-1) / 2)
        whole = kernel + noise * np.eye(n, dtype=x.dtype)
        feature, slope = activation(z, kinked)
        rest = y - feature @ p["m"]
        solved = np.linalg.solve(whole, rest)
        loss = (rest @ solved + np.linalg.slogdet(whole)[1]) / 2
        d_whole = (np.linalg.inv(whole) - np.outer(solved, solved)) / 2
        weight = d_whole * kernel
        d_z = -2 * (weight[:, :, None] * difference).sum(1)
        part = x.T @ d_z
        d_feature = -np.outer(solved, p["m"])
        grads = {
            "q": part + x.T @ (d_feature * slope),
            "scale": np.array(weight.sum()),
            "noise": np.array(noise * np.trace(d_whole)),
            "m": -feature.T @ solved,
        }
        return loss, {name: np.asarray(g, x.dtype) for name, g in grads.items()}, part

    return Model("gaussian process", core, params, tuple(data.values()), "q", "q", "q", n, d)


def pde(rng: np.random.Generator, dtype: Any, kinked: bool, sizes: Sizes = (14, 4)) -> Model:
    """-(a u')' + u = f with a = exp(theta), from all of u; the adjoint gives the gradient.

    The regulariser is the second use of theta: squares of its jumps, or their absolute values.
    """
    cells, sources = sizes
    h = 1 / cells
    grid = np.arange(1, cells) * h
    shapes = np.array([np.sin((k + 1) * np.pi * grid) for k in range(sources)]).T.astype(dtype)
    target = (0.3 * rng.standard_normal((cells - 1, 3))).astype(dtype)
    loads = rng.standard_normal((sources, 3)).astype(dtype)
    params = arrays_of(rng, dtype, theta=(0.4, (cells,)), mix=(2.0, (sources, sources)))
    jump = np.diff(np.eye(cells, dtype=dtype), axis=0)

    def core(p: Params, batch: Any) -> Any:
        target, shapes, loads = batch
        a = np.exp(p["theta"])
        inner = (jump / dtype(h)).astype(a.dtype)
        matrix = inner @ (a[:, None] * inner.T) + np.eye(cells - 1, dtype=a.dtype)
        u = np.linalg.solve(matrix, 10 * shapes @ p["mix"] @ loads)
        misfit = u - target
        adjoint = np.linalg.solve(matrix.T, misfit)
        part = -a * ((inner.T @ adjoint) * (inner.T @ u)).sum(1)
        rough, d_rough = penalty(jump @ p["theta"], kinked)
        grads = {
            "theta": part + 4 * jump.T @ d_rough,
            "mix": 10 * shapes.T @ adjoint @ loads.T,
        }
        loss = (misfit * misfit).sum() / 2 + 4 * rough
        return loss, {name: g.astype(a.dtype) for name, g in grads.items()}, part.astype(a.dtype)

    return Model(
        "pde", core, params, (target, shapes, loads), "theta", "mix", "mix", cells - 1, 3, True
    )

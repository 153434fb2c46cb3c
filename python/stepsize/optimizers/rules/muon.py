"""Muon: momentum with orthogonalized matrix updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from stepsize.arrays import Array
from stepsize.optimizers.fields import (
    Value,
    choice,
    count,
    flag,
    nonnegative,
    positive,
    reals,
    unit,
    unit_pair,
)
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import lerp, power, product, root, sum_of_squares
from stepsize.optimizers.slots import signed, squares

__all__ = ["Muon"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(
    matrix: Array, steps: int, eps: float, coefficients: Sequence[float] = COEFFICIENTS
) -> Any:
    """The matrix with singular values near 1, by a quintic Newton-Schulz iteration.

    They are not exactly 1: the coefficients maximize the slope at 0, so that a few steps suffice.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.dtype.type(max(math.sqrt(sum_of_squares(matrix)), eps))
    for _ in range(steps):
        gram = product(x, x.T)
        x = a * x + product(b * gram + c * product(gram, gram), x)
    return x.T if tall else x


class Muon(Optimizer):
    r"""Momentum whose matrix updates are replaced by the nearest orthogonal matrix.

    .. math::
        m &\leftarrow m + (1 - \mu)(g - m), \quad
        u = g + \mu (m - g) \text{ with Nesterov, else } m \\
        x &\leftarrow x (1 - \eta \lambda) - \eta\, a\, \text{orthogonal}(u), \quad
        a = \sqrt{\max(1, \text{rows} / \text{columns})}
            \text{ or } 0.2 \sqrt{\max(\text{rows}, \text{columns})}

    Leaves that are not matrices, and groups with ``use_muon=False`` (embeddings, heads), follow
    AdamW at the rate ``lr * adamw_scale``. State: one array for a matrix (``momentum_buffer``), two
    for any other leaf (``exp_avg``, ``exp_avg_sq``). Matrix products are in the dtype of the
    leaf and in a fixed order; torch rounds to bfloat16.

    Args:
        params: A nest of float32 or float64 arrays, updated in place.
        lr: Learning rate :math:`\eta`.
        weight_decay: :math:`\lambda`, decoupled from the gradient.
        momentum: :math:`\mu`.
        nesterov: Use Nesterov momentum.
        eps: The smallest norm by which the iteration divides.
        ns_steps: Newton-Schulz iterations.
        ns_coefficients: The three coefficients of the iteration.
        adjust_lr_fn: The form of :math:`a`: "original", the first, or "match_rms_adamw", the
            second, which makes rates tuned for AdamW fit; None for "original".
        use_muon: False for AdamW; fixed at construction.
        adamw_scale: Multiplies the rate of the AdamW leaves.
        adamw_betas: AdamW's betas.
        adamw_eps: AdamW's eps.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; scaling, Liu et al.
    2025, arXiv:2502.16982, section 2.2. As torch.optim.Muon for matrices.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = {"w": np.eye(2), "b": np.zeros(2)}
        >>> opt = ss.Muon(params, lr=0.1, weight_decay=0.0)
        >>> opt.step({"w": np.array([[3.0, 0.0], [0.0, 0.01]]), "b": np.ones(2)})
        >>> sorted(opt.state["w"]), sorted(opt.state["b"])
        (['momentum_buffer'], ['exp_avg', 'exp_avg_sq'])
    """

    lr = nonnegative(1e-3)
    weight_decay = nonnegative(0.1)
    momentum = unit(0.95)
    nesterov = flag(True)
    eps = positive(1e-7)
    ns_steps = count(5)
    ns_coefficients = reals(*COEFFICIENTS)
    adjust_lr_fn = choice("original", "match_rms_adamw", none="original")
    use_muon = flag(True)
    adamw_scale = nonnegative(1.0)
    adamw_betas = unit_pair(0.9, 0.95)
    adamw_eps = nonnegative(1e-8)
    later = ("ns_coefficients",)
    slots = (signed("momentum_buffer"), signed("exp_avg"), squares("exp_avg_sq"))
    shaped = True
    decay = "none"

    def slot_shape(
        self, slot: str, leaf: Array, values: Mapping[str, Value]
    ) -> tuple[int, ...] | None:
        matrix = leaf.ndim == 2 and values["use_muon"]
        return leaf.shape if matrix == (slot == "momentum_buffer") else None

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        if not hasattr(s, "momentum_buffer"):
            _adamw(x, g, s, h)
            return
        s.momentum_buffer[...] = lerp(s.momentum_buffer, g, 1 - h.momentum)
        update: Any = lerp(g, s.momentum_buffer, h.momentum) if h.nesterov else s.momentum_buffer
        rows, columns = x.shape
        original = math.sqrt(max(1.0, rows / columns))
        scale = original if h.adjust_lr_fn == "original" else 0.2 * math.sqrt(max(rows, columns))
        coefficients = (h.ns_coefficient1, h.ns_coefficient2, h.ns_coefficient3)
        x *= 1 - h.lr * h.weight_decay
        x -= h.lr * scale * orthogonalize(update, h.ns_steps, h.eps, coefficients)


def _adamw(x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
    rate, beta1, beta2 = h.lr * h.adamw_scale, h.adamw_beta1, h.adamw_beta2
    s.exp_avg[...] = lerp(s.exp_avg, g, 1 - beta1)
    s.exp_avg_sq[...] = beta2 * s.exp_avg_sq + (1 - beta2) * g * g
    unbias = 1 / math.sqrt(1 - power(beta2, h.t))
    x *= 1 - rate * h.weight_decay
    x -= rate / (1 - power(beta1, h.t)) * s.exp_avg / (root(s.exp_avg_sq) * unbias + h.adamw_eps)

"""Muon: momentum with orthogonalized matrix updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.optimizers.fields import (
    Choice,
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
from stepsize.optimizers.primitives import (
    lerp,
    power,
    product,
    root,
    squaring_scale,
    sum_of_squares,
)
from stepsize.optimizers.slots import signed, squares

__all__ = ["Muon"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)

# Amsel et al. 2025, arXiv:2505.16932, Algorithm 1: of each iteration, the last one from then on.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
_SAFETY = 1.01


def _polar_express(step: int) -> tuple[float, float, float]:
    """The coefficients of an iteration, with the authors' factor against rounding."""
    a, b, c = POLAR_EXPRESS[min(step, len(POLAR_EXPRESS) - 1)]
    if step >= len(POLAR_EXPRESS) - 1:
        return a, b, c
    cube = _SAFETY * _SAFETY * _SAFETY
    return a / _SAFETY, b / cube, c / (cube * _SAFETY * _SAFETY)


def orthogonalize(
    matrix: Array,
    steps: int,
    eps: float,
    coefficients: Sequence[float] = COEFFICIENTS,
    table: str | None = None,
) -> Any:
    """The matrix with singular values near 1, by a quintic Newton-Schulz iteration.

    They are not exactly 1: the coefficients maximize the slope at 0, so that a few steps suffice.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    scale = squaring_scale(matrix)  # the norm may be beyond all numbers
    matrix = matrix * scale
    length = math.sqrt(sum_of_squares(matrix)) * (_SAFETY if table else 1.0)
    x = matrix.T if tall else matrix
    x = x / x.dtype.type(max(length, eps * float(scale)))
    for step in range(steps):
        a, b, c = _polar_express(step) if table else coefficients
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

    With ``row_beta2`` above 0 (NorMuon) each row of the orthogonal matrix is divided by the root of
    an average of its mean squares, and the matrix brought back to its norm.

    Leaves that are not matrices, and groups with ``use_muon=False`` (embeddings, heads), follow
    AdamW at the rate ``lr * adamw_scale``. State: one array for a matrix (``momentum_buffer``),
    with ``row_beta2`` another number a row (``row_avg_sq``), and two for any other leaf
    (``exp_avg``, ``exp_avg_sq``). Matrix products are in the dtype of the leaf and in a fixed
    order; torch rounds to bfloat16.

    Args:
        params: A nest of float32 or float64 arrays, updated in place.
        lr: Learning rate :math:`\eta`.
        weight_decay: :math:`\lambda`, decoupled from the gradient.
        momentum: :math:`\mu`.
        nesterov: Use Nesterov momentum.
        eps: The smallest norm by which the iteration divides.
        ns_steps: Newton-Schulz iterations.
        ns_coefficients: The three coefficients of the iteration.
        ns_table: "polar_express" for coefficients that differ from one iteration to the next and
            bring the singular values nearer to 1; None for ``ns_coefficients``.
        adjust_lr_fn: The form of :math:`a`: "original", the first, or "match_rms_adamw", the
            second, which makes rates tuned for AdamW fit; None for "original".
        row_beta2: The decay of NorMuon's average, whose authors take 0.95; 0 for Muon, also when
            set later, while the average rests.
        use_muon: False for AdamW; fixed at construction.
        flatten: Leaves of three axes or more as matrices of their first axis and the rest, as
            kernels of convolutions are; else they follow AdamW. :math:`a` is that of the matrix.
        stacked: How many first axes count matrices, each updated as a leaf of its own: 1 for
            layers in one array of (layers, rows, columns), 2 for (layers, heads, rows, columns).
        adamw_scale: Multiplies the rate of the AdamW leaves.
        adamw_betas: AdamW's betas.
        adamw_eps: AdamW's eps.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; scaling, Liu et al.
    2025, arXiv:2502.16982, section 2.2; Amsel et al. 2025, arXiv:2505.16932; NorMuon, Li et al.
    2025, arXiv:2510.05491, as its authors' code: with ``match_rms_adamw`` and without Nesterov it
    is near the paper's Algorithm 1. As torch.optim.Muon for matrices.

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
    ns_table: Any = Choice(None, "polar_express")
    row_beta2 = unit(0.0)
    use_muon = flag(True)
    flatten = flag(False)
    stacked = count(None)
    adamw_scale = nonnegative(1.0)
    adamw_betas = unit_pair(0.9, 0.95)
    adamw_eps = nonnegative(1e-8)
    later = ("ns_coefficients", "ns_table", "row_beta2", "flatten", "stacked")
    slots = (
        signed("momentum_buffer"),
        squares("row_avg_sq"),
        signed("exp_avg"),
        squares("exp_avg_sq"),
    )
    shaped = True
    by_matrix = True
    decay = "none"

    @classmethod
    def variant(cls, values: Mapping[str, Value]) -> tuple[str, tuple[str, ...]]:
        rows = callable(values["row_beta2"]) or values["row_beta2"] > 0
        return cls.kernel, tuple(slot for slot in cls.slots if rows or slot != "row_avg_sq")

    def slot_shape(
        self, slot: str, leaf: Array, values: Mapping[str, Value]
    ) -> tuple[int, ...] | None:
        axes = leaf.ndim == 2 or (leaf.ndim > 2 and values["flatten"])
        if (axes and values["use_muon"]) != (slot in ("momentum_buffer", "row_avg_sq")):
            return None
        return leaf.shape[:1] if slot == "row_avg_sq" else tuple(leaf.shape)

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        if not hasattr(s, "momentum_buffer"):
            _adamw(x, g, s, h)
            return
        s.momentum_buffer[...] = lerp(s.momentum_buffer, g, 1 - h.momentum)
        update: Any = lerp(g, s.momentum_buffer, h.momentum) if h.nesterov else s.momentum_buffer
        rows, columns = len(x), x.size // len(x)
        original = math.sqrt(max(1.0, rows / columns))
        scale = original if h.adjust_lr_fn == "original" else 0.2 * math.sqrt(max(rows, columns))
        coefficients = (h.ns_coefficient1, h.ns_coefficient2, h.ns_coefficient3)
        x *= 1 - h.lr * h.weight_decay
        matrix = update.reshape(rows, columns)
        found = orthogonalize(matrix, h.ns_steps, h.eps, coefficients, h.ns_table)
        if h.row_beta2 > 0:
            found = _by_row(found, s.row_avg_sq, h.row_beta2)
        x -= h.lr * scale * found.reshape(x.shape)


def _by_row(matrix: Array, row_avg_sq: Array, beta: float) -> Any:
    """The matrix with rows over the roots of their mean squares, and the norm it had."""
    real = matrix.dtype.type
    ones = np.ones((matrix.shape[1], 1), matrix.dtype)
    means = product(matrix * matrix, ones)[:, 0] / real(matrix.shape[1])
    row_avg_sq[...] = lerp(row_avg_sq, means, 1 - beta)
    scaled = matrix * (1 / (root(row_avg_sq) + real(1e-10)))[:, None]
    length = math.sqrt(sum_of_squares(matrix))
    return scaled * real(length / (math.sqrt(sum_of_squares(scaled)) + 1e-10))


def _adamw(x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
    rate, beta1, beta2 = h.lr * h.adamw_scale, h.adamw_beta1, h.adamw_beta2
    s.exp_avg[...] = lerp(s.exp_avg, g, 1 - beta1)
    s.exp_avg_sq[...] = beta2 * s.exp_avg_sq + (1 - beta2) * g * g
    unbias = 1 / math.sqrt(1 - power(beta2, h.t))
    x *= 1 - rate * h.weight_decay
    x -= rate / (1 - power(beta1, h.t)) * s.exp_avg / (root(s.exp_avg_sq) * unbias + h.adamw_eps)

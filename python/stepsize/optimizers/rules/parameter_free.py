"""Learning-rate-free rules, which find their rate from distances and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import ClassVar

from stepsize.arrays import Array
from stepsize.optimizers.fields import nonnegative, positive
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import abs_, lerp, maximum, root, square, wide
from stepsize.optimizers.slots import exact

__all__ = ["COCOB", "DoG", "DoWG", "LDoG"]


def _apart(x: Array, s: SimpleNamespace, h: SimpleNamespace) -> Array:
    """The displacement of the leaf since its first update, in double precision."""
    if h.t == 1:
        s.start[...] = x
    apart: Array = wide(x) - wide(s.start)
    return apart


class DoG(Optimizer):
    r"""Distance over gradients: the rate is the largest distance so far over a gradient norm.

    .. math::
        r &\leftarrow \max(r, \|x - x_0\|), \quad r_0 = r_\epsilon (1 + \|x_0\|) \\
        G &\leftarrow G + \|g\|^2, \quad G_0 = \epsilon \\
        x &\leftarrow x - \eta \frac{r}{\sqrt G} g

    Norms are taken over all leaves together; `LDoG` takes them leaf by leaf. State: one array
    (``start``, the point :math:`x_0` of each leaf's first update) and two numbers. ``lr_effective``
    is :math:`\eta r / \sqrt G`. Groups may have different factors :math:`\eta`. The authors average
    the iterates with polynomial decay, which is ``ss.EMA(opt, decay=1.0, warmup=True, gamma=9.0,
    power=1.0)``, and use no schedule. optax adds :math:`\epsilon` at each root instead.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: A factor :math:`\eta`; 1 needs no tuning.
        reps_rel: :math:`r_\epsilon`, the first distance relative to the size of the parameters;
            1e-4 for networks with batch normalisation.
        eps: :math:`\epsilon`.
        weight_decay: :math:`\lambda`, added to the gradient.

    Source: Ivgi, Hinder & Carmon 2023, arXiv:2302.12022, section 3. As the authors' package.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, -2.0])
        >>> opt = ss.DoG(x)
        >>> for _ in range(300):
        ...     opt.step(2 * x)
        >>> bool(np.abs(x).max() < 1e-3)
        True
    """

    lr = nonnegative(1.0)
    reps_rel = positive(1e-6, fixed=True)
    eps = positive(1e-8, fixed=True)
    weight_decay = nonnegative(0.0)
    adapts_lr = True
    slots = (exact("start"),)
    scalars: ClassVar = {"distance": 0.0, "squares": 0.0}
    scope = "all"

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        return square(_apart(x, s, h)), square(wide(g)), square(wide(x))

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        fresh = s.distance == 0
        s.squares = (h.eps if fresh else s.squares) + sums[1]
        farther = maximum(s.distance, root(sums[0]))
        s.distance = h.reps_rel * (1 + root(sums[2])) if fresh else farther

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        x -= self.effective(s, h) * g

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(h.lr * s.distance / root(s.squares)) if s.squares else 0.0


class LDoG(DoG):
    r"""Layer-wise DoG, with a distance and a gradient norm for each leaf.

    .. math::
        x \leftarrow x - \eta \frac{r}{\sqrt G} g, \quad r, G \text{ as in DoG, over the leaf}

    State: as `DoG`, with two numbers per leaf. ``lr_effective`` is a dict by path.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: A factor :math:`\eta`; 1 needs no tuning.
        reps_rel: :math:`r_\epsilon`, the first distance relative to the size of the leaf.
        eps: :math:`\epsilon`.
        weight_decay: :math:`\lambda`, added to the gradient.

    Source: Ivgi, Hinder & Carmon 2023, arXiv:2302.12022, section 5. As the authors' package.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = {"w": np.ones(3), "b": np.ones(1)}
        >>> opt = ss.LDoG(params)
        >>> opt.step({"w": np.ones(3), "b": np.full(1, 100.0)})
        >>> sorted(opt.lr_effective)
        ['b', 'w']
    """

    scope = "leaf"


class DoWG(Optimizer):
    r"""Distance over weighted gradients: each gradient is weighted by the distance at its step.

    .. math::
        R &\leftarrow \max(R, \|x - x_0\|^2), \quad R_0 = \epsilon \\
        V &\leftarrow V + R \|g\|^2 \\
        x &\leftarrow x - \eta \frac{R}{\sqrt V + \epsilon} g

    Norms are taken over all leaves together. State: one array (``start``, the point :math:`x_0` of
    each leaf's first update) and two numbers. ``lr_effective`` is
    :math:`\eta R / (\sqrt V + \epsilon)`. Groups may have different factors :math:`\eta`. The paper
    assumes that the parameters stay in a bounded set and trains at the edge of stability: for
    networks that become unstable, use ``lr=0.3`` or `DoG`. As the authors' package and optax; the
    algorithm in the paper has no :math:`\epsilon` in the denominator.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: A factor :math:`\eta`; 1 needs no tuning.
        eps: :math:`\epsilon`, the square of the first distance.
        weight_decay: :math:`\lambda`, added to the gradient.

    Source: Khaled, Mishchenko & Jin 2023, arXiv:2305.16284, Algorithm 1.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, -2.0])
        >>> opt = ss.DoWG(x)
        >>> for _ in range(300):
        ...     opt.step(2 * x)
        >>> bool(np.abs(x).max() < 1e-3)
        True
    """

    lr = nonnegative(1.0)
    eps = positive(1e-4)
    weight_decay = nonnegative(0.0)
    adapts_lr = True
    slots = (exact("start"),)
    scalars: ClassVar = {"distance": 0.0, "weighted": 0.0}
    scope = "all"

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        return square(_apart(x, s, h)), square(wide(g))

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        s.distance = maximum(maximum(s.distance, h.eps), sums[0])
        s.weighted = s.weighted + s.distance * sums[1]

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        x -= h.lr * float(s.distance / (root(s.weighted) + h.eps)) * g

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(h.lr * s.distance / root(s.weighted)) if s.weighted > 0 else 0.0


class COCOB(Optimizer):
    r"""Coin betting: each coordinate bets part of its wealth on the sign of its next gradient.

    .. math::
        L &\leftarrow \max(L, |g|), \quad G \leftarrow G + |g|, \quad
        R \leftarrow \max(R - g (x - x_0), 0), \quad \theta \leftarrow \theta - g \\
        x &\leftarrow x_0 + \frac{\theta}{L \max(G + L, \alpha L)} (L + R)

    There is no learning rate: ``lr`` is the fraction of the way to the new point, 1 for all of it.
    State: five arrays (``start``, which is :math:`x_0`, ``theta``, ``scale`` :math:`L`, ``total``
    :math:`G`, ``reward`` :math:`R`).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: The fraction of the way to the new point.
        alpha: :math:`\alpha`, which keeps the first bets small.
        eps: The first :math:`L`.
        weight_decay: :math:`\lambda`, added to the gradient.

    Source: Orabona & Tommasi 2017, arXiv:1705.07795, Algorithm 2.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.COCOB(x, alpha=10.0).step(np.array([5.0, -0.001]))
        >>> np.round(x, 4)
        array([ 0.9, -0.9])
    """

    lr = nonnegative(1.0)
    alpha = positive(100.0)
    eps = positive(1e-8)
    weight_decay = nonnegative(0.0)
    adapts_lr = True
    anchored = True
    slots = (exact("start"), exact("theta"), exact("scale"), exact("total"), exact("reward"))

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        if h.t == 1:
            s.start[...] = x
        floor = x.dtype.type(h.eps)
        s.scale[...] = maximum(maximum(s.scale, floor), abs_(g))
        s.total += abs_(g)
        s.reward[...] = maximum(s.reward - g * (x - s.start), x.dtype.type(0))
        s.theta -= g
        bet = s.theta / (s.scale * maximum(s.total + s.scale, h.alpha * s.scale))
        x[...] = lerp(x, s.start + bet * (s.scale + s.reward), h.lr)

"""Wrappers that transform or accumulate gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepsize._core import BOUND
from stepsize.arrays import (
    LEAST_SUM,
    Array,
    Nest,
    norm,
    unflatten,
    view_as_complex,
    view_as_real,
)
from stepsize.optimizers.gradients import gather, is_usable
from stepsize.optimizers.half import to_float32
from stepsize.optimizers.stats import StepStats
from stepsize.optimizers.transaction import Uninterrupted
from stepsize.optimizers.wrappers.base import GradientWrapper, Wrapper
from stepsize.validation import as_loss

__all__ = ["Accumulate", "AdaptiveClip", "Centralize", "GradientNoise"]


def per_step(optimizer: Any) -> int:
    """Calls of an optimizer's step for each update: above 1 inside `Accumulate`."""
    calls = 1
    while isinstance(optimizer, Wrapper):
        calls *= optimizer.every if isinstance(optimizer, Accumulate) else 1
        optimizer = optimizer.inner
    return calls


def pending(optimizer: Any) -> list[tuple[int, int]]:
    """For each `Accumulate` that holds gradients without an update: how many, and of how many."""
    held = []
    while isinstance(optimizer, Wrapper):
        if isinstance(optimizer, Accumulate) and optimizer._numbers["calls"]:
            held.append((optimizer._numbers["calls"], optimizer.every))
        optimizer = optimizer.inner
    return held


class Accumulate(Wrapper):
    r"""Gradient accumulation: one step with the mean gradient of a few small batches.

    .. math::
        a \leftarrow a + (g - a) / (n + 1), \quad
            \text{and after every } k \text{ calls a step with } a

    ``step_count``, schedules, decay and clipping refer to applied steps only; the ``stats`` of the
    calls in between report no update. A leaf without a gradient counts as 0. State: one array.

    Args:
        optimizer: The optimizer whose steps are taken.
        every: :math:`k`, calls per step.

    Source: the running mean in optax.MultiSteps.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0])
        >>> opt = ss.Accumulate(ss.SGD(x, lr=1.0), every=2)
        >>> opt.step(np.array([0.2]))
        >>> opt.step(np.array([0.4]))
        >>> np.round(x, 6), opt.step_count
        (array([0.7]), 1)
    """

    def __init__(self, optimizer: Any, every: int) -> None:
        super().__init__(optimizer)
        self._set(
            every=self._count("every", every),
            _numbers={"calls": 0, "loss": 0.0},
            _arrays={"mean": [np.zeros_like(to_float32(leaf)) for leaf in self._points]},
        )

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """Add a gradient to the mean; every k-th call makes the inner optimizer's step."""
        with self.internals.engine:  # steps of other threads wait
            self.internals.engine.admit()
            return self._add(self._given(grads), loss, stats)

    def _add(self, grads: Nest, loss: float | None, stats: bool) -> Any:
        """Add a gradient to the mean."""
        n, parts = self._numbers["calls"], self.internals
        flat = gather(parts, grads)
        if loss is not None:
            try:
                loss = as_loss(loss)
            except (TypeError, ValueError):
                parts.host.fail("number", "loss", loss)
        if parts.rule.needs_loss and (loss is None or not math.isfinite(loss)):
            parts.host.fail("number", "loss", loss)  # or the mean would be wrong, or never finite
        average = self._numbers["loss"]
        average += ((0.0 if loss is None else loss) - average) / (n + 1)
        means = []
        with np.errstate(all="ignore"):
            for mean, g in zip(self._arrays["mean"], flat, strict=True):
                real = view_as_real(mean)
                given = real.dtype.type(0) if g is None else to_float32(view_as_real(g))
                new = np.asarray(real + (given - real) / real.dtype.type(n + 1))
                means.append(view_as_complex(new, mean.dtype))
        if parts.options.on_nonfinite == "raise" and not parts.engine.dynamic:
            # A mean that the step refuses would make all later calls fail too.
            for i, mean in enumerate(means):
                if not is_usable(parts, mean):
                    parts.host.fail("gradient", i, bool(np.isfinite(mean).all()))
        with Uninterrupted():
            return self._take_in(means, average, None if loss is None else average, stats)

    def _take_in(self, means: list[Any], average: float, loss: float | None, stats: bool) -> Any:
        """Keep the means, or make a step with them if they are complete."""
        n, parts = self._numbers["calls"], self.internals
        last = n + 1 >= self.every
        if last:
            nest = unflatten(parts.leaves.structure.spec, means)
            result = self.inner.step(nest, loss=loss, stats=stats)
        else:
            result = self._standing_still(means) if stats else None
        self._numbers.update(calls=0 if last else n + 1, loss=0.0 if last else average)
        for mean, new in zip(self._arrays["mean"], means, strict=True):
            mean[...] = 0 if last else new
        return result

    def _standing_still(self, means: list[Any]) -> Any:
        """The statistics of a call that makes no step: the norms, and no update."""
        norms = [norm(means), norm(self._points)]
        return StepStats.of(norms[0], 0.0, norms[1], 0)


class Centralize(GradientWrapper):
    r"""Gradient centralization: subtract the mean from each row of a matrix's gradient.

    .. math::
        g \leftarrow g - \text{mean of } g \text{ over all axes but the first}

    Vectors are left as they are. A `RowGradient` becomes a whole array.

    Args:
        optimizer: The optimizer that gets these gradients.

    Source: Yong et al. 2020, arXiv:2004.01461, equation 1.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.zeros((1, 2))
        >>> ss.Centralize(ss.SGD(x, lr=1.0)).step(np.array([[1.0, 3.0]]))
        >>> x
        array([[ 1., -1.]])
    """

    def change(self, g: Array, leaf: Array, i: int) -> Any:
        if g.ndim < 2 or not g.size:
            return g
        axes, count = tuple(range(1, g.ndim)), g[0].size
        mean = g.mean(axis=axes, keepdims=True)
        if not np.isfinite(mean).all():  # their sum may leave the range, their mean does not
            mean = (g / count).sum(axis=axes, keepdims=True)
        return g - mean


class GradientNoise(GradientWrapper):
    r"""Add Gaussian noise with a decaying variance to every gradient.

    .. math::
        g \leftarrow g + \mathcal{N}(0, \eta / (1 + t)^\gamma)

    The noise depends on seed, step and leaf alone, so a resumed run draws the same. All elements
    get some: a `RowGradient` becomes a whole array.

    Args:
        optimizer: The optimizer that gets these gradients.
        eta: Variance at the first step.
        gamma: How fast the variance decays.
        seed: The seed of the noise.

    Source: Neelakantan et al. 2015, arXiv:1511.06807, section 3.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.zeros(1000)
        >>> ss.GradientNoise(ss.SGD(x, lr=1.0), eta=0.01).step(np.zeros(1000))
        >>> bool(0.08 < x.std() < 0.12)
        True
    """

    def __init__(
        self, optimizer: Any, eta: float = 0.01, gamma: float = 0.55, seed: int = 0
    ) -> None:
        super().__init__(optimizer)
        self._set(
            eta=self._number("eta", eta, 0.0, math.inf, open_low=False),
            gamma=self._number("gamma", gamma, 0.0, math.inf, open_low=False),
            seed=self._count("seed", seed, 0),
        )

    def change(self, g: Array, leaf: Array, i: int) -> Any:
        t = self.step_count
        key = np.array([self.seed, t], np.uint64)
        random = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, i]))
        size = math.sqrt(self.eta / (1 + t) ** self.gamma)
        real = view_as_real(g)
        return view_as_complex(real + size * random.standard_normal(real.shape), g.dtype)


class AdaptiveClip(GradientWrapper):
    r"""Adaptive gradient clipping: limit each row to a fraction of the norm of its weights.

    .. math::
        g_i \leftarrow g_i \frac{c \max(\|x_i\|, \epsilon)}{\|g_i\|}
            \quad \text{where } \|g_i\| > c \max(\|x_i\|, \epsilon)

    A row is all elements with the same index of the first axis; a vector is one row. A
    `RowGradient` becomes a whole array.

    Args:
        optimizer: The optimizer that gets these gradients.
        clip: :math:`c`.
        eps: :math:`\epsilon`, for rows of weights near 0.

    Source: Brock et al. 2021, arXiv:2102.06171, equation 3. As timm.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([[3.0, 4.0], [3.0, 4.0]])
        >>> opt = ss.AdaptiveClip(ss.SGD(x, lr=1.0), clip=0.1)
        >>> opt.step(np.array([[0.0, 9.0], [0.0, 0.25]]))
        >>> x
        array([[3.  , 3.5 ],
               [3.  , 3.75]])
    """

    def __init__(self, optimizer: Any, clip: float = 0.01, eps: float = 1e-3) -> None:
        super().__init__(optimizer)
        self._set(
            clip=self._number("clip", clip, 0.0, math.inf, open_low=True),
            eps=self._number("eps", eps, 0.0, math.inf, open_low=True),
        )

    def change(self, g: Array, leaf: Array, i: int) -> Any:
        axes = tuple(range(1, g.ndim)) if g.ndim > 1 else None

        def size_of(a: Array) -> Any:
            if a.dtype.kind == "c":
                a = np.abs(a)
            with np.errstate(over="ignore", under="ignore"):
                total = np.square(a, dtype=float).sum(axis=axes, keepdims=True)
                if ((total >= LEAST_SUM) & (total < math.inf)).all():
                    return np.sqrt(total)
                top = np.abs(a.astype(float)).max(axis=axes, keepdims=True, initial=0)
                unit = np.ldexp(1.0, np.clip(np.frexp(top)[1], -1020, 1020))
                return unit * np.sqrt(np.square(a / unit).sum(axis=axes, keepdims=True))

        leaf = np.asarray(leaf, order="C")  # NumPy adds up in the order of memory
        limit, size = self.clip * np.maximum(size_of(leaf), self.eps), size_of(g)
        factor = np.where(size > limit, limit / np.maximum(size, 1e-6), 1.0)
        real = view_as_real(g)
        factor = factor if real is g else factor[..., None]
        return view_as_complex(real * factor, g.dtype)

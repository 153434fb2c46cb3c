"""Rules whose answer is an average of the points they pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from stepsize.arrays import Array, Nest, unflatten
from stepsize.optimizers.elementary import real_power
from stepsize.optimizers.fields import nonnegative
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import lerp
from stepsize.optimizers.slots import exact
from stepsize.optimizers.stats import StepStats

__all__ = ["ASGD"]


class AveragingOptimizer(Optimizer, abstract=True):
    """Base of the rules that train at one point and answer with another, the average.

    The parameters hold the training point. `eval_params` gives the average as new arrays,
    `averaged` puts it into the parameters for a while. Checkpoints hold the training point (the
    parameters) and the state, so both come back.
    """

    _training: list[Array] | None = None  # the training point, while the average is in its place

    def average(self, x: Array, s: SimpleNamespace, h: SimpleNamespace) -> Any:
        """The average of one leaf, from training point, state and hyperparameters."""
        raise NotImplementedError

    def eval_params(self) -> Nest:
        """The averaged parameters: new arrays in the nesting of the parameters."""
        if self._training is not None:
            leaves = [np.array(leaf) for leaf in self._structure.leaves]
        else:
            leaves = self._averages()
        return unflatten(self._structure.spec, leaves)

    def _averages(self) -> list[Array]:
        result = []
        times = self._engine.times
        for i, x in enumerate(self._structure.leaves):
            group = self._assignment[i]
            names = [part.name for field in self.fields.values() for part in field.parts()]
            h = SimpleNamespace(**{name: self._engine.number(group, name) for name in names})
            s = SimpleNamespace(**self._state[i])
            result.append(np.array(self.average(x, s, h) if times[i] else x))
        return result

    @contextmanager
    def averaged(self) -> Iterator[Nest]:
        """Hold the average in the parameters inside a ``with`` block, the training point after it.

        Inside, `step`, `state_dict`, `save` and their like raise RuntimeError, and what is written
        into the parameters is lost.
        """
        self._refuse_average("averaged() cannot be nested")
        averages = self._averages()
        self._training = [np.array(leaf) for leaf in self._structure.leaves]
        try:
            for leaf, value in zip(self._structure.leaves, averages, strict=True):
                leaf[...] = value
            yield self._params
        finally:
            for leaf, value in zip(self._structure.leaves, self._training, strict=True):
                leaf[...] = value
            self._training = None

    def _refuse_average(self, problem: str) -> None:
        if self._training is not None:
            raise RuntimeError(
                f"{type(self).__name__}: {problem}; the parameters hold the average now, leave "
                "the `with opt.averaged():` block first"
            )

    def step(
        self, grads: Nest = NotImplemented, *, loss: float | None = None, stats: bool = False
    ) -> StepStats | None:
        """As `Optimizer.step`; RuntimeError while the parameters hold the average."""
        self._refuse_average("a step starts from the training point")
        return super().step(grads, loss=loss, stats=stats)

    def state_dict(self) -> dict[str, Any]:
        """As `Optimizer.state_dict`; RuntimeError while the parameters hold the average."""
        self._refuse_average("a checkpoint needs the training point")
        return super().state_dict()

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """As `Optimizer.load_state_dict`; RuntimeError while the parameters hold the average."""
        self._refuse_average("a checkpoint brings a training point")
        super().load_state_dict(d)


class ASGD(AveragingOptimizer):
    r"""Gradient descent with a falling rate whose answer is the mean of the points it passed.

    .. math::
        g &\leftarrow g + \lambda x, \quad
            \eta_t = \frac{\eta}{(1 + \lambda_d \eta (t - 1))^\alpha} \\
        x &\leftarrow x (1 - \lambda_d \eta_t) - \eta_t g \\
        \bar x &\leftarrow \bar x + \mu_t (x - \bar x), \quad
            \mu_t = \frac{1}{\max(1, t - 1 - t_0)}

    `eval_params` and `averaged` give :math:`\bar x`, which is :math:`x` itself until the average
    starts. State: one array (``ax``).

    Args:
        params: A nest of float32 or float64 arrays, updated in place.
        lr: Rate :math:`\eta`.
        lambd: :math:`\lambda_d`, both a decay of the parameters and the pace of the rate's fall.
        alpha: :math:`\alpha`, the power of the rate's fall.
        t0: :math:`t_0`, the step after which to average; lower it to see any averaging.
        weight_decay: :math:`\lambda`, added to the gradient.

    Source: Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4); rates of Bottou 2012, "Stochastic
    Gradient Descent Tricks", section 5. As torch.optim.ASGD with a constant rate; a schedule acts
    at once here and one step later there.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([4.0])
        >>> opt = ss.ASGD(x, lr=1.0, lambd=0.0, t0=0)
        >>> for g in (1.0, 1.0, -1.0):
        ...     opt.step(np.array([g]))
        >>> x, opt.eval_params()
        (array([3.]), array([2.5]))
    """

    lr = nonnegative(1e-2)
    lambd = nonnegative(1e-4)
    alpha = nonnegative(0.75)
    t0 = nonnegative(1e6)
    weight_decay = nonnegative(0.0)
    slots = (exact("ax"),)

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        before = float(h.t - 1)
        eta = h.lr / real_power(1 + h.lambd * h.lr * before, h.alpha)
        x[...] = x * (1 - h.lambd * eta) - eta * g
        s.ax[...] = lerp(s.ax, x, 1 / max(before - h.t0, 1.0))

    def average(self, x: Array, s: SimpleNamespace, h: SimpleNamespace) -> Any:
        return s.ax

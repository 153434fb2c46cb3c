"""Move settings to another batch size, training length and width: `transfer`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from stepsize.finder.horizon import LENGTH_EXPONENT
from stepsize.finder.results import ParameterResult
from stepsize.names import closed, refuse_unknown
from stepsize.noise_scale import NoiseScale
from stepsize.optimizers import Optimizer, group
from stepsize.scaling.results import Move, Transferred
from stepsize.scaling.rules import Law, law_of, stretched
from stepsize.scaling.width import SOURCE, Leaf, leaves_of
from stepsize.schedules import Schedule
from stepsize.validation import number

HORIZON = -LENGTH_EXPONENT  # as lr_find(for_steps=): the best peak rate falls with the examples


@closed
def transfer(
    settings: Mapping[str, Any],
    *,
    batch: tuple[float, float] | None = None,
    steps: tuple[float, float] | None = None,
    width: tuple[Any, Any] | None = None,
    data: tuple[float, float] | None = None,
    rule: type[Optimizer] | str | None = None,
    critical_batch: float | NoiseScale | ParameterResult = math.inf,
    horizon: float | None = None,
    kinds: Mapping[str, str] | None = None,
    fan_in: int = 0,
    **unknown: NoReturn,
) -> Transferred:
    r"""Settings for another batch size, training length and width than they were found with.

    With batch sizes :math:`B, B'`, updates :math:`T, T'`, data sets :math:`N, N'`, widths
    :math:`n, n'` and the critical batch size :math:`B_c`:

    .. math::
        \eta' &= \eta \left(\frac{1 + B_c / B}{1 + B_c / B'}\right)^p
            \left(\frac{B' T'}{B T}\right)^{-\alpha} \\
        \beta_2' &= \beta_2^{B' / B}, \qquad
        \epsilon' = \epsilon \left(\frac{1 + B_c / B'}{1 + B_c / B}\right)^{1/2} \\
        \lambda' &= \lambda \, \frac{B' N}{B N'}
            \left(\frac{1 + B_c / B'}{1 + B_c / B}\right)^p

    :math:`p = 1` for rules whose steps scale with the gradient (SGD), 1/2 for those that ignore
    its size (Adam), which is tried out on one small step. Without ``critical_batch`` the first
    factor is :math:`(B'/B)^p`, as in `scale_lr`. :math:`\alpha` is 0.32 where :math:`p = 1/2`, else
    0. Averages of squares keep their half-life in examples; decay keeps its timescale
    :math:`1 / (\eta \lambda)` in epochs over batch and data, where it has one: that of Adam, which
    it rescales with the gradient, is kept. A longer training keeps the decay, so that its timescale
    grows as :math:`(B' T' / B T)^\alpha`. Schedules keep their shape over the new number of
    updates. Momentum and :math:`\beta_1` are kept.

    By width, on the rate of a leaf, with its decay moved by the inverse:

    ================  ==========  ==========  =============  ===========
    leaf              input       vector      hidden         output
    ================  ==========  ==========  =============  ===========
    :math:`p = 1/2`   1           1           n / n'         n / n'
    :math:`p = 1`     n' / n      n' / n      m' n / m n'    n / n'
    ================  ==========  ==========  =============  ===========

    with :math:`m, m'` for the outputs of a hidden leaf where they grow otherwise than its inputs.
    It holds where initial values have a standard deviation of 1 / sqrt(fan_in), and the output
    layer's one of 1 / fan_in: ``Transferred.init`` has the factor by which that differs.

    Args:
        settings: keywords of the optimizer, such as ``{"lr": 1e-3, "weight_decay": 0.1}``; the rate
            and the decay may be schedules. Where ``rule`` is a class, what is left out has its
            default, and is moved too.
        batch: the batch size of the settings and that to come.
        steps: updates of the training of the settings, and of that to come; left out, as many
            examples are seen.
        width: the parameters of both models, whose shapes tell the kinds of leaves, or two numbers
            together with ``kinds``.
        data: examples in both data sets, where they differ; it matters for the decay alone.
        rule: the class of the optimizer; or "linear" as for SGD, "sqrt" as for AdamW.
        critical_batch: a number, what `gradient_noise_scale` returns, or ``lr_find(...,
            parameter="batch_size")``. Above it a larger batch hardly raises the rate.
        horizon: :math:`\alpha`; None is as above, 0 keeps the rate over any length.
        kinds: "input", "hidden", "output" or "vector" (biases, gains) by glob of leaf path.
        fan_in: the axis of a matrix that counts its inputs, 0 for ``x @ w``, 1 as in torch.

    Returns:
        A `Transferred`: ``settings`` for the constructor, ``table()`` with the rule of each move.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Sources: batch, Goyal et al. 2017, arXiv:1706.02677; McCandlish et al. 2018, arXiv:1812.06162,
    section 2.2; Malladi et al. 2022, arXiv:2205.10287 (square root, :math:`\epsilon`); Marek et al.
    2025, arXiv:2507.07101 (half-life). Malladi et al. move both averages, :math:`1 - \beta` in
    proportion to the batch: for :math:`\beta_2` that is the half-life to first order, while
    :math:`\beta_1` is kept here, as Marek et al. keep it. Length, Bjorck et al. 2025,
    arXiv:2409.19913. Decay, Wang and Aitchison 2024, arXiv:2405.13698; over length Bergsma et al.
    2025, arXiv:2505.13738, where the best timescale grows too, in less than proportion. Width, Yang
    et al. 2022, arXiv:2203.03466, table 3, which initialises the output layer smaller where the
    authors' package multiplies its output (table 8); hidden leaves that are not square as in that
    package.

    Example:
        >>> import stepsize as ss
        >>> moved = ss.transfer({"lr": 1e-3, "weight_decay": 0.1}, batch=(64, 256), rule=ss.AdamW)
        >>> moved.settings["lr"], moved.settings["weight_decay"], moved["betas"].after
        (0.002, 0.2, (0.9, 0.996005996001))
    """
    refuse_unknown(transfer, unknown)
    if not isinstance(settings, Mapping):
        raise TypeError(
            "transfer: settings must be a mapping of the optimizer's keywords, such as "
            f"{{'lr': 1e-3}}, got {type(settings).__name__}"
        )
    if settings.get("groups") and width is not None:
        raise ValueError(
            "transfer: settings have groups already and a width makes its own; transfer each "
            "group's settings by themselves"
        )
    law, values = law_of(rule, settings)
    change = Change.of(batch, steps, data, _critical(critical_batch))
    leaves = [] if width is None else leaves_of(_pair("width", width), kinds, fan_in)
    if leaves and not law.elementwise:
        raise ValueError(
            f"transfer: no rule for width is known for {law.name}, which looks at whole leaves; "
            "leave width out, or use an elementwise rule such as AdamW"
        )
    alpha = (HORIZON if law.power == 0.5 else 0.0) if horizon is None else horizon
    mover = _Mover(values, law, change, number("transfer: horizon", alpha))
    mover.rate()
    mover.averages()
    mover.decay()
    mover.rest()
    mover.leaves(leaves)
    init = {leaf.pattern: leaf.init_factor for leaf in leaves if leaf.init_factor != 1}
    return Transferred(mover.settings, tuple(mover.moves), init)


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"transfer: {name} must be a pair (from, to), got {value!r:.80}")
    return value[0], value[1]


def _ratio(name: str, value: Any) -> tuple[float, float]:
    one, other = _pair(name, value)
    return (
        number(f"transfer: {name}[0]", one, 0.0, low_open=True),
        number(f"transfer: {name}[1]", other, 0.0, low_open=True),
    )


def _critical(value: Any) -> float:
    if isinstance(value, NoiseScale):
        value = value.critical_batch
    elif isinstance(value, ParameterResult):
        if value.parameter != "batch_size" or not value.usable:
            raise ValueError(
                "transfer: critical_batch must be a result of lr_find(parameter='batch_size') that "
                f"has a suggestion, got {value!r}"
            )
        value = value.suggestion
    return number("transfer: critical_batch", value, 0.0, math.inf, high_open=False)


@dataclass(frozen=True)
class Change:
    """From where to where, in ratios."""

    batches: tuple[float, float]
    critical: float
    batch: float
    updates: float
    data: float

    @classmethod
    def of(cls, batch: Any, steps: Any, data: Any, critical: float) -> Change:
        """From the arguments of `transfer`; as many examples are seen where steps are not given."""
        before, after = (1.0, 1.0) if batch is None else _ratio("batch", batch)
        if batch is None and critical < math.inf:
            raise ValueError("transfer: critical_batch needs batch=(from, to)")
        pairs = [None if p is None else _ratio(n, p) for n, p in (("steps", steps), ("data", data))]
        updates = before / after if pairs[0] is None else pairs[0][1] / pairs[0][0]
        rows = 1.0 if pairs[1] is None else pairs[1][1] / pairs[1][0]
        return cls((before, after), critical, after / before, updates, rows)

    @property
    def examples(self) -> float:
        """How many times as many examples the training sees."""
        return 1.0 if math.isclose(self.batch * self.updates, 1) else self.batch * self.updates

    @property
    def signal(self) -> float:
        """(1 + Bc / B) / (1 + Bc / B'): by how much the mean square of a gradient falls."""
        if math.isinf(self.critical):
            return self.batch
        before, after = self.batches
        return (1 + self.critical / before) / (1 + self.critical / after)

    @property
    def batch_source(self) -> str:
        """The rule for the rate's factor by batch."""
        before, after = self.batches
        words = f"batch {before:g} to {after:g}"
        if math.isfinite(self.critical):
            words += f", critical batch {self.critical:.4g} (McCandlish et al. 2018)"
        return words


@dataclass
class _Mover:
    """Settings on their way, with what was done to each."""

    settings: dict[str, Any]
    law: Law
    change: Change
    alpha: float
    moves: list[Move] = field(default_factory=list)
    by_batch: float = 1.0  # on the rate

    def _move(self, name: str, after: Any, why: str) -> None:
        self.moves.append(Move(name, self.settings[name], after, why))
        self.settings[name] = after

    def _number(self, name: str) -> Any:
        """A rate or decay that can be multiplied: a number or a schedule."""
        value = self.settings[name]
        if isinstance(value, Schedule):
            return value
        if callable(value):
            raise TypeError(
                f"transfer: {name} is a function, which cannot be stretched over another number of "
                "steps; give a number or a schedule, ss.schedules.from_function(f)"
            )
        return number(f"transfer: {name}", value, 0.0)

    def rate(self) -> None:
        """The learning rate, over batch and horizon."""
        if self.settings.get("lr") is None:
            raise ValueError("transfer: settings must have 'lr', or rule be a class, with defaults")
        value, law, change = self._number("lr"), self.law, self.change
        if law.adapts_lr:
            self._move("lr", value, f"kept: {law.name} finds its rate itself")
            return
        by_batch = change.signal**law.power
        by_length = change.examples**-self.alpha
        factor = by_batch * by_length
        if not 0 < factor < math.inf:
            raise ValueError(f"transfer: the rate would change by a factor of {factor:g}")
        self.by_batch = by_batch
        words = []
        if change.batch != 1:
            known = "linear (Goyal et al. 2017)" if law.power == 1 else "root (Malladi et al. 2022)"
            words.append(f"x{by_batch:.4g}: {change.batch_source}, {known}")
        if change.examples != 1:
            source = f"examples**-{self.alpha:g} (Bjorck et al. 2025)" if self.alpha else "kept"
            words.append(
                f"x{by_length:.4g}: {change.examples:.4g} times as many examples, {source}"
            )
        moved = stretched(value * factor if factor != 1 else value, change.updates)
        self._move("lr", moved, "; ".join(words) or "kept")

    def averages(self) -> None:
        """Decays of averaged squares, and what is added to their root."""
        ratio = self.change.batch
        for name in self.law.squares:
            value = self.settings[name]
            several = isinstance(value, tuple | list)
            parts: tuple[Any, ...] = tuple(value) if several else (1.0, value)
            for part in parts:
                number(f"transfer: {name}", part, 0.0, 1.0, high_open=False, move="give a number")
            after = (parts[0], *(float(part) ** ratio for part in parts[1:]))
            why = "half-life in examples kept (Marek et al. 2025)"
            why += "; the first is kept" if several else ""
            self._move(name, after if several else after[1], why if ratio != 1 else "kept")
        eps = self.settings.get("eps")
        if self.law.squares and isinstance(eps, float | int):
            moved = eps / math.sqrt(self.change.signal)
            why = "as the root of the mean square of gradients (Malladi et al. 2022)"
            self._move("eps", moved, why if ratio != 1 else "kept")

    def decay(self) -> None:
        """Weight decay, by its timescale in epochs; over length the timescale follows the rate."""
        if "weight_decay" not in self.settings:
            return
        value = self._number("weight_decay")
        if not self.law.timed:
            why = f"kept: how fast {self.law.name} decays does not follow from rate and decay"
            self._move("weight_decay", stretched(value, self.change.updates), why)
            return
        factor = self.change.batch / (self.by_batch * self.change.data)
        moved = stretched(value * factor if factor != 1 else value, self.change.updates)
        why = "1 / (lr * weight_decay) in epochs kept (Wang and Aitchison 2024)"
        self._move("weight_decay", moved, why if factor != 1 else "kept")

    def rest(self) -> None:
        """Other hyperparameters stay; schedules of them keep their shape."""
        moved = {move.name for move in self.moves}
        for name in [n for n in self.settings if n not in moved and n != "groups"]:
            after = stretched(self.settings[name], self.change.updates)
            if name in ("momentum", "betas") or after is not self.settings[name]:
                self._move(name, after, "kept")

    def leaves(self, leaves: list[Leaf]) -> None:
        """Groups for the leaves whose rate moves with the width."""
        groups = []
        for leaf in leaves:
            factor = leaf.rate_factor(self.law.power)
            if factor == 1 or self.law.adapts_lr:
                continue
            rate = self.settings["lr"]
            own = {"lr": rate * factor}
            why = f"{leaf.kind}, {leaf.ratio:g} times as wide: {SOURCE}"
            self.moves.append(Move(f"{leaf.pattern}: lr", rate, own["lr"], why))
            decay = self.settings.get("weight_decay")
            if self.law.timed and decay is not None and (callable(decay) or decay > 0):
                own["weight_decay"] = decay * (1 / factor)
                why = "lr * weight_decay kept (Wang and Aitchison 2024)"
                moved = own["weight_decay"]
                self.moves.append(Move(f"{leaf.pattern}: weight_decay", decay, moved, why))
            groups.append(group(leaf.pattern, **own))
        if groups:
            self.settings["groups"] = groups

"""Controllers monitor a metric and lower or raise the learning rate, on top of any schedule."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np

from stepsize.arrays import Nest, assign, copy, flatten, unflatten
from stepsize.schedules.arguments import Number, check_for, fail
from stepsize.schedules.torch_rates import TorchRates
from stepsize.serialization import states
from stepsize.validation import real

COUNT = Number("a whole number >= 0", whole=True, count=True, high=2.0**53)
SHARE = Number("in (0, 1)", above=True, high=math.nextafter(1.0, 0.0))
AMOUNT = Number("a finite number >= 0")
Mode = Literal["min", "max"]
ThresholdMode = Literal["rel", "abs"]


class Controlled(Protocol):
    """The part of an optimizer that a controller uses."""

    lr_scale: float

    @property
    def lr(self) -> Any: ...

    @property
    def params(self) -> Nest: ...


class Controller:
    """Base: decides whether a metric has improved, and multiplies the rate."""

    _saved: tuple[str, ...] = ("best", "cooldown_left")

    def __init__(
        self,
        opt: Controlled,
        mode: Mode,
        factor: float,
        patience: int,
        threshold: float,
        threshold_mode: ThresholdMode,
        cooldown: int,
        min_lr: float,
    ) -> None:
        name = type(self).__name__
        self.opt: Controlled = opt if hasattr(opt, "lr_scale") else TorchRates(name, opt)
        self.mode = check_for(Mode)(name, "mode", mode)
        self.factor = SHARE(name, "factor", factor)
        self.patience = int(COUNT(name, "patience", patience))
        self.threshold = AMOUNT(name, "threshold", threshold)
        self.threshold_mode = check_for(ThresholdMode)(name, "threshold_mode", threshold_mode)
        self.cooldown = int(COUNT(name, "cooldown", cooldown))
        self.min_lr = AMOUNT(name, "min_lr", min_lr)
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_left = 0

    def improves(self, metric: float) -> bool:
        """Whether `metric` beats the best one by more than the threshold; False for NaN."""
        if math.isinf(self.best):
            return metric < self.best if self.mode == "min" else metric > self.best
        # The margin is proportional to the magnitude of the best value, whatever its sign.
        size = abs(self.best) if self.threshold_mode == "rel" else 1.0
        margin = self.threshold * size
        if self.mode == "min":
            return metric < self.best - margin
        return metric > self.best + margin

    def multiply(self, factor: float, limit: float) -> bool:
        """Multiply the rate, but not beyond `limit`; False if it does not change."""
        rates = self.opt.lr if isinstance(self.opt.lr, tuple) else (self.opt.lr,)
        # Groups keep their proportions, so the group nearest to the limit bounds all of them.
        nearest = min(rates) if factor < 1 else max(rates)
        if nearest > 0:
            bound = limit / nearest
            factor = min(max(factor, bound), 1.0) if factor < 1 else max(min(factor, bound), 1.0)
        self.opt.lr_scale *= factor
        return factor != 1.0

    def state_dict(self) -> dict[str, Any]:
        """Counters and the best metric as plain numbers, to save beside the optimizer's state."""
        return {name: getattr(self, name) for name in self._saved}

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; ValueError for anything else changes nothing."""
        self._take(self._checked(d))

    def _checked(self, d: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a state dict, each as the constructor would take it."""
        return states.checked(type(self).__name__, d, {**self.counters(), **self._checks()})

    @classmethod
    def counters(cls) -> dict[str, states.Check]:
        """The checks of the numbers in a state."""
        return {**dict.fromkeys(cls._saved, states.count), "best": states.value}

    def _checks(self) -> dict[str, states.Check]:
        """The checks of what else a state holds."""
        return {}

    def _take(self, values: Mapping[str, Any]) -> None:
        for name in self._saved:
            setattr(self, name, values[name])


class Plateau(Controller):
    """Reduce the learning rate when a metric has stopped improving (reduce on plateau).

    Call `update(metric)` after each evaluation. A metric improves when it is below
    `best - threshold * abs(best)` (`mode="min"`, `threshold_mode="rel"`); `"abs"` omits the factor
    `abs(best)`, and `"max"` reverses sign and comparison. After more than `patience` evaluations in
    a row without improvement, the rate is multiplied by `factor`, but not reduced below `min_lr`,
    and the next `cooldown` evaluations are not counted. NaN counts as no improvement.

    It acts on `opt.lr_scale`, so it multiplies whatever schedule the optimizer has. With
    `restore_best` a cut also puts the parameters back to where the metric was best.

    The meaning of `patience` and `threshold` is that of torch.optim.lr_scheduler.ReduceLROnPlateau,
    but the relative threshold is correct for negative metrics too, and a cut of any size is made.

    Args:
        opt: The optimizer; one of torch's kind too, whose groups' rates are then multiplied.
        mode: Whether the metric should fall (`"min"`) or rise (`"max"`).
        factor: In (0, 1).
        patience: Evaluations without improvement that are tolerated before a cut.
        threshold: How much better counts as better, >= 0.
        threshold_mode: Relative to the best value (`"rel"`) or absolute (`"abs"`).
        cooldown: Evaluations to wait after a cut.
        min_lr: The rate is not cut below it.
        restore_best: Restore the best parameters at each cut.

    >>> import numpy as np, stepsize as ss
    >>> opt = ss.SGD(np.zeros(3), lr=0.1)
    >>> plateau = ss.Plateau(opt, patience=1, factor=0.5)
    >>> [plateau.update(loss) for loss in (1.0, 1.0, 1.0, 1.0)]
    [False, False, True, False]
    >>> opt.lr
    0.05
    """

    _saved = (*Controller._saved, "bad")

    def __init__(
        self,
        opt: Controlled,
        mode: Mode = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: ThresholdMode = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        *,
        restore_best: bool = False,
    ) -> None:
        super().__init__(opt, mode, factor, patience, threshold, threshold_mode, cooldown, min_lr)
        self.restore_best = check_for(bool)("Plateau", "restore_best", restore_best)
        if self.restore_best:
            flatten(self.opt.params)  # refuses what it could not restore
        self.bad = 0
        self._best_params: Nest | None = None

    def update(self, metric: float) -> bool:
        """Take one evaluation into account; True when the rate was cut."""
        metric = real("Plateau: metric", metric)
        if self.improves(metric):
            self.best, self.bad = metric, 0
            if self.restore_best:
                self._best_params = copy(self.opt.params)
        else:
            self.bad += 1
        if self.cooldown_left > 0:
            self.cooldown_left, self.bad = self.cooldown_left - 1, 0
        if self.bad <= self.patience:
            return False
        self.bad, self.cooldown_left = 0, self.cooldown
        if self._best_params is not None:
            assign(self.opt.params, self._best_params)
        return self.multiply(self.factor, self.min_lr)

    def state_dict(self) -> dict[str, Any]:
        """Counters, the best metric and, with `restore_best`, the best parameters' leaves."""
        state = super().state_dict()
        if self.restore_best:
            nest = self._best_params
            state["best_params"] = None if nest is None else flatten(copy(nest))[0]
        return state

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; ValueError for anything else changes nothing."""
        values = self._checked(d)
        self._take(values)
        self._best_params = values.get("best_params")

    def _checks(self) -> dict[str, states.Check]:
        return {"best_params": self._checked_params} if self.restore_best else {}

    def _checked_params(self, where: str, saved: Any) -> Nest | None:
        if saved is None:
            return None
        leaves, paths, spec = flatten(self.opt.params)
        if len(states.leaves(where, saved)) != len(leaves):
            raise ValueError(f"{where} must be a list of {len(leaves)} arrays, one a parameter")
        for leaf, path, array in zip(leaves, paths, saved, strict=True):
            if array.shape != leaf.shape:
                raise ValueError(f"{where}: {path} must be an array of shape {leaf.shape}")
        made = [np.asarray(a, leaf.dtype) for a, leaf in zip(saved, leaves, strict=True)]
        return copy(unflatten(spec, made))


class Greedy(Controller):
    """Raise the rate while a metric keeps improving, and cut it when the metric stops.

    After more than `patience` improvements in a row, the rate is divided by `factor`, up to
    `max_lr`. After more than `patience` evaluations in a row without improvement, it is multiplied
    by `factor`, down to `min_lr`. After a cut, `cooldown` evaluations do not count as bad; after a
    raise, `warmup` evaluations do not count as good. With `window` above 1 the metric is averaged
    over that many evaluations. NaN counts as no improvement.

    It acts on `opt.lr_scale`, so it multiplies whatever schedule the optimizer has.

    After transformers' GreedyLR, without its reset. There are no limits by default: a `min_lr`
    above the rate would prevent every cut.

    Args:
        opt: The optimizer; one of torch's kind too, whose groups' rates are then multiplied.
        mode: Whether the metric should fall (`"min"`) or rise (`"max"`).
        factor: In (0, 1).
        patience: Evaluations in a row that are tolerated before the rate changes.
        threshold: How much better counts as better, >= 0.
        threshold_mode: Relative to the best value (`"rel"`) or absolute (`"abs"`).
        cooldown: Evaluations to wait after a cut.
        warmup: Evaluations to wait after a raise.
        min_lr: The rate is not cut below it.
        max_lr: The rate is not raised above it.
        window: Evaluations to average over, >= 1.

    >>> import numpy as np, stepsize as ss
    >>> opt = ss.SGD(np.zeros(3), lr=0.1)
    >>> greedy = ss.schedules.Greedy(opt, patience=1, factor=0.5)
    >>> [greedy.update(loss) for loss in (3.0, 2.0, 1.0, 1.0, 1.0)]
    [False, True, False, False, True]
    >>> opt.lr
    0.1
    """

    _saved = (*Controller._saved, "bad", "good", "warmup_left")

    def __init__(
        self,
        opt: Controlled,
        mode: Mode = "min",
        factor: float = 0.95,
        patience: int = 10,
        threshold: float = 1e-6,
        threshold_mode: ThresholdMode = "abs",
        cooldown: int = 0,
        warmup: int = 0,
        min_lr: float = 0.0,
        max_lr: float = math.inf,
        window: int = 1,
    ) -> None:
        super().__init__(opt, mode, factor, patience, threshold, threshold_mode, cooldown, min_lr)
        self.warmup = int(COUNT("Greedy", "warmup", warmup))
        self.max_lr = real("Greedy: max_lr", max_lr)
        if not self.max_lr > self.min_lr:
            raise fail("Greedy", "max_lr", f"above min_lr={self.min_lr!r}", max_lr)
        self.window = int(COUNT("Greedy", "window", window))
        if self.window < 1:
            raise fail("Greedy", "window", "at least 1", window)
        self.bad = self.good = self.warmup_left = 0
        self.recent: deque[float] = deque(maxlen=self.window)

    def update(self, metric: float) -> bool:
        """Take one evaluation into account; True when the rate was changed."""
        self.recent.append(real("Greedy: metric", metric))
        metric = sum(self.recent) / len(self.recent)
        if self.improves(metric):
            self.best, self.bad, self.good = metric, 0, self.good + 1
        else:
            self.bad, self.good = self.bad + 1, 0
        if self.cooldown_left > 0:
            self.cooldown_left, self.bad = self.cooldown_left - 1, 0
        if self.warmup_left > 0:
            self.warmup_left, self.good = self.warmup_left - 1, 0
        if self.bad > self.patience:
            self.bad, self.cooldown_left = 0, self.cooldown
            return self.multiply(self.factor, self.min_lr)
        if self.good > self.patience:
            self.good, self.warmup_left = 0, self.warmup
            return self.multiply(1 / self.factor, self.max_lr)
        return False

    def state_dict(self) -> dict[str, Any]:
        """Counters, the best metric and the window as plain numbers."""
        return {**super().state_dict(), "recent": list(self.recent)}

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; ValueError for anything else changes nothing."""
        values = self._checked(d)
        self._take(values)
        self.recent = deque(values["recent"], maxlen=self.window)

    def _checks(self) -> dict[str, states.Check]:
        return {"recent": states.each(real, most=self.window)}

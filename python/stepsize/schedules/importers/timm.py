"""timm.scheduler, from a scheduler object or from its name and arguments."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from stepsize.schedules.basic import cosine, piecewise_constant, polynomial, step_decay, table, tanh
from stepsize.schedules.composed import wsd
from stepsize.schedules.importers.common import Builder, build, cycles, warmed
from stepsize.schedules.schedule import Schedule
from stepsize.validation import choice


def from_timm(scheduler: Any, *, group: int = 0, **arguments: Any) -> Schedule:
    """Convert a timm scheduler, given as an object or as a name with its arguments and `lr`.

    Steps are what the scheduler counts, epochs or updates. Formulas of timm without a counterpart
    here (`k_decay`, the less common shapes of `WSDLRScheduler`) are sampled at whole steps.

    Args:
        scheduler: An instance, or a class name such as `"CosineLRScheduler"`.
        group: Which parameter group of an instance.
        **arguments: Those of the class; `lr` is the optimizer's own rate.

    Raises:
        ValueError: For schedulers that are not functions of the step, such as noise, or of an
            unknown class.

    >>> import stepsize as ss
    >>> ss.schedules.from_timm("StepLRScheduler", lr=0.1, decay_t=30, decay_rate=0.5)
    step_decay(0.1, 30, 0.5)
    """
    if isinstance(scheduler, str):
        return build("from_timm", BUILDERS, scheduler, **arguments)
    if arguments:
        raise TypeError(f"from_timm: an instance takes no other arguments, got {arguments}")
    name = type(scheduler).__name__
    builder = BUILDERS.get(name)
    if getattr(scheduler, "noise_range_t", None) is not None:
        raise ValueError(f"from_timm: {name} with noise_range_t is random, not a schedule")
    if callable(builder):
        arguments = {"lr": scheduler.base_values[group]}
        for key in inspect.signature(builder).parameters:
            if key != "lr":
                arguments[key] = getattr(scheduler, key)
    return build("from_timm", BUILDERS, name, **arguments)


def placed(
    body: Schedule, lr: float, warmup_t: int, warmup_lr_init: float, warmup_prefix: bool
) -> Schedule:
    """The warm-up before the schedule (prefix), or in place of its first steps."""
    after = body if warmup_prefix or warmup_t == 0 else body.shift(-warmup_t)
    return warmed(after, lr, warmup_t, warmup_lr_init)


def sampled(value: Callable[[float], float], steps: float) -> Schedule:
    """A formula at the whole steps from 0 to `steps`."""
    return table([value(step) for step in range(math.ceil(steps) + 1)])


def cosine_lr(
    lr: float,
    t_initial: int,
    lr_min: float = 0.0,
    cycle_mul: float = 1.0,
    cycle_decay: float = 1.0,
    cycle_limit: int = 1,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = False,
    k_decay: float = 1.0,
) -> Schedule:
    def shape(peak: float, length: float) -> Schedule:
        if k_decay == 1:
            return cosine(peak, lr_min, length)
        height = 0.5 * (peak - lr_min)
        return sampled(
            lambda t: lr_min + height * (1 + math.cos(math.pi * min(t / length, 1.0) ** k_decay)),
            length,
        )

    body = cycles(shape, t_initial, cycle_mul, lr, cycle_decay, cycle_limit, lr_min)
    return placed(body, lr, warmup_t, warmup_lr_init, warmup_prefix)


def poly_lr(
    lr: float,
    t_initial: int,
    power: float = 0.5,
    lr_min: float = 0.0,
    cycle_mul: float = 1.0,
    cycle_decay: float = 1.0,
    cycle_limit: int = 1,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = False,
    k_decay: float = 1.0,
) -> Schedule:
    def shape(peak: float, length: float) -> Schedule:
        if k_decay == 1:
            return polynomial(peak, lr_min, length, power)
        return sampled(
            lambda t: lr_min + (peak - lr_min) * (1 - min(t / length, 1.0) ** k_decay) ** power,
            length,
        )

    body = cycles(shape, t_initial, cycle_mul, lr, cycle_decay, cycle_limit, lr_min)
    return placed(body, lr, warmup_t, warmup_lr_init, warmup_prefix)


def tanh_lr(
    lr: float,
    t_initial: int,
    lb: float = -7.0,
    ub: float = 3.0,
    lr_min: float = 0.0,
    cycle_mul: float = 1.0,
    cycle_decay: float = 1.0,
    cycle_limit: int = 1,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = False,
) -> Schedule:
    def shape(peak: float, length: float) -> Schedule:
        return tanh(peak, lr_min, length, lb, ub)

    body = cycles(shape, t_initial, cycle_mul, lr, cycle_decay, cycle_limit, lr_min)
    # A warm-up that replaces the first steps ends at the value of the curve there.
    top = lr if warmup_prefix or warmup_t == 0 else body(warmup_t)
    return placed(body, top, warmup_t, warmup_lr_init, warmup_prefix)


def step_lr(
    lr: float,
    decay_t: float,
    decay_rate: float = 1.0,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = True,
) -> Schedule:
    body = step_decay(lr, decay_t, decay_rate)
    return placed(body, lr, warmup_t, warmup_lr_init, warmup_prefix)


def multi_step_lr(
    lr: float,
    decay_t: Sequence[int],
    decay_rate: float = 1.0,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = True,
) -> Schedule:
    # A milestone takes effect one step early: at t the milestones up to t + 1 are counted.
    early = [m - 1 for m in decay_t]
    boundaries = sorted({b for b in early if b > 0})
    counts = [sum(m <= b for m in early) for b in (0, *boundaries)]
    body = piecewise_constant(boundaries, [lr * decay_rate**count for count in counts])
    return placed(body, lr, warmup_t, warmup_lr_init, warmup_prefix)


def wsd_lr(
    lr: float,
    t_initial: int,
    decay_t: int,
    lr_min: float = 0.0,
    stable_fn: str = "constant",
    stable_timescale: float | None = None,
    stable_power: float = 0.5,
    decay_fn: str | Callable[[float], float] = "1-sqrt",
    decay_power: float = 0.5,
    decay_ratio: float = 0.1,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
) -> Schedule:
    shapes = {"linear": "linear", "cosine": "cosine", "1-sqrt": "sqrt"}
    if stable_fn == "constant" and isinstance(decay_fn, str) and decay_fn in shapes:
        body = wsd(lr, 0, t_initial - decay_t, decay_t, lr_min, shapes[decay_fn])  # type: ignore[arg-type]
        return warmed(body, lr, warmup_t, warmup_lr_init)
    choice("stable_fn", stable_fn, ("constant", "rsqrt", "power"))
    if not callable(decay_fn):
        choice("decay_fn", decay_fn, (*shapes, "power", "exp"))
    timescale = warmup_t if stable_timescale is None else stable_timescale
    power = {"constant": 0.0, "rsqrt": 0.5, "power": stable_power}[stable_fn]
    ratio = decay_ratio
    fall: dict[Any, Callable[[float], float]] = {
        "linear": lambda p: 1 - p,
        "1-sqrt": lambda p: 1 - math.sqrt(p),
        "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
        "power": lambda p: 1 - p**decay_power,
        "exp": lambda p: (ratio**p - ratio) / (1 - ratio),
    }
    decay = decay_fn if callable(decay_fn) else fall[decay_fn]

    def value(t: float) -> float:
        stable = max(lr * (1 + t / timescale) ** -power if power else lr, lr_min)
        gone = t - (t_initial - decay_t)
        return stable if gone <= 0 else lr_min + (stable - lr_min) * decay(min(gone / decay_t, 1.0))

    return warmed(sampled(value, t_initial), lr, warmup_t, warmup_lr_init)


BUILDERS: dict[str, Builder | str] = {
    "CosineLRScheduler": cosine_lr,
    "PolyLRScheduler": poly_lr,
    "TanhLRScheduler": tanh_lr,
    "StepLRScheduler": step_lr,
    "MultiStepLRScheduler": multi_step_lr,
    "WSDLRScheduler": wsd_lr,
    "PlateauLRScheduler": "use ss.Plateau, which watches the metric",
}

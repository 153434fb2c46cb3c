"""transformers.get_scheduler, by name and arguments."""

from __future__ import annotations

from typing import Any

from stepsize.schedules.basic import (
    constant,
    cosine,
    cosine_restarts,
    inverse_sqrt,
    linear,
    polynomial,
)
from stepsize.schedules.composed import wsd
from stepsize.schedules.importers.common import Builder, build, warmed, wave
from stepsize.schedules.schedule import Schedule
from stepsize.validation import choice


def from_hf(name: str, *, lr: float, **arguments: Any) -> Schedule:
    """Convert `transformers.get_scheduler(name, ...)`; transformers need not be installed.

    Args:
        name: A scheduler type, such as `"cosine"`.
        lr: The optimizer's own rate, which the scheduler multiplies.
        **arguments: `num_warmup_steps`, `num_training_steps` and the scheduler's own.

    Raises:
        ValueError: For schedulers that are not functions of the step, or of an unknown name.

    >>> import stepsize as ss
    >>> s = ss.schedules.from_hf("linear", lr=0.1, num_warmup_steps=10, num_training_steps=110)
    >>> s(5), s(10), s(60), s(200)
    (0.05, 0.1, 0.05, 0.0)
    """
    return build("from_hf", BUILDERS, name, lr=lr, **arguments)


def rest(num_warmup_steps: int, num_training_steps: int) -> int:
    return max(1, num_training_steps - num_warmup_steps)


def unclamped(lr: float, low: float, length: float, num_cycles: float) -> Schedule:
    """`num_cycles` cosine waves in `length` steps, which continue after them."""
    return wave(lr, low, length / (2 * num_cycles)) if num_cycles > 0 else constant(lr)


def constant_(lr: float, num_warmup_steps: int = 0, num_training_steps: int = 0) -> Schedule:
    return constant(lr)


def constant_with_warmup(lr: float, num_warmup_steps: int, num_training_steps: int = 0) -> Schedule:
    return warmed(constant(lr), lr, num_warmup_steps)


def linear_(lr: float, num_warmup_steps: int, num_training_steps: int) -> Schedule:
    left = num_training_steps - num_warmup_steps
    return warmed(linear(lr, 0.0, left) if left > 0 else constant(0.0), lr, num_warmup_steps)


def cosine_(
    lr: float, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5
) -> Schedule:
    length = rest(num_warmup_steps, num_training_steps)
    return warmed(unclamped(lr, 0.0, length, num_cycles), lr, num_warmup_steps)


def cosine_with_restarts(
    lr: float, num_warmup_steps: int, num_training_steps: int, num_cycles: int = 1
) -> Schedule:
    length = rest(num_warmup_steps, num_training_steps)
    waves = cosine_restarts(lr, length / num_cycles) if num_cycles > 0 else constant(lr)
    return warmed(waves.then(0.0, at=length), lr, num_warmup_steps)


def polynomial_(
    lr: float,
    num_warmup_steps: int,
    num_training_steps: int,
    lr_end: float = 1e-7,
    power: float = 1.0,
) -> Schedule:
    if lr_end >= lr:
        raise ValueError(f"from_hf: polynomial: lr_end={lr_end!r} must be below lr={lr!r}")
    left = num_training_steps - num_warmup_steps
    # If no steps are left after the warm-up, transformers continues with lr_end.
    decay = polynomial(lr, lr_end, left, power) if left > 0 else constant(lr_end)
    return warmed(decay, lr, num_warmup_steps)


def inverse_sqrt_(
    lr: float,
    num_warmup_steps: int,
    num_training_steps: int = 0,
    timescale: int | None = None,
) -> Schedule:
    return inverse_sqrt(lr, num_warmup_steps, timescale=timescale or num_warmup_steps or 10_000)


def lowest(lr: float, min_lr: float | None, min_lr_rate: float | None) -> float:
    """The rate at the bottom of the wave, given by exactly one of the two arguments."""
    if (min_lr is None) == (min_lr_rate is None):
        raise ValueError(
            f"from_hf: give one of min_lr and min_lr_rate, got {min_lr!r} and {min_lr_rate!r}"
        )
    return min_lr if min_lr is not None else lr * float(min_lr_rate or 0.0)


def cosine_with_min_lr(
    lr: float,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> Schedule:
    length = rest(num_warmup_steps, num_training_steps)
    low = lowest(lr, min_lr, min_lr_rate)
    return warmed(unclamped(lr, low, length, num_cycles), lr, num_warmup_steps)


def cosine_warmup_with_min_lr(
    lr: float,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> Schedule:
    length = rest(num_warmup_steps, num_training_steps)
    # One step ahead of the others: it never returns 0, and decay has begun when warm-up ends.
    waves = unclamped(lr, lowest(lr, min_lr, min_lr_rate), length, num_cycles).shift(-1)
    if num_warmup_steps == 0:
        return waves
    line = linear(0.0, lr, num_warmup_steps).shift(-1)
    if warmup_lr_rate is not None:
        line = linear(lr * warmup_lr_rate, lr, max(1, num_warmup_steps - 1))
    return line.then(waves, at=num_warmup_steps)


def warmup_stable_decay(
    lr: float,
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int | None = None,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> Schedule:
    if num_stable_steps is None:
        num_stable_steps = (num_training_steps or 0) - num_warmup_steps - num_decay_steps
    low = lr * min_lr_ratio
    shapes = {"linear": "linear", "cosine": "cosine", "1-sqrt": "sqrt"}
    choice("warmup_type", warmup_type, shapes)
    choice("decay_type", decay_type, shapes)
    steady = wsd(lr, 0, num_stable_steps, num_decay_steps, low, shapes[decay_type])  # type: ignore[arg-type]
    if decay_type == "cosine" and num_cycles != 0.5:
        waves = unclamped(lr, low, num_decay_steps, num_cycles)
        end = num_stable_steps + num_decay_steps
        steady = constant(lr).then(waves, at=num_stable_steps).then(low, at=end)
    if num_warmup_steps == 0:
        return steady
    rise = {
        "linear": linear(low, lr, num_warmup_steps),
        "cosine": cosine(low, lr, num_warmup_steps),
        "1-sqrt": polynomial(low, lr, num_warmup_steps, power=0.5),
    }
    return rise[warmup_type].then(steady, at=num_warmup_steps)


BUILDERS: dict[str, Builder | str] = {
    "linear": linear_,
    "cosine": cosine_,
    "cosine_with_restarts": cosine_with_restarts,
    "polynomial": polynomial_,
    "constant": constant_,
    "constant_with_warmup": constant_with_warmup,
    "inverse_sqrt": inverse_sqrt_,
    "cosine_with_min_lr": cosine_with_min_lr,
    "cosine_warmup_with_min_lr": cosine_warmup_with_min_lr,
    "warmup_stable_decay": warmup_stable_decay,
    "reduce_lr_on_plateau": "use ss.Plateau, which watches the metric",
    "greedy": "use ss.schedules.Greedy, which watches the metric",
}

"""torch.optim.lr_scheduler and SWALR, read from a scheduler object or built from its arguments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from stepsize.schedules.basic import (
    constant,
    cosine,
    cosine_restarts,
    cyclic,
    exponential,
    from_function,
    linear,
    piecewise_constant,
    polynomial,
    step_decay,
)
from stepsize.schedules.composed import one_cycle
from stepsize.schedules.importers.common import Builder, build, wave
from stepsize.schedules.schedule import Schedule
from stepsize.validation import choice

ONE = "use ss.Plateau, which watches the metric"


def from_torch(scheduler: Any, *, group: int = 0, **arguments: Any) -> Schedule:
    """Convert a torch scheduler, given as an object or as a class name with its arguments and `lr`.

    The values are those of parameter group `group` when `scheduler.step()` is called after each
    update from the start, also for a scheduler that has made steps: its `last_epoch` is not taken
    over, and a warning says how the schedule is moved on for an optimizer that begins at step 0.
    torch need not be installed for names.

    Args:
        scheduler: An instance, or a name such as `"StepLR"`.
        group: Which parameter group of an instance.
        **arguments: Those of the class; `lr` is the optimizer's own rate.

    Raises:
        ValueError: For schedulers that are not functions of the step, or of an unknown class.

    >>> import stepsize as ss
    >>> ss.schedules.from_torch("StepLR", lr=0.1, step_size=30, gamma=0.5)
    step_decay(0.1, 30, 0.5)
    """
    if isinstance(scheduler, str):
        return build("from_torch", BUILDERS, scheduler, **arguments)
    if arguments:
        raise TypeError(f"from_torch: an instance takes no other arguments, got {arguments}")
    made = getattr(scheduler, "last_epoch", 0)
    if isinstance(made, int) and made > 0:
        warnings.warn(
            f"from_torch: the scheduler has made {made} steps, and the schedule made here counts "
            "from its start, as an optimizer does that goes on with step_count; for one that "
            f"begins at step 0 move it on with .shift(-{made})",
            stacklevel=2,
        )
    return from_instance(scheduler, group)


def from_instance(scheduler: Any, group: int) -> Schedule:
    """The schedule of a scheduler object, from its start."""
    name = type(scheduler).__name__
    return build("from_torch", BUILDERS, name, **arguments_of(name, scheduler, group))


def arguments_of(name: str, scheduler: Any, group: int) -> dict[str, Any]:
    """The constructor arguments of an instance, as the builders expect them."""
    if name in ("SequentialLR", "ChainedScheduler"):
        children = [from_instance(child, group) for child in scheduler._schedulers]
        if name == "SequentialLR":
            if any(type(child).__name__ == "SequentialLR" for child in scheduler._schedulers):
                warnings.warn(
                    "from_torch: torch runs a SequentialLR inside of another at wrong rates "
                    "(pytorch#196243); the schedule made here has the right ones",
                    stacklevel=4,
                )
            return {"schedulers": children, "milestones": scheduler._milestones}
        kinds = [type(child).__name__ for child in scheduler._schedulers]
        # A chain whose first part has no base is refused by that part's kind.
        base = getattr(scheduler._schedulers[0], "base_lrs", {group: 1.0})[group]
        return {"lr": base, "schedulers": children, "kinds": kinds}
    if name == "OneCycleLR":
        return one_cycle_arguments(scheduler, group)
    if name == "CyclicLR":
        up = scheduler.step_ratio * scheduler.total_size
        return {
            "base_lr": scheduler.base_lrs[group],
            "max_lr": scheduler.max_lrs[group],
            "step_size_up": up,
            "step_size_down": scheduler.total_size - up,
            "mode": scheduler.mode,
            "gamma": scheduler.gamma,
            "scale_fn": scheduler._scale_fn_custom,
        }
    found = {"lr": scheduler.base_lrs[group]} if hasattr(scheduler, "base_lrs") else {}
    for key in ATTRIBUTES.get(name, ()):
        found[key] = getattr(scheduler, key)
    if name == "MultiStepLR":
        found["milestones"] = sorted(scheduler.milestones.elements())
    if name in ("LambdaLR", "MultiplicativeLR"):
        found["lr_lambda"] = scheduler.lr_lambdas[group]
    if name == "SWALR":
        found["swa_lr"] = scheduler.optimizer.param_groups[group]["swa_lr"]
        strategy = scheduler.anneal_func.__name__
        found["anneal_strategy"] = "linear" if strategy == "_linear_anneal" else "cos"
    return found


ATTRIBUTES = {
    "StepLR": ("step_size", "gamma"),
    "MultiStepLR": ("gamma",),
    "ConstantLR": ("factor", "total_iters"),
    "LinearLR": ("start_factor", "end_factor", "total_iters"),
    "ExponentialLR": ("gamma",),
    "PolynomialLR": ("total_iters", "power"),
    "CosineAnnealingLR": ("T_max", "eta_min"),
    "CosineAnnealingWarmRestarts": ("T_0", "T_mult", "eta_min"),
    "SWALR": ("anneal_epochs",),
}


def one_cycle_arguments(scheduler: Any, group: int) -> dict[str, Any]:
    """OneCycleLR stores the ends of its phases and its rates, not its arguments."""
    rates = scheduler.optimizer.param_groups[group]
    phases = scheduler._schedule_phases
    return {
        "max_lr": rates["max_lr"],
        "total_steps": scheduler.total_steps,
        "pct_start": (phases[0]["end_step"] + 1) / scheduler.total_steps,
        "anneal_strategy": scheduler._anneal_func_type,
        "div_factor": rates["max_lr"] / rates["initial_lr"],
        "final_div_factor": rates["initial_lr"] / rates["min_lr"],
        "three_phase": len(phases) == 3,
    }


def lambda_lr(lr: float, lr_lambda: Callable[[int], float]) -> Schedule:
    return from_function(function_of(lr_lambda)) * lr  # type: ignore[arg-type]


def function_of(lr_lambda: object) -> Callable[[int], float]:
    """The function itself; a name is refused, since text cannot name functions."""
    if callable(lr_lambda):
        return lr_lambda
    raise TypeError(f"lr_lambda must be a function of the step, got {lr_lambda!r:.80}")


class Products:
    """The running product of f(1), f(2), ...: what MultiplicativeLR has multiplied by so far."""

    def __init__(self, f: Callable[[int], float]) -> None:
        self.f = f
        self.done = [1.0]

    def __call__(self, step: float) -> float:
        while len(self.done) <= step:
            self.done.append(self.done[-1] * self.f(len(self.done)))
        return self.done[int(step)]


def multiplicative_lr(lr: float, lr_lambda: Callable[[int], float]) -> Schedule:
    return from_function(Products(function_of(lr_lambda))) * lr


def step_lr(lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    return step_decay(lr, step_size, gamma)


def multi_step_lr(lr: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    ordered = sorted(milestones)
    boundaries = sorted(set(ordered))
    counts = [0] + [sum(m <= b for m in ordered) for b in boundaries]
    return piecewise_constant(boundaries, [lr * gamma**count for count in counts])


def constant_lr(lr: float, factor: float = 1 / 3, total_iters: int = 5) -> Schedule:
    if total_iters == 0:
        return constant(lr * factor)  # set when torch's is made, and never taken back
    return constant(lr * factor).then(lr, at=total_iters)


def linear_lr(
    lr: float, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
) -> Schedule:
    if total_iters == 0:
        return constant(lr * start_factor)  # as for ConstantLR
    return linear(lr * start_factor, lr * end_factor, total_iters)


def exponential_lr(lr: float, gamma: float) -> Schedule:
    return exponential(lr, gamma)


def polynomial_lr(lr: float, total_iters: int = 5, power: float = 1.0) -> Schedule:
    return polynomial(lr, 0.0, total_iters, power) if total_iters else constant(lr)


def cosine_annealing_lr(lr: float, T_max: int, eta_min: float = 0.0) -> Schedule:
    return wave(lr, eta_min, T_max)


def warm_restarts(lr: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> Schedule:
    return cosine_restarts(lr, T_0, multiplier=T_mult, end=eta_min)


def sequential_lr(schedulers: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    joined = schedulers[0]
    for child, milestone in zip(schedulers[1:], milestones, strict=True):
        joined = joined.then(child, at=milestone)
    return joined


CHAINABLE = ("ConstantLR", "LinearLR", "ExponentialLR", "StepLR", "MultiStepLR", "PolynomialLR")


def chained_scheduler(lr: float, schedulers: Sequence[Schedule], kinds: Sequence[str]) -> Schedule:
    for kind in kinds:
        if kind not in CHAINABLE:
            raise ValueError(
                f"from_torch: in a ChainedScheduler, {kind} sets the rate instead of multiplying "
                f"it, so the chain is no product of its parts; chain only {', '.join(CHAINABLE)}"
            )
    return reduce(lambda left, right: left * (right * (1 / lr)), schedulers)


def cyclic_lr(
    base_lr: float,
    max_lr: float,
    step_size_up: float = 2000,
    step_size_down: float | None = None,
    mode: Any = "triangular",
    gamma: float = 1.0,
    scale_fn: None = None,
) -> Schedule:
    if scale_fn is not None:
        raise ValueError(
            "from_torch: CyclicLR with a scale_fn of its own; multiply "
            "cyclic(0, 1, ...) by from_function(f) and add the base rate"
        )
    used = gamma if mode == "exp_range" else 1.0
    return cyclic(base_lr, max_lr, step_size_up, step_size_down, mode=mode, gamma=used)


def one_cycle_lr(
    max_lr: float,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
    total = total_steps if total_steps is not None else (epochs or 0) * (steps_per_epoch or 0)
    return one_cycle(
        max_lr,
        total,
        pct_start=pct_start,
        div=div_factor,
        final_div=final_div_factor,
        shape="cosine" if anneal_strategy == "cos" else "linear",
        three_phase=three_phase,
    )


def swa_lr(
    lr: float, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: str = "cos"
) -> Schedule:
    choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
    if anneal_epochs == 0:
        return constant(swa_lr)
    shape = cosine if anneal_strategy == "cos" else linear
    return shape(lr, swa_lr, anneal_epochs)


BUILDERS: dict[str, Builder | str] = {
    "LambdaLR": lambda_lr,
    "MultiplicativeLR": multiplicative_lr,
    "StepLR": step_lr,
    "MultiStepLR": multi_step_lr,
    "ConstantLR": constant_lr,
    "LinearLR": linear_lr,
    "ExponentialLR": exponential_lr,
    "PolynomialLR": polynomial_lr,
    "CosineAnnealingLR": cosine_annealing_lr,
    "CosineAnnealingWarmRestarts": warm_restarts,
    "SequentialLR": sequential_lr,
    "ChainedScheduler": chained_scheduler,
    "CyclicLR": cyclic_lr,
    "OneCycleLR": one_cycle_lr,
    "SWALR": swa_lr,
    "ReduceLROnPlateau": ONE,
}

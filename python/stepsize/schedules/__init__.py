"""Schedules: functions of the number of applied updates, as immutable values.

>>> import stepsize as ss
>>> s = ss.schedules.warmup_cosine(peak=3e-3, warmup_steps=100, total_steps=2_000)
>>> s(0), s(100), s(2_000)
(0.0, 0.003, 0.0)
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from stepsize.schedules.basic import (
    constant,
    cosine,
    cosine_restarts,
    cyclic,
    exponential,
    from_function,
    inverse_sqrt,
    inverse_time,
    linear,
    multistep,
    piecewise_constant,
    piecewise_linear,
    polynomial,
    step_decay,
    table,
    tanh,
)
from stepsize.schedules.composed import (
    flat_cosine,
    noam,
    one_cycle,
    rex,
    warmup_cosine,
    warmup_linear,
    wsd,
)
from stepsize.schedules.controllers import Greedy, Plateau
from stepsize.schedules.importers import from_hf, from_keras, from_optax, from_timm, from_torch
from stepsize.schedules.layerwise import layerwise_lr
from stepsize.schedules.momentum import cyclic_momentum, one_cycle_momentum
from stepsize.schedules.refinement import refined
from stepsize.schedules.run_length import ScheduleWarning, check_run, epochs
from stepsize.schedules.schedule import Schedule

__all__ = [
    "Greedy",
    "Plateau",
    "Schedule",
    "ScheduleWarning",
    "check_run",
    "constant",
    "cosine",
    "cosine_restarts",
    "cyclic",
    "cyclic_momentum",
    "epochs",
    "exponential",
    "flat_cosine",
    "from_function",
    "from_hf",
    "from_keras",
    "from_optax",
    "from_timm",
    "from_torch",
    "inverse_sqrt",
    "inverse_time",
    "layerwise_lr",
    "linear",
    "multistep",
    "noam",
    "one_cycle",
    "one_cycle_momentum",
    "piecewise_constant",
    "piecewise_linear",
    "polynomial",
    "refined",
    "rex",
    "step_decay",
    "table",
    "tanh",
    "warmup_cosine",
    "warmup_linear",
    "wsd",
]

# What other libraries call them, for those who ask by habit.
_ELSEWHERE = {
    "ConstantLR": "constant",
    "CosineAnnealingLR": "cosine",
    "CosineAnnealingWarmRestarts": "cosine_restarts",
    "CyclicLR": "cyclic",
    "ExponentialLR": "exponential",
    "LambdaLR": "from_function",
    "LinearLR": "linear",
    "MultiStepLR": "multistep",
    "OneCycleLR": "one_cycle",
    "PolynomialLR": "polynomial",
    "ReduceLROnPlateau": "Plateau",
    "StepLR": "step_decay",
    **dict.fromkeys(("CosineDecay", "cosine_decay", "cosine_decay_schedule"), "cosine"),
    **dict.fromkeys(("CosineDecayRestarts", "sgdr_schedule"), "cosine_restarts"),
    **dict.fromkeys(("ExponentialDecay", "exponential_decay"), "exponential"),
    "InverseTimeDecay": "inverse_time",
    **dict.fromkeys(
        ("PiecewiseConstantDecay", "piecewise_constant_schedule"), "piecewise_constant"
    ),
    **dict.fromkeys(("PolynomialDecay", "polynomial_schedule"), "polynomial"),
    "constant_schedule": "constant",
    "linear_schedule": "linear",
    **dict.fromkeys(("cosine_onecycle_schedule", "OneCycle", "fit_one_cycle"), "one_cycle"),
    "warmup_cosine_decay_schedule": "warmup_cosine",
    "get_cosine_schedule_with_warmup": "warmup_cosine",
    "get_linear_schedule_with_warmup": "warmup_linear",
}


if not _TYPE_CHECKING:  # which would take any name for one of the module

    def __getattr__(name: str) -> object:
        move = f"; it is schedules.{_ELSEWHERE[name]} here" if name in _ELSEWHERE else ""
        words = f"module 'stepsize.schedules' has no attribute {name!r}{move}"
        raise AttributeError(words, name=name)

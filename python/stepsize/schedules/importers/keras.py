"""keras.optimizers.schedules, from an object, its serialized form or its name and arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stepsize.schedules.basic import (
    cosine,
    cosine_restarts,
    exponential,
    inverse_time,
    piecewise_constant,
    polynomial,
)
from stepsize.schedules.importers.common import Builder, build, warmed
from stepsize.schedules.schedule import Schedule


def from_keras(config: Any, **arguments: Any) -> Schedule:
    """Convert a Keras schedule; Keras need not be installed for names and dicts.

    Args:
        config: A schedule object, what `keras.optimizers.schedules.serialize` returns for it, or a
            class name with the class's arguments.
        **arguments: The arguments, where `config` is a name.

    Raises:
        ValueError: For an unknown class.

    >>> import stepsize as ss
    >>> ss.schedules.from_keras("CosineDecay", initial_learning_rate=0.1, decay_steps=100)
    cosine(0.1, 0.0, 100)
    """
    if isinstance(config, str):
        return build("from_keras", BUILDERS, config, **arguments)
    if arguments:
        raise TypeError(f"from_keras: only a class name takes other arguments, got {arguments}")
    if isinstance(config, Mapping) and isinstance(config.get("config"), Mapping):
        name, found = str(config.get("class_name")), dict(config["config"])
    elif hasattr(config, "get_config"):
        name, found = type(config).__name__, dict(config.get_config())
    else:
        raise TypeError(f"from_keras: expected a schedule, its dict or a name, got {config!r:.80}")
    found.pop("name", None)
    return build("from_keras", BUILDERS, name, **found)


def exponential_decay(
    initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False
) -> Schedule:
    return exponential(initial_learning_rate, decay_rate, decay_steps, staircase)


def piecewise_constant_decay(boundaries: Sequence[float], values: Sequence[float]) -> Schedule:
    # The old value still holds at a boundary, so the new one starts at the next whole step.
    return piecewise_constant([math.floor(b) + 1 for b in boundaries], values)


def polynomial_decay(
    initial_learning_rate: float,
    decay_steps: float,
    end_learning_rate: float = 0.0001,
    power: float = 1.0,
    cycle: bool = False,
) -> Schedule:
    return polynomial(initial_learning_rate, end_learning_rate, decay_steps, power, cycle)


def inverse_time_decay(
    initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False
) -> Schedule:
    return inverse_time(initial_learning_rate, decay_rate, decay_steps, staircase)


def cosine_decay(
    initial_learning_rate: float,
    decay_steps: float,
    alpha: float = 0.0,
    warmup_target: float | None = None,
    warmup_steps: int = 0,
) -> Schedule:
    if warmup_target is None:
        return cosine(initial_learning_rate, alpha * initial_learning_rate, decay_steps)
    decay = cosine(warmup_target, alpha * warmup_target, decay_steps)
    return warmed(decay, warmup_target, warmup_steps, initial_learning_rate)


def cosine_decay_restarts(
    initial_learning_rate: float,
    first_decay_steps: float,
    t_mul: float = 2.0,
    m_mul: float = 1.0,
    alpha: float = 0.0,
) -> Schedule:
    if not 0 < m_mul <= 1:
        raise ValueError(
            f"m_mul must be in (0, 1], got {m_mul!r}: restarts that grow never end; join a few "
            "of them with .then(...)"
        )
    end = alpha * initial_learning_rate
    return cosine_restarts(initial_learning_rate, first_decay_steps, t_mul, m_mul, end)


BUILDERS: dict[str, Builder | str] = {
    "ExponentialDecay": exponential_decay,
    "PiecewiseConstantDecay": piecewise_constant_decay,
    "PolynomialDecay": polynomial_decay,
    "InverseTimeDecay": inverse_time_decay,
    "CosineDecay": cosine_decay,
    "CosineDecayRestarts": cosine_decay_restarts,
}

"""What stops a step, in words. The compiled step calls here; nothing has changed when it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from stepsize.errors import NonFiniteGradientError

if TYPE_CHECKING:
    from stepsize.optimizers.optimizer import Optimizer


def refuse(optimizer: Optimizer, what: str, *details: Any) -> NoReturn:
    """Raise the error of this kind."""
    _KINDS[what](optimizer, *details)


def _gradient(optimizer: Optimizer, leaf: int) -> NoReturn:
    raise NonFiniteGradientError(
        f"{type(optimizer).__name__}: the gradient of {optimizer.paths[leaf]} holds NaN or "
        f"infinity at step {optimizer.step_count}; nothing was changed. Lower the rate (it is "
        f'{optimizer.lr}), or choose on_nonfinite="skip" to leave such steps out'
    )


def _parameter(optimizer: Optimizer, leaf: int) -> NoReturn:
    raise ValueError(
        f"{type(optimizer).__name__}: {optimizer.paths[leaf]} became read-only or changed "
        "its shape after the optimizer was made; make it writable, or make the optimizer anew"
    )


def _overlap(optimizer: Optimizer, leaf: int) -> NoReturn:
    raise ValueError(
        f"{type(optimizer).__name__}: the gradient of {optimizer.paths[leaf]} shares memory with "
        "a parameter, which the step would change under it; pass a copy"
    )


def _unbound(optimizer: Optimizer) -> NoReturn:
    owner = type(optimizer).__name__
    raise ValueError(
        f"{owner}: step() was called without gradients and none are bound; pass them, "
        "opt.step(grads), or call opt.bind(grads) once"
    )


def _number(optimizer: Optimizer, name: str, value: object) -> NoReturn:
    owner, step = type(optimizer).__name__, optimizer.step_count
    if name == "loss" and not isinstance(value, float):
        found = "missing" if value is None else f"a {type(value).__name__}, not a number"
        raise TypeError(f"{owner}: loss is {found}; the rule needs it, step(grads, loss=...)")
    if name == "loss":
        raise ValueError(
            f"{owner}: loss is {value!r} at step {step}, but the rule needs a finite one; nothing "
            "was changed. Lower the rate, or leave such steps out"
        )
    parts = [part for field in optimizer.fields.values() for part in field.parts()]
    part = next(part for part in parts if part.name == name)
    above = part.low_open and value == part.low
    advice = f"Let its schedule end above {part.low:g}" if above else "Mend its schedule"
    raise ValueError(
        f"{owner}: {part.label} is {value!r} at step {step}, but must be {part.describe()}; "
        f"nothing was changed. {advice}"
    )


_KINDS: dict[str, Callable[..., NoReturn]] = {
    "gradient": _gradient,
    "parameter": _parameter,
    "overlap": _overlap,
    "unbound": _unbound,
    "number": _number,
}

"""The `StepHost` of optimizers over NumPy arrays, and the errors of a step in words."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn, Protocol, cast

from stepsize.arrays import Array, Nest
from stepsize.errors import NonFiniteGradientError
from stepsize.optimizers import gradients, reference
from stepsize.optimizers.internals import Internals
from stepsize.optimizers.leaves import Leaves
from stepsize.optimizers.stats import StepStats, Sums
from stepsize.optimizers.transaction import assignment
from stepsize.validation import is_complex_number


class Hosted(Protocol):
    """What the host reads of its optimizer."""

    needs_loss: ClassVar[bool]

    @property
    def internals(self) -> Internals:
        """The parts it is made of."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The leaves' names."""

    @property
    def step_count(self) -> int:
        """Updates applied so far."""

    @property
    def loss_scale(self) -> float:
        """What the loss was multiplied with."""

    @property
    def lr(self) -> Any:
        """The rate of the next step."""


class OptimizerHost:
    """The host of an optimizer over NumPy arrays."""

    def __init__(self, optimizer: Hosted) -> None:
        # Weak: in a circle the optimizer's arrays would wait for the garbage collector.
        self._optimizer = weakref.ref(optimizer)
        # Calls in C: a Python function would hear Ctrl-C, after the state has moved.
        self.write_strided: Callable[[], Any] = lambda: None
        self.write_rows: Callable[[], Any] = lambda: None

    def attach(self, leaves: Leaves) -> None:
        """Take over how parameters are written that are not contiguous."""
        if leaves.strided:
            _, targets, values = zip(*leaves.strided, strict=True)
            self.write_strided = assignment(targets, values)

    @property
    def optimizer(self) -> Hosted:
        """The optimizer, which lives while it steps."""
        found = self._optimizer()
        if found is None:
            raise ReferenceError("the optimizer of this step is gone")
        return found

    def gather(self, grads: Nest) -> list[Any]:
        parts = self.optimizer.internals
        found = gradients.gather(parts, grads, bind_rows=True)
        if parts.leaves.rows:
            self.write_rows = parts.leaves.rows_written()
        return found

    def gather_leaf(self, leaf: int, grad: Any) -> list[Any]:
        parts = self.optimizer.internals
        found = gradients.gather_leaf(parts, leaf, grad)
        if parts.leaves.rows:
            self.write_rows = parts.leaves.rows_written()
        return [found]

    def fail(self, kind: str, *details: Any) -> NoReturn:
        _KINDS[kind](self.optimizer, *details)

    def step_stats(
        self, grad_norm: float, update_norm: float, param_norm: float, nonfinite: int
    ) -> StepStats:
        return StepStats.of(grad_norm, update_norm, param_norm, nonfinite)

    def run_reference(self, grads: Sequence[Array | None], scale: float, stats: bool) -> Sums:
        return reference.run(self.optimizer.internals, grads, scale, stats)

    def combine(self, by_leaf: bool, leaves: bytes, terms: bytes, width: int) -> list[float]:
        raise NotImplementedError("this optimizer has all leaves: nobody else has a part of a sum")

    def largest(self, value: float) -> float:
        return value

    def read_strided(self) -> None:
        for i, leaf, whole in self.optimizer.internals.leaves.strided:
            alike = leaf.shape == whole.shape and leaf.dtype == whole.dtype
            if not (leaf.flags.writeable and alike):
                self.fail("parameter", i)
            whole[...] = leaf


def _gradient(optimizer: Hosted, leaf: int, finite: bool = False) -> NoReturn:
    dtype = optimizer.internals.leaves.arrays[leaf].dtype
    refuse_gradient(optimizer, optimizer.paths[leaf], dtype, finite)


def refuse_gradient(optimizer: Hosted, path: str, dtype: Any, finite: bool) -> NoReturn:
    """Raise for the gradient of a leaf that holds what no step takes."""
    scaled = optimizer.internals.options.loss_scale is not None
    # A rule that takes the function itself has no step to leave out.
    others = ', or choose on_nonfinite="skip" to leave such steps out'
    others = "" if getattr(optimizer, "needs_closure", False) else others
    found = gradients.refused(finite, dtype)
    raise NonFiniteGradientError(
        f"{type(optimizer).__name__}: the gradient of {path} holds {found} "
        f"at step {optimizer.step_count}; nothing was changed. Lower the rate (it is "
        f"{optimizer.lr})"
        + (f", or the loss itself (loss_scale is {optimizer.loss_scale:g})" if scaled else "")
        + (", give clip_norm or clip_value" if finite else "")
        + others
    )


def _parameter(optimizer: Hosted, leaf: int) -> NoReturn:
    raise ValueError(
        f"{type(optimizer).__name__}: {optimizer.paths[leaf]} became read-only or changed "
        "its shape or dtype after the optimizer was made; make it as it was, or make the optimizer "
        "anew"
    )


def _overlap(optimizer: Hosted, leaf: int) -> NoReturn:
    raise ValueError(
        f"{type(optimizer).__name__}: the gradient of {optimizer.paths[leaf]} shares memory with "
        "parameters, state arrays or averages, which the step would change under it; pass a copy"
    )


def _unbound(optimizer: Hosted) -> NoReturn:
    owner = type(optimizer).__name__
    raise ValueError(
        f"{owner}: step() was called without gradients and none are bound; pass them, "
        "opt.step(grads), or call opt.bind(grads) once"
    )


def _number(optimizer: Hosted, name: str, value: object) -> NoReturn:
    owner, step = type(optimizer).__name__, optimizer.step_count
    if name == "loss" and not isinstance(value, float):
        found = "missing" if value is None else f"a {type(value).__name__}, not a number"
        call = "step(grads, loss=...)"
        if is_complex_number(value):
            found, call = f"complex, {value!s:.80}", "as a real number, loss.real"
        if not optimizer.needs_loss and not isinstance(value, complex):
            raise TypeError(f"{owner}: loss must be a number or None, got {value!r:.80}")
        raise TypeError(f"{owner}: loss is {found}; the rule needs it, {call}")
    if name == "loss":
        closed = getattr(optimizer, "needs_closure", False)
        advice = "Start where it is" if closed else "Lower the rate, or leave such steps out"
        raise ValueError(
            f"{owner}: loss is {value!r} at step {step}, but the rule needs a finite one; nothing "
            f"was changed. {advice}"
        )
    rules = optimizer.internals.groups.rules
    parts = [part for rule in rules for field in rule.fields.values() for part in field.parts()]
    named = [part for part in parts if part.name == name]
    part = next((part for part in named if not part.holds(cast(float, value))), named[0])
    above = part.low_open and value == part.low
    advice = f"Let its schedule end above {part.low:g}" if above else "Fix its schedule"
    raise ValueError(
        f"{owner}: {part.label} is {value!r} at step {step}, but must be {part.describe()}; "
        f"nothing was changed. {advice}"
    )


def _stats(optimizer: Hosted, value: object) -> NoReturn:
    raise TypeError(f"{type(optimizer).__name__}: stats must be True or False, got {value!r:.80}")


_KINDS: dict[str, Callable[..., NoReturn]] = {
    "gradient": _gradient,
    "parameter": _parameter,
    "overlap": _overlap,
    "unbound": _unbound,
    "number": _number,
    "stats": _stats,
}

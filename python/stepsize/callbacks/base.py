"""What may watch a run, change it, stop it and save it.

A callback is any object with some of the methods below; each gets the `Run`.

* ``on_start(run)``: before the first step, and after loading when a run is resumed.
* ``on_gradients(run)``: ``run.grads`` are there and may be replaced; the step is not yet made.
* ``on_step(run)``: after each step, its row in ``run.history``.
* ``on_nonfinite(run)``: a loss or gradient is not finite and the run is to end; one that returns
  True has recovered from it, and the run continues with the next batch.
* ``on_validation(run)``: after each validation, its values in ``run.metrics``, the parameters as
  they were measured.
* ``on_epoch(run)``: after each epoch and its validation.
* ``on_end(run)``: always, at the end; ``run.error`` is the exception if there was one.

They run in the order given, checkpoints last. One that has ``state_dict()`` and
``load_state_dict(d)`` is saved with the run and resumed with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from stepsize.callbacks.metrics import direction
from stepsize.validation import whole

if TYPE_CHECKING:
    from stepsize.training.run import Run

__all__: list[str] = []  # no callback for users in this file

HOOKS = (
    "on_start",
    "on_gradients",
    "on_step",
    "on_nonfinite",
    "on_validation",
    "on_epoch",
    "on_end",
)


class OnStart(Protocol):
    """Called before the first step."""

    def on_start(self, run: Run, /) -> Any: ...


class OnGradients(Protocol):
    """Called between the gradients and the step."""

    def on_gradients(self, run: Run, /) -> Any: ...


class OnStep(Protocol):
    """Called after each step."""

    def on_step(self, run: Run, /) -> Any: ...


class OnNonfinite(Protocol):
    """Called where a loss or gradient that is not finite would end the run."""

    def on_nonfinite(self, run: Run, /) -> Any: ...


class OnValidation(Protocol):
    """Called after each validation."""

    def on_validation(self, run: Run, /) -> Any: ...


class OnEpoch(Protocol):
    """Called after each epoch."""

    def on_epoch(self, run: Run, /) -> Any: ...


class OnEnd(Protocol):
    """Called at the end, whatever it is."""

    def on_end(self, run: Run, /) -> Any: ...


class Stateful(Protocol):
    """Saved and resumed with the run."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> Any: ...


Callback = OnStart | OnGradients | OnStep | OnNonfinite | OnValidation | OnEpoch | OnEnd | Stateful


class MonitorCallback:
    """Monitors one metric and calls ``on_value`` with each new value of it."""

    def __init__(self, monitor: str, mode: str = "auto"):
        owner = type(self).__name__
        self.monitor = monitor
        self.mode = direction(owner, monitor, mode)
        self.expects_descent = expects_descent(monitor, mode, self.mode)

    def on_validation(self, run: Run) -> None:
        """Take a validation metric, if it was measured this time."""
        if self.monitor in run.validated:
            self.on_value(run, self._value(run))

    def on_epoch(self, run: Run) -> None:
        """Take a training metric; one of the validation must exist once there was a validation."""
        if not self.monitor.startswith("val_"):
            self.on_value(run, self._value(run))
        elif self.monitor not in run.metrics and not run.awaits(self.monitor):
            self._value(run)

    def on_value(self, run: Run, value: float) -> None:
        """What to do with a new value."""
        raise NotImplementedError

    def _value(self, run: Run) -> float:
        return monitored(type(self).__name__, self.monitor, run)


def expects_descent(monitor: str, given: str, mode: str) -> bool:
    """Whether it was inferred, not given, that a loss gets better when it falls."""
    return given == "auto" and mode == "min" and monitor in ("loss", "val_loss")


def monitored(owner: str, monitor: str, run: Run) -> float:
    """The metric that a callback monitors.

    Raises:
        ValueError: it is not measured; what measures it is said, and the name that was meant.
    """
    if monitor in run.metrics:
        return run.metrics[monitor]
    there = f"{owner}: there is no {monitor!r:.80} to monitor; there are {', '.join(run.metrics)}"
    name = monitor.removeprefix("val_")
    validated = {k.removeprefix("val_").lower(): k for k in run.metrics if k.startswith("val_")}
    close = difflib.get_close_matches(name.lower(), validated, n=1, cutoff=0.75)
    if close:
        raise ValueError(f"{there}; did you mean {validated[close[0]]!r}?")
    if monitor == "val_loss" and not validated:
        raise ValueError(f"{there}; it is measured with validation=...")
    how = f"{name!r} is measured by evaluate=..., which returns it by its name"
    how += "" if monitor.startswith("val_") else f", and is then called 'val_{name}'"
    missing = "" if validated else "; both validation=... and evaluate=... are missing"
    raise ValueError(f"{there}; {how}{missing}")


def count_or_none(name: str, value: int | None) -> int | None:
    """A whole number of at least 1, or None."""
    return value if value is None else whole(name, value)

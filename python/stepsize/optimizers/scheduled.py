"""Hyperparameters that a schedule stands for: their present value, and their words."""

from __future__ import annotations

from typing import Any


class ScheduledNow(float):
    """The present value of a schedule, and what is worked out of it by a factor.

    Setting it as a hyperparameter, as ``opt.lr *= 0.5`` does, ends the schedule, which is said.
    """

    def __mul__(self, other: Any) -> Any:
        return self._kept(super().__mul__(other))

    def __rmul__(self, other: Any) -> Any:
        return self._kept(super().__rmul__(other))

    def __truediv__(self, other: Any) -> Any:
        return self._kept(super().__truediv__(other))

    @staticmethod
    def _kept(found: Any) -> Any:
        return ScheduledNow(found) if isinstance(found, float) else found


def shown(value: Any, now: Any) -> str:
    """A hyperparameter in words: a schedule with its present value."""
    if not callable(value):
        return repr(now)
    name = getattr(value, "__name__", None)  # of a function; a schedule is the call that made it
    words = repr(value) if name is None else f"<function {name}>"
    return f"{words if len(words) <= 80 else f'{words[:77]}...'} (now {now:.4g})"

"""Rates and what else a schedule stands for: present values, their words, and their shares."""

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


def shares_of(rates: Any) -> tuple[float, ...]:
    """The share of the largest rate that each group has; nothing where all have the same.

    Example:
        >>> shares_of((0.5, 1.0)), shares_of((0.5, 0.5)), shares_of(0.5)
        ((0.5, 1.0), (), ())
    """
    if not isinstance(rates, tuple) or len(set(rates)) < 2 or not max(rates) > 0:
        return ()
    return tuple(float(rate / max(rates)) for rate in rates)


def in_shares(rate: Any, shares: tuple[float, ...]) -> Any:
    """A rate, or a schedule of it, as each group gets it: the one of the largest share as it is."""
    return tuple(rate if share == 1 else rate * share for share in shares) or rate

"""State dicts: every value is checked before one is taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from stepsize.validation import number, real, whole

T = TypeVar("T")
Check = Callable[[str, Any], Any]  # of a label and a value: the value, or an error that says which

MOST = 2**62  # as for the steps of an optimizer: no counter gets there, or runs over soon after


def checked(
    owner: str, state: Any, checks: Mapping[str, Check], later: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The values of a state dict as their checks return them.

    `later` holds the keys that states of earlier versions lack, with what stands for them.

    Raises:
        ValueError: it is no dict, or a key is missing, unknown, or holds what it cannot.

    Example:
        >>> checked("StopOnDivergence", {"failures": -1}, {"failures": count})
        Traceback (most recent call last):
        ...
        ValueError: StopOnDivergence.load_state_dict: failures must be a whole number >= 0, got -1
    """
    where = f"{owner}.load_state_dict"
    if not isinstance(state, Mapping):
        raise ValueError(f"{where}: a state dict is a dict, got {type(state).__name__}")
    given = {**(later or {}), **state}
    holds = f"it holds {', '.join(checks)}" if checks else "it is empty"
    for key in checks:
        if key not in given:
            raise ValueError(f"{where}: {key} is missing; {holds}")
    for key in given:
        if key not in checks:
            raise ValueError(f"{where}: {key!r:.80} is no part of the state; {holds}")
    try:
        return {key: check(f"{where}: {key}", given[key]) for key, check in checks.items()}
    except TypeError as error:
        raise ValueError(str(error)) from None


def count(label: str, value: Any) -> int:
    """A whole number of steps, failures and the like."""
    return whole(label, value, 0, MOST)


def value(label: str, value: Any) -> float:
    """A metric: infinite before the first, never NaN."""
    found = real(label, value)
    if found != value:  # NaN, or too large an int
        raise ValueError(f"{label} must be a number, got {value!r:.80}")
    return found


def finite(label: str, value: Any) -> float:
    """A finite number."""
    return number(label, value)


def positive(label: str, value: Any) -> float:
    """A factor of a rate."""
    found = finite(label, value)
    if found <= 0:
        raise ValueError(f"{label} must be > 0, got {found!r}")
    return found


def mapping(label: str, value: Any) -> Mapping[str, Any]:
    """A dict, which its owner checks."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{label} must be a dict, got {value!r:.80}")
    return value


def leaves(label: str, value: Any) -> list[Any]:
    """Copies of parameters, one array a leaf."""
    alike = isinstance(value, list | tuple)
    if not alike or not all(isinstance(a, np.ndarray) and a.dtype.kind in "fcV" for a in value):
        raise ValueError(f"{label} must be a list of arrays of numbers, got {value!r:.80}")
    return list(value)


def optional(check: Callable[[str, Any], T]) -> Callable[[str, Any], T | None]:
    """The same check, or None."""
    return lambda label, value: None if value is None else check(label, value)


def each(check: Callable[[str, Any], T], most: int | None = None) -> Callable[[str, Any], list[T]]:
    """A list of at most so many of which each passes the check."""

    def listed(label: str, value: Any) -> list[T]:
        if not isinstance(value, list | tuple) or (most is not None and len(value) > most):
            of = "" if most is None else f" of at most {most} values"
            raise ValueError(f"{label} must be a list{of}, got {value!r:.80}")
        return [check(f"{label}[{i}]", item) for i, item in enumerate(value)]

    return listed

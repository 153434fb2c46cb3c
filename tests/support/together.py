"""Many small cases of one law as one test a kind, where a test costs the runner more than they."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import pytest


def class_of(case: Any) -> str:
    """The name of the rule of a case, or of the class itself."""
    return getattr(case, "cls", case).__name__


def together(
    name: str, values: Iterable[Any], kind: Callable[[Any], str] = class_of
) -> Callable[[Any], Any]:
    """Parametrize a test over kinds of values; it runs for each value of a kind, one by one.

    An error is noted with the value that it came with.
    """
    groups: dict[str, list[Any]] = {}
    for value in values:
        groups.setdefault(kind(value), []).append(value)

    def decorate(test: Callable[..., None]) -> Any:
        @wraps(test)
        def of_a_kind(**given: Any) -> None:
            for value in given.pop(name):
                try:
                    test(**given, **{name: value})
                except BaseException as error:
                    error.add_note(f"{name}: {value}")
                    raise

        cells = [pytest.param(group, id=kind) for kind, group in groups.items()]
        return pytest.mark.parametrize(name, cells)(of_a_kind)

    return decorate


def alike(value: Any) -> str:
    """One kind for all."""
    return "each"

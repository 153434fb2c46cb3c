"""Functions of the step for programs: files and pickles find them by name."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


def falling(step: int) -> float:
    """A rate."""
    return 0.05 / (1 + step)


class Fused:
    """A rate that fails when it is told how."""

    how: Callable[[], Any] | None = None

    def __call__(self, step: int) -> Any:
        return 0.03125 if Fused.how is None else Fused.how()

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(Fused, name, value)

    def __reduce__(self) -> str:
        return "fused"

    def __deepcopy__(self, memo: Any) -> Fused:
        return self


fused = Fused()


def interrupts() -> float:
    """Ctrl-C, which may wait until the rate has been used."""
    signal.raise_signal(signal.SIGINT)
    return 0.03125


def raises() -> None:
    raise OSError("a file is gone")


def answers_nan() -> float:
    return float("nan")


def answers_text() -> str:
    return "0.1"


FAILURES = {
    interrupts: KeyboardInterrupt,
    raises: OSError,
    answers_nan: ValueError,
    answers_text: TypeError,
}

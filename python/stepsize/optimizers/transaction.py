"""All or nothing under Ctrl-C: writes that no signal handler can come between."""

from __future__ import annotations

import operator
import signal
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import repeat
from types import FrameType
from typing import Any

import numpy as np

from stepsize.arrays import Array


def assign(targets: Iterable[Array], values: Iterable[Any], indices: Any = None) -> None:
    """Write every value into its array (at its index); Python runs no handler in between."""
    places = repeat(Ellipsis) if indices is None else indices
    put: Any = operator.setitem
    # One call in C: Python looks for signals between bytecodes only.
    deque(map(put, targets, places, values), maxlen=0)


def assignment(targets: Sequence[Array], values: Sequence[Array], indices: Any = None) -> Any:
    """A callable in C that writes every value, as it is then, into its array (at its index)."""
    columns = [np.empty(len(targets), object) for _ in range(3)]
    places = repeat(Ellipsis) if indices is None else indices
    for k, row in enumerate(zip(targets, places, values, strict=False)):
        for column, item in zip(columns, row, strict=True):
            column[k] = item
    return partial(np.frompyfunc(operator.setitem, 3, 1), *columns)


class Uninterrupted:
    """A ``with`` block in which Ctrl-C waits: its handler is called at the end of the block.

    Inside another block, outside of the main thread and where the handler was not set from Python
    it does nothing.
    """

    def __init__(self) -> None:
        self._previous: Any = None
        self._pending: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> Uninterrupted:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            waiting = isinstance(getattr(previous, "__self__", None), Uninterrupted)
            if callable(previous) and not waiting:
                self._previous = previous
                signal.signal(signal.SIGINT, self._wait)
        return self

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._pending = (number, frame)

    def __exit__(self, *error: object) -> None:
        if self._previous is not None:
            previous, self._previous = self._previous, None
            signal.signal(signal.SIGINT, previous)
            if self._pending is not None:
                previous(*self._pending)

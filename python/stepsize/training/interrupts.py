"""Ctrl-C and SIGTERM at a step boundary."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """While active, the first Ctrl-C only sets ``pending``; a second one raises at once.

    While `at_once` is true the first one raises as well. One inside of another, as that of a
    training in that of a search, sets ``pending`` of both. The previous handler is restored at the
    end. It is left in place where it ignores the signal or was not set from Python, and outside of
    the main thread, the only one that may set handlers.

    Args:
        terminate: treat SIGTERM alike where the program has no handler of its own; `deliver`, to be
            called at the very end, then ends the process as the signal would have, or tells the
            interrupt around this one.
    """

    def __init__(self, terminate: bool = False) -> None:
        self.pending = False
        self.terminated = False
        self.at_once = False
        self.twice = False
        self._terminate = terminate
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if previous is not None and previous is not signal.SIG_IGN:
                self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, self._handle)
            ends = signal.getsignal(signal.SIGTERM)
            if self._terminate and (ends is signal.SIG_DFL or _around(ends) is not None):
                self._previous[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def deliver(self) -> None:
        """Raise the SIGTERM that came meanwhile, if one did."""
        if self.terminated:
            signal.raise_signal(signal.SIGTERM)

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self.terminated = self.pending = True
            if self.at_once:
                self.at_once = False  # a second one does not cut short what ends the first
                raise KeyboardInterrupt
            return
        if self.pending:
            self._note(twice=True)
            self._restore()
            raise KeyboardInterrupt
        self._note()
        if self.at_once:
            raise KeyboardInterrupt

    def _note(self, twice: bool = False) -> None:
        self.pending, self.twice = True, self.twice or twice
        outer = _around(self._previous.get(signal.SIGINT))
        if outer is not None:
            outer._note(twice)


def _around(handler: Any) -> Interrupt | None:
    """The interrupt that a handler belongs to, if it is of one."""
    outer = getattr(handler, "__self__", None)
    return outer if isinstance(outer, Interrupt) else None

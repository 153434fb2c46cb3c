"""All or nothing: writes that no signal handler and no other run can come between."""

from __future__ import annotations

import importlib
import operator
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from types import FrameType
from typing import Any

from stepsize import _core
from stepsize.arrays import Array


def assign(targets: Iterable[Array], values: Iterable[Any], indices: Any = None) -> None:
    """Write every value into its array (at its index); Python runs no handler in between."""
    places = repeat(Ellipsis) if indices is None else indices
    put: Any = operator.setitem
    # One call in C: Python looks for signals between bytecodes only.
    deque(map(put, targets, places, values), maxlen=0)


def assignment(
    targets: Iterable[Array], values: Iterable[Array], rows: Iterable[Array] | None = None
) -> Callable[[], None]:
    """A call in C that writes every value, as it is then, into its array (at its rows).

    Arrays of one dtype and shape. It allocates nothing: memory may be short where it is called.
    """
    return _core.assignment(list(targets), list(values), None if rows is None else list(rows))


# By engine: the thread that works with it, in what, and whether it never steps it.
_using: dict[int, tuple[int, str, bool]] = {}
_looking = threading.Lock()


def _forget() -> None:
    """In the child of a fork, where other threads are gone."""
    global _looking
    _looking = threading.Lock()
    _using.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def alone(owner: str, optimizer: Any, *, idle: bool = True) -> Iterator[None]:
    """A block in which no other thread trains with an optimizer, or measures on copies of it.

    Each step is whole, but between two of them the parameters would be those of another run. Where
    the block itself makes no step of this optimizer, it is ``idle``, nobody does.

    Raises:
        RuntimeError: another thread is inside such a block, or a block that steps begins inside of
            a function that one evaluates.
    """
    engine = getattr(getattr(optimizer, "internals", None), "engine", None)
    if engine is None:
        yield
        return
    me = threading.get_ident()
    with _looking:
        around = _using.get(id(engine))
        if around is not None and around[0] != me:
            raise RuntimeError(
                f"{owner}: {around[1]} in another thread is at work with this optimizer, and would "
                "move the parameters between two looks at them; wait for it, or give an optimizer "
                "over parameters of its own, optimizer.clone(copies)"
            )
        _using[id(engine)] = (me, owner, idle)
    try:
        if not idle:
            _refuse_inside(owner, engine, around)
        engine.reserve(owner, idle)
        yield
    finally:
        if around is None:
            _using.pop(id(engine), None)
            engine.reserve("", False)
        else:
            _using[id(engine)] = around
            engine.reserve(*around[1:])


def _refuse_inside(owner: str, engine: Any, around: tuple[int, str, bool] | None) -> None:
    """Refuse a run inside of a function that another run, or a step, evaluates."""
    with engine:  # a step in another thread ends first
        inside = engine.evaluating() or (around is not None and around[2])
    if inside:
        run = "a step" if around is None else around[1]
        raise RuntimeError(
            f"{owner} cannot be called by a function that {run} of this optimizer evaluates: what "
            "it returns would be of other parameters; call it before or after, in a callback, or "
            "with optimizer.clone(copies)"
        )


# Signals from whose handlers people raise: Ctrl-C, time limits, the ends of jobs.
_NAMES = ("SIGINT", "SIGALRM", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name))
# What `signal` calls: it makes enums of the answers, which takes longer than a small step.
_signal: Any = importlib.import_module("_signal")


class Uninterrupted:
    """A ``with`` block in which Ctrl-C and time limits wait: their handlers are called at its end.

    Inside another block, outside of the main thread and for handlers that were not set from Python
    it does nothing. Where a function of the user runs inside, only Ctrl-C should wait, or no time
    limit would end it.
    """

    def __init__(self, signals: Sequence[int] = SIGNALS) -> None:
        self._signals = signals
        self._previous: list[tuple[int, Any]] = []
        self._pending: list[tuple[Any, int, FrameType | None]] = []

    def __enter__(self) -> Uninterrupted:
        if threading.current_thread() is threading.main_thread():
            try:
                for number in self._signals:
                    previous = _signal.getsignal(number)
                    waiting = isinstance(getattr(previous, "__self__", None), Uninterrupted)
                    if callable(previous) and not waiting:
                        self._previous.append((number, previous))
                        _signal.signal(number, self._wait)
            except BaseException:  # of the handler of a signal that does not wait yet
                self._restore()
                raise
        return self

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._pending.append((dict(self._previous)[number], number, frame))

    def _restore(self) -> None:
        """Set the handlers that were; a signal in between may call one of them."""
        while self._previous:
            number, previous = self._previous[-1]
            try:
                _signal.signal(number, previous)
            except BaseException:
                _signal.signal(number, previous)
                self._previous.pop()
                self._restore()
                raise
            self._previous.pop()

    def __exit__(self, *error: object) -> None:
        self._restore()
        self._tell()

    def _tell(self) -> None:
        """Call the handlers in the order of their signals, each also where one before it raises."""
        if self._pending:
            handler, number, frame = self._pending.pop(0)
            try:
                handler(number, frame)
            finally:
                self._tell()

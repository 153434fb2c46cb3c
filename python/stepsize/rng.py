"""States of random generators: collected, set, and isolated from what runs in between.

``collect_rng_states`` and ``set_rng_states`` are what a checkpoint needs of the global generators
of Python and NumPy. ``isolate_rng`` is what a trial run needs: it also finds the generators that a
function or an iterable holds, and leaves each as it was.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType, GeneratorType, MethodType
from typing import Any

import numpy as np

MT_WORDS = 624  # of a Mersenne twister
SEARCH_DEPTH = 3  # closures, attributes and globals are followed so many levels deep


def collect_rng_states() -> dict[str, Any]:
    """The states of the global generators of Python and NumPy."""
    version, words, gauss = random.getstate()
    python = {"version": version, "words": np.array(words, np.uint32), "gauss": gauss}
    return {"python": python, "numpy": np.random.get_state(legacy=False)}  # noqa: NPY002


def set_rng_states(states: Mapping[str, Any]) -> None:
    """Put the global generators back to where `collect_rng_states` found them."""
    python = states["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    np.random.set_state(states["numpy"])  # noqa: NPY002


def check_rng_states(states: Mapping[str, Any]) -> None:
    """Refuse states that no generator can be in: NumPy reads outside of its array with some."""
    python, legacy = states["python"], states["numpy"]
    words = python["words"]
    if not isinstance(words, np.ndarray) or words.shape != (MT_WORDS + 1,):
        raise ValueError(f"the state of Python's generator must have {MT_WORDS + 1} words")
    _check_position(int(words[-1]), MT_WORDS)
    check_bit_generator_state(legacy)


def check_bit_generator_state(state: Mapping[str, Any]) -> None:
    """Refuse a position outside of the words of a bit generator, which NumPy takes unchecked."""
    kind, inner = state["bit_generator"], state["state"]
    if kind == "MT19937":
        if np.shape(inner["key"]) != (MT_WORDS,):
            raise ValueError(f"the state of MT19937 must have {MT_WORDS} words")
        _check_position(inner["pos"], MT_WORDS)
    if "buffer_pos" in state:  # Philox
        _check_position(state["buffer_pos"], len(state["buffer"]))


def _check_position(position: Any, words: int) -> None:
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position <= words:
        raise ValueError(
            f"the position of a random generator must be from 0 to {words}, got {position!r}"
        )


@contextmanager
def isolate_rng(*owners: object) -> Iterator[None]:
    """Inside, generators may be drawn from; afterwards each is as it was before.

    These are the global generators of NumPy and Python, that of PyTorch on the CPU where it has
    been imported, and every generator that one of ``owners`` refers to through closures, defaults,
    attributes, globals or the frame of a generator function, at most `SEARCH_DEPTH` levels deep.
    """
    rewind = rewinder(*owners)
    try:
        yield
    finally:
        rewind()


def rewinder(*owners: object) -> Callable[[], None]:
    """A function that puts every generator that `isolate_rng` knows back to where it is now.

    It may be called again and again, so that each of several calls draws the same numbers.
    """
    numpy_state = np.random.get_state()  # noqa: NPY002
    python_state = random.getstate()
    found = {id(thing): thing for owner in owners for thing in _referenced(owner, SEARCH_DEPTH)}
    restore = [put_back for t in found.values() if (put_back := _restorer(t)) is not None]
    # Whoever draws from that of torch has imported it.
    of_torch = getattr(sys.modules.get("torch"), "default_generator", None)
    if of_torch is not None:
        restore.append(_of_torch(of_torch))

    def rewind() -> None:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        for put_back in restore:
            put_back()

    return rewind


def _referenced(thing: object, depth: int) -> Iterator[object]:
    """What a callable, a bound method or an object refers to, ``depth`` levels deep."""
    yield thing
    if depth == 0 or isinstance(thing, type):
        return
    inner: list[object] = []
    if isinstance(thing, MethodType):
        inner += [thing.__self__, thing.__func__]
    elif isinstance(thing, FunctionType):
        cells = thing.__closure__ or ()
        inner += [c.cell_contents for c in cells if c != type(c)()]
        inner += [thing.__globals__.get(name) for name in thing.__code__.co_names]
        inner += list(thing.__defaults__ or ()) + list((thing.__kwdefaults__ or {}).values())
    elif isinstance(thing, GeneratorType) and thing.gi_frame is not None:
        inner += list(thing.gi_frame.f_locals.values())
    elif hasattr(thing, "__dict__") and not hasattr(thing, "__path__"):
        inner += list(vars(thing).values())
    for one in inner:
        yield from _referenced(one, depth - 1)


def _of_torch(generator: Any) -> Callable[[], None]:
    state = generator.get_state()
    return lambda: generator.set_state(state)


def _restorer(thing: object) -> Callable[[], None] | None:
    """A function that puts a random generator back where it is now; None for anything else."""
    if isinstance(thing, np.random.Generator):
        bits, state = thing.bit_generator, thing.bit_generator.state
        return lambda: setattr(bits, "state", state)
    if isinstance(thing, np.random.RandomState):
        legacy = thing.get_state()
        return lambda: thing.set_state(legacy)
    if isinstance(thing, random.Random):
        memory = thing.getstate()
        return lambda: thing.setstate(memory)
    if type(thing).__module__.startswith("torch") and type(thing).__name__ == "Generator":
        return _of_torch(thing)
    return None

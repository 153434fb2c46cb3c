"""Every allocation of a step, a save and a load fails once, by itself and with all after it.

    python tests/sanitizers/run.py allocations [quick]

compiles allocations.cpp, which is preloaded, and runs this file. A call in which an allocation
fails ends in MemoryError with nothing changed and the file that was there, or goes to its end; then
the same call is made with all memory there. Allocations are those of C++ and NumPy, and, by
``_testcapi`` where Python has it, those of Python.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss
from cases import comparable, numpy_rule, random_grads, random_nest

try:
    from _testcapi import remove_mem_hooks, set_nomemory
except ImportError:
    set_nomemory = remove_mem_hooks = None

SHAPES = {"w": (40, 30), "b": (300,), "s": ()}  # NumPy keeps memory of less than 1,024 bytes
ALL = 1 << 40


def half(shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    return random_nest(shapes, np.float16)


def strided(shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    nest = random_nest(shapes, np.float64)
    nest["w"] = np.asfortranarray(nest["w"])
    return nest


def plain(shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    return random_nest(shapes, np.float64)


def stacked(shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    return random_nest({name: (3, *shape) for name, shape in shapes.items()}, np.float64)


def single(shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    return random_nest(shapes, np.float32)


def in_numpy(params: Any) -> Any:
    with numpy_rule(ss.Adam):
        return ss.Adam(params, lr=0.1)


def falling(step: int) -> float:
    return 0.1 / (1 + step)


Maker = Callable[[Any], Any]
KINDS: dict[str, tuple[Maker, Callable[[dict[str, Any]], Any]]] = {
    "AdamW": (ss.AdamW, single),
    "SGD, clipped": (lambda p: ss.SGD(p, lr=0.1, momentum=0.9, clip_norm=1.0), plain),
    "a schedule": (lambda p: ss.AdamW(p, lr=ss.schedules.cosine(0.1, 0.0, 9)), plain),
    "a function": (lambda p: ss.Adam(p, lr=falling), plain),
    "groups": (lambda p: ss.Adam(p, groups=[ss.group("b", lr=0.3)]), plain),
    "strided": (ss.AdamW, strided),
    "half precision": (ss.AdamW, half),
    "int8": (lambda p: ss.AdamW(p, state_dtype="int8"), single),
    "LAMB": (ss.LAMB, plain),
    "Prodigy": (ss.Prodigy, plain),
    "Adafactor": (ss.Adafactor, plain),
    "Adafactor, strided": (ss.Adafactor, strided),
    "SM3": (ss.SM3, plain),
    "Muon": (ss.Muon, plain),
    "Shampoo": (ss.Shampoo, plain),
    "SOAP": (ss.SOAP, plain),
    "NumPy": (in_numpy, plain),
    "NumPy, strided": (in_numpy, strided),
    "bounds": (lambda p: ss.SGD(p, lr=0.1, bounds=(-9.0, 9.0), l1=0.01), plain),
    "dynamic loss scale": (lambda p: ss.Adam(p, loss_scale="dynamic"), single),
    "schedule-free": (ss.ScheduleFreeAdamW, plain),
    "EMA": (lambda p: ss.EMA(ss.Adam(p, lr=0.1), 0.9), plain),
    "EMA, first steps": (lambda p: ss.EMA(ss.Lookahead(ss.SGD(p, lr=0.1), k=9), 0.5), plain),
    "Lookahead": (lambda p: ss.Lookahead(ss.Adam(p, lr=0.1), k=1), plain),
    "Mechanic": (lambda p: ss.Mechanic(ss.SGD(p, lr=1.0)), single),
    "Partition": (lambda p: ss.Partition({"w": ss.Muon, "*": ss.AdamW}, p), plain),
    "options": (lambda p: ss.AdamW(p, mars_gamma=0.1, update_clip=0.7), plain),
    "population": (lambda p: ss.population("adamw", p, clip_norm=1.0), stacked),
    "Accumulate": (lambda p: ss.Accumulate(ss.Adam(p, lr=0.1), every=2), plain),
    "GradientNoise": (lambda p: ss.GradientNoise(ss.Adam(p, lr=0.1)), plain),
}
WRAPPED = ("EMA", "EMA, first steps", "Lookahead", "Mechanic", "Accumulate", "GradientNoise")
QUICK = ("AdamW", "Adafactor, strided", "EMA")
# Where Python's own are tried: optree, which rows go through, does not survive it.
PYTHON = ("first", "step", "stats", "state_dict", "save", "load")
# NumPy's indexing by rows tells of no memory so, and has written nothing.
OF_NUMPY = "SystemError: error return without exception set"


class Work:
    """An optimizer at its second step, and what a call of one of the methods does to it."""

    def __init__(self, kind: str, folder: str) -> None:
        make, params = KINDS[kind]
        self.optimizer = make(params(SHAPES))
        self.path = os.path.join(folder, "state.safetensors")
        self.grads = [random_grads(self.optimizer.params, seed) for seed in range(3)]
        rows = np.ones((3, 30), self.grads[1]["w"].dtype)
        self.rows = {**self.grads[1], "w": ss.RowGradient([3, 1, 3], rows)}

    def warm(self) -> Work:
        self.optimizer.step(self.grads[0])
        return self

    def everything(self) -> Any:
        file = Path(self.path)
        leaves = [np.array(x) for x in ss.arrays.flatten(self.optimizer.params)[0]]
        kept = file.read_bytes() if file.exists() else b""
        others = sorted(set(os.listdir(file.parent)) - {file.name})
        return comparable([leaves, self.optimizer.state_dict()]), kept, others

    # The calls.

    def step(self) -> None:
        self.optimizer.step(self.grads[1])

    def stats(self) -> None:
        self.optimizer.step(self.grads[1], stats=True)

    def by_rows(self) -> None:
        self.optimizer.step(self.rows)

    def state_dict(self) -> None:
        self.optimizer.state_dict()

    def save(self) -> None:
        self.optimizer.save(self.path)

    def load(self) -> None:
        self.optimizer.load(self.path)


def prepared(kind: str, call: str, folder: str) -> tuple[Work, Callable[[], None]]:
    """Before the call: a first step for "first", a file of another state for a save and a load."""
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    work = Work(kind, folder)
    if call != "first":
        work.warm()
    if call in ("save", "load"):
        work.optimizer.save(work.path)
        work.optimizer.step(work.grads[2])
    return work, getattr(work, "step" if call == "first" else call)


class Native:
    """Allocations of C++ and NumPy, by the preloaded library."""

    def __init__(self) -> None:
        self.shim = ctypes.CDLL(None)
        self.shim.allocations_fail.argtypes = (ctypes.c_long, ctypes.c_long)
        self.shim.allocations_end.restype = ctypes.c_long
        self.shim.allocations_of.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
        for line in Path("/proc/self/maps").read_text().splitlines():
            words = line.split()
            if "x" in words[1] and any(name in line for name in ("_core.", "_multiarray_umath")):
                self.shim.allocations_of(*(int(end, 16) for end in words[0].split("-")))

    @contextlib.contextmanager
    def failing(self, first: int, count: int) -> Iterator[None]:
        self.shim.allocations_fail(first, count)
        try:
            yield
        finally:
            self.seen = self.shim.allocations_end()

    def reached(self, first: int) -> bool:
        return bool(self.seen >= first)


class OfPython:
    """Allocations of Python, of which nobody tells how many there were."""

    @contextlib.contextmanager
    def failing(self, first: int, count: int) -> Iterator[None]:
        set_nomemory(first, first + count)
        try:
            yield
        finally:
            remove_mem_hooks()


def outcome(call: Callable[[], None], source: Any, first: int, count: int) -> str:
    """How a call ends: "done", "MemoryError", or the error in words."""
    try:
        with source.failing(first, count):
            call()
    except MemoryError:
        return "MemoryError"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def swept(kind: str, call: str, source: Any, count: int, folder: str) -> tuple[int, list[str]]:
    """How many allocations failed in turn, and what went wrong."""
    work, act = prepared(kind, call, folder)
    before = work.everything()
    act()
    after = work.everything()
    wrong, first, calm = [], 0, 0
    while calm < 3:  # what is cached makes some calls longer than others
        first += 1
        work, act = prepared(kind, call, folder)
        told = outcome(act, source, first, count)
        missed = told == "done" if source.__class__ is OfPython else not source.reached(first)
        calm = calm + 1 if missed else 0
        now = work.everything()
        told = "MemoryError" if told == OF_NUMPY else told
        if told not in ("done", "MemoryError"):
            wrong.append(f"allocation {first}: {told}")
        elif now != (after if told == "done" else before):
            wrong.append(f"allocation {first}: {told}, but something has changed")
        elif told == "MemoryError":
            act()
            if work.everything() != after:
                wrong.append(f"allocation {first}: the next call does otherwise")
        if len(wrong) > 3 or first > 20_000:
            break
    return first - calm, wrong


CALLS = ("first", "step", "stats", "by_rows", "state_dict", "save", "load")


def cases(kinds: Iterable[str]) -> Iterator[tuple[str, str]]:
    for kind in kinds:
        for call in CALLS:
            rows = kind.startswith(("AdamW", "SGD", "strided", "NumPy"))
            made = kind == "a schedule" and call == "load"  # pybind11 makes an object
            if kind == "population" and call in ("stats", "load"):
                continue  # which go on from replica to replica
            if (call != "by_rows" or rows) and not made:
                yield kind, call


def tries_python(kind: str, call: str) -> bool:
    """Whether Python's own fail too; a file has thousands, which one kind stands for."""
    files = call in ("save", "load")
    by_numpy = kind.startswith("NumPy") or kind in WRAPPED  # whose functions do not survive it
    return call in PYTHON and not by_numpy and (not files or kind == "AdamW")


def in_a_child(work: Callable[[], tuple[int, list[str]]]) -> tuple[int, list[str]]:
    """What the work answers, in a child, which a crash ends alone."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            json.dump(work(), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    if status:
        return 0, [f"the process ended with {os.waitstatus_to_exitcode(status)}"]
    number, wrong = json.loads(text)
    return number, wrong


def main(how: str = "") -> int:
    warnings.simplefilter("ignore")
    native, failed, calls, wrong = Native(), 0, 0, []
    sources: list[tuple[str, Any, int]] = [("one", native, 1), ("all", native, ALL)]
    if set_nomemory is not None and how != "quick":
        sources.append(("one of Python", OfPython(), 1))
    with tempfile.TemporaryDirectory() as folder:
        for kind, call in cases(QUICK if how == "quick" else KINDS):
            for name, source, count in sources:
                if source is not native and not tries_python(kind, call):
                    continue
                number, found = in_a_child(lambda: swept(kind, call, source, count, folder))  # noqa: B023
                failed, calls = failed + number, calls + 1
                wrong += [f"{name}: {kind}, {call}: {line}" for line in found]
    print("\n".join(wrong[:200]))
    print(f"{failed} allocations of {calls} calls failed, {len(wrong)} went wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Judges mutants: a server that has imported and collected everything, and a fork for each.

    python judge.py WORK     where WORK/trials.json says what is to be tried

The tests run once with no mutant, and each tells which mutants it passes by. A mutant is then
tried by those tests alone, the fastest first, one of each function before the second of any, until
one fails. What is read at the import is tried in a fork of a process that has not imported yet.

A parameter of a test that has not run yet is taken to pass by what others of its test pass by; if
it fails, it must pass without the mutant.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy
import optree  # noqa: F401
import pytest
import tqdm  # noqa: F401
from hypothesis import settings

from thinned import function_of, thinned

# Imported before the fork: what takes long and is not on trial.
for library in ("ml_dtypes", "safetensors.numpy", "matplotlib.pyplot", "optuna"):
    try:
        __import__(library)
    except ImportError:
        continue

OPTIONS = [
    "-q",
    "-p",
    "no:cacheprovider",
    "--tb=no",
    "--no-header",
    "-o",
    "timeout=600",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
]
IDLE = 20.0  # seconds without any work of a trial, by which it hangs

settings.register_profile("mutants", derandomize=True, database=None, deadline=None)
settings.load_profile("mutants")


class InPython:
    """The question is asked of a module, and of each process by its environment."""

    def __init__(self) -> None:
        import stepsize_mutant

        self.asked = stepsize_mutant

    def hits(self) -> set[int]:
        found = set(numpy.flatnonzero(numpy.frombuffer(self.asked.HITS, numpy.uint8)).tolist())
        self.asked.HITS[:] = bytes(len(self.asked.HITS))
        return found

    def choose(self, number: int) -> None:
        self.asked.current = number
        os.environ["STEPSIZE_MUTANT"] = str(number)


class InCpp:
    """Two variables of the compiled module."""

    def __init__(self, path: str, count: int) -> None:
        library = ctypes.CDLL(path)
        self.flags = (ctypes.c_ubyte * count).in_dll(library, "stepsize_mutants_met")
        self.current = ctypes.c_int.in_dll(library, "stepsize_mutant")

    def hits(self) -> set[int]:
        found = set(numpy.flatnonzero(numpy.frombuffer(self.flags, numpy.uint8)).tolist())
        ctypes.memset(self.flags, 0, len(self.flags))
        return found

    def choose(self, number: int) -> None:
        self.current.value = number
        os.environ["STEPSIZE_MUTANT"] = str(number)


def time_of_group(leader: int) -> float:
    """The time of the processor that a group of processes has used, as far as it is known."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parts = path.read_text().rpartition(")")[2].split()
            if int(parts[2]) == leader:
                ticks += sum(map(int, parts[11:15]))
    return float(ticks)


def in_fork(act: Callable[[Callable[[object], None]], object], seconds: float) -> object:
    """What `act` returns or sent last, in a fork of this process; "crash" or "hang" otherwise.

    It may use so much time of the processor, and 40 times as long where others use it, too; what
    uses none for a while waits for what never comes.
    """
    folder = tempfile.mkdtemp(
        prefix="mutant-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    )
    answer = Path(folder) / "answer"
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = folder
        seconds_of_processor = int(seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds_of_processor, seconds_of_processor))
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)

        def send(value: object) -> None:
            answer.with_suffix(".new").write_bytes(pickle.dumps(value))
            answer.with_suffix(".new").rename(answer)

        code = 1
        try:
            send(act(send))
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + 40 * seconds
    status, used, looked = None, -1.0, time.monotonic()
    while status is None and time.monotonic() < end:
        done, found = os.waitpid(child, os.WNOHANG)
        if done:
            status = found
        elif time.monotonic() > looked + IDLE:
            before, used, looked = used, time_of_group(child), time.monotonic()
            end = end if used > before else looked
        else:
            time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # and what it has started
    if status is None:
        os.waitpid(child, 0)
    try:
        value = pickle.loads(answer.read_bytes()) if answer.exists() else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if status == 0:
        return value
    late = status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
    return ("hang" if late else "crash", value)


class Failures:
    """Of the test that is running."""

    def __init__(self) -> None:
        self.failed = self.passed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed
        self.passed |= report.passed and report.when == "call"


def in_turn(names: list[str], seconds: dict[str, float], most: int, limit: float) -> list[str]:
    """The fastest first, one of each function before the second of any."""
    turns: dict[str, int] = defaultdict(int)
    order = []
    for name in sorted(names, key=lambda name: seconds[name]):
        order.append((turns[function_of(name)], seconds[name], name))
        turns[function_of(name)] += 1
    chosen, spent = [], 0.0
    for _, taken, name in sorted(order):
        spent += taken
        if len(chosen) >= most or (chosen and spent > limit):
            break
        chosen.append(name)
    return chosen


def alike(names: Iterable[str], record: dict[str, tuple]) -> dict[str, tuple]:
    """What to expect of the parameters that have not run, by those of the same test that have."""
    groups: dict[str, list[tuple]] = defaultdict(list)
    for name, entry in record.items():
        if entry[2]:
            groups[function_of(name)].append(entry)
    expected = {
        name: (sum(entry[0] for entry in group) / len(group),
               set().union(*(entry[1] for entry in group)), True, "expected")
        for name, group in groups.items()
    }  # fmt: skip
    return {name: expected[function_of(name)] for name in names
            if name not in record and function_of(name) in expected}  # fmt: skip


class Server:
    """A plugin in place of pytest's loop."""

    def __init__(self, trials: dict, question: InPython | InCpp | None, say: Callable) -> None:
        self.trials, self.question, self.say = trials, question, say
        self.failures = Failures()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise SystemExit("tests could not be collected")
        self.question = self.question or InCpp(self.trials["library"], self.trials["numbers"])
        items = thinned(session.items, self.trials["each"])
        self.items = {item.nodeid: item for item in items}
        session.config.pluginmanager.register(self.failures)
        at_import = self.question.hits()
        kept = Path(self.trials["record"])
        record = pickle.loads(kept.read_bytes()) if kept.exists() else {}
        known = {function_of(name) for name in record}
        fresh = [item for name, item in self.items.items() if function_of(name) not in known]
        left = [item.nodeid for item in thinned(fresh, self.trials["recorded"])]
        while left:
            record |= self.record(left)
            if left[0] not in record:
                break
            left = [name for name in left if name not in record]
        kept.write_bytes(pickle.dumps(record))
        record |= alike(self.items, record)
        self.doubted = {name for name, entry in record.items() if entry[3:]}
        self.passing = {name: entry for name, entry in record.items()
                        if entry[2] and name in self.items}  # fmt: skip
        self.seconds = {name: entry[0] for name, entry in self.passing.items()}
        lost = [name for name in self.items if name not in self.passing]
        spent = sum(entry[0] for entry in record.values())
        self.say(f"{len(self.items)} tests, {spent:.0f} s; left out, for they fail or are skipped "
                 f"in a fork: {len(lost)}")  # fmt: skip
        self.say(json.dumps({"left out": lost}))
        self.tests_of: dict[int, list[str]] = defaultdict(list)
        for name, (_, hits, *_) in self.passing.items():
            for number in hits:
                self.tests_of[number].append(name)
        end = time.monotonic() + self.trials["minutes"] * 60
        for number in self.trials["mutants"]:
            if time.monotonic() > end:
                break
            self.say(json.dumps(self.trial(number, number in at_import)))
        return True

    def run(self, name: str, following: str | None = None) -> bool:
        """Whether it failed."""
        item = self.items[name]
        self.failures.failed = self.failures.passed = False
        item.config.hook.pytest_runtest_protocol(
            item=item, nextitem=self.items[following] if following else None
        )
        return self.failures.failed

    def record(self, names: list[str]) -> dict[str, tuple[float, set[int], bool]]:
        found: dict[str, tuple[float, set[int], bool]] = {}

        def act(send: Callable[[object], None]) -> object:
            self.own_folder()
            self.question.hits()
            last = time.monotonic()
            for name, following in zip(names, [*names[1:], None], strict=True):
                start = time.process_time() + sum(os.times()[2:4])
                found[name] = (0.0, set(), False)
                if time.monotonic() - last > 20:
                    send(found)
                    last = time.monotonic()
                failed = self.run(name, following)
                taken = time.process_time() + sum(os.times()[2:4]) - start
                found[name] = (taken, self.question.hits(), self.failures.passed and not failed)
            return found

        answer = in_fork(act, 7200)
        if isinstance(answer, tuple):
            self.say(f"the record ended in a {answer[0]}")
            answer = answer[1] or {}
        return answer  # type: ignore[return-value]

    def own_folder(self) -> None:
        factory = next(iter(self.items.values())).config._tmp_path_factory
        factory._given_basetemp = Path(tempfile.gettempdir()) / "tests"
        factory._basetemp = None

    def trial(self, number: int, at_import: bool) -> dict:
        names = in_turn(self.tests_of[number], self.seconds, *self.trials["most"])

        def act(send: Callable[[object], None]) -> object:
            self.own_folder()
            self.question.choose(number)
            for name in names:
                send((name, False))
                if self.run(name):
                    return (name, True)
            return ("", False)

        start = time.monotonic()
        result = {"number": number, "tests": len(self.tests_of[number]), "tried": len(names)}
        limit = 5 + 3 * sum(self.seconds[name] for name in names)
        result |= told(in_fork(act, limit) if names else ("", False))
        while result["verdict"] == "killed" and self.fails_anyway(result["by"]):
            names.remove(result["by"])
            result |= told(in_fork(act, limit) if names else ("", False))
        if (
            str(number) in self.trials["at_import"]
            and at_import
            and result["verdict"] == "survived"
        ):
            result |= self.trial_at_import(number)
        if result["verdict"] == "survived" and not result["tried"]:
            result["verdict"] = "not reached"
        return result | {"at import": at_import, "seconds": round(time.monotonic() - start, 2)}

    def fails_anyway(self, name: str) -> bool:
        """Whether a test that was not recorded fails without a mutant, too."""
        if name not in self.doubted:
            return False
        self.doubted.discard(name)

        def act(send: Callable[[object], None]) -> object:
            self.own_folder()
            failed = self.run(name)
            return failed or not self.failures.passed

        if fails := bool(in_fork(act, 60)):
            del self.passing[name]
            for names in self.tests_of.values():
                names[:] = [other for other in names if other != name]
        return fails

    def trial_at_import(self, number: int) -> dict:
        """By tests that enter functions in which its name stands, or that name its class."""
        relation = self.trials["at_import"][str(number)]
        names = {name for slot in relation["functions"] for name in self.tests_of[slot]}
        if relation["word"]:
            names |= {name for name in self.passing if f"[{relation['word']}" in name}
        names = names or set(self.passing)  # of a helper of class bodies, which no test enters
        chosen = in_turn(sorted(names), self.seconds, *self.trials["most"])
        if not chosen:
            return {}
        answer = zygote(number, chosen, 20 + 3 * sum(self.seconds[name] for name in chosen))
        return {"tests": len(names), "tried": len(chosen)} | told(answer)


def told(answer: object) -> dict:
    if isinstance(answer, tuple) and answer[0] in ("crash", "hang"):
        last = answer[1][0] if answer[1] else ""
        return {"verdict": "killed", "by": last, "how": answer[0]}
    assert isinstance(answer, tuple)
    return {"verdict": "killed" if answer[1] else "survived", "by": answer[0], "how": "failure"}


class FirstFailure(Failures):
    def __init__(self, send: Callable[[object], None]) -> None:
        super().__init__()
        self.send = send
        self.name = ""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.send((nodeid, False))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        super().pytest_runtest_logreport(report)
        if report.failed and not self.name:
            self.name = report.nodeid


def fresh(number: int, names: list[str], seconds: float) -> object:
    """Tests of a process that imports the mutant, here: nothing of stepsize is imported yet."""

    def act(send: Callable[[object], None]) -> object:
        os.environ["STEPSIZE_MUTANT"] = str(number)
        first = FirstFailure(send)
        folder = Path(tempfile.gettempdir()) / "tests"
        code = pytest.main([*OPTIONS, "-x", f"--basetemp={folder}", *names], plugins=[first])
        return (first.name or f"exit {code}", code != 0)

    return in_fork(act, seconds)


def start_zygote() -> Callable[[int, list[str], float], object]:
    """The process that has not imported it, which forks on demand."""
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    if os.fork() == 0:
        os.close(to_write)
        with os.fdopen(to_read, "rb") as orders, os.fdopen(back_write, "wb") as answers:
            while True:
                try:
                    order = pickle.load(orders)
                except EOFError:
                    os._exit(0)
                pickle.dump(fresh(*order), answers)
                answers.flush()
    os.close(to_read)
    os.close(back_write)
    orders, answers = os.fdopen(to_write, "wb"), os.fdopen(back_read, "rb")

    def ask(number: int, names: list[str], seconds: float) -> object:
        pickle.dump((number, names, seconds), orders)
        orders.flush()
        return pickle.load(answers)

    return ask


if __name__ == "__main__":
    work = Path(sys.argv[1])
    trials = json.loads((work / "trials.json").read_text())
    zygote = start_zygote()
    with open(work / "answers.jsonl", "a", buffering=1) as out:
        question = InPython() if trials["language"] == "python" else None
        server = Server(trials, question, lambda line: print(line, file=out))
        tests = trials["tests"]
        ignored = [f"--ignore={name}" for name in trials["left_out"]]
        raise SystemExit(pytest.main([*OPTIONS, *ignored, *tests], plugins=[server]))

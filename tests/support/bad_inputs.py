"""Every entry point with each argument wrong in turn: what is said, and whether it helps."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import doors
import more_doors
from bad_values import VALUES
from stepsize.optimizers import Optimizer
from stepsize.optimizers.wrappers.base import Wrapper

PARTS = (
    *(doors.rules, doors.functions, doors.schedules),
    *(more_doors.searches, more_doors.nests, more_doors.callbacks_and_files),
    *(more_doors.adapters, more_doors.commands),
)
TEXTS = ("text", "empty text", "nan", "-1", "0", "2.5", "10**400")  # what a shell can give
REFUSALS = (ValueError, TypeError, KeyError, OSError, ArithmeticError)
# What Python and NumPy say where nobody has looked at the value.
RAW = re.compile(
    "object is not|unsupported operand|truth value of an|NoneType' object|inhomogeneous|"
    "could not convert|must be real number, not|positional argument|cannot be interpreted|"
    "too large to convert|too big to convert|expected str, bytes|out of bounds|not supported "
    "between|unhashable|has no len|setting an array element|index-sized|has no attribute"
)
# What stands for a value that is an array or a nest, or goes with an argument that is not given.
INSTEAD = (
    "leaves",
    "it has",
    "number of",
    "at least",
    "differ",
    "comes second",
    "returns",
    "shape",
    "dtype",
    "missing",
    "given",
    "lengths",
    "length",
    " 0 ",
    "rows",
    "give",
    "array",
)
LATER = {("fit", "validation"), ("fit", "count")}  # are asked after the first steps
# Other words for an argument: of the object that it is kept in, or of its leaves.
ALSO: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("params", "x0", "micro_grads"),
        ("parameter", "leaves", "0/0", "a has", "0 ", "grads is", "params"),
    ),
    "projections": ("Project",),
    "fn": ("objective",),
    "settings": ("argument",),
    "other": ("then", "schedule"),
    "schedule": ("Schedule",),
    "config": ("schedule",),
    "name": ("scheduler",),
    "pattern": ("group",),
    "patterns": ("pattern",),
    "monitor": ("",),
    "lr": ("value",),
    "amsgrad": ("max_exp_avg_sq",),
    "storage": ("search",),
    "path": ("bogus",),
    "checkpoint": ("Checkpoint",),
    "centered": ("grad_avg",),
    "array": ("an array",),
    "expressions": ("schedule", "expression", "EXPRESSION"),
    "problem": ("FILE.py", "File name"),
    "maxiter": ("max_iter",),
    "tol": ("gtol",),
    "learning_rate_init": ("lr",),
    "solver_options": ("argument",),
    "--plot": ("File name",),
    "nesterov": ("momentum",),
}


@dataclass(frozen=True)
class Answer:
    """What came of one wrong value."""

    door: doors.Door
    argument: str
    kind: str
    error: BaseException | None = None
    own: bool = False  # whether a function that the caller gave has failed
    changed: bool = False  # whether anything else than the argument is not as it was

    def words(self) -> str:
        """What is said, the value and what differs between runs left out."""
        if self.error is None:
            return "accepted"
        if self.own:
            return f"{type(self.error).__name__} of the function"
        words = f"{type(self.error).__name__}: {self.error}"
        value = VALUES[self.kind][0]()
        for shown in (repr(value), repr(value)[:200], repr(value)[:80], str(value)):
            if len(shown) > 3:
                words = words.replace(shown, "VALUE")
            elif shown:
                words = re.sub(rf"(?<=got ){re.escape(shown)}(?![\w.])", "VALUE", words)
        words = re.sub(rf"\b(got|is a) {type(value).__name__}\b", r"\1 KIND", words)
        words = re.sub(rf"\({type(value).__name__}\)", "(KIND)", words)
        words = words.replace(str(doors.FOLDER), "FOLDER")
        words = re.sub(r"0x[0-9a-f]{6,}", "0x", re.sub(r"10{30,}", "VALUE", words))
        return re.sub(r"<(function|class) [^>]*>", "VALUE", words)

    def faults(self) -> list[str]:
        """Why a stranger could not mend the call by what is said."""
        if self.error is None or self.own:
            return []
        said = str(self.error)
        name = self.door.name.split(".")[-1] if self.argument == "value" else self.argument
        names = (name.lstrip("-"), *ALSO.get(name, ()))
        shown = (*VALUES[self.kind][1], type(VALUES[self.kind][0]()).__name__, *INSTEAD)
        found = {
            "the class of the error": not isinstance(self.error, REFUSALS),
            "an error of Python or NumPy itself": bool(RAW.search(said)),
            "it does not name the argument": not any(word in said for word in names),
            "it does not show the value": not any(word in said for word in shown),
            "something has changed": self.changed and (str(self.door), name) not in LATER,
        }
        return [fault for fault, holds in found.items() if holds]


def bits(value: Any) -> Any:
    """What a refusal has to leave as it was."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    if isinstance(value, Optimizer | Wrapper):
        return bits([value.params, value.state_dict()])
    return value if isinstance(value, int | float | str) else type(value)


def ask(door: doors.Door, argument: str, kind: str) -> Answer:
    given = door.good()
    given.pop(argument, None)
    before = bits(given)
    try:
        door.call(**given, **{argument: VALUES[kind][0]()})
    except doors.Enough:
        return Answer(door, argument, kind)
    except Exception as error:
        last = Path(traceback.extract_tb(error.__traceback__)[-1].filename).stem
        own = last in ("doors", "bad_values") or (
            last == "more_doors" and not isinstance(error, more_doors.Refused)
        )
        return Answer(door, argument, kind, error, own, bits(given) != before)
    return Answer(door, argument, kind)


def answers() -> Iterator[Answer]:
    """All of them, in an empty folder."""
    here = Path.cwd()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("ignore")
        os.environ["COLUMNS"] = "80"
        os.chdir(folder)
        try:
            for part in PARTS:
                for door in part():
                    for argument in door.arguments:
                        for kind in TEXTS if door.text else VALUES:
                            yield ask(door, argument, kind)
                            for left in Path(folder).iterdir():
                                left.unlink()
        finally:
            os.chdir(here)


def snapshot(found: list[Answer]) -> str:
    """What is said at each argument, and at which values; what many doors say alike, once."""
    said: dict[tuple[str, str], dict[str, dict[str, list[str]]]] = defaultdict(dict)
    for answer in found:
        family, _, name = str(answer.door).partition(" ")
        words = answer.words().replace(name, "X") if name else answer.words()
        place = said[(family, answer.argument)].setdefault(name, {})
        place.setdefault(words, []).append(answer.kind)
    lines = []
    for (family, argument), by_name in sorted(said.items()):
        blocks: dict[str, list[str]] = defaultdict(list)
        for name, by_words in by_name.items():
            most = max(by_words, key=lambda words: len(by_words[words]))
            rows = [
                f"    {words}: {'all else' if words == most else ', '.join(kinds)}"
                for words, kinds in sorted(by_words.items())
            ]
            blocks["\n".join(rows)].append(name)
        for block, names in sorted(blocks.items(), key=lambda item: (-len(item[1]), item[1])):
            several = len(blocks) > 1 or len(names) < 2
            lines.append(
                f"{family} {' '.join(sorted(names)) if several else '*'}: {argument}".strip()
            )
            lines.append(block)
    return "\n".join(lines) + "\n"

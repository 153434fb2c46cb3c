"""From words of the command line to a problem, an optimizer class or a learning rate."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from stepsize.arrays import data_set
from stepsize.cli.errors import CommandError, FileError, RunError, usage
from stepsize.cli.reading import ENDINGS, KINDS, is_stream
from stepsize.cli.tables import Prepared, load_table
from stepsize.names import did_you_mean
from stepsize.optimizers.registration import find_rule
from stepsize.problems import Problem
from stepsize.schedules import Schedule, expression
from stepsize.training.history import History

__all__ = ["load_noted", "load_problem", "optimizer_class", "parse_lr"]

BATCH_SIZE = 32  # rows of a batch, about


def load_problem(place: str, /, **table: Any) -> tuple[Problem, Prepared | None]:
    """The problem of a table, or of the factory `FILE.py:factory` or `module:factory`.

    For a table also how it was prepared.
    """
    if place.lower().endswith(ENDINGS) or is_stream(Path(place)):
        prepared = load_table(Path(place), **table)
        return prepared.problem, prepared
    for name in ("target", "drop", "decimal", "task", "encoding"):
        if table.get(name) not in (None, [], "auto"):
            raise CommandError(f"--{name} goes with a table: {KINDS}")
    return _made_by(place), None


def load_noted(args: argparse.Namespace, sized: bool = True) -> tuple[Problem, Prepared | None]:
    """The problem that the arguments of a command name; what was done to a table goes to stderr.

    Where `sized` and no size of the batches is given it is chosen, and set in the arguments.
    """
    names = ("target", "drop", "hidden", "seed", "task", "decimal", "encoding")
    problem, prepared = load_problem(args.problem, **{name: getattr(args, name) for name in names})
    for note in prepared.notes if prepared else ():
        print(note, file=sys.stderr)
    if sized and args.batch_size is None:
        args.batch_size = _batch_size(problem.train)
    return problem, prepared


def _batch_size(train: Any) -> int:
    """About 32: the size next to it whose last batch of an epoch is at least half full.

    A step on one row that is left over has the rate of a step on 32 and many times their noise.
    """
    data = data_set("train", train)
    rows = len(data[0]) if data else 0
    sizes = sorted(range(1, 2 * BATCH_SIZE), key=lambda size: abs(size - BATCH_SIZE))
    full = (size for size in sizes if 2 * (rows % size or size) >= size)
    return BATCH_SIZE if rows <= BATCH_SIZE else next(full)


def _made_by(target: str) -> Problem:
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise CommandError(
            f"expected FILE.py:factory, module:factory or a table ({KINDS}, or - for "
            f"text from standard input), got {target!r:.200}; "
            "the factory is a function that returns an ss.Problem"
        )
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        hint = did_you_mean(name, _functions(module))
        raise CommandError(f"{place} has no function {name!r}; {hint}")
    try:
        problem = factory()
    except Exception as error:
        raise RunError(f"{target} raised {type(error).__name__}: {error}") from error
    if not isinstance(problem, Problem):
        raise RunError(f"{target} returned {problem!r:.60}, expected an ss.Problem")
    return problem


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileError(f"{path} is a folder" if path.is_dir() else f"no such file: {path}")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from None
    if not text.strip():
        raise FileError(f"{path} is empty; it needs a function that returns an ss.Problem")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    loader = spec.loader
    # A script imports its neighbours, as it would when run.
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[path.stem] = module

    def load() -> ModuleType:
        loader.exec_module(module)
        return module

    return _run(load, str(path))


def _load_module(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")
    return _run(lambda: importlib.import_module(name), name)


def _run(load: Callable[[], ModuleType], place: str) -> ModuleType:
    try:
        return load()
    except Exception as error:
        # A module that is not there was named on the command line; what it imports was not.
        named = isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(f"{error.name}.")
        raise (CommandError if named else RunError)(
            f"{place} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _functions(module: ModuleType) -> list[str]:
    own = [k for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    return [name for name in own if callable(getattr(module, name)) and not name.startswith("_")]


def optimizer_class(name: str, option: str = "--optimizer") -> Any:
    """The optimizer class of that name, whatever its capitals and underscores."""
    with usage():
        return find_rule(name, option, "optimizer")


def parse_lr(text: str) -> Any:
    """A rate from the command line: a number, or a schedule's expression."""
    try:
        rate = float(text)
    except ValueError:
        with usage("--lr"):
            return expression.parse(text)
    if not 0 <= rate < math.inf:
        raise CommandError(f"--lr must be a finite number >= 0, or a schedule, got {text}")
    return rate


def started_rate(path: Any) -> Any:
    """The rate that the run in a checkpoint was started with."""
    try:
        lr = History.load(path).meta["groups"][0]["hyperparams"]["lr"]
    except (IndexError, KeyError, TypeError):
        raise CommandError(
            f"{path}: it does not say at which rate its run was started; give --lr"
        ) from None
    return Schedule.from_dict(lr["schedule"]) if isinstance(lr, dict) else float(lr)

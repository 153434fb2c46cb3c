"""Mistakes in what was asked for on the command line, and failures of what was run.

The exit code is 2 where other words, another file or another table are needed, 1 where the words
are right and the run fails: a program of the user's raises, no rate is found, a library is missing.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CommandError", "FileError", "RunError", "in_words", "raised_at", "usage"]


class CommandError(Exception):
    """A mistake in what was asked for; shown as one line."""

    exit_code = 2


class FileError(CommandError):
    """A file that is missing, empty, damaged, a folder, or that may not be read or written."""


class RunError(CommandError):
    """What was asked for was right, and failed."""

    exit_code = 1


@contextlib.contextmanager
def usage(option: str = "") -> Iterator[None]:
    """What is refused in here was given on the command line; `option` begins the message."""
    try:
        yield
    except (TypeError, ValueError) as error:
        told = f"{option}: {error}" if option else str(error)
        raise CommandError(told) from error


def raised_at(error: BaseException, problem: str) -> str:
    """Where in the user's program an error comes from, as file and line; empty if from elsewhere.

    `problem` is ``FILE.py:FUNCTION`` or ``module:FUNCTION``, as it was given.
    """
    place = problem.rpartition(":")[0]
    module = sys.modules.get(Path(place).stem if place.endswith(".py") else place)
    file = getattr(module, "__file__", None) if place else None
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    told = isinstance(error, CommandError) or not lines or file is None
    return "" if told else f"{Path(str(file)).name}, line {lines[-1]}"


def in_words(error: BaseException, place: str = "") -> str:
    """An error in one line: a file with what is wrong with it, a program's error with its place."""
    kind = type(error).__name__
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        missing = isinstance(error, FileNotFoundError)
        words = (
            f"no such file: {error.filename}" if missing else f"{error.filename}: {error.strerror}"
        )
    else:
        words = " ".join(str(error).split()) or kind
    return f"{place}: {kind}: {words}; --traceback shows more" if place else words

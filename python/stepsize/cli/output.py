"""What commands print and write: tables, JSON, pictures; and that they can, before the work."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepsize.cli.errors import CommandError, FileError
from stepsize.cli.streams import write_out
from stepsize.plots.style import new_axes
from stepsize.serialization.replaceable import check_replaceable

__all__ = ["check_paths", "columns", "draw", "plain", "print_json"]

_FILES = ("plot", "csv", "report", "log", "save", "checkpoint", "storage", "out")
# Of these the ones that are replaced, and what may stand there; the others look for themselves.
_KINDS = {
    "plot": "picture",
    "csv": "CSV of stepsize",
    "report": "report of stepsize",
    "log": "log of stepsize",
    "save": "checkpoint of stepsize",
    "checkpoint": "checkpoint of stepsize",
}


def plain(value: Any) -> Any:
    """Values as JSON knows them: arrays become lists, what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    write_out(json.dumps(plain(value), indent=2) + "\n")


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Rows of words in columns: the first to the left, the others to the right."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def draw(path: Path | None, picture: Any) -> None:
    """Write the picture that a function of `plots` makes, where one was asked for."""
    if path is not None:
        from stepsize import plots
        from stepsize.plots.style import offscreen

        with offscreen():
            try:
                told = f"picture: {plots.save(picture(plots), path)}"
            except ValueError as error:
                if not str(error).startswith("nothing to draw"):
                    raise
                told = f"no picture, {error}"
            print(told, file=sys.stderr)


def check_paths(args: argparse.Namespace) -> None:
    """Refuse, before any work, files that could not be written after it; make their folders."""
    given = {name: getattr(args, name, None) for name in _FILES}
    for name, path in given.items():
        if path is None:
            continue
        if name == "out" and args.command == "demo":
            taken = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), None)
            if taken is not None:
                raise FileError(f"--out: {taken} is a file; give the name of a folder")
            continue
        if path.is_dir():
            raise FileError(f"--{name} {path} is a folder; give the name of a file in it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"--{name} {path}: {error.strerror}: {error.filename}") from None
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise FileError(f"--{name} {path}: no permission to write there")
        if path.exists() and not path.is_file():  # /dev/stdout: nothing in it is lost
            continue
        if name in _KINDS and (args.command, name) != ("what-if", "checkpoint"):
            try:
                check_replaceable(f"--{name}", path, _KINDS[name])
            except (OSError, ValueError) as error:
                text = getattr(error, "strerror", None)
                raise FileError(f"{text}: {path}" if text else str(error)) from None
    if given["plot"] or given["report"]:
        axes = new_axes()  # without matplotlib it says what to install
        kinds = axes.figure.canvas.get_supported_filetypes()
        if given["plot"] and given["plot"].suffix.lower().lstrip(".") not in kinds:
            raise CommandError(
                f"--plot {given['plot']}: its ending is the format of the picture: .png, .svg, .pdf"
            )

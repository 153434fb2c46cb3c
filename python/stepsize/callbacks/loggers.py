"""Logging a run to files, TensorBoard or any experiment tracker.

A logger is any object with these five methods, which get plain numbers:

* ``start(step, meta)``: before the first step; ``step`` is above 0 when a run is resumed there.
* ``step(step, values)``: after every so many steps.
* ``validation(step, values)``: after each validation.
* ``epoch(step, values)``: after each epoch: ``epoch``, ``lr``, mean ``loss``, what was measured.
* ``end(stopped)``: always, with the reason in words.

`LogTo` makes a callback of it; docs/training.md shows one.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any, Protocol

from stepsize.serialization.atomic import replacing
from stepsize.serialization.replaceable import check_replaceable
from stepsize.validation import file_path, whole

if TYPE_CHECKING:
    from stepsize.training.run import Run

__all__ = ["CSVLogger", "JSONLogger", "LogTo", "TensorBoard"]

Values = Mapping[str, float]
STEP = ("loss", "lr", "grad_norm", "update_ratio")


class Logger(Protocol):
    """Where a run is logged."""

    def start(self, step: int, meta: Mapping[str, Any]) -> None:
        """The run starts, or resumes from ``step``."""

    def step(self, step: int, values: Values) -> None:
        """A step was made."""

    def validation(self, step: int, values: Values) -> None:
        """The validation data were measured."""

    def epoch(self, step: int, values: Values) -> None:
        """An epoch is over."""

    def end(self, stopped: str) -> None:
        """The run is over."""


class LogTo:
    """Pass every step, validation and epoch to a logger.

    Args:
        logger: an object with the methods of `Logger`.
        every: log after every so many steps; None logs validations and epochs only.
    """

    first_rank_only = True  # of several processes that run together, the first one logs

    def __init__(self, logger: Logger, every: int | None = 1):
        methods = ("start", "step", "validation", "epoch", "end")
        if isinstance(logger, type) or not all(hasattr(logger, name) for name in methods):
            raise TypeError(
                f"{type(self).__name__}: logger must be an object with methods start, step, "
                f"validation, epoch and end, got {logger!r:.200}"
            )
        self.logger = logger
        self.every = every if every is None else whole(f"{type(self).__name__}: every", every)

    def on_start(self, run: Run) -> None:
        """Log the start."""
        self.logger.start(run.step, run.history.meta)

    def on_step(self, run: Run) -> None:
        """Log the step if due."""
        if self.every is not None and run.step % self.every == 0:
            self.logger.step(run.step, {name: run.history.at(name, -1) for name in STEP})

    def on_validation(self, run: Run) -> None:
        """Log the validation metrics."""
        values = {name: run.metrics[name] for name in run.validated}
        self.logger.validation(run.step, _plain(values))

    def on_epoch(self, run: Run) -> None:
        """Log the epoch."""
        lr = run.history.at("lr", -1)
        self.logger.epoch(
            run.step, {"epoch": run.epoch, "lr": lr, **_plain(run.metrics_of_epoch())}
        )

    def on_end(self, run: Run) -> None:
        """Log the end."""
        self.logger.end(repr(run.error) if run.error else str(run.history.stopped))


def _plain(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of any library as floats of Python."""
    return {name: float(value) for name, value in values.items()}


class _Lines:
    """A file written line by line; a resumed run continues it from the step of the checkpoint."""

    def __init__(self, path: str | os.PathLike[str]):
        self._path = os.fspath(path)
        self._file: IO[str] | None = None

    def open(self, step: int, step_of: Callable[[str], int]) -> None:
        """Keep whole lines up to a step; drop later ones and one that was cut off."""
        check_replaceable("log", self._path, "log of stepsize")
        kept: list[str] = []
        if step and os.path.exists(self._path):
            with open(self._path, encoding="utf-8", newline="") as file:
                kept = [x for x in file if x.endswith("\n") and step_of(x) <= step]
        with replacing(self._path) as binary:
            binary.write("".join(kept).encode())
        self._file = open(self._path, "a", encoding="utf-8", newline="")  # noqa: SIM115

    def write(self, line: str) -> None:
        """Add a line and flush it, so that a killed process does not lose it."""
        if self._file is not None:
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class CSVLogger(LogTo):
    """Write a line per epoch to a CSV file: step, epoch, rate, mean loss, validation metrics.

    `History.to_csv` writes every step, after the run.
    """

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__(_CSV(file_path("CSVLogger: path", path)), every=None)


class _CSV:
    def __init__(self, path: str | os.PathLike[str]):
        self._path = os.fspath(path)
        self._lines = _Lines(path)
        self._names: list[str] = []

    def start(self, step: int, meta: Mapping[str, Any]) -> None:
        self._lines.open(step, self._step_of)
        with open(self._path, encoding="utf-8", newline="") as file:
            self._names = next(csv.reader(file), [])

    def _step_of(self, line: str) -> int:
        first = line.split(",", 1)[0]
        return int(first) if first.isdecimal() else 0

    def step(self, step: int, values: Values) -> None:
        """Steps are not written."""

    def validation(self, step: int, values: Values) -> None:
        """Validations are written with their epoch."""

    def epoch(self, step: int, values: Values) -> None:
        row = {"step": step, **values}
        if new := [name for name in row if name not in self._names]:
            self._add_columns(new)
        self._lines.write(_csv_line([row.get(name, "") for name in self._names]))

    def _add_columns(self, new: list[str]) -> None:
        self._lines.close()
        with open(self._path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[1:]
        self._names += new
        with replacing(self._path) as binary:
            for row in [self._names, *(row + [""] * len(new) for row in rows)]:
                binary.write(_csv_line(row).encode())
        self._lines.open(2**63, lambda line: 0)

    def end(self, stopped: str) -> None:
        self._lines.close()


def _csv_line(row: list[Any]) -> str:
    line = io.StringIO()
    # A line break in a name would be taken for the end of a row when the run is resumed.
    fields = [" ".join(x.splitlines()) if isinstance(x, str) else x for x in row]
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()


class JSONLogger(LogTo):
    """Write one JSON object per line: steps, validations, epochs, start and end of the run.

    A number that JSON cannot hold is null.

    Args:
        path: where to write.
        every: log after every so many steps; None logs none.
    """

    def __init__(self, path: str | os.PathLike[str], every: int | None = 1):
        super().__init__(_JSON(file_path("JSONLogger: path", path)), every)


class _JSON:
    def __init__(self, path: str | os.PathLike[str]):
        self._lines = _Lines(path)
        self._last = 0

    def start(self, step: int, meta: Mapping[str, Any]) -> None:
        self._lines.open(step, lambda line: int(json.loads(line)["step"]))
        self._write("start", step, meta)

    def step(self, step: int, values: Values) -> None:
        self._write("step", step, values)

    def validation(self, step: int, values: Values) -> None:
        self._write("validation", step, values)

    def epoch(self, step: int, values: Values) -> None:
        self._write("epoch", step, values)

    def end(self, stopped: str) -> None:
        self._write("end", self._last, {"stopped": stopped})
        self._lines.close()

    def _write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        self._last = step
        finite = {
            name: None if isinstance(x, float) and not math.isfinite(x) else x
            for name, x in values.items()
        }
        self._lines.write(json.dumps({"event": event, "step": step, **finite}) + "\n")


class TensorBoard(LogTo):
    """Write scalars for TensorBoard (needs tensorboardX).

    Args:
        folder: where the event files go.
        every: log after every so many steps; None logs none.
    """

    def __init__(self, folder: str | os.PathLike[str], every: int | None = 1):
        super().__init__(_Board(file_path("TensorBoard: folder", folder)), every)


class _Board:
    def __init__(self, folder: str | os.PathLike[str]):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError(
                'TensorBoard needs tensorboardX: pip install "stepsize[tensorboard]"'
            ) from None
        self._make = SummaryWriter
        self._folder = os.fspath(folder)
        self._writer: Any = None

    def start(self, step: int, meta: Mapping[str, Any]) -> None:
        # Later steps are from a run that was cut off; TensorBoard hides purged ones.
        purge = {"purge_step": step + 1} if step else {}
        self._writer = self._make(self._folder, **purge)
        self._writer.add_text("run", json.dumps(meta, indent=1), step)

    def step(self, step: int, values: Values) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def validation(self, step: int, values: Values) -> None:
        self.step(step, values)

    def epoch(self, step: int, values: Values) -> None:
        self.step(step, {f"epoch/{name}": value for name, value in values.items()})

    def end(self, stopped: str) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

"""What all experiment trackers have in common; MLflow and Weights & Biases have a file each.

A tracker is somebody else's server or folder. What fails there is told once, is tried again when
it no longer delays the run, and never ends it: the history holds all that was to be written.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stepsize.callbacks.loggers import LogTo, Values
from stepsize.diagnosis import diagnosis_or_reason
from stepsize.schedules import Schedule
from stepsize.validation import counted

if TYPE_CHECKING:
    from stepsize.training.history import History
    from stepsize.training.run import Run

__all__: list[str] = []  # no tracker for users in this file

SETTINGS = ("rule", "batch_size", "accumulate", "drop_last", "seed", "parameters")
ROWS = 100  # written in one call
MOST_WAITING = 100_000  # rows kept while a tracker cannot be reached
PATIENCE = 1.0  # seconds between two writes
REST = 10.0  # a failed call is tried again after this many times the time that it took


class Row(NamedTuple):
    """Values at one step."""

    step: int
    seconds: float  # since the epoch of Unix
    values: dict[str, float]


class Summary(NamedTuple):
    """What a tracker gets at the end of a run."""

    stopped: str
    failed: bool
    verdict: str
    diagnosis: str
    files: list[str]


class Tracker(Protocol):
    """A run in a tracker; each method may raise what it likes."""

    @property
    def place(self) -> str:
        """Where runs go; one that is resumed there is continued."""

    def open(self, known: str | None, settings: Mapping[str, Any], step: int) -> str:
        """Start a run, or continue the one with a known name; its name."""

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows to the run."""

    def close(self, summary: Summary) -> None:
        """End the run."""


class TrackTo(LogTo):
    """Pass a run to a tracker: settings, curves, and at the end its diagnosis and files."""

    def __init__(self, tracker: Tracker, every: int | None, artifacts: bool) -> None:
        self._journal = Journal(type(self).__name__, tracker, artifacts)
        super().__init__(self._journal, every)

    def on_start(self, run: Run) -> None:
        """Start the run of the tracker, or continue it where this one is resumed."""
        self._journal.history = run.history
        super().on_start(run)

    def on_end(self, run: Run) -> None:
        """Write what is left, the diagnosis and the files."""
        self._journal.error = run.error
        super().on_end(run)


class Journal:
    """The logger between a run and a tracker: keeps rows until they are written."""

    def __init__(self, owner: str, tracker: Tracker, artifacts: bool) -> None:
        self._owner = owner
        self._tracker = tracker
        self._artifacts = artifacts
        self.history: History | None = None
        self.error: BaseException | None = None

    def start(self, step: int, meta: Mapping[str, Any]) -> None:
        self._waiting: list[Row] = []
        self._dropped = 0
        self._opened = self._told = False
        self._again = self._written = 0.0
        self._first_step = self._step = step
        self._try(self._open)

    def step(self, step: int, values: Values) -> None:
        self._waiting.append(Row(step, time.time(), dict(values)))
        self._step = step
        if len(self._waiting) > MOST_WAITING:
            self._dropped += 1
            del self._waiting[0]
        if time.monotonic() - self._written >= PATIENCE:
            self._try(self._write)

    def validation(self, step: int, values: Values) -> None:
        self.step(step, values)

    def epoch(self, step: int, values: Values) -> None:
        self.step(step, {f"epoch/{name}": value for name, value in values.items()})
        self._try(self._write)

    def end(self, stopped: str) -> None:
        self._again = 0.0  # the last attempt is always made
        if self._try(lambda: self._close(stopped)) and not self._dropped:
            return
        rows = self._dropped + len(self._waiting)
        what = f"{counted(rows, 'row')} of its curves" if rows else "what belongs to its end"
        warnings.warn(
            f"{self._owner}: the tracker lacks {what}, which could not be written; the History "
            "that fit returns holds all: history.save(path)",
            UserWarning,
            stacklevel=2,
        )

    def _open(self) -> None:
        assert self.history is not None
        meta, place = self.history.meta, self._tracker.place
        known = name_of_run(meta, self._owner, place) if self._first_step else None
        name = self._tracker.open(known, settings_of(meta), self._first_step)
        others = [each for each in meta.get("trackers", ()) if each[:2] != [self._owner, place]]
        meta["trackers"] = [*others, [self._owner, place, name]]
        self._opened = True

    def _write(self) -> None:
        if not self._opened:
            self._open()
        self._written = time.monotonic()
        while self._waiting:  # what was written stays written where the next call fails
            self._tracker.write(self._waiting[:ROWS])
            del self._waiting[:ROWS]

    def _close(self, stopped: str) -> None:
        self._write()
        assert self.history is not None
        with tempfile.TemporaryDirectory() as folder:
            files: list[str] = []
            try:
                verdict, text = judged(self.history)
                if self._artifacts:
                    files = write_files(folder, self.history, verdict, text)
            except Exception as error:  # the run of the tracker is ended all the same
                verdict, text = "unknown", f"There is no diagnosis: {error!r:.300}"
            failed = self.error is not None
            self._tracker.close(Summary(stopped, failed, verdict, text, files))

    def _try(self, action: Callable[[], None]) -> bool:
        """Whether it was done; an attempt that fails delays the run by little, whatever it is."""
        begun = time.monotonic()
        if begun < self._again:
            return False
        try:
            action()
        except Exception as error:
            now = time.monotonic()
            self._again = now + max(PATIENCE, REST * (now - begun))
            if not self._told:
                self._told = True
                warnings.warn(
                    f"{self._owner}: logging failed at step {self._step} "
                    f"({type(error).__name__}: {error!s:.300}); the training goes on, and what "
                    "is missing is written when the tracker can be reached again",
                    UserWarning,
                    stacklevel=2,
                )
            return False
        return True


def name_of_run(meta: Mapping[str, Any], owner: str, place: str) -> str | None:
    """The name that a tracker gave the run that is resumed, None where it was not tracked there."""
    for each in meta.get("trackers", ()):
        if each[:2] == [owner, place]:
            return str(each[2])
    return None


def settings_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Rule, rate, schedule, batch size and their like by plain names, from ``history.meta``."""
    found = {name: meta[name] for name in SETTINGS if meta.get(name) is not None}
    groups = meta.get("groups", ())
    for i, group in enumerate(groups):
        before = f"group{i}/" if len(groups) > 1 else ""
        for name, value in group["hyperparams"].items():
            found[before + name] = _readable(value)
        if before:
            found[f"{before}leaves"] = ", ".join(map(str, group.get("leaves", ())))
    for owner, options in meta.get("options") or ():
        for name, value in options.items():
            if value is not None and name not in found:
                found[name if owner == meta["rule"] else f"{owner}/{name}"] = _readable(value)
    found |= {f"version/{name}": value for name, value in meta.get("versions", {}).items()}
    return found


def _readable(value: Any) -> Any:
    """A schedule as it is written in Python, anything else as it is."""
    if isinstance(value, Mapping) and set(value) == {"function"}:
        return f"function {value['function']}"
    if isinstance(value, Mapping) and set(value) == {"schedule"}:
        try:
            return repr(Schedule.from_dict(value["schedule"]))
        except (TypeError, ValueError):  # a function of the user's is in it
            return str(value["schedule"])
    if isinstance(value, list | tuple):
        return [_readable(each) for each in value]
    return value


def judged(history: History) -> tuple[str, str]:
    """The verdict on a run, and the diagnosis in words."""
    if not history.steps:
        return "not_enough_data", "No step was made."
    found = diagnosis_or_reason(history)
    return "none" if isinstance(found, str) else found.verdict, str(found)


def write_files(folder: str, history: History, verdict: str, text: str) -> list[str]:
    """The history, to be loaded again and as a table, and a report as a web page."""
    from stepsize.report import Page

    paths = [os.path.join(folder, f"history.{ext}") for ext in ("safetensors", "csv")]
    history.save(paths[0])
    history.to_csv(paths[1])
    page = Page(f"A run of {history.meta.get('rule', 'training')}", repr(history))
    page.verdict(verdict.replace("_", " ").capitalize() + ".", text, "fair")
    page.raw(f'<div class="scroll">{history._repr_html_()}</div>')
    page.heading("Settings")
    page.table(["setting", "value"], [[k, str(v)] for k, v in settings_of(history.meta).items()])
    paths.append(str(page.write(os.path.join(folder, "report.html"))))
    return paths

"""Saving a run while it goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize import arrays
from stepsize.callbacks.base import count_or_none, expects_descent, monitored
from stepsize.callbacks.metrics import direction
from stepsize.serialization import states
from stepsize.serialization.atomic import replacing
from stepsize.serialization.replaceable import check_replaceable
from stepsize.validation import choice, file_path, truth

if TYPE_CHECKING:
    from stepsize.training.run import Run

__all__ = ["Checkpoint"]


class Checkpoint:
    """Save the run every so many steps or epochs.

    ``path`` always holds the latest checkpoint. With ``keep=n`` the n - 1 before it stay beside it,
    as ``name-STEP.ext``, and the last one with finite parameters stays whatever ``keep`` says. With
    ``monitor`` the one with the best value of a metric stays too, as ``name-best.ext``. The end of
    a run is saved, and so is an exception; a diverged end is not. Older files that the run has not
    written are neither replaced nor deleted, and a file at ``path`` that is no checkpoint is
    refused before the first step.

    Args:
        path: where to write.
        every_steps: save after every so many steps; None does not count steps.
        every_epochs: save after every so many epochs; None does not count epochs.
        keep: how many checkpoints to keep.
        monitor: ``loss`` (the training loss, averaged over the epoch) or a validation metric.
        mode: ``"min"`` if lower is better, ``"max"`` if higher is; ``"auto"`` infers it from the
            name of the metric, and asks where that tells nothing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every_steps: int | None = None,
        every_epochs: int | None = 1,
        keep: int = 1,
        monitor: str | None = None,
        mode: str = "auto",
    ):
        self.path = file_path("Checkpoint: path", path)
        self.every_steps = count_or_none("Checkpoint: every_steps", every_steps)
        self.every_epochs = count_or_none("Checkpoint: every_epochs", every_epochs)
        self.keep = count_or_none("Checkpoint: keep", keep) or 1
        self.monitor = monitor
        choice("Checkpoint: mode", mode, ("auto", "min", "max"))
        if monitor is None and mode != "auto":
            raise ValueError(f"Checkpoint: mode={mode!r} needs monitor=..., the metric it is about")
        self.mode = mode if monitor is None else direction("Checkpoint", monitor, mode)
        self.expects_descent = monitor is not None and expects_descent(monitor, mode, self.mode)
        self._written: set[str] = set()
        self._reset()

    def _reset(self) -> None:
        self._kept: list[list[Any]] = []  # step, finite, file beside the latest
        self._best: float | None = None
        self._value: float | None = None

    def on_start(self, run: Run) -> None:
        """Forget the checkpoints of an earlier run; refuse a path whose file would be lost."""
        if run.writes:
            paths = [self.path] if self.monitor is None else [self.path, self.best_path]
            for path in paths:
                check_replaceable("checkpoint", path, "checkpoint of stepsize")
        if run.step == 0:
            self._reset()

    def on_validation(self, run: Run) -> None:
        """Take the monitored metric."""
        if self.monitor in run.validated:
            self._value = run.metrics[self.monitor]

    def on_step(self, run: Run) -> None:
        """Save if due."""
        self._save_best(run)
        if self.every_steps is not None and run.step % self.every_steps == 0:
            self.save(run)

    def on_epoch(self, run: Run) -> None:
        """Save if due."""
        if self.monitor is not None and not run.awaits(self.monitor):
            value = monitored("Checkpoint", self.monitor, run)
            if not self.monitor.startswith("val_"):
                self._value = value
        self._save_best(run)
        if self.every_epochs is not None and run.epoch % self.every_epochs == 0:
            self.save(run)

    @property
    def best_path(self) -> str:
        """Where the checkpoint with the best value of ``monitor`` is."""
        stem, extension = os.path.splitext(self.path)
        return f"{stem}-best{extension}"

    def _save_best(self, run: Run) -> None:
        value, best, self._value = self._value, self._best, None
        if value is None or value != value:
            return
        if best is None or (value < best if self.mode == "min" else value > best):
            self._best = value
            run.save(self.best_path)

    def save(self, run: Run) -> None:
        """Save now."""
        before = self._kept
        finite = all(np.isfinite(leaf).all() for leaf in arrays.flatten(run.params)[0])
        older = [entry for entry in before if entry[0] != run.step]
        last_finite = None if finite else next((e for e in reversed(older) if e[1]), None)
        recent = older[len(older) - self.keep + 1 :] if self.keep > 1 else []
        kept = [e for e in older if e in recent or e is last_finite]
        try:
            if before and before[-1] in kept:
                kept[-1] = [*before[-1][:2], self._set_aside(before[-1][0], run.writes)]
            self._kept = [*kept, [run.step, finite, None]]
            run.save(self.path)
        except BaseException:
            self._kept = before
            raise
        files = {entry[2] for entry in self._kept}
        for _, _, file in before:
            if run.writes and file is not None and file not in files and os.path.isfile(file):
                os.unlink(file)

    def aside(self, step: int) -> str:
        """The path of an older checkpoint; another file that has this name is left alone."""
        stem, extension = os.path.splitext(self.path)
        path, number = f"{stem}-{step}{extension}", 1
        while os.path.lexists(path) and path not in self._written:
            number += 1
            path = f"{stem}-{step}-{number}{extension}"
        return path

    def _set_aside(self, step: int, writes: bool = True) -> str:
        """Give the present file a second name, so that a whole file exists at every moment."""
        path = self.aside(step)
        if writes and os.path.exists(self.path):
            if path in self._written and os.path.isfile(path):
                os.unlink(path)
            self._written.add(path)
            try:
                os.link(self.path, path)
            except OSError:  # a file system without hard links
                with open(self.path, "rb") as file, replacing(path) as copy:
                    shutil.copyfileobj(file, copy)
        return path

    def state_dict(self) -> dict[str, Any]:
        """Which checkpoints are kept."""
        names = [[*entry[:2], entry[2] and os.path.basename(entry[2])] for entry in self._kept]
        return {"kept": names, "best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore which checkpoints are kept; ValueError for anything else changes nothing."""
        checks = {"kept": states.each(_entry), "best": states.optional(states.value)}
        found = states.checked("Checkpoint", state, checks, {"best": None})
        folder = os.path.dirname(self.path)
        stem, extension = os.path.splitext(os.path.basename(self.path))
        kept: list[list[Any]] = []
        for i, (step, finite, *name) in enumerate(found["kept"]):
            latest = i == len(found["kept"]) - 1
            file = name[0] if name else None if latest else f"{stem}-{step}{extension}"
            if file is not None and (os.path.basename(file) != file or not file.startswith(stem)):
                raise ValueError(
                    f"Checkpoint.load_state_dict: kept[{i}]: its older checkpoint {file!r} is not "
                    f"one of {stem}-STEP"
                )
            kept.append([step, finite, file and os.path.join(folder, file)])
        self._reset()
        self._kept.extend(kept)
        self._best = found["best"]
        self._written |= {entry[2] for entry in kept if entry[2] is not None}


def _entry(label: str, value: Any) -> list[Any]:
    """One checkpoint: its step, whether all was finite, and the name of its file if it has one."""
    if not isinstance(value, list | tuple) or not 2 <= len(value) <= 3:
        raise ValueError(f"{label} must be a step, True or False and a file, got {value!r:.80}")
    step, finite, *name = value
    if name and not (name[0] is None or isinstance(name[0], str)):
        raise ValueError(f"{label}: the name of a file must be text or None, got {name[0]!r:.80}")
    return [states.count(f"{label}: its step", step), truth(f"{label}: its finite", finite), *name]

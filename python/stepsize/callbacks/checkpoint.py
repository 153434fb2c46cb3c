"""Saving a run while it goes."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize import arrays
from stepsize.callbacks.base import count_or_none

if TYPE_CHECKING:
    from stepsize.training.run import Run


__all__ = ["Checkpoint"]


class Checkpoint:
    """Save the run every so many steps or epochs.

    ``path`` always holds the latest checkpoint. With ``keep=n`` the n - 1 before it stay beside it,
    as ``name-STEP.ext``, and the last one with finite parameters stays whatever ``keep`` says. The
    end of a run is saved too, and so is an exception; a diverged end is not.

    Args:
        path: where to write.
        every_steps: save after every so many steps; None does not count steps.
        every_epochs: save after every so many epochs; None does not count epochs.
        keep: how many checkpoints to keep.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every_steps: int | None = None,
        every_epochs: int | None = 1,
        keep: int = 1,
    ):
        self.path = os.fspath(path)
        self.every_steps = count_or_none("Checkpoint: every_steps", every_steps)
        self.every_epochs = count_or_none("Checkpoint: every_epochs", every_epochs)
        self.keep = count_or_none("Checkpoint: keep", keep) or 1
        self._kept: list[list[Any]] = []

    def on_start(self, run: Run) -> None:
        """Forget the checkpoints of an earlier run, and fail early where the folder is missing."""
        folder = os.path.dirname(os.path.abspath(self.path))
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                errno.ENOENT, "the folder of the checkpoint is missing, make it first", folder
            )
        if run.step == 0:
            self._kept = []

    def on_step(self, run: Run) -> None:
        """Save if due."""
        if self.every_steps is not None and run.step % self.every_steps == 0:
            self.save(run)

    def on_epoch(self, run: Run) -> None:
        """Save if due."""
        if self.every_epochs is not None and run.epoch % self.every_epochs == 0:
            self.save(run)

    def save(self, run: Run) -> None:
        """Save now."""
        before = self._kept
        finite = all(np.isfinite(leaf).all() for leaf in arrays.flatten(run.params)[0])
        older = [entry for entry in before if entry[0] != run.step]
        last_finite = None if finite else next((e for e in reversed(older) if e[1]), None)
        recent = older[len(older) - self.keep + 1 :] if self.keep > 1 else []
        self._kept = [e for e in older if e in recent or e is last_finite] + [[run.step, finite]]
        try:
            if before and before[-1] in self._kept[:-1]:
                self._set_aside(before[-1][0])
            run.save(self.path)
        except BaseException:
            self._kept = before
            raise
        for entry in before:
            if entry not in self._kept and entry is not before[-1]:
                _remove(self.aside(entry[0]))

    def aside(self, step: int) -> str:
        """The path of an older checkpoint."""
        stem, extension = os.path.splitext(self.path)
        return f"{stem}-{step}{extension}"

    def _set_aside(self, step: int) -> None:
        """Give the present file a second name, so that a whole file exists at every moment."""
        _remove(self.aside(step))
        if os.path.exists(self.path):
            os.link(self.path, self.aside(step))

    def state_dict(self) -> dict[str, Any]:
        """Which checkpoints are kept."""
        return {"kept": [list(entry) for entry in self._kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore which checkpoints are kept."""
        self._kept = [list(entry) for entry in state["kept"]]


def _remove(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)

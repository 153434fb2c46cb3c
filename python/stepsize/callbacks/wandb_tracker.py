"""Runs in Weights & Biases."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from stepsize.callbacks.trackers import Row, Summary, TrackTo
from stepsize.validation import choice, file_path, text_or_none, truth

__all__ = ["WandB"]

MODES = ("online", "offline", "disabled", "shared")


class WandB(TrackTo):
    """Track the run in Weights & Biases (needs wandb).

    Written are the rule, the rate or its schedule, batch size and other settings as ``config``; the
    curves over ``step``; at the end ``diagnosis`` (the verdict), ``diagnosis_text`` and ``stopped``
    in the summary, and the files ``history.safetensors``, ``history.csv`` and ``report.html``. A
    run that ends by an exception is marked as failed. A resumed run goes on under the name of its
    run; the steps after the checkpoint from which it goes on are there twice.

    What fails in Weights & Biases is warned of once and does not end the training.

    Args:
        project: the project; None is the one that is set in the environment, or the run that is
            active where there is one, which is then not ended.
        folder: where the files go, in a folder ``wandb``; None is the current one.
        name: of the run; None leaves it to wandb.
        mode: ``"online"``, ``"offline"`` (files alone, for ``wandb sync``), ``"shared"`` or
            ``"disabled"``; None is what is set in the environment.
        every: log after every so many steps; None logs validations and epochs only.
        artifacts: whether to write history and report.
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        name: str | None = None,
        mode: str | None = None,
        every: int | None = 1,
        artifacts: bool = True,
    ) -> None:
        tracker = _Run(
            text_or_none("WandB: project", project),
            folder if folder is None else file_path("WandB: folder", folder),
            text_or_none("WandB: name", name),
            mode if mode is None else choice("WandB: mode", mode, MODES),
        )
        super().__init__(tracker, every, truth("WandB: artifacts", artifacts))
        tracker.load()


class _Run:
    def __init__(
        self, project: str | None, folder: str | None, name: str | None, mode: str | None
    ) -> None:
        self._project = project
        self._folder = folder
        self._name = name
        self._mode = mode
        self._run: Any = None
        self._owned = True

    def load(self) -> None:
        try:
            import wandb
        except ImportError:
            raise ImportError('WandB needs wandb: pip install "stepsize[wandb]"') from None
        self._wandb: Any = wandb

    @property
    def place(self) -> str:
        return self._project or ""

    def open(self, known: str | None, settings: Mapping[str, Any], step: int) -> str:
        given = (self._project, self._folder, self._name, self._mode)
        self._owned = self._wandb.run is None or given != (None,) * 4
        self._run = self._start(known) if self._owned else self._wandb.run
        self._run.config.update(dict(settings), allow_val_change=True)
        # A step of wandb's own cannot go back, as a run does that resumes from its checkpoint.
        self._run.define_metric("*", step_metric="step")
        return str(self._run.id)

    def _start(self, known: str | None) -> Any:
        # Runs of others in this process go on beside it.
        options: dict[str, Any] = {"reinit": "create_new"}
        if known is not None:
            options["id"] = known
            if self._mode not in ("offline", "disabled"):
                options["resume"] = "allow"
        return self._wandb.init(
            project=self._project, dir=self._folder, name=self._name, mode=self._mode, **options
        )

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._run.log({"step": row.step, **row.values})

    def close(self, summary: Summary) -> None:
        self._run.summary.update(
            {
                "diagnosis": summary.verdict,
                "diagnosis_text": summary.diagnosis,
                "stopped": summary.stopped,
            }
        )
        # Into the run's own folder: an artifact of wandb waits elsewhere until it is synchronised.
        for path in summary.files:
            there = shutil.copy(path, self._run.dir)
            self._run.save(there, base_path=self._run.dir, policy="now")
        if self._owned:
            self._run.finish(exit_code=int(summary.failed))

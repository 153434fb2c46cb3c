"""What `autolr` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepsize.automatic.rehearsal import Rehearsals
from stepsize.diagnosis import Diagnosis
from stepsize.finder.results import LRFindResult, frame
from stepsize.schedules import Schedule
from stepsize.training.history import History
from stepsize.validation import counted


@dataclass(frozen=True)
class Action:
    """A correction made to a run: at which step, what, and why."""

    step: int
    what: str
    why: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.what}, because {self.why}"


@dataclass(frozen=True, repr=False)
class AutoResult:
    """What `autolr` found and did; print it to read it.

    `found` is what `lr_find` returned, `rehearsals` are the shorter trainings that corrected its
    peak, as pairs of peak and losses, `schedule` follows from both, `actions` are the corrections
    made while training, `branch_gradients` what the branches behind them cost.
    """

    history: History
    optimizer: Any
    schedule: Schedule
    found: LRFindResult
    actions: tuple[Action, ...]
    diagnosis: Diagnosis
    rehearsals: Rehearsals = ()
    branch_gradients: int = 0

    def to_pandas(self) -> Any:
        """The history of the run as a `pandas.DataFrame`, one row per step."""
        return frame({name: self.history[name] for name in self.history})

    def __repr__(self) -> str:
        losses = self.history["loss"]
        return (
            f"<AutoResult {type(self.optimizer).__name__}, {counted(len(losses), 'step')}, peak "
            f"{self._peak():.3g}, loss {losses[0]:.4g} to {losses[-1]:.4g}, "
            f"{len(self.actions)} corrections>"
        )

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

    def _peak(self) -> float:
        """The largest rate of the schedule."""
        return float(self.schedule.values(max(len(self.history["loss"]), 2)).max())

    def __str__(self) -> str:
        losses = self.history["loss"]
        end = losses[-max(1, len(losses) // 20) :].mean()
        lines = [
            f"{self.found.gradients} gradients found the rate {self.found.peak:.1e} "
            f"({self.found.confidence} confidence: {self.found.why})",
            *self._rehearsed(),
            f"schedule: {self.schedule!r}",
            *map(str, self.actions or ["no correction was needed"]),
            *(
                [f"branches behind it cost {self.branch_gradients} gradients"]
                * bool(self.branch_gradients)
            ),
            f"the loss went from {losses[0]:.4g} to {end:.4g} in {len(losses)} steps",
            str(self.diagnosis),
        ]
        return "\n".join(lines)

    def _rehearsed(self) -> list[str]:
        if not self.rehearsals:
            return []
        peaks = ", ".join(f"{peak:.1e}" for peak, _ in self.rehearsals)
        steps = max(len(losses) for _, losses in self.rehearsals)
        best = f"they end lowest near {self._peak():.1e}"
        return [f"rehearsals of {steps} steps tried the peaks {peaks}; {best}"]

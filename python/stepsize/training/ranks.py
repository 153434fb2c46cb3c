"""A run on several ranks: batches split, gradients averaged, the same decisions on all."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from stepsize.arrays import Nest
from stepsize.collectives import (
    GradientMean,
    Team,
    averaged,
    own_rows,
    same_start,
    settings_of,
)
from stepsize.training.accumulation import Gradient
from stepsize.training.batches import ArrayBatches, Count
from stepsize.training.evaluation import Evaluation
from stepsize.training.interrupts import Interrupt
from stepsize.training.run import Run


class Agreed:
    """An interrupt as all ranks know it: one that came to any of them."""

    def __init__(self) -> None:
        self.pending = False
        self.terminated = False


class Ranks:
    """The part of the ranks in a run.

    Args:
        team: the ranks.
        run: whose batches are of arrays, and split among the ranks by rows, or a stream of this
            rank's own ones.
        count: the rows of a batch.
    """

    def __init__(self, team: Team, run: Run, count: Count) -> None:
        self.team = team
        batches = run.batches

        def settings() -> dict[str, Any]:
            return {**settings_of(run.optimizer), "batch_size": batches.batch_size}

        self._settings = settings
        self.interrupt, self.signals = Agreed(), Interrupt()
        self._splits = isinstance(batches, ArrayBatches)
        self._count = count
        self._lacks = False  # whether this rank has no batch for the step that the others make
        self._mean = GradientMean(
            team, run.params, "fit", settings=settings, aside=self._own_signals
        )

    def averaged(self, function: Gradient, several: bool) -> Gradient:
        """The function of a batch, or of several, as the mean over the rows of all ranks."""
        own = self._several if several else self._one
        mean = averaged(function, self._mean, own, "fit")

        @functools.wraps(mean)
        def gradient(params: Nest, batch: Any) -> Any:
            found = mean(params, batch)
            self._hear(self._mean.said)
            return found

        return gradient

    def _own_signals(self) -> tuple[bool, bool]:
        return self.signals.pending, self.signals.terminated

    def _hear(self, words: Sequence[Any]) -> None:
        """Take the signals that came to any rank as this rank's."""
        self.interrupt.pending = any(word[0] for word in words)
        self.interrupt.terminated = any(word[1] for word in words)
        self.signals.terminated = self.interrupt.terminated

    @property
    def rows(self) -> float:
        """The rows of all ranks at the last gradient."""
        return self._mean.last.share.rows

    def _several(self, batches: Any) -> tuple[Any, float]:
        """What this rank evaluates of several batches, and its rows."""
        own = [self._one(batch) for batch in (() if self._lacks else batches)]
        return [part for part, rows in own if rows], float(sum(rows for _, rows in own))

    def _one(self, batch: Any) -> tuple[Any, float]:
        """What this rank evaluates of a batch, and its rows."""
        if self._lacks:
            return None, 0.0
        if not self._splits:
            return batch, self._count(batch)
        part, rows = own_rows(batch, self.team.rank, self.team.size)
        return part, self._count(part) if rows else 0.0

    def stream(self, batches: Iterator[tuple[Any, int]]) -> Iterator[tuple[Any, int]]:
        """The batches until the last rank has no more; None for a rank without one."""
        if self._splits:
            yield from batches
            return
        offset = 0
        while True:
            error: Exception | None = None
            found: tuple[Any, int] | None = None
            try:
                found = next(batches, None)
            except Exception as failure:
                error = failure
            if not any(self.team.meet("fit: next batch", found is not None, error)):
                self._lacks = False
                return
            self._lacks = found is None  # which no batch can say: one may be None itself
            batch, offset = (None, offset) if found is None else found
            yield batch, offset

    @contextlib.contextmanager
    def together(self, run: Run) -> Iterator[None]:
        """A block after which all ranks have decided alike: to go on, to end, or to fail."""
        try:
            yield
        except Exception as error:
            self.tell(error)
            raise
        # Nobody but a callback comes between here and the gradients, which compare them too.
        settings = self._settings() if run.callbacks else {}
        word = *self._own_signals(), run.finished, run.history.stopped
        words = self.team.meet_alike("fit: decisions", word, settings, "fit: hyperparameters")
        self._hear(words)
        for _, _, finished, stopped in words:
            if finished:
                run.stop(str(stopped))

    def tell(self, error: Exception) -> None:
        """Tell the others of an error that they have not heard of."""
        if self.team.told is not error:
            with contextlib.suppress(Exception):  # it is raised by whoever calls this
                self.team.meet("fit: an error", error=error)


def ranks_of(
    team: Team, run: Run, limits: Any, count: Count, evaluation: Evaluation | None
) -> Ranks:
    """The ranks of a run that starts: arguments agreed on, parameters and state those of rank 0."""
    for callback in run.callbacks:
        if getattr(callback, "needs_micro_squares", False):
            raise ValueError(
                f"fit: {type(callback).__name__} compares the batches of one process, and with "
                "comm= each rank has parts of them; leave it out"
            )
    batches = run.batches
    told = {
        "validation": "no data" if evaluation is None else evaluation.kind,
        "validate_every": None if evaluation is None else evaluation.every,
        "epochs and steps": (limits.epochs, limits.steps),
        "batch_size": batches.batch_size,
        "accumulate": run.accumulate,
        "the number of samples in train": batches.length
        if isinstance(batches, ArrayBatches)
        else None,
        "the list of callbacks": [type(callback).__name__ for callback in run.callbacks],
    }
    for name, value in told.items():
        team.agree("fit", name, value)
    same_start("fit", team, run.params, run.optimizer)
    return Ranks(team, run, count)

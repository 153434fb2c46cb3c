"""Evaluation on validation data: metrics averaged over batches, at the parameters to judge."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import numpy as np

from stepsize import arrays
from stepsize.collectives import Share, Team, mean_of, own_rows
from stepsize.optimizers.optimizer import Optimizer
from stepsize.training.batches import ArrayBatches, Batches, Count, begin_mean, end_mean
from stepsize.training.fingerprint import fingerprint
from stepsize.training.run import Run
from stepsize.validation import as_float

Evaluate = Callable[[Any, Any], dict[str, float]]
Record = tuple[float, dict[str, float]]  # rows of a batch, and what was measured on it


class Pending(Protocol):
    """What says that the run was interrupted."""

    @property
    def pending(self) -> bool:
        """Whether it was."""


class EvaluationInterrupted(Exception):
    """Ctrl-C came during an evaluation; a resumed run repeats it."""


class Evaluation:
    """Means of the metrics that ``evaluate`` measures, weighted by the rows of each batch.

    Args:
        source: the validation data.
        evaluate: ``(params, batch) -> {name: value}``.
        count: the rows of a batch.
        every: evaluate after every so many steps; None evaluates after each epoch.
        given: whether ``evaluate`` is the user's, not the loss of ``value_and_grad``.
    """

    def __init__(
        self, source: Batches, evaluate: Evaluate, count: Count, every: int | None, given: bool
    ):
        self._source = source
        self._evaluate = evaluate
        self._count = count
        self._name = "evaluate" if given else "value_and_grad"
        self.every = every
        self._told: set[str] = set()  # names whose lack in some batches was said

    @property
    def kind(self) -> str:
        """What is evaluated, and with what, in words that ranks compare."""
        rows = (
            f"{self._source.length} rows" if isinstance(self._source, ArrayBatches) else "batches"
        )
        return f"{rows} for {self._name}"

    def fingerprint(self, apart: bool) -> list[list[Any]] | None:
        """What is measured, how often, and on which data; None where `apart` ranks differ in it."""
        if apart and not isinstance(self._source, ArrayBatches):
            return None
        name = getattr(self._evaluate, "__name__", type(self._evaluate).__name__)
        measures = [self._name, name if self._name == "evaluate" else "", 0]
        return [measures, ["every", str(self.every), 0], *(fingerprint(self._source) or [])]

    def __call__(self, run: Run, interrupt: Pending) -> None:
        """Evaluate, and write the means into metrics and history."""
        sums: dict[str, float] = {}
        rows: dict[str, float] = {}
        batches: dict[str, int] = {}
        records = self._records(run, interrupt)
        for size, measured in records:
            for name, value in measured.items():
                sums[name] = sums.get(name, 0.0) + size * value
                rows[name] = rows.get(name, 0.0) + size
                batches[name] = batches.get(name, 0) + 1
        self._warn_of_some(batches, len(records))
        run.validated = ()
        for name, value in sums.items():
            mean = value / rows[name]
            name = name if name.startswith("val_") else f"val_{name}"
            run.measure(name, mean)
            run.validated += (name,)
            if run.history.steps:  # a run that was stopped at its start has no row
                run.history.record(name, mean)

    def _warn_of_some(self, batches: dict[str, int], every: int) -> None:
        """Say once of each name that it was measured on some of the batches alone."""
        some = [name for name, count in batches.items() if count < every and name not in self._told]
        if some:
            self._told.update(some)
            counts = ", ".join(f"{name!r:.40} for {batches[name]}" for name in some[:8])
            warnings.warn(
                f"fit: evaluate returned {counts} of {every} batches: the mean is over the rows of "
                "these alone; return the same names for each batch",
                UserWarning,
                stacklevel=2,
            )

    def _records(self, run: Run, interrupt: Pending) -> list[Record]:
        """Rows and values of all batches in order, of which each rank measures its share."""
        team = run.team
        if team is None:
            return [record for _, record in self._own_records(run, interrupt, 0, 1)]
        arrays_given = isinstance(self._source, ArrayBatches)
        if arrays_given and self._name != "evaluate":
            return self._shared_records(run, interrupt, team)
        error: Exception | None = None
        own: list[tuple[int, Record]] = []
        try:
            share = (team.rank, team.size) if arrays_given else (0, 1)
            own = self._own_records(run, interrupt, *share)
        except Exception as failure:
            error = failure
        given = [found for ranks in team.meet("fit: validation", own, error) for found in ranks]
        if arrays_given:
            given.sort(key=lambda found: found[0])
        return [record for _, record in given]

    def _shared_records(self, run: Run, interrupt: Pending, team: Team) -> list[Record]:
        """Rows and loss of all batches, each the mean over the ranks' rows of it, as in a step."""
        weights: list[float] = []
        own: list[tuple[int, Record]] = []
        error: Exception | None = None

        def cut(batch: Any) -> Any:
            part, rows = own_rows(batch, team.rank, team.size)
            weights.append(float(rows))
            return part if rows else None

        try:
            own = self._own_records(run, interrupt, 0, 1, cut)
        except Exception as failure:
            error = failure
        said = [(size, measured.get("loss")) for _, (size, measured) in own]
        given = team.meet("fit: validation", list(zip(said, weights, strict=False)), error)
        found: list[Record] = []
        for column in zip(*given, strict=True):
            losses, counts = [loss for (_, loss), _ in column], [rows for _, rows in column]
            found.append((column[0][0][0], {"loss": float(mean_of(losses, Share.of(counts)))}))
        return found

    def _own_records(
        self,
        run: Run,
        interrupt: Pending,
        first: int,
        every: int,
        cut: Callable[[Any], Any] | None = None,
    ) -> list[tuple[int, Record]]:
        """Rows and values of every so many batches from the first on, by number.

        Of each batch is measured what ``cut`` leaves of it; nothing where that is None.
        """
        records: list[tuple[int, Record]] = []
        evaluate: Evaluate = partial(run.optimizer.internals.engine.evaluate, self._evaluate)
        watched: Evaluate = partial(_watched, evaluate)
        begin_mean(self._count)
        for number, (batch, _) in enumerate(self._source.epoch(0, 0)):
            if interrupt.pending:
                raise EvaluationInterrupted
            if number % every != first:
                continue
            size = self._count(batch)
            if cut is not None:  # a batch of the user's may be None too
                batch = cut(batch)
                if batch is None:
                    records.append((number, (size, {})))
                    continue
            try:
                measured = watched(run.params, batch)
            except (TypeError, ValueError) as error:
                if not records and self._source.hint:
                    error.add_note(self._source.hint)
                name, function = self._name, self._evaluate
                arrays.refuse_writes(error, function, run.params, batch, "fit", name)
                raise
            watched = evaluate
            if not isinstance(measured, Mapping) or not all(isinstance(k, str) for k in measured):
                raise TypeError(
                    "evaluate must return a dict of names and numbers, it returned "
                    f"{measured!r:.80}"
                )
            values = {name: _number(name, value) for name, value in measured.items()}
            records.append((number, (size, values)))
        end_mean(self._count)
        return records


def _watched(evaluate: Evaluate, params: Any, batch: Any) -> dict[str, float]:
    """What ``evaluate`` measures; ValueError where it changes the parameters."""
    structure = arrays.Structure(params)
    kept = [np.array(leaf) for leaf in structure.leaves]
    try:
        measured = evaluate(params, batch)
        arrays.refuse_changes(structure, kept, "fit", "evaluate")
    except BaseException:
        arrays.put_back(structure.leaves, kept)
        raise
    return measured


def _number(name: str, value: Any) -> float:
    try:
        return as_float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"evaluate must return numbers by name; it returned {value!r:.80} for {name!r:.80}"
        ) from None


def evaluation_params(optimizer: Optimizer) -> AbstractContextManager[Any]:
    """Inside, the parameters are those to evaluate: the average, if the optimizer keeps one."""
    averaged = getattr(optimizer, "averaged", nullcontext)
    return averaged()

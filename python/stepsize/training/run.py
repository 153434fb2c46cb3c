"""A run in progress: all that a checkpoint must hold, in one place."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepsize import _core, arrays
from stepsize.collectives import Team, refuse_other_parameters
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.partition import Partition
from stepsize.optimizers.wrappers.base import Wrapper
from stepsize.rng import collect_rng_states, set_rng_states
from stepsize.runtime import __version__
from stepsize.serialization import nested
from stepsize.serialization.functions import without_address
from stepsize.training.batches import ArrayBatches, Batches
from stepsize.training.fingerprint import fingerprint
from stepsize.training.history import History
from stepsize.training.saving import named
from stepsize.validation import as_float


class Run:
    """A run in progress, as callbacks see it.

    Attributes:
        params: the parameters being trained.
        optimizer: their optimizer.
        history: one row per step made so far.
        step: steps made.
        epoch: epochs completed.
        batch: the batch of this step, or the list of accumulated ones.
        grads: the gradients of this step; ``on_gradients`` may replace them.
        accumulate: how many batches a step accumulates.
        micro_squares: the squared gradient norm of each of them, for callbacks whose
            ``needs_micro_squares`` is True.
        metrics: the latest values by name: ``loss`` (the mean over all rows of the epoch) after an
            epoch, and the validation metrics.
        validated: the names of those that the last validation measured.
        validates: whether the run has validation data.
        error: the exception that is ending the run, or None.
        finished: a callback asked for the end.
        team: the ranks of a run on several processes, or None.
        callbacks_due: a step was made whose validation and callbacks were cut off by Ctrl-C.
    """

    def __init__(
        self,
        params: Any,
        optimizer: Optimizer,
        batches: Batches,
        callbacks: Sequence[Any],
        seed: int | None,
        accumulate: int = 1,
        team: Team | None = None,
    ):
        self.params = params
        self.team = team
        self.optimizer = optimizer
        self.batches = batches
        self.callbacks = tuple(callbacks)
        self.seed = seed
        self.history = History()
        self.step = 0
        self.epoch = 0
        self.offset = 0
        self.batch: Any = None
        self.grads: Any = None
        self.accumulate = accumulate
        self.micro_squares: list[float] = []
        self.metrics: dict[str, float] = {}
        self.validated: tuple[str, ...] = ()
        self.validates = False
        self.evaluation: Any = None
        self.given: dict[str, Any] | None = None  # descriptions of what no state holds
        self.loss_sum = self.row_count = 0.0
        self._measured: dict[str, int] = {}
        self.error: BaseException | None = None
        self.finished = False
        self.callbacks_due = False
        self._epoch_random = collect_rng_states()
        self._begun = time.perf_counter()

    @property
    def batch_size(self) -> int:
        """Samples per batch of arrays; a new value takes effect with the next batch."""
        if not isinstance(self.batches, ArrayBatches):
            raise ValueError("train is an iterable of batches, so its batch size is not known here")
        return self.batches.batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        if not isinstance(self.batches, ArrayBatches):
            raise ValueError(
                "train is an iterable of batches, so its batch size cannot be set here"
            )
        self.batches.batch_size = value

    @functools.cached_property
    def data(self) -> list[list[Any]] | None:
        """The fingerprint of the training data, taken when it is first asked for."""
        own = self.team is not None and not isinstance(self.batches, ArrayBatches)
        return None if own else fingerprint(self.batches)  # of a stream each rank has another

    @functools.cached_property
    def validation(self) -> list[list[Any]] | None:
        """The fingerprint of what is validated on, taken when it is first asked for."""
        if self.evaluation is None:
            return None
        found: list[list[Any]] | None = self.evaluation.fingerprint(self.team is not None)
        return found

    @property
    def writes(self) -> bool:
        """Whether this process writes the files of the run: rank 0, or the only one."""
        return self.team is None or self.team.leads

    def on_first(self, place: str, function: Callable[[], Any]) -> Any:
        """What a function returns in the process that writes the files, in all."""
        return function() if self.team is None else self.team.from_first(place, function)

    def stop(self, reason: str) -> None:
        """End the run after this step; the reason becomes ``history.stopped``."""
        if self.history.stopped is None:
            self.history.stopped = reason
            self.finished = True

    def hooks(self, name: str) -> list[Callable[[Run], Any]]:
        """The methods of this name that callbacks have, in the order they run."""
        return [
            getattr(c, name)
            for c in self.callbacks
            if hasattr(c, name) and (self.writes or not getattr(c, "first_rank_only", False))
        ]

    def call(self, name: str) -> None:
        """Run a hook of all callbacks."""
        for hook in self.hooks(name):
            hook(self)

    def end(self) -> None:
        """Run ``on_end`` of all callbacks, whatever some of them raise, then raise that."""
        errors = []
        for hook in self.hooks("on_end"):
            try:
                hook(self)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def measure(self, name: str, value: float) -> None:
        """Set a metric that was measured in this epoch."""
        self.metrics[name] = as_float(value)
        self._measured[name] = self.epoch

    def awaits(self, metric: str) -> bool:
        """Whether the first validation, which may measure this metric, is still to come."""
        return self.validates and not self.validated and metric.startswith("val_")

    def metrics_of_epoch(self) -> dict[str, float]:
        """The metrics that were measured in the epoch just completed."""
        last = self.epoch - 1
        return {k: v for k, v in self.metrics.items() if self._measured.get(k, last) == last}

    def note_mean(self) -> None:
        """Keep the mean loss over the rows of this epoch so far in ``history.meta``."""
        if self.row_count:
            self.history.meta["epoch_loss"] = self.loss_sum / self.row_count

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.measure("loss", self.loss_sum / self.row_count if self.row_count else math.nan)
        self.note_mean()
        self.loss_sum = self.row_count = 0.0
        self.epoch += 1
        self.offset = 0
        self._epoch_random = collect_rng_states()

    def stream(self) -> Any:
        """The rest of the current epoch, with the random states that a resumed run needs."""
        if not self.offset or isinstance(self.batches, ArrayBatches):
            return self.batches.epoch(self.epoch, self.offset)
        # A stream that draws from the global generators must draw the same numbers on the way here.
        present = collect_rng_states()
        set_rng_states(self._epoch_random)
        return self.batches.epoch(self.epoch, self.offset, lambda: set_rng_states(present))

    def describe(self) -> dict[str, Any]:
        """What is run, and where, for ``history.meta``."""
        return {
            "rule": type(self.optimizer).__name__,
            "groups": plain(self.optimizer.state_dict()["groups"]),
            "options": options_of(self.optimizer),
            "parameters": sum(leaf.size for leaf in arrays.flatten(self.params)[0]),
            "seed": self.seed,
            "batch_size": self.batches.batch_size,
            "accumulate": self.accumulate,
            "drop_last": self.batches.drop_last,
            "versions": {
                "stepsize": __version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "target": _core.target(),
            "threads": _core.thread_count(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": 0.0,
        }

    def tick(self) -> None:
        """Add the time since the last tick to ``history.meta["seconds"]``."""
        now = time.perf_counter()
        self.history.meta["seconds"] = self.history.meta.get("seconds", 0.0) + now - self._begun
        self._begun = now

    def state_dict(self) -> dict[str, Any]:
        """All a new process needs to continue from here, bit for bit."""
        self.tick()
        length = self.batches.length if isinstance(self.batches, ArrayBatches) else None
        return {
            "params": named(self.params),
            "optimizer": self.optimizer.state_dict(),
            "callbacks": [[type(c).__name__, c.state_dict()] for c in stateful(self.callbacks)],
            "history": self.history.state_dict(),
            "cursor": {
                "step": self.step,
                "epoch": self.epoch,
                "offset": self.offset,
                "seed": self.seed,
                "length": length,
                "data": self.data,
                "validation": self.validation,
                "given": self.given,
                "batch_size": self.batches.batch_size,
                "finished": self.finished,
                "hooks_due": self.callbacks_due,
                "metrics": {name: float(value) for name, value in self.metrics.items()},
                "measured": dict(self._measured),
                "loss_sum": self.loss_sum,
                "row_count": self.row_count,
            },
            "random": collect_rng_states(),
            "epoch_random": self._epoch_random,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the run to one file, whole or not at all."""
        self.refuse_apart()
        state = self.state_dict()
        self.on_first("fit: checkpoint", lambda: nested.dump(path, "run", state))

    def refuse_apart(self) -> None:
        """Refuse parameters that are not the same on all ranks, if there are several."""
        if self.team is not None:
            refuse_other_parameters("fit", self.team, self.params, self.grads)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave and `resume.check` found to fit.

        Whatever refuses its part does so before parameters and optimizer have changed.
        """
        cursor = state["cursor"]
        metrics, measured = dict(cursor["metrics"]), dict(cursor["measured"])
        numbers = {name: cursor[name] for name in ("step", "epoch", "offset", "finished")}
        numbers |= {"loss_sum": cursor["loss_sum"], "row_count": cursor["row_count"]}
        numbers |= {"callbacks_due": cursor["hooks_due"], "_epoch_random": state["epoch_random"]}
        history = History()
        history.load_state_dict(state["history"])
        before = self.optimizer.state_dict()
        self.optimizer.load_state_dict(state["optimizer"])
        try:
            owners = stateful(self.callbacks)
            for owner, (_, values) in zip(owners, state["callbacks"], strict=True):
                owner.load_state_dict(values)
            set_rng_states(state["random"])
        except BaseException:
            self.optimizer.load_state_dict(before)
            raise
        for path, leaf in named(self.params).items():
            leaf[...] = state["params"][path]
        self.history, self.metrics, self._measured = history, metrics, measured
        for name, value in numbers.items():
            setattr(self, name, value)
        if isinstance(self.batches, ArrayBatches):
            self.batches.batch_size = cursor["batch_size"]
        if not self.finished:
            self.history.stopped = None


def options_of(optimizer: Any) -> list[Any]:
    """What no state holds, from the outermost wrapper to the rule: names, and options by name."""
    found: list[Any] = []
    while isinstance(optimizer, Wrapper):
        own = {name: value for name, value in vars(optimizer).items() if name[0] != "_"}
        inner = own.pop("inner")
        found.append([type(optimizer).__name__, plain(own)])
        optimizer = inner
    parts = optimizer.parts.values() if isinstance(optimizer, Partition) else ()
    told = [(type(optimizer), optimizer.internals.options), *((p.rule, p.options) for p in parts)]
    return [*found, *([rule.__name__, plain(dataclasses.asdict(own))] for rule, own in told)]


def stateful(callbacks: Sequence[Any]) -> list[Any]:
    """The callbacks that are saved with the run."""
    return [c for c in callbacks if hasattr(c, "state_dict") and hasattr(c, "load_state_dict")]


def plain(value: Any) -> Any:
    """A copy that JSON can hold, with the `repr` of whatever it cannot."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return without_address(repr(value))

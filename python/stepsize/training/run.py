"""A run in progress: everything that must survive, in one place."""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepsize import _core, arrays
from stepsize.errors import CheckpointError
from stepsize.optimizers.optimizer import Optimizer
from stepsize.runtime import __version__
from stepsize.serialization import nested
from stepsize.training.batches import ArrayBatches, Batches
from stepsize.training.history import History
from stepsize.training.saving import check_params, explained, named

HOOKS = (
    "on_start",
    "on_gradients",
    "on_step",
    "on_nonfinite",
    "on_validation",
    "on_epoch",
    "on_end",
)


class Run:
    """A run in progress, as callbacks see it.

    Attributes:
        params: the parameters being trained.
        optimizer: their optimizer.
        history: one row per step made so far.
        step: steps made.
        epoch: epochs completed.
        batch: the batch of this step, or the list of them if it accumulates.
        grads: the gradients of this step; ``on_gradients`` may replace them.
        accumulate: how many batches a step averages over.
        micro_squares: the squared norm of the gradient of each of them, for callbacks whose
            ``needs_micro_squares`` is True.
        metrics: the latest values by name: ``loss`` (the mean over the epoch) after an epoch, and
            what the last validation measured.
        error: the exception that is ending the run, None as long as all is well.
    """

    def __init__(
        self,
        params: Any,
        optimizer: Optimizer,
        batches: Batches,
        callbacks: Sequence[Any],
        seed: int | None,
    ):
        self.params = params
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
        self.accumulate = 1
        self.micro_squares: list[float] = []
        self.metrics: dict[str, float] = {}
        self.error: BaseException | None = None
        self.finished = False
        self.hooks_due = False
        self._epoch_row = 0
        self._epoch_random = random_state()
        self._hooks: dict[str, list[Callable[[Run], Any]]] = {
            hook: [getattr(c, hook) for c in self.callbacks if hasattr(c, hook)] for hook in HOOKS
        }
        self._begun = time.perf_counter()

    @property
    def batch_size(self) -> int:
        """Samples per batch of arrays; a new value holds from the next batch on."""
        if not isinstance(self.batches, ArrayBatches):
            raise ValueError("train is a stream of batches, its batch size is not ours to know")
        return self.batches.batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        if not isinstance(self.batches, ArrayBatches):
            raise ValueError("train is a stream of batches, its batch size is not ours to set")
        self.batches.batch_size = value

    def stop(self, reason: str) -> None:
        """End the run after this step; the reason becomes ``history.stopped``."""
        if self.history.stopped is None:
            self.history.stopped = reason
            self.finished = True

    def hooks(self, name: str) -> list[Callable[[Run], Any]]:
        """The methods of this name that callbacks have, in the order they run."""
        return self._hooks[name]

    def call(self, name: str) -> None:
        """Run a hook of all callbacks."""
        for hook in self._hooks[name]:
            hook(self)

    def end(self) -> None:
        """Run ``on_end`` of all callbacks, whatever some of them raise, then raise that."""
        errors = []
        for hook in self._hooks["on_end"]:
            try:
                hook(self)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def end_epoch(self) -> None:
        """Move the cursor to the start of the next epoch."""
        self.metrics["loss"] = self.history.mean_since("loss", self._epoch_row)
        self.epoch += 1
        self.offset = 0
        self._epoch_row = self.history.steps
        self._epoch_random = random_state()

    def stream(self) -> Any:
        """The rest of the present epoch, with the random state a resumed run needs."""
        if not self.offset or isinstance(self.batches, ArrayBatches):
            return self.batches.epoch(self.epoch, self.offset)
        # A stream that draws from the global generators must draw the same again on the way here.
        present = random_state()
        set_random_state(self._epoch_random)
        return self.batches.epoch(self.epoch, self.offset, lambda: set_random_state(present))

    def describe(self) -> dict[str, Any]:
        """What is run, and where, for ``history.meta``."""
        return {
            "rule": type(self.optimizer).__name__,
            "groups": plain(self.optimizer.state_dict()["groups"]),
            "parameters": sum(leaf.size for leaf in arrays.flatten(self.params)[0]),
            "seed": self.seed,
            "batch_size": self.batches.batch_size,
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
        """All a new process needs to go on from here, bit for bit."""
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
                "epoch_row": self._epoch_row,
                "seed": self.seed,
                "length": length,
                "batch_size": self.batches.batch_size,
                "finished": self.finished,
                "hooks_due": self.hooks_due,
                "metrics": dict(self.metrics),
            },
            "random": random_state(),
            "epoch_random": self._epoch_random,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the run to one file, whole or not at all."""
        nested.dump(path, "run", self.state_dict())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a file that `save` wrote; a file that does not fit changes nothing."""
        state = nested.load(path, "run")
        try:
            self._load(state)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{os.fspath(path)}: {explained(error)}") from error

    def _load(self, state: Mapping[str, Any]) -> None:
        leaves, paths, _ = arrays.flatten(self.params)
        check_params(state["params"], leaves, paths)
        cursor = state["cursor"]
        self._check_data(cursor)
        owners = stateful(self.callbacks)
        names = [name for name, _ in state["callbacks"]]
        if names != [type(owner).__name__ for owner in owners]:
            given = ", ".join(type(owner).__name__ for owner in owners) or "none"
            raise ValueError(
                f"it was written with callbacks {', '.join(names) or 'none'} and this run has "
                f"{given}: give the same ones in the same order"
            )
        history = History()
        history.load_state_dict(state["history"])
        self.optimizer.load_state_dict(state["optimizer"])
        for leaf, path in zip(leaves, paths, strict=True):
            leaf[...] = state["params"][path]
        for owner, (_, values) in zip(owners, state["callbacks"], strict=True):
            owner.load_state_dict(values)
        self.history = history
        self.step, self.epoch, self.offset = cursor["step"], cursor["epoch"], cursor["offset"]
        self._epoch_row, self.finished = cursor["epoch_row"], cursor["finished"]
        self.hooks_due, self.metrics = cursor["hooks_due"], dict(cursor["metrics"])
        if isinstance(self.batches, ArrayBatches):
            self.batches.batch_size = cursor["batch_size"]
        self._epoch_random = state["epoch_random"]
        set_random_state(state["random"])
        self.history.meta["resumed"] = [*self.history.meta.get("resumed", ()), self.step]
        if not self.finished:
            self.history.stopped = None

    def _check_data(self, cursor: Mapping[str, Any]) -> None:
        if cursor["seed"] != self.seed:
            raise ValueError(
                f"it was written with seed={cursor['seed']} and this run has seed={self.seed}: "
                "give the same seed, or resume=False to start anew"
            )
        length = self.batches.length if isinstance(self.batches, ArrayBatches) else None
        if cursor["length"] != length:
            raise ValueError(
                f"it was written with {_samples(cursor['length'])} and this run has "
                f"{_samples(length)}: give the same training data"
            )


def _samples(length: int | None) -> str:
    return "a stream of batches" if length is None else f"{length} training samples"


def stateful(callbacks: Sequence[Any]) -> list[Any]:
    """The callbacks that have something to remember."""
    return [c for c in callbacks if hasattr(c, "state_dict") and hasattr(c, "load_state_dict")]


def plain(value: Any) -> Any:
    """A copy that JSON can hold, with the `repr` of whatever it cannot."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def random_state() -> dict[str, Any]:
    """The state of the global generators of Python and NumPy."""
    version, words, gauss = random.getstate()
    python = {"version": version, "words": np.array(words, np.uint32), "gauss": gauss}
    return {"python": python, "numpy": np.random.get_state(legacy=False)}  # noqa: NPY002


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the global generators back to where `random_state` found them."""
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    np.random.set_state(state["numpy"])  # noqa: NPY002

"""Resuming a run from its checkpoint, and what must be alike in the two runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from stepsize import arrays
from stepsize.errors import CheckpointError
from stepsize.serialization import nested
from stepsize.training.batches import ArrayBatches
from stepsize.training.run import Run, stateful
from stepsize.training.saving import check_params, explained


def load(run: Run, path: str | os.PathLike[str]) -> None:
    """Continue from a file that `Run.save` wrote; a file that does not fit changes nothing."""
    state = nested.load(path, "run")
    try:
        check(run, state)
        run.load_state_dict(state)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{os.fspath(path)}: {explained(error)}") from error


def check(run: Run, state: Mapping[str, Any]) -> None:
    """Refuse a state of other parameters, callbacks, seed or training data than this run has."""
    leaves, paths, _ = arrays.flatten(run.params)
    check_params(state["params"], leaves, paths)
    _check_data(run, state["cursor"])
    names = [name for name, _ in state["callbacks"]]
    ours = [type(callback).__name__ for callback in stateful(run.callbacks)]
    if names != ours:
        raise ValueError(
            f"it was written with callbacks {', '.join(names) or 'none'} and this run has "
            f"{', '.join(ours) or 'none'}: give the same ones in the same order"
        )


def _check_data(run: Run, cursor: Mapping[str, Any]) -> None:
    if cursor["seed"] != run.seed:
        raise ValueError(
            f"it was written with seed={cursor['seed']} and this run has seed={run.seed}: "
            "give the same seed, or resume=False to start from scratch"
        )
    length = run.batches.length if isinstance(run.batches, ArrayBatches) else None
    if cursor["length"] != length:
        raise ValueError(
            f"it was written with {_samples(cursor['length'])} and this run has "
            f"{_samples(length)}: give the same training data"
        )


def _samples(length: int | None) -> str:
    return "an iterable of batches" if length is None else f"{length} training samples"

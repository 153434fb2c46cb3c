"""Read a history: its series as equally long rows of numbers, or an error that names the series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stepsize.arrays import Curve
from stepsize.validation import is_text

NORMS = ("grad_norm", "update_ratio", "param_norm")
SERIES = ("step", "loss", "lr", "val_loss", *NORMS, "sign_flips", "sharpness")
# Words of metrics that are better when higher; what has none of them is not read.
HIGHER_IS_BETTER = {"acc", "accuracy", "auc", "auroc", "bleu", "f1", "iou", "map", "ndcg"}
HIGHER_IS_BETTER |= {"precision", "r2", "recall", "score"}


def is_metric(name: str) -> bool:
    """Whether a series is a validation metric that is better when higher."""
    return name.startswith("val_") and bool(HIGHER_IS_BETTER & set(name.lower().split("_")))


def read(history: Any) -> dict[str, Curve]:
    """The series that a diagnosis looks at, float64, NaN where a row has no value.

    Raises TypeError for what is neither a mapping of series nor a row of losses, ValueError for one
    that holds no losses, or series that are no numbers or not equally long.
    """
    if isinstance(history, Sequence | np.ndarray) and not isinstance(history, str | bytes):
        history = {"loss": history}
    if not isinstance(history, Mapping) and not hasattr(history, "keys"):
        raise TypeError(
            "diagnose: history must be a History, a mapping of series such as {'loss': [...]}, or "
            f"the losses themselves, got {history!r:.80}"
        )
    names = [name for name in history if name in SERIES or is_metric(str(name))]
    found = {str(name): _numbers(str(name), history[name]) for name in names}
    masked = _mask(history["loss"]) if "loss" in found else None
    if masked is not None and masked.any() and len(masked) == len(found["loss"]):
        if masked.all():
            raise ValueError(
                "diagnose: every value of history['loss'] is masked: there is no loss to look at"
            )
        found = _unmasked(found, masked)
    if not len(found.get("loss", ())):
        there = ", ".join(sorted(map(str, history))) or "nothing"
        if "loss" in found:
            raise ValueError(
                "diagnose: history needs a non-empty series 'loss', and there is no step in it; a "
                "run that was stopped at its start has none"
            )
        raise ValueError(f"diagnose: history needs a non-empty series 'loss', it has {there}")
    rows = len(found["loss"])
    for name, values in found.items():
        if len(values) != rows:
            raise ValueError(
                f"diagnose: history[{name!r}] has {len(values)} rows and history['loss'] {rows}: "
                "every series needs a value for each row, NaN where there is none"
            )
    return found


def _mask(values: Any) -> Any:
    """Where a row of losses is masked, which is no value and not one that is NaN."""
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.getmaskarray(values).reshape(-1)
    if isinstance(values, list | tuple):
        return np.array([value is np.ma.masked for value in values])
    return None


def _unmasked(found: dict[str, Curve], masked: Any) -> dict[str, Curve]:
    """The rows that have a loss, and the steps that they are of."""
    rows = len(masked)
    steps = {} if "step" in found else {"step": np.arange(1.0, rows + 1)}
    return {
        name: values[~masked] if len(values) == rows else values
        for name, values in {**steps, **found}.items()
    }


def _numbers(name: str, values: Any) -> Curve:
    try:
        if is_text(values):
            raise TypeError
        if isinstance(values, list | tuple) and any(value is np.ma.masked for value in values):
            values = [math.nan if value is np.ma.masked else value for value in values]
        if isinstance(values, np.ma.MaskedArray):
            values = np.ma.filled(values.astype(np.float64), np.nan)
        row = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        row = np.array(0.0)
    # A column of one number a row is a row of them; a table is not.
    if row.ndim == 0 or row.size != max(row.shape):
        raise ValueError(
            f"diagnose: history[{name!r}] must hold one number for each row, got {values!r:.80}"
        )
    return row.reshape(-1)

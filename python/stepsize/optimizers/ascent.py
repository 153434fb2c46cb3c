"""An optimizer that climbs, where a loss is judged by how it falls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["refuse_ascent", "refuse_run_of_ascent"]

_WORDS = (
    "has maximize=True, and what is judged is a loss that should fall; leave maximize out, and let "
    "value_and_grad return the loss and the gradients negated"
)


def refuse_ascent(owner: str, optimizer: Any, also: str = "") -> None:
    """ValueError for an optimizer with ``maximize=True``, in whatever wrappers.

    `also` is another way out, said at the end.
    """
    options = getattr(getattr(optimizer, "internals", None), "options", None)
    if getattr(options, "maximize", False):
        raise ValueError(f"{owner}: the optimizer {_WORDS}{also}")


def refuse_run_of_ascent(owner: str, meta: Any) -> None:
    """ValueError for what `fit` tells of a run whose optimizer had ``maximize=True``."""
    told = meta.get("options") if isinstance(meta, Mapping) else None
    pairs = told if isinstance(told, list | tuple) else ()
    parts = [pair[1] for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
    if any(isinstance(part, Mapping) and part.get("maximize") is True for part in parts):
        raise ValueError(f"{owner}: the optimizer of the run {_WORDS}")

"""The first rows of a stream, in which `partial_fit` finds a rate."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

ENOUGH = 64  # rows: a rate found on fewer is found again on so many
KEPT = 256  # rows at most, while none gave a rate


@dataclass
class Stream:
    """Rows since the start, and when they are to be searched.

    That is at the first of them, again at `ENOUGH`, and after that whenever they have doubled while
    no rate was found.
    """

    parts: tuple[Any, ...] = ()
    rows: int = 0
    searched: int = 0
    found: bool = False
    told: bool = False

    def take(self, data: tuple[Any, ...]) -> tuple[Any, ...]:
        """The last rows, with these at their end."""
        self.rows += data[0].shape[0]
        if self.parts and len(self.parts) != len(data):  # weights in some of the calls alone
            self.parts, data = _weighted(self.parts), _weighted(data)
        if self.parts:
            data = tuple(map(_joined, self.parts, data))
        kept = max(KEPT, data[0].shape[0] if not self.parts else 0)
        self.parts = tuple(part[-kept:].copy() for part in data)
        return self.parts

    @property
    def is_due(self) -> bool:
        """Whether the rows are to be searched now; then they count as searched."""
        first = not self.searched
        due = first or (self.rows >= ENOUGH > self.searched)
        due = due or (not self.found and self.rows >= 2 * self.searched)
        if due:
            self.searched = self.rows
        return due

    @property
    def is_over(self) -> bool:
        """Whether a rate was found in enough rows."""
        return self.found and self.searched >= ENOUGH

    def after(self, usable: bool, name: str) -> Stream | None:
        """Take in what a search found; None where none is to follow."""
        self.found |= usable
        self.tell(name)
        return None if self.is_over else self

    def tell(self, name: str) -> None:
        """Warn once where so many rows gave no rate."""
        if self.found or self.told or self.rows < KEPT:
            return
        self.told = True
        warnings.warn(
            f"{name}: lr='auto' finds no rate in the first {self.rows} rows, "
            "which the model fits already; the rule's default is used until later rows give "
            "one; give rows in random order, or a number for lr",
            UserWarning,
            stacklevel=8,
        )


def _weighted(data: tuple[Any, ...]) -> tuple[Any, ...]:
    return data if len(data) > 2 else (*data, np.ones(data[0].shape[0], data[0].dtype))


def _joined(one: Any, other: Any) -> Any:
    if scipy.sparse.issparse(one) or scipy.sparse.issparse(other):
        return scipy.sparse.vstack([one, other], format="csr")
    return np.concatenate([one, other])

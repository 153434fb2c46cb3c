"""A table as it was read: its cells, where they stand, and what was decided about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from stepsize.cli.errors import RunError

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Rows", "Table", "is_filled", "pandas_here"]

Rows: TypeAlias = list[tuple[int, list[Any]]]  # the line in the file and its cells


@dataclass
class Table:
    """The columns of a file, as text where the file is text, and what was decided about them."""

    path: Path
    frame: DataFrame
    lines: list[int]  # of each row: its line in a text, else its number
    delimiter: str = ""
    notes: list[str] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)  # rows that hold nothing, where they are kept
    units: dict[str, str] = field(default_factory=dict)  # taken off the cells of these columns
    counts: str = "row"  # what the numbers of rows count: rows, or lines

    def place(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"{self.counts} {self.lines[row]}"


def is_filled(cells: list[Any]) -> bool:
    """Whether any cell of a row holds something; a number 0 does."""
    return any(cell != "" for cell in cells)


def pandas_here() -> Any:
    """The module pandas, which every table needs."""
    try:
        import pandas
    except ImportError:
        raise RunError('a table needs pandas: pip install "stepsize[table]"') from None
    return pandas

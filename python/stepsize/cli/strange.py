"""Cells that are not what a column holds otherwise: each is told with its line, or refused.

Training and predictions decide alike. A cell that holds an amount which cannot be read, such as
``<0.05`` or ``5-10``, is no gap: to fill it with the median would be to put another amount there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize.cli.errors import CommandError
from stepsize.cli.table import Table

if TYPE_CHECKING:
    from pandas import Series

__all__ = ["few", "listed", "refuse_amounts"]

_FEW_ODD = 3  # different cells that are no numbers, in a column of numbers, that count as gaps
_ODD_SHARE = 0.1
_SHOWN = 20  # cells that a note lists
_AMOUNT = re.compile(
    r"\s*(?:[<>≤≥≦≧≪≫~≈∼±=+\-\u2212]|ca\.?|approx\.?|about)*\s*[$€£¥]?\s?[.,]?\d.*", re.I
)

_BEYOND = re.compile(r"[+\-\u2212]?\d+(?:[.,]\d+)?[eE][+-]?\d+")  # what no float can hold


def few(odd: Any, words: Any, gaps: Any) -> bool:
    """Whether cells that are no numbers are so few that they are gaps among numbers."""
    return bool(len(words) <= _FEW_ODD and odd.sum() <= max(1, _ODD_SHARE * (~gaps).sum()))


def refuse_amounts(table: Table, name: str, odd: Series, what: str = "number") -> None:
    """Refuse cells that hold an amount, or a date, in another way than can be read."""
    cells = table.frame[name]
    amounts = odd & cells.map(_is_amount)
    if amounts.any():
        raise CommandError(
            f"column {name} holds {listed(table, name, amounts)} among its {what}s, which cannot "
            f"be read as a {what} and is no gap: write a {what}, or leave the cell empty where the "
            f"value is not known; --drop {name} leaves the column out of a training"
        )


def _is_amount(cell: Any) -> bool:
    text = str(cell)
    return _AMOUNT.fullmatch(text) is not None and _BEYOND.fullmatch(text) is None


def listed(table: Table, name: str, chosen: Any, write: Callable[[str], str] = repr) -> str:
    """The chosen cells, each with its line: ``'ill' (line 13), 'off' (line 20)``."""
    cells, rows = table.frame[name], np.flatnonzero(chosen)
    shown = [
        f"{write(str(cells.iloc[row]))[:40]} ({table.place(int(row))})" for row in rows[:_SHOWN]
    ]
    more = f", and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return f"{', '.join(shown)}{more}"

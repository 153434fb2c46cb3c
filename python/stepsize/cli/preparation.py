"""Preprocessing: how the columns of a table become the inputs of a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stepsize.cli.errors import CommandError
from stepsize.cli.numerals import is_gap, notation_of, number_of
from stepsize.cli.reading import Table
from stepsize.validation import counted

if TYPE_CHECKING:
    from pandas import Series

__all__ = ["Column", "column_of", "decimals_of", "encode"]

MOST_WORDS = 50
_FEW_ODD = 3  # different cells that are no numbers, in a column of numbers, that count as gaps
_ODD_SHARE = 0.1
_DATE = re.compile(
    r"\s*(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}:\d{2}(:\d{2})?"
    r"|(\d{1,2} )?(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* \d)"
)


@dataclass
class Column:
    """A column: numbers, scaled to mean 0 and deviation 1, or words, one input for each."""

    name: str
    decimal: str = "."
    words: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0

    def encode(self, cells: Series) -> NDArray[np.float64]:
        """Inputs for these cells; gaps are the mean, words that are new are none of the old."""
        if self.words:
            text = cells.map(str)
            return np.column_stack([(text == word).to_numpy(np.float64) for word in self.words])
        numbers = numbers_of(cells, self.decimal).to_numpy(np.float64)
        scaled = (numbers - self.mean) / self.deviation
        return np.where(np.isnan(scaled), 0.0, scaled)[:, None]

    def fit(self, cells: Series) -> None:
        """Take mean and deviation from these cells, those of the rows to train on."""
        if not self.words:
            self.mean, self.deviation = moments(numbers_of(cells, self.decimal).dropna())


def numbers_of(cells: Series, decimal: str) -> Series:
    """The cells as floats, NaN where a cell is none."""
    import pandas

    return pandas.to_numeric(cells.map(lambda cell: number_of(cell, decimal)), errors="coerce")


def moments(numbers: Series) -> tuple[float, float]:
    """Mean and deviation, without overflow; 0 and 1 where there is nothing to scale."""
    size = float(numbers.abs().max()) if len(numbers) else 0.0
    if size == 0:
        return 0.0, 1.0
    part = numbers.to_numpy(np.float64) / size
    return float(part.mean()) * size, float(part.std()) * size or 1.0


def encode(columns: Sequence[Column], frame: Mapping[str, Any]) -> NDArray[np.float32]:
    """The inputs that a network gets for the rows of a frame."""
    return np.column_stack([c.encode(frame[c.name]) for c in columns]).astype(np.float32)


def decimals_of(table: Table, decimal: str | None) -> dict[str, str]:
    """The decimal sign of each column, from what its cells prove, else from the other columns."""
    proofs = {name: notation_of(cells) for name, cells in table.frame.items()}
    if decimal is not None:
        for name, rows in proofs.items():
            _note_notation(table, name, rows, decimal)
        return dict.fromkeys(proofs, decimal)
    seen = {sign for rows in proofs.values() for sign in rows if len(rows) and sign in ".,"}
    found = {}
    for name, rows in proofs.items():
        if "." in rows and "," in rows:
            point, comma = (
                f"{table.frame[name].iloc[rows[sign]]} ({table.place(rows[sign])})" for sign in ".,"
            )
            raise CommandError(
                f"column {name} holds {point} and {comma}: write all its numbers one way, or say "
                "--decimal . or --decimal ,"
            )
        if "." in rows or "," in rows:
            found[name] = "." if "." in rows else ","
        elif len(seen) == 1:
            found[name] = next(iter(seen))
        elif "?," in rows and table.delimiter not in (",", ";"):
            cell, place = table.frame[name].iloc[rows["?,"]], table.place(rows["?,"])
            raise CommandError(
                f"column {name}: {cell} ({place}) may have thousands or a decimal comma: say "
                "--decimal . or --decimal ,"
            )
        else:
            # Where a comma is the decimal sign, a semicolon stands between the cells.
            found[name] = "," if "?," in rows and table.delimiter == ";" else "."
        _note_notation(table, name, rows, found[name])
    return found


def _note_notation(table: Table, name: str, rows: Mapping[str, int], decimal: str) -> None:
    first = {sign.strip("?"): row for sign, row in rows.items() if decimal == "," or sign == "?,"}
    for row in sorted(set(first.values()))[:1]:
        cell = table.frame[name].iloc[row]
        number = number_of(cell, decimal)
        read = "no number" if number is None else f"{number:.15g}"
        table.notes.append(f"column {name}: {cell} is read as {read}")


def column_of(table: Table, name: str, decimal: str) -> Column | None:
    """What a column is; None, with a note, where it says nothing; CommandError if mixed."""
    cells, notes = table.frame[name], table.notes
    gaps = cells.map(is_gap)
    numbers = numbers_of(cells, decimal)
    odd = numbers.isna() & ~gaps
    if gaps.all():
        notes.append(f"column {name} is empty, left out")
        return None
    if _counts_rows(name, numbers):
        notes.append(f"column {name} counts the rows, left out")
        return None
    if not odd.any() and not gaps.any() and len(cells) > 2 and _counts(numbers):
        notes.append(
            f"column {name} counts the rows; if it tells nothing, leave it out: --drop {name}"
        )
    words = cells[odd].map(str).unique()
    if odd.any() and (numbers.notna().sum() == 0 or not _few(odd, words, gaps)):
        return _words(table, name, odd, numbers)
    if odd.any():
        first = table.place(int(np.flatnonzero(odd)[0]))
        held = ", ".join(map(repr, words))
        notes.append(
            f"column {name}: {counted(odd.sum(), 'cell')} without a number, {held} ({first}): gaps"
        )
    if odd.any() or gaps.any():
        notes.append(f"{counted(odd.sum() + gaps.sum(), 'gap')} in {name} filled with its mean")
    if numbers.nunique() == 1 and not (odd | gaps).any():
        notes.append(f"column {name} is {numbers.iloc[0]:.6g} in every row, left out")
        return None
    return Column(name, decimal)


def _few(odd: Series, words: Sequence[str], gaps: Series) -> bool:
    return len(words) <= _FEW_ODD and odd.sum() <= max(1, _ODD_SHARE * (~gaps).sum())


def _words(table: Table, name: str, odd: Series, numbers: Series) -> Column:
    cells = table.frame[name].map(str)
    kinds = sorted(cells.unique())
    if len(kinds) > MOST_WORDS:
        first = int(np.flatnonzero(odd)[0])
        cell, place = cells.iloc[first], table.place(first)
        some = f"{odd.sum()} of its {len(odd)} cells are no numbers, the first is"
        about = f"{some} {cell!r:.40} ({place})" if numbers.notna().any() else f"as {cell!r:.40}"
        if _is_dates(cells):
            raise CommandError(
                f"column {name} holds dates or times, such as {cells.iloc[0]!r:.40}; leave it out "
                f"with --drop {name}, or write what matters of them as numbers, such as the month"
            )
        raise CommandError(
            f"column {name} holds {len(kinds)} different words; leave it out with --drop {name}, "
            f"or write numbers ({about})"
        )
    shown = ", ".join(repr(kind)[:20] for kind in kinds[:5]) + (", ..." if kinds[5:] else "")
    table.notes.append(
        f"column {name}: {counted(len(kinds), 'word')}, one input of 0 or 1 each ({shown})"
    )
    if _is_dates(cells):
        table.notes.append(f"column {name} holds dates or times; --drop {name} leaves it out")
    alike = {kind.casefold() for kind in kinds}
    if len(alike) < len(kinds):
        table.notes.append(f"column {name}: some of its words differ in capitals alone")
    return Column(name, words=tuple(kinds))


def _counts_rows(name: str, numbers: Series) -> bool:
    """Whether a column is the row numbers that spreadsheets and pandas write along."""
    key = name.lower().strip("_ ").removesuffix("s")
    if key not in ("", "id", "index", "row", "nr", "no", "unnamed: 0", "column1", "rownames"):
        return False
    return _counts(numbers)


def _counts(numbers: Series) -> bool:
    """Whether numbers are those of the rows, from 0 or 1 on."""
    first = numbers.iloc[0]
    return bool(first in (0, 1) and (numbers == np.arange(len(numbers)) + first).all())


def _is_dates(cells: Series) -> bool:
    """Whether most of the cells look like dates or times."""
    return bool(cells.map(lambda cell: bool(_DATE.match(str(cell)))).mean() > 1 / 2)

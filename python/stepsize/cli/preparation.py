"""Preprocessing: how the columns of a table become the inputs of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stepsize.cli.dates import date_of
from stepsize.cli.numerals import is_gap, number_of

if TYPE_CHECKING:
    from pandas import Series

__all__ = ["GAP", "Column", "encode", "middle", "moments", "numbers_of", "words_of"]

GAP = ""  # the word of a cell without one


@dataclass
class Column:
    """A column: numbers, scaled to mean 0 and deviation 1, or words, one input for each.

    It is kept with a model, so that the cells of other tables are read as those trained on.
    """

    name: str
    decimal: str = "."
    words: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0
    unit: str | None = None  # % or a currency, of all its numbers; None where it is not known
    codes: tuple[float, ...] = ()  # numbers that stand for a gap, such as -999
    date: str = ""  # the form of its dates, one of `dates.FORMS`
    low: float = 0.0  # the smallest and the largest number that was trained on
    high: float = 0.0
    fill: float | None = None  # for gaps: the median; None, as in older files, is the mean
    grouped: bool = False  # some of its numbers have their thousands set apart

    def numbers(self, cells: Series) -> Series:
        """The cells as floats; NaN where a cell holds none, or a code for a gap."""
        if self.date:
            return _floats(cells.map(lambda cell: date_of(cell, self.date)))
        numbers = numbers_of(cells, self.decimal)
        return numbers.mask(numbers.isin(self.codes)) if self.codes else numbers

    def encode(self, cells: Series) -> NDArray[np.float64]:
        """Inputs for these cells; gaps are the median, words that are new are none of the old."""
        if self.words:
            text = words_of(cells, self.words)
            return np.column_stack([(text == word).to_numpy(np.float64) for word in self.words])
        numbers = self.numbers(cells).to_numpy(np.float64)
        scaled = (numbers - self.mean) / self.deviation
        gap = 0.0 if self.fill is None else (self.fill - self.mean) / self.deviation
        return np.where(np.isnan(scaled), gap, scaled)[:, None]

    def fit(self, cells: Series) -> None:
        """Take mean, deviation, median and range from these cells, of the rows to train on."""
        numbers = self.numbers(cells).dropna()
        if not self.words and len(numbers):
            self.mean, self.deviation = moments(numbers)
            self.fill = middle(numbers)
            self.low, self.high = float(numbers.min()), float(numbers.max())


def words_of(cells: Series, known: Sequence[str] = ()) -> Series:
    """The cells as words; a gap, however written, is `GAP`, unless it is a word that is known."""
    return cells.map(lambda c: GAP if is_gap(c) and str(c) not in known else str(c))


def numbers_of(cells: Series, decimal: str) -> Series:
    """The cells as floats, NaN where a cell is none."""
    return _floats(cells.map(lambda cell: number_of(cell, decimal)))


def _floats(values: Series) -> Series:
    import pandas

    return pandas.to_numeric(values, errors="coerce").astype(np.float64)


def moments(numbers: Series) -> tuple[float, float]:
    """Mean and deviation, without overflow; 0 and 1 where there is nothing to scale."""
    size = float(numbers.abs().max()) if len(numbers) else 0.0
    if size == 0:
        return 0.0, 1.0
    part = numbers.to_numpy(np.float64) / size
    return float(part.mean()) * size, float(part.std()) * size or 1.0


def middle(numbers: Series) -> float:
    """The number in the middle, without overflow."""
    size = float(numbers.abs().max())
    return float((numbers / size).median()) * size if size > 1e300 else float(numbers.median())


def encode(columns: Sequence[Column], frame: Mapping[str, Any]) -> NDArray[np.float32]:
    """The inputs that a network gets for the rows of a frame."""
    return np.column_stack([c.encode(frame[c.name]) for c in columns]).astype(np.float32)

"""A clean table, and the ways to write it into files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence

import numpy as np

ROWS = 120
NAMES = ("age", "height", "income", "city", "bought")
CITIES = ("Oslo", "Zürich", "Köln")


def clean(rows: int = ROWS) -> dict[str, list[str]]:
    """The cells of the clean table; what was bought follows from age, income and city."""
    rng = np.random.default_rng(20)
    age, height = rng.integers(18, 80, rows), rng.normal(1.72, 0.1, rows)
    income, city = rng.gamma(4, 900, rows) + 1000, rng.integers(0, 3, rows)
    score = (age - 48) / 15 + (income - 4600) / 1800 + (city - 1) + rng.normal(0, 0.3, rows)
    return {
        "age": [str(n) for n in age],
        "height": [f"{n:.2f}" for n in height],
        "income": [f"{n:.2f}" for n in income],
        "city": [CITIES[n] for n in city],
        "bought": ["yes" if n > 0 else "no" for n in score],
    }


def text(
    columns: dict[str, Sequence[str]], sep: str = ",", end: str = "\n", head: bool = True
) -> str:
    """The table as CSV; a cell that holds the separator must bring its quotes."""
    rows = [sep.join(cells) for cells in zip(*columns.values(), strict=True)]
    return end.join([sep.join(columns), *rows] if head else rows) + end


def changed(column: str, cell: str, *rows: int, **other: str) -> dict[str, list[str]]:
    """The clean table with this cell in some rows of a column."""
    table = clean()
    for row in rows:
        table[column][row] = cell
    return table


def each(column: str, write: Callable[[str], str]) -> dict[str, list[str]]:
    """The clean table with every cell of a column written in another way."""
    table = clean()
    table[column] = [write(cell) for cell in table[column]]
    return table


def with_column(name: str, cells: Sequence[object], place: int = 0) -> dict[str, list[str]]:
    """The clean table with one column more."""
    items = list(clean().items())
    items.insert(place, (name, [str(cell) for cell in cells]))
    return dict(items)


def comma(cell: str) -> str:
    return cell.replace(".", ",")


def quoted(cell: str) -> str:
    return f'"{cell}"'


def grouped(cell: str) -> str:
    return f"{float(cell):,.2f}"


def sheet(*sheets: tuple[str, list[list[object]]]) -> bytes:
    """A workbook of Excel."""
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets:
        page = book.create_sheet(name)
        for row in rows:
            page.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def typed(table: dict[str, list[str]]) -> list[list[object]]:
    """The rows of a table with numbers as numbers."""
    rows: list[list[object]] = [list(table)]
    for age, height, income, city, bought in zip(*table.values(), strict=True):
        whole: object = int(age) if isinstance(age, str) else age
        rows.append([whole, float(height), float(income), city, bought])
    return rows


def records(table: dict[str, list[str]]) -> list[dict[str, object]]:
    head, *rows = typed(table)
    return [dict(zip(map(str, head), row, strict=True)) for row in rows]


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, data in files.items():
            packed.writestr(name.replace("_", "."), data)
    return file.getvalue()


def parquet(table: dict[str, list[str]]) -> bytes:
    import pandas

    file = io.BytesIO()
    pandas.DataFrame(records(table)).to_parquet(file)
    return file.getvalue()

"""Tables that are not text: .npz, .parquet, sheets of Excel, and records of JSON."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepsize.cli.errors import CommandError, FileError, RunError
from stepsize.cli.table import Rows, Table, pandas_here
from stepsize.validation import counted

__all__ = ["json_table", "npz_table", "parquet_table", "sheet_rows"]


def npz_table(path: Path) -> Table:
    """The arrays of a file, each a column, or a column for each of its columns."""
    columns: dict[str, list[Any]] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for name in getattr(arrays, "files", ()):
                _add_array(columns, path, name, arrays[name])
    except CommandError:
        raise
    except (
        *(ArithmeticError, EOFError, LookupError, MemoryError, NotImplementedError, OSError),
        *(RecursionError, RuntimeError, SyntaxError, TypeError, ValueError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileError(f"{path} cannot be read as .npz: {why}") from None
    if not columns:
        raise FileError(f"{path} holds no array")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise CommandError(f"the arrays of {path} differ in length: {lengths}")
    frame = pandas_here().DataFrame(columns)
    return Table(path, frame, list(range(len(frame))))


def _add_array(columns: dict[str, list[Any]], path: Path, name: str, array: Any) -> None:
    if array.ndim == 0 or array.dtype.kind not in "biufUS":
        what = "is one number" if array.ndim == 0 else f"has dtype {array.dtype}"
        raise CommandError(f"{path}: {name} {what}; it takes arrays of rows of numbers or text")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    flat = array.reshape(len(array), -1) if array.size else array.reshape(len(array), 0)
    for i in range(flat.shape[1]):
        column = name if array.ndim == 1 else f"{name}{i}"
        if column in columns:
            raise CommandError(f"{path}: two columns are named {column}; rename an array")
        columns[column] = flat[:, i].tolist()


def parquet_table(path: Path) -> Table:
    """The columns of a file in the format Parquet."""
    pandas, notes = pandas_here(), list[str]()
    try:
        frame = pandas.read_parquet(path)
    except ImportError:
        raise RunError('reading parquet needs: pip install "stepsize[table]"') from None
    except Exception as error:  # of whatever kind pyarrow raises: the file is damaged
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileError(f"{path} cannot be read as .parquet: {why}") from None
    frame.columns = [str(name) for name in frame.columns]
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise CommandError(f"{path} has several columns named {repeated[0]}: rename all but one")
    for name in frame.columns:
        if frame[name].dtype.kind == "m":  # durations, which pandas writes as words
            frame[name] = frame[name].dt.total_seconds()
            notes.append(f"column {name} holds durations, read as seconds")
    _refuse_nested(path, frame, range(len(frame)), "row")
    return Table(path, frame, list(range(len(frame))), notes=notes)


# -- sheets and records ------------------------------------------------------------------------


def sheet_rows(path: Path, data: bytes, known: Sequence[str], notes: list[str]) -> Rows:
    """The rows of the sheet that holds the known names, else of the first that is not empty."""
    pandas = pandas_here()
    try:
        sheets = pandas.read_excel(io.BytesIO(data), sheet_name=None, header=None, dtype=object)
    except ImportError:
        raise RunError(f'reading {path.suffix} needs: pip install "stepsize[table]"') from None
    except Exception as error:  # of whatever kind its reader raises: the file is damaged
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileError(f"{path} cannot be read as {path.suffix}: {why}") from None
    rows = {str(name): _filled_rows(frame) for name, frame in sheets.items()}
    rows = {name: there for name, there in rows.items() if there}
    if not rows:
        raise FileError(f"{path} is empty; save the table again")
    having = [
        name for name, there in rows.items() if any(set(known) & set(c) for _, c in there[:30])
    ]
    chosen = having[0] if known and having else next(iter(rows))
    if len(rows) > 1:
        others = ", ".join(repr(name) for name in rows if name != chosen)
        why = f"the first that holds {known[0]}" if having and known else "the first"
        notes.append(f"sheet {chosen!r} is read, {why}; left out: {others:.200}")
    return rows[chosen]


def _filled_rows(frame: Any) -> Rows:
    """The rows that hold something, each with its number in the sheet; texts without spaces."""
    rows = [
        (number, [_cell(value) for value in values])
        for number, values in enumerate(frame.itertuples(index=False), 1)
    ]
    return [(number, cells) for number, cells in rows if any(cell != "" for cell in cells)]


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if hasattr(value, "isoformat"):
        return value.isoformat().removesuffix("T00:00:00")
    return " ".join(value.split()) if isinstance(value, str) else value


def json_table(path: Path, text: str, notes: list[str]) -> Table:
    """Records, one a line or in a list, or columns by name; nested names are joined by a point."""
    lines = text.split("\n")
    filled = [i for i, line in enumerate(lines, 1) if line.strip()]
    counts = "row"
    try:
        value = _loaded(path, text, "")
    except json.JSONDecodeError as whole:
        value, counts = [], "line"
        for number in filled:
            try:
                value.append(_loaded(path, lines[number - 1], f" line {number}"))
            except json.JSONDecodeError as error:
                one = number == filled[0]  # a document of many lines, broken somewhere
                place = (
                    f"line {whole.lineno}: {whole.msg}" if one else f"line {number}: {error.msg}"
                )
                raise FileError(f"{path} {place}; it is no JSON: mend it there") from None
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = _named(path, value)
    frame = _frame_of(path, value)
    if not len(frame):
        raise FileError(f"{path} is empty: it holds no record")
    numbers = filled if counts == "line" else list(range(1, len(frame) + 1))
    _refuse_nested(path, frame, numbers, counts)
    return Table(path, frame, numbers, notes=notes, counts=counts)


def _refuse_nested(path: Path, frame: Any, numbers: Iterable[int], counts: str) -> None:
    """Refuse cells that hold several values."""
    for name in frame.columns:
        if frame[name].dtype != object:
            continue
        for row, cell in zip(numbers, frame[name], strict=True):
            if isinstance(cell, list | dict | np.ndarray):
                raise CommandError(
                    f"{path}: column {name} holds {str(cell)!r:.40} ({counts} {row}), which is "
                    "neither number nor text; write one value in a cell, or delete the column"
                )


def _loaded(path: Path, text: str, place: str) -> Any:
    """The value of a JSON text; a name that is there twice would lose its first value."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            name = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise CommandError(
                f"{path}{place} holds a record with two values named {name}: rename all but one"
            )
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise FileError(f"{path}{place} is nested too deeply for a table; write records") from None


def _named(path: Path, value: dict[str, Any]) -> Any:
    """The records of lists of cells below one list of names; other lists as they are."""
    names, rows = value.get("columns"), value["data"]
    if not isinstance(names, list):
        return rows
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != len(names):
            count = len(row) if isinstance(row, list) else 1
            raise CommandError(
                f"{path} row {number}: {counted(count, 'cell')}, expected {len(names)} "
                f"({', '.join(map(str, names))!s:.80}); mend or delete it"
            )
    return [dict(zip(map(str, names), row, strict=True)) for row in rows]


def _frame_of(path: Path, value: Any) -> Any:
    pandas = pandas_here()
    if isinstance(value, list) and all(isinstance(record, dict) for record in value):
        return pandas.json_normalize(value).astype(object)
    if isinstance(value, dict) and value:
        kinds = {type(column) for column in value.values()}
        if kinds == {list}:
            lengths = {name: len(column) for name, column in value.items()}
            if len(set(lengths.values())) != 1:
                raise CommandError(f"the columns of {path} differ in length: {lengths!s:.200}")
            return pandas.DataFrame(value, dtype=object)
        if kinds == {dict}:  # as pandas writes them: each column by its rows
            return pandas.DataFrame(value, dtype=object)
    raise CommandError(
        f"{path} holds {type(value).__name__}, expected a list of records, such as "
        '[{"x": 1, "y": 2}], one record a line, or lists by name'
    )

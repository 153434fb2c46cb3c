"""Files of rows and columns: .csv, .tsv, .npz and .parquet, with the lines that cells stand in.

Text is split by the csv module and not by pandas, which fills short rows without a word and does
not say in which line a cell stood; all that follows is pandas' work.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize.cli.decoding import decoded
from stepsize.cli.errors import CommandError, FileError
from stepsize.cli.numerals import is_numeral
from stepsize.serialization.container import is_ours
from stepsize.validation import counted

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ENDINGS", "Table", "is_stream", "read_table"]

ENDINGS = (".csv", ".tsv", ".npz", ".parquet")

Rows = list[tuple[int, list[str]]]  # the line in the file and its cells


@dataclass
class Table:
    """The columns of a file, as text where the file is text, and what was decided about them."""

    path: Path
    frame: DataFrame
    lines: list[int]  # of each row: its line in a text, else its number from 0
    delimiter: str = ""
    notes: list[str] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)  # rows that hold nothing, where they are kept

    def place(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"line {self.lines[row]}" if self.delimiter else f"row {self.lines[row]}"


def is_stream(path: Path) -> bool:
    """Whether a table is text that comes from standard input, written -, or through a pipe."""
    if str(path) == "-" or path.is_fifo() or path.is_char_device():
        return True
    return path.is_file() and str(path).startswith(("/dev/", "/proc/self/fd/"))


def read_table(path: Path, known: Sequence[str] = (), keep_blank: bool = False) -> Table:
    """The columns of a file, or of text from a pipe or from standard input, written -.

    CommandError names the line or array that cannot be used. A first line that holds one of the
    `known` names is a header. Rows without a value are left out, or, with `keep_blank`, kept.
    """
    stream = is_stream(path)
    if not stream and not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "is not a file"
        if not path.exists():
            what = "does not exist: no such file"
        raise FileError(f"{path} {what}")
    _pandas()  # without it, the first thing to say
    if str(path) == "-":
        return _text(Path("standard input"), known, _standard_input(), keep_blank)
    ending = path.suffix.lower()
    if stream or ending in (".csv", ".tsv"):
        return _text(path, known, _bytes_of(path), keep_blank)
    if ending not in ENDINGS:
        what = "is a checkpoint of stepsize, not a table" if is_ours(path) else "is no table"
        raise FileError(
            f"{path} {what}; expected {', '.join(ENDINGS)}, or - for text from standard input"
        )
    return (_npz if ending == ".npz" else _parquet)(path)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from None


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise FileError("there is no standard input to read the table from; give a file")
    data = getattr(sys.stdin, "buffer", sys.stdin).read()
    return data if isinstance(data, bytes) else str(data).encode()


# -- text --------------------------------------------------------------------------------------


def _text(path: Path, known: Sequence[str], data: bytes, keep_blank: bool) -> Table:
    notes: list[str] = []
    text = decoded(path, data, notes)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text)
    rows = _rows(path, text, delimiter, notes, keep_blank)
    if not rows:
        raise FileError(f"{path} is empty")
    header, body = _header(rows, known, notes)
    if not body:
        raise CommandError(f"{path} holds no rows below its header")
    header, body = _rectangular(path, header, body, notes)
    names = _names(path, header, known, notes)
    blank = [row for row, (_, cells) in enumerate(body) if not any(cells)]
    frame = _pandas().DataFrame([cells for _, cells in body], columns=names, dtype=object)
    return Table(path, frame, [line for line, _ in body], delimiter, notes, blank)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise CommandError('a table needs pandas: pip install "stepsize[table]"') from None
    return pandas


def _delimiter(text: str) -> str:
    """The sign between the cells: one that splits the first lines alike, rare ones first."""
    lines = [line for line in text.splitlines()[:50] if line.strip() and not line.startswith("#")]
    best, widest = ",", 1
    for sign in ("\t", ";", "|", ","):
        widths = [len(row) for row in csv.reader(lines, delimiter=sign, skipinitialspace=True)]
        if not widths or widths[0] < 2:
            continue
        if max(widths) - min(widths) <= 1:
            return sign
        if widths[0] > widest:
            best, widest = sign, widths[0]
    return best


def _rows(path: Path, text: str, delimiter: str, notes: list[str], keep_blank: bool) -> Rows:
    """The rows, and the lines they begin in; one that holds nothing is empty, where it is kept."""
    csv.field_size_limit(sys.maxsize)
    lines = list(io.StringIO(text, newline=""))  # no other sign than these ends a line
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows: Rows = []
    comments: Rows = []
    empty: list[str] = []
    start = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not rows and cells and cells[0].startswith("#"):
                comments.append((start, cells))
            elif any(cells):
                rows.append((start, cells))
            elif rows and (cells or keep_blank):
                rows.append((start, []))
                empty.append(str(start) if len(cells) > 1 or keep_blank else "")
            last, start = start, reader.line_num + 1
    except csv.Error as error:
        raise CommandError(f"{path} line {reader.line_num}: {error}") from None
    if rows and last < reader.line_num:
        _check_quotes(path, lines[last - 1 :], last, delimiter)
    while keep_blank and rows and not rows[-1][1] and not lines[rows[-1][0] - 1].strip():
        rows.pop()  # empty lines at the end are the end
        empty.pop()
    if comments and rows and len(comments[-1][1]) == len(rows[0][1]) > 1:
        line, names = comments.pop()  # a header that begins with the sign of a comment
        rows.insert(0, (line, [names[0].lstrip("# "), *names[1:]]))
    if comments:
        notes.append(
            f"{counted(len(comments), 'line')} that "
            f"{'begins' if len(comments) == 1 else 'begin'} with # left out"
        )
    empty = [line for line in empty if line]
    if empty:
        what = "an empty answer" if keep_blank else "left out"
        notes.append(f"no value in line {_listed(empty)}: {what}")
    return rows if keep_blank else [(line, cells) for line, cells in rows if cells]


def _check_quotes(path: Path, lines: list[str], start: int, delimiter: str) -> None:
    """Refuse a last row whose quote is never closed: it would hold the rest of the file."""
    try:
        list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise CommandError(
                f"{path} line {start}: a quote opens here that is never closed; close it, or "
                "delete it"
            ) from None


def _header(rows: Rows, known: Sequence[str], notes: list[str]) -> tuple[list[str], Rows]:
    """The names of the columns and the rows below; without a header the columns are numbered."""
    first, below = rows[0][1], rows[1:]
    if set(known) & set(first):
        return first, below
    numbered = bool(known) and all(re.fullmatch(r"column\d+", name) for name in known)
    if not numbered and not any(map(is_numeral, first)):
        return first, below
    # A row of data among data: its words occur again below it, its numbers stand above numbers.
    sample = below[:200]
    for i, cell in enumerate(() if numbered else first):
        column = [cells[i] for _, cells in sample if i < len(cells)]
        numbers = sum(map(is_numeral, column))
        data = 2 * numbers > len(column) if is_numeral(cell) else not cell or cell in column
        if not data:
            return first, below
    names = [f"column{i + 1}" for i in range(len(first))]
    notes.append(f"line {rows[0][0]} holds data: no header, the columns are {_listed(names)}")
    return names, rows


def _row_names(cells: list[str]) -> bool:
    """Whether cells name rows, as R writes them: each another text, or whole numbers in a row."""
    try:
        numbers = [float(cell) for cell in cells if cell]
    except ValueError:
        return len(set(cells)) == len(cells)
    return all(after - before == 1 for before, after in itertools.pairwise(numbers))


def _rectangular(
    path: Path, header: list[str], body: Rows, notes: list[str]
) -> tuple[list[str], Rows]:
    """As many cells in each row as names; a row of another width is named."""
    width = len(header)
    body = [(line, cells or [""] * width) for line, cells in body]
    full = [cells for _, cells in body if any(cells)]
    if {len(cells) for cells in full} == {width + 1}:
        body = [(line, cells if any(cells) else [""] * (width + 1)) for line, cells in body]
        if not any(cells[-1] for cells in full):
            return header, [(line, cells[:-1]) for line, cells in body]
        if not _row_names([cells[0] for cells in full]):
            raise CommandError(
                f"{path}, line {body[0][0]}: every row has one cell more than the {width} names of "
                "the header, and the first cells are no names of rows; give each column a name"
            )
        notes.append("the rows have one cell more than the header: the first one is a row's name")
        return header, [(line, cells[1:]) for line, cells in body]
    while width > 1 and not header[width - 1] and all(not any(c[width - 1 :]) for _, c in body):
        width -= 1  # empty columns at the right end, as spreadsheets leave them
    for line, cells in body:
        if len(cells) != len(header) and (len(cells) < width or any(cells[width:])):
            raise CommandError(
                f"{path} line {line}: {counted(len(cells), 'cell')}, expected {len(header)} "
                f"({_listed(header)}); mend or delete the line, or put quotes around cells "
                "that hold the separator"
            )
    return header[:width], [(line, cells[:width]) for line, cells in body]


def _names(path: Path, header: list[str], known: Sequence[str], notes: list[str]) -> list[str]:
    """Names that are there and differ."""
    count = Counter(header)
    for name in known:
        if count[name] > 1 and f"{name}.2" not in known:
            raise CommandError(f"{path} has {count[name]} columns named {name}: rename all but one")
    names: list[str] = []
    for i, name in enumerate(header, 1):
        new = name or f"column{i}"
        k = 2
        while new in names or (new != name and new in count):
            new = f"{name or f'column{i}'}.{k}"
            k += 1
        if new != name:
            what = f"a second column named {name}" if name else f"column {i} without a name"
            notes.append(f"{what} is called {new}")
        names.append(new)
    return names


def _listed(names: list[str]) -> str:
    """A few names, the last one too."""
    shown = names if len(names) <= 6 else [*names[:5], "...", names[-1]]
    return ", ".join(shown)


# -- arrays ------------------------------------------------------------------------------------


def _npz(path: Path) -> Table:
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
    frame = _pandas().DataFrame(columns)
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


def _parquet(path: Path) -> Table:
    pandas = _pandas()
    try:
        frame = pandas.read_parquet(path)
    except ImportError:
        raise CommandError('reading parquet needs: pip install "stepsize[table]"') from None
    except Exception as error:  # of whatever kind pyarrow raises: the file is damaged
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileError(f"{path} cannot be read as .parquet: {why}") from None
    frame.columns = [str(name) for name in frame.columns]
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise CommandError(f"{path} has several columns named {repeated[0]}: rename all but one")
    return Table(path, frame, list(range(len(frame))))

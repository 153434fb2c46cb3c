"""Files of rows and columns, whatever their format, with the lines that cells stand in."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from stepsize.cli.decoding import decoded, unpacked
from stepsize.cli.errors import CommandError, FileError
from stepsize.cli.formats import json_table, npz_table, parquet_table, sheet_rows
from stepsize.cli.layout import header_of, joined_names, names_of, rectangular, without_units
from stepsize.cli.splitting import delimiter_of, split
from stepsize.cli.table import Rows, Table, is_filled, pandas_here
from stepsize.cli.totals import without_headers, without_totals
from stepsize.serialization.container import is_ours

__all__ = ["ENDINGS", "KINDS", "Table", "is_stream", "read_table"]

_TEXTS = (".csv", ".tsv", ".txt", ".dat", ".data")
_RECORDS = (".json", ".jsonl", ".ndjson")
_SHEETS = (".xlsx", ".xls", ".ods")
_PACKED = tuple(
    f"{kind}{packer}" for kind in _TEXTS + _RECORDS for packer in (".gz", ".bz2", ".xz")
)
ENDINGS = (*_TEXTS, *_RECORDS, *_SHEETS, ".npz", ".parquet", *_PACKED, ".zip")
_WEB_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
KINDS = ".csv, .tsv, .txt, .xlsx, .json, .jsonl, .parquet, .npz, text also as .gz or .zip"


def is_stream(path: Path) -> bool:
    """Whether a table is text that comes from standard input, written -, or through a pipe."""
    if str(path) == "-" or path.is_fifo() or path.is_char_device():
        return True
    return path.is_file() and str(path).startswith(("/dev/", "/proc/self/fd/"))


def read_table(
    path: Path, known: Sequence[str] = (), keep_blank: bool = False, encoding: str | None = None
) -> Table:
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
    pandas_here()  # without it, the first thing to say
    ending = path.suffix.lower()
    if not stream and not path.name.lower().endswith(ENDINGS):
        what = "is a checkpoint of stepsize, not a table" if is_ours(path) else "is no table"
        raise FileError(f"{path} {what}; expected {KINDS}, or - for text from standard input")
    if not stream and ending in (".npz", ".parquet"):
        return (npz_table if ending == ".npz" else parquet_table)(path)
    if str(path) == "-":
        path, data = Path("standard input"), _standard_input()
    else:
        data = _bytes_of(path)
    notes: list[str] = []
    inner, data = unpacked(path, data, notes)
    if inner.suffix.lower() in (".npz", ".parquet"):
        raise FileError(f"{path} holds a packed {inner.suffix}; unpack it and give the file")
    if _WEB_PAGE.match(data[:200]):
        raise FileError(f"{path} holds a web page (HTML), not its table: save the file it links to")
    if inner.suffix.lower() in _SHEETS:
        if not data:
            raise FileError(f"{path} is empty; save the table again")
        rows = sheet_rows(inner, data, known, notes)
        return _arranged(path, rows, "", known, notes, keep_blank)
    text = decoded(path, data, notes, encoding)
    if inner.suffix.lower() in _RECORDS or _looks_like_records(inner, text):
        return json_table(path, text, notes)
    delimiter = "\t" if inner.suffix.lower() == ".tsv" else delimiter_of(text)
    rows = split(path, text, delimiter, notes, keep_blank)
    return _arranged(path, rows, delimiter, known, notes, keep_blank)


def _looks_like_records(path: Path, text: str) -> bool:
    """Whether a stream, whose name says nothing, holds JSON."""
    return path.suffix == "" and text.lstrip()[:1] in ("{", "[") and '":' in text[:10_000]


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


def _arranged(
    path: Path, rows: Rows, delimiter: str, known: Sequence[str], notes: list[str], blank: bool
) -> Table:
    """The table that rows of cells are: names above, and as many cells in each row."""
    if not rows:
        raise FileError(f"{path} is empty; save the table again")
    counts = "line" if delimiter else "row"
    header, body = header_of(rows, known, notes, counts)
    if not body:
        raise CommandError(f"{path} holds no rows below its header; add rows")
    header, body = joined_names(header, body, notes, counts)
    header, body = rectangular(path, header, body, notes, counts)
    body = without_headers(header, body, notes, counts)
    header = [" ".join(name.split()) for name in header]
    names = names_of(path, header, known, notes)
    body = without_units(names, body, notes, counts)
    body = without_totals(path, names, body, notes, counts)
    empty = [row for row, (_, cells) in enumerate(body) if not is_filled(cells)]
    frame = pandas_here().DataFrame([cells for _, cells in body], columns=names, dtype=object)
    return Table(path, frame, [line for line, _ in body], delimiter, notes, empty, counts=counts)

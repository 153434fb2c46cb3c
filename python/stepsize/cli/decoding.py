"""The text of a file: unpacked, in which encoding, and signs that only look like spaces."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from stepsize.cli.errors import CommandError, FileError
from stepsize.names import did_you_mean

__all__ = ["decoded", "unpacked"]

_MARKS = {  # the longer one first: the mark of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2007\u202f\u2009\u3000"), " ")
_NOTHING = dict.fromkeys(  # of no width, and marks of the direction of writing
    [
        *map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufeff"),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ]
)
_PACKED: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"BZh": ("bzip2", bz2.decompress),
    b"\xfd7zXZ\0": ("xz", lzma.decompress),
}
_PACKERS = (".gz", ".bz2", ".xz", ".zip")
_ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1", "cp1251", "gb18030", "shift_jis", "euc_kr")


def unpacked(path: Path, data: bytes, notes: list[str]) -> tuple[Path, bytes]:
    """The name and the contents of a packed file; others as they are."""
    name = Path(path.stem) if path.suffix.lower() in _PACKERS else path
    try:
        for mark, (kind, unpack) in _PACKED.items():
            if data.startswith(mark):
                data = unpack(data)
                notes.append(f"unpacked from {kind}")
                return name, data
        if data.startswith(b"PK\3\4") and path.suffix.lower() not in (".xlsx", ".ods", ".npz"):
            return _from_zip(path, data, notes)
    except (EOFError, OSError, RuntimeError, lzma.LZMAError, zipfile.BadZipFile, zlib.error) as e:
        raise FileError(f"{path} is damaged: it cannot be unpacked ({e}); save it again") from None
    return name, data


def _from_zip(path: Path, data: bytes, notes: list[str]) -> tuple[Path, bytes]:
    """The only file in a zip archive; a sheet of Excel, whatever its name, is one file."""
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        names = [
            name
            for name in packed.namelist()
            if not name.endswith("/") and not name.startswith("__MACOSX/")
        ]
        if "[Content_Types].xml" in names:
            notes.append("it holds a workbook of Excel, whatever its name, and is read as one")
            return path.with_suffix(".xlsx"), data
        if len(names) != 1:
            shown = ", ".join(names[:5]) + (", ..." if names[5:] else "")
            raise FileError(
                f"{path} holds {len(names)} files{f' ({shown})' if names else ''}, expected one "
                "table; unpack it and give the file"
            )
        notes.append(f"{names[0]} unpacked from zip")
        return Path(names[0]), packed.read(names[0])


def decoded(path: Path, data: bytes, notes: list[str], encoding: str | None = None) -> str:
    """The text: in the encoding that is given, else UTF with its mark, UTF-8 or Windows-1252."""
    text = _text_of(path, data, notes) if encoding is None else _as_told(path, data, encoding)
    plain = text.translate(_SPACES | _NOTHING)
    if plain != text:
        first = next(i for i, sign in enumerate(text) if ord(sign) in _SPACES | _NOTHING)
        line = text.count("\n", 0, first) + 1
        notes.append(f"signs that cannot be seen (the first in line {line}) are read as spaces")
    return plain


def _as_told(path: Path, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        line = data.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise CommandError(
            f"--encoding {encoding}: {path} line {line} holds a byte that is not of it "
            f"({getattr(error, 'reason', error)}); give another"
        ) from None
    except LookupError:
        raise CommandError(
            f"--encoding {encoding}: no such encoding of text; {did_you_mean(encoding, _ENCODINGS)}"
        ) from None


def _text_of(path: Path, data: bytes, notes: list[str]) -> str:
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            notes.append(f"read as {encoding.upper()}")
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                line = data.decode(encoding, "replace").count("\n") + 1
                raise FileError(
                    f"{path} is damaged: it begins as {encoding.upper()} and does not go on as it "
                    f"({error.reason}, at byte {error.start} of {line} lines); save it again"
                ) from None
    if b"\0" in data:
        return _without_mark(path, data, notes)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    loose = data.decode("utf-8", "replace")
    wrong = loose.count("\ufffd")
    if sum(not sign.isascii() for sign in loose) > 2 * wrong:
        raise FileError(
            f"{path} line {line}: a byte that is not UTF-8, in a text that is it otherwise; mend "
            "the line, or save the file again"
        )
    notes.append(
        f"not UTF-8 (line {line}): read as Windows-1252, as older programs write; where its words "
        "look wrong, say which it is: --encoding NAME"
    )
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _without_mark(path: Path, data: bytes, notes: list[str]) -> str:
    """Text with zero bytes: UTF-16 that lacks its mark, where every other byte is one."""
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        sample = data[first:4096:2]
        if sample and sample.count(0) > 0.9 * len(sample) and len(data) % 2 == 0:
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            if "\0" not in text:
                notes.append(f"read as {encoding.upper()}, which it does not say")
                return text
    raise FileError(f"{path} is no text: it holds a zero byte; save it as CSV in UTF-8")

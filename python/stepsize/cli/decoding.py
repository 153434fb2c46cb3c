"""The text of a file: which encoding it is in, and signs that only look like spaces."""

from __future__ import annotations

import codecs
from pathlib import Path

from stepsize.cli.errors import FileError

__all__ = ["decoded"]

_MARKS = {  # the longer one first: the mark of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2007\u202f\u2009\u3000"), " ")
_NOTHING = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))


def decoded(path: Path, data: bytes, notes: list[str]) -> str:
    """The text: UTF-8, UTF-16 or UTF-32 with its mark, else Windows-1252."""
    text = _text_of(path, data, notes)
    plain = text.translate(_SPACES | _NOTHING)
    if plain != text:
        first = next(i for i, sign in enumerate(text) if ord(sign) in _SPACES | _NOTHING)
        line = text.count("\n", 0, first) + 1
        notes.append(f"signs that cannot be seen (the first in line {line}) are read as spaces")
    return plain


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
        raise FileError(f"{path} is no text: it holds a zero byte; save it as CSV in UTF-8")
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
    notes.append(f"not UTF-8 (line {line}): read as Windows-1252, as older programs write")
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")

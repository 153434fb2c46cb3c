"""Standard output and error: on terminals that know few signs, closed, or kept for JSON."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["end_of_reading", "kept_for_json", "output", "spell_out", "write_out"]

_ASCII = {
    **dict(zip("▁▂▃▄▅▆▇█", "_.-~=+*#", strict=True)),
    "─": "-",
    "│": "|",
    "└": "+",
    "×": "x",
    "·": ".",
    "²": "^2",
    "’": "'",
}


def spell_out() -> None:
    """Print signs that the terminal cannot show by signs that it can, rather than fail."""
    codecs.register_error("stepsize", _spelt)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: what is printed for it must not go elsewhere
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="stepsize")


_kept: list[Any] = []  # standard output, while all but JSON goes to standard error


@contextlib.contextmanager
def kept_for_json(wanted: bool) -> Iterator[None]:
    """Where `wanted`, print to standard error what anything prints but `write_out`.

    So a model file that prints, or a library, does not stand before the JSON object.
    """
    if not wanted:
        yield
        return
    _kept.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _kept.pop()


def write_out(text: str) -> None:
    """Write the result of a command to standard output."""
    stream = output()
    stream.write(text)
    stream.flush()


def output() -> Any:
    """Standard output, for the result of a command."""
    return _kept[-1] if _kept else sys.stdout


def end_of_reading() -> None:
    """Turn standard output, which can take no more, to nowhere: or Python fails as it ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_ASCII.get(sign) or _dots(sign) for sign in text), error.end


def _dots(sign: str) -> str:
    """A star for the dots that curves are drawn with; the code of any other sign."""
    dots = ord(sign) - 0x2800
    if not 0 <= dots < 256:
        return sign.encode("ascii", "backslashreplace").decode()
    return "*" if dots else " "

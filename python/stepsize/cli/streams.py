"""Standard output and error on terminals that know few signs."""

from __future__ import annotations

import codecs
import sys

__all__ = ["spell_out"]

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
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="stepsize")


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

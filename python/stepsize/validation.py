"""Arguments: what is allowed is checked in one place, and refused in one text for each kind.

Every check takes a label, such as ``"fit: epochs"``, and the value, and returns the value in its
plain Python type.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import operator
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST_WINDOW = 2**31 - 1  # of numbers that are kept


def refusal(label: str, allowed: str, value: object, move: str = "") -> ValueError:
    """The error that names the argument, what it may be, what it was and the next move."""
    return ValueError(f"{label} must be {allowed}, got {value!r:.200}{'; ' if move else ''}{move}")


def numeric(label: str, value: Any, dtype: Any = float) -> NDArray[Any]:
    """The numbers as an array of their own, of a dtype or theirs; TypeError for anything else.

    Example:
        >>> numeric("quadratic: start", "low")
        Traceback (most recent call last):
        ...
        TypeError: quadratic: start must be an array of numbers, got 'low'
    """
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        found = np.asarray(value)
        if found.dtype.kind in "fiu" or found.dtype.name == "bfloat16":
            return found.astype(found.dtype if dtype is None else dtype)
    raise TypeError(f"{label} must be an array of numbers, got {value!r:.200}")


def whole(label: str, value: Any, least: int = 1, most: int | None = None, move: str = "") -> int:
    """The whole number, of Python or NumPy, as an int; ValueError for anything else.

    Example:
        >>> whole("fit: epochs", 0)
        Traceback (most recent call last):
        ...
        ValueError: fit: epochs must be a whole number >= 1, got 0
    """
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is not None and most is not None and count > most:
        raise refusal(label, f"a whole number from {least} to {most}", value, move)
    if count is None or count < least:
        raise refusal(label, f"a whole number >= {least}", value, move)
    return int(count)


def real(label: str, value: Any, kinds: str = "a number") -> float:
    """The number, of any library, as a float; TypeError for anything else, text and truth too."""
    masked = type(value).__name__ == "MaskedConstant"  # of which item() makes 0
    if getattr(value, "ndim", None) == 0 and not masked:  # an array of one number, of any library
        value = value.item()
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # an int of more than 1024 bits
            return math.inf if abs(value) == value else -math.inf
    raise TypeError(f"{label} must be {kinds}, got {value!r:.200} ({type(value).__name__})")


def as_float(value: Any) -> float:
    """``float(value)`` of a number of any library; text that reads as a number is none.

    Example:
        >>> as_float(3), as_float(0.5)
        (3.0, 0.5)
        >>> as_float("1")
        Traceback (most recent call last):
        ...
        TypeError: text is no number: '1'
    """
    if type(value) is float:
        return value
    if is_text(value):
        raise TypeError(f"text is no number: {value!r:.40}")
    if type(value).__name__ == "MaskedConstant":  # float() makes 0 of it
        raise TypeError("a masked value is no number")
    if getattr(value, "size", None) == 1 and hasattr(value, "item"):
        value = value.item()  # which NumPy asks for where an array has an axis
        if is_text(value):
            raise TypeError(f"text is no number: {value!r:.40}")
    return float(value)


def as_loss(value: Any) -> float:
    """`as_float` of a loss, which True and False are not: a comparison stands where one should.

    Example:
        >>> as_loss(3), as_loss(0.5)
        (3.0, 0.5)
        >>> as_loss(True)
        Traceback (most recent call last):
        ...
        TypeError: a truth value is no loss: True
    """
    if isinstance(value, float):
        return float(value)
    if is_truth(value):
        raise TypeError(f"a truth value is no loss: {value!r:.40}")
    return as_float(value)


def is_truth(value: Any) -> bool:
    """Whether a value is True or False, of any library, alone in an array too.

    Example:
        >>> is_truth(True), is_truth(1.0), is_truth(None)
        (True, False, False)
    """
    dtype = getattr(value, "dtype", None)
    return isinstance(value, bool) or (dtype is not None and str(dtype).endswith("bool"))


def is_complex_number(value: Any) -> bool:
    """Whether a value is a complex number, of any library, alone in an array too.

    Example:
        >>> is_complex_number(1j), is_complex_number(1.0), is_complex_number(None)
        (True, False, False)
    """
    dtype = getattr(value, "dtype", None)
    return isinstance(value, complex) or (dtype is not None and "complex" in str(dtype))


@contextlib.contextmanager
def owned(owner: str) -> Iterator[None]:
    """Errors of arguments that are checked in here begin with the name of whom they were given to.

    Example:
        >>> with owned("fit"):
        ...     _ = whole("epochs", 0)
        Traceback (most recent call last):
        ...
        ValueError: fit: epochs must be a whole number >= 1, got 0
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if type(error) in (TypeError, ValueError) and len(error.args) == 1:
            words = str(error)
            error.args = (words if words.startswith(f"{owner}: ") else f"{owner}: {words}",)
        raise


def counted(count: int, noun: str) -> str:
    """A number of things in words.

    Example:
        >>> counted(1, "row"), counted(2, "row"), counted(0, "class"), counted(2, "epoch")
        ('1 row', '2 rows', '0 classes', '2 epochs')
    """
    many = f"{noun}{'es' if noun.endswith(('s', 'tch')) else 's'}"
    return f"{count:,} {noun if count == 1 else many}"


def prose(words: object, indent: int = 0) -> str:
    """Lines for a person, broken between words at the terminal's width; in a pipe as they are."""
    if not sys.stdout.isatty():
        return str(words)
    width = shutil.get_terminal_size().columns
    return "\n".join(filled(line, width, indent) for line in str(words).splitlines())


def filled(line: str, width: int, indent: int = 0) -> str:
    """A line as several of at most this width, those after the first indented; words stay whole."""
    if len(line) <= width or width <= indent + 8:
        return line
    lead = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.lstrip(), width, initial_indent=lead, subsequent_indent=lead or " " * indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def words_of(error: BaseException) -> str:
    """What an exception says; those of users may fail at saying it.

    Example:
        >>> words_of(KeyError("lr"))
        "KeyError: 'lr'"
    """
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as failure:
        return f"{type(error).__name__}, whose text fails by {type(failure).__name__}"


def is_text(value: Any) -> bool:
    """Whether a value is text, or holds some, which NumPy would take for numbers."""
    if isinstance(value, str | bytes | bytearray):
        return True
    if isinstance(value, list | tuple):
        return any(map(is_text, value))
    dtype = getattr(value, "dtype", None)
    return getattr(dtype, "kind", "") in ("U", "S")


def number(
    label: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = True,
    move: str = "",
) -> float:
    """The number as a float; TypeError where it is none, ValueError outside of the range.

    Infinite bounds that are open ask for a finite number.

    Example:
        >>> number("SGD: lr", -1.0, 0.0)
        Traceback (most recent call last):
        ...
        ValueError: SGD: lr must be a finite number >= 0, got -1.0
    """
    found = real(label, value)
    if not within(found, low, high, low_open, high_open):
        raise refusal(label, range_text(low, high, low_open, high_open), value, move)
    return found


def within(value: float, low: float, high: float, low_open: bool, high_open: bool) -> bool:
    """Whether a number lies in a range; NaN lies in none, -inf in none that starts there."""
    above = value > low if low_open or low == -math.inf else value >= low
    return above and (value < high if high_open else value <= high)


def range_text(low: float, high: float, low_open: bool = False, high_open: bool = True) -> str:
    """A range in words, to follow "must be".

    Example:
        >>> range_text(0, 1), range_text(0, math.inf), range_text(1, math.inf, high_open=False)
        ('in [0, 1)', 'a finite number >= 0', 'a number >= 1')
    """
    if high == math.inf:
        kind = "a finite number" if high_open else "a number"
        return kind if low == -math.inf else f"{kind} {'>' if low_open else '>='} {low:g}"
    if low == -math.inf:
        return f"a number {'<' if high_open else '<='} {high:g}"
    return f"in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"


def choice(label: str, value: Any, options: Iterable[str], move: str = "") -> str:
    """One of a few words.

    Example:
        >>> choice("lr_find: spacing", "log", ("exponential", "linear"))
        Traceback (most recent call last):
        ...
        ValueError: lr_find: spacing must be one of 'exponential', 'linear', got 'log'
    """
    options = tuple(options)
    if isinstance(value, str) and value in options:
        return value
    raise refusal(label, one_of(options), value, move)


def one_of(options: Iterable[object]) -> str:
    """A list of allowed values in words, to follow "must be"."""
    return f"one of {', '.join(map(repr, options))}"


def truth(label: str, value: Any) -> bool:
    """True or False, of Python or NumPy; a number is usually an argument in the wrong place."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if value is True or value is False or (kind == "b" and value.ndim == 0):
        return bool(value)
    raise TypeError(f"{label} must be True or False, got {value!r:.80}")


def truth_or_none(label: str, value: Any) -> bool | None:
    """True, False or None, which lets the function decide."""
    if value is None:
        return None
    with contextlib.suppress(TypeError):
        return truth(label, value)
    raise TypeError(f"{label} must be True, False or None, got {value!r:.80}")


def file_path(label: str, value: Any) -> str:
    """The path as text; TypeError for what is none, ValueError for an empty one.

    Example:
        >>> file_path("CSVLogger: path", 3)
        Traceback (most recent call last):
        ...
        TypeError: CSVLogger: path must be a path, as text or a pathlib.Path, got 3
    """
    try:
        found = os.fsdecode(value)
    except TypeError:
        raise TypeError(
            f"{label} must be a path, as text or a pathlib.Path, got {value!r:.200}"
        ) from None
    if not found:
        raise ValueError(f"{label} must be a path, got an empty one, {value!r}")
    return found


def text_or_none(label: str, value: Any) -> str | None:
    """Text that is not empty, or None; TypeError and ValueError for anything else."""
    if value is None or (isinstance(value, str) and value):
        return None if value is None else str(value)
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{label} must be text or None, got {value!r:.200}")

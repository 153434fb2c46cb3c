"""What a value is, as text that no other value has: how runs are found again."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import numpy as np

from stepsize.schedules.schedule import Schedule

# Their text is exact: that of a float is read back as the same bits.
NUMBERS = (type(None), bool, int, float, complex, Decimal, Fraction, range)
PLAIN = (*NUMBERS, str, bytes, type(...), datetime.date, datetime.timedelta)


def exact(value: Any) -> str | None:
    """The value as text, alike in every process; None where no text tells it from others.

    >>> exact(0.1), exact((1, True)), exact(lambda: 1)
    ('0.1', '(1, True)', None)
    """
    kind = type(value)
    if kind in PLAIN or isinstance(value, PurePath):
        return repr(value)
    if kind in (tuple, list, set, frozenset, dict):
        return _held(value)
    if isinstance(value, np.dtype) and not value.hasobject:
        return f"dtype({value.str})"
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return f"{kind.__name__}({value.item()!r})"
    if kind is np.ndarray and not value.dtype.hasobject:
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array({value.dtype.descr}, {value.shape}, sha256={digest})"
    if isinstance(value, enum.Enum):
        return f"{_path(kind)}.{value.name}"
    if isinstance(value, Schedule) and " at 0x" not in repr(value):
        return repr(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return _joined(f"{_path(kind)}(", [fields], ")")
    return _path(value)


def identity(value: Any) -> str | tuple[int]:
    """A key of the value: its text where that is exact, else which object it is."""
    text = exact(value)
    return (id(value),) if text is None else text


def _held(value: Any) -> str | None:
    if isinstance(value, dict):
        return _joined("{", [part for item in value.items() for part in item], "}")
    if isinstance(value, tuple):
        return _joined("(", value, ",)" if len(value) == 1 else ")")
    if isinstance(value, list):
        return _joined("[", value, "]")
    texts = sorted(map(str, map(exact, value)))
    return None if "None" in texts and None not in value else f"{type(value).__name__}({texts})"


def _joined(opens: str, values: Any, closes: str) -> str | None:
    texts = [exact(value) for value in values]
    if any(text is None for text in texts):
        return None
    return f"{opens}{', '.join(map(str, texts))}{closes}"


def _path(value: Any) -> str | None:
    """Where a function or class is found by its name, if it is."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is value else None

"""Values that somebody gives by mistake, and how they are seen in a message."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


class Thing:
    """An object that is nothing."""

    def __init__(self, *anything: Any, **more: Any) -> None:
        pass

    def __repr__(self) -> str:
        return "Thing()"


def function(*anything: Any, **more: Any) -> None:
    """A function that answers None."""


# Made anew for each call. The words are what a message may show of the value, any of them.
VALUES: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "None": (lambda: None, ("None",)),
    "True": (lambda: True, ("True", "bool")),
    "nan": (lambda: math.nan, ("nan", "NaN", "float")),
    "inf": (lambda: math.inf, ("inf", "float")),
    "-1": (lambda: -1, ("-1", "int")),
    "0": (lambda: 0, ("0", "int")),
    "2.5": (lambda: 2.5, ("2.5", "float")),
    "10**400": (lambda: 10**400, ("1000000", "int", "inf", "401 digits")),
    "text": (lambda: "bogus", ("bogus", "str")),
    "empty text": (lambda: "", ("''", '""', "str", "empty")),
    "bytes": (lambda: b"bogus", ("bogus", "bytes")),
    "complex": (lambda: 1 + 2j, ("1+2j", "complex")),
    "empty list": (list, ("[]", "list", "no array", "empty", "none", "nothing", "no ")),
    "nested list": (lambda: [[1, [2]]], ("[[1, [2]]]", "list", "[1, [2]]", "int")),
    "empty dict": (dict, ("{}", "dict", "no array", "empty", "none", "nothing", "no ")),
    "dict": (lambda: {"a": 1}, ("{'a': 1}", "dict", "'a'", "int")),
    "set": (lambda: {3}, ("{3}", "set", "3")),
    "function": (lambda: function, ("function", "None")),
    "class": (lambda: Thing, ("Thing", "type", "class")),
    "object": (Thing, ("Thing",)),
    "array of nan": (lambda: np.array(np.nan), ("nan", "NaN", "array")),
    "array": (lambda: np.array([0.5, 0.25]), ("0.5", "array", "(2,)", "float64")),
    "empty array": (lambda: np.zeros(0), ("[]", "array", "(0,)", "float64", "empty", "no ")),
    "array of ints": (lambda: np.array([7, 8]), ("7", "int64", "array")),
    "array of objects": (lambda: np.array([None, "x"], object), ("None", "object", "array", "'x'")),
}

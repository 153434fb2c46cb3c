"""What tells a function from another of the same name: a digest of its code."""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

from stepsize.tuning.identity import exact

OURS = str(Path(__file__).parents[1])
MUTABLE = (list, dict, set, bytearray)  # a run may change them, so their values say nothing


def code_digest(function: Any) -> str:
    """The version of Python and a digest of the code of a function, "" where it has none.

    What it was made with counts, too: defaults, variables of functions around it and what a partial
    function is given, where they are values that do not change, or functions. Files, lines and
    the words of docstrings do not, nor does code of this package, which an upgrade changes.
    Bytecode of another version of Python tells nothing.

    >>> one, other = (lambda p: p["lr"]), (lambda p: -p["lr"])
    >>> code_digest(one) == code_digest(other), code_digest(print)
    (False, '')
    """
    text = _text(function, set())
    if "code(" not in text:
        return ""
    version = f"{sys.implementation.cache_tag}-{sys.flags.optimize}"
    return f"{version} {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _text(value: Any, seen: set[int]) -> str:
    if id(value) in seen:  # a function that calls itself
        return "again"
    if isinstance(value, MethodType):
        return _text(value.__func__, seen)
    if isinstance(value, functools.partial):
        given = [value.func, *value.args, *value.keywords, *value.keywords.values()]
        return f"partial({', '.join(_text(one, seen) for one in given)})"
    if isinstance(value, FunctionType):
        if value.__code__.co_filename.startswith(OURS):
            return value.__qualname__
        seen.add(id(value))
        around = [c.cell_contents for c in value.__closure__ or () if c != type(c)()]
        made = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *around]
        texts = [_code(value.__code__, value.__doc__), *(_text(one, seen) for one in made)]
        return f"code({', '.join(texts)})"
    if callable(value) and isinstance(type(value).__call__, FunctionType):  # an object
        return _text(type(value).__call__, seen)
    return "" if isinstance(value, MUTABLE) else str(exact(value) or type(value).__qualname__)


def _code(code: CodeType, doc: str | None = None) -> str:
    held = [
        _code(constant)
        if isinstance(constant, CodeType)
        else str(sorted(map(repr, constant)) if isinstance(constant, frozenset) else [constant])
        for constant in code.co_consts
        if constant != doc or doc is None
    ]
    return str((code.co_code.hex(), held, code.co_names, code.co_varnames, code.co_freevars))

"""What a Python function is, in values that a file can hold: how another one is noticed later.

A name does not tell it: two lambdas have the same one, and code is edited between two runs.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import hashlib
import inspect
import re
import sys
import sysconfig
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

OURS = str(Path(__file__).parents[1])
INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
MOST = 64  # functions that one is followed through
SHOWN = 40  # letters of a value that is kept as it is; of others a checksum is
LARGEST = 1 << 20  # elements of an array that are read
LONGEST = 1 << 14  # parts of a list that are read
YEAR = 86400.0 * 365  # a number so near to the present time tells it, and is another in every run
BEGUN = time.time()
SMALLEST = 100.0
IMPORTED = 600.0  # seconds before this module that a script may have begun
CHANGING = {"append", "extend", "insert", "pop", "update", "add", "setdefault", "clear", "remove"}
STORES = {"STORE_DEREF", "DELETE_DEREF", "STORE_GLOBAL", "DELETE_GLOBAL"}


def described(function: Callable[..., Any], containers: bool = True) -> dict[str, Any]:
    """What is known of a function: its name, a digest of its code, and the values that it uses.

    These are defaults, variables of functions around it, global variables, the arguments of a
    partial function and the attributes of an object, where they are numbers or functions, or text,
    arrays and lists if `containers`; and so on through the functions of its module that it calls.
    What a function stores itself, a counter or a list it appends to, is part of the run and left
    out. Bytecode is compared within one version of Python alone, which is told beside it.

    >>> def scaled(peak):
    ...     return lambda step: peak / (1 + step)
    >>> one, other = described(scaled(0.1)), described(scaled(0.2))
    >>> one["code"] == other["code"], one["values"], other["values"]
    (True, {'peak': '0.1'}, {'peak': '0.2'})
    """
    codes: list[str] = []
    values: dict[str, str] = {}
    with contextlib.suppress(Exception):  # of an object that answers to no question: it may train
        here = _is_installed(inspect.unwrap(function))
        for part, held in _followed(function):
            if _is_ours(part) or (_is_installed(part) and not here):
                continue  # what an upgrade changes is not the user's
            if isinstance(part, FunctionType):
                codes.append(_code(part.__code__, part.__doc__))
            for name, value in held.items():
                text = _text(value, containers)
                if text is not None:
                    values.setdefault(name, text)
    digest = hashlib.sha256("\n".join(codes).encode()).hexdigest()[:16] if codes else ""
    return {"name": name_of(function), "python": _version(), "code": digest, "values": values}


def changes(saved: Any, here: Mapping[str, Any]) -> str:
    """How a function differs from the one that `described` told of, in words; empty if nowhere.

    >>> changes(described(len), described(abs))
    'builtins.abs instead of builtins.len'
    """
    if not isinstance(saved, Mapping) or not isinstance(saved.get("name"), str):
        return ""
    if saved["name"] != here["name"]:
        return f"{here['name']} instead of {saved['name']:.200}"
    before = saved.get("values")
    before = before if isinstance(before, Mapping) else {}
    other = [
        f"{name}={here['values'].get(name, 'nothing')} instead of {before.get(name, 'nothing')!s}"
        for name in sorted({*here["values"], *before})
        if here["values"].get(name) != before.get(name)
    ]
    edited = saved.get("python") == here["python"] and saved.get("code") != here["code"]
    if edited:  # other variables are a consequence
        return f"{here['name']} with other code"
    return f"{here['name']} with {', '.join(other)}" if other else ""


def code_digest(function: Callable[..., Any]) -> str:
    """The version of Python and a digest of what `described` tells, "" where there is no code.

    Lists, arrays and text are left out: a run may change them, and names of files are text.

    >>> one, other = (lambda p: p["lr"]), (lambda p: -p["lr"])
    >>> code_digest(one) == code_digest(other), code_digest(print)
    (False, '')
    """
    known = described(function, containers=False)
    told = repr((known["code"], sorted(known["values"].items())))
    return f"{known['python']} {_short(told.encode())}" if known["code"] else ""


def name_of(function: Any) -> str:
    """Module and qualified name of a function, or of the class of an object that is called."""
    if isinstance(function, functools.partial):
        return f"partial of {name_of(function.func)}"
    owner = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(owner, "__module__", None) or ""
    if module in ("__main__", "__mp_main__"):  # as a module that imports the script calls it
        file = getattr(sys.modules.get(module), "__file__", None)
        module = Path(file).stem if file else module
    return f"{module}.{owner.__qualname__}".lstrip(".")


def without_address(text: str) -> str:
    """A `repr` without the place in memory, which differs in every process.

    >>> without_address("<function f at 0x7f60e56b54e0>")
    '<function f>'
    """
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _is_ours(part: Any) -> bool:
    return isinstance(part, FunctionType) and part.__code__.co_filename.startswith(OURS)


def _is_installed(part: Any) -> bool:
    """Whether a function is of a package that was installed, such as one that wraps the user's."""
    return isinstance(part, FunctionType) and part.__code__.co_filename.startswith(INSTALLED)


def _version() -> str:
    return f"{sys.implementation.cache_tag}-{sys.flags.optimize}"


def _followed(function: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A function and those that it leads to, each with the values it holds by name."""
    waiting: list[Any] = [function]
    seen: set[int] = set()
    home = getattr(inspect.unwrap(getattr(function, "func", function)), "__module__", None)
    while waiting and len(seen) < MOST:
        part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        held, further = _held(part, home)
        yield part, held
        waiting += further


def _held(part: Any, home: str | None) -> tuple[dict[str, Any], list[Any]]:
    """The values that one function or object holds, and the functions to look at after it."""
    if isinstance(part, functools.partial):
        names = {f"argument {i}": value for i, value in enumerate(part.args)} | part.keywords
        return names, [part.func, *_functions(names.values())]
    if isinstance(part, MethodType):
        return attributes(part.__self__), [part.__func__]
    if isinstance(part, FunctionType):
        held = _variables(part)
        helpers = [f for f in _functions(held.values()) if _belongs(f, part, home)]
        return held, helpers
    inner = getattr(part, "__wrapped__", None)
    if inner is not None and callable(inner):
        return {}, [inner]
    call = next((vars(c)["__call__"] for c in type(part).__mro__ if "__call__" in vars(c)), None)
    return attributes(part), [call] if isinstance(call, FunctionType) else []


def _functions(values: Any) -> list[Any]:
    kinds = (FunctionType, MethodType, functools.partial)
    return [value for value in values if isinstance(value, kinds)]


def _belongs(function: Any, user: FunctionType, home: str | None) -> bool:
    """Whether a function is the user's: of the same module, or handed over in a closure."""
    cells = [c.cell_contents for c in user.__closure__ or () if c != type(c)()]
    return getattr(function, "__module__", None) == home or any(function is c for c in cells)


def _variables(function: FunctionType) -> dict[str, Any]:
    """Defaults, closure and global variables by name, without those that the function changes."""
    code = function.__code__
    used = list(_instructions(code))
    stored = {name for kind, name in used if kind in STORES}
    arguments = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    first = len(arguments) - len(defaults)
    found = dict(zip(arguments[first:], defaults, strict=True)) | (function.__kwdefaults__ or {})
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if cell != type(cell)():
            found[name] = cell.cell_contents
    read = {name for kind, name in used if kind == "LOAD_GLOBAL"}
    found |= {n: function.__globals__[n] for n in sorted(read) if n in function.__globals__}
    kept = {name: value for name, value in found.items() if name not in stored}
    if any(kind == "STORE_SUBSCR" or name in CHANGING for kind, name in used):
        kept = {n: v for n, v in kept.items() if not isinstance(v, list | dict | set | np.ndarray)}
    return kept


def attributes(thing: Any) -> dict[str, Any]:
    """The attributes of an object that none of its methods but the constructor assigns."""
    methods = [
        value
        for cls in type(thing).__mro__
        for name, value in vars(cls).items()
        if isinstance(value, FunctionType) and name != "__init__"
    ]
    stored = {n for m in methods for kind, n in _instructions(m.__code__) if kind == "STORE_ATTR"}
    own = getattr(thing, "__dict__", {})
    return {name: value for name, value in own.items() if name not in stored}


def _instructions(code: CodeType) -> Iterator[tuple[str, Any]]:
    """Kind and name of each instruction of a function and of the functions inside it."""
    for instruction in dis.get_instructions(code):
        yield instruction.opname, instruction.argval
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _instructions(inner)


def _code(code: CodeType, doc: str | None = None) -> str:
    """Bytecode and constants as text, without docstring, names of files and numbers of lines."""
    constants = [
        _code(constant)
        if isinstance(constant, CodeType)
        else str(sorted(map(repr, constant)))
        if isinstance(constant, frozenset)
        else repr(constant)
        for constant in code.co_consts
        if doc is None or constant != doc
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_argcount)
    return repr((code.co_code.hex(), constants, names, code.co_kwonlyargcount))


def _is_of_a_clock(value: float) -> bool:
    """Whether a number tells the time: the date, or that on a clock since this process began.

    Those clocks tell how long the machine runs; numbers that people choose are smaller, as those of
    a machine that was just started are, or have fewer digits.
    """
    if abs(value - time.time()) < YEAR:
        return True
    age = time.time() - BEGUN + IMPORTED
    since = (clock() - value for clock in (time.perf_counter, time.monotonic))
    chosen = value < SMALLEST or round(value, 4) == value
    return not chosen and any(0 <= seconds <= age for seconds in since)


def _text(value: Any, containers: bool) -> str | None:
    """A value as text that is alike in every process; None where there is none."""
    if type(value) is float and _is_of_a_clock(value):
        return None
    if value is None or isinstance(value, bool | int | float | complex | np.generic):
        return repr(value.item() if isinstance(value, np.generic) else value)[:SHOWN]
    if isinstance(value, str | bytes):
        if not containers:  # names of files and machines
            return None
        data = value.encode(errors="replace") if isinstance(value, str) else value
        return f"text {_short(data)}"
    if containers and isinstance(value, set | frozenset):  # whose order differs in every process
        inside = [_text(part, containers) for part in value]
        return None if None in inside else f"set {_short(repr(sorted(map(str, inside))).encode())}"
    if isinstance(value, tuple | list | dict) and len(value) > LONGEST:
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, tuple) or (containers and isinstance(value, list | dict)):
        pairs = value.items() if isinstance(value, dict) else ()
        parts = [part for pair in pairs for part in pair] or list(value)
        texts = [_text(part, containers) for part in parts]
        if None in texts:
            return None
        whole = f"{type(value).__name__}({', '.join(map(str, texts))})"
        return whole if len(whole) <= SHOWN else f"{type(value).__name__} {_short(whole.encode())}"
    if containers and type(value) is np.ndarray and not value.dtype.hasobject:
        data = np.ascontiguousarray(value).tobytes() if value.size <= LARGEST else b""
        return f"array {value.dtype}{list(value.shape)} {_short(data)}"
    if callable(value) and hasattr(value, "__qualname__"):
        return name_of(value)
    if containers and _is_value(value):
        return f"{type(value).__name__} {_short(repr(value).encode())}"
    return None


def _is_value(thing: Any) -> bool:
    """Whether an object is told by what it holds, as a schedule or a date is, and prints it."""
    kind: Any = type(thing)
    if isinstance(thing, type | PurePath) or kind.__eq__ is object.__eq__:
        return False
    return (
        isinstance(thing, Hashable)
        and not callable(getattr(thing, "__array__", None))
        and (kind.__repr__ is not object.__repr__ and " at 0x" not in repr(thing))
    )


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]

"""Arguments, defaults and ranges of all that is public, in lines that a review can read."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import stepsize as ss
from stepsize.optimizers import registry

# On both sides of where ranges end.
NUMBERS = (-math.inf, -1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 1 + 1e-9, 2.0, math.inf, math.nan)
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def public() -> Iterator[tuple[str, Any]]:
    """The names of the package and of its modules, each once."""
    seen = set()
    for name in sorted(ss.__all__):
        thing = getattr(ss, name)
        inner = sorted(getattr(thing, "__all__", ())) if isinstance(thing, ModuleType) else ()
        for path, one in [(name, thing), *((f"{name}.{n}", getattr(thing, n)) for n in inner)]:
            if id(one) not in seen and not isinstance(one, ModuleType):
                seen.add(id(one))
                yield path, one


def told(thing: Any) -> str:
    """A signature without annotations, with the defaults."""
    try:
        signature = getattr(thing, "signature", None) or inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    if not isinstance(signature, inspect.Signature):
        return ""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return ADDRESS.sub("", str(inspect.Signature(bare)))


def of_class(path: str, cls: type) -> Iterator[str]:
    if dataclasses.is_dataclass(cls):
        flags = ("init", "repr", "compare", "kw_only")
        for field in dataclasses.fields(cls):
            default = "" if field.default is dataclasses.MISSING else f"={field.default!r}"
            shown = ", ".join(name for name in flags if getattr(field, name))
            yield f"    {field.name}{default}: {shown}"
    for name, member in sorted(vars(cls).items()):
        inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if name[0] != "_" and inspect.isfunction(inner):
            yield f"    {name}{told(inner)}"


def of_rule(cls: type) -> Iterator[str]:
    """What each hyperparameter is by itself, and which numbers it takes."""
    for name, field in sorted(cls.fields.items()):  # type: ignore[attr-defined]
        taken = []
        for number in NUMBERS:
            try:
                field.check(cls.__name__, number)
                taken.append(f"{number:g}")
            except (ValueError, TypeError):
                continue
        yield f"    {name}={ADDRESS.sub('', repr(field.default))} takes {' '.join(taken)}"
    for name in ("adapts_lr", "scope", "decay", "later", "scalars"):
        if hasattr(cls, name):
            yield f"    {name}: {getattr(cls, name)!r}"


def snapshot() -> str:
    """Of all of them, as `tests/golden/signatures.txt` keeps it."""
    lines = []
    for path, thing in public():
        lines.append(f"{path}{told(thing) if callable(thing) else ''}")
        if inspect.isclass(thing):
            lines += of_class(path, thing)
    for cls in sorted(registry(), key=lambda cls: cls.__name__):
        lines += [f"rule {cls.__name__}", *of_rule(cls)]
    return "\n".join(lines) + "\n"

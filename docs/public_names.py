"""Every public name, its signature and the first line of its documentation, one a line.

``python docs/public_names.py > now.txt`` and the same in another version show by `diff` what a user
would notice.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import stepsize as ss

PACKAGES = ("arrays", "functional", "gradients", "interop", "optimizers", "plots", "problems")
PACKAGES += ("projections", "schedules")


def own(name: str) -> bool:
    """Whether a name is for users; modules without a list also hold what they import."""
    return not name.startswith("_") and name not in {"annotations", "np", "optree"}


def names() -> Iterator[tuple[str, Any]]:
    """Every name of the package, of its public modules, and of their classes."""
    found: list[tuple[str, Any]] = [(name, getattr(ss, name)) for name in sorted(ss.__all__)]
    for package in PACKAGES:
        module = getattr(ss, package)
        listed = sorted(getattr(module, "__all__", dir(module)))
        found += [(f"{package}.{name}", getattr(module, name)) for name in listed if own(name)]
    for name, thing in found:
        if isinstance(thing, ModuleType):
            yield name, None
            continue
        yield name, thing
        if inspect.isclass(thing) and not issubclass(thing, enum.Enum):
            for member in sorted(dir(thing)):
                if not member.startswith("_"):
                    yield f"{name}.{member}", inspect.getattr_static(thing, member)


def signature(thing: Any) -> str:
    """The arguments with their defaults and without types, or the kind of thing it is."""
    thing = getattr(thing, "__func__", thing)
    if not callable(thing):
        return f": {type(thing).__name__}"
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return "(...)"
    empty = inspect.Parameter.empty
    plain = [parameter.replace(annotation=empty) for parameter in parameters]
    # A class as a default is its name, wherever it lives.
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", str(inspect.Signature(plain)))


def line(name: str, thing: Any) -> str:
    """One row of the listing."""
    documented = callable(thing) or isinstance(thing, property)
    first = (inspect.getdoc(thing) or "").partition("\n")[0] if documented else ""
    return f"{name}{signature(thing)}  {first}".rstrip()


if __name__ == "__main__":
    sys.stdout.writelines(f"{line(*pair)}\n" for pair in names())

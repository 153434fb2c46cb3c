"""Adapters to other libraries: each module is imported when it is first asked for."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    if name not in __dir__():
        raise AttributeError(f"stepsize.interop has no {name!r}; it has {', '.join(__dir__())}")
    return importlib.import_module(f"stepsize.interop.{name}")


def __dir__() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))

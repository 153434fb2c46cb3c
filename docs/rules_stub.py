"""Writes optimizers/rules/__init__.pyi: every rule with its arguments, for editors and checkers.

python docs/rules_stub.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from stepsize.optimizers import Optimizer, registry
from stepsize.optimizers.fields import Choice, Count, Field, Flag, Number, Several
from stepsize.optimizers.options import Options
from stepsize.optimizers.rules import lbfgs
from stepsize.optimizers.rules.averaging import AveragingOptimizer

PATH = Path(lbfgs.__file__).with_name("__init__.pyi")

HEAD = '''"""The rules with their arguments; docs/rules_stub.py writes this file."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from stepsize.arrays import Nest
from stepsize.optimizers.groups import GroupSpec
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.rules.averaging import AveragingOptimizer
from stepsize.schedules import Schedule

_Number: TypeAlias = float | np.floating[Any] | Schedule | Callable[[int], float]
'''

OPTIONS = {
    "maximize": "bool",
    "clip_norm": "float | None",
    "clip_value": "float | None",
    "on_nonfinite": 'Literal["raise", "skip", "ignore"]',
    "state_dtype": 'Literal["bfloat16", "int8"] | None',
    "master_weights": 'bool | Literal["split", "split8"]',
    "param_rounding": 'Literal["nearest", "stochastic"]',
    "loss_scale": 'float | Literal["dynamic"] | None',
    "bounds": "Any",
    "l1": "float",
}


def annotation(field: Field) -> str:
    """The type of a hyperparameter."""
    if isinstance(field, Flag):
        return "bool"
    if isinstance(field, Choice):
        words = [f'"{word}"' for word in field.words if word is not None]
        free = None in field.words or field.accepts_none
        return f"Literal[{', '.join(words)}]" + (" | None" if free else "")
    kind = "int" if isinstance(field, Count) else "_Number"
    if isinstance(field, Number) and field.fixed:
        kind = "float"
    if isinstance(field, Several):
        members = [kind + (" | None" if field.optional else "")] * len(field.default)
        return f"tuple[{', '.join(members)}]"
    return kind + (" | None" if field.default is None else "")


def arguments(cls: type[Optimizer]) -> list[str]:
    """The arguments of a class, with types and defaults."""
    lr, *others = cls.fields.values()
    listed = ["self", "params: Nest", f"lr: {annotation(lr)} | None = {lr.default!r}", "*"]
    listed += [f"{f.name}: {annotation(f)} = {_shown(f.default)}" for f in others]
    defaults = Options.defaults()
    options = {name: kind for name, kind in OPTIONS.items() if name not in cls.fields}
    listed += [f"{name}: {kind} = {_shown(defaults[name])}" for name, kind in options.items()]
    return [*listed, "groups: Sequence[GroupSpec] = ()"]


def _shown(default: Any) -> str:
    shown = repr(default)
    return "..." if "inf" in shown else shown.replace("'", '"')


def text() -> str:
    """The stub."""
    pages, done = [HEAD], set()
    pending = registry()
    while pending:
        cls = pending.pop(0)
        bases = [base for base in cls.__mro__[1:] if base in registry()]
        if any(base not in done for base in bases):
            pending.append(cls)
            continue
        done.add(cls)
        common = AveragingOptimizer if issubclass(cls, AveragingOptimizer) else Optimizer
        base = (bases or [common])[0]
        pages.append(f"class {cls.__name__}({base.__name__}):")
        pages += [f"    {name}: Any" for name in cls.fields]
        pages.append(f"    def __init__({', '.join(arguments(cls))}) -> None: ...")
        if cls.needs_closure:
            pages.append("    def step(  # type: ignore[override]")
            pages.append("        self, value_and_grad: Callable[[Nest], tuple[float, Nest]]")
            pages.append("    ) -> float: ...")
        pages.append("")
    return "\n".join(pages)


def formatted(code: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(PATH), "-"]
    return subprocess.run(command, input=code, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    PATH.write_text(formatted(text()), encoding="utf-8")

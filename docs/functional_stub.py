"""The stub of ``stepsize.functional``, whose functions are made as it is imported.

``python docs/functional_stub.py`` writes ``python/stepsize/functional.pyi``.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from stepsize import functional
from stepsize.optimizers import registry
from stepsize.optimizers.fields import Choice
from stepsize.optimizers.registration import snake_case

STUB = Path(functional.__file__).with_suffix(".pyi")

HEAD = '''"""The functions of `stepsize.functional`; docs/functional_stub.py writes this file."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from stepsize.arrays import Array
from stepsize.optimizers.optimizer import Optimizer

__all__ = {names}

_Arrays: TypeAlias = Array | Sequence[Array]
_Gradients: TypeAlias = Array | Sequence[Array | None]

def state(
    rule: str | type[Optimizer], params: _Arrays, **hyperparameters: Any
) -> dict[str, Any]: ...
'''


def stub() -> str:
    """The text of the stub."""
    fields = {snake_case(cls) + "_": cls.fields for cls in registry()}
    names = "[\n" + "".join(f'    "{name}",\n' for name in sorted(functional.__all__)) + "]"
    text = HEAD.replace("{names}", names)
    for name in functional.__all__[1:]:
        lines, star = [], False
        for parameter in inspect.signature(getattr(functional, name)).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and not star:
                lines.append("*")
                star = True
            lines.append(_line(parameter, fields[name].get(parameter.name)))
        text += f"def {name}(\n" + "".join(f"    {line},\n" for line in lines) + ") -> None: ...\n"
    return text


def _line(parameter: inspect.Parameter, field: Any) -> str:
    kind = _type(parameter, field)
    if parameter.default is parameter.empty:
        return f"{parameter.name}: {kind}"
    return f"{parameter.name}: {kind} = {parameter.default!r}".replace("'", '"')


def _type(parameter: inspect.Parameter, field: Any) -> str:
    name, default = parameter.name, parameter.default
    if name == "step":
        return "int"
    if name == "on_nonfinite":
        return 'Literal["raise", "ignore"]'
    if name == "bounds":
        return "tuple[float | None, float | None] | None"
    if isinstance(field, Choice):
        return f"Literal[{', '.join(map(repr, field.words))}]"
    if parameter.kind is not parameter.KEYWORD_ONLY:
        base = "Array" if name == "scalars" else "_Gradients" if name == "grads" else "_Arrays"
        return f"{base} | None" if default is None else base
    if isinstance(default, tuple):
        return f"tuple[{', '.join(['float'] * len(default))}]"
    return "float | None" if default is None else type(default).__name__


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")

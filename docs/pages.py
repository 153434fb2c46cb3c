"""Pages made from the code when the site is built: one for each rule, one for each schedule."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss
from stepsize import schedules
from stepsize.optimizers import Optimizer, registry
from stepsize.optimizers.options import Options
from tables import first_sentence

# Each recipe as it is drawn, over 1,000 steps.
RECIPES = {
    "constant": "constant(1e-3)",
    "cosine": "cosine(1e-3, 0, 1000)",
    "cosine_restarts": "cosine_restarts(1e-3, 140, multiplier=2, decay=0.8)",
    "cyclic": "cyclic(1e-4, 1e-3, 100, mode='triangular2')",
    "exponential": "exponential(1e-3, 0.5, steps=200)",
    "flat_cosine": "flat_cosine(1e-3, 1000)",
    "from_function": "from_function(lambda step: 1e-3 / (1 + step // 250))",
    "inverse_sqrt": "inverse_sqrt(1e-3, 100)",
    "inverse_time": "inverse_time(1e-3, 0.01)",
    "linear": "linear(1e-3, 0, 1000)",
    "multistep": "multistep(1e-3, [400, 800], 0.3)",
    "noam": "noam(2048, 200)",
    "one_cycle": "one_cycle(1e-3, 1000)",
    "piecewise_constant": "piecewise_constant([300, 700], [1e-3, 3e-4, 5e-4])",
    "piecewise_linear": "piecewise_linear([(0, 1e-4), (200, 1e-3), (600, 7e-4), (1000, 0)])",
    "polynomial": "polynomial(1e-3, 0, 1000, power=3)",
    "rex": "rex(1e-3, 1000)",
    "step_decay": "step_decay(1e-3, 250, 0.5)",
    "table": "table([1e-3 * (1 - (i / 1000) ** 4) for i in range(1000)])",
    "tanh": "tanh(1e-3, 0, 1000)",
    "warmup_cosine": "warmup_cosine(1e-3, 100, 1000)",
    "warmup_linear": "warmup_linear(1e-3, 100, 1000)",
    "wsd": "wsd(1e-3, 100, 600, 300)",
}


def write(docs: Path) -> None:
    """Write every generated page below `docs`, with its picture."""
    import notebook_pictures
    import pictures  # here, because pages can be made, and tested, without drawing

    for name, text in notebook_pictures.cards().items():
        put(docs / "cards" / f"{name}.html", text)

    for folder, pages in (("rules", rules()), ("recipes", recipes())):
        for name, text in pages.items():
            put(docs / folder / f"{name}.rst", text)
    for cls in registry():
        pictures.paths(cls, docs / "rules" / f"{cls.__name__}.png")
    for name, call in RECIPES.items():
        pictures.curve(schedule(call), docs / "recipes" / f"{name}.png")


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def rules() -> dict[str, str]:
    """The page of each rule, by name, and their index."""
    pages = {cls.__name__: rule(cls) for cls in registry()}
    rows = [
        (f":doc:`{cls.__name__}`", first_sentence(cls), state_bytes(cls), speed(cls))
        for cls in registry()
    ]
    return pages | {
        "index": _index(
            "Rules",
            "Every optimizer, with the bytes of state that it keeps for each float32 parameter of "
            "a matrix. A page has the equations, the hyperparameters, the source and a picture.",
            table(("Rule", "What it does", "Bytes", "Step"), rows, "15 60 10 15"),
            list(pages),
        )
    }


def rule(cls: type[Optimizer]) -> str:
    name = cls.__name__
    rows = [
        (f"``{field.name}``", f"``{field.default!r}``", _range(field))
        for field in cls.fields.values()
    ]
    scheduled = any(callable_parts(field) for field in cls.fields.values())
    common = ", ".join(f"``{name}``" for name in Options.names())
    note = "Numbers take a schedule or a function of the step too. " if scheduled else ""
    return _join(
        _title(name),
        f".. autoclass:: stepsize.{name}",
        _title("On two landscapes", "-"),
        image(f"{name}.png", f"The path of {name} on Rosenbrock's valley and from a saddle"),
        "Cross: a minimum; ring: the start. "
        + (
            "The rule finds its rate; ``lr`` is its share of it."
            if cls.adapts_lr
            else "Each at the rate, of a grid, that loses most without steps too long to follow."
        ),
        _title("Hyperparameters", "-"),
        table(("Name", "Default", "Allowed"), rows, "25 25 50", "numbers"),
        f"{note}Every optimizer also takes {common}: see :doc:`../api/optimizers`.",
        _title("State and step", "-"),
        _state(cls),
    )


def callable_parts(field: Any) -> bool:
    return not getattr(field, "fixed", False) and "number" in field.range()


def _range(field: Any) -> str:
    words = str(field.range())
    return f"{words}, or None" if field.default is None else words


def _state(cls: type[Optimizer]) -> str:
    slots = made(cls).state["w"]
    arrays = ", ".join(f"``{slot}`` {array.shape}" for slot, array in slots.items())
    scalars = ", ".join(f"``{name}``" for name in cls.scalars)
    return (
        f"For a float32 matrix of 64 x 64: {arrays or 'no arrays'}, {state_bytes(cls)} bytes a "
        f"parameter{f'; numbers for each leaf: {scalars}' if scalars else ''}. The step is "
        f"{speed(cls)}."
    )


def made(cls: type[Optimizer]) -> Optimizer:
    return cls({"w": np.zeros((64, 64), np.float32)})


def state_bytes(cls: type[Optimizer]) -> str:
    """Bytes of state for each float32 parameter of a 64 x 64 matrix, measured."""
    return f"{sum(array.nbytes for array in made(cls).state['w'].values()) / 64**2:.3g}"


def speed(cls: type[Optimizer]) -> str:
    return "compiled" if cls.accelerated else "NumPy"


def recipes() -> dict[str, str]:
    """The page of each schedule recipe, by name, and their index."""
    pages = {name: recipe(name, call) for name, call in RECIPES.items()}
    rows = [(f":doc:`{name}`", first_sentence(getattr(schedules, name))) for name in RECIPES]
    return pages | {
        "index": _index(
            "Schedules one by one",
            "Every call that makes a schedule. How they are combined, and what they are called "
            "elsewhere: :doc:`../schedules`.",
            table(("Schedule", "What it does"), rows, "25 75"),
            list(pages),
        )
    }


def recipe(name: str, call: str) -> str:
    return _join(
        _title(name),
        f".. autofunction:: stepsize.schedules.{name}",
        image(f"{name}.png", f"The schedule {call} over 1,000 steps"),
        f"``{call}``",
    )


def image(file: str, words: str) -> str:
    return f".. image:: {file}\n   :alt: {words}\n   :class: plain"


def schedule(call: str) -> ss.Schedule:
    """The schedule that a call of `RECIPES` makes."""
    made: ss.Schedule = eval(call, dict(vars(schedules)))
    return made


def table(
    head: tuple[str, ...], rows: list[tuple[str, ...]], widths: str, kind: str = "words"
) -> str:
    """A table; of the kind "numbers" its second column may be narrow."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}"]
    lines += [f"   :class: {kind}", ""]
    for row in (head, *rows):
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines)


def _index(title: str, words: str, rows: str, names: list[str]) -> str:
    listed = "\n   ".join(names)
    return _join(_title(title), words, rows, f".. toctree::\n   :hidden:\n\n   {listed}")


def _title(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}"


def _join(*parts: str) -> str:
    return "\n\n".join(parts) + "\n"


def add_links(
    app: Any, what: str, name: str, obj: Callable[..., Any], options: Any, lines: list[str]
) -> None:
    """In docstrings, let `ss.name` link as `stepsize.name` does, and papers to where they are."""
    for i, line in enumerate(lines):
        line = re.sub(r"(?<!`)`ss\.([\w.]+)`(?!`)", r"`ss.\1 <stepsize.\1>`", line)
        line = re.sub(r"\barXiv:(\d{4}\.\d{4,5})", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", line)
        lines[i] = re.sub(r"\bdoi:(10\.[^\s,]*[\w)])", r"`doi:\1 <https://doi.org/\1>`__", line)


def shorten_classes(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any]:
    """Write a class that is a default as its name."""
    return signature and re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", signature), returns

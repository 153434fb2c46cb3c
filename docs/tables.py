"""The tables of the documentation, made from the code: ``python docs/tables.py``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from stepsize import optimizers, schedules
from stepsize.optimizers import Optimizer, registry
from stepsize.optimizers.wrappers.base import Wrapper


def rules() -> str:
    """One row per optimizer: what it does, its state and its source."""
    rows = []
    for cls in registry():
        defaults = {name: field.default for name, field in cls.fields.items()}
        state = _named(cls.variant(defaults)[1]) or "none"
        rows.append((f"`{cls.__name__}`", first_sentence(cls), state, _source(cls)))
    return _table(("Rule", "What it does", "State per parameter", "Source"), rows)


def wrappers() -> str:
    """One row per wrapper: what it does around a rule and its source."""
    classes = [getattr(optimizers, name) for name in sorted(optimizers.__all__, key=str.lower)]
    rows = [
        (f"`{cls.__name__}`", first_sentence(cls), _source(cls))
        for cls in classes
        if inspect.isclass(cls) and issubclass(cls, Wrapper)
    ]
    return _table(("Wrapper", "What it does", "Source"), rows)


def recipes() -> str:
    """One row per schedule: how it is called and what it does."""
    rows = []
    for name in schedules.__all__:
        recipe = getattr(schedules, name)
        if inspect.isclass(recipe):
            continue
        names = ", ".join(
            parameter.name
            if parameter.default is parameter.empty
            else f"{parameter.name}={parameter.default!r}"
            for parameter in inspect.signature(recipe).parameters.values()
        )
        rows.append((f"`{name}({names})`", first_sentence(recipe)))
    return _table(("Call", "What it does"), rows)


PAGES = ("all-rules.md", "schedules.md")
TABLES: dict[str, Callable[[], str]] = {
    "rules": rules,
    "wrappers": wrappers,
    "schedules": recipes,
}


def fill(text: str) -> str:
    """The text with every table between its two markers made anew."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        before, *rest = pattern.split(text)
        text = before + (rest[0] + make() + "".join(rest[1:]) if rest else "")
    return text


def first_sentence(thing: type[Optimizer | Wrapper] | Callable[..., object]) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _named(slots: Sequence[str]) -> str:
    """The state arrays; of those that are numbered by axis the first two."""
    names = []
    for slot in slots:
        stem, number = re.fullmatch(r"(.*?)(\d*)", slot).groups()  # type: ignore[union-attr]
        if f"{stem}1" not in slots or int(number) < 2:
            names.append(f"`{slot}`" + (", ..." if f"{stem}1" in slots and number == "1" else ""))
    return ", ".join(names)


def _source(cls: type[Optimizer | Wrapper]) -> str:
    found = re.search(r"Source: (.*?)\n\n", inspect.getdoc(cls) or "", re.DOTALL)
    text = found[1].replace("\n", " ").rstrip(".") if found else ""
    text = text.replace(":math:`", "{math}`").replace("``", "`")
    return re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    escaped = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {line} |\n" for line in escaped)


if __name__ == "__main__":
    for path in [Path(__file__).parent / page for page in PAGES]:
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")

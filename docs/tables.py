"""The tables of the documentation, made from the code: ``python docs/tables.py``."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from json_keys import KEYS
from stepsize import optimizers, schedules
from stepsize.optimizers import Optimizer, loop, registry
from stepsize.optimizers.wrappers.base import Wrapper

ROOT = Path(__file__).parents[1]


def rules() -> str:
    """One row per optimizer: what it does, its state, whether its bits are fixed, its source."""
    rows = []
    for cls in registry():
        defaults = {name: field.default for name, field in cls.fields.items()}
        state = _named(cls.variant(defaults)[1]) or "none"
        bits = "yes" if cls.reproducible else "no"
        rows.append((f"`{cls.__name__}`", first_sentence(cls), state, bits, _source(cls)))
    return _table(("Rule", "What it does", "State per parameter", "Same bits", "Source"), rows)


def wrappers() -> str:
    """One row per wrapper: what it does around a rule and its source."""
    classes = [getattr(optimizers, name) for name in sorted(optimizers.__all__, key=str.lower)]
    rows = [
        (f"`{cls.__name__}`", first_sentence(cls), _source(cls))
        for cls in classes
        if inspect.isclass(cls) and issubclass(cls, Wrapper)
    ]
    return _table(("Wrapper", "What it does", "Source"), rows)


def loop_options() -> str:
    """One row per option of the loop: its default, what it does, the rules with it, its source."""
    rows = []
    for name, option in loop.OPTIONS.items():
        having = [f"`{cls.__name__}`" for cls in registry() if name in cls.fields]
        whom = f"{option.whom}: {', '.join(having)}"
        call = f"`{name}={option.field.default!r}`"
        rows.append((call, option.words, whom, _linked(option.source)))
    return _table(("Option", "What it does", "For", "Source"), rows)


def recipes() -> str:
    """One row per schedule: how it is called and what it does."""
    rows = []
    for name in schedules.__all__:
        recipe = getattr(schedules, name)
        if inspect.isclass(recipe):
            continue
        rows.append((f"`{name}{_signature(recipe)}`", first_sentence(recipe)))
    return _table(("Call", "What it does"), rows)


PAGES = ("all-rules.md", "schedules.md", "command-line.md")

# What each extra of pip is for, in the order of the table.
PURPOSES = {
    "plot": "pictures: `.plot()`, `--plot`, reports",
    "demo": "`stepsize demo`, and tables on the command line",
    "table": "tables on the command line: CSV, Excel, JSON, Parquet",
    "tune": '`ss.tune(method="tpe")`',
    "tensorboard": "the callback `ss.TensorBoard`",
    "mlflow": "the callback `ss.MLflow`",
    "wandb": "the callback `ss.WandB`",
    "bf16": "parameters and gradients in bfloat16",
    "dask": "sweeps and searches on a Dask cluster",
    "mpi": "data parallelism and sweeps by MPI",
    "torch": "the optimizers as those of PyTorch",
    "sklearn": "estimators for scikit-learn",
    "scipy": "methods for `scipy.optimize.minimize`",
    "jax": "gradients from JAX",
    "optax": "schedules to and from optax",
    "autograd": "gradients from HIPS autograd",
}
_OURS = {"test", "docs", "peers", "trainers", "dev"}  # for work on the package itself


def extras() -> str:
    """One row per extra: the command that installs it, what it brings, and what for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {n: v for n, v in project["optional-dependencies"].items() if n not in _OURS}
    unknown = sorted(set(found) - set(PURPOSES))
    if unknown:
        raise KeyError(f"say in PURPOSES of {Path(__file__).name} what {unknown} are for")
    rows = [
        (f'`pip install "stepsize[{name}]"`', purpose, ", ".join(f"`{p}`" for p in found[name]))
        for name, purpose in PURPOSES.items()
        if name in found
    ]
    return _table(("Command", "What for", "Brings"), rows)


def json_keys() -> str:
    """One row per command and key of its JSON object."""
    rows = [
        (f"`{command} --json`" if i == 0 else "", f"`{key}`", meaning)
        for command, keys in KEYS.items()
        for i, (key, meaning) in enumerate(keys.items())
    ]
    return _table(("Command", "Key", "Meaning"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "rules": rules,
    "loop": loop_options,
    "wrappers": wrappers,
    "schedules": recipes,
    "extras": extras,
    "json": json_keys,
}


def fill(text: str) -> str:
    """The text with every table between its two markers made anew."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        before, *rest = pattern.split(text)
        text = before + (rest[0] + make() + "".join(rest[1:]) if rest else "")
    return text


def _signature(function: Callable[..., object]) -> str:
    """How it is called, without types."""
    signature = inspect.signature(function)
    untyped = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=untyped, return_annotation=inspect.Signature.empty))


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
    return _linked(text)


def _linked(text: str) -> str:
    return re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    escaped = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {line} |\n" for line in escaped)


if __name__ == "__main__":
    for path in [Path(__file__).parent / page for page in PAGES]:
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")

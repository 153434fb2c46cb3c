"""Ask torch, optax, keras, transformers and timm for the values of every row in docs/schedules.md.

Run it where they are installed: `python tests/golden/make_schedules.py`. It rewrites
tests/golden/schedules.json. The tests use `ask` for the packages that are installed.
"""

import ast
import importlib
import json
import os
import re
import warnings
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "schedules.md"
GOLDEN = HERE / "schedules.json"
# Every step of a short life, then on to ten times past it.
STEPS = [*range(61), *range(67, 601, 13)]
ROW = re.compile(r"^\| `(from_\w+\(.*?\))` \| `(.*?)` \| (.*?) \|$", re.MULTILINE)


def rows():
    """The calls of the translation table, what they return here, and the difference."""
    return [match.groups() for match in ROW.finditer(DOCS.read_text())]


def parse(call):
    """The importer's name, its first argument and the keywords."""
    tree = ast.parse(call, mode="eval").body
    keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords}
    return tree.func.id, ast.literal_eval(tree.args[0]), keywords


def torch_optimizer(lr):
    import torch

    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)


def walk(optimizer, scheduler, steps):
    """Values as a training loop sees them: the rate, an update, a scheduler step."""
    seen = {}
    for step in range(steps[-1] + 1):
        seen[step] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        if step < steps[-1]:
            scheduler.step()
    return [seen[step] for step in steps]


def make_torch(name, keywords):
    import torch

    keywords = dict(keywords)
    optimizer = torch_optimizer(keywords.pop("lr", keywords.get("max_lr", 0.1)))
    home = torch.optim.swa_utils if name == "SWALR" else torch.optim.lr_scheduler
    return optimizer, getattr(home, name)(optimizer, **keywords)


def ask_torch(name, keywords, steps):
    if name == "OneCycleLR":
        steps = [step for step in steps if step < keywords["total_steps"]]
    return walk(*make_torch(name, keywords), steps)


def ask_hf(name, keywords, steps):
    from transformers import get_scheduler

    keywords = dict(keywords)
    optimizer = torch_optimizer(keywords.pop("lr"))
    common = {key: keywords.pop(key, None) for key in ("num_warmup_steps", "num_training_steps")}
    scheduler = get_scheduler(name, optimizer, **common, scheduler_specific_kwargs=keywords)
    return walk(optimizer, scheduler, steps)


def make_timm(name, keywords):
    import timm.scheduler as home
    from timm.scheduler import wsd_lr

    keywords = dict(keywords)
    optimizer = torch_optimizer(keywords.pop("lr"))
    made = getattr(home, name, None) or getattr(wsd_lr, name)
    return optimizer, made(optimizer, **keywords)


def ask_timm(name, keywords, steps):
    optimizer, scheduler = make_timm(name, keywords)
    values = []
    for step in steps:
        scheduler.step(step)
        values.append(optimizer.param_groups[0]["lr"])
    return values


def ask_optax(name, keywords, steps):
    import jax
    import optax

    with jax.enable_x64(True):
        schedule = getattr(optax.schedules, name)(**keywords)
        return [float(schedule(jax.numpy.asarray(float(step)))) for step in steps]


def make_keras(name, keywords):
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    import keras

    return getattr(keras.optimizers.schedules, name)(**keywords)


def ask_keras(name, keywords, steps):
    schedule = make_keras(name, keywords)
    return [float(schedule(step)) for step in steps]


ASK = {
    "from_torch": ("torch", ask_torch),
    "from_optax": ("optax", ask_optax),
    "from_keras": ("keras", ask_keras),
    "from_hf": ("transformers", ask_hf),
    "from_timm": ("timm", ask_timm),
}


def ask(call, steps=STEPS):
    """The package's own values at `steps`; fewer where it ends in an error."""
    importer, name, keywords = parse(call)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ASK[importer][1](name, keywords, steps)


def main():
    versions = {
        package: importlib.import_module(package).__version__ for package, _ in ASK.values()
    }
    values = {call: ask(call) for call, _, _ in rows()}
    text = json.dumps({"versions": versions, "steps": STEPS, "values": values})
    GOLDEN.write_text(text.replace('], "', '],\n"') + "\n")


if __name__ == "__main__":
    main()

"""The pages about SciPy and JAX, and the lines for those who come from optax."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import torch

import stepsize as ss

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["scipy.md", "jax.md"])
def test_the_page_runs(page, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    scope = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)


def lines():
    text = (DOCS / "coming-from.md").read_text("utf-8").split("\n## optax\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(.*)` \| `(.*)` \|$", text, re.MULTILINE)


@pytest.mark.parametrize(("there", "here"), lines())
def test_from_optax(there, here, random):
    params = {"w": random.normal(size=(3, 4)).astype("f4"), "b": np.ones(4, np.float32)}
    theirs = jax.tree.map(jnp.array, params)
    transformation = eval(there, {"optax": optax})
    state, update = transformation.init(theirs), jax.jit(transformation.update)
    opt = eval(here, {"ss": ss, "params": params})
    for _ in range(12):
        grads = {k: random.normal(size=p.shape).astype("f4") for k, p in params.items()}
        if "masked" in there:
            grads["b"][:] = 0  # optax.masked hands the other gradients on, as they are
        updates, state = update(grads, state, theirs)
        theirs = optax.apply_updates(theirs, updates)
        opt.step(grads)
    for name, leaf in params.items():
        np.testing.assert_allclose(leaf, theirs[name], rtol=1e-5, atol=1e-6)


def test_the_lines_are_there():
    assert len(lines()) >= 12


def column(number):
    """The names in one column of the table of names; those of other numbers by themselves."""
    text = (DOCS / "coming-from.md").read_text("utf-8").split("\n## Rules by name\n")[1]
    rows = re.findall(r"^\| `.*$", text.split("\n## ")[0], re.MULTILINE)
    cells = [row.strip("|").split("|")[number] for row in rows]
    found = re.findall(r"(≈?) ?`([\w.]+)`", "\n".join(cells))
    return {name for mark, name in found if not mark}, {name for mark, name in found if mark}


def find(module, name):
    for part in name.split("."):
        module = getattr(module, part)
    return module


def test_names_of_torch():
    same, other = column(1)
    assert all(callable(find(torch.optim, name)) for name in same | other)
    classes = {name for name, cls in vars(torch.optim).items() if isinstance(cls, type)}
    assert classes - {"Optimizer"} == {name for name in same | other if "." not in name}


# What optax has and we have not.
NOT_HERE = {"adamaxw", "fromage", "optimistic_adam", "optimistic_adam_v2"}
NOT_HERE |= {"optimistic_gradient_descent"}


def test_names_of_optax():
    same, other = column(2)
    assert all(callable(find(optax, name)) for name in same | other)
    aliases = {
        name for name, f in vars(optax).items() if getattr(f, "__module__", "").endswith(".alias")
    }
    assert aliases - same - other == NOT_HERE
    code = "\n".join(there for there, _ in lines())
    assert [name for name in same if f"optax.{name}(" not in code] == []

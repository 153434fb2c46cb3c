"""The page about scikit-learn, and the lines for those who come from there or from Keras."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

import stepsize as ss
from stepsize.optimizers.wrappers.base import Wrapper

DOCS = Path(__file__).parents[2] / "docs"
THEIRS = [LogisticRegression, Ridge, SGDClassifier, SGDRegressor, MLPClassifier, MLPRegressor]


def table(heading, number=0):
    """The rows of a table below a heading, as pairs of code."""
    text = (DOCS / "coming-from.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    blocks = re.findall(r"(?:^\|.*\n)+", text.split("\n## ")[0], re.MULTILINE)
    return re.findall(r"^\| `(.*)` \| `(.*)` \|$", blocks[number], re.MULTILINE)


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "scikit-learn.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    scope = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "docs/scikit-learn.md", "exec"), scope)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("there", "here"), table("scikit-learn"))
def test_from_scikit_learn(there, here):
    x, y = load_diabetes(return_X_y=True) if "Reg" in here else load_iris(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    y = (y - y.mean()) / y.std() if "Reg" in here else y
    scope = {cls.__name__: cls for cls in THEIRS}
    a = eval(there, scope).fit(x, y)
    b = eval(here, {"sk": ss.interop.sklearn, "n": len(x)}).fit(x, y)
    if hasattr(a, "coef_") and "lbfgs" in here:
        np.testing.assert_allclose(b.coef_, a.coef_, atol=1e-3)
        np.testing.assert_allclose(b.intercept_, a.intercept_, atol=1e-3)
    # Batches are drawn in another order.
    assert b.score(x, y) > a.score(x, y) - 0.03


def clipped(g, value=None, norm=None):
    g = np.clip(g, -value, value) if value else g
    return g * min(1, norm / np.linalg.norm(g)) if norm else g


def keras(name, rate, **options):
    """The update as Keras states it: (x, g, state, t) -> x."""
    clip = options.pop("clipvalue", None), options.pop("global_clipnorm", None)

    def sgd(x, g, s, t, momentum=0.0, nesterov=False, weight_decay=0.0):
        x = x - rate * weight_decay * x
        s["m"] = momentum * s.get("m", 0) - rate * g
        return x + (momentum * s["m"] - rate * g if nesterov else s["m"])

    def adagrad(x, g, s, t):
        s["a"] = s.get("a", 0.1) + g**2
        return x - rate * g / np.sqrt(s["a"] + 1e-7)

    def adadelta(x, g, s, t):
        s["g"] = 0.95 * s.get("g", 0) + 0.05 * g**2
        move = np.sqrt(s.get("x", 0) + 1e-7) / np.sqrt(s["g"] + 1e-7) * g
        s["x"] = 0.95 * s.get("x", 0) + 0.05 * move**2
        return x - rate * move

    def adamax(x, g, s, t):
        s["m"] = s.get("m", 0) + (g - s.get("m", 0)) * (1 - 0.9)
        s["u"] = np.maximum(0.999 * s.get("u", 0 * g), abs(g))
        return x - rate * s["m"] / ((1 - 0.9**t) * (s["u"] + 1e-7))

    def adam(x, g, s, t, decay=0.0, amsgrad=False):
        x = x - rate * decay * x
        s["m"] = s.get("m", 0) + (g - s.get("m", 0)) * (1 - 0.9)
        s["v"] = s.get("v", 0) + (g**2 - s.get("v", 0)) * (1 - 0.999)
        alpha = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        s["top"] = np.maximum(s.get("top", 0), s["v"])
        return x - alpha * s["m"] / (np.sqrt(s["top" if amsgrad else "v"]) + 1e-7)

    def lion(x, g, s, t):
        m = s.get("m", 0 * g)
        s["m"] = 0.99 * m + 0.01 * g
        return x - rate * np.sign(0.9 * m + 0.1 * g)

    if name == "AdamW":
        options["decay"] = 0.004
    rules = {"SGD": sgd, "Adam": adam, "AdamW": adam, "Lion": lion}
    rule = {**rules, "Adagrad": adagrad, "Adadelta": adadelta, "Adamax": adamax}[name]
    return lambda x, g, s, t: rule(x, clipped(g, *clip), s, t, **options)


@pytest.mark.parametrize(("there", "here"), table("Keras"))
def test_from_keras(there, here, random):
    name, arguments = re.fullmatch(r"(\w+)\((.*)\)", there).groups()
    update = eval(f"keras({name!r}, {arguments})", {"keras": keras})
    params = random.normal(size=20)
    x, state = params.copy(), {}
    opt = eval(here, {"ss": ss, "params": params})
    for t in range(1, 11):
        g = random.normal(size=20)
        x = update(x, g, state, t)
        opt.step(g)
    # Where the bias corrections stand decides what the smallest eps adds to.
    np.testing.assert_allclose(params, x, rtol=1e-5)


@pytest.mark.parametrize(("there", "here"), table("Keras", 1))
def test_callbacks_from_keras(there, here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    callback = eval(here, {"ss": ss})
    x = np.ones(3)
    data = [np.zeros(3)]
    value_and_grad = lambda p, b: (float(p @ p), 2 * p)  # noqa: E731
    history = ss.fit(
        value_and_grad, x, ss.SGD(x, lr=0.1), data, epochs=3, validation=data, callbacks=[callback]
    )
    assert history.stopped == "finished 3 epochs" and there.split("(")[0].isidentifier()


def names():
    """The rows of the table of names, as lists of the names in each column."""
    text = (DOCS / "coming-from.md").read_text(encoding="utf-8")
    text = text.split("\n## Rules by name\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return [[re.findall(r"`([\w.]+)`", cell) for cell in row] for row in rows]


def test_every_rule_has_its_row():
    wrappers = {
        name
        for name in ss.optimizers.__all__
        if issubclass(type(thing := getattr(ss.optimizers, name)), type)
        and issubclass(thing, Wrapper)
    }
    rules = {cls.__name__ for cls in ss.optimizers.registry()}
    assert len(wrappers) >= 8
    assert [row[0] for row in names()] == sorted(
        ([name] for name in rules | wrappers), key=lambda row: row[0].lower()
    )
    assert all(len(row) == 5 for row in names())


@pytest.mark.parametrize(("there", "here"), table("timm"))
def test_from_timm(there, here, random):
    start = {"w": random.normal(size=(3, 4)), "b": np.ones(4)}
    params = ss.arrays.copy(start)
    opt = eval(here, {"ss": ss, "params": params})
    opt.step({name: random.normal(size=leaf.shape) for name, leaf in params.items()})
    assert all((params[name] != start[name]).any() for name in params)
    (their_name,) = re.findall('^"(\\w+)"', there)
    row = next(row for row in names() if row[0] == [type(opt).__name__])
    assert their_name in [*row[4], "momentum"]
    assert f"lr={opt.lr}" in there


def test_words_of_other_trainers_are_those_of_ours():
    text = (DOCS / "coming-from.md").read_text(encoding="utf-8")
    rows = text.split("\n## Words of other trainers\n")[1].split("\n## ")[0].splitlines()
    ours = [row.strip("| ").rpartition(" | ")[2] for row in rows]
    calls = [call for cell in ours for call in re.findall(r"`(\w+)\((\w+)=", cell)]
    assert len(calls) >= 12
    for name, argument in calls:
        assert argument in inspect.signature(getattr(ss, name)).parameters, (name, argument)

"""A resumed run says where a function is another than that of the run, whatever its name."""

import functools
import os
import subprocess
import sys
import sysconfig
import time
import warnings

import numpy as np
import pytest

import stepsize as ss
from stepsize.serialization.functions import changes, described, name_of
from stepsize.training.resume import ResumeWarning

X = np.random.default_rng(0).normal(size=(32, 4))
Y = X @ np.arange(4.0)


def value_and_grad(params, batch):
    x, y = batch
    error = x @ params - y
    return float(error @ error) / len(y), 2 / len(y) * (x.T @ error)


def fading(peak):
    return lambda step: peak / (1 + step)


class Rate:
    def __init__(self, peak):
        self.peak = peak
        self.calls = 0

    def __call__(self, step):
        self.calls += 1
        return self.peak


def weighted(scale):
    def function(params, batch):
        loss, grads = value_and_grad(params, batch)
        return scale * loss, scale * grads

    return function


def batches(rows):
    return lambda: [(X[:rows], Y[:rows])]


def score(shift):
    return lambda params, batch: {"loss": float(params.sum()) + shift}


def stopping(patience):
    return [ss.EarlyStopping("loss", patience=patience), ss.ReduceOnPlateau("loss", factor=0.5)]


def reducing(factor):
    return [ss.EarlyStopping("loss", patience=9), ss.ReduceOnPlateau("loss", factor=factor)]


def wait(name):
    return lambda value: {name: value}


def rate(make):
    return lambda value: {"lr": make(value)}


# What is given, by a number that is in the closure, a default, an attribute or an argument.
GIVEN = {
    "a function": rate(fading),
    "a schedule of a function": rate(lambda v: ss.schedules.from_function(fading(v))),
    "a schedule made of it": rate(lambda v: 0.5 * ss.schedules.from_function(fading(v))),
    "an object": rate(Rate),
    "a partial": rate(lambda v: functools.partial(lambda scale, step: scale, v)),
    "a default": rate(lambda v: lambda step, scale=v: scale),
    "a table": rate(lambda v: (lambda rates: lambda step: rates[0])(np.array([v]))),
    "other code": rate(lambda v: (lambda step: 0.1) if v == 0.1 else (lambda step: 0.2)),
    "momentum": lambda v: {"momentum": fading(v)},
    "count": lambda v: {"count": lambda batch: v},
    "value_and_grad": lambda v: {"function": weighted(v)},
    "train": lambda v: {"train": batches(16 if v == 0.1 else 8)},
    "evaluate": lambda v: {"evaluate": score(v), "validation": (X, Y)},
    "patience": lambda v: {"callbacks": stopping(3 if v == 0.1 else 4)},
    "factor": lambda v: {"callbacks": reducing(v)},
}


def run(path, epochs, *, function=value_and_grad, train=(X, Y), lr=0.01, momentum=0.5, **given):
    params = np.zeros(4)
    optimizer = ss.SGD(params, lr=lr, momentum=momentum)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResumeWarning)
        ss.fit(function, params, optimizer, train, epochs=epochs, checkpoint=path, progress=False,
               resume=True, **given)  # fmt: skip
    return [str(w.message) for w in caught if w.category is ResumeWarning]


@pytest.mark.parametrize("name", GIVEN)
def test_another_is_said_and_the_same_is_not(name, tmp_path):
    path, make = tmp_path / "run.safetensors", GIVEN[name]
    assert run(path, 1, **make(0.1)) == []
    assert run(path, 2, **make(0.1)) == []
    (said,) = run(path, 3, **make(0.2))
    assert "the resumed run differs" in said
    assert " instead of " in said or "other code" in said
    (said,) = run(path, 3, **make(0.1))
    assert "nothing was left to do" in said


def test_a_file_of_before_that_holds_an_address_differs_by_nothing():
    from stepsize.training.resume import _addressless

    texts = [f"from_function(<function f at 0x{n:x}>)" for n in (1 << 40, 1 << 41)]
    assert _addressless([texts[0]]) == _addressless([texts[1]])


def test_what_a_function_counts_itself_is_no_difference():
    seen, count = [], 0

    def counting(step):
        nonlocal count
        count += 1
        seen.append(step)
        return 0.1

    before = described(counting)
    for step in range(100):  # after which the interpreter runs specialized code
        counting(step)
    assert changes(before, described(counting)) == ""
    assert changes(before, described(lambda step: 0.1)).endswith(f"instead of {name_of(counting)}")


BEGUN, NAMES, MANY = time.time(), frozenset("abcdefgh"), list(range(100_000))
SINCE, ALSO = time.perf_counter(), time.monotonic()


def test_what_differs_in_every_process_is_no_difference():
    def function(step):
        return (time.time() - BEGUN) * len(NAMES) * len(MANY) * (SINCE + ALSO)

    told = described(function)
    times = {"BEGUN"} | ({"SINCE", "ALSO"} if time.monotonic() > 100 else set())
    assert not times & told["values"].keys() and told["values"]["MANY"] == "list of 100000"
    for value in (0.1, 0.00012345, 64, 12345.0, 12345.25, time.monotonic() + 1e5):
        assert described(lambda step, value=value: value)["values"]["value"] == repr(value)[:40]
    script = "from stepsize.serialization.functions import _text; print(_text({'a', 'b', 'c'}, 1))"
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(found) == 1


def test_the_code_of_an_installed_package_is_not_the_users():
    def wrap(function, text):
        place = os.path.join(sysconfig.get_paths()["purelib"], "other.py")
        names = {}
        exec(compile(text, place, "exec"), names)
        return functools.wraps(function)(names["wrapped"](function))

    texts = [f"def wrapped(f):\n    return lambda *a: f(*a) * {k}" for k in (1, 2)]
    one, two = (described(wrap(value_and_grad, text)) for text in texts)
    assert changes(one, two) == "" and one["code"] == described(value_and_grad)["code"]


class Keeps:
    """A callback with a value that moves, under the name of its argument."""

    def __init__(self, value=0.0, hook=None):
        self.value, self.hook = value, hook

    def on_step(self, run):
        self.value += 1.0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def test_what_a_callback_changes_is_its_state_and_a_function_beside_none_is_told(tmp_path):
    path, weights = tmp_path / "run", np.ones(3)
    keeps = {"callbacks": [Keeps(hook=lambda: weights.sum())]}
    assert run(path, 1, **keeps) == []
    weights += 1.0
    assert run(path, 2, **keeps) == []
    (said,) = run(path, 3, callbacks=[Keeps()])
    assert "hook=None instead of" in said and "<lambda>" in said and "{" not in said
    (said,) = run(path, 4, **keeps)
    assert "<lambda> instead of None" in said

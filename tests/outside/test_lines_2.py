"""What strangers met, and no other file holds: reprs, arguments by name, pictures of one rate."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from hostile import X, Y, clean, make_params
from stepsize import callbacks


def nest():
    return {"a": np.ones((2, 2)), "b": np.ones(2)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_repr_shows_the_schedule_and_each_value_once(rule):
    schedule = ss.schedules.warmup_cosine(0.1, 10, 100)
    try:
        grouped = rule(nest(), schedule, groups=[ss.group("b")])
    except ValueError:  # L-BFGS takes no groups
        grouped = rule(nest())
        assert f"lr={grouped.lr!r}" in repr(grouped)
        return
    assert "lr=warmup_cosine(0.1, 10, 100) (now 0)" in repr(grouped)
    plain = rule(nest(), schedule)
    values = repr(plain).partition(" over ")[0]
    assert repr(grouped).partition(" over ")[0] == values, "both groups agree"
    apart = rule(nest(), 0.25, groups=[ss.group("b", lr=0.5)])
    assert "lr=(0.25, 0.5)" in repr(apart)


def test_a_repr_names_functions_and_the_parts_of_a_pair():
    def rate(step):
        return 0.1

    shown = repr(ss.Adam(nest(), rate, betas=(ss.schedules.cosine(0.9, 0.5, 10), 0.99)))
    assert "lr=<function rate> (now 0.1), betas=(cosine(0.9, 0.5, 10) (now 0.9), 0.99)" in shown
    long = ss.schedules.constant(0.1)
    for _ in range(40):
        long = long + long
    assert len(repr(ss.SGD(nest(), long))) < 400


def test_a_group_without_parameters_is_named():
    with pytest.raises(ValueError, match=r"SGD: group 1 has no 'params' .it has lr.; give each"):
        ss.SGD([{"params": nest()}, {"lr": 0.2}])
    with pytest.raises(ValueError, match="Adam: group 0 has no 'params'"):
        ss.Adam([{"lr": 0.2, "eps": 1e-3}, {"params": nest()}])
    # A nest may have leaves of that name.
    optimizer = ss.SGD([{"params": np.ones(2)}, {"w": np.ones(2)}])
    assert len(optimizer.paths) == 2


# Of each callback's constructor: every argument given what it can never be is refused by name.
STRANGE = (object(), float("nan"), b"\xff" * 3, [object()])
NEEDS = {
    "BatchSizeSchedule": {"sizes": {0: 4}},
    "CSVLogger": {"path": "a.csv"},
    "Checkpoint": {"path": "a"},
    "JSONLogger": {"path": "a.jsonl"},
    "LinearSAGA": {"slope": lambda z, y: z - y, "X": np.ones((3, 2)), "y": np.ones(3)},
    "LogTo": {"logger": callbacks.CSVLogger("a.csv").logger},
    "SAGA": {"value_and_grad": clean, "batches": [(np.ones((3, 1)),)]},
    "SVRG": {"value_and_grad": clean, "data": (np.ones((3, 1)),), "every": 2},
    "SharpnessMonitor": {"loss": lambda params, batch: 0.0},
    "TensorBoard": {"folder": "a"},
}
FIRST = {"Freeze": ("w",)}


@pytest.mark.parametrize("name", sorted(callbacks.__all__))
def test_arguments_of_callbacks_are_refused_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = getattr(callbacks, name)
    for argument, parameter in inspect.signature(made).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        for value in STRANGE:
            if isinstance(value, bytes) and argument in ("path", "folder"):
                continue  # bytes are a path
            if isinstance(value, list) and argument in ("batches", "data"):
                continue  # a batch may be anything
            with pytest.raises((TypeError, ValueError)) as caught:
                if parameter.kind is parameter.VAR_POSITIONAL:
                    made(value)
                else:
                    made(*FIRST.get(name, ()), **{**NEEDS.get(name, {}), argument: value})
            words = str(caught.value)
            assert words.startswith(name) and argument.rstrip("s") in words, (argument, value)
    assert not list(Path().iterdir())


DATA = {
    "fit": lambda data: ss.fit(clean, make_params(), "sgd", data, epochs=1),
    "fit validation": lambda data: ss.fit(
        clean, make_params(), "sgd", (X, Y), epochs=1, validation=data
    ),
    "autolr": lambda data: ss.autolr(clean, make_params(), data, steps=3),
    "lr_find": lambda data: ss.lr_find(clean, make_params(), data),
}


@pytest.mark.parametrize("door", DATA)
@pytest.mark.parametrize("data", ["table.csv", b"table.csv", {"x": X, "y": Y}])
def test_text_and_dicts_are_no_batches(door, data):
    with pytest.raises(TypeError, match=r"train|validation|batches"):
        DATA[door](data)


def test_a_list_of_arrays_is_explained_by_autolr():
    with pytest.raises(TypeError) as caught:
        ss.autolr(clean, make_params(), [X, Y], steps=3)
    assert "(x, y)" in str(caught.value) + " ".join(getattr(caught.value, "__notes__", ()))


@pytest.mark.parametrize("wrong", [3, object(), ss.EarlyStopping(), [ss.EarlyStopping]])
def test_callbacks_of_autolr_are_checked_first(wrong):
    def never(params, batch):
        raise AssertionError("called")

    with pytest.raises(TypeError, match=r"^autolr: callbacks"):
        ss.autolr(never, make_params(), (X, Y), steps=3, callbacks=wrong)


@pytest.mark.parametrize("wrong", [3, object(), float("nan"), {}])
def test_the_storage_of_a_search_is_a_path(wrong):
    with pytest.raises(TypeError, match=r"^tune: storage must be a path, .* got "):
        ss.tune(lambda p: p["a"], {"a": ss.Uniform(0, 1)}, trials=2, storage=wrong)


@pytest.mark.parametrize("wrong", [1, "yes", None, float("nan")])
def test_the_warmup_of_an_average_is_true_or_false(wrong):
    with pytest.raises(TypeError, match="EMA: warmup must be True or False"):
        ss.EMA(ss.SGD(nest()), warmup=wrong)
    assert ss.EMA(ss.SGD(nest()), warmup=np.bool_(True)).warmup is True


@pytest.mark.parametrize(
    "state", [{"kept": [["x", True]]}, {"kept": [[None, True]]}, {"kept": [], "best": "x"}]
)
def test_what_a_checkpoint_says_it_kept_is_checked(state):
    with pytest.raises((ValueError, TypeError), match=r"kept\[0\]: its step|best must be"):
        ss.Checkpoint("a").load_state_dict(state)


@pytest.mark.parametrize("steps", [400, 2000])
def test_the_start_of_a_curve_is_drawn_as_it_was_alone(steps):
    loss = 1e-6 + 2 * np.exp(-np.arange(steps) / 20)
    axes = ss.plots.learning_curves({"loss": loss})
    assert any(len(line.get_ydata()) >= 400 for line in axes.lines)
    drawn = [np.asarray(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) >= 400]
    for curve in drawn:
        np.testing.assert_allclose(curve[:380], loss[:380])

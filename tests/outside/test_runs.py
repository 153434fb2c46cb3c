"""Whole runs as a stranger makes them: parts of unequal size, metrics of either direction, a resume
with other arguments, a step inside a step."""

import gc
import threading

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from hostile import MAKERS, Y, clean, make_params
from hostile import X as INPUTS

# Unequal parts: a mean over rows is a mean over rows, however they are cut.

SIZES = [(n, size) for n in (7, 21, 33, 40, 57, 60) for size in (1, 4, 5, 13, 20, 59, 60)]


def data(n):
    return INPUTS[:n], Y[:n]


@pytest.mark.parametrize(("n", "size"), SIZES)
def test_the_loss_of_an_epoch_weighs_rows_alike(n, size):
    class Seen:
        def on_epoch(self, run):
            self.loss = run.metrics["loss"]

    seen = Seen()
    params = make_params()
    options = {"epochs": 1, "batch_size": size, "callbacks": [seen], "progress": False}
    ss.fit(clean, params, ss.SGD(params, lr=0.0), data(n), **options)
    assert seen.loss == pytest.approx(clean(params, data(n))[0], rel=1e-12)


@pytest.mark.parametrize(("n", "size"), SIZES)
def test_validation_weighs_rows_alike(n, size):
    params = make_params()
    options = {"epochs": 1, "batch_size": size, "validation": data(n), "progress": False}
    history = ss.fit(clean, params, ss.SGD(params, lr=0.0), data(60), **options)
    assert history["val_loss"][-1] == pytest.approx(clean(params, data(n))[0], rel=1e-12)


@pytest.mark.parametrize(("n", "size"), SIZES)
def test_accumulation_weighs_rows_alike(n, size):
    whole, parts = make_params(), make_params()
    common = {"epochs": 1, "seed": None, "progress": False}
    ss.fit(clean, whole, ss.SGD(whole, lr=0.1), data(n), batch_size=n, **common)
    pieces = -(-n // size)
    options = {"batch_size": size, "accumulate": pieces}
    ss.fit(clean, parts, ss.SGD(parts, lr=0.1), data(n), **options, **common)
    for name, leaf in whole.items():
        np.testing.assert_allclose(parts[name], leaf, rtol=1e-12)


# Metrics: their direction is in their name, or asked for.

UP = [
    "accuracy",
    "acc",
    "val_accuracy",
    "val_acc",
    "auc",
    "roc_auc",
    "f1",
    "f1_score",
    "r2",
    "val_r2",
    "score",
    "precision",
    "recall",
    "iou",
    "mean_iou",
    "top5_accuracy",
    "balanced_accuracy",
    "ndcg",
    "map",
    "dice",
    "bleu",
]
DOWN = [
    "loss",
    "val_loss",
    "error",
    "val_error",
    "mse",
    "val_mse",
    "mae",
    "rmse",
    "log_loss",
    "perplexity",
    "nll",
    "val_nll",
    "cross_entropy",
    "mape",
]
UNKNOWN = ["val_thing", "x", "speed", "q7"]
WATCHERS = {
    "EarlyStopping": lambda name: ss.EarlyStopping(name, patience=2),
    "ReduceOnPlateau": lambda name: ss.ReduceOnPlateau(name, patience=1, factor=0.5),
    "Checkpoint": lambda name: ss.Checkpoint("unused", monitor=name),
}


@pytest.mark.parametrize("name", UP + DOWN)
@pytest.mark.parametrize("watcher", WATCHERS)
def test_the_direction_of_a_metric_is_told_by_its_name(watcher, name):
    callback = WATCHERS[watcher](name)
    assert callback.mode == ("max" if name in UP else "min")


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("watcher", WATCHERS)
def test_the_direction_of_an_unknown_metric_is_asked_for(watcher, name):
    with pytest.raises(ValueError, match="mode") as caught:
        WATCHERS[watcher](name)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["accuracy", "error"])
def test_the_best_weights_are_those_of_the_best_metric(name):
    values = iter([0.5, 0.7, 0.9, 0.6, 0.4, 0.3, 0.2])  # lowest last, highest in the middle
    kept = []

    def evaluate(params, batch):
        kept.append(params["b"].copy())
        return {name: next(values)}

    params = make_params()
    stopping = ss.EarlyStopping(f"val_{name}", patience=5)
    options = {"batch_size": 60, "validation": data(60), "evaluate": evaluate, "progress": False}
    ss.fit(
        clean, params, ss.SGD(params, lr=0.05), data(60), epochs=7, callbacks=[stopping], **options
    )
    best = 2 if name == "accuracy" else 6
    assert np.array_equal(params["b"], kept[best])


# A resume with one argument changed: what is given is used, or refused by its name.


def started(path, **changes):
    given = {"rule": ss.AdamW, "lr": 0.05, "weight_decay": 0.01, "epochs": 2, "n": 60} | changes
    params = given.pop("params", make_params)()
    words = {name: given.pop(name) for name in ("lr", "weight_decay", "betas") if name in given}
    rule, n, epochs = given.pop("rule"), given.pop("n"), given.pop("epochs")
    if rule is not ss.AdamW:
        words.pop("weight_decay")
    optimizer = rule(params, **words)
    options = {"batch_size": 20, "checkpoint": path, "resume": True, "progress": False} | given
    history = ss.fit(clean, params, optimizer, data(n), epochs=epochs, **options)
    return params, optimizer, history


USED = {
    "lr": (0.011, lambda opt: opt.lr == 0.011),
    "weight_decay": (0.3, lambda opt: opt.hyperparams["weight_decay"] == 0.3),
    "betas": ((0.5, 0.9), lambda opt: tuple(opt.hyperparams["betas"]) == (0.5, 0.9)),
}
REFUSED = {
    "seed": 7,
    "rule": ss.Adam,
    "n": 41,
    "params": lambda: make_params() | {"c": np.zeros(2)},
}


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("name", USED)
def test_a_resume_uses_what_is_given(name, tmp_path):
    started(tmp_path / "run")
    value, holds = USED[name]
    _, optimizer, history = started(tmp_path / "run", epochs=4, **{name: value})
    assert holds(optimizer) and len(history["loss"]) == 12


@pytest.mark.filterwarnings("ignore:.*")
def test_a_schedule_made_for_the_longer_run_is_followed(tmp_path):
    short = ss.schedules.cosine(0.05, 0.0, 6)
    started(tmp_path / "run", lr=short)
    longer = ss.schedules.cosine(0.05, 0.0, 12)
    _, _, history = started(tmp_path / "run", lr=longer, epochs=4)
    assert np.array_equal(history["lr"][6:], longer(np.arange(6, 12)))


def test_a_resume_with_what_it_was_made_with_says_nothing(tmp_path, recwarn):
    started(tmp_path / "run")
    started(tmp_path / "run", epochs=4)
    assert not recwarn.list


@pytest.mark.parametrize("name", REFUSED)
def test_a_resume_refuses_what_cannot_differ(name, tmp_path):
    started(tmp_path / "run")
    with pytest.raises((ValueError, ss.CheckpointError)) as caught:
        started(tmp_path / "run", epochs=4, **{name: REFUSED[name]})
    words = {"n": "samples", "rule": "Adam", "params": "c", "seed": "seed"}
    assert words[name] in str(caught.value)


# A step inside a step, and gradients that others take away.


def nest():
    return {"w": np.ones((4, 3)), "b": np.ones(5)}


@pytest.mark.parametrize("rule", RULES, ids=lambda cls: cls.__name__)
def test_a_step_within_a_step_is_refused(rule):
    params = nest()
    inner = []

    def rate(step):
        if step == 1 and not inner:
            inner.append(1)
            optimizer.step(nest(), loss=1.0)
        return 0.1

    optimizer = rule(params, lr=rate)
    optimizer.step(nest(), loss=1.0)
    before = {name: leaf.copy() for name, leaf in params.items()}
    with pytest.raises(RuntimeError, match="step"):
        optimizer.step(nest(), loss=1.0)
    assert all(np.array_equal(params[name], leaf) for name, leaf in before.items())
    optimizer.step(nest(), loss=1.0)
    assert optimizer.step_count == 2


@pytest.mark.parametrize("rule", RULES, ids=lambda cls: cls.__name__)
def test_gradients_that_a_rate_takes_away_are_missed(rule):
    params, grads = nest(), nest()

    def rate(step):
        if step == 1:
            grads.clear()
            gc.collect()
        return 0.1

    optimizer = rule(params, lr=rate)
    optimizer.step(grads, loss=1.0)
    before = {name: leaf.copy() for name, leaf in params.items()}
    with pytest.raises(ValueError, match=r"grads: . is missing"):
        optimizer.step(grads, loss=1.0)
    assert all(np.array_equal(params[name], leaf) for name, leaf in before.items())
    assert optimizer.step_count == 1


@pytest.mark.parametrize("rule", RULES, ids=lambda cls: cls.__name__)
def test_gradients_that_a_rate_replaces_are_those_that_are_stepped_with(rule):
    one, two, grads = nest(), nest(), nest()

    def rate(step):
        grads["w"] = np.full((4, 3), step + 2.0)
        gc.collect()
        return 0.1

    replaced, plain = rule(two, lr=rate), rule(one, lr=0.1)
    for step in range(3):
        plain.step({"w": np.full((4, 3), step + 2.0), "b": np.ones(5)}, loss=1.0)
        replaced.step(grads, loss=1.0)
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("rule", ["AdamW", "SOAP", "EMA around Adam"])
def test_what_is_saved_beside_a_stepping_thread_is_whole(rule):
    params = {"w": np.ones((4, 3)), "b": np.ones(5)}
    optimizer = MAKERS[rule](params)
    stop = threading.Event()

    def steps():
        while not stop.is_set():
            optimizer.step({name: np.ones_like(leaf) for name, leaf in params.items()}, loss=1.0)

    thread = threading.Thread(target=steps)
    thread.start()
    try:
        for _ in range(200):
            state = optimizer.state_dict()
            inner = state.get("inner", state)
            assert set(inner["steps"].values()) == {inner["step_count"]}
    finally:
        stop.set()
        thread.join()

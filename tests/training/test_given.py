"""What is given to `fit` is used, or refused by its name; a resume says what it uses otherwise."""

import inspect
import math
import os
import signal
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

import stepsize as ss
from fitting import X, Y, batches, bits, fit, make_params, value_and_grad
from stepsize.training.resume import ResumeWarning

# Every argument of the wrong kind is refused by name, with nothing trained.

WRONG = {
    "value_and_grad": [None, 3, "loss"],
    "params": [None, {}, [], {"w": np.zeros(3)}],
    "optimizer": [None, 3, "adamm", ss.Adam],
    "train": [None, 3, (X, Y[:3])],
    "epochs": [0, 1.5, "x", True, -1, math.nan],
    "steps": [0, 1.5, "x", True, -1],
    "batch_size": [0, -1, 2.5, "x", True, None],
    "validation": [3, (X, Y[:2]), iter([(X, Y)])],
    "evaluate": [3, "accuracy"],
    "callbacks": [3, None, [3]],
    "seed": [-1, 1.5, "x"],
    "progress": [],  # anything is true or false
    "checkpoint": [3, ["c"]],
    "resume": [1, "yes", None],
    "accumulate": [0, 1.5, "x", None],
    "validate_every": [0, 1.5, "x"],
    "count": [3, "rows"],
    "drop_last": [None, 1, "yes"],
    "comm": [3, "world", (0, 2)],
}


def test_every_argument_has_its_row():
    assert set(WRONG) == set(inspect.signature(ss.fit).parameters) == set(RESUMED)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_argument_is_refused_by_its_name(name, value, tmp_path):
    params = make_params()
    given = {
        "value_and_grad": value_and_grad,
        "params": params,
        "optimizer": ss.Adam(params, lr=0.1),
        "train": (X, Y),
        "epochs": 1,
    }
    if name in ("validate_every", "evaluate"):
        given["validation"] = (X, Y)
    if name == "resume":
        given["checkpoint"] = tmp_path / "c"
    with pytest.raises((TypeError, ValueError)) as caught:
        ss.fit(**given | {name: value})
    assert name in str(caught.value)
    assert bits(params) == bits(make_params()) and not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["evaluate", "validate_every"])
def test_what_needs_validation_is_refused_without(name):
    value = {"evaluate": lambda params, batch: {}, "validate_every": 3}[name]
    with pytest.raises(ValueError, match=f"{name}=.* needs validation="):
        fit(params := make_params(), **{name: value})
    assert bits(params) == bits(make_params())


@pytest.mark.parametrize("name", ["adam", "AdamW", "schedule_free_adamw", "lion"])
def test_an_optimizer_may_be_named(name):
    params, expected = make_params(), make_params()
    fit(params, name)
    made = {"adam": ss.Adam, "AdamW": ss.AdamW, "lion": ss.Lion}.get(name, ss.ScheduleFreeAdamW)
    fit(expected, made(expected))
    assert bits(params) == bits(expected)


def test_a_list_of_arrays_is_explained_where_it_fails():
    with pytest.raises(TypeError, match="train is a list of 2 arrays of 40 rows each"):
        fit(make_params(), train=[X, Y])
    with pytest.raises(ValueError, match="unpack") as caught:
        fit(make_params(), train=[X, Y[1:]])
    assert "train is a list of 2 arrays, taken as 2 batches" in caught.value.__notes__[0]
    warned = pytest.warns(UserWarning, match="train is one array")
    with warned, pytest.raises(ValueError, match="unpack") as caught:
        fit(make_params(), train=X)
    assert "train is one array, taken as 40 batches" in caught.value.__notes__[0]


# The parameters are the arrays that were given.


@pytest.mark.parametrize("when", [0, 1, 40, 170])
@pytest.mark.parametrize("train", [(X, Y), batches()], ids=["arrays", "stream"])
def test_parameters_bound_to_other_arrays_are_noticed(when, train):
    calls = iter(range(10**6))

    def function(params, batch):
        loss, grads = value_and_grad(params, batch)
        if next(calls) == when:
            params["w"] = params["w"] - np.float32(0.1) * grads["w"]
        return loss, grads

    params = make_params()
    with pytest.raises(ValueError, match=r"params: w was bound to another array"):
        ss.fit(function, params, ss.SGD(params, lr=0.1), train, epochs=60, batch_size=8)


# Hooks before the step, where the optimizer computes its gradients itself.


class Clip:
    def __init__(self, place):
        self.place = place

    def on_gradients(self, run):
        if self.place:
            run.grads["w"] *= np.float32(0.5)
        else:
            run.grads = {**run.grads, "w": run.grads["w"] * np.float32(0.5)}


CLOSURES = {"LBFGS": ss.LBFGS, "SAM": lambda params: ss.SAM(ss.SGD(params, lr=0.1))}


@pytest.mark.parametrize("name", CLOSURES)
@pytest.mark.parametrize("hook", [Clip(True), Clip(False), ss.Freeze("b")])
def test_changed_gradients_that_a_rule_would_not_see_are_refused(name, hook):
    params = make_params()
    opt = CLOSURES[name](params)
    with pytest.raises(ValueError, match=f"on_gradients, but {name} evaluates the function itself"):
        fit(params, opt, train=[(X, Y)], callbacks=[hook])
    assert bits(params) == bits(make_params())
    fit(params, opt, train=[(X, Y)], callbacks=[ss.LRMonitor(), ss.DiagnosisMonitor()])


# A resume with one argument changed.


def started(path, **changes):
    given = {"rule": ss.AdamW, "lr": 0.05, "weight_decay": 0.01} | changes
    params = given.pop("params", make_params)()
    hyper = {name: given.pop(name) for name in ("lr", "weight_decay", "betas") if name in given}
    function = given.pop("value_and_grad", value_and_grad)
    optimizer = given.pop("rule")(params, **hyper)
    train = given.pop("train", (X, Y))
    options = {"epochs": 2, "batch_size": 8, "checkpoint": path, "resume": True} | given
    return params, optimizer, ss.fit(function, params, optimizer, train, **options)


class Notes:
    def __init__(self, seen):
        self.seen = seen

    def on_step(self, run):
        self.seen.append(len(run.batch) if isinstance(run.batch, list) else len(run.batch[1]))


def accuracy(params, batch):
    return {"accuracy": 0.5}


LONGER = {"epochs": 4}
REFUSED, USED, SAID = "refused", "used", "used and said"
# Of each argument, another value than at the start and what becomes of it.
RESUMED = {
    "value_and_grad": ({"value_and_grad": lambda p, b: value_and_grad(p, b)}, SAID),
    "params": ({"params": lambda: {"w": np.zeros(4, np.float32), "b": np.zeros(1)}}, REFUSED),
    "optimizer": ({"lr": 0.011}, SAID),
    "train": ({"train": (X[:30], Y[:30])}, REFUSED),
    "epochs": ({"epochs": 5}, USED),
    "steps": ({"steps": 13}, USED),
    "batch_size": ({"batch_size": 10}, SAID),
    "validation": ({"validation": (X, Y)}, USED),
    "evaluate": ({"validation": (X, Y), "evaluate": accuracy}, USED),
    "callbacks": ({"callbacks": [ss.EarlyStopping("loss")]}, REFUSED),
    "seed": ({"seed": 7}, REFUSED),
    "progress": ({"progress": False}, USED),
    "checkpoint": ({}, USED),  # the path that the run is read from
    "resume": ({"resume": False}, USED),
    "accumulate": ({"accumulate": 2}, SAID),
    "validate_every": ({"validation": (X, Y), "validate_every": 3}, USED),
    "count": ({"count": len}, SAID),
    "drop_last": ({"batch_size": 8, "drop_last": True}, SAID),
    "comm": ({}, USED),  # a run of ranks goes on without them, and the other way round
}
HYPERPARAMETERS = {
    "lr": 0.011,
    "weight_decay": 0.3,
    "betas": (0.5, 0.9),
    "a schedule": ss.schedules.cosine(0.05, 0.0, 25),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resume_uses_or_refuses_every_argument(name, tmp_path):
    started(tmp_path / "c")
    changes, outcome = RESUMED[name]
    if outcome == REFUSED:
        with pytest.raises(ss.CheckpointError):
            started(tmp_path / "c", **LONGER | changes)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, optimizer, history = started(tmp_path / "c", **LONGER | changes)
    said = [w for w in caught if issubclass(w.category, ResumeWarning)]
    assert len(said) == (outcome == SAID)
    if said:
        text = str(said[0].message)
        assert "from step 10 on" in text and f"{next(reversed(changes))}=" in text
        assert history.meta["changed"][0][0] == 10
    if name == "optimizer":
        assert optimizer.lr == 0.011 and history["lr"][-1] == 0.011
    if name == "epochs":
        assert history.steps == 25
    if name == "steps":
        assert history.steps == 13
    if name == "batch_size":
        assert history.steps == 10 + 2 * 4
    if name == "accumulate":
        assert history.steps == 10 + 2 * 3
    if name == "evaluate":
        assert history.last("val_accuracy") == 0.5


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_a_resume_uses_each_hyperparameter(name, tmp_path):
    value = HYPERPARAMETERS[name]
    key = "lr" if name == "a schedule" else name
    started(tmp_path / "c")
    with pytest.warns(ResumeWarning, match=f"{key}="):
        _, optimizer, history = started(tmp_path / "c", **LONGER | {key: value})
    if name == "a schedule":
        assert history["lr"][10:].tolist() == value(np.arange(10, 20)).tolist()
    else:
        assert np.all(np.equal(optimizer.hyperparams[name], value))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        started(tmp_path / "c", **{"epochs": 5, key: value})  # as it was made the last time


@pytest.mark.parametrize("name", [n for n, (_, outcome) in RESUMED.items() if outcome == SAID])
@pytest.mark.parametrize("ends", [{"epochs": 2}, {"epochs": 9, "steps": 10}])
def test_where_no_step_is_left_a_resume_says_so_and_changes_nothing(name, ends, tmp_path):
    params, optimizer, history = started(tmp_path / "c")
    changes, _ = RESUMED[name]
    with pytest.warns(ResumeWarning) as caught:
        again, other, same = started(tmp_path / "c", **LONGER | changes | ends)
    (said,) = [str(w.message) for w in caught if issubclass(w.category, ResumeWarning)]
    assert said.startswith("nothing was left to do") and "has made 10 steps in 2 epochs" in said
    assert next(reversed(changes)) in said and "not used" in said and "more epochs" in said
    assert "from step" not in said
    assert same == history and bits(again) == bits(params)
    assert other.hyperparams == optimizer.hyperparams
    assert "changed" not in same.meta and "resumed" not in same.meta
    assert all(same.meta[k] == history.meta[k] for k in ("groups", "batch_size", "accumulate"))


class Lower:
    def on_step(self, run):
        if run.step == 7:
            run.optimizer.lr = 0.002


def test_what_callbacks_changed_goes_on(tmp_path):
    started(tmp_path / "c", callbacks=[Lower()])
    _, optimizer, _ = started(tmp_path / "c", callbacks=[Lower()], epochs=4)
    assert optimizer.lr == 0.002


@pytest.mark.parametrize("batch_size", [8, 5])
def test_a_grown_batch_goes_on_unless_another_is_given(tmp_path, batch_size):
    seen = []

    class Grow:
        def on_epoch(self, run):
            run.batch_size = 20

    started(tmp_path / "c", callbacks=[Grow()], epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        callbacks = [Grow(), Notes(seen)]
        started(tmp_path / "c", callbacks=callbacks, batch_size=batch_size, epochs=2)
    assert seen == ([20] * 2 if batch_size == 8 else [5] * 8)


# A checkpoint whose numbers no run could have written.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": -1}, "batch_size must be a whole number >= 1, got -1"),
        ({"batch_size": 2.5}, "batch_size must be"),
        ({"offset": -5}, "offset in the epoch must be .* got -5"),
        ({"offset": 41}, "offset in the epoch must be .* got 41"),
        ({"step": 10**9}, "number of steps must be .* got 1000000000"),
        ({"step": -1}, "number of steps must be"),
        ({"step": "x"}, "number of steps must be"),
        ({"epoch": -1}, "number of epochs must be"),
        ({"finished": 3}, "finished must be True or False"),
        ({"metrics": {"loss": "x"}}, "loss must be a number"),
        ({"row_count": -1.0}, "row_count must be a number >= 0"),
        ({"seed": "x"}, "seed"),
        ("position", "position of a random generator must be from 0 to 624, got 625"),
        ("numpy", "position of a random generator must be from 0 to 624, got -1"),
    ],
)
def test_numbers_in_a_checkpoint_are_checked(tmp_path, change, message):
    from stepsize.serialization import nested

    started(tmp_path / "c")
    state = nested.load(tmp_path / "c", "run")
    if change == "position":
        state["random"]["python"]["words"] = state["random"]["python"]["words"].copy()
        state["random"]["python"]["words"][-1] = 625
    elif change == "numpy":
        state["random"]["numpy"]["state"]["pos"] = -1
    else:
        state["cursor"] |= change
    nested.dump(tmp_path / "c", "run", state)
    params = make_params()
    opt = ss.AdamW(params, lr=0.05)
    before = repr(opt.state_dict())
    with pytest.raises(ss.CheckpointError, match=message):
        fit(params, opt, checkpoint=tmp_path / "c", resume=True)
    assert bits(params) == bits(make_params()) and repr(opt.state_dict()) == before


class Refuses:
    def state_dict(self):
        return {"value": 1}

    def load_state_dict(self, state):
        raise RuntimeError("not today")


def test_a_callback_that_cannot_be_resumed_leaves_everything(tmp_path):
    fit(make_params(), checkpoint=tmp_path / "c", callbacks=[Refuses()])
    params = make_params()
    opt = ss.Adam(params, lr=0.1)
    before = repr(opt.state_dict())
    with pytest.raises(RuntimeError, match="not today"):
        fit(params, opt, checkpoint=tmp_path / "c", callbacks=[Refuses()], resume=True)
    assert bits(params) == bits(make_params()) and repr(opt.state_dict()) == before


# SIGTERM: schedulers of clusters send it some time before they kill.

TERMINATED = """
    import os, signal, sys
    import stepsize as ss
    from fitting import fit, make_params

    class Terminate:
        def on_step(self, run):
            if run.step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    fit(make_params(), callbacks=[Terminate()], checkpoint=sys.argv[1] or None)
    print("went on")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to send")
@pytest.mark.parametrize("path", ["c", ""])
def test_sigterm_saves_the_checkpoint_and_ends_the_process(tmp_path, path):
    path = str(tmp_path / path) if path else ""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TERMINATED), path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -signal.SIGTERM and "went on" not in ended.stdout
    if path:
        assert ss.History.load(path).steps == 4
        assert ss.History.load(path).stopped == "terminated by SIGTERM after step 4"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("groups", None), ("groups", "x"), ("groups", [3]), ("groups", [{"hyperparams": 3}]),
        ("groups", "gone"), ("options", 3), ("options", [["AdamW"]]), ("options", [[1, {}]]),
        ("options", [["AdamW", 3]]), ("batch_size", 0), ("batch_size", "x"), ("batch_size", 2.5),
        ("accumulate", None), ("accumulate", -1), ("accumulate", True), ("drop_last", 1),
        ("seconds", float("nan")), ("seconds", -1.0), ("seconds", "x"), ("seconds", True),
        ("resumed", 3), ("resumed", ["x"]), ("resumed", [-1]), ("resumed", [float("nan")]),
        ("changed", 3), ("changed", [3]), ("changed", [[1, "x"]]), ("changed", [["x", []]]),
        ("changed", [[1, [2]]]),
    ],
)  # fmt: skip
def test_what_a_checkpoint_tells_of_its_run_is_checked(tmp_path, name, value):
    from stepsize.serialization import nested

    started(tmp_path / "c")
    state = nested.load(tmp_path / "c", "run")
    state["history"]["meta"][name] = value
    if value == "gone":
        del state["history"]["meta"][name]
    nested.dump(tmp_path / "c", "run", state)
    params = make_params()
    opt = ss.AdamW(params, lr=0.05)
    before = repr(opt.state_dict())
    with pytest.raises(ss.CheckpointError, match=f"meta: {name}"):
        fit(params, opt, checkpoint=tmp_path / "c", resume=True)
    assert bits(params) == bits(make_params()) and repr(opt.state_dict()) == before

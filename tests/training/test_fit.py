"""fit: what it does with data, limits, validation, errors and interrupts."""

import itertools
import math
import os
import sys
import threading
import tracemalloc
import warnings

import numpy as np
import pandas
import pytest

import stepsize as ss
from fitting import X, Y, batches, bits, fit, make_params, value_and_grad
from stepsize.training.batches import shuffled


def test_fit_is_the_loop_one_would_write():
    params, expected = make_params(), make_params()
    history = fit(params)
    opt = ss.Adam(expected, lr=0.1)
    losses, rates, norms, sizes = [], [], [], []
    for epoch in range(3):
        order = shuffled(40, 0, epoch)
        for i in range(0, 40, 8):
            chosen = order[i : i + 8]
            loss, grads = value_and_grad(expected, (X[chosen], Y[chosen]))
            rates.append(opt.lr)
            sizes.append(
                np.sqrt(sum(np.sum(leaf.astype(np.float64) ** 2) for leaf in expected.values()))
            )
            norms.append(opt.step(grads, stats=True).grad_norm)
            losses.append(loss)
    assert bits(params) == bits(expected)
    np.testing.assert_array_equal(history["loss"], losses)
    np.testing.assert_array_equal(history["lr"], rates)
    np.testing.assert_array_equal(history["grad_norm"], norms)
    np.testing.assert_array_equal(history["step"], np.arange(1, 16))
    np.testing.assert_array_equal(history["epoch"], np.repeat([0, 1, 2], 5))
    np.testing.assert_allclose(history["param_norm"], sizes, rtol=1e-12)
    assert np.isfinite(history["update_ratio"][1:]).all()
    assert history.stopped == "finished 3 epochs"


def test_each_epoch_has_its_own_order_and_visits_all():
    orders = [shuffled(40, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(40)) for order in orders)


def test_without_a_seed_the_order_is_kept():
    seen = []

    def spy(params, batch):
        seen.append(batch[1])
        return value_and_grad(params, batch)

    params = make_params()
    ss.fit(spy, params, ss.SGD(params, lr=0.1), (X, Y), epochs=1, seed=None, progress=False)
    np.testing.assert_array_equal(np.concatenate(seen), Y)
    assert [len(y) for y in seen] == [32, 8]


@pytest.mark.parametrize(
    "stream", [batches, lambda: batches, lambda: tuple(batches()), lambda: iter(batches())]
)
def test_streams_are_given_as_they_come(stream):
    params, expected = make_params(), make_params()
    history = fit(params, train=stream(), epochs=1)
    fit(expected, epochs=1, seed=None)
    assert bits(params) == bits(expected) and history.steps == 5


def test_a_loader_is_told_the_epoch():
    class Loader(list):
        def set_epoch(self, epoch):
            self.epochs.append(epoch)

    loader = Loader(batches())
    loader.epochs = []
    fit(make_params(), train=loader)
    assert loader.epochs == [0, 1, 2]


@pytest.mark.parametrize(("epochs", "steps", "made"), [(None, 7, 7), (2, 7, 7), (2, 100, 10)])
def test_epochs_and_steps_whichever_comes_first(epochs, steps, made):
    history = fit(make_params(), epochs=epochs, steps=steps)
    assert history.steps == made
    assert history.stopped == ("finished 2 epochs" if made == 10 else "finished 7 steps")


def test_a_stop_after_an_epoch_keeps_its_reason():
    class Stop:
        def on_epoch(self, run):
            run.stop("enough")

    for train in ((X, Y), batches(), lambda: iter(batches())):
        history = fit(make_params(), train=train, callbacks=[Stop()])
        assert history.stopped == "enough" and len(history["loss"]) == 5


def test_an_endless_stream_ends_with_steps():
    history = fit(make_params(), train=itertools.cycle(batches()), epochs=None, steps=12)
    assert history.steps == 12


def test_a_stream_that_dries_up_ends_the_run():
    history = fit(make_params(), train=iter(batches()), epochs=None, steps=12)
    assert history.stopped == "train ran out of batches after step 5"


def test_accumulation_is_the_step_of_the_large_batch():
    params, expected = make_params(), make_params()
    history = fit(params, ss.SGD(params, lr=0.1), epochs=2, accumulate=5)
    fit(expected, ss.SGD(expected, lr=0.1), epochs=2, batch_size=40)
    assert history.steps == 2
    for name in params:
        # Five means of 8 are summed in another order than one mean of 40.
        np.testing.assert_allclose(params[name], expected[name], rtol=1e-6)


def test_accumulation_takes_what_is_left_and_passes_none_on():
    def partial(params, batch):
        loss, grads = value_and_grad(params, batch)
        return loss, {"w": grads["w"], "b": None}

    params = make_params()
    opt = ss.SGD(params, lr=0.1)
    history = ss.fit(
        partial, params, opt, (X, Y), epochs=1, batch_size=8, accumulate=2, progress=False
    )
    assert history.steps == 3 and params["b"] == 0 and params["w"].all()


def test_validation_is_a_mean_over_samples():
    params = make_params()
    history = fit(params, validation=(X[:13], Y[:13]))
    expected = value_and_grad(params, (X[:13], Y[:13]))[0]
    # Means of batches of 8 and 5 against one mean of 13.
    assert history["val_loss"][-1] == pytest.approx(expected, rel=1e-12)
    assert list(np.flatnonzero(np.isfinite(history["val_loss"]))) == [4, 9, 14]


def test_validation_by_steps():
    history = fit(make_params(), validation=(X, Y), validate_every=4)
    assert list(np.flatnonzero(np.isfinite(history["val_loss"]))) == [3, 7, 11, 14]


def test_a_run_that_ends_within_an_epoch_is_measured_once_more():
    history = fit(make_params(), steps=7, validation=(X, Y))
    assert list(np.flatnonzero(np.isfinite(history["val_loss"]))) == [4, 6]


def test_evaluate_names_the_metrics():
    def evaluate(params, batch):
        return {"size": len(batch[1]), "val_first": batch[1][0]}

    history = fit(make_params(), validation=(X, Y), evaluate=evaluate)
    assert history["val_size"][-1] == 8
    assert history["val_first"][-1] == pytest.approx(np.mean(Y[::8]), rel=1e-12)
    assert "val_loss" not in history


@pytest.mark.parametrize("rule", [ss.Adam, ss.ScheduleFreeAdamW])
def test_validation_leaves_training_alone(rule):
    params, expected = make_params(), make_params()
    fit(params, rule(params), validation=batches(), validate_every=1)
    fit(expected, rule(expected))
    assert bits(params) == bits(expected)


AVERAGING = {
    "schedule-free": lambda params: ss.ScheduleFreeSGD(params, lr=0.1),
    "average around": lambda params: ss.EMA(ss.SGD(params, lr=0.1)),
    "average inside": lambda params: ss.Centralize(ss.ScheduleFreeSGD(params, lr=0.1)),
}


@pytest.mark.parametrize("name", AVERAGING)
def test_an_averaging_optimizer_is_measured_at_its_average(name):
    params = make_params()
    opt = AVERAGING[name](params)
    stopper = ss.EarlyStopping(patience=None)
    fit(params, opt, epochs=1, callbacks=[stopper], validation=[(X, Y)])
    best = bits(params)
    params = make_params()
    opt = AVERAGING[name](params)
    history = fit(params, opt, epochs=1, validation=[(X, Y)])
    assert value_and_grad(params, (X, Y))[0] != history["val_loss"][-1]
    with opt.averaged():
        assert value_and_grad(params, (X, Y))[0] == history["val_loss"][-1]
        assert bits(params) == best


def test_an_optimizer_that_takes_the_function_gets_it():
    class Closure(ss.SGD, abstract=True):
        needs_closure = True

        def step(self, function):
            loss, grads = function(self.params)
            super().step(grads)
            return loss

    params, expected = make_params(), make_params()
    history = fit(params, Closure(params, lr=0.1))
    plain = fit(expected, ss.SGD(expected, lr=0.1))
    assert bits(params) == bits(expected)
    for name in ("loss", "lr"):
        np.testing.assert_array_equal(history[name], plain[name])
    for name in ("grad_norm", "update_ratio"):
        # The moves are rounded to the parameters' precision before they are measured.
        np.testing.assert_allclose(history[name], plain[name], rtol=1e-5)


def explode(at, value=math.nan, leaf=None):
    count = itertools.count(1)

    def gradient(params, batch):
        loss, grads = value_and_grad(params, batch)
        if next(count) == at:
            if leaf is None:
                return value, grads
            grads[leaf][0] = value
        return loss, grads

    return gradient


@pytest.mark.parametrize(
    ("gradient", "reason"),
    [
        (explode(4), "diverged at step 4 with lr 0.1: the loss is nan"),
        (explode(4, math.inf), "diverged at step 4 with lr 0.1: the loss is inf"),
        (explode(4, leaf="w"), "diverged at step 4 with lr 0.1: the gradient of w is not finite"),
    ],
)
def test_divergence_ends_the_run_and_keeps_the_last_good_step(gradient, reason):
    params, expected = make_params(), make_params()
    opt = ss.Adam(params, lr=0.1)
    history = ss.fit(gradient, params, opt, (X, Y), epochs=3, batch_size=8, progress=False)
    fit(expected, steps=3)
    assert bits(params) == bits(expected) and opt.step_count == 3
    assert history.stopped == reason
    assert history.steps == 4 and math.isnan(history["grad_norm"][-1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_parameters_that_are_bad_at_the_start_are_named(value):
    params = make_params()
    params["w"][0] = value
    optimizer = ss.Adam(params, lr=0.1)
    with np.errstate(invalid="ignore"):
        history = ss.fit(value_and_grad, params, optimizer, (X, Y), epochs=1, progress=False)
    assert "with lr 0.1: w holds NaN or infinity before any step, the loss is" in history.stopped
    found = ss.lr_find(value_and_grad, params, (X, Y))
    assert "at the starting parameters: w holds NaN or infinity before any step" in found.why
    assert found.stopped.endswith("at the starting parameters")


def test_an_optimizer_told_to_skip_goes_on():
    params = make_params()
    opt = ss.Adam(params, lr=0.1, on_nonfinite="skip")
    history = ss.fit(
        explode(4, leaf="w"), params, opt, (X, Y), steps=6, batch_size=8, progress=False
    )
    assert history.steps == 6 and opt.step_count == 5


def test_meta_says_what_was_run():
    params = make_params()
    lr = ss.schedules.cosine(0.1, 0.0, 20)
    history = fit(params, ss.AdamW(params, lr=lr), seed=3)
    meta = history.meta
    assert (meta["rule"], meta["seed"], meta["batch_size"]) == ("AdamW", 3, 8)
    assert meta["groups"][0]["hyperparams"]["lr"] == {"schedule": lr.to_dict()}
    assert meta["target"] in ss.build_info()["available_targets"]
    assert meta["seconds"] > 0 and meta["parameters"] == 4 and meta["threads"] >= 1


def test_the_rate_of_the_first_group_with_parameters_is_recorded():
    params = make_params()
    opt = ss.SGD(params, lr=0.1, groups=[ss.group("b", lr=0.5)])
    assert fit(params, opt)["lr"][0] == 0.1
    opt = ss.SGD(params, lr=0.1, groups=[ss.group("*", lr=0.5)])
    assert fit(params, opt)["lr"][0] == 0.5


BAD = {
    "no end": ({"epochs": None}, ValueError, "give epochs=... or steps=..."),
    "epochs": ({"epochs": 0}, ValueError, "epochs must be a whole number >= 1, got 0"),
    "steps": ({"steps": 1.5}, ValueError, "steps must be a whole number >= 1, got 1.5"),
    "accumulate": ({"accumulate": 0}, ValueError, "accumulate must be .* got 0"),
    "batch_size": ({"batch_size": 0}, ValueError, "batch_size must be .* got 0"),
    "ragged": ({"train": (X, Y[1:])}, ValueError, r"train: .* \(40, 3\), \(39,\)"),
    "scalar": ({"train": (np.array(1.0),)}, ValueError, "agree in their first axis"),
    "empty arrays": ({"train": (X[:0], Y[:0])}, ValueError, "nothing to train on"),
    "empty list": ({"train": []}, ValueError, "train: there is no batch in it"),
    "empty validation": ({"validation": []}, ValueError, "validation: there is no batch in it"),
    "not data": ({"train": 3}, TypeError, "train: expected a tuple of arrays.* got int"),
    "frame": ({"train": (pandas.DataFrame(X), Y)}, TypeError, r"DataFrame .* give .to_numpy\(\)"),
    "spent": ({"train": iter(batches())}, ValueError, "train is an iterator.*epochs=3"),
    "spent validation": ({"validation": iter(batches())}, ValueError, "validation is an iterator"),
    "resume": ({"resume": True}, ValueError, "resume=True needs checkpoint="),
    "class": ({"optimizer": ss.Adam}, TypeError, r"give an instance: Adam\(params, lr=...\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_say_what_to_do(name):
    options, error, message = BAD[name]
    params = make_params()
    with pytest.raises(error, match=message):
        fit(params, **options)
    assert bits(params) == bits(make_params())


def test_params_of_another_optimizer_are_refused():
    params = make_params()
    with pytest.raises(ValueError, match="the array b is not one that the optimizer updates"):
        fit(params, ss.SGD({"w": params["w"], "b": params["b"].copy()}))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (3.0, "it returned float"),
        ((np.zeros(3), {}), r"it returned a tuple \(ndarray of shape \(3,\), dict\)"),
        ((1, 2, 3), r"it returned a tuple \(int, int, int\)"),
    ],
)
def test_a_wrong_value_and_grad_is_explained(result, message):
    params = make_params()
    with pytest.raises(TypeError, match=message):
        ss.fit(lambda p, b: result, params, ss.SGD(params), (X, Y), epochs=1, progress=False)


def test_fit_works_in_another_thread():
    result = []
    thread = threading.Thread(target=lambda: result.append(fit(make_params())))
    thread.start()
    thread.join()
    assert result[0].steps == 15


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_is_left_behind(monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    fit(make_params(), progress=True)
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        fit(make_params(), progress=True)
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_a_long_run_needs_memory_for_its_history_alone():
    params, grads, seen = {"x": np.zeros(1)}, {"x": np.zeros(1)}, []

    class Look:
        def on_step(self, run):
            if run.step % 10_000 == 0:
                seen.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        ss.fit(
            lambda params, batch: (1.0, grads),
            params,
            ss.Adam(params),
            itertools.repeat(None),
            steps=40_000,
            callbacks=[Look()],
            progress=False,
        )
    finally:
        tracemalloc.stop()
    # Seven columns of 30,000 numbers, each up to an eighth longer than it needs to be.
    assert seen[-1] - seen[0] < 7 * 8 * 30_000 * 9 / 8 + 2**12


def test_progress_without_a_terminal_is_lines(capsys):
    fit(make_params(), progress=True, validation=(X, Y))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("step 15/15  loss ") and "val_loss" in lines[0]
    fit(make_params(), progress=False)
    fit(make_params(), progress=None)
    assert capsys.readouterr().err == ""


def test_progress_in_a_terminal_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fit(make_params(), progress=None)
    text = capsys.readouterr().err
    assert "15/15" in text and "loss=" in text and "lr=" in text and "grad=" in text


@pytest.mark.parametrize(
    ("steps", "text"), [(5, "the warm-up is longer than the run of 5 steps"), (50, "at step 50")]
)
def test_a_schedule_that_does_not_fit_the_run_warns(steps, text):
    params = make_params()
    opt = ss.SGD(params, lr=ss.schedules.warmup_cosine(0.1, 10, 100))
    with pytest.warns(ss.schedules.ScheduleWarning, match=text):
        fit(params, opt, epochs=None, steps=steps)


def test_a_run_that_goes_on_is_as_long_as_its_steps_and_those_before():
    params = make_params()
    opt = ss.SGD(params, lr=ss.schedules.warmup_cosine(0.1, 10, 20))
    with pytest.warns(ss.schedules.ScheduleWarning):
        fit(params, opt, epochs=None, steps=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(params, opt, epochs=None, steps=8)
    assert opt.step_count == 20

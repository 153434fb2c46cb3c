"""Lowering the rate once noise is all that moves the parameters."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import stepsize as ss
from stepsize.callbacks.reduce_on_stationarity import _changes, _standard_error, is_stationary

ERRORS = 1.96


def noisy(seed):
    """A quadratic whose gradient has noise."""
    rng = np.random.default_rng(seed)

    def value_and_grad(params, batch):
        x = params["x"]
        return float(((x - 1) ** 2).sum()) / 2, {"x": x - 1 + rng.standard_normal(x.shape)}

    return value_and_grad


def run(seed, lr, steps, *callbacks, rule=ss.SGD, start=0.0):
    params = {"x": np.full(20, start)}
    history = ss.fit(
        noisy(seed),
        params,
        rule(params, lr=lr),
        [None] * steps,
        epochs=1,
        callbacks=callbacks,
        progress=False,
    )
    return params["x"], history


@pytest.mark.parametrize("rule", [ss.SGD, lambda p, lr: ss.SGD(p, lr, momentum=0.9), ss.Adam])
def test_a_run_that_noise_holds_up_ends_lower(rule):
    rate = 0.1 if rule is ss.SGD else 0.02
    ends = {"constant": [], "lowered": []}
    for seed in range(3):
        lower = ss.ReduceOnStationarity()
        x, history = run(seed, rate, 4000, lower, rule=rule)
        ends["lowered"].append(((x - 1) ** 2).mean())
        ends["constant"].append(((run(seed, rate, 4000, rule=rule)[0] - 1) ** 2).mean())
        assert lower.reduced and min(lower.reduced) >= 1000
        changes = np.flatnonzero(np.diff(history["lr"]))
        assert (changes + 1).tolist() == lower.reduced[: len(changes)]
    assert np.mean(ends["lowered"]) < np.mean(ends["constant"]) / 3


def test_a_run_on_its_way_is_left_alone():
    for seed in range(5):
        lower = ss.ReduceOnStationarity(every=50)
        run(seed, 2e-4, 3000, lower)  # half of the way takes 3466 steps
        assert lower.reduced == []


def test_a_rate_that_changes_all_the_time_is_left_alone():
    lower = ss.ReduceOnStationarity(every=50, least=100)
    run(0, ss.schedules.linear(0.1, 0.01, 3000), 3000, lower, start=1.0)
    assert lower.reduced == []


def test_the_rate_stays_above_its_least():
    lower = ss.ReduceOnStationarity(min_lr=0.005)
    _, history = run(0, 0.1, 6000, lower, start=1.0)
    assert history["lr"].min() == pytest.approx(0.01) and len(lower.reduced) == 1


def test_only_steps_at_the_present_rate_count():
    norms = np.sqrt(np.arange(1.0, 11.0))
    rates = np.array([2.0] * 4 + [1.0] * 6)
    np.testing.assert_allclose(_changes(norms, rates), [1.0] * 5)
    norms[6] = np.nan  # a gradient that was not finite
    np.testing.assert_allclose(_changes(norms, rates), [1.0] * 2)
    assert len(_changes(norms[:1], rates[:1])) == 0


def test_the_standard_error_is_that_of_values_that_depend_on_each_other():
    """Of an autoregression with coefficient 0.8 it is 1 / (1 - 0.8) times that of its noise."""
    rng, errors, means = np.random.default_rng(0), [], []
    for _ in range(200):
        noise, values = rng.standard_normal(2100), np.zeros(2100)
        for k in range(1, 2100):
            values[k] = 0.8 * values[k - 1] + noise[k]
        errors.append(_standard_error(values[100:]))
        means.append(values[100:].mean())
    assert np.mean(errors) == pytest.approx(5 / np.sqrt(2000), rel=0.15)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.2)


def test_a_long_run_is_not_read_again_and_again(monkeypatch):
    read = []

    def reads(norms, rates):
        read.append(norms)
        return np.ones(1)

    monkeypatch.setitem(ss.ReduceOnStationarity.on_step.__globals__, "_changes", reads)
    lower, history = ss.ReduceOnStationarity(every=10), ss.History.from_arrays(lr=[0.1])
    history.record("param_norm", 1.0)
    steps = 200_000
    for step in range(1, steps + 1):
        lower.on_step(SimpleNamespace(step=step, history=history))
    doublings = np.log2(steps / 1280)
    assert 64 * doublings < len(read) <= 128 * (1 + doublings)


def test_both_halves_must_be_at_rest():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(2000)
    noise -= noise.mean() - 1e-3  # so that the halves agree in sign below
    slope = np.linspace(1, -1, 2000)  # its mean is 0: a norm that turns round
    assert not is_stationary(slope + noise, ERRORS)
    assert not is_stationary(np.zeros(1000), ERRORS)  # nothing moves
    assert not is_stationary(0.5 + noise, ERRORS)


def test_a_resumed_run_lowers_where_the_whole_one_does(tmp_path):
    whole = ss.ReduceOnStationarity()
    options = {"epochs": 4, "progress": False}
    batches = list(np.random.default_rng(3).standard_normal((1000, 1)))

    def value_and_grad(params, batch):
        return float(params["x"][0] ** 2) / 2, {"x": params["x"] + batch}

    def fit(callback, **more):
        params = {"x": np.ones(1)}
        history = ss.fit(
            value_and_grad,
            params,
            ss.SGD(params, lr=0.2),
            batches,
            callbacks=[callback],
            **{**options, **more},
        )
        return params["x"].tobytes(), history, callback.reduced

    full = fit(whole)
    path = tmp_path / "run.safetensors"
    fit(ss.ReduceOnStationarity(), epochs=2, checkpoint=path)
    assert fit(ss.ReduceOnStationarity(), checkpoint=path, resume=True) == full
    assert full[2]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"factor": 1.0}, "factor must be"),
        ({"factor": 0}, "factor must be"),
        ({"every": 0}, "every must be a whole number >= 1"),
        ({"least": 99}, "least must be a whole number >= 100"),
        ({"significance": 0}, "significance must be"),
        ({"min_lr": -1}, "min_lr must be"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(ValueError, match=f"ReduceOnStationarity: {words}"):
        ss.ReduceOnStationarity(**wrong)

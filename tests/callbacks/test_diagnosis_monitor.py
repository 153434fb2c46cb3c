"""The diagnosis of a run while it goes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import stepsize as ss


def run(lr, monitor, steps=400):
    rng = np.random.default_rng(0)
    params = np.full(4, 3.0)

    def value_and_grad(p, batch):
        return float(p @ p) / 2 + 0.001 * rng.standard_normal(), p.copy()

    return ss.fit(
        value_and_grad,
        params,
        ss.SGD(params, lr=lr),
        [None] * steps,
        epochs=1,
        callbacks=[monitor],
        progress=False,
    )


def test_a_diverging_run_is_stopped():
    monitor = ss.DiagnosisMonitor(30)
    history = run(2.1, monitor)
    assert history.stopped == "diagnosed diverging at step 30"
    assert [step for step, _ in monitor.diagnoses] == [30]


def test_a_slow_run_is_warned_of_once():
    with pytest.warns(UserWarning, match="step 30: The learning rate is too low") as warned:
        history = run(1e-4, ss.DiagnosisMonitor(30))
    assert len(warned) == 1 and len(history["loss"]) == 400


def test_looks_grow_rarer_as_the_run_grows():
    monitor = ss.DiagnosisMonitor(20, warn=())
    run(0.1, monitor, 3000)
    steps = [step for step, _ in monitor.diagnoses]
    assert len(steps) < 45
    assert all(b - a >= max(20, a // 10) for a, b in itertools.pairwise(steps))


def test_an_action_of_ones_own():
    seen = []

    def lower(run, diagnosis):
        seen.append(diagnosis.verdict)
        if diagnosis.verdict == "diverging":
            run.optimizer.lr = 0.5

    history = run(2.1, ss.DiagnosisMonitor(25, stop=(), warn=(), act=lower))
    assert seen[0] == "diverging"
    assert history["lr"][-1] == 0.5 and history["loss"][-1] < 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"every": 3}, "a whole number >= 20, got 3"), ({"stop": ("bad",)}, "'bad' is no verdict")],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ss.DiagnosisMonitor(**wrong)


@pytest.mark.parametrize(("lr", "flips"), [(0.5, 0.0), (1.9, 1.0)])
def test_the_signs_that_flip_are_recorded(lr, flips):
    history = run(lr, ss.DiagnosisMonitor(50, warn=(), stop=()), steps=60)
    assert np.isnan(history["sign_flips"][0])
    assert np.all(history["sign_flips"][1:] == flips)


def test_signs_are_sampled_evenly_and_without_a_gradient_nothing_is_said():
    from stepsize.callbacks.diagnosis_monitor import SAMPLE, _signs

    assert len(_signs({"a": np.ones(10 * SAMPLE), "b": [None, -np.ones(SAMPLE)]})) <= 2 * SAMPLE
    assert len(_signs([None])) == 0


def noisy_run(steps=600, **settings):
    """Least squares with noisy targets at a constant rate, with an experiment where in doubt."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((200, 3))
    y = x @ np.array([1.0, -2.0, 3.0]) + 2 * rng.standard_normal(200)
    params, asked = {"w": np.zeros(3)}, []

    def value_and_grad(p, batch):
        error = batch[0] @ p["w"] - batch[1]
        return float(error @ error) / len(error), {"w": 2 * batch[0].T @ error / len(error)}

    def what_if(run):
        asked.append(run.step)
        return ss.what_if(value_and_grad, run.params, run.optimizer, (x, y), history=run.history)

    if "what_if_every" in settings:
        settings["what_if"] = what_if
    monitor = ss.DiagnosisMonitor(50, warn=(), **settings)
    opt = ss.SGD(params, lr=0.1, momentum=0.5)
    history = ss.fit(
        value_and_grad, params, opt, (x, y), steps=steps, callbacks=[monitor], progress=False
    )
    return params["w"].tobytes(), history["loss"].tobytes(), monitor, asked


def test_an_experiment_leaves_the_run_as_it_is_bit_for_bit():
    weights, losses, monitor, asked = noisy_run(what_if_every=100)
    assert asked and noisy_run()[:2] == (weights, losses)
    told = dict(monitor.diagnoses)
    assert all(told[step].experiment_cost is None for step in asked)


def test_experiments_keep_the_distance_asked_for():
    asked = noisy_run(what_if_every=200)[-1]
    assert all(b - a >= 200 for a, b in itertools.pairwise(asked))
    asked = noisy_run(what_if_every=None)[-1]
    assert all(b >= 2 * a for a, b in itertools.pairwise(asked))


def test_experiments_are_checked_before_the_run():
    with pytest.raises(TypeError, match="what_if must be a function"):
        ss.DiagnosisMonitor(what_if=3)
    with pytest.raises(ValueError, match="give what_if=lambda run"):
        ss.DiagnosisMonitor(what_if_every=100)
    with pytest.raises(ValueError, match="what_if_every"):
        ss.DiagnosisMonitor(what_if=lambda run: None, what_if_every=0)

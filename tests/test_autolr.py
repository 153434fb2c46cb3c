"""The whole story in one call, and each correction on a run made to need it."""

from __future__ import annotations

import numpy as np
import pytest

import stepsize as ss
from stepsize.automatic import Guard

STEPS = 300


def data(rows=256):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 6)) * np.geomspace(1, 3, 6)
    return x, x @ np.arange(1.0, 7.0) + 0.1 * rng.standard_normal(rows)


def value_and_grad(params, batch):
    x, y = batch
    error = x @ params["w"] - y
    return 0.5 * float(np.mean(error**2)), {"w": x.T @ error / len(y)}


def start():
    return {"w": np.zeros(6)}


def guarded(lr, steps=STEPS, function=value_and_grad):
    params, guard = start(), Guard(steps)
    optimizer = ss.SGD(params, lr=lr)
    history = ss.fit(
        function, params, optimizer, data(), steps=steps, callbacks=[guard], progress=False
    )
    return params, optimizer, guard, history


@pytest.mark.parametrize("optimizer", [ss.SGD, ss.AdamW, lambda p: ss.SGD(p, momentum=0.9)])
def test_it_trains_with_nothing_but_a_budget(optimizer):
    params = start()
    result = ss.autolr(value_and_grad, params, data(), steps=STEPS, optimizer=optimizer)
    assert len(result.history["loss"]) == STEPS
    assert value_and_grad(params, data())[0] < 0.05
    assert result.schedule(STEPS) == 0 and result.optimizer.params is params
    text = str(result)
    assert "gradients found the rate" in text and "schedule: " in text


def test_epochs_are_a_budget_too():
    result = ss.autolr(value_and_grad, start(), data(), epochs=3, batch_size=64)
    assert len(result.history["loss"]) == 12


def test_the_same_seed_gives_the_same_run():
    runs = [start(), start()]
    for params in runs:
        ss.autolr(value_and_grad, params, data(), steps=60, seed=4)
    np.testing.assert_array_equal(runs[0]["w"], runs[1]["w"])


def test_a_rate_far_too_high_is_lowered_until_it_works():
    params, optimizer, guard, _history = guarded(1.0)
    assert 1 <= len(guard.actions) <= 5
    assert "back to step" in guard.actions[0].what
    assert optimizer.lr_scale == pytest.approx(0.3 ** len(guard.actions))
    assert value_and_grad(params, data())[0] < value_and_grad(start(), data())[0]


def test_a_lost_gradient_is_mended():
    calls = []

    def fragile(params, batch):
        calls.append(1)
        loss, grads = value_and_grad(params, batch)
        return (np.nan, grads) if len(calls) == 150 else (loss, grads)

    _params, _optimizer, guard, history = guarded(0.05, function=fragile)
    assert len(guard.actions) == 1 and "not finite" in guard.actions[0].why
    assert len(history["loss"]) == STEPS
    assert ss.diagnose(history).verdict != "diverging"


def test_a_run_that_cannot_be_mended_ends():
    def lost(params, batch):
        return np.nan, {"w": np.zeros(6)}

    _, _, guard, history = guarded(0.05, function=lost)
    assert len(guard.actions) == 5 and history.stopped.startswith("diverged")


def test_a_rate_far_too_low_is_raised_once():
    def far(params, batch):
        return value_and_grad({"w": params["w"]}, batch)

    params, guard = {"w": np.full(6, 100.0)}, Guard(STEPS)
    optimizer = ss.SGD(params, lr=1e-6)
    ss.fit(far, params, optimizer, data(), steps=STEPS, callbacks=[guard], progress=False)
    assert [a.what for a in guard.actions] == ["rate times 3"]
    assert guard.actions[0].step == pytest.approx(STEPS // 4, abs=STEPS // 50)


def test_after_going_back_the_schedule_keeps_its_end():
    params, schedule = start(), ss.schedules.warmup_cosine(0.8, 5, STEPS)
    guard = Guard(STEPS, schedule)
    optimizer = ss.SGD(params, lr=schedule)
    ss.fit(
        value_and_grad, params, optimizer, data(), steps=STEPS, callbacks=[guard], progress=False
    )
    assert guard.actions
    assert optimizer.lr == pytest.approx(0.0, abs=1e-6)


def test_a_noisy_run_without_trouble_is_left_alone():
    wild = iter(30 * np.random.default_rng(2).exponential(size=STEPS))

    def heavy(params, batch):
        loss, grads = value_and_grad(params, batch)
        return loss + next(wild), grads

    _, _, guard, _ = guarded(0.02, function=heavy)
    assert not guard.actions


def test_it_goes_back_to_a_state_whose_loss_was_seen():
    def walled(params, batch):
        x = float(params["w"][0])
        return (-x if x < 1 else np.nan), {"w": -np.eye(6)[0]}

    # The fifth step, after which a state is kept, is the one that passes the wall.
    _, _, guard, _ = guarded(0.22, steps=100, function=walled)
    assert guard.actions[0].what.startswith("back to step 0,")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "give steps, or epochs"),
        ({"steps": 1}, "at least 2 steps, got 1"),
    ],
)
def test_wrong_budgets_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ss.autolr(value_and_grad, start(), data(), **wrong)


def test_data_that_can_be_read_once_is_refused():
    with pytest.raises(ValueError, match="read more than once"):
        ss.autolr(value_and_grad, start(), iter([data()]), steps=10)


def test_a_loss_that_cannot_fall_is_refused():
    def flat(params, batch):
        return 1.0, {"w": np.zeros(6)}

    with pytest.raises(ValueError, match="no usable rate, because"):
        ss.autolr(flat, start(), data(), steps=50)

"""The whole story in one call, and each correction on a run made to need it."""

from __future__ import annotations

import types
from dataclasses import replace

import numpy as np
import pytest

import stepsize as ss
from stepsize.automatic.branching import looking
from stepsize.automatic.guard import Guard
from stepsize.automatic.rehearsal import LONGEST, STRIDE, climb, length_of
from stepsize.training.batches import batches as batches_of

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


class Run:
    """What `climb` reads of a trial, for a loss made up."""

    def __init__(self, end):
        self.failure = None if np.isfinite(end) else "lost"
        self.losses = [9.0] * 3 + [end] * 27 if np.isfinite(end) else [9.0]


@pytest.mark.parametrize("best", [-0.9, -0.3, 0.0, 0.2, 0.4, 0.6, 0.9])
def test_the_peak_is_found_exactly_where_the_ends_are_a_parabola(best):
    peak, seen = climb(lambda rate: Run((np.log10(rate) - best) ** 2), 1.0, 5)
    assert np.log10(peak) == pytest.approx(best, abs=1e-9)
    assert len(seen) <= 5 and len({rate for rate, _ in seen}) == len(seen)


def test_lost_rehearsals_lower_the_peak_and_bend_no_parabola():
    def walled(rate):
        return Run(1 / rate if rate < 0.5 else np.inf)

    peak, seen = climb(walled, 1.0, 4)
    assert peak == pytest.approx(1 / STRIDE)
    assert [np.log10(rate) * 2 for rate, _ in seen] == pytest.approx([0, -1, -2])
    lost, seen = climb(lambda rate: Run(np.inf), 1.0, 4)
    assert lost == pytest.approx(STRIDE**-3) and len(seen) == 4


def test_an_end_above_the_start_tells_no_more_than_that_nothing_was_learnt():
    ends = {-1: 3.0, 0: 1.0}
    peaks = [
        climb(lambda rate, high=high: Run(ends.get(round(2 * np.log10(rate)), high)), 1.0, 4)[0]
        for high in (9.0, 1e30)
    ]
    assert peaks[0] == peaks[1] < 1.0


def test_rehearsals_take_copies_and_leave_the_run_as_it_would_have_been():
    firsts, calls = [], []
    for rehearsals in (0, 4):
        noise = np.random.default_rng(5)

        def noisy(params, batch, noise=noise):
            calls.append(rehearsals)  # noqa: B023
            loss, grads = value_and_grad(params, batch)
            return loss + 0.01 * noise.standard_normal(), grads

        result = ss.autolr(noisy, start(), data(), steps=60, rehearsals=rehearsals, progress=False)
        firsts.append(result.history["loss"][0])
        assert len(result.rehearsals) <= rehearsals
        assert all(len(losses) <= 30 for _, losses in result.rehearsals)
    assert firsts[0] == firsts[1]
    spent = calls.count(4) - calls.count(0)
    assert 60 <= spent == sum(len(losses) for _, losses in result.rehearsals) <= 4 * 30
    assert f"rehearsals of 30 steps tried the peaks {result.found.peak:.1e}, " in str(result)


def test_they_are_half_of_the_budget_but_not_endless_nor_too_short():
    assert [length_of(total) for total in (19, 20, 301, 10**6)] == [0, 10, 150, LONGEST]
    short = ss.autolr(value_and_grad, start(), data(), steps=19, progress=False)
    assert short.rehearsals == () and short.schedule(1) == short.found.peak
    with pytest.raises(ValueError, match="rehearsals must be a whole number >= 0, got -1"):
        ss.autolr(value_and_grad, start(), data(), steps=60, rehearsals=-1)


def test_they_mend_a_peak_that_the_race_put_too_low(monkeypatch):
    """Where the race says a tenth, the rehearsals climb back."""
    found = ss.lr_find(value_and_grad, start(), [data()], optimizer=ss.SGD)
    low = replace(found, peak=found.peak / 10, suggestion=found.suggestion / 10)
    monkeypatch.setattr("stepsize.automatic.pipeline.lr_find", lambda *a, **k: low)
    ends = []
    for rehearsals in (0, 4):
        params = start()
        result = ss.autolr(
            value_and_grad, params, data(), steps=100, optimizer=ss.SGD, rehearsals=rehearsals
        )
        ends.append(value_and_grad(params, data())[0])
        assert (result.schedule(5) > 2 * low.peak) == (rehearsals > 0)
    assert ends[1] < 0.1 * ends[0]


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


def test_evaluate_is_for_validation_data():
    def evaluate(params, batch):
        return {"error": float(np.abs(batch[0] @ params["w"] - batch[1]).mean())}

    result = ss.autolr(
        value_and_grad, start(), data(), steps=40, validation=data(64), evaluate=evaluate
    )
    assert np.isfinite(result.history["val_error"]).any()
    with pytest.raises(ValueError, match=r"evaluate=\.\.\. is for validation data"):
        ss.autolr(value_and_grad, start(), data(), steps=40, evaluate=evaluate)


def test_gradients_of_rows_will_do():
    rng = np.random.default_rng(0)
    rows, targets = rng.integers(0, 20, 256), rng.normal(1, 0.1, (256, 2))

    def embedded(params, batch):
        which, target = batch
        gap = (params["e"][which] - target) / len(which)
        loss = 0.5 * float(np.sum(gap**2)) * len(which)
        return loss, {"e": ss.RowGradient(which, gap)}

    params = {"e": np.zeros((20, 2))}
    result = ss.autolr(embedded, params, (rows, targets), steps=120, optimizer="adam")
    assert result.history["loss"][-1] < 0.2 * result.history["loss"][0]


@pytest.mark.parametrize("name", ["sgd", "adamw", "schedule_free_sgd", "sign-sgd"])
def test_optimizers_go_by_name(name):
    result = ss.autolr(value_and_grad, start(), data(), steps=20, optimizer=name)
    assert type(result.optimizer).__name__.lower() == name.replace("_", "").replace("-", "")


def test_the_shorter_budget_ends_the_run():
    result = ss.autolr(value_and_grad, start(), data(), steps=100, epochs=2, batch_size=64)
    assert len(result.history["loss"]) == 8
    result = ss.autolr(value_and_grad, start(), data(), steps=5, epochs=2, batch_size=64)
    assert len(result.history["loss"]) == 5
    with pytest.raises(ValueError, match="have no known length; give steps"):
        ss.autolr(value_and_grad, start(), lambda: iter([data()] * 3), steps=5, epochs=2)


def test_the_repr_is_one_line_and_its_peak_that_of_the_schedule():
    result = ss.autolr(value_and_grad, start(), data(), steps=60, optimizer="sgd")
    assert "\n" not in repr(result) and len(repr(result)) < 140
    peak = result.schedule.values(60).max()
    assert f"they end lowest near {peak:.1e}" in str(result) and f"peak {peak:.3g}" in repr(result)
    assert len(result.to_pandas()) == 60


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"value_and_grad": None}, "value_and_grad must be a function"),
        ({"optimizer": None}, "optimizer must be an optimizer class"),
        ({"optimizer": 3}, "optimizer must be an optimizer class"),
        ({"optimizer": "adma"}, "there is no optimizer 'adma'"),
        ({"steps": "x"}, "steps must be a whole number"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"rehearsals": "x"}, "rehearsals must be a whole number"),
        ({"train": None}, "train"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    given = {"value_and_grad": value_and_grad, "params": start(), "train": data(), "steps": 20}
    with pytest.raises((TypeError, ValueError), match=words):
        ss.autolr(**{**given, **wrong})


def test_memory_of_the_function_is_its_own():
    kept = {"w": np.empty(6)}

    def reusing(params, batch):
        loss, grads = value_and_grad(params, batch)
        kept["w"][...] = grads["w"]
        return loss, kept

    plain, moved = start(), start()
    ss.autolr(value_and_grad, plain, data(), steps=40)
    ss.autolr(reusing, moved, data(), steps=40)
    np.testing.assert_array_equal(plain["w"], moved["w"])


@pytest.mark.parametrize("wrapped", [lambda p: ss.FTRL(p), lambda p: ss.EMA(ss.FTRL(p)), "ftrl"])
def test_a_rule_that_needs_a_constant_rate_is_refused_before_anything_is_called(wrapped):
    params = {"w": np.zeros(2)}

    def never(params, batch):
        raise AssertionError("called")

    with pytest.raises(ValueError, match=r"would lose what it learnt; .* train at it with fit"):
        ss.autolr(never, params, (np.ones((8, 2)), np.ones(8)), steps=50, optimizer=wrapped)
    assert not params["w"].any()


def look(function=value_and_grad):
    return looking(function, batches_of(data(), 32, 0), STEPS)


def with_branches(lr, params, function=value_and_grad):
    guard = Guard(STEPS, look=look(function))
    optimizer = ss.SGD(params, lr=lr)
    ss.fit(function, params, optimizer, data(), steps=STEPS, callbacks=[guard], progress=False)
    return guard, optimizer


def test_branches_say_how_far_a_rate_is_raised():
    ends = []
    for tried in (look(), None):
        params, guard = {"w": np.full(6, 100.0)}, Guard(STEPS, look=tried)
        optimizer = ss.SGD(params, lr=1e-6)
        ss.fit(value_and_grad, params, optimizer, data(), steps=STEPS, callbacks=[guard])
        ends.append(value_and_grad(params, data())[0])
        assert [a.what for a in guard.actions] == [f"rate times {10 if tried else 3}"]
    assert ends[0] < ends[1]


def test_branches_leave_a_rate_that_no_higher_one_is_better_than():
    def flat(params, batch):
        return 1.0, {"w": np.full(6, 1e-9)}

    guard, optimizer = with_branches(1e-6, {"w": np.full(6, 100.0)}, flat)
    assert not guard.actions
    assert optimizer.lr_scale == 1
    assert guard.gradients > 0


def test_branches_cost_little_and_none_are_made_to_lower_a_rate():
    guard, _ = with_branches(1e-6, {"w": np.full(6, 100.0)})
    assert 0 < guard.gradients <= max(31, STEPS // 20)
    guard, optimizer = with_branches(1.0, start())
    assert guard.actions and guard.gradients == 0
    assert optimizer.lr_scale == pytest.approx(0.3 ** len(guard.actions))


def test_where_no_branches_can_be_made_the_factors_are_fixed():
    assert look()(types.SimpleNamespace(params=start(), optimizer=None, epoch=0), (3.0,)) is None
    guard = Guard(STEPS, look=lambda run, factors: None)
    params = {"w": np.full(6, 100.0)}
    ss.fit(value_and_grad, params, ss.SGD(params, lr=1e-6), data(), steps=STEPS, callbacks=[guard])
    assert [a.what for a in guard.actions] == ["rate times 3"]


def test_branches_leave_batches_and_parameters_of_the_run_as_they_are():
    seen = []

    def watched(params, batch):
        seen.append(float(np.sum(batch[0])))
        return value_and_grad(params, batch)

    params = start()
    optimizer = ss.Adam(params, lr=1e-3)
    kept = params["w"].copy()
    run = types.SimpleNamespace(params=params, optimizer=optimizer, epoch=0)
    found = look(watched)(run, (0.1, 0.3))
    assert len(seen) == found.gradients
    assert {b.factor for b in found.branches} == {0.1, 0.3, 1.0}
    np.testing.assert_array_equal(params["w"], kept)
    assert optimizer.step_count == 0 and optimizer.lr_scale == 1

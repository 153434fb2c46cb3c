"""What the rate does over a run, by name or as any schedule does it."""

from __future__ import annotations

import numpy as np
import pytest

import stepsize as ss
from stepsize.automatic.plans import PLANS, first_peak, plan_of

STEPS = 300


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 6)) * np.geomspace(1, 3, 6)
    return x, x @ np.arange(1.0, 7.0) + 0.1 * rng.standard_normal(256)


def value_and_grad(params, batch):
    x, y = batch
    error = x @ params["w"] - y
    return 0.5 * float(np.mean(error**2)), {"w": x.T @ error / len(y)}


def start():
    return {"w": np.zeros(6)}


@pytest.mark.parametrize("total", [2, 3, 10, 300, 1001])
@pytest.mark.parametrize("name", PLANS)
def test_a_plan_warms_up_reaches_its_peak_and_ends_at_nothing(name, total):
    made = plan_of(name, total)(0.5, total)
    values = made.values(total)
    top = int(values.argmax())
    assert values[0] == 0 and made(total) == 0 and (np.diff(values[: top + 1]) >= 0).all()
    assert values.max() == pytest.approx(0.5) and (np.diff(values[top:]) <= 0).all()


@pytest.mark.parametrize("name", PLANS)
def test_the_peak_is_looked_for_lower_where_the_rates_are_higher(name):
    plan = plan_of(name, 400)
    peak = first_peak(plan, 0.1, 400)
    area, known = plan(peak, 400).integral(400), PLANS["cosine"](0.1, 400).integral(400)
    assert area == pytest.approx(known) if peak < 0.1 else peak == 0.1 and area <= known * 1.001


@pytest.mark.parametrize("name", PLANS)
def test_it_trains_with_any_plan(name):
    params = start()
    result = ss.autolr(value_and_grad, params, data(), steps=STEPS, optimizer="sgd", schedule=name)
    assert value_and_grad(params, data())[0] < 0.05
    assert result.schedule == PLANS[name](float(result.schedule.values(STEPS).max()), STEPS)


def test_a_second_training_has_the_shape_that_the_first_one_asks_for():
    first = ss.autolr(value_and_grad, start(), data(), steps=100, optimizer="sgd")
    shape = ss.schedules.refined(first.history)
    params = start()
    second = ss.autolr(value_and_grad, params, data(), steps=STEPS, optimizer="sgd", schedule=shape)
    assert value_and_grad(params, data())[0] < 0.05
    values, wanted = second.schedule.values(STEPS), shape.stretch(STEPS).values(STEPS)
    np.testing.assert_allclose(values / values.max(), wanted / wanted.max(), rtol=1e-12)
    rates = [rate for rate, _ in second.rehearsals]
    assert min(rates) <= values.max() <= max(rates)


@pytest.mark.parametrize(
    ("schedule", "error", "words"),
    [
        (
            "cosin",
            ValueError,
            "must be one of 'cosine', 'linear', 'cooldown', got 'cosin'",
        ),
        (0.1, TypeError, r"or a schedule whose shape is wanted, .* got 0.1"),
        (None, TypeError, "got None"),
        (ss.schedules.constant(0.1), ValueError, "must have a length"),
        (ss.schedules.inverse_sqrt(0.1, 5), ValueError, "must have a length"),
        (ss.schedules.linear(0.0, 0.0, 9), ValueError, "no rate above 0 in 20 steps"),
    ],
)
def test_a_schedule_that_is_none_is_refused_before_anything_is_called(schedule, error, words):
    def never(params, batch):
        raise AssertionError("called")

    with pytest.raises(error, match=words):
        ss.autolr(never, start(), data(), steps=20, schedule=schedule)

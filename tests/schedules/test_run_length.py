"""Epochs, momentum against the rate, rates by layer, warnings, tables and pictures."""

import math
import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepsize as ss
from schedule_strategies import schedules

S = ss.schedules


def test_epochs():
    assert S.epochs(90, 200) == 18_000 and isinstance(S.epochs(90, 200), int)
    assert S.epochs(0.5, 201) == 100
    with pytest.raises(ValueError, match="epochs: steps_per_epoch must be a whole number >= 0"):
        S.epochs(3, 2.5)


def test_by_epoch_changes_when_an_epoch_is_over():
    s = S.multistep(1.0, [2, 3], 0.5).by_epoch(7)
    steps = np.arange(40)
    assert (s(steps) == S.multistep(1.0, [2, 3], 0.5)(steps // 7)).all()
    assert s.length == 21


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("shape", ["cosine", "linear"])
@pytest.mark.parametrize("pct_start", [0.0, 0.005, 0.3, 0.25, 0.5])
def test_one_cycle_momentum_moves_against_the_rate(shape, three_phase, pct_start):
    total, low, high = 200, 0.85, 0.95
    lr, momentum = S.one_cycle_momentum(0.1, total, pct_start, shape=shape, three_phase=three_phase)
    assert lr == S.one_cycle(0.1, total, pct_start, shape=shape, three_phase=three_phase)
    # On the way up, and down in three phases, both are blends of their ends by the same weight.
    first = 0.1 / 25
    top = pct_start * total - 1
    for step in range(int(2 * top if three_phase else top) + 1):
        weight = (lr(step) - first) / (0.1 - first)
        assert momentum(step) == pytest.approx(high + (low - high) * weight, abs=1e-12)
    assert momentum(total) == pytest.approx(high, abs=1e-12) or three_phase
    assert momentum(np.arange(300)).min() >= low and momentum(np.arange(300)).max() <= high


def test_cyclic_momentum_moves_against_the_rate():
    lr, momentum = S.cyclic_momentum(0.01, 0.1, 5, 8, mode="triangular2")
    steps = np.arange(100)
    weight = (lr(steps) - 0.01) / 0.09
    np.testing.assert_allclose(momentum(steps), 0.9 - 0.1 * weight, atol=1e-15)


def test_layerwise_lr_patterns_name_every_leaf_once():
    layer = {"w": np.zeros((2, 2)), "b": np.zeros(2)}
    params = {"embed": np.zeros((9, 2)), "layers": [layer] * 12, "head": [np.zeros(3)]}
    params = {k: [dict(i) for i in v] if k == "layers" else v for k, v in params.items()}
    params["layers"] = [{k: v.copy() for k, v in item.items()} for item in params["layers"]]
    factors = ss.layerwise_lr(params, 0.5)
    assert list(factors)[:2] == ["embed", "layers/0/*"] and list(factors)[-1] == "head/*"
    assert list(factors.values()) == [0.5 ** (13 - i) for i in range(14)]
    groups = [ss.group(pattern, lr=0.1 * factor) for pattern, factor in factors.items()]
    opt = ss.SGD(params, lr=0.1, groups=groups)
    before = {path: float(leaf.sum()) for path, leaf in zip(opt.paths, leaves(params), strict=True)}
    opt.step(params_like(params, 1.0))
    assert before["embed"] == 0.0
    assert params["head"][0][0] == pytest.approx(-0.1)
    assert params["layers"][11]["w"][0, 0] == pytest.approx(-0.05)
    assert params["layers"][1]["w"][0, 0] == pytest.approx(-0.1 * 0.5**11)
    assert params["embed"][0, 0] == pytest.approx(-0.1 * 0.5**13)


def leaves(params):
    from stepsize.arrays import flatten

    return flatten(params)[0]


def params_like(params, value):
    from stepsize.arrays import map_leaves

    return map_leaves(lambda leaf: np.full_like(leaf, value), params)


def test_layerwise_lr_refuses():
    with pytest.raises(ValueError, match=r"layerwise_lr: decay must be in \(0, 1\], got 0"):
        ss.layerwise_lr({"w": np.zeros(1)}, 0)
    with pytest.raises(ValueError, match="params must be a dict, list or tuple of layers, got"):
        ss.layerwise_lr(np.zeros(3), 0.5)


@pytest.mark.parametrize(
    ("schedule", "steps", "message"),
    [
        (S.warmup_cosine(0.1, 100, 1000), 50, "the warm-up is longer than the run of 50 steps"),
        (S.warmup_cosine(0.1, 100, 1000), 500, "the run ends at step 500, before the schedule"),
        (S.linear(0.1, 0.0, 100), 99, "the last rate is 0.002 instead of 0"),
        (
            S.cosine(0.1, 0, 100),
            1000,
            "is 0 from step 100 on: the last 900 of the run's 1000 steps",
        ),
        (S.linear(0.1, 0, 99.5), 200, "is 0 from step 100 on: the last 100 of the run's 200 steps"),
        (S.constant(0.0), 10, "the rate is 0 in all of the run's 10 steps"),
        (S.piecewise_constant([7], [0.1, 0]), 10**9, "from step 7 on: the last 999999993 of"),
        (S.step_decay(0.1, 30, 0.1), 1800, "less than a billionth of its peak, 0.1, from step 300"),
    ],
)
def test_a_schedule_that_does_not_fit_the_run(schedule, steps, message):
    with pytest.warns(S.ScheduleWarning, match=message):
        S.check_run(schedule, steps)


@pytest.mark.parametrize(
    "schedule",
    [
        S.warmup_cosine(0.1, 100, 1000),
        S.constant(0.1),
        S.exponential(0.1, 0.99),
        S.one_cycle(0.1, 1000),
        S.linear(0.0, 0.1, 100),
    ],
)
def test_a_schedule_that_fits_is_let_pass(schedule):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        S.check_run(schedule, 1000)


@pytest.mark.parametrize("steps", [1, 100, 101, 102, 1000])
def test_the_end_of_a_decay_is_no_idle_run(steps):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        S.check_run(S.linear(0.1, 0.0, steps), steps)
        S.check_run(S.linear(0.1, 0.0, steps), steps + 1)
        S.check_run(S.cosine_restarts(0.1, steps), 10 * steps)
        S.check_run(S.from_function(lambda step: 1 / 0), steps)


@given(schedules, st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_the_numbers_of_an_idle_end_are_right(schedule, steps):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        S.check_run(schedule, steps)
    values = schedule.values(steps)
    moving = np.flatnonzero(values > 1e-9 * values.max())
    idle = steps - (moving[-1] + 1 if moving.size else 0)
    texts = [str(warning.message) for warning in caught]
    said = [int(count) for text in texts for count in re.findall(r"the last (\d+) of", text)]
    if said:
        assert said == [idle]
    elif not any(word in text for text in texts for word in ("in all of", "the run ends", "warm")):
        assert idle <= max(1, 0.02 * steps)


@pytest.mark.parametrize(
    "schedule",
    [S.warmup_cosine(0.05, 1, 15), S.linear(0.1, 0.01, 15), S.step_decay(1, 5, 0.1) * 0.1],
)
def test_a_schedule_in_epochs_is_recognised(schedule):
    finite = not math.isinf(schedule.length)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        S.check_run(schedule, 300, steps_per_epoch=20)
    text = " ".join(str(w.message) for w in caught)
    assert ("use schedule.by_epoch(20)" in text) == finite
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        S.check_run(schedule.by_epoch(20), 300, steps_per_epoch=20)
        S.check_run(S.constant(0.1).warmup(15), 300, steps_per_epoch=20)


def test_what_is_no_schedule_does_not_fit_any_run():
    with pytest.raises(TypeError, match="check_run: expected a Schedule or a number, got 'high'"):
        S.check_run("high", 10)


def test_table():
    s = S.piecewise_constant([10], [0.1, 0.001])
    assert s.table(every=5, steps=16).splitlines() == [
        "step  value", "   0  0.1", "   5  0.1", "  10  0.001", "  15  0.001",
    ]  # fmt: skip
    assert len(S.warmup_cosine(0.1, 100, 1000).table().splitlines()) <= 23
    assert S.constant(0.5).table(every=0.5, steps=1).splitlines()[-1] == " 0.5  0.5"
    with pytest.raises(ValueError, match="every must be a finite number > 0, got 0; leave"):
        s.table(every=0)


@pytest.mark.parametrize(
    "schedule",
    [S.warmup_cosine(0.1, 10, 100), S.constant(0.0), S.cyclic(0, 1, 10), S.constant(1) * 1e-300],
)
def test_svg_is_a_picture(schedule):
    root = ElementTree.fromstring(schedule.svg())
    line = root.find("{http://www.w3.org/2000/svg}polyline")
    points = [tuple(map(float, p.split(","))) for p in line.get("points").split()]
    assert len(points) >= 2
    assert all(0 <= x <= 360 and 0 <= y <= 120 for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert "<code>" in schedule._repr_html_() and schedule.svg() in schedule._repr_html_()


def test_plots():
    s = S.warmup_cosine(0.1, 10, 100)
    ax = s.plot()
    (line,) = ax.get_lines()[:1]
    assert (line.get_ydata() == s(line.get_xdata())).all() and line.get_xdata()[-1] >= 100
    assert s.plot(ax, steps=50) is ax
    assert "learning rate" in s.plot_text(width=60, height=8)

"""Schedules refined from gradient norms, against the closed form of the paper."""

import json
import math

import numpy as np
import pytest

import stepsize as ss

refined = ss.schedules.refined


def closed_form(norms, power=2.0):
    """Step by step: w_t = G_t^-q, eta_t = w_t sum of the later w."""
    weights = np.asarray(norms, float) ** -power
    later = np.append(np.cumsum(weights[::-1])[::-1][1:], 0.0)
    return weights * later


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize(
    "norms",
    [
        np.ones(3000),
        np.linspace(5, 1, 3000),
        1 + 4 * np.exp(-np.arange(3000) / 200),
        np.linspace(1, 0.4, 3000),
    ],
    ids=["level", "falling", "warm-up", "late"],
)
def test_it_is_the_closed_form_of_the_paper(norms, power):
    s = refined({"grad_norm": norms}, peak=1.0, power=power, smoothing=1e-9)
    wanted = closed_form(norms, power)
    assert np.abs(s.values(len(norms)) - wanted / wanted.max()).max() < 0.02


def test_level_norms_give_linear_decay_to_zero():
    rng = np.random.default_rng(0)
    norms = np.exp(0.3 * rng.normal(size=2000))
    s = refined({"grad_norm": norms, "lr": np.full(2000, 0.2)}, smoothing=0.3)
    line = ss.schedules.linear(0.2, 0.0, 2000)
    assert np.abs(s.values(2000) - line.values(2000)).max() < 0.02
    assert s(2000) == s(5000) == 0


def test_large_norms_at_first_give_a_warm_up():
    norms = 1 + 9 * np.exp(-np.arange(1000) / 50)
    s = refined({"grad_norm": norms}, peak=0.1)
    values = s.values(1000)
    assert values[0] < 0.01
    assert 50 < values.argmax() < 400
    assert values.max() == pytest.approx(0.1, rel=1e-3)


def test_outliers_and_gaps_hardly_count():
    norms = np.ones(1000)
    norms[::37] = 1e6
    norms[5] = np.nan
    norms[6] = np.inf
    plain = refined({"grad_norm": np.ones(1000)}, peak=1.0).values(1000)
    assert np.abs(refined({"grad_norm": norms}, peak=1.0).values(1000) - plain).max() < 0.01


def test_for_a_run_of_another_length():
    norms = np.linspace(3, 1, 500)
    short, long = (refined({"grad_norm": norms}, 1.0, n) for n in (500, 2000))
    assert long.length == 2000
    assert long(800) == pytest.approx(short(200))


def test_it_is_an_ordinary_schedule():
    params = np.array([3.0, 1.0])
    opt = ss.SGD(params, lr=0.01)
    history = ss.fit(lambda p, b: (float(p @ p), 2 * p), params, opt, [None] * 60, epochs=1)
    s = refined(history)
    assert s(np.linspace(0, 60, 6001)).max() == pytest.approx(0.01, rel=1e-3)
    assert ss.Schedule.from_dict(json.loads(json.dumps(s.to_dict()))) == s
    ss.SGD(params, lr=s).step(np.ones(2))


REFUSED = {
    "mapping": (lambda: refined([1.0]), TypeError, "history must be"),
    "series": (lambda: refined({"loss": [1.0]}), KeyError, "no 'grad_norm'"),
    "short": (lambda: refined({"grad_norm": [1.0] * 9}), ValueError, "at least 10"),
    "no rate": (lambda: refined({"grad_norm": [1.0] * 99}), KeyError, "no 'lr'"),
    "zero": (lambda: refined({"grad_norm": [0.0] * 99}, 1.0), ValueError, "is 0 for a while"),
    "negative": (lambda: refined({"grad_norm": [-1.0] * 99}, 1.0), ValueError, "negative"),
    "vanishes": (
        lambda: refined({"grad_norm": np.logspace(0, -300, 99)}, 1.0),
        ValueError,
        "falls by a factor",
    ),
    "smoothing": (
        lambda: refined({"grad_norm": [1.0] * 99}, 1.0, smoothing=0),
        ValueError,
        "smoothing must be",
    ),
    "peak": (lambda: refined({"grad_norm": [1.0] * 99}, math.nan), ValueError, "peak must be"),
    "total": (lambda: refined({"grad_norm": [1.0] * 99}, 1.0, 0), ValueError, "total_steps must"),
    "axes": (lambda: refined({"grad_norm": np.ones((20, 2))}, 1.0), ValueError, "one axis"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()

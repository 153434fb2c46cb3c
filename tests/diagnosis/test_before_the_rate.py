"""What no rate mends is told before one: units without a gradient, no floor, labels at chance."""

from __future__ import annotations

import re

import numpy as np
import pytest

import stepsize as ss
from stepsize.gradients.silence import Silence

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 12))
Y = np.tanh(X @ RNG.standard_normal(12))
DEAD = -30.0


def network(dead, units=16, seed=1):
    rng = np.random.default_rng(seed)
    bias = np.zeros(units)
    bias[:dead] = DEAD
    weights = rng.standard_normal((12, units)) / 3, rng.standard_normal((units, 1)) / 4
    return {"w0": weights[0], "b0": bias, "w1": weights[1], "b1": np.zeros(1)}


def relu(p, batch):
    x, y = batch
    before = x @ p["w0"] + p["b0"]
    hidden = np.maximum(before, 0)
    slope = (hidden @ p["w1"] + p["b1"] - y[:, None]) / len(x)
    back = slope @ p["w1"].T * (before > 0)
    grads = {"w0": x.T @ back, "b0": back.sum(0), "w1": hidden.T @ slope, "b1": slope.sum(0)}
    return float((slope**2).sum() * len(x) / 2), grads


def trained(value_and_grad, params, optimizer, data=(X, Y), steps=400, **options):
    options = {"batch_size": 16, "progress": False} | options
    return ss.fit(value_and_grad, params, optimizer, data, steps=steps, **options)


@pytest.mark.parametrize("rate", [1e-3, 0.03, 0.3])
@pytest.mark.parametrize("dead", [0, 1, 4, 9, 15, 16])
def test_units_without_a_gradient_are_counted_and_many_come_before_any_rate(dead, rate):
    params = network(dead)
    said = ss.diagnose(trained(relu, params, ss.SGD(params, lr=rate)))
    counted = f"{dead} of 16 units get no gradient (between w0 and w1) at any of 35 steps looked at"
    assert (counted in str(said)) == (dead >= 0.1 * 16)
    before = said.findings[0].kind == "dead_units"
    assert before == (dead >= 8)
    if before:
        assert said.suggested_lr is None and "the rate" not in str(said).replace("No rate", "")


def test_units_that_died_in_the_run_are_told_with_the_step():
    calls = []

    def dying(p, batch):
        calls.append(1)
        lost = np.where(np.arange(16) < 10, DEAD, 0.0) if len(calls) > 20 else np.zeros(16)
        loss, grads = relu(p | {"b0": p["b0"] + lost}, batch)
        return loss, grads

    params = network(0)
    history = trained(dying, params, ss.SGD(params, lr=0.03))
    (group,) = history.meta["silent"]
    assert group["dead"] == 10 and 10 < group["since"] < 20
    said = ss.diagnose(history)
    told = f"10 of 16 units get no gradient (between w0 and w1) since step {group['since']}"
    assert said.findings[0].kind == "dead_units" and told in str(said)
    assert "start again, lower or with a warm-up" in str(said)


def test_inputs_that_are_always_zero_and_rows_never_asked_for_are_no_dead_units():
    x = X.copy()
    x[:, ::2] = 0
    params = network(0)
    assert trained(relu, params, ss.SGD(params, lr=0.03), (x, Y)).meta["silent"] == []


@pytest.mark.parametrize("dead", [0, 9, 16])
def test_lr_find_says_so_too_and_gives_no_rate_where_all_of_a_layer_is_dead(dead):
    found = ss.lr_find(relu, network(dead), (X, Y), optimizer=ss.SGD, progress=False)
    assert found.usable == (dead < 16)
    assert (f"{dead} of 16 units get no gradient (between w0 and w1)" in str(found)) == (dead > 0)


def silence(*gradients):
    found = Silence(gradients[0])
    for step, grads in enumerate(gradients):
        found.look(grads, step)
    return found.units()


@pytest.mark.parametrize("turned", [False, True], ids=["x @ w", "w @ x"])
@pytest.mark.parametrize("window", [(), (3, 3)], ids=["dense", "convolution"])
def test_both_orders_of_the_axes_and_windows_are_known(turned, window):
    def leaf(shape, zero, axis):
        values = np.ones(shape)
        np.moveaxis(values, axis, 0)[zero] = 0
        return (
            values.T.reshape(*shape[::-1], *np.ones(len(window), int))
            if turned
            else (values.reshape(*np.ones(len(window), int), *shape))
        )

    grads = {"a": leaf((5, 8), [1, 6], 1), "b": leaf((8, 3), [1, 6], 0), "c": np.ones(3)}
    (group,) = silence(grads, grads, grads, grads)
    assert (group["dead"], group["of"], group["leaves"]) == (2, 8, ["a", "b"])


def test_a_leaf_alone_two_frozen_ones_and_a_unit_that_wakes_are_none():
    ones = {"a": np.ones((5, 8)), "b": np.ones((8, 3)), "c": np.ones(3)}
    alone = ones | {"a": np.zeros((5, 8))}
    frozen = {name: np.zeros_like(leaf) for name, leaf in ones.items()} | {"d": np.ones((3, 2))}
    assert silence(*[alone] * 4) == silence(*[frozen] * 4) == []
    dead = {"a": np.zeros((5, 8)), "b": np.zeros((8, 3)), "c": np.ones(3)}
    assert silence(*[dead] * 4)[0]["dead"] == 8
    assert silence(dead, dead, dead, ones) == []
    assert silence(ones, dead, dead, dead)[0]["since"] == 0


def line(slope, start=0.5, steps=400):
    """A loss that falls along a line, with weights that move."""
    noise = 0.01 * np.random.default_rng(0).standard_normal(steps)
    loss = start - slope * np.linspace(0, 1, steps) + noise
    return {"loss": loss, "lr": np.full(steps, 0.01), "update_ratio": np.full(steps, 0.05)}


def test_a_linear_loss_has_no_floor_in_view():
    def value_and_grad(p, batch):
        slope = batch[0].mean(0) - 3
        return float(slope @ p["w"]), {"w": slope}

    for optimizer, rate in ((ss.SGD, 0.03), (ss.Adam, 0.003)):
        params = {"w": np.zeros(12)}
        said = ss.diagnose(trained(value_and_grad, params, optimizer(params, lr=rate), (X, Y)))
        assert said.findings[0].kind == "no_floor" and said.verdict == said.findings[1].kind
        text = str(said)
        assert text.startswith("This loss has no floor in view. The loss fell from ")
        assert (
            re.search(r"per 1[0,]+ steps, along a line", text)
            and "The learning rate is" not in text
        )


@pytest.mark.parametrize("slope", [0.3, 3.0, 300.0])
def test_only_below_zero_and_along_a_line(slope):
    assert (ss.diagnose(line(slope)).findings[0].kind == "no_floor") == (slope > 0.5)
    slowing = line(slope) | {"loss": -slope * (1 - np.exp(-4 * np.linspace(0, 1, 400)))}
    assert ss.diagnose(slowing).findings[0].kind != "no_floor"
    short = line(slope) | {"update_ratio": np.full(400, 1e-4)}
    assert ss.diagnose(short).findings[0].kind == "too_low"


def test_nothing_is_lost_of_what_a_rate_too_low_gets():
    below, above = ss.diagnose(line(3.0)), ss.diagnose(line(3.0, start=10.0))
    assert below.verdict == above.verdict == "too_low"
    assert below.suggested_lr == above.suggested_lr == pytest.approx(0.03)
    assert "If it has one, try lr=3.0e-02 next." in str(below)
    assert "Try lr=3.0e-02 next." in str(above)


@pytest.mark.parametrize("rise", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("rate", [0.5, 2.0, 6.0])
def test_what_learns_and_generalises_nothing_is_never_a_matter_of_the_rate(rise, rate):
    t, noise = np.linspace(0, 1, 400), 0.02 * np.random.default_rng(3).standard_normal(400)
    loss = 2.3 * np.exp(-rate * t) + noise
    val = np.full(400, np.nan)
    val[::20] = 2.3 + rise * t[::20]
    history = {"loss": loss, "val_loss": val, "lr": np.full(400, 0.1)}
    said = ss.diagnose(history | {"update_ratio": np.full(400, 5e-3)})
    assert said.verdict == "overfitting" and said.suggested_lr is None
    falling = history | {"val_loss": val - 0.2 * t}
    assert ss.diagnose(falling).verdict != "overfitting" or rise > 0.2


@pytest.mark.parametrize("level", [2.0, 7.0])
def test_an_overshoot_that_the_validation_loss_keeps_is_a_rate_too_high(level):
    """Each row is learnt by heart after it: the training loss rests, near 0, and shows nothing."""
    t, noise = np.linspace(0, 1, 1_600), 0.01 * np.random.default_rng(3).standard_normal(1_600)
    loss = np.exp(-200 * t) + 0.3 * np.exp(-7 * t) + 9e5 * t**2 * np.exp(-90 * t) + 0.1 + noise
    val = np.full(1_600, np.nan)
    val[79::80] = level + level * np.exp(-15 * t[79::80])
    history = {"loss": loss, "val_loss": val, "lr": np.full(1_600, 1.0)}
    said = ss.diagnose(history)
    assert said.verdict == "too_high"
    assert f"the validation loss, {level:.3g} at best, never came back below 1.4" in str(said)
    assert ss.diagnose(history | {"val_loss": val / level}).verdict != "too_high"


@pytest.mark.parametrize(("rate", "steps"), [(3e-3, 800), (1e-2, 800)])
def test_shuffled_labels_are_told_early(rate, steps):
    shuffled = np.random.default_rng(5).permutation(np.sign(Y))
    params = network(0, units=64)
    optimizer = ss.Adam(params, lr=rate)
    data, held = (X[:200], shuffled[:200]), (X[200:], shuffled[200:])
    history = trained(relu, params, optimizer, data, steps, validation=held)
    assert ss.diagnose(history).verdict == "overfitting"


def test_a_monitor_warns_of_dead_units_once():
    params = network(12)
    monitor = ss.DiagnosisMonitor(every=50)
    with pytest.warns(UserWarning, match="12 of 16 units get no gradient") as told:
        trained(relu, params, ss.SGD(params, lr=0.03), callbacks=[monitor])
    assert len(told) == 1


def test_a_resumed_look_does_not_claim_what_was_before():
    dead = {"a": np.zeros((5, 8)), "b": np.zeros((8, 3)), "c": np.ones(3)}
    found = Silence(dead, start=100)
    for step in range(100, 120):
        found.look(dead, step)
    assert found.units()[0]["since"] == 99 and found.looks == 20

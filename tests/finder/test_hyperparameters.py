"""Momentum, weight decay and batch size by the finder's call."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import stepsize as ss
from stepsize.finder import hyperparameters
from stepsize.finder.trials import CachedBatches, TrialRunner

CURVATURES = np.geomspace(0.01, 10, 12)


def valley(params, batch):
    """A quadratic whose curvatures differ by a thousand: momentum pays."""
    x = params["x"]
    return 0.5 * float(CURVATURES @ (x * x)), {"x": CURVATURES * x}


def start():
    return {"x": np.ones(12) / np.sqrt(CURVATURES)}


def samples(size, count, noise=1.0):
    """Batches of gradients with signal 1 and, per sample and coordinate, variance `noise`."""
    rng = np.random.default_rng(0)
    return [rng.normal(1.0, np.sqrt(noise), (size, 50)).astype(np.float32) for _ in range(count)]


def linear(params, batch):
    return float(params["x"] @ batch.mean(0)), {"x": batch.mean(0)}


def test_momentum_pays_in_a_long_valley():
    result = ss.lr_find(valley, start(), [None], parameter="momentum", refine=400)
    assert result.parameter == "momentum" and result.usable
    assert result.suggestion >= 0.8
    assert result.interval[0] <= result.suggestion <= result.interval[1]
    assert f"momentum={result.suggestion}" in result.call
    assert str(result).splitlines()[-1] == result.call


@pytest.mark.parametrize("optimizer", [ss.SGD, ss.Adam, lambda p: ss.SGD(p, momentum=0.9)])
def test_all_values_run_at_rates_with_equally_long_steps(optimizer):
    result = ss.lr_find(valley, start(), [None], parameter="momentum", optimizer=optimizer)
    made = eval(result.call.removeprefix("optimizer = "), {"ss": ss, "params": start()})
    assert made.lr == pytest.approx(result.lr, rel=0.05)
    assert len(result.values) == len(result.losses) >= 3


def test_a_decay_that_hurts_is_not_advised():
    params = {"x": np.full(8, 0.1)}

    def away(p, batch):
        gap = p["x"] - 5.0
        return 0.5 * float(gap @ gap), {"x": gap}

    result = ss.lr_find(away, params, [None], parameter="weight_decay")
    assert result.usable and result.suggestion == 0
    assert result.losses[np.argmax(result.values)] > result.losses[np.argmin(result.values)]


@pytest.mark.parametrize(("noise", "size"), [(1.0, 1), (16.0, 16), (128.0, 128)])
def test_the_batch_size_is_where_noise_and_signal_are_equal(noise, size):
    # Signal 50, trace of the covariance of a sample 50 * noise.
    data = samples(8, 120, noise)
    result = ss.lr_find(linear, {"x": np.zeros(50, np.float32)}, data, parameter="batch_size")
    assert result.suggestion == size
    assert result.interval[0] <= size <= result.interval[1]
    assert f"batch_size = {size} " in str(result)


@pytest.mark.parametrize("parameter", ["momentum", "weight_decay", "batch_size"])
@pytest.mark.parametrize("refine", [False, 150])
def test_it_keeps_to_its_budget_and_touches_nothing(parameter, refine):
    params, count = {"x": np.ones(50, np.float32)}, []
    optimizer = ss.Adam(params, lr=0.1)
    optimizer.step({"x": np.ones(50, np.float32)})
    before = copy.deepcopy((params, optimizer.state_dict()))

    def counted(p, batch):
        count.append(1)
        gap = p["x"] - batch
        return 0.5 * float(np.sum(gap**2) / len(gap)), {"x": gap.mean(0)}

    data = samples(4, 30)
    result = ss.lr_find(counted, params, data, optimizer=optimizer, parameter=parameter,
                        refine=refine)  # fmt: skip
    assert len(count) == result.gradients <= 2 * max(100, 2 * refine)
    np.testing.assert_equal((params, optimizer.state_dict()), before)


@pytest.mark.parametrize("parameter", ["momentum", "weight_decay", "batch_size"])
def test_it_can_be_drawn(parameter):
    params = {"x": np.zeros(50, np.float32)}
    ax = ss.lr_find(linear, params, samples(8, 40, 9.0), parameter=parameter).plot()
    assert ax.get_xlabel() == parameter.replace("_", " ")


@pytest.mark.parametrize(
    ("batches", "why"),
    [
        (samples(8, 2), "only 2 different batches"),
        ([np.ones((8, 50), np.float32) for _ in range(9)], "do not differ"),
        (samples(8, 60, 1e6), "no direction in common"),
    ],
)
def test_no_batch_size_has_a_reason(batches, why):
    def bounded(p, batch):
        loss, grads = linear(p, batch)
        return loss + 5e3 * float(p["x"] @ p["x"]), {"x": grads["x"] + 1e4 * p["x"]}

    params = {"x": np.zeros(50, np.float32)}
    result = ss.lr_find(bounded, params, batches, parameter="batch_size")
    if result.usable:
        pytest.fail(str(result))
    assert str(result).startswith("no usable batch size, because")
    assert why in result.why or result.why.startswith("no rate works")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"parameter": "eps"}, "parameter must be one of lr, momentum, weight_decay, batch_size"),
        ({"parameter": "momentum", "optimizer": ss.Adagrad}, "needs an optimizer with momentum"),
        ({"parameter": "batch_size"}, "needs batches of arrays"),
    ],
)
def test_what_cannot_be_found_is_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        ss.lr_find(valley, start(), [None], **keywords)


def test_each_momentum_runs_at_the_same_rate_and_at_one_with_equally_long_steps():
    runner = TrialRunner(valley, start(), CachedBatches([None]), ss.SGD, lambda: None)
    runner.grant(100)
    runner.evaluate(runner.params, 0, fresh=True)
    entries = hyperparameters._momenta(runner, 0.1, 50, 0)
    rates = {m: sorted(e.lr for e in entries if e.value == m) for m in (0.0, 0.5, 0.9)}
    assert entries[0].value == 0 and rates[0.0] == [0.1]
    assert rates[0.5] == [pytest.approx(0.05, rel=0.1), 0.1]
    assert rates[0.9] == [pytest.approx(0.01, rel=0.1), 0.1]


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.5, 0.9)])
def test_only_a_range_is_told_as_one(low, high):
    none = np.zeros(0)
    result = ss.ParameterResult(
        "momentum", 0.5, (low, high), "high", "it won", none, none, 0.1, 9, "optimizer = ..."
    )
    assert ("as good between" in str(result)) == (low < high)
    assert str(result).startswith("momentum 0.5")


@pytest.mark.parametrize("parameter", ["momentum", "weight_decay"])
@pytest.mark.parametrize("rule", [ss.SGD, ss.Adam])
def test_groups_have_one_value_or_are_refused(parameter, rule):
    start = {"x": np.ones(12) / np.sqrt(CURVATURES), "y": np.ones(2)}

    def both(p, batch):
        loss, grads = valley(p, batch)
        return loss + float(p["y"] @ p["y"]), {**grads, "y": 2 * p["y"]}

    def factory(p, **other):
        first = {"momentum": 0.5} if rule is ss.SGD else {"betas": (0.5, 0.9)}
        return rule(p, **first, groups=[ss.group("y", lr=0.01, **other)])

    result = ss.lr_find(both, start, [None], parameter=parameter, optimizer=factory)
    assert result.usable
    differs = {"weight_decay": {"weight_decay": 0.5}}.get(
        parameter, {"momentum": 0.1} if rule is ss.SGD else {"betas": (0.1, 0.9)}
    )
    with pytest.raises(ValueError, match="is not the same in all groups"):
        ss.lr_find(
            both, start, [None], parameter=parameter, optimizer=lambda p: factory(p, **differs)
        )


def test_the_batch_size_of_gradients_of_rows_is_that_of_whole_ones():
    rng = np.random.default_rng(0)
    data = [(np.arange(8), rng.normal(1, 2, (8, 3))) for _ in range(60)]

    def rows(p, batch):
        which, target = batch
        gap = p["e"][which] - target
        return 0.5 * float(np.mean(gap**2)), {"e": ss.RowGradient(which, gap / gap.size)}

    def whole(p, batch):
        loss, grads = rows(p, batch)
        return loss, {"e": grads["e"].whole("test", "e", p["e"])}

    start = {"e": np.zeros((8, 3))}
    found, other = (ss.lr_find(f, start, data, parameter="batch_size") for f in (rows, whole))
    assert found.suggestion == other.suggestion or (
        np.isnan(found.suggestion) and found.why == other.why
    )

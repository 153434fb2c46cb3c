"""Norms of numbers whose squares leave the range of double."""

import math

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from stepsize import arrays
from stepsize.optimizers.fields import nonnegative
from together import alike, together

NOTHING = [3e-200, 4e-200]
BEYOND = [3e200, 4e200]
EXTREMES = [(NOTHING, 5e-200), (BEYOND, 5e200), ([3e-310, 4e-310], 5e-310)]
MIXED = [([3e200, 4e-200], 3e200), ([1.0, 1e-200], 1.0), ([0.0, 7e-200], 7e-200)]


class Plain(ss.optimizers.Optimizer):
    """A rule without a compiled twin."""

    lr = nonnegative(1.0)

    def rule(self, x, g, s, h):
        x -= h.lr * g


def near(found, expected):
    """Equal but for rounding: subnormal numbers have few digits."""
    assert found == pytest.approx(expected, rel=1e-14, abs=5e-324 if expected < 1e-300 else 0)


def laid_out(kind, numbers):
    """Two leaves of these numbers and of zeros."""
    params = {"a": np.array(numbers), "b": np.zeros(300)}
    if kind == "packed":
        return ss.pack(params)
    if kind == "strided":
        return {name: np.repeat(leaf, 2)[::2] for name, leaf in params.items()}
    return params


@pytest.mark.parametrize(("numbers", "norm"), EXTREMES + MIXED)
@pytest.mark.parametrize("kind", ["plain", "packed", "strided"])
@pytest.mark.parametrize("rule", [ss.SGD, ss.LARS, Plain, ss.Muon, ss.Adafactor])
def test_norms_of_gradients_and_parameters(rule, kind, numbers, norm):
    params, grads = laid_out(kind, numbers), laid_out(kind, numbers)
    stats = rule(params, lr=0.0).step(grads, stats=True)
    near(stats.grad_norm, norm)
    near(stats.param_norm, norm)
    assert stats.nonfinite == 0


@pytest.mark.parametrize(("numbers", "norm"), EXTREMES + MIXED)
@pytest.mark.parametrize("rule", [ss.SGD, Plain])
def test_norms_of_updates(rule, numbers, norm):
    for start in (np.zeros(2), np.array(numbers)):
        stats = rule(start, lr=1.0).step(np.array(numbers), stats=True)
        near(stats.update_norm, norm)


@together("numbers", [NOTHING, BEYOND], alike)
@together("shape", [(2,), (2, 1), (2, 16, 3), (40_000,)], alike)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule(rule, shape, numbers):
    size = math.prod(shape)
    values = np.resize(np.array(numbers), size).reshape(shape)
    expected = math.hypot(*numbers) * math.sqrt(size / 2)
    stats = rule(values.copy(), on_nonfinite="ignore").step(values.copy(), loss=1.0, stats=True)
    assert stats.grad_norm == pytest.approx(expected, rel=1e-12, abs=0)
    assert stats.param_norm == pytest.approx(expected, rel=1e-12, abs=0)
    assert not math.isfinite(stats.update_norm) or stats.update_norm >= 0


@pytest.mark.parametrize("offset", range(9))
@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_same_bits_wherever_it_lies(scale, offset):
    numbers = np.random.default_rng(3).normal(size=1000) * scale
    memory = np.zeros(1010)
    x = memory[offset : offset + 1000]
    x[...] = numbers
    found = ss.SGD(x, lr=0.5).step(numbers, stats=True)
    y = numbers.copy()
    assert found == ss.SGD(y, lr=0.5).step(numbers, stats=True)
    z = numbers.copy()
    assert found == Plain(z, lr=0.5).step(numbers, stats=True)


@pytest.mark.parametrize(("numbers", "norm"), EXTREMES)
def test_replicas(numbers, norm):
    stacked = {"a": np.array([numbers, [3.0, 4.0]])}
    grads = {name: leaf.copy() for name, leaf in stacked.items()}
    population = ss.population("sgd", stacked, lr=[1.0, 1.0])
    first, second = population.step(grads, stats=True)
    near(first.grad_norm, norm)
    near(first.update_norm, norm)
    near(first.param_norm, norm)
    assert second.grad_norm == 5.0


@pytest.mark.parametrize("scale", [2.0**10, 2.0**100])
def test_behind_a_loss_scale(scale):
    for numbers, norm in (([3e-150, 4e-150], 5e-150), ([3e120, 4e120], 5e120)):
        grads = np.array(numbers) * scale
        stats = ss.SGD(np.ones(2), loss_scale=scale).step(grads, stats=True)
        near(stats.grad_norm, norm)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(number):
    for numbers in ([number, 3e-200], [number, 3e200], [3e200, number]):
        opt = ss.SGD(np.ones(2), on_nonfinite="ignore")
        stats = opt.step(np.array(numbers), stats=True)
        assert not math.isfinite(stats.grad_norm)
        assert stats.nonfinite == 1


@pytest.mark.parametrize(("numbers", "norm"), EXTREMES + MIXED)
def test_norm_of_arrays(numbers, norm):
    near(arrays.norm([np.array(numbers), np.zeros(3)]), norm)
    assert arrays.norm([np.array([np.inf, 1e200])]) == math.inf
    assert math.isnan(arrays.norm([np.array([np.nan, 1e200])]))
    assert arrays.norm([]) == 0


@pytest.mark.filterwarnings("ignore:Accumulate (makes an update of every 3|holds the last)")
@pytest.mark.parametrize(("numbers", "norm"), EXTREMES[:2])
@pytest.mark.parametrize("wrap", [ss.SAM, lambda opt: ss.Accumulate(opt, every=3)])
def test_wrappers_and_histories(wrap, numbers, norm):
    grads = {"x": np.array(numbers)}
    params = {"x": np.ones(2)}
    history = ss.fit(
        lambda p, batch: (1.0, grads),
        params,
        wrap(ss.SGD(params, lr=1e-300)),
        [1],
        epochs=1,
        progress=False,
    )
    near(history["grad_norm"][0], norm)


def test_adaptive_clipping_of_numbers_beyond_measure():
    x = np.array([1.0, 1.0])
    ss.AdaptiveClip(ss.SGD(x, lr=1.0), clip=0.5).step(np.array(BEYOND))
    assert np.allclose(1 - x, np.array([0.3, 0.4]) * math.sqrt(2))

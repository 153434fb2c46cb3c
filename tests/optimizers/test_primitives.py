"""The words that rules are written in: as exact as they say, and alike in Python and C++."""

import math

import numpy as np
import pytest

import stepsize as ss
from cases import RULES, Case, advance, random_grads, random_nest
from stepsize import _core
from stepsize.optimizers.elementary import log2, real_power
from stepsize.optimizers.primitives import cube_root, power


def ulps(found, exact):
    return abs(found - exact) / math.ulp(exact)


def test_real_power_is_within_two_ulp():
    random = np.random.default_rng(0)
    bases = 2.0 ** random.uniform(-100, 100, 2000)
    exponents = random.uniform(-5, 5, 2000)
    pairs = list(zip(bases.tolist(), exponents.tolist(), strict=True))
    assert max(ulps(real_power(a, b), a**b) for a, b in pairs) <= 2
    assert real_power(0.0, 2.0) == 0.0 and real_power(0.0, 0.0) == 1.0 == real_power(3.0, 0.0)


def test_real_power_is_the_compiled_power_bit_for_bit():
    steps = np.arange(1, 997)
    for exponent in (0.3, 0.5, 0.75, 1.7, 2.0, 40.0, 300.0):
        compiled = ss.schedules.polynomial(1.0, 0.0, 997, exponent)(steps)
        ours = [real_power((997 - float(step)) / 997, exponent) for step in steps]
        assert compiled.tolist() == ours


def test_whole_powers_are_alike_by_both_words():
    assert max(ulps(real_power(0.96, n), power(0.96, n)) for n in range(1, 400)) <= 2
    assert all(power(0.999, n) == _core.power(0.999, n) for n in range(1, 1000, 7))


def test_log2_of_a_rate_of_memory_is_exact_to_the_last_digits():
    for beta in (0.9, 0.999, 0.9999, 0.5, 1e-300):
        assert sum(log2(beta)) == pytest.approx(math.log2(beta), rel=4e-16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cube_root_is_within_an_ulp_and_a_half(dtype):
    info = np.finfo(dtype)
    low, high = math.log2(info.tiny), math.log2(info.max) - 1
    a = (2.0 ** np.random.default_rng(0).uniform(low, high, 50_000)).astype(dtype)
    exact = np.cbrt(a.astype(np.longdouble))
    assert np.max(np.abs(cube_root(a) - exact) / np.spacing(exact.astype(dtype))) <= 1.5
    special = np.array([0.0, np.inf, np.nan], dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(cube_root(special), special)
    small = info.smallest_subnormal * np.arange(0, 2.0**22, 97, dtype=dtype)
    assert np.all((cube_root(small) >= 0) & (cube_root(small) <= np.cbrt(small) * 1.000001))


@pytest.mark.parametrize("cls", [cls for cls in RULES if "cautious" in cls.fields])
@pytest.mark.parametrize("maximize", [False, True])
def test_a_cautious_rule_never_moves_along_the_gradient(cls, maximize):
    params = random_nest({"x": 500}, np.float32)
    given = {"weight_decay": 0.0, "momentum": 0.9}
    given = {name: value for name, value in given.items() if name in cls.fields}
    optimizer = Case(cls, {"cautious": True, **given}).make(params, maximize=maximize)
    held = 0
    for seed in range(10):
        before = params["x"].copy()
        grads = random_grads(params, seed)
        plain = optimizer.clone(ss.arrays.copy(params))
        bold = Case(cls, given).make(plain.params, maximize=maximize)
        saved = plain.state_dict()
        saved["groups"] = bold.state_dict()["groups"]
        bold.load_state_dict(saved)
        advance(bold, grads)
        advance(optimizer, grads)
        downhill = grads["x"] if maximize else -grads["x"]
        free = (bold.params["x"] - before) * np.sign(downhill) > 0
        held += np.count_nonzero(~free & (bold.params["x"] != before))
        np.testing.assert_array_equal(params["x"], np.where(free, bold.params["x"], before))
    steepest = (ss.Adagrad, ss.Adadelta, ss.Rprop)  # which follow this gradient alone
    assert (held == 0) == (cls in steepest)


def test_rprop_refuses_factors_and_limits_in_the_wrong_order():
    x = np.zeros(2)
    for etas in ((1.2, 0.5), (0.0, 1.2), (0.5, 1.0)):
        with pytest.raises(ValueError, match="Rprop: etas must be"):
            ss.Rprop(x, etas=etas)
    with pytest.raises(ValueError, match="Rprop: step_sizes must be"):
        ss.Rprop(x, step_sizes=(1.0, 0.1))

"""Finite gradients of every size: parameters stay finite, or an error names the gradient."""

import contextlib
import itertools
import math

import numpy as np
import pytest

import stepsize as ss
from cases import CASES, DTYPES, RULES, Case, advance, numpy_rule, same_bits
from stepsize import functional
from stepsize.optimizers.fields import nonnegative
from together import alike, together

SIZES = {
    np.float32: (1e-45, 1e-30, 1e-10, 1e10, 1e18, 1e22, 1e30, 4e37, 3e38),
    np.float64: (1e-320, 1e-200, 1e-100, 1e100, 1e154, 1e160, 1e200, 1e300, 1.7e308),
}
SHAPES = {False: ((35,),), True: ((5, 7), (6,), (2, 3, 2))}
WRAPPERS = {
    "EMA": ss.EMA,
    "SWA": ss.SWA,
    "Lookahead": ss.Lookahead,
    "OuterMomentum": lambda opt: ss.OuterMomentum(opt, 1),
    "Mechanic": ss.Mechanic,
    "Accumulate": lambda opt: ss.Accumulate(opt, every=2),
    "Centralize": ss.Centralize,
    "AdaptiveClip": ss.AdaptiveClip,
    "GradientNoise": ss.GradientNoise,
}


def gradients(kind, size, shape, dtype):
    """Three gradients of this size."""
    count = int(np.prod(shape))
    signs = np.where(np.arange(count) % 2, 1.0, -1.0)
    some = np.resize([1.0, -1.0, 0.0, 0.5], count) * size
    some[::3] = np.resize([1.0, -1e-3], len(some[::3]))
    found = {
        "equal": [np.full(count, size)] * 3,
        "turning": [size * signs, -size * signs, size * signs],
        "mixed": [some, -some, some],
        "first": [size * signs, signs, 1e-3 * signs],
        "second": [signs, size * signs, signs],
    }[kind]
    return [g.astype(dtype).reshape(shape) for g in found]


KINDS = ("equal", "turning", "mixed", "first", "second")


def check_steps(optimizer, x, grads, step=advance):
    """Every step leaves finite parameters, or raises and changes nothing."""
    for g in grads:
        near = np.abs(g).max() > np.finfo(x.dtype).max / 16
        before = x.copy(), optimizer.state_dict() if near else None
        try:
            step(optimizer, g)
        except ss.NonFiniteGradientError as error:
            assert near and "too near the largest" in str(error)
            assert same_bits(x, before[0])
            for now, then in zip(
                optimizer.state.values(), before[1]["state"].values(), strict=True
            ):
                assert all(same_bits(now[name], then[name]) for name in now)
            return
        assert np.isfinite(x).all(), (g.flat[:3], x.flat[:3])


def cells(case, dtype):
    """The kinds and sizes for a case: all for a rule's defaults, else a third, each in its turn."""
    turn = CASES.index(case)
    for i, kind in enumerate(KINDS):
        for k, size in enumerate(SIZES[dtype]):
            if not case.keywords or (i + k + turn) % 3 == 0:
                yield kind, size


@pytest.mark.parametrize("dtype", DTYPES)
@together("case", CASES)
def test_parameters_stay_finite(case, dtype):
    for shape, (kind, size) in itertools.product(SHAPES[case.cls.shaped], cells(case, dtype)):
        x = np.linspace(-1, 1, int(np.prod(shape))).astype(dtype).reshape(shape)
        check_steps(case.make(x), x, gradients(kind, size, shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", RULES)
def test_as_numpy_states_it(cls, dtype):
    """The compiled rule and its twin agree at every size."""
    for shape, kind, size in itertools.product(SHAPES[cls.shaped], KINDS, SIZES[dtype]):
        found = []
        for _ in range(2):
            x = np.linspace(-1, 1, int(np.prod(shape))).astype(dtype).reshape(shape)
            found.append(x)
        one = cls(found[0], on_nonfinite="ignore")
        with numpy_rule(cls):
            two = cls(found[1], on_nonfinite="ignore")
            for g in gradients(kind, size, shape, dtype):
                advance(two, g)
        for g in gradients(kind, size, shape, dtype):
            advance(one, g)
        assert same_bits(*found), (shape, kind, size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("rule", [ss.SGD, ss.Adam, ss.Adafactor, ss.FTRL])
def test_in_wrappers(rule, wrapper, dtype):
    for kind, size in itertools.product(KINDS, SIZES[dtype]):
        x = np.linspace(-1, 1, 35).astype(dtype).reshape(5, 7)
        optimizer = WRAPPERS[wrapper](rule(x))
        for g in gradients(kind, size, (5, 7), dtype):
            before = x.copy()
            try:
                optimizer.step(g)
            except ss.NonFiniteGradientError:
                assert same_bits(x, before)
                break
            assert np.isfinite(x).all(), (kind, size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", [ss.Adafactor, ss.FTRL, ss.Yogi, ss.Shampoo, ss.Muon])
def test_a_step_is_as_long_at_every_size(cls, dtype):
    """These steps do not depend on the size of the first gradient."""
    keywords = {"eps": 1e-12} if cls is ss.Shampoo else {}
    keywords |= {"initial_accumulator_value": 0.0} if cls is ss.FTRL else {}
    moves = []
    largest = math.log2(np.finfo(dtype).max) - 4
    for size in 2.0 ** np.linspace(0, largest, 8).round():
        x = np.zeros((5, 7), dtype)
        optimizer = cls(x, **keywords)
        signs = np.random.default_rng(0).normal(size=(5, 7))
        optimizer.step((size * np.sign(signs)).astype(dtype))
        optimizer.step((size * np.sign(signs)).astype(dtype))
        moves.append(x)
    for other in moves[1:]:
        np.testing.assert_allclose(other, moves[0], rtol=0.02)


@together("shape", [(20, 30), (3, 1), (2, 5, 7)], alike)
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_muon_makes_the_same_bits_of_a_direction_at_every_size(dtype, compiled, shape):
    """Its norm may be beyond the largest number; powers of two round nothing."""
    directions = np.random.default_rng(4).normal(size=shape)
    largest = math.frexp(np.finfo(dtype).max)[1] - 6
    for keywords in ({}, {"ns_table": "polar_express"}, {"row_beta2": 0.9}, {"nesterov": False}):
        found = []
        for exponent in (0, 30, largest // 2, largest):
            x = np.ones(shape, dtype)
            with contextlib.nullcontext() if compiled else numpy_rule(ss.Muon):
                opt = ss.Muon(x, lr=0.1, flatten=True, on_nonfinite="ignore", **keywords)
                opt.step(np.ldexp(directions, exponent).astype(dtype))
            found.append(x)
        assert (found[0] != 1).all()
        assert all(same_bits(x, found[0]) for x in found), keywords


@pytest.mark.parametrize("dtype", DTYPES)
def test_centered_variance_beyond_the_range_makes_no_step(dtype):
    x = np.zeros(4, dtype)
    size = dtype(1e22 if dtype is np.float32 else 1e200)
    ss.RMSprop(x, centered=True).step(np.full(4, size))
    assert np.abs(x).max() <= 0.2


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_too_near_the_largest_number_is_refused_by_name(dtype):
    largest = np.finfo(dtype).max
    x = np.ones(3, dtype)
    g = np.array([1, largest, 1], dtype)
    message = f"SGD: the gradient of a holds numbers of {largest / 8:.2g} or more, too near the"
    for rule in (lambda p: ss.SGD(p, lr=1e-3), lambda p: Plain(p)):
        opt = rule({"a": x})
        with pytest.raises(FloatingPointError, match=r"the gradient of a holds numbers of .*e\+"):
            opt.step({"a": g})
        assert list(x) == [1.0] * 3 and opt.step_count == 0
    with pytest.raises(ss.NonFiniteGradientError) as error:
        ss.SGD({"a": x}).step({"a": g})
    assert str(error.value).startswith(message) and "clip_norm or clip_value" in str(error.value)
    with pytest.raises(ss.NonFiniteGradientError, match="too near the largest"):
        functional.sgd_(x, g, step=1, lr=0.1)
    population = ss.population("sgd", {"a": np.ones((2, 3), dtype)}, lr=[0.1, 0.2])
    with pytest.raises(ss.NonFiniteGradientError, match=r"too near .* in replica 1"):
        population.step({"a": np.stack([np.ones(3, dtype), g])})
    with pytest.raises(ss.NonFiniteGradientError, match="holds NaN or infinity"):
        ss.SGD({"a": x}).step({"a": np.array([largest, np.inf, 0], dtype)})


class Plain(ss.optimizers.Optimizer):
    """A rule without a compiled twin."""

    lr = nonnegative(1e-3)

    def rule(self, x, g, s, h):
        x -= h.lr * g


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_makes_gradients_smaller_takes_any_finite_one(dtype):
    g = np.array([np.finfo(dtype).max, 0, 1], dtype)
    for keywords in ({"clip_norm": 1.0}, {"clip_value": 1.0}, {"loss_scale": 2.0**20}):
        x = np.zeros(3, dtype)
        ss.SignSGD(x, lr=0.5, **keywords).step(g)
        assert x[0] == -0.5, keywords
    x = np.zeros(3, dtype)
    stats = ss.SGD(x, on_nonfinite="skip").step(g, stats=True)
    assert not x.any() and stats.nonfinite == 0
    assert Case(ss.SGD).make(x, on_nonfinite="ignore").step(g) is None


def test_an_overflow_of_a_wrapper_is_its_own():
    big = np.float32(4e37)
    x = np.zeros((2, 4), np.float32)
    ss.Centralize(ss.SGD(x, lr=1e-38)).step(np.full((2, 4), big / 2, np.float32))
    assert not x.any()  # a constant row has nothing left, and the sum of it is no infinity
    opt = ss.GradientNoise(ss.SGD(x), eta=1e90)
    with pytest.raises(
        ss.NonFiniteGradientError, match=r"GradientNoise: the gradient of .* finite"
    ):
        opt.step(np.ones((2, 4), np.float32))
    with pytest.raises(ss.NonFiniteGradientError, match=r"SGD: the gradient of .* holds NaN"):
        opt.step(np.full((2, 4), np.nan, np.float32))
    assert not x.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("eps", [1e-20, 1e-30, 1e-170, 5e-324])
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_an_epsilon_whose_square_is_nothing_divides_no_zero(shape, eps, dtype):
    """1e-30 is the published one of Adafactor; its square is 0 in float32, and in float64 not."""
    found = []
    for native in (True, False):
        x, g = np.ones(shape, dtype), np.zeros(shape, dtype)
        g[..., 0] = 2
        with contextlib.nullcontext() if native else numpy_rule(ss.Adafactor):
            optimizer = ss.Adafactor(x, eps=(eps, 1e-3))
        optimizer.step(g)
        assert np.isfinite(x).all() and (x[g == 0] == 1).all() and (x[g != 0] < 1).all()
        found.append(x.tobytes())
    assert found[0] == found[1]

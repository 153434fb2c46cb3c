"""Schedules against their closed forms, at their edges, and with bad arguments."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest

import stepsize as ss
from stepsize.schedules.nodes import log2_pair

S = ss.schedules
N = 1000
STEPS = np.arange(3 * N)
P = np.minimum(STEPS, N) / N

# NumPy's own pow, exp and cos, and the order of operations here, are good to a few ulp of the peak.
close = {"rtol": 2e-14, "atol": 1e-15}

CLOSED_FORMS = [
    (S.constant(0.1), 0.1 + 0 * P),
    (S.linear(0.3, 0.1, N), 0.3 + (0.1 - 0.3) * P),
    (S.polynomial(0.3, 0.1, N, power=2.5), 0.1 + 0.2 * (1 - P) ** 2.5),
    (S.polynomial(0.3, 0.1, N), 0.1 + 0.2 * (1 - P)),
    (S.cosine(0.3, 0.1, N), 0.1 + 0.2 * (1 + np.cos(np.pi * P)) / 2),
    (S.cosine(1.0, 0.0, N, power=1.7), ((1 + np.cos(np.pi * P)) / 2) ** 1.7),
    (S.exponential(0.3, 0.9, 7.5), 0.3 * 0.9 ** (STEPS / 7.5)),
    (S.exponential(0.3, 0.9, 7, staircase=True), 0.3 * 0.9 ** (STEPS // 7)),
    (S.exponential(0.3, 0.9, 7, end=0.01), np.maximum(0.3 * 0.9 ** (STEPS / 7), 0.01)),
    (S.exponential(1e-7, 1.1, 10, end=0.1), np.minimum(1e-7 * 1.1 ** (STEPS / 10), 0.1)),
    (S.inverse_time(0.3, 0.7, 9), 0.3 / (1 + 0.7 * STEPS / 9)),
    (S.inverse_time(0.3, 0.7, 9, staircase=True), 0.3 / (1 + 0.7 * (STEPS // 9))),
    (S.inverse_sqrt(0.1, 50), 0.1 * np.minimum(STEPS / 50, np.sqrt(50 / np.maximum(STEPS, 1)))),
    (S.step_decay(1.0, 30, 0.1), 0.1 ** (STEPS // 30.0)),
    (S.rex(0.3, N, end=0.1), 0.1 + 0.2 * (1 - P) / (1 - P / 2)),
    (S.tanh(0.3, 0.1, N), 0.1 + 0.2 * (1 - np.tanh(-7 * (1 - P) + 3 * P)) / 2),
    (S.noam(512, 40), 512**-0.5 * np.minimum((STEPS + 1) ** -0.5, (STEPS + 1) * 40**-1.5)),
    (S.wsd(0.3, 0, 0, N, shape="sqrt", end=0.1), 0.3 - 0.2 * np.sqrt(P)),
]


@pytest.mark.parametrize(("s", "expected"), CLOSED_FORMS, ids=lambda x: getattr(x, "name", ""))
def test_closed_forms(s, expected):
    # Where a value has decayed below 1e-15 only its size is compared: pow itself drifts there.
    np.testing.assert_allclose(s(STEPS), expected, **close)


def test_a_power_of_a_rate_keeps_its_relative_precision():
    for k in range(300):
        exact = float(Fraction(0.1) ** k)
        assert S.step_decay(1.0, 10, 0.1)(10 * k) == pytest.approx(exact, rel=1e-15, abs=0)
        assert S.exponential(1.0, 0.5)(k) == 0.5**k
    assert log2_pair(0.125) == (-3.0, 0.0)


def test_a_ramp_to_zero_keeps_its_relative_precision():
    # (1 + cos(x)) / 2 cancels near the end; sin(x)^2 does not.
    s = S.cosine(1.0, 0.0, 10**6)
    for left in (1, 10, 1000):
        exact = math.sin(math.pi * left / 2e6) ** 2
        assert s(10**6 - left) == pytest.approx(exact, rel=1e-15, abs=0)


@pytest.mark.parametrize("recipe", [S.linear, S.cosine, S.polynomial, S.tanh])
@pytest.mark.parametrize("steps", [1, 7, 10, 1000, 123456, 2**53])
@pytest.mark.parametrize(("init", "end"), [(0.3, 0.1), (0.1, 0.3), (0.1, 0.0), (0.0, 3e-4)])
def test_ends_are_exact(recipe, steps, init, end):
    s = recipe(init, end, steps)
    if recipe is not S.tanh:
        assert s(0) == init and s(steps) == end
    assert s(steps) == s(2**53)
    values = s(np.linspace(0, steps, 1001))
    assert values.min() >= min(init, end) and values.max() <= max(init, end)


@pytest.mark.parametrize("total", [3, 7, 10, 100, 333, 4000])
@pytest.mark.parametrize("shape", ["cosine", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle_as_torch_defines_it(total, shape, three_phase):
    peak, pct = 0.7, 0.4
    first, last = peak / 25, peak / 25 / 1e4
    top = pct * total - 1
    ends = [(top, first, peak), (total - 1, peak, last)]
    if three_phase:
        ends = [(top, first, peak), (2 * top, peak, first), (total - 1, first, last)]
    s = S.one_cycle(peak, total, pct_start=pct, shape=shape, three_phase=three_phase)
    begin = 0.0
    for end, low, high in ends:
        for step in range(math.ceil(begin), math.floor(end) + 1):
            p = (step - begin) / (end - begin)
            blend = p if shape == "linear" else (1 - math.cos(math.pi * p)) / 2
            assert s(step) == pytest.approx(low + (high - low) * blend, rel=1e-12)
        begin = end
    assert s(total - 1) == s(2**53) == last


def test_one_cycle_peaks_exactly():
    s = S.one_cycle(0.7, 100)
    assert s(29) == 0.7 == max(s.values(100)) and s(0) == 0.7 / 25
    assert S.one_cycle(0.7, 10, pct_start=1.0)(9) == 0.7
    assert S.one_cycle(0.7, 10, pct_start=0.1)(0) == 0.7
    assert S.one_cycle(0.7, 1)(0) == 0.7 / 25 / 1e4


def test_new_values_hold_at_the_boundary():
    assert S.multistep(1.0, [30, 80], 0.5)(np.array([29, 30, 79, 80])).tolist() == [
        1.0, 0.5, 0.5, 0.25,
    ]  # fmt: skip
    assert S.step_decay(1.0, 30, 0.5)(30) == 0.5
    assert S.piecewise_constant([10, 20], [3, 2, 1])(np.array([9, 10, 19, 20])).tolist() == [
        3, 2, 2, 1,
    ]  # fmt: skip
    assert S.constant(1.0).then(2.0, at=10)(10) == 2.0
    assert S.cosine_restarts(1.0, 10)(10) == 1.0
    assert S.wsd(1.0, 10, 10, 10)(10) == 1.0


def test_restarts_decay_the_height_above_the_end():
    s = S.cosine_restarts(1.0, 10, multiplier=2, decay=0.5, end=0.2)
    assert s(0) == 1.0
    assert s(10) == pytest.approx(0.2 + 0.8 * 0.5, rel=1e-15)
    assert s(30) == pytest.approx(0.2 + 0.8 * 0.25, rel=1e-15)
    assert s(20) == pytest.approx(0.2 + 0.4 * 0.5, rel=1e-15)
    starts = np.cumsum([0] + [7 * 3**i for i in range(20)])
    assert (S.cosine_restarts(0.3, 7, multiplier=3)(starts) == 0.3).all()


def test_triangles():
    s = S.cyclic(0.1, 1.1, 4, 6, mode="triangular2")
    assert s(np.array([0, 4, 10, 14])).tolist() == [0.1, 1.1, 0.1, 0.6000000000000001]
    s = S.cyclic(0.1, 1.1, 4, mode="exp_range", gamma=0.9)
    assert s(12) == pytest.approx(0.1 + 0.9**12, rel=1e-14)
    for step in (0, 8, 80, 8 * 10**6, 2**53):
        assert S.cyclic(0.1, 1.1, 4)(step) == 0.1


def test_polynomial_laps_as_keras_defines_them():
    s = S.polynomial(1.0, 0.1, 10, power=2, cycle=True)
    for step in range(100):
        end = 10 * max(math.ceil(step / 10), 1)
        assert s(step) == pytest.approx(0.1 + 0.9 * (1 - step / end) ** 2, rel=1e-14)


def test_warmup_zero_is_no_warmup():
    assert S.warmup_cosine(0.1, 0, 50)(0) == 0.1
    assert (S.warmup_cosine(0.1, 0, 50)(STEPS) == S.cosine(0.1, 0, 50)(STEPS)).all()
    assert S.wsd(0.1, 0, 5, 5)(0) == 0.1


def test_growth_stops_at_the_largest_float():
    for s in (S.exponential(1.0, 2.0), S.exponential(1.0, 2.0) * 10.0):
        assert s(2**53) == sys.float_info.max
    huge = S.constant(1e308)
    assert (huge + huge)(0) == (huge * huge)(0) == sys.float_info.max


def test_lengths_next_to_nothing():
    for tiny in (5e-324, 1e-310, 1e-300):
        assert S.inverse_time(0.1, 0.0, tiny)(2**53) == 0.1
        assert S.inverse_time(0.1, 1.0, tiny)(2**53) < 1e-300
        assert S.cyclic(0.1, 1.0, 3).by_epoch(tiny)(2**53) <= 1.0
        assert S.linear(1.0, 0.0, tiny)(1) == S.cosine(1.0, 0.0, tiny)(1) == 0.0


def test_length():
    assert S.constant(1.0).length == 0
    assert S.warmup_cosine(0.1, 10, 50).length == 50
    assert S.linear(0, 1, 10).then(S.cosine(1, 0, 90), at=10).length == 100
    assert S.one_cycle(1, 100).length == 99
    assert S.cosine(1, 0, 10).repeat(10).length == math.inf


def test_a_schedule_never_changes():
    s = S.linear(1.0, 0.0, 10)
    with pytest.raises(AttributeError, match=r"a Schedule is immutable; .* setting 'length'"):
        s.length = 3
    with pytest.raises(AttributeError, match="immutable"):
        del s.length
    with pytest.raises(AttributeError):
        s.other = 3


def test_equality_is_of_calls():
    assert S.linear(1, 0, 10) == S.linear(1.0, 0.0, 10.0)
    assert hash(S.linear(1, 0, 10)) == hash(S.linear(1.0, 0.0, 10.0))
    assert S.linear(1, 0, 10) != S.linear(1, 0, 11)
    assert S.linear(1, 0, 10) != S.polynomial(1, 0, 10)
    assert S.linear(1, 0, 10) != "linear(1.0, 0.0, 10)"


BAD = [
    (
        "linear(-0.1, 0, 10)",
        "linear: init must be a finite number >= 0, got -0.1; "
        "a negative rate would climb the loss instead",
    ),
    (
        "cosine(1, 0, 0)",
        "cosine: steps must be a number of steps in (0, 2**53], got 0; "
        "count the updates it should take",
    ),
    (
        "cosine(1, math.nan, 5)",
        "cosine: end must be a finite number >= 0, got nan; "
        "a negative rate would climb the loss instead",
    ),
    ("exponential(1, 0)", "exponential: rate must be a finite number > 0, got 0"),
    (
        "exponential(1, 0.5, end=2)",
        "exponential: end must be at most init=1.0 where rate=0.5, got 2.0",
    ),
    (
        "warmup_cosine(1, 10, 10)",
        "warmup_cosine: warmup_steps must be below total_steps=10, got 10; "
        "total_steps includes the warm-up",
    ),
    (
        "one_cycle(1, 10.5)",
        "one_cycle: total_steps must be a whole number of steps >= 1, got 10.5; "
        "round it with int()",
    ),
    (
        "one_cycle(1, 10, pct_start=0.6, three_phase=True)",
        "one_cycle: pct_start must be at most 0.5 with three_phase, got 0.6",
    ),
    (
        "one_cycle(1, 10, shape='cos')",
        "one_cycle: shape must be one of 'cosine', 'linear', got 'cos'",
    ),
    (
        "multistep(1, [30, 20], 0.1)",
        "multistep: milestones[1] must be above 30, got 20; sort the steps",
    ),
    (
        "piecewise_constant([1, 2], [1, 2])",
        "piecewise_constant: the number of values must be one more than the 2 boundaries, got 2",
    ),
    (
        "piecewise_linear(3)",
        "piecewise_linear: points must be a sequence of (step, value) pairs, got 3",
    ),
    ("table([])", "table: values must have a length of at least 1, got ()"),
    (
        "cyclic(1, 2, 10, gamma=0.9)",
        "cyclic: gamma must be 1 where mode='triangular', got 0.9; use mode='exp_range'",
    ),
    (
        "flat_cosine(1, 10, flat=1)",
        "flat_cosine: flat must be below 1, got 1.0; use constant(peak) for no decay",
    ),
    ("linear(1, 0, 5).clip(2, 1)", "clip: low must be at most high=1.0, got 2.0"),
    (
        "linear(1, 0, 5) * -1",
        "scale: factor must be a finite number >= 0, got -1; "
        "a negative rate would climb the loss instead",
    ),
    (
        "linear(1, 0, 5).then(1, at=-1)",
        "then: at must be a step in [0, 2**53], got -1; steps count from 0",
    ),
    (
        "exponential(1, 0.5).stretch(10)",
        "stretch: exponential(1.0, 0.5) never stops changing, so it has no length to stretch; "
        "end it first with .then(value, at=step)",
    ),
    (
        "linear(1, 0, 10).resume_at(10, 20)",
        "resume_at: step must be before the end at 10, got 10",
    ),
    ("linear(1, 0, 10).resume_at(5, 5)", "resume_at: new_end must be after step=5, got 5"),
    ("linear(1, 0, 10).values(-1)", "values: n must be a whole number >= 0, got -1"),
    (
        "linear(1, 0, 10)(-1)",
        "step must be in [0, 2**53], got -1; it is the number of updates already applied",
    ),
    (
        "linear(1, 0, 10)(math.nan)",
        "step must be in [0, 2**53], got nan; it is the number of updates already applied",
    ),
    (
        "linear(1, 0, 10)(2**53 + 2)",
        "step must be in [0, 2**53], got 9007199254740994; "
        "it is the number of updates already applied",
    ),
    (
        "from_function('no_such_module:f')",
        "from_function: f='no_such_module:f' names a function, and what a text names is not "
        "called; give the function itself, from_function(f), or the one that the name may stand "
        "for: from_function('no_such_module:f', trust=f)",
    ),
    (
        "from_function(lambda s: -1.0)(3)",
        "from_function: <lambda>(3) must be a finite number >= 0, got -1.0",
    ),
]
BAD_TYPES = [
    ("linear(1, 0)", "linear(init, end, steps): missing a required argument: 'steps'"),
    ("linear('1', 0, 3)", "linear: init must be a number, got '1' (str)"),
    ("linear(True, 0, 3)", "linear: init must be a number, got True (bool)"),
    (
        "polynomial(1, 0, 3, cycle=1)",
        "polynomial: cycle must be True or False, got 1",
    ),
    ("table(3)", "table: values must be a sequence of numbers, got 3"),
    ("from_function(3)", "from_function: f must be a function of one step, got 3"),
    (
        "linear(1, 0, 3)([1, 2])",
        "step must be a number or an ndarray, got list; pass numpy.asarray(step)",
    ),
    (
        "linear(1, 0, 3)(np.array([1j]))",
        "step must hold real numbers, got an array of dtype complex128",
    ),
    ("linear(1, 0, 3)()", None),
    ("linear(1, 0, 3) * 'a'", None),
    ("np.ones(3) * linear(1, 0, 3)", None),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text for text, _ in BAD])
def test_bad_values(text, message):
    with pytest.raises(ValueError) as caught:
        eval(text, {**vars(S), "math": math, "np": np})
    assert str(caught.value) == message


@pytest.mark.parametrize(("text", "message"), BAD_TYPES, ids=[text for text, _ in BAD_TYPES])
def test_bad_types(text, message):
    with pytest.raises(TypeError) as caught:
        eval(text, {**vars(S), "math": math, "np": np})
    assert message is None or str(caught.value) == message


def test_steps_of_an_array_are_checked_one_by_one():
    for s in (S.linear(1, 0, 10), S.from_function(lambda step: 1.0)):
        with pytest.raises(ValueError, match=r"step must be in \[0, 2\*\*53\], got -3; "):
            s(np.array([1, 2, -3]))
        assert s(np.empty((0, 3))).shape == (0, 3)
        assert isinstance(s(np.array(3)), np.ndarray) and s(np.array(3)).shape == ()


def test_nesting_has_a_limit_with_a_way_out():
    s = S.constant(1.0)
    for _ in range(99):
        s = s * 0.99
    with pytest.raises(ValueError, match=r"nested 100 deep, got 101; ss\.schedules\.table"):
        s * 0.99
    s = S.constant(1.0)
    for k in range(1, 500):
        s = s.then(0.5**k, at=k)  # a join stays flat however long it grows
    assert s(499) == 0.5**499


def test_a_function_gets_an_int_where_the_step_is_whole():
    s = S.from_function(lambda step: 1.0 if isinstance(step, int) else 2.0)
    assert s(3) == s(3.0) == 1.0 and s(3.5) == 2.0
    assert s(np.array([0.0, 0.5, 7.0])).tolist() == [1.0, 2.0, 1.0]


def test_integral():
    assert S.constant(0.1).integral(10) == 1.0
    assert S.linear(1.0, 0.0, 10).integral(10**9) == 5.5
    assert S.linear(1.0, 0.0, 10).integral(0) == 0.0
    assert S.constant(0.0).then(1.0, at=100_000).integral(200_000) == 100_000.0


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float64])
def test_long_arrays_are_the_values_one_by_one(dtype):
    s = ss.schedules.cosine(1.0, 0.25, 150_000)
    steps = np.arange(200_000, dtype=dtype)
    found = s(steps)
    assert found.dtype == np.float64
    assert found[::997].tolist() == [s(int(step)) for step in steps[::997]]
    steps[131_072] = -3
    with pytest.raises(ValueError, match=r"step must be in \[0, 2\*\*53\], got -3"):
        s(steps)

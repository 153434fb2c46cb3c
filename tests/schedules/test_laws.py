"""Laws that hold for every schedule, over random trees of every recipe."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import stepsize as ss
from schedule_strategies import LEAVES, inverse, leaves, rates, schedules, steps
from stepsize.schedules import *  # noqa: F403  a repr names recipes without a prefix
from stepsize.schedules.expression import parse

common = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(common, max_examples=150)

GRID = np.concatenate([np.arange(300.0), np.linspace(0, 70, 141), [1e3, 1e6, 2.0**52, 2.0**53]])


def same(a, b):
    """Equal bit for bit: -0 and 0 differ, NaN equals itself."""
    return np.array_equal(np.asarray(a).view(np.int64), np.asarray(b).view(np.int64))


@pytest.mark.parametrize("name", LEAVES)
@settings(common, max_examples=25)
@given(data=st.data())
def test_every_recipe_gives_finite_rates(name, data):
    values = data.draw(LEAVES[name])(GRID)
    assert np.isfinite(values).all() and (values >= 0).all()


@many
@given(schedules)
def test_one_by_one_is_all_at_once(s):
    values = s(GRID)
    assert same(values, [s(step) for step in GRID.tolist()])
    assert same(s.values(300), values[:300])
    assert np.isfinite(values).all() and (values >= 0).all()


@common
@given(schedules, st.randoms(use_true_random=False))
def test_order_does_not_matter(s, random):
    order = list(range(len(GRID)))
    random.shuffle(order)
    assert same(s(GRID[order]), s(GRID)[order])
    assert same(s(GRID.reshape(5, -1)).ravel(), s(GRID))


@common
@given(schedules)
def test_ints_of_every_dtype_are_steps(s):
    for dtype in (np.int8, np.uint16, np.int32, np.int64, np.float32):
        assert same(s(np.arange(100).astype(dtype)), s(np.arange(100.0)))
    assert s(7) == s(7.0) == s(np.int32(7)) == s(np.float64(7)) == s(np.array(7))


@many
@given(schedules)
@example(ss.schedules.rex(0.0, 0.9062237932625974, end=1.0).by_epoch(3, smooth=True))
def test_the_last_value_holds_to_the_end(s):
    if s.length < 2.0**53:
        later = s.length + np.array([0.0, 0.5, 1.0, 10.0, 1e6])
        values = s(np.append(np.minimum(later, 2.0**53), 2.0**53))
        assert same(values, np.full(6, values[0]))


@many
@given(schedules, schedules, steps)
def test_then_is_pointwise(a, b, at):
    joined = a.then(b, at=at)
    early, late = GRID[at > GRID], GRID[at <= GRID]
    assert same(joined(early), a(early))
    assert same(joined(late), b(late - at))


@common
@given(schedules, schedules, schedules, steps, steps)
def test_then_is_associative(a, b, c, first, second):
    left = a.then(b, at=first).then(c, at=first + second)
    right = a.then(b.then(c, at=second), at=first)
    assert left == right and hash(left) == hash(right)
    assert same(left(GRID), right(GRID))


@common
@given(schedules, schedules, rates)
def test_algebra_is_pointwise(a, b, k):
    largest = sys.float_info.max
    with np.errstate(over="ignore"):
        assert same((a + b)(GRID), np.minimum(a(GRID) + b(GRID), largest))
        assert same((a * b)(GRID), np.minimum(a(GRID) * b(GRID), largest))
        assert same((a * k)(GRID), np.minimum(a(GRID) * k, largest))
    assert k * a == a * k
    assert (a + k) == a + ss.schedules.constant(k)
    assert same((a + b)(GRID), (b + a)(GRID)) and same((a * b)(GRID), (b * a)(GRID))
    assert same((a * 1.0)(GRID), a(GRID)) and same((a + 0.0)(GRID), a(GRID))
    low, high = sorted([k, 0.5])
    assert same(a.clip(low, high)(GRID), np.clip(a(GRID), low, high))


@common
@given(schedules, steps, rates)
def test_moving_along_the_steps(s, n, init):
    assert same(s.shift(n)(GRID), s(np.maximum(GRID - n, 0)))
    ahead = GRID[GRID + n <= 2.0**53]
    assert same(s.shift(-n)(ahead), s(ahead + n))
    warm = s.warmup(n, init=init)
    late = GRID[n <= GRID]
    assert same(warm(late), s(late - n))
    assert warm(0) == (s(0) if n == 0 else init)
    whole = np.arange(200)
    assert same(s.repeat(n + 1)(whole), s(whole % (n + 1)))
    assert same(s.by_epoch(n + 1)(whole), s(whole // (n + 1)))
    assert same(s.by_epoch(n + 1, smooth=True)(whole), s(whole / (n + 1)))


@common
@given(leaves, st.integers(1, 500))
def test_stretch_moves_the_end(s, total):
    if 0 < s.length < 1e6:
        stretched = s.stretch(total)
        assert stretched.length == total
        assert stretched(total) == s(s.length) and stretched(0) == s(0)
        assert stretched(total * 0.5) == pytest.approx(s(s.length * 0.5), rel=1e-9, abs=1e-12)


@common
@given(leaves, st.floats(0.1, 0.9), st.integers(1, 500))
def test_a_new_end_continues_where_it_was(s, share, more):
    if 1 < s.length < 1e6:
        at = int(share * s.length)
        changed = s.resume_at(at, new_end=at + more)
        before = GRID[at >= GRID]
        assert same(changed(before), s(before))  # the joint included: continuous by equality
        assert changed(at + more) == s(s.length) and changed(2.0**53) == s(s.length)


@many
@given(schedules)
def test_written_down_and_read_back(s):
    others = [
        eval(repr(s)),
        parse(repr(s)),
        ss.Schedule.from_dict(json.loads(json.dumps(s.to_dict()))),
        pickle.loads(pickle.dumps(s)),
    ]
    for other in others:
        assert other == s and hash(other) == hash(s) and repr(other) == repr(s)
        assert same(other(GRID), s(GRID))


@common
@given(schedules, st.integers(0, 400))
def test_integral_is_the_sum(s, n):
    with np.errstate(over="ignore"):
        if np.isfinite(s.values(n).sum()):
            assert s.integral(n) == pytest.approx(s.values(n).sum(), rel=1e-13)


@common
@given(schedules, schedules, steps, steps)
def test_a_python_function_joins_the_algebra(a, b, at, period):
    # The same tree with a leaf in Python: the same values, whoever computes the leaf.
    slow = ss.schedules.from_function(lambda step: a(step))
    assert slow.compiled is None
    for build in (
        lambda s: s.then(b, at=at),
        lambda s: b.then(s * 0.3, at=at),
        lambda s: (s + b).clip(0.01, 2.0),
        lambda s: (b * s).shift(at),
        lambda s: s.repeat(period + 1).warmup(at, init=0.5),
        lambda s: s.by_epoch(period + 1).then(s.by_epoch(2.5, smooth=True), at=at),
    ):
        assert same(build(slow)(GRID), build(a)(GRID))
        assert build(slow)(at) == build(a)(at)


def test_from_function_is_saved_by_its_import_path():
    s = ss.schedules.from_function(inverse) * 0.5
    assert repr(s) == "from_function('schedule_strategies:inverse') * 0.5"
    assert s == pickle.loads(pickle.dumps(s))
    with pytest.raises(ValueError, match=r"from_function\(inverse\), or"):
        eval(repr(s))
    path = "schedule_strategies:inverse"
    for trust in (s, inverse, [inverse]):
        assert s == ss.schedules.from_function(path, trust=trust) * 0.5
    for trust in (s, inverse, [inverse], (constant(1.0), s)):  # noqa: F405
        assert ss.Schedule.from_dict(s.to_dict(), trust=trust) == s


S = ss.schedules
EXAMPLES = (
    S.constant(0.1) + S.linear(0.3, 0.0, 777),
    S.polynomial(1.0, 1e-3, 1234, power=2.7),
    S.polynomial(1.0, 1e-3, 123, power=0.6, cycle=True),
    S.cosine(0.3, 1e-5, 2999),
    S.cosine(0.3, 1e-5, 2999, power=1.7),
    S.exponential(0.7, 0.93, 3.3),
    S.exponential(1e-7, 1.01),
    S.inverse_time(0.1, 0.7, 9).clip(0.001, 0.05),
    S.noam(512, 400) * S.rex(1.0, 2500, end=0.1),
    S.step_decay(1.0, 30, 0.3),
    S.multistep(1.0, [30, 80, 2000], 0.3),
    S.piecewise_linear([(3, 0.1), (100, 1.0), (2000, 0.3)]),
    S.cosine_restarts(1.0, 100, multiplier=1.5, decay=0.7, end=0.01),
    S.cosine_restarts(1.0, 33.3, decay=0.9),
    S.cyclic(0.1, 1.0, 77, 33, mode="triangular2"),
    S.cyclic(0.1, 1.0, 77, mode="exp_range", gamma=0.999),
    S.tanh(1.0, 0.01, 2500),
    S.one_cycle(0.1, 2500, pct_start=0.27),
    S.wsd(0.1, 100, 1500, 700, shape="sqrt").stretch(2777),
    S.flat_cosine(0.1, 2000).repeat(1700).shift(13),
)

PROGRAM = """
import hashlib, pickle, sys
import numpy as np
from stepsize import _core
assert _core.target() == sys.argv[1], _core.target()
trees = pickle.load(sys.stdin.buffer)
grid = np.concatenate([np.arange(3000.0), np.linspace(0, 70, 1001), [1e6, 2.0**53]])
print(hashlib.sha256(b"".join(s(grid).tobytes() for s in trees)).hexdigest())
"""


def test_every_target_gives_the_same_bits():
    from stepsize import _core

    trees = list(EXAMPLES)
    digests = set()
    for target in _core.available_targets():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, target],
            input=pickle.dumps(trees),
            env={**os.environ, "STEPSIZE_TARGET": target},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        digests.add(done.stdout)
    assert len(digests) == 1

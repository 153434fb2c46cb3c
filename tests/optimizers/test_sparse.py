"""Gradients of rows: the rows move as they would alone, and nothing else moves."""

import numpy as np
import pytest

import stepsize as ss
from cases import numpy_rule

RULES = [
    (ss.SGD, {}),
    (ss.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (ss.Adagrad, {}),
    (ss.Adam, {"amsgrad": True}),
    (ss.AdamW, {"weight_decay": 0.1}),
]


def nest(dtype):
    random = np.random.default_rng(0)
    return {
        "e": random.normal(size=(50, 3)).astype(dtype),
        "w": random.normal(size=(4, 2)).astype(dtype),
    }


def run(cls, keywords, x, pack=False, **options):
    x = ss.pack(x) if pack else x
    optimizer = cls(x, lr=0.1, **keywords, **options)
    random = np.random.default_rng(1)
    for _ in range(4):
        rows = random.integers(0, 50, 8)
        rows[-1] = rows[0]
        values = random.normal(size=(8, 3)).astype(x["e"].dtype)
        dense = random.normal(size=(4, 2)).astype(x["e"].dtype)
        optimizer.step({"e": ss.RowGradient(rows, values), "w": dense}, stats=True)
    return x, optimizer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("cls", "keywords"), RULES)
def test_compiled_is_numpy_and_packing_changes_nothing(cls, keywords, dtype):
    options = {"clip_norm": 1.0}
    one, _ = run(cls, keywords, nest(dtype), **options)
    packed, _ = run(cls, keywords, nest(dtype), pack=True, **options)
    with numpy_rule(cls):
        other, _ = run(cls, keywords, nest(dtype), **options)
    for name in one:
        assert np.array_equal(one[name], other[name]) and np.array_equal(one[name], packed[name])


@pytest.mark.parametrize(("cls", "keywords"), RULES)
def test_rows_move_as_they_would_alone(cls, keywords):
    x, rows = nest(float)["e"], np.array([7, 3, 40])
    alone, before = x[np.sort(rows)].copy(), x.copy()
    one, two = cls(x, lr=0.1, **keywords), cls(alone, lr=0.1, **keywords)
    for g in np.random.default_rng(2).normal(size=(5, 3, 3)):
        one.step(ss.RowGradient(rows, g))
        two.step(g[np.argsort(rows)])
    assert np.array_equal(x[np.sort(rows)], alone)
    others = np.delete(np.arange(50), rows)
    assert np.array_equal(x[others], before[others])
    for slot in one.state["params"].values():
        assert not slot[others].any()


def test_duplicates_add_up_and_strided_leaves_work():
    plain, strided = np.zeros((6, 2)), np.zeros((2, 6)).T
    g = ss.RowGradient([4, 1, 4, 4], np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]))
    for x in (plain, strided):
        ss.SGD(x, lr=1.0).step(g)
        assert x.tolist() == [[0, 0], [-3, -4], [0, 0], [0, 0], [-13, -16], [0, 0]]


def test_no_rows_at_all():
    x = np.ones((3, 2))
    optimizer = ss.Adam(x)
    optimizer.step(ss.RowGradient([], np.zeros((0, 2))))
    assert (x == 1).all() and optimizer.step_count == 1


def test_wrappers_see_a_whole_array():
    x = np.zeros((3, 2))
    ss.Accumulate(ss.SGD(x, lr=1.0), 1).step(ss.RowGradient([1], np.ones((1, 2))))
    assert x.tolist() == [[0, 0], [-1, -1], [0, 0]]


def test_what_does_not_fit_is_refused_and_changes_nothing():
    x = np.ones((3, 2))
    optimizer = ss.SGD(x, lr=1.0)
    for rows, values, error, words in (
        ([3], np.ones((1, 2)), ValueError, "has row 3, but the leaf has rows 0 to 2"),
        ([-1], np.ones((1, 2)), ValueError, "has row -1"),
        (np.array([2**64 - 1], np.uint64), np.ones((1, 2)), ValueError, f"has row {2**64 - 1}, "),
        (np.array([2**63], np.uint64), np.ones((1, 2)), ValueError, f"has row {2**63}, "),
        ([0], np.ones((1, 3)), ValueError, "have shape"),
        ([0], np.ones((1, 2), np.float32), TypeError, "dtype float32"),
    ):
        with pytest.raises(error, match=words):
            optimizer.step(ss.RowGradient(rows, values))
    with pytest.raises(ss.NonFiniteGradientError):
        optimizer.step(ss.RowGradient([0], np.full((1, 2), np.nan)))
    with pytest.raises(TypeError, match="RowGradient, which Adagrad"):
        ss.Lion(x).step(ss.RowGradient([0], np.ones((1, 2))))
    with pytest.raises(TypeError, match="whole numbers"):
        ss.RowGradient([0.5], np.ones((1, 2)))
    with pytest.raises(ValueError, match="2 rows need as many values"):
        ss.RowGradient([0, 1], np.ones((1, 2)))
    assert (x == 1).all() and optimizer.step_count == 0
    optimizer.step(np.ones((3, 2)))
    assert (x == 0).all()


def test_rows_that_were_refused_leave_nothing_behind():
    x = np.ones((3, 2))
    with numpy_rule(ss.SGD):
        optimizer = ss.SGD(x, lr=1.0)
        with pytest.raises(ss.NonFiniteGradientError):
            optimizer.step(ss.RowGradient([0], np.full((1, 2), np.inf)))
        optimizer.step(np.ones((3, 2)))
    assert (x == 0).all()

"""Gradients of rows at every door: they do what whole arrays do, or are refused in words."""

import numpy as np
import pytest

import stepsize as ss
from stepsize import _core

SHAPE = (7, 3)
ROWS = [np.array([5, 1, 5]), np.array([0, 6]), np.array([2, 2, 2, 4]), np.array([], int)]


def gradients(seed, dtype=float):
    random = np.random.default_rng(seed)
    for rows in ROWS:
        yield ss.RowGradient(rows, random.normal(size=(len(rows), *SHAPE[1:])).astype(dtype))


def whole(rows, dtype=float):
    dense = np.zeros(SHAPE, dtype)
    np.add.at(dense, rows.rows, rows.values)
    return dense


# SGD without momentum and Adagrad leave alone what has a gradient of 0, so both forms agree.
RULES = {"SGD": ss.SGD, "Adagrad": ss.Adagrad}
WRAPPERS = {
    "none": lambda opt: opt,
    "Accumulate": lambda opt: ss.Accumulate(opt, 2),
    "EMA": lambda opt: ss.EMA(opt, 0.9),
    "SWA": lambda opt: ss.SWA(opt),
    "Lookahead": lambda opt: ss.Lookahead(opt, k=2),
    "Mechanic": lambda opt: ss.Mechanic(opt),
    "AdaptiveClip": lambda opt: ss.AdaptiveClip(opt),
    "AdaptiveClip in EMA": lambda opt: ss.EMA(ss.AdaptiveClip(opt), 0.9),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("rule", RULES)
def test_rows_in_a_wrapper_are_the_whole_array(rule, wrapper):
    start = np.random.default_rng(0).normal(size=SHAPE)
    results = []
    for form in (lambda g: g, whole):
        x = start.copy()
        opt = WRAPPERS[wrapper](RULES[rule](x, lr=0.1))
        for g in gradients(1):
            opt.step(form(g))
        results.append(x)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)
    assert not np.array_equal(results[0], start)


@pytest.mark.parametrize("rule", RULES)
def test_sam_takes_rows(rule):
    def function(x):
        return float((x[[1, 4]] ** 2).sum()), ss.RowGradient([4, 1], 2 * x[[4, 1]])

    def dense(x):
        loss, g = function(x)
        return loss, whole(g)

    results = []
    for each in (function, dense):
        x = np.ones(SHAPE)
        opt = ss.SAM(RULES[rule](x, lr=0.1))
        for _ in range(3):
            opt.step(lambda x, each=each: each(x))
        results.append(x)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)
    assert (results[0][0] == 1).all() and (results[0][1] < 1).all()


REFUSED = {
    "bind": lambda g: ss.SGD(np.ones(SHAPE)).bind(g),
    "population": lambda g: ss.population("sgd", np.ones((2, *SHAPE)), lr=0.1).step(g),
    "functional": lambda g: ss.functional.sgd_(np.ones(SHAPE), g, lr=0.1, step=1),
    "another rule": lambda g: ss.Lion(np.ones(SHAPE)).step(g),
    "8-bit state": lambda g: ss.Adam(np.ones(SHAPE), state_dtype="int8").step(g),
}


@pytest.mark.parametrize("door", REFUSED)
def test_doors_without_rows_say_so(door):
    with pytest.raises((TypeError, ValueError)) as caught:
        REFUSED[door](next(gradients(0)))
    assert "RowGradient" in str(caught.value)


@pytest.mark.parametrize("name", ["rows", "values"])
def test_masks_are_not_lost(name):
    given = {"rows": np.array([0, 1]), "values": np.ones((2, 3))}
    given[name] = np.ma.masked_array(given[name], given[name] > 0)
    with pytest.raises(TypeError, match=f"RowGradient: {name} is a masked array"):
        ss.RowGradient(**given)


# The sums.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("length", "count", "width"), [(3, 50, 5), (70_000, 3000, 40), (9, 0, 4)])
def test_sums_are_those_of_numpy_to_the_bit(dtype, length, count, width):
    random = np.random.default_rng(length)
    rows = random.integers(0, length, count)
    values = random.normal(size=(count, width)).astype(dtype)
    values[::3] = -0.0
    unique, totals = _core.merge_rows(rows, values)
    expected, place = np.unique(rows, return_inverse=True)
    sums = np.zeros((len(expected), width), dtype)
    np.add.at(sums, place, values)
    assert unique.tolist() == expected.tolist() and totals.tobytes() == sums.tobytes()


@pytest.mark.parametrize("top", [1, 255, 256, 65_536, 2**40, 2**62])
def test_rows_of_any_size_are_sorted(top):
    rows = np.random.default_rng(0).integers(0, top, 300, endpoint=True)
    unique, totals = _core.merge_rows(rows, np.ones(300))
    assert unique.tolist() == sorted(set(rows.tolist()))
    assert totals.tolist() == [(rows == row).sum() for row in unique]


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        (np.array([0, 1], np.int32), np.ones(2)),
        (np.array([-1, 1]), np.ones(2)),
        (np.array([0, 1]), np.ones(3)),
        (np.array([0, 1]), np.ones(2, np.float16)),
        (np.array([[0, 1]]), np.ones((1, 2))),
    ],
)
def test_the_compiled_sums_check_what_they_are_given(rows, values):
    with pytest.raises(ValueError, match="must"):
        _core.merge_rows(rows, values)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cls", [ss.SGD, ss.Adagrad, ss.Adam, ss.AdamW])
def test_many_rows_on_several_threads_move_as_they_would_alone(cls, threads):
    random = np.random.default_rng(4)
    x = random.normal(size=(6000, 33)).astype(np.float32)
    before, rows = x.copy(), random.permutation(6000)[:3000]
    alone = x[np.sort(rows)].copy()
    ss.set_num_threads(threads)
    try:
        one, two = cls(x, lr=0.1, clip_norm=5.0), cls(alone, lr=0.1, clip_norm=5.0)
        for _ in range(3):
            g = random.normal(size=(3000, 33)).astype(np.float32)
            found = one.step(ss.RowGradient(rows, g), stats=True)
            assert found == two.step(g[np.argsort(rows)], stats=True)
    finally:
        ss.set_num_threads(None)
    assert np.array_equal(x[np.sort(rows)], alone)
    others = np.setdiff1d(np.arange(6000), rows)
    assert np.array_equal(x[others], before[others])

"""Projections are the nearest points of their sets, and Project keeps parameters in them."""

import pickle

import numpy as np
import pytest

import stepsize as ss

P = ss.projections
SETS = {
    "box": (P.box(-0.5, [0.1, 0.2, 0.3, 0.4]), (5, 4)),
    "low": (P.box(low=0.1), (7,)),
    "nonnegative": (P.nonnegative(), (3, 2, 2)),
    "l2": (P.ball(0.7), (4, 3)),
    "l2 rows": (P.ball(0.7, axis=1), (4, 3)),
    "linf": (P.ball(0.2, "linf"), (9,)),
    "unit": (P.unit_norm(), (6,)),
    "unit columns": (P.unit_norm(axis=0), (6, 2)),
    "simplex": (P.simplex(), (5, 4)),
    "simplex of columns": (P.simplex(axis=0, total=3.0), (5, 4)),
    "tall": (P.orthogonal(), (6, 3)),
    "wide": (P.orthogonal(), (2, 5)),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_projection_is_the_nearest_point_and_its_own(name, dtype):
    nearest, shape = SETS[name]
    rng = np.random.default_rng(0)
    unit = 100 * np.finfo(dtype).eps
    for scale in (1e-3, 1.0, 30.0):
        x = (scale * rng.standard_normal(shape)).astype(dtype)
        kept = x.copy()
        found = nearest(x)
        assert np.array_equal(x, kept)
        assert (found.shape, found.dtype) == (x.shape, x.dtype)
        np.testing.assert_allclose(nearest(found), found, atol=unit)
        assert np.array_equal(pickle.loads(pickle.dumps(nearest))(x), found)
        length = np.linalg.norm(found - x)
        for _ in range(50):
            other = nearest((x + scale * rng.standard_normal(shape)).astype(dtype))
            assert np.linalg.norm(other - x) >= length * (1 - unit) - unit


COMPLEX = ["l2", "l2 rows", "linf", "unit", "unit columns", "tall", "wide"]
REAL = [name for name in SETS if name not in COMPLEX]


def draw(rng, shape, dtype, scale=1.0):
    return (scale * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))).astype(dtype)


@pytest.mark.parametrize("name", [*COMPLEX, "phases"])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_of_complex_arrays_it_is_the_nearest_point_too(name, dtype):
    nearest, shape = (P.unit_norm(axis=()), (7,)) if name == "phases" else SETS[name]
    rng, unit = np.random.default_rng(0), 100 * np.finfo(dtype).eps
    for scale in (1e-3, 1.0, 30.0):
        x = draw(rng, shape, dtype, scale)
        found = nearest(x)
        assert (found.shape, found.dtype) == (x.shape, x.dtype)
        np.testing.assert_allclose(nearest(found), found, atol=unit)
        # A phase that all of it has stays, and a real array is one of the complex ones.
        np.testing.assert_allclose(nearest(x * dtype(1j)), found * dtype(1j), atol=unit)
        np.testing.assert_allclose(nearest(x.real + dtype(0j)), nearest(x.real), atol=unit)
        length = np.linalg.norm(found - x)
        for _ in range(50):
            other = nearest(x + draw(rng, shape, dtype, scale))
            assert np.linalg.norm(other - x) >= length * (1 - unit) - unit
    if name in ("tall", "wide"):
        tall = found if name == "tall" else found.T
        np.testing.assert_allclose(tall.conj().T @ tall, np.eye(tall.shape[1]), atol=unit)


@pytest.mark.parametrize("rule", [ss.SGD, ss.Adam, ss.AdamW, ss.Lion, ss.Adagrad])
@pytest.mark.parametrize("name", COMPLEX)
def test_a_projected_step_of_a_complex_leaf(name, rule):
    nearest, shape = SETS[name]
    rng = np.random.default_rng(3)
    z = {"z": nearest(draw(rng, shape, np.complex64)), "x": np.ones(3, np.float32)}
    twin = {k: v.copy() for k, v in z.items()}
    ours, plain = ss.Project(rule(z, lr=0.1), {"z": nearest}), rule(twin, lr=0.1)
    for _ in range(4):
        grads = {"z": draw(rng, shape, np.complex64), "x": np.ones(3, np.float32)}
        ours.step(grads)
        plain.step(grads)
        twin["z"][...] = nearest(twin["z"])
        assert all(np.array_equal(z[k], twin[k]) for k in z)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_a_set_of_real_arrays_refuses_complex_ones_by_name(name, dtype):
    nearest, shape = SETS[name]
    z = {"z": np.zeros(shape, dtype)}
    words = "does not fit z: .*the set is one of real arrays; give a function of your own"
    with pytest.raises(ValueError, match=words):
        ss.Project(ss.SGD(z, lr=0.1), {"z": nearest})
    with pytest.raises(TypeError, match="set is one of real arrays"):
        nearest(z["z"])
    own = ss.Project(ss.SGD(z, lr=1.0), lambda x: x / np.maximum(1, np.abs(x)))
    own.step({"z": np.full(shape, 3 - 4j, dtype)})
    np.testing.assert_allclose(z["z"], -0.6 + 0.8j, rtol=1e-6)


def test_what_the_sets_are():
    x = np.random.default_rng(1).standard_normal((5, 4))
    assert np.allclose(P.simplex()(x).sum(axis=-1), 1) and (P.simplex()(x) >= 0).all()
    assert np.allclose(P.orthogonal()(x).T @ P.orthogonal()(x), np.eye(4))
    assert np.allclose(np.linalg.norm(P.unit_norm(axis=0)(x), axis=0), 1)
    assert np.isclose(np.linalg.norm(P.unit_norm()(np.zeros(4))), 1)
    assert repr(P.simplex(axis=0)) == "simplex(axis=0, total=1)"
    assert repr(P.box(0, None)) == "box(0, None)"


@pytest.mark.parametrize("rule", [ss.SGD, ss.Adam, ss.AdamW, ss.Lion, ss.Adagrad])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_projected_step_is_the_step_and_the_projection(rule, dtype):
    rng = np.random.default_rng(2)
    start = {
        "share": P.simplex()(rng.uniform(0, 1, (3, 4)).astype(dtype)),
        "free": np.ones(3, dtype),
    }
    one, other = ({k: v.copy() for k, v in start.items()} for _ in range(2))
    opt, plain = ss.Project(rule(one, lr=0.1), {"share": P.simplex()}), rule(other, lr=0.1)
    for _ in range(5):
        grads = {k: rng.standard_normal(v.shape).astype(dtype) for k, v in start.items()}
        opt.step(grads)
        plain.step(grads)
        other["share"][...] = P.simplex()(other["share"])
        assert all(np.array_equal(one[k], other[k]) for k in one)
        assert np.allclose(one["share"].sum(axis=-1), 1, atol=1e-6)


def test_half_precision_stays_inside():
    x = np.full(5, 0.5, np.float16)
    opt = ss.Project(ss.SGD(x, lr=1.0), P.box(0.0, 1.0))
    opt.step(np.array([9, -9, 0.25, 0, 0], np.float32))
    assert x.tolist() == [0.0, 1.0, 0.25, 0.5, 0.5]


def test_fit_finds_and_trains_inside():
    x, y = np.random.default_rng(0).standard_normal((64, 3)), np.zeros(64)

    def value_and_grad(p, batch):
        x, y = batch
        error = x @ (p["w"] - [1.0, -1.0, 0.3]) - y
        return float((error**2).mean()), {"w": 2 * x.T @ error / len(y)}

    p = {"w": np.full(3, 0.1)}

    def make(q):
        return ss.Project(ss.Adam(q, lr=0.05), P.box(0.0, 0.5))

    found = ss.lr_find(value_and_grad, p, (x, y), optimizer=make)
    assert not found.mismatch
    history = ss.fit(value_and_grad, p, make(p), (x, y), steps=300)
    np.testing.assert_allclose(p["w"], [0.5, 0, 0.3], atol=0.1)
    assert ss.diagnose(history).mismatch is None


def test_what_cannot_be_is_refused_by_name():
    w = {"w": np.array([0.5, 2.0, 3.0]), "b": np.zeros(2)}
    for given, words in (
        (P.box(0.0, 1.0), r"2 of 3 elements of w start outside of box\(0, 1\), the first 2"),
        ({"v*": P.nonnegative()}, "'v\\*' matches no leaf; the leaves are b, w"),
        ({"w": P.box(np.zeros(2), None)}, "does not fit w"),
        ({"w": P.orthogonal()}, "does not fit w: orthogonal: a matrix is needed"),
        ({"w": lambda x: x[:2]}, "of shape \\(2,\\) of w"),
    ):
        with pytest.raises(ValueError, match=words):
            ss.Project(ss.SGD(w, lr=0.1), given)
    for given in ({}, 3.0, {"w": 3.0}, None):
        with pytest.raises(TypeError, match="Project: projections must be"):
            ss.Project(ss.SGD(w, lr=0.1), given)
    with pytest.raises(TypeError, match="average of points"):
        ss.Project(ss.ScheduleFreeSGD(w, lr=0.1), P.nonnegative())
    for make in (
        lambda: P.box(1.0, 0.0),
        lambda: P.box(np.nan, 1.0),
        lambda: P.box(1j),
        lambda: P.box(np.zeros(2), np.ones(3)),
        lambda: P.ball(0.0),
        lambda: P.ball(1.0, "l3"),
        lambda: P.simplex(total=-1),
    ):
        with pytest.raises((ValueError, TypeError), match=r"^(box|ball|simplex): "):
            make()


def test_a_projection_that_raises_leaves_all_leaves_unprojected_and_says_so():
    calls = []

    def nearest(x):
        calls.append(x)
        if len(calls) == 4:  # of the second leaf, in the first step
            raise ZeroDivisionError("in the projection")
        return np.clip(x, 0.0, 1.0)

    params = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = ss.Project(ss.SGD(params, lr=3.0), nearest)
    with pytest.raises(ZeroDivisionError) as caught:
        optimizer.step({"a": np.ones(2), "b": np.ones(2)})
    assert caught.value.__notes__ == ["Project: the step was made, but its end is not projected"]
    assert all((x == -2.0).all() for x in params.values())

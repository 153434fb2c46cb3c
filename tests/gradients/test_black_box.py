"""Gradients of functions that have none, against gradients by hand."""

import numpy as np
import pytest

import stepsize as ss

G = ss.gradients


def cubic(p, batch):
    """Sum of cubes and products, on any nest, times the batch."""
    a, b = p["a"], p["rest"][0]
    return batch * ((a**3).sum() + (a * b).sum() + (p["rest"][1] ** 2).sum())


def start(dtype):
    rng = np.random.default_rng(0)
    return {
        "a": rng.standard_normal((2, 3)).astype(dtype),
        "rest": [rng.standard_normal((2, 3)).astype(dtype), np.asarray(1.5, dtype)],
        "none": None,
    }


def by_hand(p, batch):
    a, b = p["a"], p["rest"][0]
    return {
        "a": batch * (3 * a**2 + b),
        "rest": [batch * a, batch * 2 * p["rest"][1]],
        "none": None,
    }


@pytest.mark.parametrize(
    ("make", "dtype", "near"),
    [
        (G.central, np.float64, 1e-9),
        (G.central, np.float32, 1e-3),
        (G.forward, np.float64, 1e-6),
        (G.forward, np.float32, 5e-3),
        (G.complex_step, np.float64, 1e-15),
        (G.complex_step, np.float32, 1e-6),
    ],
)
def test_differences_are_the_gradient_to_the_digits_promised(make, dtype, near):
    p = start(dtype)
    kept = [np.array(leaf) for leaf in (p["a"], *p["rest"])]
    value, grads = make(cubic)(p, 2.0)
    assert value == pytest.approx(float(cubic(p, 2.0)), rel=1e-12)
    right = by_hand(p, 2.0)
    for found, wanted in zip(
        (grads["a"], *grads["rest"]), (right["a"], *right["rest"]), strict=True
    ):
        assert found.dtype == dtype
        assert found.shape == np.shape(wanted)
        np.testing.assert_allclose(found, wanted, rtol=near, atol=near)
    assert grads["none"] is None
    assert all(map(np.array_equal, kept, (p["a"], *p["rest"])))


@pytest.mark.parametrize(("make", "calls"), [(G.central, 15), (G.forward, 8), (G.complex_step, 8)])
def test_what_a_gradient_costs(make, calls):
    seen = []

    def f(x, batch):
        seen.append(1)
        return (x * x).sum()

    make(f)(np.ones(7), None)
    assert len(seen) == calls
    seen.clear()
    G.spsa(f, directions=3)(np.ones(7), None)
    assert len(seen) == 6


def test_spsa_is_unbiased_with_the_noise_promised():
    p = {"w": np.array([1.0, -2.0, 0.5, 3.0])}
    right = 2 * p["w"] * [1, 2, 3, 4]
    f = G.spsa(lambda q, b: (q["w"] ** 2 * [1, 2, 3, 4]).sum(), seed=4)
    draws = np.array([f(p, None)[1]["w"] for _ in range(4000)])
    error = draws - right
    size = np.linalg.norm(right)
    np.testing.assert_allclose(draws.mean(axis=0), right, atol=5 * size * 3**0.5 / 4000**0.5)
    noise = np.sqrt((error**2).sum(axis=1).mean()) / size
    assert noise == pytest.approx(3**0.5, rel=0.05)


def test_spsa_repeats_with_its_seed_and_is_isolated_by_the_finder():
    def f(x, batch):
        return float(x @ x)

    one, two, other = (G.spsa(f, seed=s)(np.ones(9), None)[1] for s in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    g = G.spsa(f, seed=1)
    ss.lr_find(g, np.ones(9), [None])
    assert np.array_equal(g(np.ones(9), None)[1], one)


@pytest.mark.parametrize("make", [G.central, G.forward, G.complex_step, G.spsa])
def test_check_gradients_finds_nothing_wrong_and_fit_learns(make):
    x = np.random.default_rng(0).standard_normal((40, 3))
    y = x @ [1.0, -2.0, 0.5]

    def f(p, batch):
        x, y = batch
        error = x @ p["w"] - y
        return (error * error).sum() / len(y)

    p = {"w": np.zeros(3)}
    if make is not G.spsa:
        assert ss.check_gradients(make(f), p, (x, y)).ok
    history = ss.fit(make(f), p, ss.Adam(p, lr=0.05), (x, y), batch_size=40, steps=300)
    np.testing.assert_allclose(p["w"], [1, -2, 0.5], atol=0.1)
    assert ss.diagnose(history).mismatch is None


@pytest.mark.parametrize("make", [G.central, G.forward, G.complex_step, G.spsa])
def test_bad_functions_are_refused_by_name(make):
    name = make.__name__
    with pytest.raises(TypeError, match=f"{name}: f must be a function"):
        make(3.0)
    with pytest.raises(TypeError, match=f"{name}: f must return one number, got float64 of"):
        make(lambda x, b: x * 2)(np.ones(3), None)
    with pytest.raises(TypeError, match=f"{name}: f must return one number, got"):
        make(lambda x, b: "3")(np.ones(3), None)
    with pytest.raises(TypeError, match=f"{name}: f must return a real number"):
        make(lambda x, b: 1j * x.sum())(np.ones(3), None)
    with pytest.raises(ValueError, match=f"{name}: params holds no array"):
        make(lambda x, b: 1.0)({}, None)
    with pytest.raises(TypeError, match=name):
        make(lambda x, b: 1.0)({"n": np.arange(3)}, None)

    def writes(x, b):
        x -= 1.0
        return (x * x).sum()

    x = np.ones(3)
    with pytest.raises(ValueError, match=f"{name}: f wrote into the parameters"):
        make(writes)(x, None)
    assert (x == 1).all()


def test_a_function_that_writes_later_is_refused_too():
    calls = []

    def writes(x, b):
        calls.append(1)
        value = (x * x).sum()
        if len(calls) == 3:
            x[-1] = 7.0
        return value

    for make in (G.central, G.forward, G.complex_step):
        calls.clear()
        with pytest.raises(ValueError, match="wrote into the parameters"):
            make(writes)(np.ones(4), None)


def test_what_drops_the_imaginary_part_is_told():
    with pytest.raises(TypeError, match=r"drops the imaginary part.*use central"):
        G.complex_step(lambda x, b: np.abs(x).sum())(np.ones(3), None)


def test_steps_are_checked():
    for make in (G.central, G.forward, G.spsa):
        for step in (0.0, -1.0, np.nan, 2.0):
            with pytest.raises(ValueError, match="step"):
                make(lambda x, b: 0.0, step=step)
    with pytest.raises(ValueError, match="directions"):
        G.spsa(lambda x, b: 0.0, directions=0)
    with pytest.raises(ValueError, match="seed"):
        G.spsa(lambda x, b: 0.0, seed=-1)

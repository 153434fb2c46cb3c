"""minimize with bounds: the same answers as L-BFGS-B, in every form in which bounds are written."""

import numpy as np
import pytest
from scipy import optimize

import stepsize as ss


def quadratic(seed, n=8):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n, n))
    matrix, b = root @ root.T + np.eye(n), 5 * rng.standard_normal(n)

    def function(x):
        return x @ matrix @ x / 2 - b @ x, matrix @ x - b

    return function, np.zeros(n)


@pytest.mark.parametrize("seed", range(20))
def test_convex_problems_end_where_l_bfgs_b_does(seed):
    function, x0 = quadratic(seed)
    rng = np.random.default_rng((seed, 1))
    low, high = -rng.uniform(0, 1, 8), rng.uniform(0, 1, 8)
    low[0], high[1] = -np.inf, np.inf
    pairs = list(zip(low, high, strict=True))
    found = ss.minimize(function, x0, bounds=pairs, gtol=1e-8, max_iter=3000)
    known = optimize.minimize(
        function, x0, jac=True, method="L-BFGS-B", bounds=pairs,
        options={"ftol": 1e-16, "gtol": 1e-10},
    )  # fmt: skip
    np.testing.assert_allclose(found.x, known.x, atol=1e-6)
    for side in (low, high):
        assert ((found.x == side) == (np.abs(known.x - side) < 1e-9)).all()
    assert (found.x >= low).all() and (found.x <= high).all()
    assert found.converged and "projected gradient" in found.message


def test_every_form_of_bounds_is_the_same():
    function, x0 = quadratic(3)
    known = ss.minimize(function, x0, bounds=(-0.5, 0.25), rule="sgd", lr=0.01, max_iter=500)
    n = len(x0)
    for bounds in (
        [(-0.5, 0.25)] * n,
        [[-0.5, 0.25]] * n,
        (np.full(n, -0.5), [0.25] * n),
        optimize.Bounds(-0.5, 0.25),
        optimize.Bounds(np.full(n, -0.5), np.full(n, 0.25)),
    ):
        other = ss.minimize(function, x0, bounds=bounds, rule="sgd", lr=0.01, max_iter=500)
        assert np.array_equal(other.x, known.x)
    one = ss.minimize(function, x0, bounds=(None, 0.25), rule="sgd", lr=0.01, max_iter=500)
    same = [(None, 0.25)] * n
    assert np.array_equal(
        one.x, ss.minimize(function, x0, bounds=same, rule="sgd", lr=0.01, max_iter=500).x
    )
    nest = ss.minimize(
        lambda p: (
            float((p["a"] - 3) ** 2 + (p["b"] @ p["b"])),
            {"a": 2 * (p["a"] - 3), "b": 2 * p["b"]},
        ),
        {"a": np.array(0.5), "b": np.ones(2)},
        bounds=({"a": 0, "b": [0.5, -1.0]}, {"a": 1.0, "b": None}),
    )
    np.testing.assert_allclose(nest.x["b"], [0.5, 0], atol=1e-5)
    assert nest.x["a"] == 1.0


@pytest.mark.parametrize("x0", [[3.0, 0.2], [5.0, 0.1]])
@pytest.mark.parametrize("grad", [None, "central", "forward", "spsa"])
def test_the_function_is_never_asked_outside(x0, grad):
    """Not for a gradient by differences either, nor while gradients are looked at."""
    seen = []

    def logarithm(x):
        seen.append(x.copy())
        value = float((x - np.log(x)).sum())
        return (value, 1 - 1 / x) if grad is None else value

    result = ss.minimize(logarithm, x0, bounds=(0.1, 5.0), grad=grad, max_iter=399)
    assert result.converged or grad == "spsa"
    np.testing.assert_allclose(result.x, 1, atol=0.3 if grad == "spsa" else 1e-3)
    points = np.array(seen)
    assert points.min() >= 0.1 and points.max() <= 5.0


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.5, 0.5 + 1e-9), (0.5, 0.5)])
def test_differences_between_bounds(low, high):
    """At a bound, near it and between two of them, in every precision and form."""
    seen = []

    def f(p, batch):
        seen.append(p["x"].copy())
        return float(np.sum(np.sin(p["x"].astype(float)))) + float(p["free"] ** 2)

    for dtype, digits in ((float, 1e-8), (np.float32, 3e-3)):
        x = np.array([low, high, (low + high) / 2], dtype)
        params = {"x": x, "free": np.array(2.0, dtype)}
        bounds = ({"x": low, "free": None}, {"x": np.full(3, high), "free": None})
        for make in (ss.gradients.central, ss.gradients.forward, ss.gradients.spsa):
            seen.clear()
            _, grads = make(f, bounds=bounds)(params, None)
            assert all(dtype(low) <= p.min() and p.max() <= dtype(high) for p in seen)
            if make is ss.gradients.spsa:
                continue
            right = np.cos(x) if high - low == 1 else np.zeros(3)
            error = digits if make is ss.gradients.central else 1e3 * digits
            if high == low or high - low == 1:
                np.testing.assert_allclose(grads["x"], right, atol=error)
            np.testing.assert_allclose(grads["free"], 4, rtol=error)
    outside = {"x": np.array([low, high, 2.0]), "free": np.array(2.0)}
    with pytest.raises(ValueError, match="central: 1 of 3 elements of x start outside"):
        ss.gradients.central(f, bounds=bounds)(outside, None)


@pytest.mark.parametrize("rule", ["sgd", "adam", "rmsprop", "adagrad", "lion"])
def test_every_kind_of_rule_stays_inside(rule):
    function, x0 = quadratic(5)
    result = ss.minimize(function, x0, rule=rule, bounds=(-0.1, 0.1), max_iter=100)
    assert np.abs(result.x).max() <= 0.1


def test_scipys_method_takes_scipys_bounds():
    function, x0 = quadratic(7)
    known = optimize.minimize(function, x0, jac=True, method="L-BFGS-B", bounds=[(-0.5, 0.5)] * 8)
    for bounds in ([(-0.5, 0.5)] * 8, tuple([(-0.5, 0.5)] * 8), optimize.Bounds(-0.5, 0.5)):
        found = optimize.minimize(
            function, x0, jac=True, method=ss.interop.scipy.adam, bounds=bounds
        )
        assert found.success
        np.testing.assert_allclose(found.x, known.x, atol=1e-4)


def test_bounds_that_cannot_be_are_refused_by_name():
    function, x0 = quadratic(1)
    for bounds, words in (
        ((1.0, -1.0), "8 lower bounds of params lie above the upper ones, the first 1 above -1"),
        ((np.nan, 1.0), "bounds of params hold NaN"),
        ((1j, 1.0), "low of bounds must be real"),
        (("a", 1.0), "low of bounds must be real"),
        ((np.zeros(3), 1.0), "low of bounds must be real and fit params of shape"),
        ((0.5, 1.0), r"8 of 8 numbers of x0 \(params\) lie outside of the bounds, the first 0 at"),
        ([(0, 1)] * 3, "bounds must be a tuple"),
        (3.0, "bounds must be a tuple"),
        (({"a": 1}, 1.0), "must have the nesting of x0|must be real"),
    ):
        with pytest.raises(ValueError, match=words):
            ss.minimize(function, x0, bounds=bounds)
    with pytest.raises(ValueError, match="LBFGS takes no bounds.*L-BFGS-B"):  # noqa: RUF043
        ss.minimize(function, x0, rule="lbfgs", bounds=(-1, 1))
    with pytest.raises(TypeError, match="an average of points"):
        ss.minimize(function, x0, rule="schedule_free_sgd", bounds=(-1, 1))

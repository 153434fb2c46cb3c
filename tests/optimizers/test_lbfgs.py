"""L-BFGS: torch's numbers (golden/lbfgs.npz by golden/make_lbfgs.py), SciPy's minima, its state."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

import stepsize as ss

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "lbfgs.npz"))
WOLFE = {"line_search_fn": "strong_wolfe"}


def rosenbrock(x):
    a, b = 1 - x[:-1], x[1:] - x[:-1] ** 2
    g = np.zeros_like(x)
    g[:-1] = -2 * a - 400 * x[:-1] * b
    g[1:] += 200 * b
    return float((a**2 + 100 * b**2).sum()), g


@pytest.mark.parametrize("keywords", sorted(set(GOLDEN) - {"x0"}))
def test_arrives_where_torch_does(keywords):
    x = GOLDEN["x0"].copy()
    optimizer = ss.LBFGS(x, **json.loads(keywords))
    for expected in GOLDEN[keywords]:
        optimizer.step(rosenbrock)
        np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_finds_the_minimum_that_scipy_finds(seed):
    start = np.random.default_rng(seed).normal(size=6)
    x = start.copy()
    optimizer = ss.LBFGS(x, max_iter=200, tolerance_change=0.0, **WOLFE)
    optimizer.step(rosenbrock)
    found = minimize(rosenbrock, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    assert rosenbrock(x)[0] <= found.fun + 1e-9


def test_a_nest_of_both_dtypes():
    x = {"a": np.array([-1.2, 1.0]), "b": [np.array(3.0, np.float32), np.ones((2, 2))]}

    def bowl(nest):
        grads = ss.arrays.map_leaves(lambda leaf: 2 * leaf, nest)
        leaves = ss.arrays.flatten(nest)[0]
        return sum(float((leaf.astype(float) ** 2).sum()) for leaf in leaves), grads

    optimizer = ss.LBFGS(x, **WOLFE)
    before = bowl(x)[0]
    assert optimizer.step(bowl) == before
    assert bowl(x)[0] < 1e-12 and optimizer.step_count == 1


def test_resumes_bit_for_bit(tmp_path):
    x = GOLDEN["x0"].copy()
    optimizer = ss.LBFGS(x, max_iter=3, **WOLFE)
    optimizer.step(rosenbrock)
    optimizer.save(tmp_path / "state")
    y = x.copy()
    other = ss.LBFGS(y, max_iter=3, **WOLFE)
    other.load(tmp_path / "state")
    for _ in range(4):
        optimizer.step(rosenbrock)
        other.step(rosenbrock)
        assert np.array_equal(x, y)


def test_climbs():
    x = np.array([3.0, -2.0])
    ss.LBFGS(x, maximize=True, **WOLFE).step(lambda x: (-float(x @ x), -2 * x))
    assert np.abs(x).max() < 1e-6


def test_a_loss_that_overflows_is_stepped_back_from():
    x = np.array([1.0])
    optimizer = ss.LBFGS(x, lr=1e6, max_iter=50, max_eval=200, **WOLFE)
    with np.errstate(all="ignore"):
        optimizer.step(lambda x: (float(np.exp(x[0] ** 2)), 2 * x * np.exp(x**2)))
    assert abs(x[0]) < 0.1


def test_what_raises_changes_nothing():
    x = np.array([-1.2, 1.0])
    optimizer = ss.LBFGS(x, **WOLFE)
    calls = []

    def breaks(x):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("broken")
        return rosenbrock(x)

    with pytest.raises(RuntimeError, match="broken"):
        optimizer.step(breaks)
    assert x.tolist() == [-1.2, 1.0] and optimizer.step_count == 0
    with pytest.raises(ss.NonFiniteGradientError):
        optimizer.step(lambda x: (1.0, np.array([np.nan, 1.0])))
    with pytest.raises(TypeError, match="value_and_grad"):
        optimizer.step(x)
    with pytest.raises(ValueError, match="clip_norm does not go with a line search"):
        ss.LBFGS(x, clip_norm=1.0).step(rosenbrock)


SEARCHES = pytest.mark.parametrize("search", [None, "strong_wolfe"])
NOWHERE = [np.nan, np.inf, -np.inf]


def spoilt(after, loss=None, grad=1.0):
    """A bowl whose loss, or gradient, is another one from some call on."""
    calls = []

    def function(x):
        calls.append(1)
        late = len(calls) > after
        value = float(x @ x) if loss is None or not late else loss
        return value, 2 * x * (grad if late else 1.0)

    return function


@pytest.mark.parametrize("loss", NOWHERE)
@pytest.mark.parametrize("maximize", [False, True])
def test_a_line_search_that_finds_no_finite_loss_says_so_and_changes_nothing(loss, maximize):
    x = np.array([1.0, -2.0])
    optimizer = ss.LBFGS(x, maximize=maximize, **WOLFE)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=f"loss is {loss} at step 0.*Start where it is$"):
        optimizer.step(lambda x: (loss, 2 * x))
    assert x.tolist() == [1.0, -2.0] and optimizer.step_count == 0
    np.testing.assert_equal(optimizer.state_dict(), before)


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_line_search_comes_back_from_a_loss_that_is_not_finite(loss):
    x = np.array([40.0])
    optimizer = ss.LBFGS(x, **WOLFE)
    returned = optimizer.step(lambda x: (loss if x[0] > 39.5 else float(x @ x), 2 * x))
    np.testing.assert_equal(returned, loss)
    assert abs(x[0]) < 1e-6


@pytest.mark.parametrize("loss", NOWHERE)
def test_without_a_line_search_nothing_but_gradients_is_used(loss):
    ends = []
    for value in (None, loss):
        x = np.array([1.0, -2.0])
        ss.LBFGS(x, max_iter=2).step(spoilt(0, value))
        ends.append(x.tolist())
    assert ends[0] == ends[1]


@SEARCHES
@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("grad", [np.nan, np.inf])
def test_no_gradient_that_is_not_finite_gets_into_the_parameters(search, after, grad):
    x = np.array([3.0, -4.0])
    optimizer = ss.LBFGS(x, lr=0.1, line_search_fn=search)
    before = optimizer.state_dict()
    try:
        optimizer.step(spoilt(after, grad=grad))
    except ss.NonFiniteGradientError as error:
        assert search is None or after == 0
        assert "nothing was changed" in str(error) and "skip" not in str(error)
        assert x.tolist() == [3.0, -4.0]
        np.testing.assert_equal(optimizer.state_dict(), before)
    assert np.isfinite(x).all()
    assert float(x @ x) <= 25.0

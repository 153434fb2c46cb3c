"""minimize: what is said of how it ended."""

import numpy as np
import pytest

import stepsize as ss


def parabola(x):
    return x @ x / 2, x.copy()


def test_steps_that_were_not_made_are_not_counted():
    found = ss.minimize(parabola, [3.0, -2.0], rule="sgd")
    searched = ss.minimize(parabola, [3.0], gtol=2.9)
    given = ss.minimize(parabola, [3.0], gtol=9.0)
    one = ss.minimize(parabola, [3.0], lr=0.1, max_iter=1)
    assert "converged, SGD" in repr(found) and " 0 steps" not in repr(found)
    assert searched.nit == 0 and "calls, all in the search for the rate" in repr(searched)
    assert (given.nit, given.nfev) == (0, 1) and "1 call, no step" in repr(given)
    assert "1 step, 2 calls" in repr(one) and "1 step, 2 calls" in str(one)


UNBOUNDED = {
    "linear": lambda x: (-1e3 * x.sum(), np.full_like(x, -1e3)),
    "concave": lambda x: (-(x @ x), -2 * x),
    "exponential": lambda x: (-np.exp(x).sum(), -np.exp(x)),
    "cubic": lambda x: ((x**3).sum(), 3 * x**2),
}


@pytest.mark.parametrize("name", UNBOUNDED)
@pytest.mark.parametrize(
    "options", [{"rule": "sgd"}, {"rule": "sgd", "lr": 0.5}, {"rule": "lbfgs"}, {"lr": 10.0}]
)
def test_a_function_that_falls_without_an_end_is_said(name, options):
    result = ss.minimize(UNBOUNDED[name], [-1.0, -2.0], max_iter=300, **options)
    assert not result.converged
    assert "seems to be unbounded below" in result.message, result.message
    assert "smaller lr" not in result.message


@pytest.mark.parametrize("rule", ["sgd", "adam", "lbfgs"])
def test_a_function_with_a_minimum_is_not_called_unbounded(rule):
    def rosen(x):
        a, b = x
        value = (1 - a) ** 2 + 100 * (b - a * a) ** 2 - 1e6
        return value, np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)])

    for function in (rosen, parabola):
        for steps in (3, 60):
            result = ss.minimize(function, [-1.2, 1.0], rule=rule, max_iter=steps)
            assert "unbounded" not in result.message

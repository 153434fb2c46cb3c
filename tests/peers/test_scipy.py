"""Every rule as a method of `scipy.optimize.minimize`."""

import inspect

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der, rosen_hess

import stepsize as ss
from stepsize.interop import scipy as methods
from stepsize.optimizers.registration import snake_case


def bowl(x, scale=1.0):
    c = np.arange(1.0, x.size + 1)
    return scale * float(c @ (x * x)) / 2, scale * c * x


@pytest.mark.parametrize("cls", ss.optimizers.registry(), ids=snake_case)
def test_every_rule_is_a_method(cls):
    method = getattr(methods, snake_case(cls))
    result = minimize(bowl, [1.0, -1.0, 2.0], jac=True, method=method, options={"maxiter": 300})
    direct = ss.minimize(bowl, [1.0, -1.0, 2.0], cls, max_iter=300)
    assert np.array_equal(result.x, direct.x) and result.fun == direct.fun
    assert (result.nit, result.nfev, result.njev) == (direct.nit, direct.nfev, direct.nfev)
    assert (result.success, result.message) == (direct.converged, direct.message)
    assert inspect.getdoc(method).startswith(inspect.getdoc(cls).split("\n", 1)[0])
    assert method.__name__ in methods.__all__


def test_it_solves_what_scipy_solves():
    x0 = np.tile([-1.2, 1.0], 5)
    ours = minimize(rosen, x0, jac=rosen_der, method=methods.lbfgs, tol=1e-8)
    theirs = minimize(rosen, x0, jac=rosen_der, method="L-BFGS-B", options={"gtol": 1e-8})
    assert ours.success and np.allclose(ours.x, 1) and np.allclose(theirs.x, 1)
    assert ours.nfev < 1.5 * theirs.nfev
    assert np.array_equal(ours.jac, rosen_der(ours.x)) and ours.status == 0


def test_options_reach_the_rule():
    lr = ss.schedules.linear(0.1, 0.0, 20)
    options = {"lr": lr, "maxiter": 20, "betas": (0.5, 0.9)}
    result = minimize(bowl, np.ones(3), args=(2.0,), jac=True, method=methods.adam, options=options)
    x = np.ones(3)
    opt = ss.Adam(x, lr=lr, betas=(0.5, 0.9))
    for _ in range(20):
        opt.step(bowl(x, 2.0)[1])
    assert np.array_equal(result.x, x) and result.lr == lr and not result.success


def test_callbacks_get_points_or_results():
    points, values = [], []

    def by_result(intermediate_result):
        values.append(intermediate_result.fun)
        if len(values) == 3:
            raise StopIteration

    same = {"jac": True, "method": methods.sgd, "options": {"lr": 0.01, "maxiter": 5}}
    minimize(bowl, np.ones(2), callback=points.append, **same)
    result = minimize(bowl, np.ones(2), callback=by_result, **same)
    assert len({x.tobytes() for x in points}) == 5
    assert len(values) == 3 and result.message == "the callback ended it" and not result.success


def test_points_that_were_kept_stay_as_they_were():
    kept = []

    def keeping(x):
        kept.append((x, bowl(x)[0]))
        return bowl(x)

    minimize(keeping, np.ones(2), jac=True, method=methods.adam, options={"lr": 0.1, "maxiter": 10})
    assert all(bowl(x)[0] == value for x, value in kept)


def test_disp_prints(capsys):
    minimize(bowl, np.ones(2), jac=True, method=methods.lbfgs, options={"disp": True})
    assert "converged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"jac": None}, "the gradient is needed, got jac=None"),
        ({"jac": "2-point"}, "the gradient is needed"),
        ({"constraints": {"type": "eq", "fun": np.sum}}, "constraints is not supported"),
        ({"hess": rosen_hess}, "hess is not supported"),
        ({"options": {"speed": 1}}, "speed"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        minimize(rosen, np.zeros(2), method=methods.adam, **{"jac": rosen_der, **arguments})


@pytest.mark.parametrize("method", [methods.sgd, methods.adam, methods.lbfgs])
def test_memory_of_the_function_is_its_own(method):
    kept = np.empty(3)

    def fun(x):
        value = bowl(x)[0]
        x[...] = np.nan
        return value

    def jac(x):
        kept[...] = bowl(x)[1]
        x[...] = np.nan
        return kept

    def both(x):
        return fun(x.copy()), jac(x)

    plain = minimize(bowl, np.ones(3), jac=True, method=method)
    for found in (
        minimize(fun, np.ones(3), jac=jac, method=method),
        minimize(both, np.ones(3), jac=True, method=method),
    ):
        assert np.array_equal(found.x, plain.x) and np.array_equal(found.jac, plain.jac)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("method", [methods.sgd, methods.adam, methods.lbfgs])
def test_an_objective_may_be_an_array_of_one_number(shape, method):
    def fun(x):
        return np.full(shape, bowl(x)[0])

    result = minimize(fun, np.ones(2), jac=lambda x: bowl(x)[1], method=method)
    assert result.success and isinstance(result.fun, float)
    with pytest.raises(ValueError, match="fun must return one number"):
        minimize(lambda x: x, np.ones(2), jac=lambda x: x, method=method)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("method", [methods.sgd, methods.adam, methods.lbfgs])
def test_a_start_that_is_not_finite_is_no_success(value, method):
    for fun, jac in ((lambda x: value, lambda x: x), (lambda x: 1.0, lambda x: x * value)):
        result = minimize(fun, np.ones(2), jac=jac, method=method)
        assert not result.success and result.status == 1 and "at x0" in result.message
        assert np.array_equal(result.x, np.ones(2)) and (result.nit, result.nfev) == (0, 1)

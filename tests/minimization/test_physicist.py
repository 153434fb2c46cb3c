"""minimize: gradients in other forms, times, tables, and what is said of a wrong gradient."""

import itertools
import time

import numpy as np
import pytest

import stepsize as ss


def value(x):
    return (x[0] - 1) ** 2 + 10 * (x[1] + 2) ** 2


def gradient(x):
    return [2 * (x[0] - 1), 20 * (x[1] + 2)]  # a list


def both(x):
    return value(x), gradient(x)


@pytest.mark.parametrize("rule", ["lbfgs", "adam"])
@pytest.mark.parametrize(
    "given",
    [
        {"fun_and_grad": both},
        {"fun_and_grad": both, "jac": True},
        {"fun_and_grad": value, "jac": gradient},
        {"fun_and_grad": value, "grad": "central"},
        {"fun_and_grad": value, "grad": "complex_step"},
    ],
)
def test_a_gradient_in_any_form_gives_the_same_answer(rule, given):
    result = ss.minimize(**given, x0=[0.0, 0.0], rule=rule, tol=1e-6)
    assert result.success and result.status == 0 and result.converged
    np.testing.assert_allclose(result.x, [1, -2], atol=1e-5)
    assert result.jac is result.grad


def test_the_calls_behind_differences_are_counted():
    calls = []

    def counted(x):
        calls.append(1)
        return value(x)

    for grad in ("central", "forward", "spsa"):
        calls.clear()
        result = ss.minimize(counted, [0.0, 0.0], grad=grad, lr=0.01, max_iter=20)
        assert result.nfev == len(calls)


def test_the_gradient_is_looked_at_before_a_rate_is_searched():
    result = ss.minimize(both, [1.0, -2.0])
    assert (result.nit, result.nfev, result.converged) == (0, 3, True)  # one, and two beside it


def test_memory_is_nobodys_but_their_own():
    kept, out = [], np.zeros(2)

    def mean(x):
        kept.append(x)
        out[:] = gradient(x)
        x[:] = np.nan  # may do what it likes with its copy
        return float(np.nansum(out**2) / 4), out

    def separate(x):
        kept.append(x)
        v = value(x)
        x[:] = np.nan
        return v

    result = ss.minimize(mean, [0.0, 0.0], lr=0.01, max_iter=30, rule="sgd")
    assert np.isfinite(result.x).all() and not np.shares_memory(result.grad, out)
    assert all(not np.shares_memory(result.x, one) for one in kept)
    other = ss.minimize(separate, [0.0, 0.0], jac=gradient, rule="lbfgs")
    assert other.converged
    again = []
    ss.minimize(both, [0.0, 0.0], lr=0.01, max_iter=5, callback=lambda r: again.append(r.x))
    assert len({id(x) for x in again}) == 5
    assert not any(np.shares_memory(a, b) for a, b in itertools.pairwise(again))


def test_time_ends_a_run():
    def slow(x):
        time.sleep(0.002)
        return both(x)

    result = ss.minimize(slow, [0.0, 0.0], lr=1e-6, max_iter=10**6, max_time=0.05)
    assert result.message.startswith("max_time=0.05 seconds are over")
    assert 1 <= result.nit < 10**4 and not result.converged
    assert ss.minimize(both, [0.0, 0.0], lr=0.01, max_time=0).nit == 0


def test_a_result_prints_as_scipys_and_has_a_table_and_a_plot():
    result = ss.minimize(both, [0.0, 0.0], rule="lbfgs")
    names = [line.partition(":")[0].strip() for line in str(result).splitlines()[1:]]
    assert names == ["success", "fun", "x", "jac", "grad_norm", "nit", "nfev", "rule"]
    assert "x: [ 1. -2.]" in str(result)
    lines = result.table().splitlines()
    assert lines[0].split() == ["step", "fun", "|gradient|", "lr"]
    assert int(lines[-1].split()[0]) == result.nit
    result.plot()
    nested = ss.minimize(lambda p: (float(p["a"] @ p["a"]), {"a": 2 * p["a"]}), {"a": np.ones(500)})
    assert max(map(len, str(nested).splitlines())) < 120
    none = ss.minimize(both, [1.0, -2.0])
    assert len(none.table().splitlines()) == 1


def test_a_wrong_gradient_is_named_where_nothing_converges():
    def wrong(x):
        return value(x), -np.array(gradient(x))

    result = ss.minimize(wrong, [0.0, 0.0], max_iter=50)
    assert not result.converged
    assert "the gradient does not fit the loss" in result.message
    assert "ss.check_gradients(lambda x, batch: fun_and_grad(x), x0)" in result.message
    assert "does not fit" not in ss.minimize(both, [0.0, 0.0], max_iter=3).message


def test_what_cannot_be_is_refused_by_name():
    for given, words in (
        ({"jac": gradient, "grad": "central"}, "not both"),
        ({"grad": "centrl"}, "minimize: grad must be one of 'central', 'forward'"),
        ({"jac": 3}, "minimize: jac must be a function"),
        ({"jac": "2-point"}, "minimize: jac must be a function"),
        ({"jac": gradient}, "returns its value alone, got a tuple of 2"),
        ({"grad": "central"}, "returns its value alone, got a tuple of 2"),
        ({"max_time": -1}, "minimize: max_time must be"),
        ({"tol": -1}, "minimize: gtol must be"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            ss.minimize(both, [0.0, 0.0], **given)

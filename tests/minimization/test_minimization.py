"""minimize: where it ends, what it tells, what it refuses."""

import numpy as np
import pytest

import stepsize as ss

RULES = [cls.__name__ for cls in ss.optimizers.registry()]


def bowl(x):
    c = np.arange(1.0, x.size + 1).reshape(x.shape).astype(x.dtype)
    return float((c * x * x).sum()) / 2, c * x


def rosenbrock(x):
    a, b = 1 - x[0], x[1] - x[0] ** 2
    return a**2 + 100 * b**2, np.array([-2 * a - 400 * x[0] * b, 200 * b])


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_goes_down(rule):
    start = np.array([[1.0, -1.0], [0.5, 2.0]])
    result = ss.minimize(bowl, start, rule, max_iter=300)
    assert result.fun < (0.9 if rule == "FTRL" else 0.1) * bowl(start)[0]
    assert (result.fun, result.rule) == (bowl(result.x)[0], rule)
    assert np.array_equal(result.grad, bowl(result.x)[1])
    assert result.grad_norm == np.abs(result.grad).max()
    assert result.converged == (result.grad_norm <= 1e-5)
    assert len(result.history["loss"]) == result.nit
    assert start[0, 0] == 1.0


def test_the_calls_are_counted():
    calls = []

    def counted(x):
        calls.append(x.copy())
        return bowl(x)

    for rule in ("adam", "lbfgs", "schedule_free_sgd"):
        calls.clear()
        assert ss.minimize(counted, np.ones(3), rule, max_iter=40).nfev == len(calls)


def test_a_rate_given_is_the_loop_one_would_write():
    x = np.ones(3)
    opt, losses = ss.Adam(x, lr=ss.schedules.linear(0.1, 0.0, 30), betas=(0.8, 0.9)), []
    for _ in range(30):
        value, grad = bowl(x)
        losses.append(value)
        opt.step(grad)
    rate = ss.schedules.linear(0.1, 0.0, 30)
    result = ss.minimize(bowl, np.ones(3), ss.Adam, rate, max_iter=30, betas=(0.8, 0.9))
    assert result.history["loss"].tolist() == losses
    assert result.lr == rate and result.history["lr"].tolist() == rate.values(30).tolist()
    assert result.fun == min(*losses, bowl(x)[0]) and result.nfev == 31
    assert result.history.stopped == result.message == "max_iter=30 steps were made"


def test_auto_is_what_the_finder_says_and_then_less():
    start = np.ones(3)
    found = ss.lr_find(lambda x, _: bowl(x), start, [None], optimizer=ss.Lion, progress=False)
    result = ss.minimize(bowl, start, "lion", max_iter=50)
    assert result.lr == ss.schedules.flat_cosine(found.suggestion, 50, flat=0.5)
    assert result.nfev == found.gradients + found.checks + 51
    assert ss.minimize(bowl, start, "prodigy", max_iter=5).lr == 1.0
    assert ss.minimize(bowl, start, "lion", None, max_iter=5).lr == 1e-4


def test_lbfgs_solves_rosenbrock():
    result = ss.minimize(rosenbrock, [-1.2, 1], "lbfgs", gtol=1e-9)
    assert result.converged and np.allclose(result.x, 1, atol=1e-8)
    assert result.nfev < 60 and result.nit > 10
    assert str(result).startswith("converged: no component of the gradient exceeds gtol=1e-09\n")
    assert "calls of the function" in str(result) and " x: [" in str(result)


def test_lbfgs_that_cannot_go_lower_ends():
    result = ss.minimize(lambda x: (1e6 + bowl(x)[0], bowl(x)[1]), np.ones(4), "lbfgs", gtol=0.0)
    assert result.nit < 100 and "no lower point" in result.message and not result.converged


def test_a_nest_stays_a_nest():
    def nested(p):
        return bowl(p["a"])[0] + bowl(p["b"][0])[0], {"a": p["a"], "b": [bowl(p["b"][0])[1]]}

    start = {"a": np.ones(1), "b": [np.ones((2, 2), np.float32)]}
    for rule in ("adam", "lbfgs"):
        result = ss.minimize(nested, start, rule)
        assert result.converged and result.x["b"][0].dtype == np.float32
        assert result.x["b"][0].shape == (2, 2)


def test_numbers_become_float64():
    for start in ([1, 2], (1.0, 2.0), np.array([1, 2])):
        x = ss.minimize(bowl, start, lr=0.1).x
        assert x.dtype == np.float64 and x.shape == (2,)


def test_ftol_ends_a_run_that_no_longer_gets_better():
    shifted = lambda x: (bowl(x)[0] + 1, bowl(x)[1])  # noqa: E731
    result = ss.minimize(shifted, np.ones(2), "sgd", 0.1, gtol=0.0, ftol=1e-6, patience=5)
    assert result.converged and "less than ftol" in result.message and result.nit < 200


def test_a_callback_sees_each_step_and_may_end_it():
    seen = []

    def callback(result):
        seen.append((result.nit, result.fun))
        return result.nit == 4

    result = ss.minimize(bowl, np.ones(3), lr=0.01, callback=callback)
    assert [nit for nit, _ in seen] == [1, 2, 3, 4] and result.message == "the callback ended it"


def test_an_average_is_looked_at_too():
    result = ss.minimize(rosenbrock, [-1.2, 1.0], "schedule_free_adamw", 0.1, max_iter=100)
    opt = ss.ScheduleFreeAdamW(x := np.array([-1.2, 1.0]), lr=0.1)
    values = [opt.step(rosenbrock(x)[1]) or rosenbrock(x)[0] for _ in range(100)]
    with opt.averaged():
        values.append(rosenbrock(x)[0])
    assert result.fun == min(values) and result.nfev == 102


def test_a_run_that_diverges_keeps_the_best():
    result = ss.minimize(bowl, np.ones(3), "sgd", 100.0)
    assert not result.converged and result.fun == bowl(np.ones(3))[0]
    assert "give a smaller lr" in result.message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rule": "adamm"}, "no rule 'adamm'; there is 'Adam'"),
        ({"rule": 3}, "name of a rule"),
        ({"lr": "fast"}, "None or 'auto', got 'fast'"),
        ({"max_iter": 0}, "max_iter must be a whole number >= 1, got 0"),
        ({"max_iter": 2.5}, "max_iter must be a whole number"),
        ({"gtol": -1}, "gtol must be a number >= 0"),
        ({"speed": 1}, "speed"),
        ({"maximize": True}, "negate the function"),
        ({"x0": np.array([np.nan])}, "at x0 the value is nan"),
        ({"x0": np.array([1j], np.clongdouble)}, "complex256"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        ss.minimize(**{"fun_and_grad": bowl, "x0": np.ones(2), **arguments})

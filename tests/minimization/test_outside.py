"""minimize and functions as users write them: reused arrays, plateaus, starts that are the end."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import stepsize as ss
from together import alike, together

RULES = [cls.__name__ for cls in ss.optimizers.registry()]
SOME = ["sgd", "adam", "lion", "lbfgs", "rprop", "schedule_free_adamw", "prodigy", "muon"]


def bowl(x):
    c = np.geomspace(0.3, 3.0, x.size)
    return float(c @ (x - 1) ** 2) / 2, c * (x - 1)


def rosenbrock(x):
    a, b = 1 - x[0], x[1] - x[0] ** 2
    return a**2 + 100 * b**2, np.array([-2 * a - 400 * x[0] * b, 200 * b])


def soft(z):
    gap = np.logaddexp(0, z) - 1
    return 0.5 * float(gap @ gap), gap / (1 + np.exp(-z))


def reusing(function):
    kept = {}

    def call(x):
        value, grad = function(x)
        kept.setdefault("g", np.empty_like(grad))[...] = grad
        return value, kept["g"]

    return call


def overwriting(function):
    def call(x):
        found = function(x)
        x[...] = np.nan
        return found

    return call


def gradient_in_the_argument(function):
    def call(x):
        value, grad = function(x)
        x[...] = grad
        return value, x

    return call


@pytest.mark.parametrize("rule", RULES)
def test_memory_of_the_function_is_its_own(rule):
    for steps in (7, 250) if rule.lower() in SOME else (7,):
        plain = ss.minimize(bowl, np.zeros(3), rule, max_iter=steps)
        for memory in (reusing, overwriting, gradient_in_the_argument):
            moved = ss.minimize(memory(bowl), np.zeros(3), rule, max_iter=steps)
            assert np.array_equal(plain.x, moved.x) and plain.fun == moved.fun, memory
            assert np.array_equal(plain.grad, moved.grad) and plain.nfev == moved.nfev, memory


def test_a_function_that_moves_its_argument_means_what_it_computes():
    def moving(x):
        x -= 1
        return float(x @ x), 2 * x

    for rule in SOME:
        result = ss.minimize(moving, [3.0, 4.0], rule, max_iter=1000)
        assert result.fun < 1e-3
        assert abs(result.x - 1).max() < 0.05


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("function", "x0"),
    [(bowl, np.zeros(3)), (rosenbrock, np.array([-1.2, 1.0])), (soft, np.full(3, -3.0))],
    ids=["bowl", "rosenbrock", "soft"],
)
@together("lr", ["auto", None, 30.0], alike)
def test_the_answer_is_the_best_point_seen_and_converged_is_earned(rule, function, x0, lr):
    values = []

    def seen(x):
        value, grad = function(x)
        if math.isfinite(value) and np.isfinite(grad).all():
            values.append(value)
        return value, grad

    result = ss.minimize(seen, x0, rule, lr, max_iter=60)
    with np.errstate(all="ignore"):
        assert result.fun == min(values) == function(result.x)[0]
        assert np.array_equal(result.grad, function(result.x)[1])
    assert result.nfev >= len(values)
    assert result.converged == (result.grad_norm <= 1e-5)
    assert len(result.history["loss"]) == result.nit <= 60


@pytest.mark.parametrize("rule", SOME)
@pytest.mark.parametrize("lr", [0.001, 1e10])
def test_a_run_that_got_nowhere_has_not_converged_by_ftol(rule, lr):
    result = ss.minimize(soft, np.full(3, -3.0), rule, lr, ftol=1e-9, patience=3, max_iter=40)
    if result.converged and result.grad_norm > 1e-5:
        assert result.history["loss"][-1] <= result.fun + 1e-6
        assert result.fun < soft(np.full(3, -3.0))[0]


def test_a_plateau_above_the_start_is_no_convergence():
    result = ss.minimize(soft, np.full(3, -3.0), "sgd", 1e10)
    assert not result.converged and "above the start" in result.message
    found = ss.minimize(soft, np.full(3, -3.0), "sgd")
    assert found.converged and found.fun < 1e-8


@pytest.mark.parametrize(
    ("rule", "options", "goal"),
    [
        ("adam", {}, 1e-6),
        ("lion", {}, 1e-3),
        ("sgd", {"momentum": 0.9}, 1e-4),
        ("sgd", {}, 0.05),
        ("adamw", {"weight_decay": 0.0}, 1e-6),
        ("lbfgs", {}, 1e-12),
    ],
)
def test_the_rate_that_is_found_is_right_for_the_whole_run(rule, options, goal):
    result = ss.minimize(rosenbrock, [-1.2, 1.0], rule, **options)
    assert result.fun < goal
    assert result.nfev <= 100 + 2 * 1000 + 501


@pytest.mark.parametrize("rule", RULES)
def test_at_the_optimum_nothing_is_searched(rule):
    result = ss.minimize(bowl, np.ones(3), rule)
    # One call there, and two beside it, which tell it from a maximum.
    assert result.converged and result.nfev == 3 and result.nit == 0 and result.fun == 0


@pytest.mark.parametrize(("rule", "steps"), [*((r, 60) for r in RULES), ("FTRL", 500)])
def test_the_schedule_that_is_chosen_suits_the_rule(rule, steps):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = ss.minimize(bowl, np.zeros(3), rule, max_iter=steps, gtol=0)
    if rule == "FTRL":
        assert isinstance(result.lr, float) and result.fun < 1e-6


@pytest.mark.parametrize("rule", SOME)
@pytest.mark.parametrize("grads", [None, {}, np.ones(3), "x"])
def test_no_gradient_is_refused(rule, grads):
    with pytest.raises((TypeError, ValueError), match=r"gradient|grads"):
        ss.minimize(lambda x: (float(x @ x), grads), np.ones(2), rule)
    with pytest.raises(TypeError, match="got None in each place"):
        ss.minimize(lambda p: (1.0, {"a": None}), {"a": np.ones(2)}, rule)


def test_a_leaf_without_gradient_stays():
    start = {"a": np.ones(2), "b": np.ones(1)}
    result = ss.minimize(lambda p: (float(p["a"] @ p["a"]), {"a": 2 * p["a"], "b": None}), start)
    assert result.converged and result.x["b"][0] == 1.0 and result.grad["b"] is None


@pytest.mark.parametrize("rule", SOME)
def test_gradients_of_rows_will_do(rule):
    def rows(x):
        return float(np.sum(x[[0, 2]] ** 2)), ss.RowGradient([0, 2], 2 * x[[0, 2]])

    def whole(x):
        g = np.zeros_like(x)
        g[[0, 2]] = 2 * x[[0, 2]]
        return float(np.sum(x[[0, 2]] ** 2)), g

    one, other = (ss.minimize(f, np.ones((4, 2)), rule, max_iter=300) for f in (rows, whole))
    assert np.array_equal(one.x, other.x) and one.fun == other.fun
    assert np.array_equal(one.grad, other.grad)


def test_an_overflow_that_python_raises_ends_a_run_like_one_that_numpy_does():
    def steep(x):
        return math.exp(x[0]) - 2 * x[0], np.array([math.exp(x[0]) - 2])

    result = ss.minimize(steep, [3.0], "sgd", 1e4)
    assert not result.converged and "give a smaller lr" in result.message
    assert ss.minimize(steep, [3.0], "adam").fun == pytest.approx(2 - 2 * math.log(2), abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fun_and_grad": None}, "fun_and_grad must be a function"),
        ({"fun_and_grad": 3}, "fun_and_grad must be a function"),
        ({"callback": 3}, "callback must be a function"),
        ({"max_iter": "x"}, "max_iter must be a whole number"),
        ({"gtol": "x"}, "gtol must be a number"),
        ({"gtol": math.nan}, "gtol must be a"),
        ({"ftol": None}, "ftol must be a number"),
        ({"x0": "abc"}, "x0"),
        ({"x0": None}, "minimize: x0 holds no number"),
        ({"x0": {}}, "minimize: x0 holds no number"),
        ({"lr": -1.0}, "lr"),
        ({"speed": 1}, "speed"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_called(wrong, words):
    def never(x):
        raise AssertionError("called")

    with pytest.raises((TypeError, ValueError), match=words):
        ss.minimize(**{"fun_and_grad": never, "x0": np.ones(2), **wrong})


def test_the_repr_is_one_line_and_the_print_a_text():
    result = ss.minimize(bowl, np.zeros(3))
    assert "\n" not in repr(result) and len(repr(result)) < 120
    assert str(result).startswith("converged: ")


def flipped(x):
    return float(x @ x), -2 * x


def corner(x):
    far = float(x.sum()) - 1 / 3
    return max(far, -2 * far), np.full(2, 1.0 if far >= 0 else -2.0)


def pole(x):
    return float(np.log(np.abs(x)).sum()), 1 / x


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (flipped, "the gradient has the wrong sign"),
        (lambda x: (float(x[0] ** 2 + x[1] ** 2), np.array([-2 * x[0], 0.1])), "wrong sign"),
        (corner, "a kink, or the gradient is wrong"),
        (pole, "a kink, or the gradient is wrong"),
        (lambda x: (-float(x.sum()), -np.ones(2)), "seems to be unbounded below"),
        (lambda x: (-float(x @ x), -2 * x), "seems to be unbounded below"),
    ],
    ids=["flipped", "partly flipped", "kink", "pole", "line", "quadratic"],
)
def test_where_a_line_search_finds_no_lower_point_its_cause_is_told(function, words):
    found = ss.minimize(function, np.array([1.0, 2.0]), rule="lbfgs", max_iter=300)
    assert not found.converged and words in found.message
    assert "no lower point" in found.message or found.nit == 300

"""Problems: every hand-written gradient against finite differences, splits, seeds and messages."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

from stepsize import problems

LANDSCAPES = ["rosenbrock", "beale", "himmelblau", "rastrigin", "saddle"]


def leaves(params):
    if isinstance(params, np.ndarray):
        return [params]
    return [layer[key] for layer in params["layers"] for key in ("w", "b")]


def assert_gradient(value_and_grad, params, batch):
    """Central differences in float64: error h^2 f'''/6 + rounding/h, so 1e-6 of the gradient."""
    h = 1e-6
    _, grads = value_and_grad(params, batch)
    for array, grad in zip(leaves(params), leaves(grads), strict=True):
        assert grad.shape == array.shape
        assert grad.dtype == array.dtype
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + h
            above = value_and_grad(params, batch)[0]
            array[index] = kept - h
            below = value_and_grad(params, batch)[0]
            array[index] = kept
            expected = (above - below) / (2 * h)
            assert grad[index] == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("hidden", [(), (5,), (6, 4)])
@pytest.mark.parametrize(
    ("loss", "outputs"), [("cross_entropy_loss", 3), ("squared_error_loss", 2)]
)
def test_network_gradients(hidden, loss, outputs):
    rng = np.random.default_rng(3)
    params = problems.init_mlp([4, *hidden, outputs], seed=1, dtype=np.float64)
    for array in leaves(params):
        array += 0.1 * rng.standard_normal(array.shape)
    x = rng.standard_normal((7, 4))
    y = rng.integers(0, 3, 7) if loss == "cross_entropy_loss" else rng.standard_normal((7, 2))
    assert_gradient(getattr(problems, loss), params, (x, y))


@pytest.mark.parametrize("name", LANDSCAPES)
def test_landscape_gradients(name):
    problem = getattr(problems, name)()
    for point in np.random.default_rng(0).uniform(-2, 2, (20, 2)):
        assert_gradient(problem.value_and_grad, point, None)


def test_quadratic_gradient():
    problem = problems.quadratic([0.5, 3.0, 20.0], start=[1.0, -2.0, 0.3])
    assert_gradient(problem.value_and_grad, problem.params, None)


@pytest.mark.parametrize("name", LANDSCAPES)
def test_named_minima_are_minima(name):
    landscape = getattr(problems, name)().value_and_grad
    for minimum in landscape.minima:
        value, grad = landscape(np.array(minimum), None)
        # Himmelblau's minima are irrational: given to 16 digits, so the slope is rounding alone.
        assert np.abs(grad).max() < 1e-12
        ring = np.linspace(0, 2 * np.pi, 16)
        around = landscape.value(minimum[0] + 0.01 * np.cos(ring), minimum[1] + 0.01 * np.sin(ring))
        assert (around > value).all()


@pytest.mark.parametrize("name", LANDSCAPES)
def test_landscape_start_must_be_a_point(name):
    with pytest.raises(ValueError, match=r"start must hold 2 numbers, got shape \(3,\)"):
        getattr(problems, name)(start=[1.0, 2.0, 3.0])


def test_blown_up_weights_give_a_non_finite_loss_without_a_warning():
    problem = problems.classifier(np.eye(4), np.arange(4), hidden=(3,), validation=0.0)
    for layer in problem.params["layers"]:
        layer["w"] *= np.float32(1e30)
    loss, _ = problem.value_and_grad(problem.params, problem.train)
    assert not np.isfinite(loss)
    assert not np.isfinite(problems.rosenbrock().value_and_grad(np.full(2, 1e200), None)[0])


def test_loss_is_a_float_and_gradients_keep_float32():
    problem = problems.digits()
    loss, grads = problem.value_and_grad(problem.params, problem.train)
    assert type(loss) is float
    assert {array.dtype for array in leaves(grads)} == {np.dtype(np.float32)}
    scores = problem.evaluate(problem.params, problem.validation)
    assert set(scores) == {"loss", "accuracy"}
    assert 0 <= scores["accuracy"] <= 1


def test_seed_draws_weights_and_split():
    one, same, other = problems.digits(1), problems.digits(1), problems.digits(2)
    assert all(np.array_equal(a, b) for a, b in zip(one.train, same.train, strict=True))
    for a, b, c in zip(*(leaves(p.params) for p in (one, same, other)), strict=True):
        assert np.array_equal(a, b)
        assert not a.any() or not np.array_equal(a, c)
    assert not np.array_equal(one.train[1], other.train[1])


def test_train_and_validation_are_a_partition():
    x = np.arange(40.0).reshape(20, 2)
    problem = problems.classifier(x, np.arange(20) % 3, validation=0.3, seed=5)
    rows = np.concatenate([problem.train[0], problem.validation[0]])
    assert sorted(rows[:, 0]) == list(range(0, 40, 2))
    assert len(problem.validation[0]) == 6


def test_rows_keeps_the_validation_set():
    whole, part = problems.digits(0), problems.digits(0, rows=100)
    assert len(part.train[0]) == len(part.train[1]) == 100
    assert np.array_equal(whole.validation[0], part.validation[0])
    with pytest.raises(ValueError, match="rows must be a whole number >= 1, got 0"):
        problems.digits(0, rows=0)


def test_init_has_the_variance_of_he():
    w = problems.init_mlp([400, 300], seed=0, dtype=np.float64)["layers"][0]["w"]
    # 120,000 draws: the sample variance is within 5 standard errors, sqrt(2 / 120000) each.
    assert w.var() * 400 / 2 == pytest.approx(1, abs=5 * np.sqrt(2 / 120_000))


def test_batches_cover_an_epoch_once():
    problem = problems.classifier(np.arange(20.0).reshape(10, 2), np.arange(10) % 2, validation=0)
    batches = problem.batches(3, seed=1)
    assert [len(y) for _, y in batches] == [3, 3, 3]
    rows = np.concatenate([x[:, 0] for x, _ in batches])
    assert len(set(rows)) == 9
    assert all((x[:, 0] / 2 % 2 == y).all() for x, y in batches)
    assert len(problem.batches(10)) == 1
    assert [len(y) for _, y in problem.batches(99)] == [10]
    assert problems.saddle().batches() == [None]
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        problem.batches(0)


def test_r2_is_one_for_a_perfect_fit_and_zero_for_the_mean():
    y = np.array([1.0, 3.0, 5.0], np.float32)
    params = {"layers": [{"w": np.full((1, 1), 2.0), "b": np.ones(1)}]}
    batch = (np.arange(3.0).reshape(3, 1), y)
    assert problems.squared_error_scores(params, batch) == {"loss": 0.0, "r2": 1.0}
    params = {"layers": [{"w": np.zeros((1, 1)), "b": np.full(1, 3.0)}]}
    assert problems.squared_error_scores(params, batch)["r2"] == 0.0


def test_problems_pickle():
    for problem in (problems.quadratic(), problems.rastrigin(), problems.digits(rows=10)):
        other = pickle.loads(pickle.dumps(problem))
        batch = problem.batches()[0]
        assert (
            other.value_and_grad(other.params, batch)[0]
            == problem.value_and_grad(problem.params, batch)[0]
        )


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "stepsize\[demo\]"'):
        problems.digits()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: problems.init_mlp([3]), "sizes must hold at least an input and an output"),
        (lambda: problems.classifier([[1.0]], [0.5]), "y must hold class numbers from 0"),
        (lambda: problems.classifier([[1.0]], [-1]), "y must hold class numbers from 0"),
        (lambda: problems.classifier([1.0], [0]), r"x must be \(rows, features\)"),
        (
            lambda: problems.classifier([[1.0]], [0], validation=1.0),
            r"validation must be in \[0, 1\)",
        ),
        (lambda: problems.regressor([[1.0]], [1.0, 2.0]), r"x must be \(rows, features\)"),
        (lambda: problems.quadratic([1.0, 2.0], start=[1.0]), "same length"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("size", [7, 32, 10**6])
def test_r_squared_does_not_depend_on_the_batches(size):
    x = np.random.default_rng(0).normal(size=(400, 2))
    y = np.arange(400) / 100 + x[:, 0]  # in order, so that no batch has the spread of all
    problem = problems.regressor(x, y, hidden=())
    params, (inputs, targets) = problem.params, problem.validation
    order = np.argsort(targets[:, 0])
    inputs, targets = inputs[order], targets[order]
    parts = [(inputs[k : k + size], targets[k : k + size]) for k in range(0, len(inputs), size)]
    mean = np.average(
        [problem.evaluate(params, part)["r2"] for part in parts], weights=[len(p[0]) for p in parts]
    )
    whole = problems.squared_error_scores(params, (inputs, targets))["r2"]
    assert mean == pytest.approx(whole, rel=1e-5)

"""Columns of unlike scales: a fit is as good as that of a linear model, or it warns of the cure."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stepsize.interop.sklearn import (
    LinearClassifier,
    LinearRegressor,
    MLPClassifier,
    MLPRegressor,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((100, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.1 * RNG.standard_normal(100)


def scaling(number):
    """Factors and offsets of the columns."""
    rng = np.random.default_rng(number)
    named = [([1e4, 1e-3, 1], 0), ([1, 1, 1], 0), ([1, 1, 1], [1e3, 0, 0]), ([1e4] * 3, 0)]
    if number < len(named):
        return map(np.array, named[number])
    factors = 10.0 ** rng.uniform(-4, 4, 3)
    return factors, rng.choice([0, 0, 1, 10, 1000]) * factors * rng.standard_normal(3)


def fitted(model, x, y):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y)
    return [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]


ESTIMATORS = {
    LinearRegressor: {},
    LinearClassifier: {},
    MLPRegressor: {"hidden_layer_sizes": (8,)},
    MLPClassifier: {"hidden_layer_sizes": (8,)},
}


@pytest.mark.parametrize("number", range(30))
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_a_fit_is_as_good_as_a_linear_one_or_warns(cls, number):
    factors, offsets = scaling(number)
    classes = cls in (LinearClassifier, MLPClassifier)
    y = Y > 0 if classes else Y
    linear = (LogisticRegression(C=1e4) if classes else LinearRegression()).fit(X, y)
    model = cls(random_state=0, **ESTIMATORS[cls])
    said = fitted(model, X * factors + offsets, y)
    if number != 1 and said:
        assert len(said) == 1 and "StandardScaler" in said[0]
    assert said or model.score(X * factors + offsets, y) > linear.score(X, y) - 0.05


@pytest.mark.parametrize("cls", [LinearRegressor, LinearClassifier])
def test_the_cure_that_it_names_cures(cls):
    y = Y > 0 if cls is LinearClassifier else Y
    x = X * [1e4, 1e-3, 1]
    [said] = fitted(cls(random_state=0), x, y)
    assert f"make_pipeline(StandardScaler(), {cls.__name__}(...))" in said
    assert "deviations from 0.00" in said and "e+0" in said
    model = make_pipeline(StandardScaler(), cls(random_state=0))
    assert not fitted(model, x, y) and model.score(x, y) > 0.9


def test_other_losses_weights_outputs_and_sparse_rows_are_compared_too():
    x = np.abs(X) * [1e3, 1e-3, 1]
    counts = np.random.default_rng(1).poisson(np.exp(1 + np.abs(X) @ [0.1, 0.8, 0.1]))
    weight = np.linspace(0.1, 2, 100)
    several = np.stack([Y, -2 * Y], axis=1)
    kinds = np.digitize(Y, [-1, 1])
    labels = (several > 0).astype(int)
    for model, rows, y in (
        (LinearRegressor("poisson", random_state=0), x, counts),
        (LinearRegressor(random_state=0), X * [1e3, 1e-3, 1], several),
        (LinearRegressor(random_state=0), sparse.csr_matrix(X * [1e3, 1e-3, 1]), Y),
        (LinearClassifier(random_state=0), X * [1e3, 1e-3, 1], kinds),
        (LinearClassifier(random_state=0), X * [1e3, 1e-3, 1], labels),
    ):
        for weights in (None, weight):
            with pytest.warns(ConvergenceWarning, match="StandardScaler"):
                model.fit(rows, y, weights)


def test_a_fit_on_scaled_columns_is_not_compared(monkeypatch):
    monkeypatch.setattr("stepsize.interop.sklearn.scaling._compared", None)
    assert not fitted(LinearRegressor(alpha=10.0, random_state=0), X, Y)  # shrunk as asked for
    assert not fitted(LinearClassifier(random_state=0), X * 3 + 5, Y > 0)


def test_unlike_columns_that_do_no_harm_are_not_warned_of():
    x, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LinearClassifier(random_state=0))
    assert not fitted(model, x, y)
    assert not fitted(LinearRegressor(solver="lbfgs", alpha=0.0, tol=1e-8), X * [30, 1, 0.05], Y)

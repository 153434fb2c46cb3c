"""What scikit-learn's own tests of its networks and SGD models ask, asked of ours.

docs/scikit-learn.md says which of them do not apply, and why.
"""

import warnings

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from stepsize.interop import sklearn as sk

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS, DIGIT = (part[:200] for part in load_digits(n_class=2, return_X_y=True))
DIGITS = DIGITS / 16
IRIS, KIND = load_iris(return_X_y=True)
IRIS = StandardScaler().fit_transform(IRIS)
TABLE, VALUE = make_regression(200, 10, bias=20.0, noise=100.0, random_state=7)
VALUE = (VALUE - VALUE.mean()) / VALUE.std()
ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
NETWORKS = [sk.MLPClassifier, sk.MLPRegressor]


# Networks.


def test_a_larger_penalty_makes_smaller_weights():
    sizes = [
        [
            np.abs(w).sum()
            for w in sk.MLPClassifier((10,), alpha=alpha, random_state=1, max_iter=60)
            .fit(DIGITS, DIGIT)
            .coefs_
        ]
        for alpha in (0.0, 5.0)
    ]
    assert all(large < none for none, large in zip(*sizes, strict=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lbfgs_reaches_what_scikit_learn_asks(activation):
    same = {"solver": "lbfgs", "random_state": 1, "activation": activation}
    digits = sk.MLPClassifier((50,), max_iter=150, **same).fit(DIGITS[:150], DIGIT[:150])
    assert digits.score(DIGITS[:150], DIGIT[:150]) > 0.95
    table = sk.MLPRegressor(hidden_layer_sizes=(50,), tol=1e-3, **same).fit(TABLE, VALUE)
    assert table.score(TABLE, VALUE) > (0.8 if activation == "identity" else 0.98)


def test_max_fun_bounds_the_iterations():
    model = sk.MLPRegressor(solver="lbfgs", max_fun=10, tol=0.0, random_state=1)
    with pytest.warns(ConvergenceWarning, match="max_fun"):
        model.fit(TABLE, VALUE)
    assert model.n_iter_ <= 10


def test_an_adaptive_rate_falls_until_it_is_too_small():
    same = {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "max_iter": 3000}
    x, y = np.array([[3, 2], [1, 6]]), [1, 0]
    ours, theirs = (c(**same, random_state=0).fit(x, y) for c in (sk.MLPClassifier, MLPClassifier))
    assert ours.n_iter_ == theirs.n_iter_ < 3000
    assert ours._optimizer.lr * ours._optimizer.lr_scale < 1e-6


def test_invscaling_counts_the_rows_of_every_fit():
    model = sk.MLPClassifier(
        (4,), solver="sgd", learning_rate="invscaling", power_t=0.25, max_iter=1, warm_start=True
    )
    x, y = np.array([[3, 2], [1, 6], [5, 6], [-2, -4]]), [1, 1, 1, 0]
    model.fit(x, y).fit(x, y)
    assert model._optimizer.lr_scale == pytest.approx((8 + 1) ** -0.25)


@pytest.mark.parametrize("patience", [2, 5, 20, np.inf])
def test_the_patience_is_counted_as_in_scikit_learn(patience):
    same = {"solver": "sgd", "tol": 0.01, "n_iter_no_change": patience, "random_state": 0}
    ours, theirs = (
        c((10,), **same, max_iter=120).fit(DIGITS, DIGIT) for c in (sk.MLPClassifier, MLPClassifier)
    )
    assert ours.n_iter_ == theirs.n_iter_
    assert (ours.n_iter_ == 120) == (patience == np.inf)


@pytest.mark.parametrize("make", NETWORKS)
def test_partial_fits_are_one_fit_where_the_order_is_the_same(make):
    same = {"shuffle": False, "random_state": 1, "hidden_layer_sizes": (10,), "tol": 0.0}
    once = make(max_iter=30, **same).fit(DIGITS, DIGIT)
    parts = make(**same)
    for _ in range(30):
        extra = {"classes": [0, 1]} if make is sk.MLPClassifier else {}
        parts.partial_fit(DIGITS, DIGIT, **extra)
    assert np.array_equal(parts.predict(DIGITS), once.predict(DIGITS))


def test_a_class_that_comes_later_is_learnt_if_it_was_announced():
    model = sk.MLPClassifier(random_state=0)
    model.partial_fit([[1], [2], [3]], ["a", "b", "c"], classes=["a", "b", "c", "d"])
    model.partial_fit([[4]], ["d"])
    assert model.score([[1], [2], [3], [4]], ["a", "b", "c", "d"]) > 0
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit([[4]], ["d"], classes=["a", "e"])


def test_shuffling_is_repeated_by_its_random_state_and_changes_the_weights():
    same = {"hidden_layer_sizes": (1,), "max_iter": 1, "batch_size": 1, "random_state": 0}
    models = [
        sk.MLPRegressor(shuffle=shuffle, **same).fit(TABLE, VALUE)
        for shuffle in (True, True, False)
    ]
    first, again, ordered = (model.coefs_[0] for model in models)
    assert np.array_equal(first, again) and not np.array_equal(first, ordered)


@pytest.mark.parametrize("make", NETWORKS)
def test_float32_predicts_nearly_what_float64_does(make):
    same = {"hidden_layer_sizes": (5, 3), "random_state": 1, "max_iter": 40}
    wide, narrow = (make(**same).fit(DIGITS.astype(d), DIGIT) for d in (np.float64, np.float32))
    answer = "predict_proba" if make is sk.MLPClassifier else "predict"
    ends = [getattr(m, answer)(DIGITS.astype(m.coefs_[0].dtype)) for m in (wide, narrow)]
    np.testing.assert_allclose(*ends, atol=5e-3)


def test_a_model_loaded_by_joblib_trains_on(tmp_path):
    model = sk.MLPRegressor(hidden_layer_sizes=(42,), random_state=42, learning_rate_init=0.01)
    joblib.dump(model.fit([[2.0]], [4.0]), tmp_path / "model.pkl")
    loaded = joblib.load(tmp_path / "model.pkl")
    for _ in range(100):
        loaded.partial_fit([[2.0]], [1.0])
    np.testing.assert_allclose(loaded.predict([[2.0]]), [1.0], rtol=1e-2)


@pytest.mark.parametrize("make", NETWORKS)
def test_names_of_features_raise_no_warning_under_early_stopping(make):
    import pandas

    x = pandas.DataFrame(np.random.RandomState(0).randn(40, 2), columns=["a", "b"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make(early_stopping=True, validation_fraction=0.2, max_iter=5)
        model.fit(x, pandas.Series(np.arange(40) % 2, name="y"))


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_a_warm_start_makes_max_iter_epochs_each_time(make, solver):
    model = make(
        (8,) if make is sk.MLPClassifier else "squared_error",
        solver=solver,
        warm_start=True,
        max_iter=4,
        n_iter_no_change=np.inf,
        random_state=0,
    )
    for most in (4, 8):
        with pytest.warns(ConvergenceWarning):
            model.set_params(max_iter=most).fit(IRIS, KIND)
        assert model.n_iter_ == most


def test_scores_of_the_validation_go_on_after_a_warm_start():
    model = sk.MLPClassifier(max_iter=4, random_state=0, warm_start=True, early_stopping=True)
    first = len(model.fit(IRIS, KIND).validation_scores_)
    assert len(model.fit(IRIS, KIND).validation_scores_) > first


def test_weights_of_one_are_no_weights():
    same = {"hidden_layer_sizes": (10,), "early_stopping": True, "batch_size": 10, "max_iter": 20}
    models = [
        sk.MLPRegressor(random_state=42, **same).fit(TABLE, VALUE, weight)
        for weight in (None, np.ones(200))
    ]
    np.testing.assert_allclose(*[model.predict(TABLE) for model in models])


def test_a_poisson_network_of_one_unit_is_a_generalized_linear_model():
    x = np.linspace(0, 1, 100)[:, None]
    y = np.random.default_rng(0).poisson(np.exp(x[:, 0] + 1))
    theirs = PoissonRegressor(alpha=0, tol=1e-7).fit(x, y)
    ours = sk.MLPRegressor(
        "poisson", (1,), "identity", alpha=0, solver="lbfgs", tol=1e-7, random_state=1
    ).fit(x, y)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-4)


@pytest.mark.parametrize("given", [{}, {"solver": "sgd", "learning_rate_init": 0.1}])
def test_a_learnt_table_scores_as_scikit_learn_does(given):
    same = {"hidden_layer_sizes": (20,), "max_iter": 60, "random_state": 4, **given}
    ours, theirs = (c(**same).fit(TABLE, VALUE) for c in (sk.MLPRegressor, MLPRegressor))
    assert ours.score(TABLE, VALUE) == pytest.approx(theirs.score(TABLE, VALUE), abs=1e-6)


# Linear models.


def test_a_smaller_tolerance_and_more_patience_take_longer():
    def epochs(**given):
        return sk.LinearClassifier(lr=0.05, random_state=0, **given).fit(IRIS, KIND).n_iter_

    by_tol = [epochs(tol=tol) for tol in (0.1, 0.01, 0.001)]
    by_patience = [epochs(tol=0.01, n_iter_no_change=n) for n in (2, 5, 10)]
    assert by_tol == sorted(set(by_tol)) and by_patience == sorted(set(by_patience))


def test_an_adaptive_rate_goes_on_longer_than_a_constant_one():
    constant, adaptive = (
        sk.LinearRegressor(solver="sgd", lr=0.01, learning_rate=kind, random_state=0).fit(
            IRIS, KIND
        )
        for kind in ("constant", "adaptive")
    )
    assert adaptive.n_iter_ > constant.n_iter_


def test_early_stopping_trains_on_the_other_rows_only():
    class Look:
        def on_step(self, run):
            seen.append(run.batch)

    seen = []
    same = {"lr": 0.05, "tol": 0.0, "n_iter_no_change": 99, "shuffle": False}
    stopped = sk.LinearClassifier(
        early_stopping=True, random_state=0, max_iter=10, callbacks=[Look()], **same
    ).fit(IRIS, KIND)
    x, y = seen[0]
    assert len(x) == 135 and np.bincount(y).tolist() == [45, 45, 45]
    best = int(np.argmax(stopped.validation_scores_)) + 1
    plain = sk.LinearClassifier(max_iter=best, **same).fit(x, y)
    np.testing.assert_allclose(stopped.coef_, plain.coef_)


def test_weights_of_classes_and_of_rows_are_multiplied():
    by_class, by_row = {0: 0.5, 1: 2.0, 2: 1.0}, np.random.default_rng(0).uniform(1, 2, 150)
    both = sk.LinearClassifier(lr=0.05, class_weight=by_class, max_iter=20, random_state=0)
    product = sk.LinearClassifier(lr=0.05, max_iter=20, random_state=0)
    both.fit(IRIS, KIND, by_row)
    product.fit(IRIS, KIND, by_row * np.vectorize(by_class.get)(KIND))
    np.testing.assert_allclose(both.coef_, product.coef_)


def test_a_weight_for_no_class_is_refused():
    with pytest.raises(ValueError, match="class_weight"):
        sk.LinearClassifier(class_weight={0: 0.5, 9: 1.0}).fit(IRIS, KIND)


def test_balanced_classes_find_the_rare_one():
    rows = np.r_[np.flatnonzero(KIND == 1), np.flatnonzero(KIND == 2)[:6]]
    x, y = IRIS[rows][:, :2], KIND[rows]
    found = [
        (sk.LinearClassifier(class_weight=weight, random_state=0).fit(x, y).predict(x) == 2).sum()
        for weight in (None, "balanced")
    ]
    assert found[1] > found[0]


def test_a_large_penalty_leaves_no_weight():
    for make in (sk.LinearClassifier, sk.LinearRegressor):
        assert np.abs(make(alpha=1e5, random_state=0).fit(IRIS, KIND).coef_).max() < 1e-3


def test_another_fit_may_have_other_classes():
    model = sk.LinearClassifier(max_iter=5).fit(IRIS, KIND)
    names = np.array(["a", "b"])[(KIND > 0).astype(int)]
    assert model.fit(IRIS, names).classes_.tolist() == ["a", "b"]
    assert model.coef_.shape == (1, 4)


@pytest.mark.parametrize("make", [sk.LinearClassifier, sk.LinearRegressor])
def test_a_random_state_repeats_a_fit_and_another_does_not(make):
    same = {"lr": 0.05, "max_iter": 2, "batch_size": 10}
    coefs = [make(random_state=s, **same).fit(IRIS, KIND).coef_ for s in (9, 9, 10)]
    assert np.array_equal(coefs[0], coefs[1]) and not np.array_equal(coefs[0], coefs[2])


@pytest.mark.parametrize("make", [sk.LinearRegressor, sk.MLPRegressor, sk.LinearClassifier])
def test_a_split_without_weight_on_one_side_is_refused_by_name(make):
    weight = np.r_[1.0, np.zeros(149)]
    with pytest.raises(ValueError, match=r"sample_weight is 0 in all (15|135) rows"):
        make(early_stopping=True, random_state=0).fit(IRIS, KIND, weight)

"""The scikit-learn estimators: its own conformance checks, its numbers, and what is new."""

import copy
import doctest
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import stepsize as ss

sk = ss.interop.sklearn
RULES = [cls.__name__ for cls in ss.optimizers.registry()]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def small(**parameters):
    return {"hidden_layer_sizes": (10,), "random_state": 0, **parameters}


@pytest.fixture(scope="module")
def iris():
    x, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(x), np.array(["setosa", "versicolor", "virginica"])[y]


@pytest.fixture(scope="module")
def diabetes():
    x, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(x), (y - y.mean()) / y.std()


ESTIMATORS = [
    sk.MLPClassifier((30,), max_iter=100),
    sk.MLPRegressor(hidden_layer_sizes=(30,), max_iter=100),
    sk.LinearClassifier(max_iter=100),
    sk.LinearRegressor(max_iter=100),
]


def applies(estimator, check):
    """Whether a check looks at anything: two would only say that they do not."""
    name = check.func.__name__
    array_api = (
        name == "check_array_api_input"
    )  # arrays of other libraries, behind a switch of SciPy
    return not array_api and (
        name != "check_classifiers_multilabel_output_format_decision_function"
        or hasattr(estimator, "decision_function")
    )


CHECKS = [
    pytest.param(estimator, check, id=f"{type(estimator).__name__}-{check.func.__name__}")
    for one in ESTIMATORS
    for estimator, check in estimator_checks_generator(one)
    if applies(estimator, check)
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_conformance(estimator, check):
    check(estimator)


# What scikit-learn does too.


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize(
    "solver",
    [
        {"solver": "adam", "epsilon": 1e-14},
        {"solver": "sgd", "learning_rate_init": 0.1},
        {"solver": "sgd", "learning_rate_init": 0.1, "nesterovs_momentum": False},
        {"solver": "sgd", "learning_rate": "adaptive", "momentum": 0.0, "tol": 0.01},
        {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.0, "power_t": 0.1},
    ],
    ids=lambda d: "-".join(map(str, d.values())),
)
@pytest.mark.parametrize("classes", [2, 3])
def test_losses_are_those_of_scikit_learn(iris, activation, solver, classes):
    x, y = iris[0][: 50 * classes], iris[1][: 50 * classes]
    same = small(activation=activation, batch_size=len(x), shuffle=False, max_iter=40, alpha=0.1)
    theirs = MLPClassifier(**same, **solver).fit(x, y)
    ours = sk.MLPClassifier(**same, **solver).fit(x, y)
    # Rounding differs: the bias corrections are multiplied in another order.
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=1e-8)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-7)
    assert ours.n_iter_ == theirs.n_iter_ and ours.t_ == theirs.t_
    assert ours.out_activation_ == theirs.out_activation_


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_losses_of_regression_are_those_of_scikit_learn(diabetes, loss, random):
    x, y = diabetes[0], np.abs(diabetes[1])
    weights = random.uniform(0.5, 2, len(x))
    same = small(loss=loss, epsilon=1e-14, batch_size=len(x), shuffle=False, max_iter=40)
    theirs = MLPRegressor(**same).fit(x, y, weights)
    ours = sk.MLPRegressor(**same).fit(x, y, weights)
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=1e-8)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-6)
    assert ours.out_activation_ == theirs.out_activation_


def test_a_multilabel_network_is_that_of_scikit_learn(iris):
    x, y = iris[0], np.stack([iris[0][:, 0] > 0, iris[0][:, 1] > 0.5], axis=1).astype(int)
    same = small(epsilon=1e-14, batch_size=len(x), shuffle=False, max_iter=40)
    ours, theirs = sk.MLPClassifier(**same).fit(x, y), MLPClassifier(**same).fit(x, y)
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=1e-8)
    assert np.array_equal(ours.predict(x), theirs.predict(x))


def test_names_and_defaults_are_those_of_scikit_learn():
    for ours, theirs in ((sk.MLPClassifier, MLPClassifier), (sk.MLPRegressor, MLPRegressor)):
        mine = ours().get_params()
        assert {name: mine[name] for name in theirs().get_params()} == theirs().get_params()


def test_what_a_fit_leaves_is_what_scikit_learn_leaves(iris):
    for early in (False, True):
        both = [cls(early_stopping=early, max_iter=5) for cls in (MLPClassifier, sk.MLPClassifier)]
        theirs, ours = (
            {n for n in dir(m.fit(*iris)) if n.endswith("_") and n[0] != "_"} for m in both
        )
        assert theirs <= ours


# What is new.


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_trains(diabetes, rule):
    x, y = diabetes
    model = sk.MLPRegressor(solver=rule, lr="auto", max_iter=15, **small()).fit(x, y)
    # Not the last: rules that find the rate by themselves overshoot before they settle.
    assert min(model.loss_curve_) < model.loss_curve_[0]
    assert len(model.loss_curve_) == model.n_iter_


def test_a_solver_is_a_name_a_class_or_a_function(iris):
    models = [
        sk.MLPClassifier(solver=solver, lr=0.01, max_iter=5, **small()).fit(*iris)
        for solver in ("adamw", "AdamW", ss.AdamW, lambda p: ss.Centralize(ss.AdamW(p)))
    ]
    curves = [model.loss_curve_ for model in models]
    assert curves[0] == curves[1] == curves[2] != curves[3]


def test_a_schedule_counts_steps(iris):
    rate = ss.schedules.linear(0.01, 0.0, 30)
    model = sk.MLPClassifier(lr=rate, max_iter=10, batch_size=50, **small()).fit(*iris)
    assert np.array_equal(model.history_["lr"], rate.values(30))


@pytest.mark.parametrize("solver", ["adam", "sgd", "adamw", "schedule_free_adamw", "lbfgs"])
@pytest.mark.parametrize(
    "carry", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_warm_start_is_a_longer_fit(iris, solver, carry):
    same = small(solver=solver, shuffle=False, warm_start=True)
    once = sk.MLPClassifier(max_iter=12, **same).fit(*iris)
    twice = carry(sk.MLPClassifier(max_iter=6, **same).fit(*iris)).fit(*iris)
    assert twice.loss_curve_ == once.loss_curve_
    assert all(map(np.array_equal, twice.coefs_, once.coefs_))


def test_partial_fit_is_one_epoch(iris):
    same = small(shuffle=False, lr=ss.schedules.linear(0.1, 0.0, 10), batch_size=30)
    once = sk.MLPClassifier(max_iter=2, **same).fit(*iris)
    parts = sk.MLPClassifier(**same)
    for _ in range(2):
        parts.partial_fit(*iris, classes=np.unique(iris[1]))
    assert parts.loss_curve_ == once.loss_curve_


def test_a_rate_set_between_two_fits_keeps_the_state(iris):
    model = sk.MLPClassifier(max_iter=3, warm_start=True, **small()).fit(*iris)
    model.set_params(learning_rate_init=0.5).fit(*iris)
    assert set(model.history_["lr"]) == {0.5} and model._optimizer.step_count == 6
    model.set_params(learning_rate_init=0.001, lr="auto").fit(*iris)
    assert set(model.history_["lr"]) == {model.lr_find_.suggestion}
    assert model._optimizer.step_count == 9
    model.set_params(lr=None, solver="adamw").fit(*iris)
    assert set(model.history_["lr"]) == {0.001} and model._optimizer.step_count == 3


def test_auto_finds_a_rate(iris):
    model = sk.MLPClassifier(lr="auto", max_iter=30, **small()).fit(*iris)
    assert set(model.history_["lr"]) == {model.lr_find_.suggestion}
    assert model.score(*iris) > 0.95
    assert not hasattr(sk.MLPClassifier(solver="prodigy", lr="auto").fit(*iris), "lr_find_")


def test_an_average_is_the_answer(iris):
    model = sk.MLPClassifier(solver="schedule_free_adamw", max_iter=5, **small()).fit(*iris)
    training = model._optimizer.params["coefs"][0].copy()
    with model._optimizer.averaged() as params:
        assert np.array_equal(model.coefs_[0], params["coefs"][0])
    assert not np.array_equal(model.coefs_[0], training)


@pytest.mark.parametrize("solver", ["adam", "lbfgs", "schedule_free_adamw"])
def test_float32_stays_float32(iris, solver):
    x = iris[0].astype(np.float32)
    model = sk.MLPClassifier(solver=solver, max_iter=5, **small()).fit(x, iris[1])
    assert {w.dtype for w in model.coefs_ + model.intercepts_} == {np.dtype(np.float32)}
    assert model.predict_proba(x).dtype == np.float32
    assert model.fit(iris[0], iris[1]).coefs_[0].dtype == np.float64


def test_early_stopping_answers_with_the_best(iris):
    model = sk.MLPClassifier(
        early_stopping=True, lr=0.2, n_iter_no_change=5, validation_fraction=0.3, **small()
    ).fit(*iris)
    assert model.n_iter_ < 200 and "validation score did not improve" in model.history_.stopped
    assert model.best_validation_score_ == max(model.validation_scores_)
    scores = model.history_["val_score"]
    assert scores[np.isfinite(scores)].tolist() == model.validation_scores_


def test_class_weight_counts_rows_more(iris):
    x, y = iris
    weight = {"setosa": 1.0, "versicolor": 5.0, "virginica": 0.2}
    by_row = np.vectorize(weight.get)(y)
    one = sk.MLPClassifier(class_weight=weight, max_iter=5, **small()).fit(x, y)
    two = sk.MLPClassifier(max_iter=5, **small()).fit(x, y, by_row)
    assert one.loss_curve_ == two.loss_curve_


def test_linear_models_have_the_shapes_of_scikit_learn(iris, diabetes):
    three = sk.LinearClassifier(random_state=0).fit(*iris)
    two = sk.LinearClassifier(random_state=0).fit(iris[0][:100], iris[1][:100])
    line = sk.LinearRegressor(
        solver="lbfgs", alpha=0.0, tol=1e-9, solver_options={"tolerance_change": 1e-15}
    ).fit(*diabetes)
    shapes = [(m.coef_.shape, m.intercept_.shape) for m in (three, two, line)]
    assert shapes == [((3, 4), (3,)), ((1, 4), (1,)), ((10,), (1,))]
    score = two.decision_function(iris[0])
    assert np.array_equal(score, (iris[0] @ two.coef_.T + two.intercept_)[:, 0])
    assert np.array_equal(two.predict(iris[0]), two.classes_[(score > 0).astype(int)])
    assert three.decision_function(iris[0]).shape == (150, 3)
    x = np.c_[diabetes[0], np.ones(len(diabetes[0]))]
    best = np.linalg.lstsq(x, diabetes[1], rcond=None)[0]
    np.testing.assert_allclose(np.r_[line.coef_, line.intercept_], best, atol=1e-6)
    through = sk.LinearRegressor(fit_intercept=False, random_state=0).fit(
        diabetes[0], 1 + diabetes[1]
    )
    assert through.intercept_.tolist() == [0.0]


def test_the_tools_of_scikit_learn_take_it(iris):
    pipe = make_pipeline(StandardScaler(), sk.MLPClassifier(lr=0.05, max_iter=20, **small()))
    assert cross_val_score(pipe, *iris, cv=3).mean() > 0.9
    grid = {"mlpclassifier__solver": ["adamw", "lion"], "mlpclassifier__lr": [0.001, 0.05]}
    found = GridSearchCV(pipe, grid, cv=3).fit(*iris)
    assert found.best_params_["mlpclassifier__lr"] == 0.05
    assert clone(pipe).get_params()["mlpclassifier__max_iter"] == 20


def test_callbacks_see_the_run(iris):
    class Seen:
        def on_epoch(self, run):
            seen.append(run.epoch)

    seen = []
    sk.MLPClassifier(max_iter=3, callbacks=[Seen()], **small()).fit(*iris)
    assert seen[-3:] == [1, 2, 3]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"solver": "adan_w"}, "no solver 'adan_w'; there is 'Adan'"),
        ({"activation": "gelu"}, "activation must be one of 'identity', 'logistic'"),
        ({"max_iter": 0}, "max_iter must be a whole number >= 1, got 0"),
        ({"lr": "fast"}, "lr must be a number, a schedule or 'auto', got 'fast'"),
        ({"lr": -1.0}, "lr must be a finite number >= 0"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be a whole number >= 1"),
        ({"solver_options": {"speed": 1}}, "speed"),
        ({"alpha": None}, "alpha must be a number >= 0, got None"),
    ],
)
def test_refusals_name_the_parameter(iris, parameters, words):
    with pytest.raises((ValueError, TypeError), match=words):
        sk.MLPClassifier(**parameters).fit(*iris)


def test_partial_fit_refuses_what_needs_all_rows(iris):
    for parameters in ({"early_stopping": True}, {"class_weight": "balanced"}):
        with pytest.raises(ValueError, match="partial_fit"):
            sk.MLPClassifier(**parameters).partial_fit(*iris, classes=np.unique(iris[1]))


def test_a_fit_that_did_not_converge_says_so(diabetes):
    with pytest.warns(ConvergenceWarning, match="after max_iter=2 epochs"):
        sk.MLPRegressor(max_iter=2, **small()).fit(*diabetes)
    with pytest.raises(ValueError, match=r"diverged at step .* lr='auto'"):
        sk.MLPRegressor(solver="sgd", lr=1e6, **small()).fit(*diabetes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sk.LinearRegressor().fit(*diabetes)


def test_the_examples_run():
    for name in sk.__all__:
        cls = getattr(sk, name)
        tests = doctest.DocTestFinder(recurse=False).find(cls, name, globs={})
        assert doctest.DocTestRunner().run(tests[0]).failed == 0
        assert tests[0].examples

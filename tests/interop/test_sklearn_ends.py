"""Estimators: what ends a fit, what is warned of, and what a second fit goes on with."""

import signal
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import stepsize as ss
from stepsize.interop import sklearn as sk

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4))
Y = X @ [1.0, -2.0, 0.5, 0.0] + 0.1 * RNG.normal(size=120)
LABELS = np.where(Y > 0, "up", "down")
SMALL = {"hidden_layer_sizes": (8,), "random_state": 0}


def said(fit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    return [str(w.message) for w in caught]


@pytest.mark.parametrize("n", [401, 425, 433, 449])
def test_a_last_batch_of_few_rows_ends_no_fit(n):
    """The loss of an epoch is a mean over rows: a batch of one row weighs like one row."""
    from sklearn.datasets import make_regression

    x, y = make_regression(n, 10, noise=20, random_state=0)
    same = {"random_state": 0, "max_iter": 60, "hidden_layer_sizes": (20,)}
    ours, theirs = sk.MLPRegressor(**same), MLPRegressor(**same)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours.fit(x, y), theirs.fit(x, y)
    assert ours.n_iter_ == theirs.n_iter_ == 60
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=0.05)


@pytest.mark.parametrize("make", [sk.MLPRegressor, sk.MLPClassifier])
@pytest.mark.parametrize("before", [False, True])
def test_a_diverged_fit_raises_and_leaves_what_was_fitted(make, before):
    y = Y if make is sk.MLPRegressor else LABELS
    model = make(max_iter=2, **SMALL)
    if before:
        said(lambda: model.fit(X, y))
    kept = {name: value for name, value in vars(model).items() if name.endswith("_")}
    model.set_params(solver="sgd", learning_rate_init=1e150)
    with pytest.raises(ValueError, match=f"{make.__name__}: diverged at step .* scale the data"):
        model.fit(X * 1e100, y)
    now = {name: value for name, value in vars(model).items() if name.endswith("_")}
    assert now.keys() == kept.keys() and all(now[name] is kept[name] for name in kept)


def test_max_fun_is_no_convergence():
    model = sk.MLPRegressor(solver="lbfgs", max_fun=5, **SMALL)
    assert (
        "not converged: the function was called max_fun=5 times" in said(lambda: model.fit(X, Y))[0]
    )


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_partial_fit_is_there_where_it_works(solver):
    for model in (sk.MLPClassifier(solver=solver), sk.LinearRegressor(solver=solver)):
        assert hasattr(model, "partial_fit") == (solver == "adam")


def test_learning_rate_init_is_used_or_said_not_to_be():
    model = sk.MLPClassifier(solver="adamw", learning_rate_init=0.1, max_iter=2, **SMALL)
    said(lambda: model.fit(X, LABELS))
    assert set(model.history_["lr"]) == {0.1}
    model = sk.MLPClassifier(solver="lbfgs", learning_rate_init=0.1, **SMALL)
    assert any(
        "learning_rate_init=0.1 is not used by 'lbfgs'" in w
        for w in said(lambda: model.fit(X, LABELS))
    )


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_best_loss_is_that_of_scikit_learn(early_stopping):
    same = {"early_stopping": early_stopping, "max_iter": 4, **SMALL}
    ours, theirs = sk.MLPClassifier(**same), MLPClassifier(**same)
    said(lambda: (ours.fit(X, LABELS), theirs.fit(X, LABELS)))
    assert (ours.best_loss_ is None) == (theirs.best_loss_ is None) == early_stopping


def test_a_class_of_one_row_is_named_by_its_label():
    labels = np.full(len(X), "here", "<U9")
    labels[3] = "elsewhere"
    for model in (sk.MLPClassifier(early_stopping=True), sk.LinearClassifier(early_stopping=True)):
        with pytest.raises(ValueError, match="elsewhere"):
            model.fit(X, labels)


def test_one_class_is_answered_as_scikit_learn_does():
    labels = np.full(len(X), "only")
    ours, theirs = sk.MLPClassifier(max_iter=3, **SMALL), MLPClassifier(max_iter=3, **SMALL)
    said(lambda: (ours.fit(X, labels), theirs.fit(X, labels)))
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    assert np.array_equal(ours.predict_proba(X), np.ones((len(X), 1)))
    with pytest.raises(ValueError, match="y holds one class"):
        sk.LinearClassifier().fit(X, labels)


# A schedule counts the steps of one fit; partial_fit goes along it.


def rates(steps):
    return ss.schedules.linear(0.1, 0.0, steps)


def test_a_warm_start_starts_its_schedule_anew():
    model = sk.MLPClassifier(
        lr=rates(30), batch_size=40, max_iter=10, warm_start=True, n_iter_no_change=99, **SMALL
    )
    said(lambda: model.fit(X, LABELS))
    first, coefs = model.history_["lr"], [w.copy() for w in model.coefs_]
    said(lambda: model.fit(X, LABELS))
    assert np.array_equal(model.history_["lr"], first)
    assert not np.array_equal(model.coefs_[0], coefs[0])
    assert model._optimizer.step_count == 60


def test_a_warm_start_of_an_adaptive_rate_starts_at_the_rate():
    model = sk.MLPClassifier(
        solver="sgd", learning_rate="adaptive", tol=0.1, warm_start=True, max_iter=60, **SMALL
    )
    for _ in range(2):
        said(lambda: model.fit(X, LABELS))
        assert model.history_["lr"][0] == 0.001 > model.history_["lr"][-1]


def test_partial_fit_along_a_schedule_is_silent_until_its_end():
    model = sk.MLPRegressor(lr=rates(12), batch_size=40, **SMALL)
    for _ in range(4):
        assert not said(lambda: model.partial_fit(X, Y))
    coefs = model.coefs_[0].copy()
    assert "the rate was 0 in all 3 steps" in said(lambda: model.partial_fit(X, Y))[0]
    assert np.array_equal(model.coefs_[0], coefs)


# Linear models, and networks that learnt nothing.


@pytest.mark.parametrize("offset", [0.0, 100.0, -1e4])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_offset_of_the_target_costs_nothing(offset, weighted):
    weight = RNG.uniform(0.5, 2, len(X)) if weighted else None
    mixed = X @ RNG.normal(size=(4, 12)) + 0.3 * RNG.normal(size=(120, 12))  # correlated features
    model = sk.LinearRegressor(random_state=0).fit(mixed, mixed[:, 0] + offset, weight)
    assert model.score(mixed, mixed[:, 0] + offset) > 0.97


@pytest.mark.parametrize("make", [sk.MLPRegressor, sk.MLPClassifier])
def test_a_network_that_learnt_nothing_says_so(make):
    y = Y if make is sk.MLPRegressor else LABELS

    class Kill:
        def on_step(self, run):
            run.params["coefs"][-1][...] = 0
            run.params["intercepts"][-1][...] = Y.mean() if make is sk.MLPRegressor else 0

    model = make(callbacks=[Kill()], max_iter=200, tol=0.5, n_iter_no_change=2, **SMALL)
    assert any("no lower than that of a constant" in w for w in said(lambda: model.fit(X, y)))
    model = make(solver="adam", learning_rate_init=0.03, tol=0.01, **SMALL)
    assert not said(lambda: model.fit(X, y))


def test_convergence_is_a_warning_of_scikit_learn():
    with pytest.warns(ConvergenceWarning, match="after max_iter=2 epochs"):
        sk.MLPRegressor(max_iter=2, **SMALL).fit(X, Y)


def test_a_fit_that_diverges_keeps_the_best_of_its_validations():
    same = {"activation": "identity", "solver": "sgd", "learning_rate_init": 1, "max_iter": 20}
    model = sk.MLPRegressor(early_stopping=True, random_state=0, **same)
    with pytest.warns(ConvergenceWarning, match="diverged at step .* best validation score"):
        model.fit(3 * X, 3 * Y)
    assert all(np.isfinite(w).all() for w in model.coefs_) and model._optimizer is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(early_stopping=False, learning_rate_init=1e-9, warm_start=True)
        assert np.isfinite(model.fit(X, Y).loss_)


def test_an_interrupted_fit_says_so():
    class Press:
        def on_epoch(self, run):
            if run.epoch == 2:
                signal.raise_signal(signal.SIGINT)

    model = sk.MLPRegressor(callbacks=[Press()], **SMALL)
    with pytest.warns(ConvergenceWarning, match="not converged: interrupted after step 2"):
        model.fit(X, Y)
    assert model.n_iter_ == 2


def test_the_loss_of_lbfgs_is_that_of_the_weights_it_leaves():
    for most in (1, 5, 500):
        model = sk.MLPRegressor(solver="lbfgs", alpha=0.0, max_iter=most, **SMALL)
        said(lambda model=model: model.fit(X, Y))
        assert model.loss_ == pytest.approx(np.mean((model.predict(X) - Y) ** 2) / 2)
        assert model.loss_ == model.loss_curve_[-1] == model.best_loss_


def test_a_line_search_that_fails_goes_on_along_the_gradient():
    """At a kink of |x| nothing is found along the direction of the curvature; a ReLU has them."""
    x = RNG.normal(size=(60, 3))
    y = 1000 * np.maximum(x @ [1.0, -1.0, 0.5], 0) + 300 * RNG.normal(size=60)
    falls = 0
    for seed in range(6):
        model = sk.MLPRegressor(
            solver="lbfgs", hidden_layer_sizes=(4,), random_state=seed, max_iter=300
        )
        said(lambda model=model: model.fit(x, y))
        still = np.flatnonzero(model.history_["update_ratio"] == 0)
        if len(still):
            losses = [*model.history_["loss"], model.loss_]
            falls += losses[-1] < losses[still[0]]
    assert falls >= 1


def test_a_first_line_search_that_finds_nothing_is_no_convergence():
    class Wall:
        def __call__(self, params, batch):
            self.calls = getattr(self, "calls", 0) + 1
            return float(self.calls), {name: [a + 1 for a in params[name]] for name in params}

    model = sk.MLPRegressor(solver="lbfgs", **SMALL)
    model._network = lambda mass: Wall()
    assert any("finds no lower point than the start" in w for w in said(lambda: model.fit(X, Y)))


def test_a_batch_size_above_the_rows_is_said():
    for make, y in ((sk.MLPRegressor, Y), (MLPRegressor, Y)):
        model = make(batch_size=500, max_iter=1, **SMALL)
        assert any("batch_size" in w for w in said(lambda model=model, y=y: model.fit(X, y)))
    assert not said(lambda: sk.LinearRegressor(solver="lbfgs", batch_size=500).fit(X, Y))


@pytest.mark.parametrize("make", [sk.MLPRegressor, sk.LinearRegressor])
def test_a_share_of_zero_is_refused_only_where_it_is_used(make):
    said(lambda: make(validation_fraction=0.0, max_iter=1).fit(X, Y))
    with pytest.raises(ValueError, match="got validation_fraction=0; give a share"):
        make(validation_fraction=0.0, early_stopping=True).fit(X, Y)


def test_one_row_of_a_class_among_several_is_drawn_as_scikit_learn_draws_it():
    labels = LABELS.copy().astype("<U9")
    labels[3] = "elsewhere"
    same = {"early_stopping": True, "max_iter": 4, **SMALL}
    ours, theirs = sk.MLPClassifier(**same), MLPClassifier(**same)
    said(lambda: (ours.fit(X, labels), theirs.fit(X, labels)))
    assert ours.validation_scores_ == theirs.validation_scores_


@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
@pytest.mark.parametrize("cls", [sk.MLPClassifier, sk.MLPRegressor])
def test_masked_data_are_refused_by_name(cls, name):
    given = {"X": np.ones((20, 2)), "y": np.arange(20) % 2, "sample_weight": np.ones(20)}
    given[name] = np.ma.masked_array(given[name], given[name] > 2)
    with pytest.raises(TypeError, match=rf"{cls.__name__}: {name} is a masked array, whose mask"):
        cls(max_iter=1).fit(**given)


def test_masked_rows_are_not_predicted():
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    model = sk.MLPClassifier(max_iter=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    with pytest.raises(TypeError, match="MLPClassifier: X is a masked array"):
        model.predict(np.ma.masked_array(X))


ESTIMATORS = [sk.LinearClassifier, sk.LinearRegressor, sk.MLPClassifier, sk.MLPRegressor]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("size", [2.0**1000, 2.0**1021, 2.0**1023])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_weights_of_any_size_that_are_equal_are_no_weights(cls, size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = x @ [1.0, -2.0, 0.5]
    y = (y > 0).astype(int) if issubclass(cls, sk.LinearClassifier | sk.MLPClassifier) else y
    found = [
        cls(random_state=0, max_iter=5, alpha=0.0).fit(x, y, weight).coefs_[0]
        for weight in (np.ones(60), np.full(60, size))
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_weights_that_leave_no_number_are_refused_by_name(cls):
    x, y = np.eye(8), np.arange(8) % 2
    with pytest.raises(ValueError, match=f"{cls.__name__}: sample_weight .*too small to divide"):
        cls().fit(x, y, np.full(8, 5e-324))
    if issubclass(cls, sk.LinearClassifier | sk.MLPClassifier):
        with pytest.raises(ValueError, match=r"its product with class_weight, got inf in row 0"):
            cls(class_weight={0: 1e10, 1: 1.0}).fit(x, y, np.full(8, 1e305))

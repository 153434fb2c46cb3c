"""Networks beside scikit-learn's at the same random_state: the same draws, the same numbers."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import stepsize as ss
from stepsize.interop import sklearn as sk
from stepsize.interop.sklearn.network import LOSSES, Network, draw

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(1)
X = RNG.normal(size=(117, 4))
SIGNAL = X @ [1.0, -2.0, 0.5, 0.0] + 0.3 * RNG.normal(size=117)
TARGETS = {
    "values": SIGNAL,
    "two classes": np.where(SIGNAL > 0, "up", "down"),
    "three classes": np.digitize(SIGNAL, [-1.0, 1.0]),
    "labels": np.stack([SIGNAL > 0, X[:, 0] > 0.5], axis=1).astype(int),
}
SOLVERS = {
    "adam": {},
    "adam, large epsilon": {"epsilon": 1e-2, "beta_2": 0.9},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.03, "n_iter_no_change": 2},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5},
    "no nesterov": {"solver": "sgd", "learning_rate": "invscaling", "nesterovs_momentum": False},
}
SMALL = {"hidden_layer_sizes": (6, 5), "batch_size": 20, "max_iter": 25, "random_state": 3}


def pair(y, **given):
    """Scikit-learn's network for a target, and ours."""
    kinds = (MLPRegressor, sk.MLPRegressor) if y.dtype.kind == "f" else CLASSIFIERS
    return [kind(**{**SMALL, **given}) for kind in kinds]


CLASSIFIERS = (MLPClassifier, sk.MLPClassifier)


def alike(theirs, ours, rtol=1e-9):
    assert ours.n_iter_ == theirs.n_iter_ and ours.t_ == theirs.t_
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=rtol)
    assert (ours.validation_scores_ is None) == (theirs.validation_scores_ is None)
    if ours.validation_scores_ is not None:
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=rtol)
    weights = zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True)
    for mine, reference in weights:
        np.testing.assert_allclose(mine, reference, rtol=rtol, atol=1e-10)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_same_random_state_gives_the_same_numbers(target, solver, early_stopping):
    y = TARGETS[target]
    theirs, ours = pair(y, early_stopping=early_stopping, **SOLVERS[solver])
    alike(theirs.fit(X, y), ours.fit(X, y))


def test_a_random_state_that_is_passed_on_is_left_where_scikit_learn_leaves_it():
    y = TARGETS["three classes"]
    random = [np.random.RandomState(5) for _ in range(2)]
    models = [
        m.set_params(random_state=r, early_stopping=True)
        for m, r in zip(pair(y), random, strict=True)
    ]
    for _ in range(2):  # the second fit draws on
        alike(*[model.fit(X, y) for model in models])
    assert random[0].randint(2**31) == random[1].randint(2**31)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fits_give_the_same_numbers(solver):
    y = TARGETS["two classes"]
    theirs, ours = pair(y, solver=solver)
    for rows in (slice(None), slice(0, 60), slice(40, 110)):
        for model in (theirs, ours):
            model.partial_fit(X[rows], y[rows], classes=["down", "up"])
    alike(theirs, ours)


def test_sparse_rows_are_drawn_alike():
    y, rows = TARGETS["values"], scipy.sparse.csr_matrix(np.where(X > 0, X, 0))
    theirs, ours = pair(y)
    alike(theirs.fit(rows, y), ours.fit(rows, y))


def test_a_batch_size_may_change_within_a_run():
    """The rows come as arrays, so that callbacks can cut them otherwise."""

    class Grow:
        def on_epoch(self, run):
            run.batch_size = 2 * run.batch_size

    model = sk.MLPRegressor(**{**SMALL, "max_iter": 3}, callbacks=[Grow()]).fit(X, SIGNAL)
    assert len(model.history_["loss"]) == 6 + 3 + 2


def test_an_adam_of_another_beta_takes_a_number_for_epsilon():
    model = sk.MLPRegressor(**SMALL, solver_options={"betas": (0.8, 0.9)}).fit(X, SIGNAL)
    assert model._optimizer.eps == 1e-8


def test_the_stream_is_drawn_once_for_an_epoch_asked_for_twice():
    from stepsize.interop.sklearn.drop_in import ShuffledRows

    rows = ShuffledRows((X,), 50, np.random.RandomState(0))
    first, again = rows.order(0), rows.order(0)
    assert np.array_equal(first, again) and not np.array_equal(first, rows.order(1))


# Gradients, and a step by hand.


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_differences_of_the_loss(activation, loss):
    random = np.random.RandomState(0)
    x = random.normal(size=(7, 3))
    y = random.randint(0, 2, 7) if loss == "cross_entropy" else random.randint(0, 2, (7, 2)) * 1.0
    weights = random.uniform(0.5, 2, 7)
    params = draw([3, 4, 2], activation, random, float)
    network = Network(activation, loss, lambda rows: 0.3 / rows)
    grads = network(params, (x, y, weights))[1]
    for kind in ("coefs", "intercepts"):
        for leaf, grad in zip(params[kind], grads[kind], strict=True):
            for index in np.ndindex(leaf.shape):
                ends = []
                for shift in (1e-5, -2e-5):
                    leaf[index] += shift
                    ends.append(network(params, (x, y, weights))[0])
                leaf[index] += 1e-5
                assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(grad[index], abs=1e-8)


def test_a_step_by_hand():
    """One row, two logistic units, one output, rate 0.1, penalty 0.1."""
    x, y = np.array([[1.0, -2.0]]), np.array([[1.0]])
    w, v = np.array([[0.5, 0.25], [0.1, 0.3]]), np.array([[1.0], [-1.0]])
    b, c = np.array([0.2, 0.0]), np.array([0.1])
    params = {"coefs": [w.copy(), v.copy()], "intercepts": [b.copy(), c.copy()]}
    network = Network("logistic", "log_loss", lambda rows: 0.1 / rows)
    ss.SGD(params, lr=0.1).step(network(params, (x, y))[1])
    h = 1 / (1 + np.exp([-0.5, 0.35]))  # 1*0.5 - 2*0.1 + 0.2 and 1*0.25 - 2*0.3
    error = 1 / (1 + np.exp(-(h[0] - h[1] + 0.1))) - 1
    inner = error * np.array([1.0, -1.0]) * h * (1 - h)
    np.testing.assert_allclose(params["coefs"][1], v - 0.1 * (error * h[:, None] + 0.1 * v))
    np.testing.assert_allclose(params["coefs"][0], w - 0.1 * (x.T * inner + 0.1 * w))
    np.testing.assert_allclose(params["intercepts"][0], b - 0.1 * inner)
    np.testing.assert_allclose(params["intercepts"][1], c - 0.1 * error)


def test_the_warnings_are_those_of_scikit_learn():
    """Wherever a fit of scikit-learn says that it has not converged, so does ours."""
    y = TARGETS["two classes"]
    for given in ({"max_iter": 3}, {"max_iter": 25, "tol": 0.5, "n_iter_no_change": 2}):
        kinds = []
        for model in pair(y, **given):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model.fit(X, y)
            kinds.append({w.category for w in caught})
        assert kinds[0] <= kinds[1] <= {ConvergenceWarning}

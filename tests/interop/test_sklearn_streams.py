"""Streams of chunks: a rate is found where rows allow it, and kept; a loss of 0 is converged."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.metrics import r2_score

from stepsize.interop import sklearn as sk

random = np.random.default_rng(1)
X = random.normal(size=(3000, 5))
B = random.normal(size=5)
Y = X @ B + random.normal(size=3000)


def stream(x, y, chunk, model=None, reload=False):
    model = sk.LinearRegressor() if model is None else model
    for k in range(0, len(y), chunk):
        model.partial_fit(x[k : k + chunk], y[k : k + chunk])
        if reload:
            model = pickle.loads(pickle.dumps(model))
    return model


@pytest.mark.parametrize("chunk", [1, 3, 20])
@pytest.mark.parametrize("first", [1, 40, 200])
def test_a_first_chunk_of_one_value_does_not_end_the_learning(chunk, first):
    y = Y.copy()
    y[:first] = 3.0
    model = stream(X[:1000], y[:1000], chunk)
    assert r2_score(Y[1000:], model.predict(X[1000:])) > 0.6
    assert model.history_["lr"][-1] > 0.001


def test_rows_in_sparse_chunks_and_after_a_pickle_make_the_same_model():
    plain = stream(X[:60], Y[:60], 1)
    reloaded = stream(X[:60], Y[:60], 1, reload=True)
    sparse = stream(scipy.sparse.csr_matrix(X[:60]), Y[:60], 1)
    assert np.array_equal(plain.coef_, reloaded.coef_)
    assert np.allclose(plain.coef_, sparse.coef_)


def test_a_stream_that_never_tells_a_rate_is_told_of_once():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = stream(X[:600], np.full(600, 3.0), 50)
    assert [str(w.message) for w in said if "finds no rate" in str(w.message)] == [
        str(said[0].message)
    ]
    assert (model.history_["lr"] == 0.001).all(), "the default is not lowered where none was found"
    stream(X, Y, 50, model)
    assert r2_score(Y, model.predict(X)) > 0.6


def test_a_stream_is_followed_where_it_drifts():
    model = stream(X, Y, 20)
    rate = model.history_["lr"][-1]
    assert r2_score(Y, model.predict(X)) > 0.6
    stream(X[:400], -Y[:400], 20, model)
    assert r2_score(-Y, model.predict(X)) > 0.6 and model.history_["lr"][-1] == rate


@pytest.mark.parametrize("rows", [1, 400])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_loss_of_nothing_is_converged(rows, scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = sk.LinearRegressor().fit(scale * X[:rows], np.full(rows, 7.0))
    assert model.n_iter_ == 1 and "the loss is 0" in model.history_.stopped
    assert (model.predict(X) == 7).all()

"""One array given as training data is batches of one row each, and a warning says so."""

import warnings

import numpy as np
import pytest

import stepsize as ss


def start():
    return {"w": np.ones(3)}


def fit(function, train):
    params = start()
    return ss.fit(function, params, ss.SGD(params, lr=0.01), train, epochs=2, progress=False)


@pytest.mark.filterwarnings("ignore:fit. train. a batch is of type")
@pytest.mark.parametrize("shape", [(6,), (6, 2)])
def test_one_array_is_told_to_be_batches_of_one_row(shape):
    x = np.ones(shape)

    def function(params, batch=None):
        return 1.0, {"w": np.ones(3)}

    said = "one array of shape .* taken as 6 batches of one row each; .* give a tuple"
    with pytest.warns(UserWarning, match=said) as told:
        history = fit(function, x)
    assert history.steps % 6 == 0 and len([w for w in told if "one array" in str(w.message)]) == 1
    with pytest.warns(UserWarning, match=said):
        ss.lr_find(function, start(), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "fit: train: a batch is of type")
        fit(function, (x,))
        fit(function, lambda: x)
        fit(function, np.ones((6, 2, 2)))

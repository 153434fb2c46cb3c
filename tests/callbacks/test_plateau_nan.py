"""A validation loss of NaN is no measurement."""

import numpy as np
import pytest

import stepsize as ss


@pytest.mark.parametrize("first", [0, 4])
def test_nan_lowers_no_rate_and_is_warned_of(first):
    w = np.ones(3)
    values = iter([1.0 / (k + 1) for k in range(first)] + [np.nan] * 20)
    optimizer = ss.SGD(w, lr=0.01)
    callback = ss.ReduceOnPlateau("val_score", mode="min", patience=1)
    with pytest.warns(RuntimeWarning, match="val_score was nan at step"):
        history = ss.fit(
            lambda w, b: (float(w @ w), 2 * w),
            w,
            optimizer,
            [None] * 5,
            epochs=12,
            validation=[None],
            evaluate=lambda w, b: {"score": next(values)},
            callbacks=[callback],
        )
    assert (history["lr"] == 0.01).all()

"""Training: what decides at an edge, seen from both of its sides."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import stepsize as ss
from stepsize.training import fingerprint
from stepsize.training.slopes import FIRST, looks


def loss(params, batch):
    (rows,) = batch
    rest = params["x"] - rows.mean(0)
    return 0.5 * float(rest @ rest), {"x": rest}


def fitted(optimizer=None, rows=10, cut=lambda data: (data,), **given):
    params = {"x": np.ones(2)}
    data = np.random.default_rng(0).standard_normal((rows, 2))
    made = ss.SGD(params, lr=0.1) if optimizer is None else optimizer(params)
    return ss.fit(loss, params, made, cut(data), **given), data


def test_the_loss_of_batches_of_other_lengths_is_that_of_their_rows():
    history, data = fitted(
        rows=7, cut=lambda data: [(data[:4],), (data[4:],)], epochs=1, accumulate=2
    )  # fmt: skip
    parts = [(len(part), loss({"x": np.ones(2)}, (part,))[0]) for part in (data[:4], data[4:])]
    mean = sum(size * value for size, value in parts) / 7
    assert history["loss"][0] == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(("steps", "told"), [(3, True), (4, False)])
def test_a_run_too_short_for_an_update_is_told(steps, told):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fitted(lambda p: ss.Accumulate(ss.SGD(p, lr=0.1), 4), steps=steps, batch_size=2)
    assert any("no update will be made" in str(one.message) for one in said) == told


@pytest.mark.parametrize(("steps", "decay"), [(5, "0.5"), (100, "0.9"), (1000, "0.99")])
def test_an_average_too_long_for_a_run_is_told_one_that_fits(steps, decay):
    with pytest.warns(UserWarning, match=f"give decay={decay} or warmup"):
        fitted(lambda p: ss.EMA(ss.SGD(p, lr=0.1), decay=0.9999), steps=steps, batch_size=2)


def test_a_large_array_is_looked_at_here_and_there_and_a_small_one_as_a_whole():
    few = np.zeros(fingerprint.ELEMENTS)
    many = np.zeros(50 * fingerprint.ELEMENTS)
    for array, seen in ((few, fingerprint.ELEMENTS), (many, fingerprint.ELEMENTS)):
        before = fingerprint._of(array)
        noticed = 0
        for place in range(0, array.size, max(1, array.size // 500)):
            array[place] = 1.0
            noticed += fingerprint._of(array) != before
            array[place] = 0.0
        looked = len(range(0, array.size, max(1, array.size // 500)))
        assert (noticed == looked) == (array.size == seen)


def test_an_old_fingerprint_of_another_kind_says_nothing():
    here = fingerprint._of(np.zeros(3))
    for old in ("text", [1, 2], None):
        assert fingerprint.difference([old], [here]) == ""
    assert fingerprint.difference([here], [here]) == ""
    assert "other values" in fingerprint.difference([here], [fingerprint._of(np.ones(3))])


def test_looks_begin_with_all_steps_and_go_on_evenly_by_the_octave():
    steps = looks()
    assert [next(steps) for _ in range(FIRST + 6)] == [*range(FIRST), 16, 19, 23, 27, 32, 38]


def test_a_mean_over_the_last_epoch_is_told_beside_the_last_loss():
    history, _ = fitted(rows=10, batch_size=3, epochs=2)
    said = repr(history)
    assert f"-> {history['loss'][-1]:.4g} ({history.meta['epoch_loss']:.4g} over" in said


def test_names_of_measurements_are_all_text():
    for measured in ({"a": 1.0, 2: 2.0}, {2: 2.0}):
        with pytest.raises(TypeError, match="names and numbers"):
            fitted(
                batch_size=5, epochs=1, validation=(np.zeros((5, 2)),),
                evaluate=lambda params, batch, given=measured: given,
            )  # fmt: skip

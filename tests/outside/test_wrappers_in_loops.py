"""Wrappers where loops count steps and where names are set; masked losses; group dicts of torch."""

import inspect
import warnings

import numpy as np
import pytest

import stepsize as ss
from hostile import X, Y, clean, make_params
from stepsize.optimizers import wrappers

DATA = [(X[i : i + 6], Y[i : i + 6]) for i in range(0, 60, 6)]
MAKE = {
    "Accumulate": {"every": 2},
    "AdaptiveClip": {"clip": 0.1},
    "Lookahead": {"k": 2},
    "Project": {"projections": ss.projections.box(-1e9, 1e9)},
}
OWN = [
    (name, own)
    for name in wrappers.__all__
    for own in list(inspect.signature(getattr(ss, name).__init__).parameters)[2:]
    if hasattr(ss, name)
]


@pytest.mark.parametrize(("name", "own"), OWN)
def test_what_a_wrapper_is_made_with_is_not_set_on_the_optimizer_inside(name, own):
    params = make_params()
    inner = ss.AdamW(params, weight_decay=0.3, eps=1e-3)
    optimizer = getattr(ss, name)(inner, **MAKE.get(name, {}))
    before = inner.hyperparams
    with pytest.raises(AttributeError, match=f"{name}: {own} is given when the wrapper is made"):
        setattr(optimizer, own, 0.9)
    assert inner.hyperparams == before
    optimizer.lr = 0.25
    assert inner.lr == 0.25


def fitted(optimizer, params, epochs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ss.fit(clean, params, optimizer, DATA, epochs=epochs, progress=False)


def test_a_schedule_is_compared_with_the_updates_and_not_with_the_batches():
    params = make_params()
    rate = ss.schedules.cosine(0.05, 0, 10)
    fitted(ss.Accumulate(ss.SGD(params, lr=rate), 4), params, 4)  # 40 batches, 10 updates
    params = make_params()
    rate = ss.schedules.cosine(0.05, 0, 40)
    with pytest.raises(UserWarning, match="the run ends at step 10"):
        fitted(ss.Accumulate(ss.SGD(params, lr=rate), 4), params, 4)


def test_a_run_without_an_update_is_told_so():
    params = make_params()
    with pytest.raises(UserWarning, match="every 50 batches and this run has 20: no update"):
        fitted(ss.Accumulate(ss.SGD(params, lr=0.1), 50), params, 2)


def test_what_if_refuses_what_it_would_not_measure():
    params = make_params()
    optimizer = ss.Accumulate(ss.SGD(params, lr=0.1), 4)
    with pytest.raises(ValueError, match="one step of several batches; give the one inside"):
        ss.what_if(clean, params, optimizer, DATA, steps=4)
    optimizer = ss.SGD(params, lr=0.1)
    with pytest.raises(ValueError, match="the array b of params is not one that the optimizer"):
        ss.what_if(clean, make_params(), optimizer, DATA, steps=4)

    def writes(p, batch):
        found = clean(p, batch)
        p["w"] += 0.1
        return found

    with pytest.raises(ValueError, match="what_if: value_and_grad wrote into the parameters: w"):
        ss.what_if(writes, params, optimizer, DATA, steps=4)


def test_a_masked_value_is_no_loss_and_no_metric():
    params = make_params()

    def masked(p, batch):
        return np.ma.masked, clean(p, batch)[1]

    with pytest.raises(TypeError, match="the loss one number"):
        ss.fit(masked, params, ss.SGD(params), DATA, epochs=1, progress=False)
    with pytest.raises(TypeError, match="loss"):
        ss.fit(
            clean, params, ss.SGD(params), DATA, epochs=1, progress=False,
            validation=(X, Y), evaluate=lambda p, b: {"loss": np.ma.masked},
        )  # fmt: skip


def test_a_likelier_verdict_is_not_called_the_runner_up():
    diagnosis = ss.Diagnosis("too_low", (), None, True, {"too_low": 0.28, "healthy": 0.72})
    assert "Runner-up" not in str(diagnosis)
    assert "By the probabilities alone likelier" in str(diagnosis)

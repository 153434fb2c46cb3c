"""What judges a loss by its fall refuses an optimizer that climbs, by name and with a way out."""

import numpy as np
import pytest

import stepsize as ss

X = np.random.default_rng(0).normal(size=(64, 4))
Y = X @ np.arange(4.0)


def climbing(params, batch):
    x, y = batch
    error = x @ params - y
    return -float(error @ error) / len(y), -2 / len(y) * (x.T @ error)


def optimizer_over(params, wrapped):
    optimizer = ss.SGD(params, lr=0.01, maximize=True)
    return ss.EMA(optimizer, decay=0.5) if wrapped else optimizer


def fit(params, optimizer, *callbacks):
    return ss.fit(
        climbing,
        params,
        optimizer,
        (X, Y),
        batch_size=8,
        epochs=5,
        validation=(X, Y),
        callbacks=list(callbacks),
        progress=False,
    )


CALLBACKS = {
    "EarlyStopping": lambda path: ss.EarlyStopping(patience=2),
    "ReduceOnPlateau": lambda path: ss.ReduceOnPlateau(patience=2),
    "Checkpoint": lambda path: ss.Checkpoint(path / "best.safetensors", monitor="val_loss"),
    "DiagnosisMonitor": lambda path: ss.DiagnosisMonitor(),
    "StopOnDivergence": lambda path: ss.StopOnDivergence(),
    "RollBackOnSpike": lambda path: ss.RollBackOnSpike(),
}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_refuses_it_before_a_step(name, wrapped, tmp_path):
    params = np.zeros(4)
    with pytest.raises(ValueError, match=f"{name}: the optimizer has maximize=True.*negated"):
        fit(params, optimizer_over(params, wrapped), CALLBACKS[name](tmp_path))
    assert not params.any()


def test_a_direction_that_is_given_is_followed():
    params = np.zeros(4)
    history = fit(params, optimizer_over(params, False), ss.EarlyStopping(patience=2, mode="max"))
    assert history["loss"][-1] > history["loss"][0] and len(history["loss"]) == 40


@pytest.mark.parametrize("wrapped", [False, True])
def test_finder_branches_and_diagnosis_refuse_it(wrapped):
    params = np.zeros(4)
    optimizer = optimizer_over(params, wrapped)
    history = fit(params, optimizer)
    assert history["loss"][-1] > history["loss"][0]
    after = params.copy()
    for call in (
        lambda: ss.lr_find(climbing, params, (X, Y), optimizer=optimizer),
        lambda: ss.lr_find(
            climbing, params, (X, Y), optimizer=lambda p: optimizer_over(p, wrapped)
        ),
        lambda: ss.autolr(
            climbing, params, (X, Y), optimizer=lambda p: optimizer_over(p, wrapped), steps=40
        ),
        lambda: ss.what_if(climbing, params, optimizer, (X, Y), history=history),
        lambda: ss.diagnose(history),
    ):
        with pytest.raises(ValueError, match="maximize=True, and what is judged is a loss"):
            call()
        assert (params == after).all()

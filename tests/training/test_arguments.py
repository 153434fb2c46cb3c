"""The arguments of `fit`: whole numbers of any library, and what is refused before training."""

import numpy as np
import pytest

import stepsize as ss
from fitting import X, Y, bits, fit, make_params


class Ends:
    def on_end(self, run):
        pass


def test_a_missing_folder_is_said_before_anything_is_trained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint: the folder is missing.*missing'"):
        fit(params := make_params(), checkpoint=tmp_path / "missing" / "c")
    assert bits(params) == bits(make_params())


class Misspelt:
    def on_epcoh(self, run):
        raise AssertionError


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (3, "callbacks must be a list of them, got 3"),
        (ss.EarlyStopping(), "callbacks must be a list of them, got <"),
        ([ss.EarlyStopping], r"callbacks\[0\] is the class EarlyStopping, give an instance"),
        ([Ends(), Misspelt()], r"callbacks\[1\] must have a method of on_start, .*Misspelt"),
        (["val_loss"], r"callbacks\[0\] must have a method of on_start, .* got 'val_loss'"),
    ],
)
def test_what_is_no_callback_is_refused_before_anything_is_trained(callbacks, message):
    with pytest.raises(TypeError, match=message):
        fit(params := make_params(), callbacks=callbacks)
    assert bits(params) == bits(make_params())


def test_validate_every_without_validation_is_refused():
    with pytest.raises(ValueError, match="validate_every=3 needs validation="):
        fit(params := make_params(), validate_every=3)
    assert bits(params) == bits(make_params())


@pytest.mark.parametrize("result", [None, 0.5, {1: 0.5}])
def test_an_evaluation_that_is_no_dict_of_names_is_told_what_to_return(result):
    with pytest.raises(TypeError, match=r"evaluate must return a dict .*, it returned"):
        fit(make_params(), validation=(X, Y), evaluate=lambda params, batch: result)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_whole_numbers_of_numpy_are_whole_numbers(kind, tmp_path):
    def run(kind):
        params = make_params()
        fit(
            params,
            epochs=kind(3),
            steps=kind(12),
            batch_size=kind(7),
            seed=kind(5),
            accumulate=kind(2),
            validate_every=kind(4),
            validation=(X, Y),
            checkpoint=ss.Checkpoint(tmp_path / "c", every_steps=kind(2), keep=kind(1)),
            callbacks=[ss.EarlyStopping("loss", patience=kind(5))],
        )
        return bits(params)

    assert run(kind) == run(int)


@pytest.mark.parametrize("name", ["epochs", "steps", "batch_size", "accumulate", "seed"])
@pytest.mark.parametrize("value", [True, 1.5, -1, "2", np.float64(2)])
def test_what_is_no_whole_number_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^fit: {name} must be a whole number >= "):
        fit(make_params(), **{name: value})


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        (
            ss.schedules.cosine(0.1, 0, 10),
            "the rate is 0 from step 10 on: the last 20 of",
        ),
        (ss.schedules.warmup_cosine(0.05, 1, 15), r"use schedule\.by_epoch\(2\)"),
        (ss.schedules.linear(0.1, 0.01, 15), r"use schedule\.by_epoch\(2\)"),
    ],
)
def test_a_schedule_that_leaves_steps_idle_is_said(lr, message):
    params = {"w": np.zeros(1)}
    data = (np.ones((64, 1)), np.ones(64))
    with pytest.warns(ss.schedules.ScheduleWarning, match=message):
        ss.fit(
            lambda p, batch: (1.0, {"w": np.ones(1)}),
            params,
            ss.SGD(params, lr=lr),
            data,
            epochs=15,
        )


def test_an_optimizer_of_another_make_is_refused():
    class Mine:
        def __init__(self, params):
            self.params, self.lr = params, 0.1

        def step(self, grads):
            raise AssertionError("is not reached")

    params = make_params()
    with pytest.raises(TypeError, match=r"derives from ss\.optimizers\.Optimizer"):
        fit(params, Mine(params))

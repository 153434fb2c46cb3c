"""A resumed run says where it validates otherwise than the run that it continues."""

import numpy as np
import pytest

import stepsize as ss
from stepsize.training.resume import ResumeWarning

X = np.random.default_rng(0).normal(size=(64, 4))
Y = X @ np.arange(4.0)


def value_and_grad(params, batch):
    x, y = batch
    error = x @ params - y
    return float(error @ error) / len(y), 2 / len(y) * (x.T @ error)


def score(params, batch):
    return {"loss": value_and_grad(params, batch)[0]}


def other_score(params, batch):
    return {"loss": 2 * value_and_grad(params, batch)[0]}


def run(path, epochs, **given):
    params = np.zeros(4)
    return ss.fit(
        value_and_grad,
        params,
        ss.SGD(params, lr=0.1),
        (X, Y),
        batch_size=16,
        epochs=epochs,
        checkpoint=path,
        progress=False,
        **given,
    )


BATCHES = [(X[:32], Y[:32]), (X[32:], Y[32:])]
START = {"validation": (X, Y), "evaluate": score}
OTHERS = {
    "other values": START | {"validation": (X, Y + 100)},
    "other rows": START | {"validation": (X[:50], Y[:50])},
    "another evaluate": START | {"evaluate": other_score},
    "the loss": {"validation": (X, Y)},
    "another interval": START | {"validate_every": 2},
    "none": {},
    "batches": START | {"validation": BATCHES},
    "numbers": {"validation": [np.array(0.5)], "evaluate": lambda params, batch: {"loss": 1.0}},
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_validation_is_said(name, tmp_path):
    path = tmp_path / "run.safetensors"
    run(path, 2, **START)
    with pytest.warns(ResumeWarning, match="the validation is not that of the run"):
        run(path, 4, resume=True, **OTHERS[name])


def test_the_same_validation_or_a_first_one_is_not(tmp_path):
    path = tmp_path / "run.safetensors"
    run(path, 2)
    run(path, 4, resume=True, **START)
    run(path, 6, resume=True, **{**START, "validation": (X.copy(), Y.copy())})


def test_data_of_single_numbers_have_a_fingerprint(tmp_path):
    def steps(epochs, **given):
        w = np.ones(3)
        ss.fit(
            lambda w, b: (float(b * (w @ w)), 2 * float(b) * w),
            w,
            ss.SGD(w, lr=0.1),
            [np.array(0.5), np.array(0.7)],
            epochs=epochs,
            count=lambda batch: 1,
            checkpoint=tmp_path / "run",
            progress=False,
            **given,
        )

    steps(1)
    steps(2, resume=True)

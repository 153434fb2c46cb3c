"""Cases from outside that no other file holds: wrong arguments of the tools, subnormal state."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from fitting import linear as value_and_grad

X, Y = np.ones((20, 3)), np.ones(20)


def params():
    return {"w": np.zeros(3)}


def fit(function=value_and_grad, train=(X, Y), **options):
    start = params()
    common = {"epochs": 1, "progress": False}
    return ss.fit(function, start, ss.SGD(start, lr=0.1), train, **common | options)


def find(function=value_and_grad, batches=((X, Y),), **options):
    return ss.lr_find(function, params(), list(batches or ()) or batches, **options)


SPACE = {"lr": ss.LogUniform(1e-5, 1)}
CONSTANT = ss.schedules.constant(0.1)
REFUSED = {
    "lr_find(None)": (lambda: find(None), "value_and_grad"),
    "lr_find, no batches": (lambda: find(batches=None), "batches"),
    "lr_find, lr_min": (lambda: find(lr_min="x"), "lr_min"),
    "lr_find, lr_max": (lambda: find(lr_max=None), "lr_max"),
    "lr_find, steps": (lambda: find(steps=float("nan")), "steps"),
    "lr_find, repeats": (lambda: find(repeats="x"), "repeats"),
    "lr_find, smoothing": (lambda: find(smoothing="x"), "smoothing"),
    "lr_find, stop_ratio": (lambda: find(stop_ratio="x"), "stop_ratio"),
    "fit(None)": (lambda: fit(None), "value_and_grad"),
    "fit, train": (lambda: fit(train=None), "train"),
    "fit, checkpoint": (lambda: fit(checkpoint=3), "checkpoint"),
    "fit, evaluate": (lambda: fit(evaluate=3, validation=(X, Y)), "evaluate"),
    "tune(None)": (lambda: ss.tune(None, SPACE, trials=2), "objective"),
    "tune, space": (lambda: ss.tune(lambda point: 1.0, None, trials=2), "space"),
    "scale_lr, lr": (lambda: ss.scale_lr("x", 32, 64), "lr"),
    "scale_lr, batches": (lambda: ss.scale_lr(0.1, None, 64), "batch_from"),
    "LogUniform": (lambda: ss.LogUniform("a", 1), "low"),
    "Uniform": (lambda: ss.Uniform(0, "b"), "high"),
    "diagnose(None)": (lambda: ss.diagnose(None), "history"),
    "Plateau": (lambda: ss.Plateau(ss.SGD(params())).load_state_dict(None), "state dict"),
    "from_dict": (lambda: ss.Schedule.from_dict(CONSTANT.to_dict() | {"more": 1}), "more"),
    "save": (lambda: ss.SGD(params()).save(""), "path"),
    "save of both": (lambda: ss.save("", params(), ss.SGD(params())), "path"),
    "groups": (lambda: ss.SGD([{"params": np.ones(2)}, {"lr": 0.2}]), "group 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_argument_is_refused_by_its_name(name):
    call, word = REFUSED[name]
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert word in str(error.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cls", [cls for cls in RULES if cls.accelerated])
def test_state_below_the_smallest_normal_number_keeps_its_bits(cls, dtype):
    small = np.finfo(dtype).smallest_subnormal
    start = np.linspace(1, 60, 60).astype(dtype).reshape(6, 10) * small * 7
    made = []
    for native in (True, False):
        x = start.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = cls(x) if native else type(cls.__name__, (cls,), {"rule": cls.rule})(x)
        for k in range(3):
            optimizer.step(start[::-1].copy() * dtype(k + 1), loss=1.0)
        made.append(x.tobytes())
    assert made[0] == made[1]

"""A loss or a metric that is text, such as a cell of a file, is refused wherever one is taken."""

import numpy as np
import pytest

import stepsize as ss


def start():
    return {"w": np.ones(2)}


def function(loss):
    return lambda params, batch=None: (loss, {"w": np.ones(2)})


def fit(loss, optimizer=ss.SGD, **options):
    params = start()
    options = {"epochs": 1, "progress": False} | options
    return ss.fit(function(loss), params, optimizer(params), [0, 0], **options)


SPACE = {"lr": ss.LogUniform(1e-3, 1)}
DOORS = {
    "fit": fit,
    "fit, accumulated": lambda loss: fit(loss, accumulate=2),
    "fit, L-BFGS": lambda loss: fit(loss, ss.LBFGS),
    "fit, validation": lambda loss: fit(
        1.0, validation=[0], evaluate=lambda params, batch: {"a": loss}
    ),
    "LBFGS": lambda loss: ss.LBFGS(start()).step(function(loss)),
    "SAM": lambda loss: ss.SAM(ss.SGD(start(), lr=0.1)).step(function(loss)),
    "PolyakSGD": lambda loss: ss.PolyakSGD(start()).step({"w": np.ones(2)}, loss=loss),
    "lr_find": lambda loss: ss.lr_find(function(loss), start(), [0]),
    "autolr": lambda loss: ss.autolr(function(loss), start(), [0], steps=20, progress=False),
    "minimize": lambda loss: ss.minimize(function(loss), start()),
    "Plateau": lambda loss: ss.Plateau(ss.SGD(start(), lr=0.1)).update(loss),
    "diagnose": lambda loss: ss.diagnose([loss, loss]),
    "History": lambda loss: ss.History.from_arrays(loss=[loss, loss]),
    "tune": lambda loss: ss.tune(lambda point: loss, SPACE, trials=2, on_error="raise"),
    "Trial": lambda loss: ss.tune(
        lambda point, trial: trial.report(1, loss), SPACE, trials=2, on_error="raise"
    ),
}


@pytest.mark.parametrize("text", ["1", "0.5", b"1", np.str_("2"), np.array("1"), np.array(["1"])])
@pytest.mark.parametrize("door", DOORS)
def test_text_is_no_loss(door, text):
    if door == "PolyakSGD" and isinstance(text, np.ndarray):
        text = str(text)  # an array says itself to the compiled step that it is a number
    with pytest.raises((TypeError, ValueError), match=r"number") as refused:
        DOORS[door](text)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("loss", [1, 1.0, np.float32(1), np.array(1.0), np.array([1.0])])
@pytest.mark.parametrize("door", ["fit", "LBFGS", "SAM", "minimize", "lr_find"])
def test_a_number_of_any_library_is_one(door, loss):
    DOORS[door](loss)


def test_tensors_are_numbers_and_text_is_not():
    torch = pytest.importorskip("torch")
    fit(torch.tensor(1.0))
    ours = pytest.importorskip("stepsize.interop.torch")
    x = torch.ones(3, requires_grad=True)
    x.grad = torch.ones(3)
    rule = ours.PolyakSGD([x])
    with pytest.raises(TypeError, match="loss must be one number, got '1'"):
        rule.step(loss="1")

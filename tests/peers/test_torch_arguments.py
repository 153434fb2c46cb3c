"""What the torch optimizers refuse, by name: tensors, gradients and arguments."""

import pytest
import torch

import stepsize as ss
from stepsize.interop.torch import SGD, AdamW
from torch_cases import CLASSES, with_gradient


def layer():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    return model.named_parameters()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p: p.to("meta"), "is on the device meta, expected the CPU; move the model with"),
        (lambda p: p.to(torch.complex64).conj(), "has the conjugate bit: its memory holds"),
        (lambda p: p.to_sparse(), "has the layout torch.sparse_coo, expected a dense tensor; make"),
        (lambda p: p.to(torch.float8_e5m2), "is torch.float8_e5m2, expected one of torch.float32"),
    ],
)
def test_unfit_parameters_are_refused_by_name(change, message):
    named = [(name, p.detach()) for name, p in layer()]
    name, tensor = named[2]
    with pytest.raises(TypeError, match=f"AdamW: parameter 2 {message}"):
        AdamW([*(p for _, p in named[:2]), change(tensor)])
    with pytest.raises(TypeError, match=f"AdamW: parameter 1.weight {message}"):
        AdamW([*named[:2], (name, change(tensor))])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shared_memory_is_refused_by_name(dtype):
    base = torch.zeros(6, dtype=dtype)
    with pytest.raises(ValueError, match=r"SGD: parameter [01] overlaps parameter [01] in memory"):
        SGD([base[:4], base[2:]])
    with pytest.raises(ValueError, match="SGD: parameter 0 overlaps itself"):
        SGD([base[:1].expand(3)])
    SGD([base[:3], base[3:]])
    SGD([base[::2], base[1::2]])


def test_unfit_gradients_are_refused_by_name():
    p = torch.zeros(3, 2, requires_grad=True)
    p.grad = torch.eye(3, 2).to_sparse()
    with pytest.raises(TypeError, match=r"SGD: the gradient of parameter 0 has the layout torch"):
        SGD([p]).step()
    p.grad = None
    p.grad_dtype = torch.float64
    p.grad = torch.ones(3, 2).double()
    with pytest.raises(TypeError, match=r"parameter 0 is torch.float64, expected torch.float32"):
        SGD([p]).step()
    assert not p.any()
    p = with_gradient(torch.zeros(3), torch.ones(3))
    p.data = torch.zeros(4)
    with pytest.raises(ValueError, match=r"parameter 0 has shape \(3,\), expected \(4,\)"):
        SGD([p]).step()


@pytest.mark.parametrize(
    "name, keywords, error, message",
    [
        (
            "AdamW",
            {"capturable": True},
            ValueError,
            "capturable=True is not possible in a compiled",
        ),
        ("SGD", {"differentiable": True}, ValueError, "differentiable=True is not possible"),
        ("Muon", {"ns_coefficients": (1, 2)}, ValueError, r"must be 3 numbers, got \(1, 2\)"),
        ("Adafactor", {"beta2_decay": 0.8}, ValueError, r"must be a number <= 0, got 0\.8"),
        ("AdamW", {"lrr": 1}, TypeError, "AdamW: got an unexpected .*'lrr'; it takes params, lr"),
        ("SGD", {"lr": ss.schedules.constant(0.1)}, TypeError, "ScheduleLR"),
        ("SGD", {"lr": -1}, ValueError, "SGD: lr must be a finite number >= 0, got -1"),
        ("SGD", {"nesterov": True}, ValueError, "nesterov=True needs momentum > 0"),
        ("SGD", {"state_dtype": "int8"}, ValueError, "state_dtype must be None or 'bfloat16'"),
        ("SGD", {"clip_norm": 0}, ValueError, "SGD: clip_norm must be a finite number > 0"),
        ("SGD", {"on_nonfinite": "stop"}, ValueError, "SGD: on_nonfinite must be one of"),
    ],
)
def test_arguments_are_never_ignored(name, keywords, error, message):
    with pytest.raises(error, match=message):
        CLASSES[name]([torch.zeros(2)], **keywords)


@pytest.mark.parametrize("word", ["foreach", "fused"])
def test_the_choice_of_torchs_implementations_is_taken(word):
    for value in (None, False, True):
        assert AdamW([torch.zeros(2)], **{word: value}).param_groups[0][word] is value


def test_maximize_holds_for_all_groups():
    here = [torch.ones(2), torch.ones(2)]
    groups = [{"params": here[:1]}, {"params": here[1:], "maximize": True}]
    with pytest.raises(ValueError, match="maximize must be the same in all groups"):
        SGD(groups, lr=0.1)


def test_clipping_and_nonfinite_gradients():
    p = with_gradient(torch.zeros(2), torch.tensor([3.0, 4.0]))
    SGD([p], lr=1.0, clip_norm=1.0).step()
    assert p.tolist() == pytest.approx([-0.6, -0.8])
    p.grad[0] = torch.nan
    SGD([p], lr=1.0, on_nonfinite="skip").step()
    with pytest.raises(ss.NonFiniteGradientError, match="the gradient of parameter 0 holds NaN"):
        SGD([p], lr=1.0, on_nonfinite="raise").step()
    assert p.tolist() == pytest.approx([-0.6, -0.8])
    SGD([p], lr=1.0).step()  # torch does not look either
    assert p[0].isnan()


def test_a_failed_constructor_leaves_the_dicts_of_groups_as_they_were():
    given = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.5}]
    with pytest.raises(ValueError, match="weight_decay"):
        AdamW(given, weight_decay=-1)
    assert set(given[0]) == {"params", "lr"}
    assert AdamW(given).param_groups[0]["lr"] == 0.5

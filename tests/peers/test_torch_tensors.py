"""Which tensors the torch optimizers take, and how they share memory and state."""

import copy
import weakref

import numpy as np
import pytest
import torch

import stepsize as ss
import stepsize.interop.torch as interop
from stepsize.interop.torch import SGD, AdamW
from torch_cases import ALL, CLASSES, with_gradient

CONTIGUOUS = torch.arange(24.0).reshape(2, 3, 4) / 24 + 0.5
LAYOUTS = {
    "transposed": CONTIGUOUS.permute(2, 0, 1),
    "channels last": CONTIGUOUS.reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "every second": torch.arange(48.0).reshape(6, 8)[::2, ::2] / 48 + 0.5,
    "scalar": torch.tensor(0.7),
    "empty": torch.ones(0, 3),
    "offset": torch.arange(9.0)[1:] / 9 + 0.5,
}


def values(tensor):
    return tensor.detach().float().numpy().copy()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ALL)
def test_any_layout_of_parameter_and_gradient(name, layout):
    start = LAYOUTS[layout]
    twin = start.contiguous().clone()
    base = copy.deepcopy(start)  # keeps the strides
    assert base.stride() == start.stride()
    other = torch.ones(3)
    cls = CLASSES[name]
    loss = {"loss": 1.0} if cls.rule.needs_loss else {}
    for gradient in (torch.cos(start), torch.cos(start).contiguous()):
        p = with_gradient(copy.deepcopy(start), gradient)
        q = with_gradient(twin.clone(), torch.cos(twin))
        for tensor in (p, q):
            optimizer = cls([tensor, with_gradient(other.clone(), other)], lr=0.1)
            for _ in range(3):
                optimizer.step(**loss)
            for value in optimizer.state[tensor].values():
                plain = isinstance(value, torch.Tensor) and not cls.rule.shaped
                assert not plain or value.shape in ((), tensor.shape)
        # Norms are sums in the order of memory.
        assert np.allclose(values(p), values(q), rtol=1e-6, atol=0)
        if cls.rule.scope is None:
            assert np.array_equal(values(p), values(q))
        assert torch.equal(p.grad, gradient)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ALL)
def test_half_precision_steps_in_single_and_rounds(name, dtype):
    cls = CLASSES[name]
    loss = {"loss": 1.0} if cls.rule.needs_loss else {}
    start = torch.linspace(0.5, 1.5, 40).reshape(5, 8).to(dtype)
    p = with_gradient(start.t().clone().t(), torch.cos(start))
    wide = start.float().numpy().copy()
    optimizer = cls([p, with_gradient(torch.ones(3), torch.ones(3))], lr=0.05)
    plain = cls.rule([wide, np.ones(3, np.float32)], lr=0.05)
    for _ in range(4):
        optimizer.step(**loss)
        plain.step([torch.cos(start).float().numpy(), np.ones(3, np.float32)], **loss)
        wide[...] = torch.from_numpy(wide).to(dtype).float().numpy()
        assert p.dtype is dtype
        if cls.rule.scope is None:  # norms are sums in the order of memory
            assert np.array_equal(values(p), wide)
        else:
            assert np.allclose(values(p), wide, rtol=torch.finfo(dtype).eps)
    kept = optimizer.state[p]
    arrays = [value for value in kept.values() if isinstance(value, torch.Tensor)]
    assert all(value.dtype in (torch.float32, torch.float64) for value in arrays)
    other = cls([p, torch.ones(3)], lr=0.05)
    other.load_state_dict(optimizer.state_dict())
    for name, value in other.state[p].items():
        assert np.array_equal(value, kept[name])


def test_half_precision_is_near_torchs():
    torch.manual_seed(0)
    start, gradients = torch.randn(50).bfloat16(), torch.randn(5, 50).bfloat16()
    p, q = (start.clone().requires_grad_() for _ in range(2))
    ours, theirs = AdamW([p], lr=0.1), torch.optim.AdamW([q], lr=0.1, fused=True)
    for gradient in gradients:
        p.grad = q.grad = gradient
        ours.step()
        theirs.step()
    torch.testing.assert_close(p, q, rtol=0.02, atol=0.02)  # torch keeps bfloat16 moments


def test_autograd_notices_the_change():
    p, still = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    used = (p**2).sum() + (still**2).sum()
    p.grad = torch.ones(3)
    before = p._version, still._version
    SGD([p, still], lr=0.1).step()
    assert p._version > before[0] and still._version == before[1]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        used.backward()


def test_new_memory_of_a_parameter_is_followed():
    """As after model.to(...), load_state_dict(assign=True) or `p.data = ...`."""
    p, q = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    ours, theirs = AdamW([p], lr=0.1), torch.optim.AdamW([q], lr=0.1)
    square = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for change in (
        lambda data: data,
        lambda data: square,
        lambda data: data.double(),
        lambda data: data.t(),
        lambda data: data.bfloat16(),
        lambda data: data.float(),
    ):
        for tensor, optimizer in ((p, ours), (q, theirs)):
            tensor.data = change(tensor.data)
            tensor.grad = torch.arange(4.0).reshape(2, 2).to(tensor.dtype)
            if optimizer is theirs:
                for name, value in theirs.state[tensor].items():
                    if name != "step":
                        theirs.state[tensor][name] = value.to(tensor.dtype)
            optimizer.step()
        torch.testing.assert_close(p, q, rtol=0.02, atol=0.02)
    assert ours.state[p]["step"] == 6


def test_gradients_are_read_where_they_lie(monkeypatch):
    """The compiled step takes torch's pointers; Python looks at what it cannot take."""
    looked = []
    gather = interop.places.gather
    monkeypatch.setattr(
        interop.places, "gather", lambda *args: (looked.append(1), gather(*args))[1]
    )
    start = torch.arange(12.0).reshape(3, 4)
    ready = [
        start.clone(),
        start.clone().requires_grad_(),
        torch.cat([start, start])[3:],
    ]
    unready = [
        torch.ones(1, 4).expand(3, 4),
        start.clone().t().contiguous().t(),
        start.bfloat16(),
        torch._neg_view(start.clone().t().contiguous().t()),
    ]
    for count, gradients in ((0, ready), (len(unready), unready)):
        looked.clear()
        for gradient in gradients:
            p = torch.zeros(3, 4, requires_grad=True)
            p.grad_dtype = None
            p.grad = gradient
            optimizer = SGD([p], lr=1.0)
            optimizer.step()
            assert torch.equal(p, -gradient.detach().float())
        assert len(looked) == count


def test_the_core_reads_tensors_too():
    x = np.zeros((3, 4))
    for gradient in (torch.ones(3, 4).double(), torch.ones(4, 3).double().t()):
        ss.SGD(x, lr=1.0).step(gradient)
    assert (x == -2).all()
    with pytest.raises(TypeError, match="dtype float32, expected float64"):
        ss.SGD(x, lr=1.0).step(torch.ones(3, 4))
    whole = ss.SM3([np.zeros(3)])  # whose rule runs on NumPy
    whole.step([torch.ones(3).double()])


def test_a_gradient_that_is_its_parameter():
    p = torch.tensor([1.0, 2.0], requires_grad=True)
    p.grad = p.detach()
    SGD([p], lr=0.5).step()
    assert p.tolist() == [0.5, 1.0]
    base = torch.tensor([1.0, 2.0, 3.0])
    p = base[:2].requires_grad_()
    p.grad = base[1:]
    SGD([p], lr=0.5).step()
    assert p.tolist() == [0.0, 0.5]


def test_what_all_parameters_share_is_not_lost_with_one_that_never_moved():
    p, still = with_gradient(torch.ones(3), torch.ones(3)), torch.ones(2)
    first = interop.DoG([p, still])
    for _ in range(4):
        first.step()
    q = with_gradient(p.clone(), torch.ones(3))
    second = interop.DoG([q, still])
    second.load_state_dict(first.state_dict())
    first.step()
    second.step()
    assert torch.equal(p, q)


def test_loaded_arrays_are_let_go():
    p = with_gradient(torch.ones(3), torch.ones(3))
    first, second = AdamW([p]), AdamW([p])
    first.step()
    loaded = copy.deepcopy(first.state_dict())
    held = weakref.ref(loaded["state"][0]["exp_avg"])
    second.load_state_dict(loaded)
    del loaded
    assert held() is None


def test_maximize_is_live():
    p = with_gradient(torch.zeros(1), torch.ones(1))
    optimizer = SGD([p], lr=1.0)
    optimizer.step()
    optimizer.param_groups[0]["maximize"] = True
    for _ in range(3):
        optimizer.step()
    assert p.item() == 2.0


def test_a_loaded_optimizer_knows_its_step():
    p = with_gradient(torch.zeros(1), torch.ones(1))
    first, second = (AdamW([p], on_nonfinite="raise") for _ in range(2))
    for _ in range(3):
        first.step()
    second.load_state_dict(first.state_dict())
    p.grad[0] = torch.inf
    with pytest.raises(ss.NonFiniteGradientError, match="at step 3; nothing was changed"):
        second.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_averages_are_held_for_a_while(dtype):
    p = with_gradient(torch.ones(4, dtype=dtype), torch.ones(4, dtype=dtype))
    optimizer = interop.ScheduleFreeSGD([p], lr=0.25)
    for _ in range(4):
        optimizer.step()
    training, version = p.detach().clone(), p._version
    x = np.ones(4, np.float32)
    plain = ss.ScheduleFreeSGD(x, lr=0.25)
    for _ in range(4):
        plain.step(np.ones(4, np.float32))
    with optimizer.averaged():
        assert torch.is_grad_enabled() and p._version > version
        assert values(p).tolist() == pytest.approx(plain.eval_params().tolist(), rel=0.01)
        assert not torch.equal(p, training)
        with pytest.raises(RuntimeError, match="the parameters hold the average now"):
            optimizer.step()
    assert torch.equal(p, training)


def test_a_new_parameter_in_the_same_memory_starts_anew():
    p = with_gradient(torch.ones(2), torch.ones(2))
    optimizer = AdamW([p], lr=0.1)
    optimizer.step()
    q = with_gradient(torch.nn.Parameter(p.data), torch.ones(2))
    assert q is not p and q.data_ptr() == p.data_ptr()
    optimizer.param_groups[0]["params"][0] = q
    optimizer.step()
    assert optimizer.state[q]["step"] == 1


def test_state_in_bfloat16():
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 30, 20), torch.randn(8, 4, 20, 30)
    p, q = (with_gradient(start.clone().transpose(1, 2), None) for _ in range(2))
    x = start.numpy().copy()
    plain = ss.Adam(x, lr=0.1, state_dtype="bfloat16")
    first, second = (interop.Adam([t], lr=0.1, state_dtype="bfloat16") for t in (p, q))
    for step, gradient in enumerate(gradients):
        p.grad = gradient
        first.step()
        plain.step(gradient.transpose(1, 2).contiguous().numpy())
        if step == 3:
            with torch.no_grad():
                q.copy_(p)
            second.load_state_dict(copy.deepcopy(first.state_dict()))
        if step > 3:
            q.grad = gradient
            second.step()
    entry = first.state[p]
    assert entry["exp_avg"].dtype is torch.bfloat16 and entry["exp_avg_sq"].shape == p.shape
    assert np.array_equal(p.detach().transpose(1, 2).numpy(), x)
    assert torch.equal(p, q)
    theirs = torch.optim.Adam([q], lr=0.1)
    theirs.load_state_dict(first.state_dict())
    assert torch.equal(theirs.state[q]["exp_avg"], entry["exp_avg"].float())
    del first.state[p]
    first.step()
    assert first.state[p]["step"] == 1


class Unread(torch.Tensor):
    """A tensor of a library without the functions that the compiled step reads tensors by."""

    __dlpack_c_exchange_api__ = None


def test_tensors_that_are_no_pointers_to_the_compiled_step():
    p = torch.ones(3, 2).as_subclass(Unread).requires_grad_()
    p.grad = torch.full((3, 2), 2.0).as_subclass(Unread)
    optimizer = SGD([p], lr=0.25)
    optimizer.step()
    assert p.tolist() == [[0.5, 0.5]] * 3
    p.data = torch.zeros(3, 2).as_subclass(Unread)
    optimizer.step()
    assert p.tolist() == [[-0.5, -0.5]] * 3


# Tensors whose memory holds the negatives of their numbers.


def test_tensors_with_the_negative_bit_step_with_their_numbers():
    for given in (torch.ones(3), torch.ones(1), torch.ones(3, dtype=torch.bfloat16)):
        p = torch.nn.Parameter(torch.zeros_like(given))
        q = torch.nn.Parameter(torch.zeros_like(given))
        p.grad = torch._neg_view(given)
        assert p.grad.is_neg() and (p.grad == -1).all()
        interop.SGD([p, q], lr=0.5).step()
        assert (p == 0.5).all() and not q.any()


def test_the_imaginary_part_of_a_conjugate_is_a_gradient():
    p = torch.nn.Parameter(torch.zeros(1))
    p.grad = torch.tensor([2.0 + 3.0j]).conj().imag
    interop.SGD([p], lr=1.0).step()
    assert p.item() == 3.0


def test_a_parameter_with_the_negative_bit_is_refused():
    p = torch.nn.Parameter(torch._neg_view(torch.ones(3)))
    with pytest.raises(TypeError, match=r"parameter 0 has the negative bit.*resolve_neg"):
        interop.SGD([p], lr=0.5)


# Tensors as gradients of parameters in NumPy.


def test_a_tensor_follows_a_gradient_in_half_precision():
    x = np.ones((3, 4), np.float16)
    twin, half = x.copy(), np.full((3, 4), 0.5, np.float16)
    ours, other = ss.SGD(x, lr=0.25), ss.SGD(twin, lr=0.25)
    for given in (half, torch.full((3, 4), 0.25), half):
        ours.step(given)
        other.step(np.asarray(given, np.float32))
    assert x.tobytes() == twin.tobytes() and (x < 1).all()


def test_a_tensor_of_another_shape_is_refused():
    x = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"shape \(4, 3\), expected \(3, 4\)"):
        ss.SGD(x, lr=0.25).step(torch.ones(4, 3))
    assert (x == 1).all()

"""Complex tensors in the torch optimizers, beside torch's own."""

import copy

import numpy as np
import pytest
import torch

import stepsize as ss
import stepsize.interop.torch as interop
from stepsize.interop.torch.making import CLASSES
from torch_cases import CASES, case_id, with_gradient

DTYPES = {torch.complex64: 1e-6, torch.complex128: 1e-12}
BY_PARTS = [name for name, cls in CLASSES.items() if not cls.rule.shaped]
SHAPED = [name for name, cls in CLASSES.items() if cls.rule.shaped]

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(autouse=True)
def default_dtype(request):
    """The scalars of torch's state follow torch's default."""
    kept = torch.get_default_dtype()
    called = getattr(request.node, "callspec", None)
    if called is not None and called.params.get("dtype") == torch.complex128:
        torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(kept)


def draw(dtype, seed, *shape):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def problem(dtype):
    """Leaves of three layouts, one of them real, and the loss of a complex quadratic."""
    real = dtype.to_real()
    leaves = [draw(dtype, 0, 4, 3), draw(dtype, 1, 5, 4).T, draw(real, 2, 6)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    goals = [draw(leaf.dtype, 5 + i, *leaf.shape) for i, leaf in enumerate(leaves)]

    def loss(optimizer):
        optimizer.zero_grad()
        terms = zip(leaves, goals, (1.0, 3.0, 0.3), strict=True)
        value = sum(size * ((leaf - goal).abs() ** 2).sum() for leaf, goal, size in terms)
        value.backward()
        return value

    return leaves, loss


def walk(optimizer, loss, steps):
    for _ in range(steps):
        loss(optimizer)
        optimizer.step()


def near(one, two, tolerance):
    for p, q in zip(one, two, strict=True):
        p, q = p.detach(), q.detach()
        assert (p - q).abs().max() <= tolerance * p.abs().max()


def complex_cases():
    return [(name, keywords) for name, keywords in CASES if name in BY_PARTS]


@every_dtype
@pytest.mark.parametrize("case", complex_cases(), ids=case_id)
def test_the_same_trajectory_and_state_as_torchs(case, dtype):
    name, keywords = case
    keywords = {key: value for key, value in keywords.items() if key != "maximize"}
    (theirs, their_loss), (ours, our_loss) = problem(dtype), problem(dtype)
    one = getattr(torch.optim, name)(theirs, **keywords, foreach=False)
    two = CLASSES[name](ours, **keywords)
    walk(one, their_loss, 40)
    walk(two, our_loss, 40)
    near(theirs, ours, DTYPES[dtype])
    for p, q in zip(theirs, ours, strict=True):
        assert one.state[p].keys() == two.state[q].keys()
        for key, value in one.state[p].items():
            found = two.state[q][key]
            if isinstance(value, torch.Tensor) and value.ndim:
                assert (found.dtype, found.shape) == (value.dtype, value.shape), key
    # Each goes on from the state of the other.
    states = [copy.deepcopy(each.state_dict()) for each in (one, two)]
    one.load_state_dict(states[1])
    two.load_state_dict(states[0])
    walk(one, their_loss, 3)
    walk(two, our_loss, 3)
    near(theirs, ours, 3 * DTYPES[dtype])


@every_dtype
@pytest.mark.parametrize("name", BY_PARTS)
def test_a_complex_tensor_steps_as_its_parts(name, dtype):
    start, real = draw(dtype, 1, 6, 5), dtype.to_real()
    cls = CLASSES[name]
    loss = {"loss": 1.0} if cls.rule.needs_loss else {}
    for layout in (start, start.T):
        p, q = layout.clone(), torch.view_as_real(layout.contiguous()).clone()
        ours, theirs = cls([p], lr=0.1), cls([q], lr=0.1)
        for step in range(3):
            grad = draw(dtype, 10 + step, *p.shape)
            p.grad, q.grad = grad, torch.view_as_real(grad)
            ours.step(**loss)
            theirs.step(**loss)
        if cls.rule.scope is None:
            assert torch.equal(torch.view_as_real(p), q)
        else:  # norms are sums in the order of memory
            torch.testing.assert_close(torch.view_as_real(p), q)
        assert p.dtype.to_real() == real


@every_dtype
def test_state_in_bfloat16_has_an_axis_of_parts(dtype):
    p = with_gradient(draw(dtype, 0, 5, 3).T, draw(dtype, 1, 3, 5))
    q = with_gradient(torch.view_as_real(p.detach()).clone(), torch.view_as_real(p.grad).clone())
    one, two = (interop.Adam([x], lr=0.1, state_dtype="bfloat16") for x in (p, q))
    for _ in range(2):
        one.step()
        two.step()
    assert one.state[p]["exp_avg"].shape == (3, 5, 2)
    again = interop.Adam([p], lr=0.1, state_dtype="bfloat16")
    again.load_state_dict(copy.deepcopy(one.state_dict()))
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(again.state[p][name], one.state[p][name])
    torch.testing.assert_close(torch.view_as_real(p.detach()), q.detach(), rtol=1e-2, atol=1e-2)


def test_first_values_of_the_state_are_those_of_both_parts():
    z = torch.zeros(2, dtype=torch.complex128)
    found = interop.Adagrad([z], initial_accumulator_value=0.5).state[z]["sum"]
    assert found.tolist() == [0.5 + 0.5j] * 2


@every_dtype
def test_the_conjugate_bit(dtype):
    p = with_gradient(torch.zeros(2, dtype=dtype), torch.tensor([1 + 2j, -1j], dtype=dtype).conj())
    assert p.grad.is_conj()
    interop.SGD([p], lr=1.0).step()
    assert p.tolist() == [-1 + 2j, -1j]
    with pytest.raises(TypeError, match=r"parameter 0 has the conjugate bit.*resolve_conj"):
        interop.SGD([p.detach().conj()])


@every_dtype
@pytest.mark.parametrize("name", SHAPED)
def test_rules_of_matrices_refuse_complex_tensors_by_name(name, dtype):
    with pytest.raises(TypeError, match=f"{name}: parameter 0 has dtype complex.* real matrices"):
        CLASSES[name]([torch.ones(3, 3, dtype=dtype)])


KINDS = [
    (torch.complex64, torch.float32, r"is torch\.float32, expected torch\.complex64"),
    (torch.complex64, torch.float16, r"is torch\.float16, expected torch\.complex64"),
    (torch.complex64, torch.complex128, r"is torch\.complex128, expected torch\.complex64"),
    (torch.complex128, torch.float64, r"is torch\.float64, expected torch\.complex128"),
    (torch.float32, torch.complex64, r"is torch\.complex64, .*give its real part, grad\.real"),
    (torch.bfloat16, torch.complex64, r"is torch\.complex64, .*give its real part, grad\.real"),
]


@pytest.mark.parametrize("kind, other, words", KINDS)
def test_a_gradient_of_another_kind_is_refused_and_changes_nothing(kind, other, words):
    p = torch.nn.Parameter(torch.ones(3, dtype=kind))
    optimizer = interop.Adam([p])
    p.grad_dtype = None  # else torch refuses to assign it
    p.grad = torch.ones(3, dtype=other)
    with pytest.raises(TypeError, match=rf"Adam: the gradient of parameter 0 {words}"):
        optimizer.step()
    assert (p == 1).all() and not optimizer.state


@every_dtype
def test_nan_in_a_part_is_refused_with_the_parameter(dtype):
    p = with_gradient(torch.ones(3, dtype=dtype), torch.full((3,), complex(0, np.nan), dtype=dtype))
    optimizer = interop.Adam([p], on_nonfinite="raise")
    with pytest.raises(ss.NonFiniteGradientError, match="parameter 0"):
        optimizer.step()
    assert (p == 1).all() and not optimizer.state


@every_dtype
def test_lr_find_on_a_complex_layer(dtype):
    model = torch.nn.Linear(3, 1, dtype=dtype)
    before = copy.deepcopy(model.state_dict())
    x = draw(dtype, 0, 32, 3)

    def loss_fn(model, batch):
        return (model(batch) - batch.sum(1, keepdim=True)).abs().square().mean()

    result = interop.lr_find(model, loss_fn, [x], optimizer=interop.SGD, steps=30)
    assert 0.01 < result.suggestion < 3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

"""What every class for torch tensors owes the class of arrays: bounds, the L1 penalty, complex."""

from functools import partial

import numpy as np
import pytest
import torch

import stepsize as ss
from stepsize.interop.torch.making import CLASSES

ARRAYS = {cls.__name__: cls for cls in ss.optimizers.registry()}
BOTH = (ARRAYS, CLASSES)
TYPES = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
}
LOW = np.linspace(-0.5, -0.4, 12).reshape(4, 3)
OPTIONS = {  # of the largest number that the parameters start with
    "bounds": lambda most: {"bounds": (-0.5, most)},
    "arrays": lambda most: {"bounds": (LOW, np.full((4, 3), most))},
    "l1": lambda most: {"l1": 0.05},
    "both": lambda most: {"bounds": (-0.5, most), "l1": 0.05},
}
every_class = pytest.mark.parametrize("name", CLASSES)
every_option = pytest.mark.parametrize("option", OPTIONS)


def drawn(dtype, seed, size=0.1):
    random = np.random.default_rng(seed)
    numbers = size * random.standard_normal((4, 3))
    if dtype.is_complex:
        numbers = numbers + 1j * size * random.standard_normal((4, 3))
    return numbers.astype(TYPES[dtype])


def outcome(make):
    """The optimizer, or the kind of its error and the words, with one name for the parameter."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        return type(error), str(error).replace("parameter 0", "params")


def pair(name, dtype, option=None):
    x = drawn(dtype, 0)
    options = {} if option is None else OPTIONS[option](float(x.real.max()))
    p = torch.nn.Parameter(torch.from_numpy(x.copy()))
    one = outcome(lambda: ARRAYS[name](x, lr=0.3, on_nonfinite="ignore", **options))
    return x, p, one, outcome(lambda: CLASSES[name]([p], lr=0.3, **options))


def walk(name, x, p, one, other, steps=4):
    for seed in range(1, 1 + steps):
        g = drawn(next(d for d in TYPES if TYPES[d] == x.dtype), seed, 1.0)
        g = g if seed > 1 else -np.abs(g).astype(x.dtype)  # all of them go up first
        p.grad = torch.from_numpy(g.copy())
        loss = {"loss": 1.0 + 1.0 / seed} if ARRAYS[name].needs_loss else {}
        one.step(g, **loss)
        other.step(**loss)
        assert np.array_equal(x, p.detach().numpy())
        yield x.copy()


def test_every_rule_without_a_line_search_has_a_class():
    assert set(CLASSES) == {name for name, cls in ARRAYS.items() if not cls.needs_closure}


@every_class
@every_option
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constraints_act_or_are_refused_as_those_of_arrays(name, option, dtype):
    x, p, one, other = pair(name, dtype, option)
    if isinstance(one, tuple):
        assert other == one
        return
    start = x.copy()
    for k, now in enumerate(walk(name, x, p, one, other)):
        if option != "l1":
            assert (now >= -0.5).all() and (now <= start.max()).all()
            assert k or now.max() == start.max() or option == "both"


@every_class
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_stays_inside(name, half):
    if isinstance(pair(name, torch.float32, "bounds")[2], tuple):
        return
    p = torch.nn.Parameter(torch.from_numpy(drawn(torch.float32, 0)).to(half))
    other = CLASSES[name]([p], lr=0.3, bounds=(-0.2501, 0.5009))
    for seed in range(1, 5):
        p.grad = torch.from_numpy(drawn(torch.float32, seed, 1.0)).to(half)
        other.step(**({"loss": 1.0} if ARRAYS[name].needs_loss else {}))
        assert (p >= -0.2501).all() and (p.double() <= 0.5009).all()


@every_class
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_tensors_step_or_are_refused_as_complex_arrays(name, dtype):
    x, p, one, other = pair(name, dtype)
    if isinstance(one, tuple):
        assert other == one
    else:
        assert list(walk(name, x, p, one, other))


@every_class
@every_option
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_constraints_of_complex_tensors_are_refused_as_those_of_arrays(name, option, dtype):
    x, p, one, other = pair(name, dtype, option)
    if isinstance(one, tuple):
        assert other == one
        assert "real" in one[1] or "bounds are not possible" in one[1]
    else:  # a penalty that the rule itself has, and acts on the parts
        assert "l1" in ARRAYS[name].fields and option == "l1"
        assert list(walk(name, x, p, one, other))


@every_class
def test_groups_have_bounds_and_penalties_of_their_own(name):
    dtype = torch.float64
    x = [drawn(dtype, k) for k in range(3)]
    p = [torch.nn.Parameter(torch.from_numpy(leaf.copy())) for leaf in x]
    given = [{"bounds": (-0.25, 0.5)}, {}, {"bounds": (None, 0.3), "l1": 0.05}]
    listed = [
        [{"params": leaf, **more} for leaf, more in zip(values, given, strict=True)]
        for values in (x, [[q] for q in p])
    ]
    made = [outcome(partial(c[name], groups)) for c, groups in zip(BOTH, listed, strict=True)]
    if isinstance(made[0], tuple):
        assert made[1][0] is made[0][0]
        return
    for seed in range(1, 4):
        grads = [drawn(dtype, 10 * seed + k, 1.0) for k in range(3)]
        for q, g in zip(p, grads, strict=True):
            q.grad = torch.from_numpy(g.copy())
        loss = {"loss": 1.0 + 1.0 / seed} if ARRAYS[name].needs_loss else {}
        made[0].step(grads, **loss)
        made[1].step(**loss)
        for leaf, q in zip(x, p, strict=True):
            assert np.array_equal(leaf, q.detach().numpy())


KINDS = [torch.float16, torch.float64, torch.complex64, torch.int64, torch.bool]


@every_class
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_of_another_kind_is_refused_and_changes_nothing(name, kind):
    p = torch.nn.Parameter(torch.ones(4, 3, dtype=torch.float32))
    optimizer = CLASSES[name]([p], lr=0.1)
    p.grad_dtype = None  # else torch refuses to assign it
    p.grad = torch.ones(4, 3, dtype=kind)
    loss = {"loss": 1.0} if ARRAYS[name].needs_loss else {}
    if kind == torch.float16:  # is taken, as a gradient of arrays in half precision is
        optimizer.step(**loss)
        return
    before = repr(optimizer.state_dict())
    with pytest.raises(TypeError, match=rf"{name}: the gradient of parameter 0 is {kind}, exp"):
        optimizer.step(**loss)
    assert (p == 1).all() and repr(optimizer.state_dict()) == before

"""Complex parameters beside torch.optim, JAX and autograd, whose gradient is the conjugate."""

import autograd.numpy as anp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from autograd import grad

import stepsize as ss
from stepsize.interop import autograd as for_autograd
from stepsize.interop import jax as for_jax

CASES = [
    ("SGD", {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("Adam", {"lr": 0.02, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.02, "amsgrad": True}),
    ("AdamW", {"lr": 0.02, "weight_decay": 0.1, "maximize": True}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5, "lr_decay": 0.1}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.5, "centered": True}),
    ("Adadelta", {"lr": 1.0}),
    ("Adamax", {"lr": 0.02}),
    ("ASGD", {"lr": 0.01, "t0": 30, "lambd": 0.01}),
    ("NAdam", {"lr": 0.02}),
    ("RAdam", {"lr": 0.02}),
    ("Rprop", {"lr": 0.01}),
]
TOLERANCE = {"complex64": 1e-6, "complex128": 1e-12}


def draw(random, dtype, size=40):
    return (random.standard_normal((size, 2)) @ [1, 1j]).astype(dtype)


@pytest.fixture(params=["complex64", "complex128"])
def dtype(request):
    kept = torch.get_default_dtype()  # the scalars of torch's state follow it
    torch.set_default_dtype(torch.float32 if request.param == "complex64" else torch.float64)
    yield request.param
    torch.set_default_dtype(kept)


@pytest.mark.parametrize("name, keywords", CASES, ids=[name for name, _ in CASES])
def test_a_hundred_steps_of_a_complex_quadratic(name, keywords, dtype):
    random = np.random.default_rng(5)
    goal, start = draw(random, dtype), draw(random, dtype)
    scales = (10.0 ** random.uniform(-1, 0.5, 40)).astype(start.real.dtype)
    x, y = start.copy(), torch.from_numpy(start.copy())
    ours = getattr(ss, name)(x, **keywords)
    theirs = getattr(torch.optim, name)([y], foreach=False, **keywords)
    sign = -1 if keywords.get("maximize") else 1
    for _ in range(100):
        ours.step(sign * scales * (x - goal))
        y.grad = torch.from_numpy(sign * scales * (y.numpy() - goal))
        theirs.step()
    assert np.max(np.abs(x - y.numpy())) / np.max(np.abs(x)) <= TOLERANCE[dtype]


def test_lbfgs_as_torch():
    random = np.random.default_rng(5)
    goal, start = draw(random, "complex128", 10), draw(random, "complex128", 10)
    x, y = start.copy(), torch.from_numpy(start.copy()).requires_grad_()
    settings = {"line_search_fn": "strong_wolfe", "max_iter": 4}
    ours, theirs = ss.LBFGS(x, **settings), torch.optim.LBFGS([y], **settings)
    target = torch.from_numpy(goal)

    def closure():
        theirs.zero_grad()
        loss = ((y - target).abs() ** 4).sum()
        loss.backward()
        return loss

    for _ in range(3):
        theirs.step(closure)
        ours.step(
            lambda z: (float((abs(z - goal) ** 4).sum()), 4 * abs(z - goal) ** 2 * (z - goal))
        )
    np.testing.assert_allclose(x, y.detach().numpy(), rtol=1e-9)


def test_torchs_gradient_is_the_direction_of_steepest_ascent():
    z = torch.tensor([1 + 2j], dtype=torch.complex128, requires_grad=True)
    (z.abs() ** 2).sum().backward()
    assert z.grad.tolist() == [2 + 4j]
    x = np.array([1 + 2j])
    ss.SGD(x, lr=0.5).step(z.grad)  # a tensor, as it is
    assert x.tolist() == [0]


# JAX.

GOAL = np.array([1 + 2j, -1j, 0.5], np.complex64)


def jax_loss(params):
    return jnp.sum(jnp.abs(params["z"] - GOAL) ** 2) + jnp.sum((params["x"] - 3.0) ** 2)


def params():
    return {"z": np.zeros(3, np.complex64), "x": np.zeros(2, np.float32)}


def test_jax_gradients_are_conjugated():
    loss, grads = for_jax.value_and_grad(jax_loss)(params())
    np.testing.assert_allclose(grads["z"], -2 * GOAL)
    assert ss.check_gradients(lambda p, _: for_jax.value_and_grad(jax_loss)(p), params(), None).ok
    raw = jax.grad(jax_loss)(jax.tree.map(jnp.asarray, params()))
    np.testing.assert_allclose(raw["z"], -2 * GOAL.conj())
    assert loss == pytest.approx(np.sum(np.abs(GOAL) ** 2) + 18)


def test_minimize_and_jax_loops_reach_the_goal():
    result = ss.minimize(for_jax.value_and_grad(jax_loss), params(), "lbfgs")
    np.testing.assert_allclose(result.x["z"], GOAL, atol=1e-4)
    opt = for_jax.JaxOptimizer("sgd", jax.tree.map(jnp.asarray, params()), lr=0.25)
    for _ in range(30):
        opt.step(jax.grad(jax_loss)(opt.params))
    np.testing.assert_allclose(opt.params["z"], GOAL, atol=1e-4)


def test_jax_refusals():
    if not jax.config.jax_enable_x64:
        with pytest.raises(ValueError, match="is complex128, of which JAX would make complex64"):
            for_jax.to_jax({"z": np.ones(2, complex)})
    with pytest.raises(TypeError, match="drop the imaginary part"):
        for_jax.value_and_grad(jax_loss, dtype=jnp.bfloat16)(params())


def test_optax_refuses_complex_parameters():
    optax = pytest.importorskip("optax")
    from stepsize.interop.optax import from_optax

    with pytest.raises(TypeError, match=r"z has dtype complex64.*real view"):
        from_optax(optax.adam(1e-2), {"z": np.ones(2, np.complex64)})


# autograd.


def test_autograd_gradients_are_conjugated():
    def loss(z, i):
        return anp.sum(anp.abs(z - GOAL) ** 2)

    seen = []
    found = for_autograd.sgd(
        grad(loss), np.zeros(3, complex), lambda x, i, g: seen.append(g), 200, 0.1, mass=0.0
    )
    np.testing.assert_allclose(found, GOAL, atol=1e-6)
    np.testing.assert_allclose(seen[0], grad(loss)(np.zeros(3, complex), 0))


def test_autograd_refusals():
    with pytest.raises(TypeError, match="mixes real and complex"):
        for_autograd.adam(lambda x, i: x, [np.ones(2), np.ones(2, complex)])
    with pytest.raises(TypeError, match="start from a complex x0"):
        for_autograd.adam(lambda x, i: x * 1j, np.ones(2))


# SciPy.


def test_scipys_methods_take_complex_points_and_refuse_a_complex_gradient_of_real_ones():
    from stepsize.interop import scipy as for_scipy

    method = for_scipy.method("lbfgs")

    def distance(z):
        return float((abs(z - GOAL) ** 2).sum())

    found = method(distance, np.zeros(3, complex), jac=lambda z: 2 * (z - GOAL))
    np.testing.assert_allclose(found.x, GOAL, atol=1e-5)
    with pytest.raises(ValueError, match="jac returned complex numbers"):
        method(lambda x: float(x @ x), np.ones(3), jac=lambda x: 2j * x)
    with pytest.raises(ValueError, match=r"value\.real"):
        method(lambda x: 1j, np.ones(3), jac=lambda x: x)


# functional.


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_functions_refuse_complex_arrays_and_name_the_real_view(dtype):
    z = np.ones(3, dtype)
    with pytest.raises(TypeError, match=r"real views of complex arrays"):
        ss.functional.sgd_(z, z.copy(), step=1, lr=0.1)
    x = np.ones(6, z.real.dtype)
    with pytest.raises(TypeError, match=r"give the real part"):
        ss.functional.sgd_(x, np.ones(6, dtype), step=1, lr=0.1)
    ss.functional.sgd_(z.view(x.dtype), x, step=1, lr=1.0)
    assert z.tolist() == [-1j] * 3

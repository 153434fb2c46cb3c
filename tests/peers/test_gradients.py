"""check_gradients on functions whose gradients other packages make, and their random numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from autograd import numpy as anp
from autograd import value_and_grad

import stepsize as ss

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
BATCH = X, X[:, 0] + X[:, 1] ** 2


def params():
    return {"w": np.full(4, 0.3, np.float32), "c": np.array(0.1, np.float32)}


def of_torch(generator=None, share=0.0, tensors=False):
    """A network of one layer; with `share`, dropout by a generator of its own or torch's."""

    def function(p, batch):
        w, c = (torch.from_numpy(np.array(p[name])).requires_grad_() for name in ("w", "c"))
        x, y = map(torch.tensor, batch)
        hidden = torch.tanh(x * w)
        if generator is not None:
            hidden = hidden * (torch.rand(hidden.shape, generator=generator) > share)
        elif share:
            hidden = torch.nn.functional.dropout(hidden, share)
        loss = ((hidden.sum(1) + c - y) ** 2).mean()
        loss.backward()
        grads = {"w": w.grad, "c": c.grad}
        return loss.detach(), grads if tensors else {k: g.numpy() for k, g in grads.items()}

    return function


@jax.value_and_grad
def of_jax(p, batch):
    return jnp.mean((jnp.tanh(batch[0] @ p["w"]) + p["c"] - batch[1]) ** 2)


@value_and_grad
def of_autograd(p, batch):
    return anp.mean((anp.tanh(anp.dot(batch[0], p["w"])) + p["c"] - batch[1]) ** 2)


@pytest.mark.parametrize("function", [of_torch(tensors=True), of_jax, of_autograd])
def test_scalars_and_arrays_of_other_packages_are_numbers_and_gradients(function):
    check = ss.check_gradients(function, params(), BATCH)
    assert check.ok and not check.stochastic, str(check)

    def flipped(p, batch):
        loss, grads = function(p, batch)
        return loss, {"w": -grads["w"], "c": grads["c"]}

    assert ss.check_gradients(flipped, params(), BATCH).leaves["w"].cause == "sign_flipped"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [torch.tensor, torch.nn.Parameter, jnp.asarray])
def test_gradients_of_other_packages_are_read_alike_everywhere(kind):
    """Also tensors that belong to a graph, which give no array without being asked twice."""

    def function(p, batch, kind=kind):
        error = batch[0] @ p["w"] + p["c"] - batch[1]
        grads = {"w": 2 * batch[0].T @ error / 20, "c": np.array(2 * error.mean())}
        if kind is torch.nn.Parameter:
            return float((error**2).mean()), {n: kind(torch.tensor(g)) for n, g in grads.items()}
        return float((error**2).mean()), {n: kind(g) for n, g in grads.items()}

    plain = lambda p, b: function(p, b, np.asarray)  # noqa: E731
    assert ss.check_gradients(function, params(), BATCH).ok
    ours, theirs = (ss.lr_find(f, params(), [BATCH], progress=False) for f in (plain, function))
    assert ours.suggestion == theirs.suggestion and np.array_equal(ours.losses, theirs.losses)
    for make in (ss.LBFGS, lambda p: ss.SGD(p, lr=0.01)):
        ends = []
        for f in (plain, function):
            p = params()
            history = ss.fit(f, p, make(p), [BATCH], steps=20)
            ends.append(
                (p["w"].tobytes(), history["grad_norm"].tobytes(), history.meta.get("slopes"))
            )
        assert ends[0] == ends[1]
    ours, theirs = (ss.sharpness(f, params(), BATCH).value for f in (plain, function))
    assert ours == theirs


@pytest.mark.parametrize(
    "kind", [lambda g: torch.tensor(g).to_sparse(), lambda g: torch.tensor(g).bfloat16()]
)
def test_a_gradient_that_numpy_cannot_read_is_named(kind):
    def function(p, batch):
        return 1.0, {"w": kind(p["w"]), "c": p["c"]}

    words = "the gradient of w is a Tensor that NumPy cannot read"
    with pytest.raises(TypeError, match=f"check_gradients: {words}"):
        ss.check_gradients(function, params(), BATCH)
    with pytest.raises(TypeError, match=f"SGD: {words}"):
        ss.SGD(params(), lr=0.1).step(function(params(), BATCH)[1])
    with pytest.raises(TypeError, match=words):
        ss.lr_find(function, params(), [BATCH], progress=False)


@pytest.mark.parametrize("own", [False, True])
def test_the_random_numbers_of_torch_are_held_fixed_and_put_back(own):
    generator = torch.Generator() if own else None
    drawn = (generator or torch.default_generator).manual_seed(3)
    before = drawn.get_state()
    function = of_torch(generator, 0.3)
    check = ss.check_gradients(function, params(), BATCH)
    assert check.ok and check.stochastic and "held fixed" in str(check), str(check)
    assert torch.equal(drawn.get_state(), before)
    found = ss.lr_find(function, params(), BATCH, steps=30, progress=False)
    assert found.usable and torch.equal(drawn.get_state(), before)

"""JAX: gradients from it, parameters copied both ways, dtypes that say what they are."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stepsize as ss
from stepsize.interop import jax as ours


def loss(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["w"]) @ params["v"] - y) ** 2)


@pytest.fixture
def data(random):
    x = random.normal(size=(64, 4)).astype(np.float32)
    return x, np.sin(x[:, 0])


@pytest.fixture
def params(random):
    return {
        "w": random.normal(size=(4, 16)).astype(np.float32),
        "v": random.normal(size=16).astype(np.float32),
    }


@pytest.fixture
def double():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def test_it_trains_as_by_hand(params, data):
    expected = ss.arrays.copy(params)
    history = ss.fit(
        ours.value_and_grad(loss),
        params,
        ss.Adam(params, lr=0.01),
        data,
        steps=20,
        batch_size=64,
        seed=None,
    )
    opt, losses = ss.Adam(expected, lr=0.01), []
    by_hand = jax.jit(jax.value_and_grad(loss))
    for _ in range(20):
        value, grads = by_hand(jax.tree.map(jnp.array, expected), data)
        losses.append(float(value))
        opt.step({name: np.array(g) for name, g in grads.items()})
    assert history["loss"].tolist() == losses and losses[-1] < losses[0]
    assert all(np.array_equal(params[k], expected[k]) for k in params)


@pytest.mark.parametrize("jit", [True, False])
def test_what_a_loss_returns_beside_its_value(params, data, jit):
    def with_aux(params, batch):
        value = loss(params, batch)
        return value, {"half": value / 2, "rows": len(batch[1])}

    function = ours.value_and_grad(with_aux, has_aux=True, jit=jit)
    value, grads = function(params, data)
    expected, plain = ours.value_and_grad(loss, jit=jit)(params, data)
    assert value == expected and all(np.array_equal(grads[k], plain[k]) for k in params)
    assert function.aux["half"] == np.float32(value) / 2 and function.aux["rows"] == 64
    history = ss.fit(function, params, ss.Adam(params), data, steps=2, batch_size=64)
    assert function.aux["half"] == np.float32(history["loss"][-1]) / 2
    with pytest.raises(TypeError, match="give has_aux=True"):
        ours.value_and_grad(with_aux, jit=jit)(params, data)
    with pytest.raises(TypeError, match="has_aux=True needs a loss that returns"):
        ours.value_and_grad(loss, has_aux=True, jit=jit)(params, data)


def test_the_finder_takes_it(params, data):
    found = ss.lr_find(ours.value_and_grad(loss), params, [data], optimizer=ss.Adam)
    assert found.usable and 1e-4 < found.suggestion < 1


def test_nothing_shares_memory(random):
    aligned = ss._core.allocate(4 << 16).view(np.float32)
    aligned[:] = 1
    for nest in (aligned, np.ones(3, np.float32), {"a": [aligned]}):
        over = ours.to_jax(nest)
        before = jax.tree.map(lambda leaf: np.array(leaf, copy=True), over)
        for leaf in jax.tree.leaves(nest):
            leaf += 1
        assert all(map(np.array_equal, jax.tree.leaves(over), jax.tree.leaves(before)))
    there = jnp.ones(1000)
    back = ours.to_numpy(there)
    assert back.flags.writeable and back.flags.owndata
    back += 1
    assert float(there.sum()) == 1000


def test_a_gradient_that_is_the_parameter_is_a_copy():
    seen = []

    def spy(x):
        return jnp.sum(x * x) / 2

    f = ours.value_and_grad(spy)
    x = np.ones(4, np.float32)
    seen.append(f(x)[1])
    x += 1
    assert seen[0].tolist() == [1, 1, 1, 1] and not np.shares_memory(seen[0], x)


def test_float64_is_not_rounded_in_silence():
    f = ours.value_and_grad(lambda p: jnp.sum(p["x"]))
    with pytest.raises(ValueError, match=r"x is float64.*jax_enable_x64"):
        f({"x": np.ones(2)})


def test_float64_where_it_is_enabled(double):
    f = ours.value_and_grad(lambda x: jnp.sum((x - jnp.array([1.0, 2.0])) ** 2))
    result = ss.minimize(f, np.zeros(2), "lbfgs", gtol=1e-12)
    assert result.x.dtype == np.float64 and np.abs(result.x - [1, 2]).max() < 1e-12


def test_bfloat16_is_computed_in_and_kept_in_float32(params, data):
    seen = []

    def narrow(p, batch):
        seen.append(p["w"].dtype)
        return loss(p, batch).astype(jnp.float32)

    value, grads = ours.value_and_grad(narrow, dtype=jnp.bfloat16)(params, data)
    whole, exact = ours.value_and_grad(loss)(params, data)
    assert seen[0] == jnp.bfloat16 and grads["w"].dtype == np.float32
    assert value == pytest.approx(whole, rel=0.02)
    assert np.abs(grads["w"] - exact["w"]).max() < 0.05 * np.abs(exact["w"]).max()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_a_loop_of_jax_arrays(params, data, dtype):
    mine = jax.tree.map(lambda leaf: jnp.array(leaf, dtype), params)
    opt = ours.JaxOptimizer("adamw", mine, lr=0.01)
    first = [np.array(leaf) for leaf in jax.tree.leaves(mine)]
    values = []
    for _ in range(30):
        value, grads = jax.value_and_grad(loss)(opt.params, data)
        values.append(float(value))
        after = opt.step(grads)
    assert values[-1] < values[0] / 2
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype(dtype)}
    assert all(map(np.array_equal, first, jax.tree.leaves(mine)))
    assert opt.inner.params["w"].dtype == np.float32 and opt.inner.step_count == 30


def test_refusals():
    with pytest.raises(ValueError, match="LBFGS steps with a function"):
        ours.JaxOptimizer("lbfgs", jnp.ones(2))
    with pytest.raises(ValueError, match="no rule 'adamx'"):
        ours.JaxOptimizer("adamx", jnp.ones(2))


@pytest.mark.parametrize("module", ["jax", "optax"])
def test_the_examples_run(module):
    found = doctest.testmod(getattr(ss.interop, module))
    assert found.attempted > 3 and not found.failed

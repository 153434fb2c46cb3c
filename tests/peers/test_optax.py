"""optax: its transformations and schedules here, our schedules there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stepsize as ss
from stepsize.interop.optax import from_optax, to_optax

TRANSFORMATIONS = {
    "adam": lambda: optax.adam(1e-2),
    "sgd": lambda: optax.sgd(optax.cosine_decay_schedule(0.1, 10), momentum=0.9),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(1e-2)),
    "masked": lambda: optax.masked(optax.sgd(0.1), {"w": True, "b": False}),
    "noisy": lambda: optax.chain(optax.add_noise(0.1, 0.5, 0), optax.sgd(0.1)),
}


def start():
    random = np.random.default_rng(0)
    return {"w": random.normal(size=(3, 4)).astype("f4"), "b": np.ones(4, np.float32)}


def gradients(step):
    random = np.random.default_rng(step)
    return {"w": random.normal(size=(3, 4)).astype("f4"), "b": np.ones(4, np.float32) * step}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_it_is_what_optax_does(name):
    transformation = TRANSFORMATIONS[name]()
    params, theirs = start(), jax.tree.map(jnp.array, start())
    opt, state = from_optax(transformation, params), transformation.init(theirs)
    for step in range(12):
        updates, state = jax.jit(transformation.update)(gradients(step), state, theirs)
        theirs = optax.apply_updates(theirs, updates)
        opt.step(gradients(step))
    assert all(np.array_equal(params[k], theirs[k]) for k in params)
    assert opt.step_count == 12


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_state_goes_along(name, tmp_path):
    params, whole = start(), start()
    opt, straight = (from_optax(TRANSFORMATIONS[name](), p) for p in (params, whole))
    for step in range(3):
        opt.step(gradients(step))
        straight.step(gradients(step))
    opt.save(tmp_path / "state")
    again = from_optax(TRANSFORMATIONS[name](), params)
    again.load(tmp_path / "state")
    copied = ss.arrays.copy(params)
    clone = again.clone(copied)
    for step in range(3, 6):
        for one in (again, clone, straight):
            one.step(gradients(step))
    assert all(np.array_equal(params[k], whole[k]) for k in params)
    assert all(np.array_equal(copied[k], whole[k]) for k in params)


def test_fit_and_the_finder_take_it():
    def value_and_grad(p, batch):
        return float((p * p).sum()) / 2, p.copy()

    x = np.ones(3, np.float32)
    found = ss.lr_find(value_and_grad, x, [None], optimizer=lambda p: from_optax(optax.sgd(0.1), p))
    assert found.usable and x.tolist() == [1, 1, 1]
    opt = from_optax(optax.sgd(0.1), x, lr=ss.schedules.linear(1.0, 0.0, 10))
    history = ss.fit(value_and_grad, x, opt, [None], epochs=10)
    assert history["lr"].tolist() == ss.schedules.linear(1.0, 0.0, 10).values(10).tolist()
    ratio = 0.1 * history["lr"]
    np.testing.assert_allclose(history["update_ratio"], ratio, rtol=1e-6)


def test_the_common_keywords_act():
    x = np.zeros(2, np.float32)
    opt = from_optax(optax.sgd(1.0), x, clip_value=0.5, maximize=True)
    opt.step(np.array([3.0, -0.25], np.float32))
    assert x.tolist() == [0.5, -0.25]


def test_a_transformation_that_wants_the_loss_gets_it():
    x = np.ones(2, np.float32)
    opt = from_optax(optax.polyak_sgd(), x)
    opt.step(x.copy(), loss=1.0)
    # The step of Polyak: loss / |g|^2 = 1 / 2.
    np.testing.assert_allclose(x, 0.5, rtol=1e-6)


def test_refusals():
    with pytest.raises(TypeError, match="got type"):
        from_optax(ss.Adam, np.ones(2, np.float32))
    with pytest.raises(ValueError, match="jax_enable_x64"):
        from_optax(optax.sgd(1.0), np.ones(2))
    for searching in (
        optax.lbfgs(),
        optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(5)),
    ):
        with pytest.raises(
            TypeError, match=r"evaluates the function at each step .* use ss\.LBFGS"
        ):
            from_optax(searching, np.ones(2, np.float32))
    opt = from_optax(optax.sgd(1.0), {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)})
    with pytest.raises(ValueError, match="give zeros"):
        opt.step({"a": np.ones(2, np.float32), "b": None})
    other = from_optax(optax.adam(1.0), {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)})
    with pytest.raises(ValueError, match="another transformation"):
        opt.load_state_dict(other.state_dict())
    assert type(opt) not in ss.optimizers.registry()


SCHEDULES = [
    optax.cosine_decay_schedule(0.1, 10),
    optax.warmup_cosine_decay_schedule(0.0, 0.1, 5, 20),
    optax.exponential_decay(0.1, 10, 0.5),
    lambda count: 0.1 / (1 + count),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_their_schedules_are_rates(schedule):
    x, y = np.zeros(1), np.zeros(1)
    opt, by_hand = ss.SGD(x, lr=schedule), ss.SGD(y, lr=0.0)
    for step in range(25):
        by_hand.lr = float(schedule(step))
        assert opt.lr == by_hand.lr
        opt.step(np.ones(1))
        by_hand.step(np.ones(1))
    assert x == y


def test_our_schedules_are_rates_of_theirs_outside_of_jit():
    schedule = ss.schedules.warmup_cosine(0.1, 5, 20)
    transformation = optax.sgd(schedule)
    state = transformation.init(jnp.zeros(1))
    for step in range(25):
        updates, state = transformation.update(jnp.ones(1), state)
        assert float(-updates[0]) == np.float32(schedule(step))


@pytest.mark.parametrize(
    "schedule",
    [
        ss.schedules.warmup_cosine(0.1, 5, 20),
        ss.schedules.constant(0.1),
        ss.schedules.inverse_sqrt(0.1, 5),
        ss.schedules.cosine_restarts(0.1, 7),
        ss.schedules.from_function(lambda t: 0.1 / (1 + t)),
    ],
    ids=lambda schedule: schedule.name,
)
def test_our_schedules_are_rates_of_theirs_inside_of_jit(schedule):
    transformation = optax.sgd(to_optax(schedule))
    update = jax.jit(transformation.update)
    state = transformation.init(jnp.zeros(1))
    for step in range(25):
        updates, state = update(jnp.ones(1), state)
        assert float(-updates[0]) == np.float32(schedule(step))

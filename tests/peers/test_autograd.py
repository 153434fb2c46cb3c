"""The signatures of `autograd.misc.optimizers`, and its numbers."""

import inspect

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.misc import flatten
from autograd.misc import optimizers as theirs

import stepsize as ss
from stepsize.interop import autograd as ours

NEST = {"w": np.array([[1.0, -2.0], [0.5, 3.0]]), "b": (np.array([0.1, 0.2]), 0.7)}


def loss(p, i):
    return anp.sum(p["w"] ** 2) + anp.sum((p["b"][0] - 1.0) ** 2) + (1 + i / 50) * p["b"][1] ** 4


def flat(nest):
    return flatten(nest)[0]


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
@pytest.mark.parametrize("keywords", [{}, {"num_iters": 37, "step_size": 0.03}])
def test_results_are_those_of_autograd(name, keywords):
    kept = flat(NEST).copy()
    mine, other = [], []

    def keep(into):
        return lambda x, i, g: into.append((i, flat(x).copy(), flat(g).copy()))

    a = getattr(ours, name)(grad(loss), NEST, keep(mine), **keywords)
    b = getattr(theirs, name)(grad(loss), NEST, keep(other), **keywords)
    np.testing.assert_allclose(flat(a), flat(b), rtol=1e-10)
    assert len(mine) == len(other) and type(a["b"]) is tuple and np.ndim(a["b"][1]) == 0
    for (i, x, g), (j, y, h) in zip(mine, other, strict=True):
        assert i == j
        np.testing.assert_allclose(x, y, rtol=1e-10)
        np.testing.assert_allclose(g, h, rtol=1e-10)
    assert np.array_equal(flat(NEST), kept)


@pytest.mark.parametrize("start", [np.ones((2, 3)), np.arange(4.0), 3.0, [np.ones(2), 1.0]])
def test_any_start_comes_back_in_its_form(start):
    a, b = (module.adam(lambda x, i: x, start, num_iters=9) for module in (ours, theirs))
    np.testing.assert_allclose(flat(a), flat(b), rtol=1e-10)
    assert type(a) is type(b) and np.shape(a if isinstance(a, np.ndarray) else 0) == np.shape(
        b if isinstance(b, np.ndarray) else 0
    )


def test_the_other_hyperparameters_agree():
    pairs = [("sgd", {"mass": 0.5}), ("rmsprop", {"gamma": 0.7, "eps": 0.1})]
    for name, keywords in [*pairs, ("adam", {"b1": 0.5, "b2": 0.7, "eps": 0.1})]:
        a = getattr(ours, name)(grad(loss), NEST, **keywords)
        np.testing.assert_allclose(
            flat(a), flat(getattr(theirs, name)(grad(loss), NEST, **keywords)), rtol=1e-10
        )


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
def test_arguments_and_defaults_are_those_of_autograd(name):
    mine = inspect.signature(getattr(ours, name)).parameters
    wrapped = getattr(theirs, name).__closure__[0].cell_contents
    other = inspect.signature(wrapped).parameters
    assert [p.default for p in mine.values()] == [p.default for p in other.values()]
    assert list(mine)[2:] == list(other)[2:] and len(mine) >= 6


@pytest.mark.parametrize("name", ours.__all__)
def test_every_rule_is_there(name):
    end = getattr(ours, name)(grad(loss), NEST, num_iters=5)
    assert not np.array_equal(flat(end), flat(NEST)) and np.isfinite(flat(end)).all()


def test_a_rule_is_the_rule():
    x = flat(NEST).copy()
    opt = ss.AdamW(x, lr=ss.schedules.linear(0.1, 0.0, 20), weight_decay=0.5)
    for i in range(20):
        opt.step(flat(grad(loss)(flatten(NEST)[1](x.copy()), i)))
    lr = ss.schedules.linear(0.1, 0.0, 20)
    end = ours.adamw(grad(loss), NEST, num_iters=20, step_size=lr, weight_decay=0.5)
    assert np.array_equal(flat(end), x)


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
def test_a_step_size_may_follow_the_step(name):
    rates = {ss.schedules.linear(0.1, 0.0, 20), ss.schedules.from_function(lambda t: 0.1 - t / 200)}
    ends = [getattr(ours, name)(grad(loss), NEST, num_iters=20, step_size=rate) for rate in rates]
    by_function = getattr(ours, name)(
        grad(loss), NEST, num_iters=20, step_size=lambda t: 0.1 - t / 200
    )
    for end in ends:
        np.testing.assert_allclose(flat(end), flat(by_function), rtol=1e-10)


def test_what_is_kept_stays():
    kept, seen = [], []

    def gradient(x, i):
        seen.append(x)
        return 2 * x

    ours.adam(gradient, np.ones(3), lambda x, i, g: kept.append((x, g)), num_iters=3)
    assert all(np.array_equal(2 * x, g) for x, g in kept)
    assert len({x.tobytes() for x, _ in kept}) == 3 == len({x.tobytes() for x in seen})


def test_an_average_is_the_answer():
    x = np.ones(3)
    opt = ss.ScheduleFreeSGD(x, lr=0.1)
    for _ in range(10):
        opt.step(2 * x)
    end = ours.schedule_free_sgd(lambda x, i: 2 * x, np.ones(3), num_iters=10, step_size=0.1)
    with opt.averaged():
        assert np.array_equal(end, x)


@pytest.mark.parametrize("real", [lambda z: 2 * z.real, lambda z: [1, 2, 3], lambda z: z.imag])
def test_real_gradients_of_complex_numbers_are_refused(real):
    start = np.array([1 + 2j, -1j, 0.5])
    z = start.copy()
    with pytest.raises(TypeError, match=r"x is complex128; the parameter is complex, so give both"):
        ours.adam(lambda z, i: np.asarray(real(z)), z)
    assert (z == start).all()

"""Bound gradients: the same step as with gradients passed, and clear words for misfits."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import stepsize as ss
from cases import RULES, Case
from stepsize.errors import NonFiniteGradientError


def nest(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    draw = rng.standard_normal
    return {
        "b": draw(5).astype(dtype),
        "a": [draw((2, 3)).astype(dtype), (draw(()).astype(dtype),)],
    }


def leaves(params):
    return [params["a"][0], params["a"][1][0], params["b"]]


@pytest.mark.parametrize(
    "cls", [cls for cls in RULES if not cls.needs_closure], ids=lambda cls: cls.__name__
)
def test_bound_steps_are_the_steps_with_gradients_passed(cls):
    case = Case(cls)
    bound, passed, grads = nest(0), nest(0), nest(1)
    first, second = case.make(bound), case.make(passed)
    loss = {"loss": 1.0} if cls.needs_loss else {}
    first.bind(grads)
    for seed in range(2, 5):
        for leaf, value in zip(leaves(grads), leaves(nest(seed)), strict=True):
            leaf[...] = value
        first.step(**loss)
        second.step(nest(seed), **loss)
    for a, b in zip(leaves(bound), leaves(passed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_passed_gradients_do_not_unbind():
    x, g = np.zeros(3), np.ones(3)
    opt = ss.SGD(x, lr=1.0)
    opt.bind(g)
    opt.step(np.full(3, 10.0))
    opt.step()
    np.testing.assert_array_equal(x, -11.0)


def test_none_is_still_no_gradient():
    x = np.zeros(3)
    opt = ss.SGD(x, lr=1.0)
    opt.bind(np.ones(3))
    opt.step(None)
    np.testing.assert_array_equal(x, 0.0)
    opt.bind(None)
    opt.step()
    assert not x.any()


def test_a_step_without_gradients_asks_for_them():
    opt = ss.SGD(np.zeros(3))
    with pytest.raises(ValueError, match=r"none are bound; pass them.*opt\.bind"):
        opt.step()
    assert opt.step_count == 0


@pytest.mark.parametrize(
    ("grads", "words"),
    [
        (np.ones((3, 2), np.float32).T, "cannot be bound"),
        (np.ones((2, 4), np.float32), "has shape"),
        (np.ones((2, 3)), "has dtype"),
        ({"a": np.ones((2, 3), np.float32)}, "is a dict"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_old_ones_stay(grads, words):
    x, g = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    opt = ss.SGD(x, lr=1.0)
    opt.bind(g)
    with pytest.raises((TypeError, ValueError), match=words):
        opt.bind(grads)
    opt.step()
    np.testing.assert_array_equal(x, -1.0)


def test_a_gradient_that_overlaps_a_parameter_cannot_be_bound():
    memory = np.zeros(6)
    opt = ss.SGD({"a": memory[:3]})
    with pytest.raises(ValueError, match="shares memory"):
        opt.bind({"a": memory[1:4]})
    with pytest.raises(ValueError, match="none are bound"):
        opt.step()


def test_bound_gradients_are_checked_at_every_step():
    x, g = np.zeros(3), np.ones(3)
    opt = ss.SGD(x)
    opt.bind(g)
    g[1] = np.nan
    with pytest.raises(NonFiniteGradientError):
        opt.step()
    assert not x.any()


def test_bound_arrays_live_as_long_as_they_are_bound():
    x = np.zeros(3)
    opt = ss.SGD(x, lr=1.0)
    opt.bind(np.ones(3))
    gc.collect()
    opt.step()
    np.testing.assert_array_equal(x, -1.0)
    owner = np.ones(4)
    kept = weakref.ref(owner)
    opt.bind(owner[:3])
    del owner
    assert kept() is not None
    opt.bind(None)
    gc.collect()
    assert kept() is None


def test_dicts_are_read_by_their_keys_in_any_order():
    params = {"b": np.zeros(1), "a": np.zeros(1), "c": np.zeros(1)}
    opt = ss.SGD(params, lr=1.0)
    for order in ("abc", "cba", "bca", "bca"):
        opt.step({"".join(key): np.full(1, float(ord(key))) for key in order})
    found = {key: -value[0] / 4 for key, value in params.items()}
    assert found == {key: float(ord(key)) for key in "abc"}
    opt.step({"c": None, "b": np.ones(1), "a": None})
    assert params["a"][0] == -4 * ord("a") and params["b"][0] == -4 * ord("b") - 1
    with pytest.raises(ValueError, match="c is missing"):
        opt.step({"a": None, "b": None, "d": None})


@pytest.mark.parametrize("copied", ["deepcopy", "pickle", "clone"])
@pytest.mark.parametrize(
    "wrap", [lambda o: o, ss.Centralize, ss.Mechanic, lambda o: ss.EMA(o, 0.5)]
)
def test_a_copy_has_no_gradients_bound(wrap, copied):
    """Those of the original are written by its model, and the copy's would stay as they are."""
    x, g = np.ones(3), np.ones(3)
    optimizer = wrap(ss.SGD(x, lr=0.1))
    optimizer.bind(g)
    optimizer.step()
    ways = {
        "deepcopy": copy.deepcopy,
        "pickle": lambda o: pickle.loads(pickle.dumps(o)),
        "clone": lambda o: o.clone(x.copy()),
    }
    twin = ways[copied](optimizer)
    with pytest.raises(ValueError, match="none are bound"):
        twin.step()
    optimizer.step()
    assert optimizer.step_count == 2 and twin.step_count == 1

"""A step owns what it reads: nobody takes arrays away from under it, or steps again inside it."""

import gc
import threading
import weakref

import numpy as np
import pytest

import stepsize as ss
from stepsize.optimizers.fields import nonnegative
from stepsize.optimizers.optimizer import Optimizer

LARGE = 70_000  # elements from which on other threads run while the kernels do


def nest(size=3):
    return {"a": np.ones(size), "b": np.ones(size)}


@pytest.mark.parametrize("size", [3, LARGE])
def test_a_rate_that_empties_the_gradients_stops_the_step(size):
    params, grads = nest(size), nest(size)
    opt = ss.SGD(params, lr=lambda _: grads.clear() or 1.0)
    with pytest.raises(ValueError, match="a is missing"):
        opt.step(grads)
    assert opt.step_count == 0 and all((x == 1).all() for x in params.values())


def test_a_rate_that_replaces_a_gradient_is_seen():
    params, grads = nest(), nest()

    def rate(_):
        grads["a"] = np.full(3, 5.0)
        return 1.0

    ss.SGD(params, lr=rate).step(grads)
    np.testing.assert_array_equal(params["a"], -4.0)


@pytest.mark.parametrize("call", ["step", "bind"])
def test_a_step_inside_a_step_is_refused(call):
    params, grads = nest(), nest()
    opt = ss.SGD(params, momentum=0.9)
    opt.lr = lambda _: getattr(opt, call)(grads) or 1.0
    with pytest.raises(RuntimeError, match="inside its own step"):
        opt.step(grads)
    assert opt.step_count == 0 and (params["a"] == 1).all()
    opt.lr = 1.0
    opt.step(grads)
    assert opt.step_count == 1 and not params["a"].any()


def test_a_replica_cannot_step_inside_the_step_of_its_population():
    x = ss.replicate(np.ones(3), 2)
    models = ss.population("sgd", x, lr=0.1)
    models.replica(1).lr = lambda _: models.replica(0).step(np.ones(3)) or 1.0
    with pytest.raises(RuntimeError, match="inside its own step"):
        models.step(np.ones_like(x))
    assert (x == 1).all() and not models.step_count.any()


def test_a_rate_may_set_another_hyperparameter():
    x = np.ones(2)
    opt = ss.SGD(x, momentum=0.5)

    def rate(_):
        opt.lr = 0.25
        return 0.5

    opt.lr = rate
    opt.step(np.ones(2))
    opt.step(np.zeros(2))
    np.testing.assert_array_equal(x, 0.5 - 0.25 * 0.5)


def test_a_parameter_that_a_rate_resizes_stops_the_step():
    x = np.ones(8)
    opt = ss.SGD(x, lr=lambda _: x.resize(10_000, refcheck=False) or 1.0)
    with pytest.raises(ValueError, match="changed its shape"):
        opt.step(np.ones(8))


def test_a_gradient_that_a_rate_resizes_stops_the_step():
    x, g = np.ones(8), np.ones(8)
    opt = ss.SGD(x, lr=lambda _: g.resize(10_000, refcheck=False) or 1.0)
    with pytest.raises(ValueError, match="has shape"):
        opt.step(g)
    assert (x == 1).all()


def test_state_arrays_cannot_be_resized():
    opt = ss.Adafactor({"w": np.ones((3, 4))})
    for array in opt.state["w"].values():
        with pytest.raises(ValueError, match="resize"):
            array.resize((10, 10), refcheck=False)


@pytest.mark.parametrize("bound", [False, True])
def test_a_thread_that_empties_the_gradients_is_held_off(bound):
    params, spare = nest(10 * LARGE), nest(10 * LARGE)
    twin = {name: x.copy() for name, x in params.items()}
    grads, stop = dict(spare), threading.Event()
    opt, other = ss.AdamW(params, lr=1e-3), ss.AdamW(twin, lr=1e-3)

    def take():
        while not stop.is_set():
            grads.clear()
            grads.update({name: g.copy() for name, g in spare.items()})

    if bound:
        opt.bind(grads)
    thread = threading.Thread(target=take)
    thread.start()
    try:
        for _ in range(40):
            try:
                opt.step(*(() if bound else (grads,)))
            except ValueError as error:  # a look at the wrong time
                assert "missing" in str(error)
    finally:
        stop.set()
        thread.join()
    for _ in range(opt.step_count):
        other.step(spare)
    for name, x in params.items():
        np.testing.assert_array_equal(x, twin[name])


class Resizing(Optimizer, abstract=True):
    """Plain gradient descent that tries to resize arrays in the middle of its step."""

    lr = nonnegative(1.0)
    decay = "none"

    def rule(self, x, g, s, h):
        for array in self._prey:
            with pytest.raises(ValueError, match="does not own its data"):
                array.resize(10, refcheck=False)
        x -= h.lr * g


@pytest.mark.parametrize("view", [False, True])
def test_arrays_cannot_be_resized_while_other_threads_may_run(view):
    base, g = np.ones(2 * LARGE), np.ones(LARGE)
    x = base[:LARGE] if view else np.ones(LARGE)
    opt = Resizing(x)
    opt._prey = [g, base if view else x]
    opt.step(g)
    assert not x.any() and g.flags.owndata and base.flags.owndata


def test_arrays_own_their_memory_again_after_a_step_that_was_refused():
    x, g = np.ones(LARGE), np.ones(LARGE)
    g[5] = np.nan
    with pytest.raises(ss.NonFiniteGradientError, match="NaN"):
        ss.SGD(x).step(g)
    assert x.flags.owndata and g.flags.owndata


def test_views_keep_the_memory_they_show_in_place():
    base = np.ones(2 * LARGE)
    ss.SGD(base[:LARGE]).step(base[LARGE:])
    assert base.flags.owndata


def test_gradients_are_let_go_after_the_step():
    opt = ss.SGD(np.ones(3))
    g = np.ones(3)
    gone = weakref.ref(g)
    opt.step(g)
    del g
    assert gone() is None


def test_an_optimizer_is_freed_without_the_collector():
    opt = ss.AdamW(np.ones(3))
    opt.step(np.ones(3))
    gone = weakref.ref(opt)
    gc.disable()
    try:
        del opt
        assert gone() is None
    finally:
        gc.enable()


def test_a_rate_that_owns_the_optimizer_is_collected_with_it():
    class Trainer:
        def __init__(self):
            self.opt = ss.SGD(np.ones(3), lr=self.rate)

        def rate(self, _):
            return 0.5

    trainer = Trainer()
    trainer.opt.step(np.ones(3))
    gone = weakref.ref(trainer)
    del trainer
    gc.collect()
    assert gone() is None


class Key:
    """A key that is equal to another one, and on the way takes the nest apart."""

    def __init__(self, name, nest):
        self.name, self.nest = name, nest

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        self.nest.clear()
        return self.name == getattr(other, "name", other)


def test_keys_that_take_the_nest_apart_do_no_harm():
    x = {"a": np.ones(3), "b": {"c": np.ones(3)}}
    opt = ss.SGD(x)
    grads = {}
    grads["a"] = np.ones(3)
    grads[Key("b", grads)] = {"c": np.ones(3)}
    with pytest.raises((ValueError, TypeError, RuntimeError, KeyError)):
        opt.step(grads)
    assert opt.step_count == 0

"""Losses and gradients of another kind than they have to be, through every door.

A complex loss, a real gradient of a complex leaf, a complex one of a real leaf, whole numbers, NaN:
each is an error or an answer that names the leaf or the value, and parameters are as they were.
"""

import copy

import numpy as np
import pytest

import stepsize as ss
from stepsize.interop import scipy as for_scipy

GOAL = np.array([1 + 2j, -1j, 0.5])
BATCHES = [0] * 8


def start():
    return {"x": np.ones(2), "z": np.zeros(3, complex)}


def right(params):
    z, x = params["z"] - GOAL, params["x"] - 3
    loss = float((np.abs(z) ** 2).sum() + (x**2).sum())
    return loss, {"x": 2 * x, "z": 2 * z}


def bad(loss=None, **changes):
    """The function with its loss or gradients changed."""

    def function(params, batch=None):
        value, grads = right(params)
        for name, change in changes.items():
            grads[name] = change(grads[name])
        return value if loss is None else loss(value), grads

    return function


def evaluated(optimizer):
    return lambda f, p: optimizer(p).step(lambda q: f(q))


def stepped(make):
    def door(f, p):
        make(p).step(f(p)[1])

    return door


def tuned(f, p):
    def objective(point):
        fresh = copy.deepcopy(p)
        history = ss.fit(f, fresh, ss.SGD(fresh, **point), BATCHES, steps=2, progress=False)
        if "diverged" in history.stopped:
            raise ArithmeticError(history.stopped)
        return history["loss"][-1]

    ss.tune(objective, {"lr": ss.LogUniform(1e-3, 1e-1)}, trials=2, on_error="raise")


def fitted(make, **options):
    return lambda f, p: ss.fit(f, p, make(p), BATCHES, steps=3, progress=False, **options)


def branched(f, p):
    found = ss.what_if(f, p, ss.SGD(p, lr=0.01), BATCHES, steps=2, held=2)
    return [branch.failure for branch in found.branches]


def bound(f, p):
    grads = {name: np.zeros_like(leaf) for name, leaf in p.items()} | f(p)[1]
    optimizer = ss.Adam(p)
    optimizer.bind(grads)
    optimizer.step()


# Those that see gradients alone, and those that see the loss too.
BY_GRADIENT = {
    "step": stepped(ss.Adam),
    "statistics": lambda f, p: ss.Adam(p).step(f(p)[1], stats=True),
    "clipped": stepped(lambda p: ss.SGD(p, clip_norm=1.0)),
    "low precision": stepped(lambda p: ss.Adam(p, state_dtype="bfloat16")),
    "bound": bound,
    "EMA": stepped(lambda p: ss.EMA(ss.SGD(p))),
    "SWA": stepped(lambda p: ss.SWA(ss.SGD(p))),
    "Lookahead": stepped(lambda p: ss.Lookahead(ss.SGD(p))),
    "Accumulate": stepped(lambda p: ss.Accumulate(ss.SGD(p), every=2)),
    "GradientNoise": stepped(lambda p: ss.GradientNoise(ss.SGD(p))),
    "Centralize": stepped(lambda p: ss.Centralize(ss.SGD(p))),
    "AdaptiveClip": stepped(lambda p: ss.AdaptiveClip(ss.SGD(p))),
    "Mechanic": stepped(lambda p: ss.Mechanic(ss.SGD(p))),
}
BY_BOTH = {
    "LBFGS": evaluated(ss.LBFGS),
    "SAM": evaluated(lambda p: ss.SAM(ss.SGD(p))),
    "fit": fitted(ss.Adam),
    "fit, accumulated": fitted(ss.Adam, accumulate=2),
    "fit, closure": fitted(ss.LBFGS),
    "lr_find": lambda f, p: ss.lr_find(f, p, BATCHES, steps=20, progress=False),
    "autolr": lambda f, p: ss.autolr(f, p, BATCHES, steps=20, progress=False),
    "what_if": branched,
    "tune": tuned,
    "check_gradients": lambda f, p: ss.check_gradients(f, p, None),
    "minimize": lambda f, p: ss.minimize(f, p, "adam"),
    "minimize, closure": lambda f, p: ss.minimize(f, p, "lbfgs"),
    "PolyakSGD": lambda f, p: ss.PolyakSGD(p).step(f(p)[1], loss=f(p)[0]),
}

GRADIENTS = {
    "real of complex": (bad(z=lambda g: g.real), ["z", "float64", "complex128", "dL/dx"]),
    "imaginary of complex": (bad(z=lambda g: g.imag), ["z", "float64", "complex128", "dL/dx"]),
    "whole of complex": (bad(z=lambda g: np.ones(3, int)), ["z", "int64", "complex128"]),
    "other precision": (bad(z=lambda g: g.astype("c8")), ["z", "complex64", "complex128"]),
    "parts of complex": (bad(z=lambda g: g.view(float).reshape(3, 2)), ["z", "float64"]),
    "complex of real": (bad(x=lambda g: g + 0j), ["x", "complex128", "float64", "real part"]),
}
LOSSES = {
    "complex": (bad(lambda v: v + 1j), ["complex", "1j", "loss.real"]),
    "complex of no imaginary part": (bad(np.complex128), ["complex", "0j", "loss.real"]),
    "complex array": (bad(lambda v: np.array(v + 1j)), ["complex", "1j", "loss.real"]),
}
NAN = {
    "nan": bad(z=lambda g: g * np.nan),
    "nan in the imaginary part": bad(z=lambda g: g.real + 1j * np.nan),
    "infinity": bad(z=lambda g: g + complex(0, np.inf)),
}


def refused(door, function, words):
    params = start()
    with pytest.raises((TypeError, ValueError)) as error:
        door(function, params)
    for word in words:
        assert word in str(error.value)
    unchanged(params)


def unchanged(params):
    assert all(np.array_equal(leaf, start()[name]) for name, leaf in params.items())


@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.parametrize("door", [*BY_GRADIENT, *BY_BOTH])
def test_a_gradient_of_another_kind_is_refused_with_its_leaf(door, kind):
    refused({**BY_GRADIENT, **BY_BOTH}[door], *GRADIENTS[kind])


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("door", BY_BOTH)
def test_a_complex_loss_is_refused_with_its_value(door, kind):
    refused(BY_BOTH[door], *LOSSES[kind])


@pytest.mark.parametrize("kind", NAN)
@pytest.mark.parametrize("door", [*BY_GRADIENT, *BY_BOTH])
def test_a_gradient_that_is_not_finite_is_named_and_moves_nothing(door, kind):
    params = start()
    try:
        said = str({**BY_GRADIENT, **BY_BOTH}[door](NAN[kind], params))
    except (ArithmeticError, ValueError) as error:
        said = str(error)
    words = {"check_gradients": "z: the gradient holds NaN"}
    assert words.get(door, "gradient of z") in said
    unchanged(params)


def test_the_leaves_beside_one_that_is_not_finite_are_checked():
    check = ss.check_gradients(NAN["nan"], start(), None)
    assert check.leaves["z"].cause == "not_finite"
    assert check.leaves["x"].verdict == "fits"
    assert not check.stochastic


# The doors of SciPy, which know one array.


@pytest.mark.parametrize("grad", [lambda z: 2 * z.real, lambda z: [1, 2, 3], lambda z: z.imag])
def test_methods_of_scipy_refuse_a_real_gradient_of_complex_numbers(grad):
    from scipy.optimize import minimize

    z = GOAL.copy()
    with pytest.raises(ValueError, match="jac returned real numbers, and x has complex ones"):
        minimize(lambda z: 1.0, z, jac=grad, method=for_scipy.adam)
    assert (z == GOAL).all()


def test_scipys_minimize_takes_complex_points():
    from scipy.optimize import minimize

    def function(z):
        return float((np.abs(z - GOAL) ** 2).sum()), 2 * (z - GOAL)

    for method in (for_scipy.lbfgs, for_scipy.adam, for_scipy.sgd):
        for fun, jac in ((function, True), (lambda z: function(z)[0], lambda z: function(z)[1])):
            found = minimize(fun, np.zeros(3, complex), jac=jac, method=method)
            assert found.success and found.x.dtype == complex
            np.testing.assert_allclose(found.x, GOAL, atol=1e-4)
    with pytest.raises(TypeError, match="Muon: params has dtype complex128"):
        minimize(function, np.zeros(3, complex), jac=True, method=for_scipy.muon)
    with pytest.raises(TypeError, match="bounds are of real numbers"):
        minimize(
            function, np.zeros(3, complex), jac=True, method=for_scipy.adam, bounds=[(0, 1)] * 3
        )
    with pytest.raises(ValueError, match=r"fun must return one number.*value\.real"):
        minimize(lambda z: 1j, np.zeros(3, complex), jac=lambda z: z, method=for_scipy.adam)

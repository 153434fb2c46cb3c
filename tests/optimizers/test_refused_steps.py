"""Bad gradients and rates that go wrong: the error says where, and the step has changed nothing."""

import math

import numpy as np
import pytest

import stepsize as ss
from cases import KINDS, RULES, numpy_rule, random_grads, random_nest, snapshot
from together import alike, together


def ones(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


def nest():
    return {"layers": [{"w": ones(3, 2), "b": ones(2)}], "out": ones(4)}


def changed(**leaves):
    """Gradients with some leaves of the first layer, or `out`, replaced."""
    grads = nest()
    for name, value in leaves.items():
        (grads if name in grads else grads["layers"][0])[name] = value
    return grads


def without_a_leaf():
    grads = nest()
    del grads["layers"][0]["b"]
    return grads


class Sparse:
    """As of scipy.sparse: NumPy would make an array of one object of it."""

    nnz = 1

    def toarray(self):
        return ones(4)


NEST = "give the gradients the nesting of the parameters"
CONVERT = "convert it with .astype(np.float64)"
BAD_GRADS = {
    "missing": (
        without_a_leaf,
        ValueError,
        "grads: layers/0/b is missing; add it, or None where a leaf has no gradient",
    ),
    "extra": (
        lambda: changed() | {"more": ones(1)},
        ValueError,
        "grads: more is not a parameter; leave it out",
    ),
    "too long": (
        lambda: changed(layers=[*nest()["layers"], None]),
        ValueError,
        f"grads: layers must be a list of 1, got a list of 2; {NEST}",
    ),
    "another sequence": (
        lambda: changed(layers=tuple(nest()["layers"])),
        ValueError,
        f"grads: layers must be a list of 1, got a tuple of 1; {NEST}",
    ),
    "an array for a dict": (
        lambda: ones(3),
        ValueError,
        f"grads: the nest must be a dict, got a ndarray; {NEST}",
    ),
    "an array for a list": (
        lambda: changed(layers=ones(3)),
        ValueError,
        f"grads: layers must be a list of 1, got a ndarray; {NEST}",
    ),
    "nothing": (
        lambda: None,
        ValueError,
        f"grads: the nest must be a dict, got a NoneType; {NEST}",
    ),
    "a list for an array": (
        lambda: changed(out=[1.0, 2.0]),
        ValueError,
        f"grads: out is a list, expected an array or None; {NEST}",
    ),
    "a number": (
        lambda: changed(out=1.0),
        TypeError,
        "X: the gradient of out is a float, expected an array of float64; convert it with "
        "np.asarray(..., np.float64)",
    ),
    "shape": (
        lambda: changed(w=ones(2, 3)),
        ValueError,
        "X: the gradient of layers/0/w has shape (2, 3), expected (3, 2); transpose "
        "it, or the product that makes it",
    ),
    "number of axes": (
        lambda: changed(out=ones(4, 1)),
        ValueError,
        "X: the gradient of out has shape (4, 1), expected (4,); give it the shape of "
        "its leaf, as .reshape does",
    ),
    "a gradient for each row": (
        lambda: changed(b=ones(7, 2)),
        ValueError,
        "X: the gradient of layers/0/b has shape (7, 2), expected (2,); add up its rows, as "
        ".sum(axis=0) does",
    ),
    "shape that tells nothing": (
        lambda: changed(out=ones(3)),
        ValueError,
        "X: the gradient of out has shape (3,), expected (4,)",
    ),
    "another name": (
        lambda: {"layers": nest()["layers"], "Out": ones(4)},
        ValueError,
        "grads: out is missing, and Out is not a parameter; give the gradients the names of the "
        "parameters",
    ),
    "sparse": (
        lambda: changed(out=Sparse()),
        TypeError,
        "X: the gradient of out is a Sparse, expected an array of float64; convert it with "
        ".toarray(), or give its rows as a ss.RowGradient",
    ),
    "float32": (
        lambda: changed(out=ones(4, dtype=np.float32)),
        TypeError,
        f"X: the gradient of out has dtype float32, expected float64; {CONVERT}",
    ),
    "whole numbers": (
        lambda: changed(b=ones(2, dtype=np.int64)),
        TypeError,
        f"X: the gradient of layers/0/b has dtype int64, expected float64; {CONVERT}",
    ),
    "another byte order": (
        lambda: changed(out=ones(4, dtype=np.dtype(float).newbyteorder())),
        TypeError,
        f"X: the gradient of out has dtype >f8, expected float64; {CONVERT}",
    ),
    "complex": (
        lambda: changed(out=ones(4, dtype=np.complex128)),
        TypeError,
        "X: the gradient of out has dtype complex128, expected float64; the parameter is real, so "
        "give the real part, gradient.real",
    ),
    "NaN": (
        lambda: changed(b=np.array([1, np.nan])),
        ss.NonFiniteGradientError,
        "X: the gradient of layers/0/b holds NaN or infinity at step 3; nothing was changed. Lower "
        'the rate (it is 0.125), or choose on_nonfinite="skip" to leave such steps out',
    ),
}


@together("by_numpy", [False, True], alike)
@together("kind", BAD_GRADS, alike)
@pytest.mark.parametrize("cls", RULES)
def test_bad_gradients(cls, kind, by_numpy):
    bad, error, message = BAD_GRADS[kind]
    if by_numpy:
        with numpy_rule(cls):
            optimizer = cls(nest(), lr=0.125)
    else:
        optimizer = cls(nest(), lr=0.125)
    more = {"loss": 1.0} if cls.needs_loss else {}
    for seed in range(3):
        optimizer.step(random_grads(nest(), seed), **more)
    before = snapshot(optimizer)
    for stats in (False, True):
        with pytest.raises(error) as caught:
            optimizer.step(bad(), stats=stats, **more)
        assert str(caught.value) == message.replace("X:", f"{cls.__name__}:")
        assert snapshot(optimizer) == before
    optimizer.step(nest(), **more)
    assert optimizer.step_count == 4


# A step that fails has changed nothing.


def fails():
    raise RuntimeError("no rate today")


BAD_STEPS = [
    (lambda step: -1.0, ValueError, "lr is -1.0 at step 1, but must be a finite number >=? 0"),
    (lambda step: math.nan, ValueError, "lr is nan at step 1, but must be a finite number >=? 0"),
    (lambda step: "x", TypeError, "lr: the function of the step returned 'x' at step 1"),
    (lambda step: None, TypeError, "lr: the function of the step returned None at step 1"),
    (lambda step: fails(), RuntimeError, "no rate today"),
]


@together("bad", BAD_STEPS, alike)
@pytest.mark.parametrize("cls", RULES)
def test_a_rate_that_goes_wrong_changes_nothing(cls, bad):
    then, error, message = bad
    params = random_nest({"a": 20, "b": (2, 3)}, np.float32)
    optimizer = cls(
        params,
        groups=[ss.group("b", lr=lambda step: 0.1 if step < 1 else then(step))],
    )
    more = {"loss": 1.0} if cls.needs_loss else {}
    optimizer.step(random_grads(params, 0), **more)
    before = snapshot(optimizer)
    with pytest.raises(error, match=message):
        optimizer.step(random_grads(params, 1), **more)
    assert snapshot(optimizer) == before


@pytest.mark.parametrize("loss", [None, math.nan, math.inf, "low"])
def test_rules_that_need_the_loss_say_so(loss):
    for cls in [cls for cls in RULES if cls.needs_loss]:
        optimizer = cls(ones(3))
        before = snapshot(optimizer)
        with pytest.raises((TypeError, ValueError), match=f"{cls.__name__}: loss"):
            optimizer.step(ones(3), loss=loss)
        assert snapshot(optimizer) == before


def made_read_only(params):
    params["b"].flags.writeable = False


def made_longer(params):
    params["b"].resize((5000,), refcheck=False)


def reshaped(params):
    params["b"].resize((2, 2), refcheck=False)


@together("spoil", [made_read_only, made_longer, reshaped], alike)
@together("strided", [False, True], alike)
@pytest.mark.parametrize("cls", RULES)
def test_parameters_that_change_under_the_optimizer(cls, strided, spoil):
    if strided and spoil is not made_read_only:
        return  # a view cannot be resized
    params = {"a": ones(3), "b": ones(8)[::2] if strided else np.ones(4)}
    optimizer = cls(params)
    more = {"loss": 1.0} if cls.needs_loss else {}
    optimizer.step({"a": ones(3), "b": ones(4)}, **more)
    spoil(params)
    before = snapshot(optimizer)
    for grad in (ones(4), np.ones_like(params["b"])):
        with pytest.raises(ValueError, match=f"{cls.__name__}: b became read-only or changed its"):
            optimizer.step({"a": ones(3), "b": grad}, **more)
    assert snapshot(optimizer) == before


@together("case", KINDS)
def test_a_refused_step_leaves_no_trace_in_later_ones(case):
    one, two = (random_nest({"a": 20, "b": 3}, np.float32) for _ in range(2))
    plain, troubled = case.make(one), case.make(two)
    more = {"loss": 1.0} if case.cls.needs_loss else {}
    for seed in range(3):
        grads = random_grads(one, seed)
        plain.step(grads, **more)
        with pytest.raises(ss.NonFiniteGradientError):
            troubled.step(grads | {"b": np.full(3, np.inf, np.float32)}, **more)
        with pytest.raises(ValueError):
            troubled.step(grads | {"b": grads["a"]}, **more)
        troubled.step(grads, **more)
    assert snapshot(plain) == snapshot(troubled)

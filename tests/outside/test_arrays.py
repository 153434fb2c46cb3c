"""Gradients and parameters of every layout, dtype and flag, in every rule and wrapper: used right,
or refused by the name of the leaf with nothing changed."""

import numpy as np
import pytest

import stepsize as ss
from cases import comparable
from hostile import MAKERS, Tagged, misaligned, read_only, spread
from together import alike, together

SHAPES = {"w": (4, 3), "b": (5,), "s": ()}


def nest(seed, dtype=np.float64):
    random = np.random.default_rng(seed)
    return {name: np.array(random.normal(size=shape), dtype) for name, shape in SHAPES.items()}


def advance(optimizer, grads):
    # Every rule takes a loss; those that need one would refuse a step without.
    return optimizer.step(grads, loss=1.0)


def whole(optimizer):
    leaves = ss.arrays.flatten(optimizer.params)[0]
    return comparable([optimizer.state_dict(), *(np.array(leaf) for leaf in leaves)])


def with_leaf(change):
    """Gradients with one matrix, one vector and one number changed alike."""

    def make(grads):
        return {name: change(np.array(grad)) for name, grad in grads.items()}

    return make


def reverse(grad):
    return np.flip(np.flip(grad).copy()) if grad.ndim else grad


def from_memory_of_others(grad):
    buffer = bytearray(grad.tobytes())
    return np.frombuffer(buffer, grad.dtype).reshape(grad.shape)


def spread_any(grad):
    return spread(grad) if grad.ndim else grad


SAME = {
    "Fortran order": with_leaf(lambda g: g.copy(order="F")),
    "reversed": with_leaf(reverse),
    "with gaps": with_leaf(spread_any),
    "misaligned": with_leaf(misaligned),
    "read-only": with_leaf(read_only),
    "a subclass": with_leaf(lambda g: g.view(Tagged)),
    "the memory of a bytearray": with_leaf(from_memory_of_others),
    "a repeated row": lambda grads: grads | {"w": np.array(np.broadcast_to(grads["w"], (4, 3)))},
    "an ordered dict of another order": lambda grads: dict(reversed(list(grads.items()))),
}
BAD = {
    "a list": with_leaf(lambda g: g.tolist()),
    "whole numbers": with_leaf(lambda g: g.astype(np.int64)),
    "truth values": with_leaf(lambda g: g > 0),
    "complex": with_leaf(lambda g: g.astype(np.complex128)),
    "objects": with_leaf(lambda g: g.astype(object)),
    "strings": with_leaf(lambda g: g.astype(str)),
    "dates": with_leaf(lambda g: g.astype(np.int64).astype("M8[s]")),
    "records": with_leaf(lambda g: np.zeros(g.shape, [("x", float)])),
    "float32": with_leaf(lambda g: g.astype(np.float32)),
    "float16": with_leaf(lambda g: g.astype(np.float16)),
    "longdouble": with_leaf(lambda g: g.astype(np.longdouble)),
    "other byte order": with_leaf(lambda g: g.astype(np.dtype(float).newbyteorder())),
    "one axis more": with_leaf(lambda g: g[None]),
    "too long": with_leaf(lambda g: np.concatenate([g, g]) if g.ndim else np.zeros(2)),
    "masked": with_leaf(lambda g: np.ma.masked_array(g, g > 0)),
    "NaN": with_leaf(lambda g: g * np.nan),
    "one infinity": lambda grads: grads | {"s": np.array(np.inf)},
    "a leaf is missing": lambda grads: {"w": grads["w"], "s": grads["s"]},
    "a leaf too many": lambda grads: grads | {"c": np.ones(1)},
    "another name": lambda grads: {"W": grads["w"], "b": grads["b"], "s": grads["s"]},
    "a list of leaves": lambda grads: list(grads.values()),
    "a string": lambda grads: "gradients",
    "a set": lambda grads: grads | {"b": {1.0}},
    "a number": lambda grads: grads | {"b": 1.0},
}


@together("form", SAME, alike)
@pytest.mark.parametrize("rule", MAKERS)
def test_the_layout_of_a_gradient_changes_no_bit(rule, form):
    plain, other = (MAKERS[rule](nest(0)) for _ in range(2))
    for seed in range(1, 4):
        advance(plain, nest(seed))
        given = SAME[form](nest(seed))
        kept = comparable({name: np.array(grad) for name, grad in given.items()})
        advance(other, given)
        assert comparable({name: np.array(grad) for name, grad in given.items()}) == kept
    assert whole(plain) == whole(other)


@together("form", BAD, alike)
@pytest.mark.parametrize("rule", MAKERS)
def test_a_gradient_that_does_not_fit_is_refused(rule, form):
    params = nest(0)
    optimizer = MAKERS[rule](params)
    advance(optimizer, nest(1))
    before = whole(optimizer)
    grads = nest(2)
    bad = BAD[form](grads)
    with pytest.raises((TypeError, ValueError, ss.NonFiniteGradientError)) as caught:
        advance(optimizer, bad)
    words = str(caught.value)
    assert "grad" in words and any(
        f" {leaf} " in f" {words} " for leaf in ("w", "b", "s", "c", "nest", "W")
    )
    assert whole(optimizer) == before
    advance(optimizer, nest(2))
    assert optimizer.step_count == 2


@pytest.mark.parametrize("rule", MAKERS)
def test_a_parameter_as_its_own_gradient_is_read_before_it_moves(rule):
    one, two = nest(0), nest(0)
    plain, other = MAKERS[rule](one), MAKERS[rule](two)
    for _ in range(3):
        advance(plain, {name: leaf.copy() for name, leaf in one.items()})
        advance(other, two)
    assert whole(plain) == whole(other)


# Parameters.


def strided(leaf):
    return spread(leaf) if leaf.ndim else leaf


GOOD_PARAMS = {
    "with gaps": strided,
    "Fortran order": lambda leaf: leaf.copy(order="F"),
    "reversed": reverse,
    "misaligned": misaligned,
    "a subclass": lambda leaf: leaf.view(Tagged),
    "the memory of a bytearray": from_memory_of_others,
}
BAD_PARAMS = {
    "whole numbers": lambda leaf: leaf.astype(np.int64),
    "truth values": lambda leaf: leaf > 0,
    "objects": lambda leaf: leaf.astype(object),
    "strings": lambda leaf: leaf.astype(str),
    "longdouble": lambda leaf: leaf.astype(np.longdouble),
    "other byte order": lambda leaf: leaf.astype(np.dtype(float).newbyteorder()),
    "read-only": read_only,
    "a list": lambda leaf: leaf.tolist(),
    "masked": lambda leaf: np.ma.masked_array(leaf, leaf > 0),
    "repeated": lambda leaf: np.broadcast_to(leaf[:1] if leaf.ndim else leaf, (6, 5)),
    "a number": lambda leaf: 1.0,
    "a string": lambda leaf: "w",
    "a date": lambda leaf: leaf.astype(np.int64).astype("M8[s]"),
}


@together("form", GOOD_PARAMS, alike)
@pytest.mark.parametrize("rule", MAKERS)
def test_the_layout_of_a_parameter_changes_no_bit(rule, form):
    plain = nest(0)
    other = {name: GOOD_PARAMS[form](np.array(leaf)) for name, leaf in plain.items()}
    one, two = MAKERS[rule](plain), MAKERS[rule](other)
    for seed in range(1, 4):
        advance(one, nest(seed))
        advance(two, nest(seed))
    assert whole(one) == whole(two)


@together("form", BAD_PARAMS, alike)
@pytest.mark.parametrize("rule", MAKERS)
def test_what_cannot_be_a_parameter_is_refused(rule, form):
    params = nest(0)
    with pytest.raises((TypeError, ValueError)) as caught:
        MAKERS[rule]({"layers": [params["w"], BAD_PARAMS[form](params["b"])]})
    assert "layers/1" in str(caught.value)


# What happens to parameters between two steps.


def resized(params):
    params["b"].resize((700,), refcheck=False)


def reshaped(params):
    params["w"].shape = (3, 4)


def frozen(params):
    params["w"].flags.writeable = False


def reinterpreted(params):
    params["b"].dtype = np.int64


BETWEEN = [resized, reshaped, frozen, reinterpreted]


@pytest.mark.filterwarnings("ignore:Setting the")
@together("change", BETWEEN, alike)
@pytest.mark.parametrize("rule", MAKERS)
def test_a_parameter_that_changed_between_steps_is_noticed(rule, change):
    params = nest(0)
    optimizer = MAKERS[rule](params)
    advance(optimizer, nest(1))
    change(params)
    leaves = [np.array(leaf) for leaf in params.values()]
    with pytest.raises((TypeError, ValueError)) as caught:
        advance(optimizer, nest(2))
    assert " b " in str(caught.value) or " w " in str(caught.value)
    assert comparable(leaves) == comparable([np.array(leaf) for leaf in params.values()])

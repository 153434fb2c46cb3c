"""Nests of arrays: taken apart, put together, copied, written into and packed."""

import numpy as np
import pytest

from stepsize import arrays

NESTS = [
    lambda: np.arange(3.0),
    lambda: [np.arange(3.0), {"b": np.ones((2, 1), np.float32), "a": (np.zeros(0),)}],
    lambda: {"layers": [np.eye(2, order="F"), np.ones(())], "none": None},
]


def same(left, right):
    first, paths, spec = arrays.flatten(left)
    second, others, other = arrays.flatten(right)
    assert paths == others and spec == other
    return all(
        a.dtype == b.dtype and a.shape == b.shape and (a == b).all()
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("make", NESTS)
def test_what_is_taken_apart_can_be_put_together(make):
    leaves, paths, spec = arrays.flatten(make())
    assert len(leaves) == len(paths) == len(set(paths))
    assert same(arrays.unflatten(spec, leaves), make())


@pytest.mark.parametrize("make", NESTS)
def test_copied_and_packed_nests_have_memory_of_their_own(make):
    for own in (arrays.copy, arrays.pack):
        nest = make()
        twin = own(nest)
        assert same(twin, nest)
        for leaf in arrays.flatten(twin)[0]:
            leaf += 1
        assert same(nest, make())


@pytest.mark.parametrize("make", NESTS)
def test_what_is_assigned_arrives_in_the_same_arrays(make):
    target, source = make(), arrays.map_leaves(lambda leaf: leaf + leaf.dtype.type(1), make())
    before = arrays.flatten(target)[0]
    arrays.assign(target, source)
    assert same(target, source)
    assert all(a is b for a, b in zip(before, arrays.flatten(target)[0], strict=True))


def test_assigning_changes_no_dtype():
    with pytest.raises(TypeError):
        arrays.assign([np.zeros(2, np.float32)], [np.zeros(2)])


@pytest.mark.parametrize("result", [None, 1.0, (1.0,), (1.0, 2.0, 3.0), ("x", 1.0), ([1, 2], 0)])
def test_what_is_no_loss_and_gradients_is_named(result):
    with pytest.raises(TypeError, match=r"f must return \(loss, grads\)"):
        arrays.loss_and_grads(result, "f")

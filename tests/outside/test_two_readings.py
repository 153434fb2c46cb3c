"""Bounds that are a lower and an upper side by their form, and pairs by another package's."""

from collections import namedtuple

import numpy as np
import pytest
from scipy.optimize import Bounds

import stepsize as ss

LOW, HIGH = np.zeros(2), np.array([1.0, 2.0])


def minimized(bounds, x0=(0.5, 0.5)):
    return ss.minimize(lambda x: (float(((x - 3) ** 2).sum()), 2 * (x - 3)), np.array(x0),
                       bounds=bounds).x  # fmt: skip


def of_sgd(bounds):
    x = np.full(2, 0.5)
    opt = ss.SGD(x, lr=1.0, bounds=bounds)
    opt.step(np.full(2, -9.0))
    return x


def of_a_group(bounds):
    x = np.full(2, 0.5)
    ss.SGD([{"params": x, "bounds": bounds}], lr=1.0).step([np.full(2, -9.0)])
    return x


def of_rows(bounds):
    x = np.full((3, 2), 0.5)
    ss.SGD(x, lr=1.0, bounds=bounds).step(np.full((3, 2), -9.0))
    return x[1]


def of_leaves(bounds):
    x = [np.array(0.5), np.array(0.5)]
    bounds = tuple(map(list, bounds)) if isinstance(bounds[0], tuple | list) else bounds
    if isinstance(bounds[0], np.ndarray):
        bounds = tuple([*map(np.asarray, side)] for side in bounds)
    ss.SGD(x, lr=1.0, bounds=bounds).step([np.array(-9.0)] * 2)
    return np.array(x)


DOORS = [minimized, of_sgd, of_a_group, of_rows, of_leaves]


@pytest.mark.parametrize("door", DOORS)
def test_two_pairs_for_two_numbers_are_refused_with_both_cures(door):
    for bounds in (((0, 1), (0, 2)), ([0, 0], [1, 2])):
        with pytest.raises(ValueError, match=r"may mean a lower and an upper side, or a pair"):
            door(bounds)
    assert np.array_equal(door((LOW, HIGH)), HIGH)  # the cure
    assert np.array_equal(door((0, 2)), [2, 2])


def test_what_can_be_read_in_one_way_alone_is():
    assert np.array_equal(minimized([(0, 1), (0, 2)]), HIGH)
    assert np.array_equal(minimized(((None, 1), (0, 2))), HIGH)
    assert np.array_equal(minimized(((0, 1), (0, 2), (0, 3)), [0.5] * 3), [1, 2, 3])
    assert np.array_equal(minimized(((0, 1), (0, 2)), [[0.5], [0.5]]), [[1], [2]])
    assert np.array_equal(minimized(((0, 1), (1, 2)), (0.5, 1.5)), HIGH)  # the same either way
    assert np.array_equal(minimized(Bounds(LOW, HIGH)), HIGH)
    x = np.array([6.0, 0.5])
    ss.SGD(x, lr=1.0, bounds=((5.0, 0.0), (9.0, 1.0))).step(np.full(2, -9.0))
    assert np.array_equal(x, [9, 1])  # as a pair (5, 0) has its ends crossed


Pair = namedtuple("Pair", "a b")


def test_a_type_of_ones_own_is_a_side():
    x = Pair(np.array([0.5]), np.array([0.5]))
    ss.SGD(x, lr=1.0, bounds=(Pair(0.0, 0.0), Pair(1.0, 2.0))).step(Pair(*-9 * np.ones((2, 1))))
    assert (x.a, x.b) == (1, 2)

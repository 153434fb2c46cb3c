"""A function that does not read its parameters is told of, and so is a start of nothing."""

import warnings

import numpy as np
import pytest

import stepsize as ss
from stepsize.interop.sklearn import LinearClassifier


@pytest.mark.parametrize("rule", [ss.SGD, ss.Adam])
def test_what_if_tells_of_a_function_that_does_not_read_its_parameters(rule):
    own = np.array([3.0, -2.0])
    params = own.copy()
    with pytest.warns(UserWarning, match="tell nothing"):
        ss.what_if(lambda p, b: (float(own @ own), 2 * own), params, rule(params), [None], steps=10)


@pytest.mark.parametrize("start", [[3.0, -2.0], [0.0, 0.0], [1e-12, 0.0]])
def test_a_function_that_reads_them_is_not_suspected(start):
    params = np.array(start)
    opt = ss.SGD(params, lr=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ss.what_if(lambda p, b: (1 + float(p @ p), 2 * p), params, opt, [None], steps=10)


@pytest.mark.parametrize("x0", [None, {}, []])
def test_a_start_of_nothing_is_named(x0):
    with pytest.raises((TypeError, ValueError), match="x0"):
        ss.minimize(lambda x: (0.0, x), x0)


def test_one_class_is_told_as_a_plain_value():
    with pytest.raises(ValueError, match="one class, 0;"):
        LinearClassifier().fit(np.ones((3, 1)), np.zeros(3, int))

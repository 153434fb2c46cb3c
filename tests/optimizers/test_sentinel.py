"""The gradients that were bound: what stands for them where a step is given none."""

import inspect

import numpy as np
import pytest

import stepsize as ss
from stepsize import optimizers
from stepsize._core import BOUND

WRAPPERS = [getattr(optimizers, n) for n in dir(optimizers) if n[0].isupper()]
STEPPERS = [
    cls
    for cls in WRAPPERS
    if isinstance(cls, type)
    and "grads" in inspect.signature(getattr(cls, "step", print)).parameters
]


@pytest.mark.parametrize("cls", STEPPERS, ids=lambda cls: cls.__name__)
def test_the_default_of_every_step_is_named_for_what_it_is(cls):
    default = inspect.signature(cls.step).parameters["grads"].default
    assert default is BOUND
    assert repr(default) == "<bound gradients>" and "<bound gradients>" in str(
        inspect.signature(cls.step)
    )


def test_it_stands_for_the_bound_gradients_and_nothing_else_does():
    assert STEPPERS
    params, grads = {"w": np.ones(3)}, {"w": np.ones(3)}
    optimizer = ss.SGD(params, lr=0.5)
    optimizer.bind(grads)
    optimizer.step()
    optimizer.step(BOUND)
    np.testing.assert_array_equal(params["w"], np.zeros(3))
    for other in (NotImplemented, None, Ellipsis):
        with pytest.raises((TypeError, ValueError)):
            optimizer.step(other)
    np.testing.assert_array_equal(params["w"], np.zeros(3))

"""Functions that take other arguments than parameters and a batch, or return something else."""

import functools
import re

import numpy as np
import pytest

import stepsize as ss
from hostile import X, Y, clean, make_params

OPTIONS = {"progress": False}


def checked(function, params):
    ss.check_gradients(function, params, (X, Y))


def fitted(function, params):
    ss.fit(function, params, ss.SGD(params, lr=0.1), (X, Y), steps=2, **OPTIONS)


def found(function, params):
    ss.lr_find(function, params, (X, Y), steps=20, **OPTIONS)


def automatic(function, params):
    ss.autolr(function, params, (X, Y), steps=40, **OPTIONS)


def branched(function, params):
    batches = [(X[i : i + 10], Y[i : i + 10]) for i in range(0, 60, 10)]
    ss.what_if(function, params, ss.SGD(params, lr=0.1), batches, steps=10, held=2, **OPTIONS)


def measured(function, params):
    ss.sharpness(function, params, (X, Y))


DOORS = {
    "check_gradients": checked,
    "fit": fitted,
    "lr_find": found,
    "autolr": automatic,
    "what_if": branched,
    "sharpness": measured,
}


def of_params(params):
    raise AssertionError("called")


def of_parts(params, x, y):
    raise AssertionError("called")


class OfNothing:
    def __call__(self):
        raise AssertionError("called")


OTHERS = {
    "no batch": (
        of_params,
        "and of_params takes (params); where there is no batch, give lambda params, batch: "
        "of_params(params)",
    ),
    "a lambda": (lambda p: of_params(p), "lambda params, batch: f(params)"),
    "the parts of a batch": (
        of_parts,
        "and of_parts takes (params, x, y); where a batch has parts, give lambda params, batch: "
        "of_parts(params, *batch)",
    ),
    "an object": (OfNothing(), "and OfNothing takes ()"),
    "names alone": (lambda *, params, batch: None, "takes (*, params, batch)"),
    "a number": (3, "got 3"),
}


@pytest.mark.parametrize("door", DOORS)
def test_functions_of_other_arguments_are_refused_before_they_are_called(door):
    params = make_params()
    for function, words in OTHERS.values():
        start = f"{door}: value_and_grad must be a function (params, batch) -> (loss, grads), "
        with pytest.raises(TypeError, match=f"^{re.escape(start)}.*{re.escape(words)}"):
            DOORS[door](function, params)
    assert all(np.array_equal(params[k], v) for k, v in make_params().items())


OF_ONE = {
    "fun_and_grad must be a function x -> (value, gradient), and clean takes (params, "
    "batch); give the others beforehand, lambda x: clean(x, ...)": {"fun_and_grad": clean},
    "jac must be a function x -> gradient, True or None, and of_parts takes (params, x, y); give": {
        "fun_and_grad": lambda x: 0.0, "jac": of_parts,
    },
    "fun_and_grad must be a function x -> value, and <lambda> takes (x, n); give the others": {
        "fun_and_grad": lambda x, n: 0.0, "grad": "central",
    },
    "fun_and_grad must be a function x -> (value, gradient), and OfNothing takes ()": {
        "fun_and_grad": OfNothing(), "jac": True,
    },
}  # fmt: skip


def test_functions_of_one_argument_are_asked_for_by_name():
    for words, given in OF_ONE.items():
        with pytest.raises(TypeError, match=f"^minimize: {re.escape(words)}"):
            ss.minimize(x0=np.ones(2), **given)
    with pytest.raises(TypeError, match=r"^fit: evaluate must be a function .*; where there is no"):
        ss.fit(
            clean, params := make_params(), ss.SGD(params), (X, Y), epochs=1,
            validation=(X, Y), evaluate=of_params,
        )  # fmt: skip


def wrapped(function):
    """What says that it takes what the function inside takes, and takes two."""

    @functools.wraps(of_params)
    def outer(*given):
        return function(*given)

    return outer


class Model:
    def value_and_grad(self, params, batch):
        return clean(params, batch)

    def __call__(self, params, batch, scale=1.0, *more, **options):
        return clean(params, batch)


def test_whatever_can_be_called_with_both_is_taken():
    functions = [
        wrapped(clean), Model(), Model().value_and_grad, lambda *given: clean(*given),
        functools.partial(lambda scale, p, b: clean(p, b), 2.0),
        functools.partial(lambda p, b, scale: clean(p, b), scale=2.0),
        lambda p, b, /: clean(p, b), lambda p, b=None: clean(p, b),
    ]  # fmt: skip
    for function in functions:
        for door in DOORS.values():
            door(function, make_params())


def test_what_is_returned_in_other_ways_is_told_from_what_should_be():
    grads = clean(make_params(), (X, Y))[1]
    returns = {
        "; end it with return loss, grads": None,
        "float; give gradients too, as ss.gradients.central makes them": 1.0,
        "(float, dict, dict); keep what else it computes elsewhere": (1.0, grads, {"hits": 3}),
        "(tuple, dict); keep what comes with the loss elsewhere": ((1.0, {"hits": 3}), grads),
        "(dict, float); the loss comes first": (grads, 1.0),
        "(ndarray of shape (60,), dict); give the mean or the sum": (np.ones(60), grads),
    }
    for words, value in returns.items():
        for door in DOORS.values():
            with pytest.raises(TypeError, match=re.escape(words)):
                door(lambda params, batch, value=value: value, make_params())


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ((), "batch is None, since none was given: give it after params"),
        ((iter([(X, Y)]),), "batch is a list_iterator: give one batch of it, next(batch)"),
        (([(X, Y)] * 3,), "batch is a list of a tuple of 2, a tuple of 2, a tuple of 2; if these"),
        (({X.shape},), "batch is a set: give one batch of it, next(iter(batch))"),
        ((X,), "batch is an array (60, 3)"),
    ],
)
def test_the_first_call_of_a_check_says_what_it_gave_as_the_batch(batch, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        ss.check_gradients(clean, make_params(), *batch)
    assert words in caught.value.__notes__[0]
    # What a function raises beside the parameters is told by the check, without such a note.
    calls = []

    def fails_later(params, batch):
        calls.append(1)
        if len(calls) > 1:
            raise KeyError("later")
        return clean(params, (X, Y))

    with pytest.raises(KeyError) as caught:
        ss.check_gradients(fails_later, make_params(), *batch)
    assert not hasattr(caught.value, "__notes__")

"""What is told of a function, so that another one in its place is noticed."""

import datetime
import gc
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from stepsize.errors import CheckpointError
from stepsize.serialization import container, functions, nested


def told(**values):
    """A function that holds these values in its closure."""
    names = ", ".join(values)
    source = f"def outer({names}):\n    return lambda step: ({names},)"
    space = {"__name__": __name__}
    exec(source, space)
    return functions.described(space["outer"](**values))["values"]


VALUES = {
    "a tuple": ((1, 2), (1, 3)),
    "a long tuple": (tuple(range(40)), tuple(range(1, 41))),
    "a dict": ({"a": 1}, {"a": 2}),
    "a list": ([1.0, [2.0]], [1.0, [3.0]]),
    "an array": (np.arange(3.0), np.arange(1.0, 4.0)),
    "a date": (datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)),
    "a set": ({1, 2}, {1, 3}),
    "text": ("one", "two"),
    "bytes": (b"one", b"two"),
    "a very long list": ([0] * (functions.LONGEST + 1), [0] * (functions.LONGEST + 2)),
}


@pytest.mark.parametrize("kind", VALUES)
def test_another_value_is_told(kind):
    one, other = VALUES[kind]
    assert told(held=one) == told(held=one) and told(held=one).keys() == {"held"}
    assert told(held=one) != told(held=other)


@pytest.mark.parametrize("value", [(1, object()), [object()], {"a": object()}, object()])
def test_what_no_text_tells_is_left_out(value):
    assert told(held=value, other=1) == {"other": "1"}


class Scaled:
    def __init__(self, peak):
        self.peak = peak

    def rate(self, step):
        return self.peak / (1 + step)


class Wrapping:
    def __init__(self, function):
        self.__wrapped__ = function

    def __call__(self, step):
        return self.__wrapped__(step)


def test_a_method_is_told_by_its_object():
    one, other = (functions.described(Scaled(peak).rate) for peak in (0.1, 0.2))
    assert (one["values"], other["values"]) == ({"peak": "0.1"}, {"peak": "0.2"})
    assert functions.changes(one, other).endswith("Scaled.rate with peak=0.2 instead of 0.1")


def test_an_object_around_a_function_is_told_by_the_function():
    def make(peak):
        return Wrapping(lambda step: peak)

    one, other = functions.described(make(0.1)), functions.described(make(0.2))
    assert one["code"] == other["code"] and one["values"] == {"peak": "0.1"}
    assert other["values"] == {"peak": "0.2"}


def test_functions_that_call_each_other_are_told_once():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert functions.described(even)["code"] == functions.described(even)["code"] != ""


def test_a_variable_that_has_no_value_yet_is_none():
    def outer():
        def inner(step):
            return later + step

        known = functions.described(inner)
        later = 1.0
        return known, functions.described(inner)

    before, after = outer()
    assert before["values"] == {} and after["values"] == {"later": "1.0"}


def test_a_function_of_the_script_has_the_name_that_an_import_gives_it(monkeypatch):
    def rate(step):
        return 0.1

    rate.__module__ = "__main__"
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__="/any/where/train.py"))
    assert functions.name_of(rate).startswith("train.")
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace())
    assert functions.name_of(rate).startswith("__main__.")


@pytest.mark.parametrize("saved", [None, [], {}, {"name": 3}])
def test_what_is_no_description_tells_of_no_change(saved):
    assert functions.changes(saved, functions.described(len)) == ""


def test_collection_of_garbage_stays_off_where_it_was(tmp_path):
    container.write(tmp_path / "x", {}, {"a": 1})
    gc.disable()
    try:
        assert container.read(tmp_path / "x")[1] == {"a": 1} and not gc.isenabled()
    finally:
        gc.enable()


def test_a_reason_that_names_the_file_is_not_told_twice(tmp_path):
    with pytest.raises(CheckpointError, match=r"^of itself$"), nested.contents_of(tmp_path / "x"):
        raise CheckpointError("of itself")

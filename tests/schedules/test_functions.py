"""Python functions in a schedule tree, and trees that are deep, shared or too large."""

import gc
import threading
import weakref

import numpy as np
import pytest

import stepsize as ss

S = ss.schedules


class Stopped(Exception):
    """An error that nobody translates."""


def recorded(calls, fail_at=None):
    """A schedule that notes what it is called with."""

    def rate(step):
        calls.append(step)
        if step == fail_at:
            raise Stopped(step)
        return 1.0

    return S.from_function(rate)


def test_a_piece_is_asked_for_its_own_steps_only():
    calls = []
    s = S.constant(0.5).then(recorded(calls), at=700).then(0.25, at=900)
    values = s(np.arange(1000))
    assert calls == list(range(200)) and all(type(step) is int for step in calls)
    assert values.tolist() == [0.5] * 700 + [1.0] * 200 + [0.25] * 100


def test_steps_between_are_floats_and_local():
    calls = []
    s = recorded(calls).shift(1)
    assert s(np.array([[0.0, 1.5], [3.0, 4.25]])).shape == (2, 2)
    assert calls == [0, 0.5, 2, 3.25] and [type(c) for c in calls] == [int, float, int, float]


@pytest.mark.parametrize(
    "ask",
    [lambda s: s(7), lambda s: s(7.0), lambda s: s(np.arange(9000)), lambda s: s.values(9000)],
)
def test_an_exception_comes_through_unchanged(ask):
    calls = []
    s = (recorded(calls, fail_at=7) + 1.0).clip(0, 3)
    with pytest.raises(Stopped) as caught:
        ask(s)
    assert caught.value.args == (7,) and caught.traceback[-1].name == "rate"
    assert calls[-1] == 7, "nothing is called after an error"
    assert s(8) == 2.0


def test_no_function_is_called_before_all_steps_are_known_to_be_right():
    calls = []
    steps = np.arange(10_000.0)
    steps[-1] = -1
    with pytest.raises(ValueError, match="got -1; "):
        recorded(calls)(steps)
    assert calls == []


def test_a_function_may_ask_another_schedule_and_catch_its_error():
    inner = S.from_function(lambda step: -1.0)

    def rate(step):
        try:
            return inner(step)
        except ValueError:
            return 0.5

    assert S.from_function(rate)(np.arange(3)).tolist() == [0.5] * 3
    with pytest.raises(ValueError, match=r"<lambda>\(3\) must be a finite number"):
        S.from_function(lambda step: inner(step))(3)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1e-300])
def test_a_value_that_is_no_rate_is_refused_in_a_tree(wrong):
    s = S.from_function(lambda step: wrong if step == 3 else 0.1) * 0.5 + 0.1
    with pytest.raises(ValueError, match=r"from_function: .*<lambda>\(3\) must be a finite"):
        s(np.arange(10))
    with pytest.raises(TypeError, match="list"):
        (S.from_function(lambda step: [0.1]) * 2)(0)


def test_the_optimizers_step_calls_the_function_once():
    calls = []
    opt = ss.SGD({"w": np.ones(2)}, lr=recorded(calls) * 0.1)
    for _ in range(3):
        opt.step({"w": np.ones(2)})
    assert calls == [0, 1, 2]
    opt = ss.SGD({"w": np.ones(2)}, lr=recorded([], fail_at=0))
    with pytest.raises(Stopped):
        opt.step({"w": np.ones(2)})
    assert opt.params["w"].tolist() == [1.0, 1.0] and opt.step_count == 0


def test_a_schedule_that_its_function_holds_is_collected():
    class Holder:
        def __init__(self):
            self.schedule = S.from_function(self.rate) * 0.5

        def rate(self, step):
            return 1.0

    holder = Holder()
    assert holder.schedule(0) == 0.5
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None


def test_a_sum_with_itself_over_and_over_is_quick():
    s = S.linear(0.0, 1.0, 10)
    for _ in range(90):
        s = s + s
    assert s(5) == 0.5 * 2.0**90
    assert s(np.arange(3)).tolist() == [k / 10 * 2.0**90 for k in range(3)]


def test_a_tree_that_takes_too_long_is_refused():
    s = S.constant(0.1)
    with pytest.raises(ValueError, match="may take 1048576 nodes"):
        for _ in range(40):
            s = s + s * 0.5


def test_the_deepest_tree_fits_a_small_stack():
    s = S.one_cycle(1.0, 300)
    while True:
        try:
            s = s * 0.99 + S.constant(0.001).then(0.002, at=7)
        except ValueError:
            break
    found = []
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: found.append(s(np.arange(2000))))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert found[0].tolist() == [s(step) for step in range(2000)]

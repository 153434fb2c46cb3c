"""Ctrl-C in the middle of a step leaves all of it done, or nothing."""

import signal
import types

import numpy as np
import pytest

import stepsize as ss
from cases import RULES, random_grads, random_nest
from stepsize.optimizers.fields import nonnegative
from stepsize.optimizers.slots import signed
from stepsize.optimizers.transaction import Uninterrupted, assign

SHAPES = {"a": (4, 3), "b": (5,), "c": (2, 3)}


class Interrupting(ss.optimizers.Optimizer):
    """A rule that is interrupted, or fails, at its second leaf."""

    lr = nonnegative(0.1)
    slots = (signed("m"),)
    scalars = {"n": 0.0}  # noqa: RUF012
    at = None
    calls = 0

    def rule(self, x, g, s, h):
        s.m = s.m + g
        s.n += 1
        x -= h.lr * s.m
        type(self).calls += 1
        if type(self).at is not None and type(self).calls % 3 == 2:
            type(self).at()


@pytest.fixture(autouse=True)
def quiet():
    yield
    Interrupting.at, Interrupting.calls = None, 0


def interrupt():
    signal.raise_signal(signal.SIGINT)


def fail():
    raise OSError("a file is gone")


def everything(optimizer):
    state = optimizer.state_dict()
    arrays = [np.array(leaf) for leaf in optimizer.internals.leaves.arrays]
    return repr([state, *arrays])


@pytest.mark.parametrize("how, error", [(interrupt, KeyboardInterrupt), (fail, OSError)])
@pytest.mark.parametrize("strided", (False, True))
def test_a_rule_in_numpy_that_is_stopped_has_changed_nothing(how, error, strided):
    params = random_nest(SHAPES, np.float64)
    if strided:
        params = {name: np.asfortranarray(leaf) for name, leaf in params.items()}
    optimizer = Interrupting(params)
    optimizer.step(random_grads(params, 0))
    before = everything(optimizer)
    Interrupting.at, Interrupting.calls = how, 0
    with pytest.raises(error):
        optimizer.step(random_grads(params, 1))
    assert everything(optimizer) == before
    Interrupting.at = None
    optimizer.step(random_grads(params, 1))
    assert optimizer.step_count == 2


WRAPPERS = {
    "EMA": lambda opt: ss.EMA(opt, 0.9),
    "EMA outside": lambda opt: ss.EMA(ss.Lookahead(opt, k=1), 0.9),
    "SWA": ss.SWA,
    "Lookahead": lambda opt: ss.Lookahead(opt, k=1),
    "Mechanic": ss.Mechanic,
    "Accumulate": lambda opt: ss.Accumulate(opt, 1),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapper_that_is_interrupted_after_the_inner_step_goes_to_its_end(wrap, monkeypatch):
    params = [random_nest(SHAPES, np.float64) for _ in range(2)]
    one, two = (wrap(ss.SGD(nest, lr=0.1, momentum=0.9)) for nest in params)
    grads = random_grads(params[0], 0)
    step = ss.SGD.step

    def stepped(self, *args, **keywords):
        result = step(self, *args, **keywords)
        if self is innermost:
            interrupt()
        return result

    innermost = two.internals.rule
    monkeypatch.setattr(ss.SGD, "step", stepped)
    one.step(grads)
    with pytest.raises(KeyboardInterrupt):
        two.step(grads)
    assert everything(one) == everything(two)
    assert two.step_count == 1


def test_strided_parameters_are_written_without_a_bytecode_in_between():
    x = np.ones((4, 3)).T
    optimizer = ss.SGD(x, lr=0.5)
    optimizer.step(np.ones((3, 4)))
    np.testing.assert_array_equal(x, 0.5)
    write = optimizer.internals.host.write_strided
    assert isinstance(write, types.BuiltinFunctionType)


def test_the_handler_is_called_at_the_end_of_the_outermost_block():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with Uninterrupted():
            with Uninterrupted():
                interrupt()
            assert not seen
        assert seen == [signal.SIGINT]
        interrupt()
        assert len(seen) == 2
    finally:
        signal.signal(signal.SIGINT, before)


LIMITS = [name for name in ("SIGALRM", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_time_limit_that_raises_waits_for_the_end_of_a_step(wrap, name, monkeypatch):
    def expired(number, frame):
        raise TimeoutError

    def stepped(self, *args, **keywords):
        result = step(self, *args, **keywords)
        if self is innermost:
            signal.raise_signal(getattr(signal, name))
        return result

    params = [random_nest(SHAPES, np.float64) for _ in range(2)]
    one, two = (wrap(ss.SGD(nest, lr=0.1, momentum=0.9)) for nest in params)
    grads = random_grads(params[0], 0)
    step, innermost = ss.SGD.step, two.internals.rule
    monkeypatch.setattr(ss.SGD, "step", stepped)
    one.step(grads)
    before = signal.signal(getattr(signal, name), expired)
    try:
        with pytest.raises(TimeoutError):
            two.step(grads)
        assert signal.getsignal(getattr(signal, name)) is expired
    finally:
        signal.signal(getattr(signal, name), before)
    assert everything(one) == everything(two)


def test_every_handler_is_called_and_is_there_again_when_the_first_one_raises():
    seen, kept = [], {}

    def handler(number, frame):
        seen.append(number)
        raise TimeoutError

    numbers = [signal.SIGINT, *(getattr(signal, name) for name in LIMITS)]
    try:
        for number in numbers:
            kept[number] = signal.signal(number, handler)
        with pytest.raises(TimeoutError), Uninterrupted():
            for number in numbers:
                signal.raise_signal(number)
            assert not seen
        assert seen == numbers
        assert all(signal.getsignal(number) is handler for number in numbers)
    finally:
        for number, before in kept.items():
            signal.signal(number, before)


def test_where_a_signal_is_ignored_it_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Uninterrupted():
            interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_assign_writes_all():
    arrays = [np.zeros(3), np.zeros((2, 2))]
    assign(arrays, [np.arange(3), 7])
    assert arrays[0][2] == 2 and (arrays[1] == 7).all()


@pytest.mark.parametrize("cls", [c for c in RULES if not c.accelerated and not c.needs_closure])
def test_a_matrix_rule_that_fails_has_changed_nothing(cls, monkeypatch):
    params = random_nest({"a": (4, 3), "b": (3, 4)}, np.float64)
    optimizer = cls(params)
    optimizer.step(random_grads(params, 0))
    before = everything(optimizer)
    rule, calls = cls.rule, []

    def broken(self, x, g, s, h):
        rule(self, x, g, s, h)
        calls.append(x)
        if len(calls) == 2:
            raise np.linalg.LinAlgError("no convergence")

    monkeypatch.setattr(cls, "rule", broken)
    with pytest.raises(np.linalg.LinAlgError):
        optimizer.step(random_grads(params, 1))
    assert everything(optimizer) == before

"""Ctrl-C at any moment of any kind of step: the step has happened, or nothing has."""

import dis
import signal
import sys

import numpy as np
import pytest

import stepsize as ss
from cases import comparable
from hostile import MAKERS, spread

MOMENTS = 200


def nest(seed, dtype=np.float64):
    random = np.random.default_rng(seed)
    shapes = {"w": (4, 3), "b": (5,)}
    return {name: np.array(random.normal(size=shape), dtype) for name, shape in shapes.items()}


def strided(seed):
    return {name: spread(leaf) for name, leaf in nest(seed).items()}


def by_closure(optimizer, seed):
    def function(params):
        return sum(float((leaf**2).sum()) for leaf in params.values()), {
            name: 2 * leaf for name, leaf in params.items()
        }

    optimizer.step(function)


def by_gradients(optimizer, seed):
    optimizer.step(nest(seed), loss=1.0)


def by_rows(optimizer, seed):
    grads = nest(seed)
    grads["w"] = ss.RowGradient(np.array([2, 0]), grads["w"][:2])
    optimizer.step(grads)


KINDS = {name: (make, nest, by_gradients) for name, make in MAKERS.items()}
KINDS |= {
    f"{name}, strided": (MAKERS[name], strided, by_gradients)
    for name in ("SGD", "AdamW", "SOAP", "Muon", "ScheduleFreeAdamW", "EMA around Adam")
}
KINDS |= {
    "SAM": (lambda p: ss.SAM(ss.Adam(p, lr=0.1)), nest, by_closure),
    "LBFGS": (ss.LBFGS, nest, by_closure),
    "rows": (lambda p: ss.Adam(p, lr=0.1), nest, by_rows),
    "groups": (lambda p: ss.Adam(p, groups=[ss.group("b", lr=lambda t: 0.1)]), nest, by_gradients),
    "dynamic loss scale": (lambda p: ss.Adam(p, loss_scale="dynamic"), nest, by_gradients),
}


def whole(optimizer):
    leaves = ss.arrays.flatten(optimizer.params)[0]
    return comparable([optimizer.state_dict(), *(np.array(leaf) for leaf in leaves)])


CALLS = {"CALL", "CALL_FUNCTION_EX", "CALL_KW"}
STARTS = {"RESUME", "JUMP_BACKWARD"}


class Interrupt:
    """Counts the moments of a call at which Python looks for signals; presses Ctrl-C at one.

    Those are the starts of functions and of rounds of loops, and the returns of calls.
    """

    def __init__(self, at):
        self.at, self.seen, self.last = at, 0, {}

    def __call__(self, frame, event, argument):
        frame.f_trace_opcodes = True
        if event == "opcode":
            now = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            before = self.last.get(id(frame))
            self.last[id(frame)] = now
            if now in STARTS or before in CALLS:
                self.seen += 1
                if self.seen == self.at:
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGINT)
        elif event == "return":
            self.last.pop(id(frame), None)
        return self

    def during(self, step, optimizer):
        """Whether the second step was interrupted."""
        kept = sys.gettrace()
        sys.settrace(self)
        try:
            step(optimizer, 2)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(kept)
        return False


def prepared(kind):
    make, params, step = KINDS[kind]
    optimizer = make(params(0))
    step(optimizer, 1)
    return optimizer, step


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_happens_or_does_not(kind):
    optimizer, step = prepared(kind)
    before = whole(optimizer)
    counter = Interrupt(None)
    counter.during(step, optimizer)
    after = whole(optimizer)
    random = np.random.default_rng(0)
    moments = 1 + random.permutation(counter.seen)[:MOMENTS]
    for moment in moments:
        optimizer, step = prepared(kind)
        interrupted = Interrupt(moment).during(step, optimizer)
        now = whole(optimizer)
        assert now == after or (interrupted and now == before), f"moment {moment} of {counter.seen}"
        if now == before:
            step(optimizer, 2)
            assert whole(optimizer) == after

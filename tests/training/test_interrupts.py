"""Ctrl-C: one ends the run at a step boundary, two end it at once."""

import os
import signal
import threading
import time

import pytest

import stepsize as ss
from fitting import X, Y, bits, fit, make_params, value_and_grad


class At:
    """Calls something after a given step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step(self, run):
        if run.step == self.step:
            self.action()


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stops_at_a_step_boundary_and_returns():
    handler = signal.getsignal(signal.SIGINT)
    params, expected = make_params(), make_params()
    history = fit(params, callbacks=[At(7, interrupt)])
    fit(expected, steps=7)
    assert history.stopped == "interrupted after step 7" and history.steps == 7
    assert bits(params) == bits(expected)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_raises_at_once():
    handler = signal.getsignal(signal.SIGINT)

    def twice():
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        fit(make_params(), callbacks=[At(7, twice)])
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_takes_one_step_and_a_tenth_of_a_second():
    def slow(params, batch):
        time.sleep(0.05)
        return value_and_grad(params, batch)

    params = make_params()
    sent = []
    timer = threading.Timer(0.3, lambda: (sent.append(time.perf_counter()), interrupt()))
    timer.start()
    history = ss.fit(slow, params, ss.SGD(params), (X, Y), epochs=1000, progress=False)
    assert "interrupted" in history.stopped
    assert time.perf_counter() - sent[0] < 0.05 + 0.1


def test_ctrl_c_does_not_wait_for_a_long_validation():
    seen = []

    def evaluate(params, batch):
        if not seen:
            interrupt()
        seen.append(1)
        return {"x": 1.0}

    history = fit(make_params(), validation=(X, Y), evaluate=evaluate)
    assert len(seen) == 1 and history.stopped == "interrupted after step 5"


def test_an_ignored_interrupt_stays_ignored():
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert fit(make_params(), callbacks=[At(7, interrupt)]).steps == 15
    finally:
        signal.signal(signal.SIGINT, handler)

"""One optimizer in two threads at once: the second run is refused by name, the first goes on."""

import threading

import numpy as np
import pytest

import stepsize as ss
from hostile import X, Y, clean, make_params

ROWS = (X, Y)


def again(function, params, optimizer):
    return ss.fit(function, params, optimizer, ROWS, epochs=1, progress=False)


SECOND = {
    "fit": again,
    "lr_find": lambda f, p, opt: ss.lr_find(f, p, ROWS, optimizer=opt, steps=20),
    "what_if": lambda f, p, opt: ss.what_if(f, p, opt, ROWS, steps=3, held=2),
    "sharpness": lambda f, p, opt: ss.sharpness(f, p, ROWS, optimizer=opt),
}
SHARED = {
    "the same": lambda opt: opt,
    "inside of EMA": lambda opt: ss.EMA(opt, decay=0.5),
}


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("door", SECOND)
def test_a_second_run_in_another_thread_is_refused(door, shared):
    params, inside, go_on = make_params(), threading.Event(), threading.Event()
    optimizer = ss.Adam(params, lr=0.01)

    def waiting(p, batch):
        inside.set()
        go_on.wait(30)
        return clean(p, batch)

    histories = []
    first = threading.Thread(
        target=lambda: histories.append(
            ss.fit(waiting, params, optimizer, ROWS, epochs=3, progress=False)
        )
    )
    first.start()
    try:
        assert inside.wait(30)
        with pytest.raises(RuntimeError, match=f"^{door}: fit in another thread is at work"):
            SECOND[door](clean, params, SHARED[shared](optimizer))
    finally:
        go_on.set()
        first.join()
    other = make_params()
    ss.fit(clean, other, ss.Adam(other, lr=0.01), ROWS, epochs=3, progress=False)
    assert histories[0].stopped == "finished 3 epochs"
    assert all(np.array_equal(params[name], x) for name, x in other.items())
    SECOND[door](clean, params, SHARED[shared](optimizer))  # it is free again


@pytest.mark.parametrize("door", SECOND)
def test_inside_of_a_run_and_after_one_that_failed_the_optimizer_is_free(door):
    params = make_params()
    optimizer = ss.Adam(params, lr=0.01)

    class Inside:
        def on_epoch(self, run):
            if run.epoch == 1:
                SECOND[door](clean, params, optimizer)

    def broken(p, batch):
        raise OSError

    with pytest.raises(OSError):
        again(broken, params, optimizer)
    ss.fit(clean, params, optimizer, ROWS, epochs=2, callbacks=[Inside()], progress=False)


def test_two_optimizers_over_one_array_in_two_threads_are_told_as_what_is_known():
    x, inside, go_on, over = np.ones(3), threading.Event(), threading.Event(), threading.Event()

    def function(params, batch):
        inside.set()
        go_on.wait(5)
        return float(params @ params), 2 * params

    def other():
        inside.wait(5)
        ss.SGD(x, lr=0.1).step(np.ones(3))
        go_on.set()
        over.wait(5)

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(ValueError, match=r"wrote into .*; or another thread did"):
        ss.fit(function, x, ss.SGD(x, lr=0.1), [1], steps=1, count=lambda b: 1, progress=False)
    over.set()
    thread.join()

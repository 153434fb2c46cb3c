"""One optimizer used again by the function that a run or step of it evaluates, or in another thread
meanwhile: refused by name with nothing changed, or right."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import stepsize as ss
from cases import comparable
from hostile import MAKERS, X, Y, clean, make_params

ROWS = (X, Y)


def whole(optimizer):
    leaves = ss.arrays.flatten(optimizer.params)[0]
    return comparable([optimizer.state_dict(), *(np.array(leaf) for leaf in leaves)])


def step(params, optimizer):
    if optimizer.needs_closure:
        return optimizer.step(lambda p: clean(p, ROWS))
    return optimizer.step(clean(params, ROWS)[1], loss=1.0)


def fit(params, optimizer):
    return ss.fit(clean, params, optimizer, ROWS, epochs=1, progress=False)


def validated(function, params, optimizer):
    def evaluate(p, batch):
        return {"loss": function(p, batch)[0]}

    options = {"validation": ROWS, "evaluate": evaluate, "progress": False}
    ss.fit(clean, params, optimizer, ROWS, epochs=2, **options)


# What evaluates a function of the user: the call, and its name in messages.
RUNS = {
    "fit": lambda f, p, opt: ss.fit(f, p, opt, ROWS, epochs=4, progress=False),
    "fit, evaluate": validated,
    "lr_find": lambda f, p, opt: ss.lr_find(f, p, ROWS, optimizer=opt, steps=20),
    "what_if": lambda f, p, opt: ss.what_if(f, p, opt, ROWS, steps=3, held=2),
    "sharpness": lambda f, p, opt: ss.sharpness(f, p, ROWS, optimizer=opt),
    "a step, SAM": lambda f, p, opt: opt.step(lambda x: f(x, ROWS)),
    "a step, LBFGS": lambda f, p, opt: opt.step(lambda x: f(x, ROWS)),
}
OWN = {"a step, SAM": lambda p: ss.SAM(ss.Adam(p, lr=0.01)), "a step, LBFGS": ss.LBFGS}
INSIDE = {"step": step, "fit": fit}
MEASURES = {
    "lr_find": lambda p, opt: ss.lr_find(clean, p, ROWS, optimizer=opt, steps=20),
    "what_if": lambda p, opt: ss.what_if(clean, p, opt, ROWS, steps=3, held=2),
    "sharpness": lambda p, opt: ss.sharpness(clean, p, ROWS, optimizer=opt),
    "minimize": lambda p, opt: ss.minimize(lambda x: clean(x, ROWS), p, max_iter=3),
}


def outcome(run, inside=None, at=1):
    """What a run leaves, and what a call that its function makes at its k-th evaluation raised."""
    params, calls, raised = make_params(), [], []
    optimizer = OWN.get(run, lambda p: ss.Adam(p, lr=0.01))(params)

    def function(p, batch):
        calls.append(1)
        if inside is not None and len(calls) == at:
            try:
                inside(params, optimizer)
            except RuntimeError as error:
                raised.append(str(error))
        return clean(p, batch)

    RUNS[run](function, params, optimizer)
    assert inside is None or len(calls) >= at
    return whole(optimizer), raised


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("run", RUNS)
def test_a_function_cannot_step_the_optimizer_that_evaluates_it(run, inside, at):
    found, raised = outcome(run, INSIDE[inside], at)
    name = run.partition(",")[0]
    (message,) = raised
    assert message.startswith(f"{inside} cannot be called by a function that {name} of this")
    assert found == outcome(run)[0]


@pytest.mark.parametrize("inside", MEASURES)
@pytest.mark.parametrize("run", [name for name in RUNS if "step" not in name])
def test_a_function_may_measure_on_copies(run, inside):
    found, raised = outcome(run, MEASURES[inside])
    assert not raised and found == outcome(run)[0]


@pytest.mark.parametrize("rule", MAKERS)
def test_no_rule_or_wrapper_takes_a_step_inside(rule):
    params = make_params()
    optimizer = MAKERS[rule](params)
    step(params, optimizer)
    states = []

    def function(p, batch):
        before = whole(optimizer)
        for _ in range(2):  # as often as an accumulation needs
            with pytest.raises(RuntimeError, match=r"^step cannot be called by a function"):
                step(params, optimizer)
        states.append(whole(optimizer) == before)
        return clean(p, batch)

    ss.fit(function, params, optimizer, ROWS, epochs=2, progress=False)
    assert states and all(states)
    step(params, optimizer)


class Meanwhile:
    """A run in another thread, which waits in its function until the block ends."""

    def __init__(self, run, params, optimizer):
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=RUNS[run], args=(self.function, params, optimizer))

    def function(self, params, batch):
        self.inside.set()
        self.go_on.wait(30)
        return clean(params, batch)

    def __enter__(self):
        self.thread.start()
        assert self.inside.wait(30)

    def __exit__(self, *error):
        self.go_on.set()
        self.thread.join()


@pytest.mark.parametrize("shared", ["itself", "EMA", "Accumulate"])
@pytest.mark.parametrize("run", [name for name in RUNS if "," not in name])
def test_another_thread_cannot_step_what_a_run_uses(run, shared):
    params = make_params()
    optimizer = ss.Adam(params, lr=0.01)
    wrap = {"EMA": lambda o: ss.EMA(o, 0.5), "Accumulate": lambda o: ss.Accumulate(o, 2)}
    stepped = wrap.get(shared, lambda o: o)(optimizer)
    with Meanwhile(run, params, optimizer):
        before = whole(stepped)
        with pytest.raises(RuntimeError, match=f"^step: {run} in another thread is at work"):
            step(params, stepped)
        assert whole(stepped) == before
    alone = make_params()
    other = ss.Adam(alone, lr=0.01)
    RUNS[run](clean, alone, other)
    assert whole(optimizer) == whole(other)
    step(params, stepped)


CLOSED = {
    "SAM": lambda p: ss.SAM(ss.Adam(p, lr=0.01)),
    "LBFGS": lambda p: ss.LBFGS(p, max_iter=2),
    "Accumulate": lambda p: ss.Accumulate(ss.Adam(p, lr=0.01), 3),
}


@pytest.mark.parametrize("rule", CLOSED)
def test_steps_of_two_threads_take_turns(rule):
    params, alone = make_params(), make_params()
    optimizer, other = CLOSED[rule](params), CLOSED[rule](alone)
    grads = clean(make_params(), ROWS)[1]

    def function(p):
        for _ in range(20):  # lets the other thread in
            threading.Event().wait(1e-4)
        return clean(p, ROWS)

    def make(opt, function):
        for _ in range(6):
            if opt.needs_closure:
                opt.step(function)
            else:
                opt.step(grads)

    threads = [threading.Thread(target=make, args=(optimizer, function)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    make(other, lambda p: clean(p, ROWS))
    make(other, lambda p: clean(p, ROWS))
    assert whole(optimizer) == whole(other)


def test_two_threads_minimize_as_one():
    def run(_):
        return ss.minimize(lambda x: clean(x, ROWS), make_params(), "adam", max_iter=30)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, range(2)))
    alone = run(0)
    for result in found:
        assert comparable([result.x, result.fun]) == comparable([alone.x, alone.fun])


def test_runs_of_a_search_in_threads_that_share_an_optimizer_are_named():
    params, both = make_params(), threading.Barrier(2, timeout=30)
    optimizer = ss.Adam(params, lr=0.01)
    inside, last = threading.Event(), threading.Event()

    def function(p, batch):
        inside.set()
        last.wait(30)
        return clean(p, batch)

    def objective(point):
        if both.wait():
            inside.wait(30)
        try:
            return ss.fit(function, params, optimizer, ROWS, epochs=2, progress=False).last("loss")
        finally:
            last.set()

    known = pytest.warns(RuntimeWarning, match="fit in another thread is at work")
    with ThreadPoolExecutor(2) as pool, known:
        result = ss.tune(objective, {"x": ss.Uniform(0, 1)}, trials=2, executor=pool)
    assert sorted(trial.state for trial in result.trials) == ["done", "failed"]
    assert optimizer.step_count == 4


FACTORIES = {
    "lr_find": lambda make: ss.lr_find(clean, make_params(), ROWS, optimizer=make, steps=20),
    "autolr": lambda make: ss.autolr(clean, make_params(), ROWS, steps=20, optimizer=make),
}


@pytest.mark.parametrize("door", FACTORIES)
def test_a_factory_that_gives_an_optimizer_over_other_arrays_is_refused(door):
    params = make_params()
    optimizer = ss.Adam(params, lr=0.01)
    before = whole(optimizer)
    for shared in (optimizer, ss.EMA(optimizer, 0.5)):
        with pytest.raises(ValueError, match="over other arrays"):
            FACTORIES[door](lambda p, shared=shared: shared)
    assert whole(optimizer) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_in_the_child_of_a_fork_the_optimizer_is_free():
    params, ends = make_params(), []
    optimizer = ss.Adam(params, lr=0.01)

    def function(p, batch):
        if not ends:
            child = os.fork()
            if child == 0:
                try:
                    step(params, optimizer)
                    fit(params, optimizer)
                    os._exit(optimizer.step_count)
                except BaseException:
                    os._exit(100)
            ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return clean(p, batch)

    ss.fit(function, params, optimizer, ROWS, epochs=1, progress=False)
    assert ends == [3] and optimizer.step_count == 2

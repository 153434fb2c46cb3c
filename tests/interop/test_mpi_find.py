"""What ranks do not do alike: in a search for a rate, and in a step of averaged gradients."""

import re

import numpy as np
import pytest

import stepsize as ss
from stepsize.collectives import Team
from stepsize.interop.mpi import LocalComm, RankError, Zero1

X = np.random.default_rng(0).standard_normal((101, 7))
Y = X @ np.arange(7.0)


def value_and_grad(params, batch):
    x, y = batch
    error = x @ params - y
    return float(np.mean(error**2)), 2 * x.T @ error / len(y)


def failing_at(call, error):
    """The function, which raises on its so manyth call on rank 1."""

    def made(comm):
        calls = iter(range(10**6))

        def function(params, batch):
            if comm.rank == 1 and next(calls) == call:
                raise error
            return value_and_grad(params, batch)

        return {"function": function}

    return made


def search_of(comm, function=value_and_grad, batches=(X, Y), **more):
    more = {"batch_size": 16} | more if isinstance(batches, tuple) else more
    return ss.lr_find(function, np.zeros(7), batches, comm=comm, **more)


def streamed(comm):
    def batches():
        for k in range(40):
            if comm.rank and k == 4:
                raise ZeroDivisionError
            yield X[:16], Y[:16]

    return {"batches": batches}


UNLIKE = {
    "a function that raises": (
        failing_at(7, OSError("no such sample")),
        "rank 1 .*OSError: no",
    ),
    "at its first call": (failing_at(0, OSError("no such sample")), "rank 1 .*OSError: no"),
    "batches that raise": (streamed, "rank 1 of 2: ZeroDivisionError"),
    "no batches": (lambda c: {"batches": [(X, Y)] * (1 - c.rank)}, "rank 1 .* batches is empty"),
    "an argument": (lambda c: {"steps": 30 - 20 * c.rank}, "rank 1 .*steps must be at least 20"),
    "a budget": (lambda c: {"steps": 30 + c.rank}, "steps must .* 30 on rank 0 and 31 on rank 1"),
    "rows": (
        lambda c: {"batches": (X[c.rank :], Y[c.rank :])},
        rf"number of samples .* {len(X)} on rank 0 and {len(X) - 1} on rank 1",
    ),
    "an optimizer": (lambda c: {"optimizer": (ss.SGD, ss.Adam)[c.rank]}, "SGD.* and 'Adam' on"),
    "a factory": (
        lambda c: {"optimizer": lambda p: ss.SGD(p, momentum=0.5 * c.rank)},
        "momentum must be the same on all ranks, but is 0.0 on rank 0 and 0.5 on rank 1",
    ),
    "a parameter": (lambda c: {"parameter": ("lr", "momentum")[c.rank]}, "parameter must be the"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_a_search_that_is_not_the_same_everywhere_ends_on_all_ranks(name):
    make, words = UNLIKE[name]

    def program(comm):
        with pytest.raises((RuntimeError, ValueError, OSError, ArithmeticError)) as told:
            search_of(comm, **make(comm))
        return str(told.value)

    assert re.search(words, LocalComm.run(2, program)[0])


def test_a_loss_that_is_nan_on_one_rank_is_so_on_all():
    def program(comm):
        calls = iter(range(10**6))

        def function(params, batch):
            loss, grads = value_and_grad(params, batch)
            return (np.nan if comm.rank == 1 and next(calls) == 7 else loss), grads

        found = search_of(comm, function)
        return found.suggestion, found.losses.tobytes(), found.stopped

    one, other = LocalComm.run(2, program)
    assert one == other


@pytest.mark.parametrize("rule", [ss.SGD, ss.LAMB])
def test_one_rank_may_ask_for_statistics_of_averaged_gradients(rule):
    grads = np.ones(40_000, np.float32)

    def program(comm):
        params = np.zeros(40_000, np.float32)
        optimizer = Zero1(rule, params, comm, lr=0.1)
        with pytest.raises((RankError, ValueError), match="shape"):
            optimizer.step_averaged(grads[comm.rank :])
        with pytest.raises(RankError, match="loss must be the same on all ranks, but is None on"):
            optimizer.step_averaged(grads, loss=1.0 if comm.rank else None)
        assert not params.any()
        stats = optimizer.step_averaged(grads, stats=comm.rank == 1)
        return None if stats is None else stats.grad_norm, params.tobytes()

    one, other = LocalComm.run(2, program)
    alone = np.zeros(40_000, np.float32)
    stats = rule(alone, lr=0.1).step(grads, stats=True)
    assert one == (None, alone.tobytes()) and other == (stats.grad_norm, alone.tobytes())


class Nothing:
    def on_step(self, run):
        pass


@pytest.mark.parametrize("more", [{}, {"callbacks": [Nothing()]}, {"validation": (X, Y)}])
def test_a_step_of_a_run_on_ranks_is_one_meeting_and_two_where_it_calls_back(more, monkeypatch):
    places, meet = [], Team.meet

    def counted(team, place, *given, **named):
        places.extend([place] if team.leads else [])
        return meet(team, place, *given, **named)

    monkeypatch.setattr(Team, "meet", counted)

    def program(comm):
        params = np.zeros(7)
        optimizer = ss.SGD(params, lr=0.01)
        ss.fit(value_and_grad, params, optimizer, (X, Y), epochs=3, comm=comm, **more)

    LocalComm.run(2, program)
    steps, calls = 3 * 4, 12 if "callbacks" in more else 0
    assert places.count("fit: gradients") == steps
    assert places.count("fit: decisions") == 1 + 3 + calls  # at the start, of epochs, of steps


@pytest.mark.parametrize("last", [0, 3, 4, 11])
def test_a_step_that_fails_on_one_rank_is_told_to_all_at_the_last_one_too(last):
    def program(comm):
        class Failing(ss.SGD):
            def step(self, *given, **more):
                if comm.rank and self.step_count == last:
                    raise OSError("no more memory")
                return super().step(*given, **more)

        params = np.zeros(7)
        optimizer = Failing(params, lr=0.01)
        limits = {"steps": 5} if last == 4 else {"epochs": 3}
        with pytest.raises((OSError, RankError), match="no more memory"):
            ss.fit(value_and_grad, params, optimizer, (X, Y), comm=comm, **limits)

    LocalComm.run(2, program)

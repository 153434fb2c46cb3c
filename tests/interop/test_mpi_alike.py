"""What ranks must be given alike, and what one may ask for alone."""

from __future__ import annotations

import numpy as np
import pytest

import stepsize as ss
from cases import CHUNK
from stepsize.collectives import RankError, Team
from stepsize.interop.mpi import DataParallel, LocalComm, Zero1

SHAPES = {"a": (3, CHUNK // 2), "b": (CHUNK + 77,), "c": (5,)}
RANDOM = np.random.default_rng(0)
LOW = {name: RANDOM.uniform(-0.5, -0.1, shape) for name, shape in SHAPES.items()}
HIGH = {name: RANDOM.uniform(0.1, 0.5, shape) for name, shape in SHAPES.items()}
GRADS = [{n: RANDOM.normal(size=shape) for n, shape in SHAPES.items()} for _ in range(3)]

BOUNDS = {
    "both": {"bounds": (LOW, HIGH)},
    "one side and a penalty": {"bounds": (LOW, None), "l1": 0.01},
    "by group": {"bounds": (LOW, 0.3), "groups": [ss.group("b", bounds=(-0.2, HIGH["b"]))]},
}


def params(order="C"):
    return {name: np.zeros(shape, order=order) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_bounds_that_are_arrays_are_cut_with_their_leaves(name, size, order):
    here = params()
    optimizer = ss.AdamW(here, lr=0.2, **BOUNDS[name])
    for grads in GRADS:
        optimizer.step(grads)

    def program(comm):
        there = params(order)
        optimizer = Zero1("adamw", there, comm, lr=0.2, **BOUNDS[name])
        for grads in GRADS:
            optimizer.step(grads)
        twin = params(order)
        optimizer.clone(twin).step(GRADS[0])
        inside = [(twin[n] >= LOW[n]).all() for n in "ac"]
        return there, all(inside)

    for there, inside in LocalComm.run(size, program):
        assert inside
        assert all(there[n].tobytes() == here[n].tobytes() for n in here)


@pytest.mark.parametrize("kind", ["zero", "parallel"])
@pytest.mark.parametrize("asks", [0, 1, 2])
def test_one_rank_may_ask_for_statistics_alone(kind, asks):
    here = params()
    optimizer = ss.LAMB(here, lr=0.1)
    expected = [optimizer.step(grads, stats=True) for grads in GRADS]

    def program(comm):
        there = params()
        if kind == "zero":
            optimizer = Zero1("lamb", there, comm, lr=0.1)
        else:
            optimizer = DataParallel(ss.LAMB(there, lr=0.1), comm)
        found = [optimizer.step(grads, stats=comm.rank == asks) for grads in GRADS]
        return there, found

    for rank, (there, found) in enumerate(LocalComm.run(4, program)):
        assert all(there[n].tobytes() == here[n].tobytes() for n in here)
        assert found == (expected if rank == asks else [None] * 3)


WRAPPED = {
    "EMA.decay": lambda o, rank: ss.EMA(o, decay=(0.5, 0.6)[rank]),
    "EMA.warmup": lambda o, rank: ss.EMA(o, warmup=bool(rank)),
    "SWA.every": lambda o, rank: ss.SWA(o, every=1 + rank),
    "Lookahead.k": lambda o, rank: ss.Lookahead(o, k=5 + rank),
    "Lookahead.alpha": lambda o, rank: ss.Lookahead(ss.EMA(o), alpha=(0.5, 0.4)[rank]),
    "AdaptiveClip.clip": lambda o, rank: ss.AdaptiveClip(o, clip=0.01 * (1 + rank)),
    "GradientNoise.seed": lambda o, rank: ss.GradientNoise(o, seed=rank),
    "Accumulate.every": lambda o, rank: ss.Accumulate(o, 2 + rank),
    "Project.projections": lambda o, rank: ss.Project(o, {"b": ss.projections.ball(1 + rank)}),
    "the optimizer": lambda o, rank: (ss.EMA, ss.SWA)[rank](o),
    "the optimizer ": lambda o, rank: ss.Centralize((ss.EMA, ss.SWA)[rank](o)),
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("kind", ["parallel", "fit"])
def test_wrappers_are_given_the_same_on_all_ranks(name, kind):
    def program(comm, own=True):
        x = {"b": np.zeros(3)}
        optimizer = WRAPPED[name](ss.SGD(x, lr=0.1), comm.rank if own else 1)
        if kind == "parallel":
            return DataParallel(optimizer, comm)
        data = (np.zeros((4, 1)),)
        more = {"epochs": 1, "batch_size": 4, "progress": False}
        return ss.fit(lambda x, batch: (1.0, x), x, optimizer, data, comm=comm, **more)

    words = f"optimizer: {name.strip()} must be the same on all ranks, but is "
    with pytest.raises(ValueError, match=words):
        LocalComm.run(2, program)


def test_the_same_wrappers_pass():
    def program(comm):
        for make in WRAPPED.values():
            x = {"b": np.zeros(3)}
            DataParallel(make(ss.SGD(x, lr=0.1), 1), comm)

    LocalComm.run(2, program)


def test_values_that_travel_along_are_told_by_name_where_they_differ():
    def program(comm, own):
        values = {"lr": 0.1, "momentum": (0.9, own)[comm.rank]}
        return Team(comm).meet_alike("here", comm.rank, values, "here: hyperparameters")

    assert LocalComm.run(2, lambda comm: program(comm, 0.9)) == [[0, 1]] * 2
    with pytest.raises(RankError, match=r"here: hyperparameters: momentum must .* 0.9 on rank 0"):
        LocalComm.run(2, lambda comm: program(comm, 0.8))


@pytest.mark.parametrize("cls", [ss.Adam, ss.Prodigy])
def test_a_step_without_any_gradient_has_norms_of_nothing_on_all_ranks(cls):
    def program(comm):
        x = params()
        optimizer = Zero1(cls, x, comm)
        found = optimizer.step(dict.fromkeys(x), stats=True)
        assert not any(leaf.any() for leaf in x.values())
        return found.grad_norm, found.update_norm

    assert LocalComm.run(2, program) == [(0.0, 0.0)] * 2

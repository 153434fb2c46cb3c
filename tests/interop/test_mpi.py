"""Ranks without MPI: gradients averaged and state shared on the threads of a LocalComm."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import stepsize as ss
from cases import CHUNK, RULES
from ranks import (
    alone,
    check_rule,
    continued,
    data_parallel,
    differences,
    gradient_of,
    saved,
    uninterrupted,
)
from stepsize.collectives import RankError, Share, mean_of
from stepsize.interop.mpi import DataParallel, LocalComm, Zero1, load_shards, save_shards

SIZES = (1, 2, 3, 5)


@pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rule_on_ranks_has_the_bits_that_it_has_alone(cls, dtype):
    for size, keywords in ((2, {}), (3, {"clip_norm": 1.0, "clip_value": 0.5})):
        found = LocalComm.run(size, lambda c, k=keywords: check_rule(c, cls, dtype, **k))
        assert found == [[]] * size
    # The gradients are clipped: the norm that all ranks have together is above 1.
    assert alone(cls, dtype, 2)[2][0].grad_norm > 1


LEAVES = {"a": 2 * CHUNK + 77, "b": (3, 5), "c": (3, CHUNK // 2)}
KINDS = {
    "state in bfloat16": (np.float32, ss.AdamW, {"state_dtype": "bfloat16"}),
    "state in 8 bits": (np.float32, ss.AdamW, {"state_dtype": "int8"}),
    "first values in 8 bits": (
        np.float32,
        ss.Adagrad,
        {"state_dtype": "int8", "initial_accumulator_value": 0.3},
    ),
    "bfloat16": (ml_dtypes.bfloat16, ss.AdamW, {}),
    "bfloat16 with master weights": (ml_dtypes.bfloat16, ss.Adam, {"master_weights": True}),
    "float16": (np.float16, ss.LAMB, {"clip_norm": 1.0}),
    "complex": (np.complex128, ss.Adam, {"clip_norm": 1.0}),
    "complex in 8 bits": (np.complex64, ss.Adam, {"state_dtype": "int8"}),
    "bounds": (np.float64, ss.AdamW, {"bounds": (-9.0, 0.3), "l1": 0.1}),
    "groups": (np.float64, ss.AdamW, {"groups": [ss.group("b", lr=0.5, weight_decay=0.0)]}),
    "a schedule": (np.float64, ss.SGD, {"lr": ss.schedules.linear(1.0, 0.0, 4), "momentum": 0.9}),
    "a loss scale": (np.float32, ss.SGD, {"lr": 0.1, "loss_scale": "dynamic"}),
    "sums over leaves": (
        np.float32,
        ss.AdamW,
        {"update_clip": 0.5, "mars_gamma": 0.1, "cautious_decay": True, "state_dtype": "int8"},
    ),
    "half precision of a matrix rule": (ml_dtypes.bfloat16, ss.Adafactor, {"clip_norm": 1.0}),
}


def nest(dtype, seed, ends=0.0):
    random = np.random.default_rng(seed)
    found = {name: random.standard_normal(shape) for name, shape in LEAVES.items()}
    if np.dtype(dtype).kind == "c":
        found = {
            name: leaf + 1j * random.standard_normal(leaf.shape) for name, leaf in found.items()
        }
    return {
        name: np.minimum(leaf, 0.25).astype(dtype) if ends else leaf.astype(dtype)
        for name, leaf in found.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_precisions_groups_and_bounds_on_ranks(kind):
    dtype, cls, keywords = KINDS[kind]
    ends = 1.0 if "bounds" in keywords else 0.0

    def program(comm):
        params = nest(dtype, 0, ends)
        optimizer = Zero1(cls, params, comm, **keywords)
        stats = [
            optimizer.step(nest(dtype, 7 * step + comm.rank + 1), stats=True) for step in range(3)
        ]
        return params, optimizer.state_dict(), stats

    for size in (1, 2, 3):
        params = nest(dtype, 0, ends)
        plain = cls(params, **keywords)
        stats = []
        for step in range(3):
            given = [nest(dtype, 7 * step + rank + 1) for rank in range(size)]
            wide = np.float32 if np.dtype(dtype).itemsize == 2 else dtype
            means = {
                name: mean_of([g[name].astype(wide) for g in given], Share.of([1.0] * size))
                for name in LEAVES
            }
            stats.append(plain.step(means if size > 1 else given[0], stats=True))
        for found in LocalComm.run(size, program):
            bits = [{k: v.view(np.uint8) for k, v in p.items()} for p in (params, found[0])]
            assert differences(*bits) == []
            assert differences((plain.state_dict(), stats), found[1:]) == []


def test_the_state_is_shared_evenly():
    sizes = LocalComm.run(
        4, lambda comm: Zero1(ss.AdamW, np.zeros(64 * CHUNK, np.float32), comm).state_bytes
    )
    assert sizes == [2 * 4 * 16 * CHUNK] * 4
    uneven = LocalComm.run(3, lambda comm: Zero1(ss.AdamW, np.zeros(64 * CHUNK), comm).state_bytes)
    assert max(uneven) - min(uneven) <= 2 * 8 * CHUNK
    assert sum(uneven) == 2 * 8 * 64 * CHUNK


def test_more_ranks_than_parts():
    def program(comm):
        x = np.ones(3)
        optimizer = Zero1(ss.DoG, x, comm, clip_norm=1.0)
        optimizer.step(np.ones(3))
        return x, optimizer.state_dict()

    x = np.ones(3)
    plain = ss.DoG(x, clip_norm=1.0)
    plain.step(np.ones(3))
    for found in LocalComm.run(4, program):
        assert differences((x, plain.state_dict()), found) == []


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("cls", [ss.AdamW, ss.LAMB, ss.DoG, ss.Shampoo], ids=lambda c: c.__name__)
def test_saved_on_two_ranks_and_continued_on_three(tmp_path, cls, shards):
    path = str(tmp_path / "run")
    expected = uninterrupted(cls)
    LocalComm.run(2, lambda comm: saved(comm, path, cls))
    for size in (3, 1, 2):
        for found in LocalComm.run(size, lambda comm: continued(comm, path, shards, cls)):
            assert differences(expected, found) == []
    if not shards:  # and without ranks
        params = {name: np.empty_like(leaf) for name, leaf in expected[0].items()}
        ss.load(f"{path}.params", params)
        plain = cls(params)
        plain.load(f"{path}.whole")
        assert plain.step_count == 3


def test_shards_name_whole_files_of_one_step(tmp_path):
    path = str(tmp_path / "run")

    def program(comm):
        optimizer = Zero1(ss.Adam, np.zeros(4 * CHUNK), comm)
        for _ in range(2):
            optimizer.step(np.ones(4 * CHUNK))
            save_shards(path, optimizer)
        return optimizer.step_count

    LocalComm.run(2, program)
    assert len(list(tmp_path.iterdir())) == 3  # the parts of the step before are gone
    victim = next(file for file in tmp_path.iterdir() if "1-of-2" in file.name)
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    def read(comm):
        params = np.zeros(4 * CHUNK)
        optimizer = Zero1(ss.Adam, params, comm)
        before = optimizer.state_dict()
        with pytest.raises((ss.CheckpointError, RankError)):
            load_shards(path, optimizer)
        return params.any(), differences(before, optimizer.state_dict())

    assert LocalComm.run(3, read) == [(False, [])] * 3


def test_data_parallel_averages_by_rows_in_a_fixed_order():
    for size in SIZES:
        x = np.zeros(CHUNK + 3)
        plain = ss.Adam(x, lr=0.1)
        share = Share.of([2.0 + rank for rank in range(size)])
        for step in range(3):
            plain.step(mean_of([gradient_of(step, rank) for rank in range(size)], share))
        for found in LocalComm.run(size, data_parallel):
            assert found.tobytes() == x.tobytes()


@pytest.mark.parametrize("wrap", [DataParallel, None], ids=["DataParallel", "Zero1"])
def test_rows_of_gradients_and_a_rank_without_rows(wrap):
    def make(x, comm):
        return Zero1("adam", x, comm) if wrap is None else wrap(ss.Adam(x), comm)

    def program(comm):
        x = np.zeros((6, 2))
        optimizer = make(x, comm)
        optimizer.step(ss.RowGradient([comm.rank, 5], np.ones((2, 2)) * (1 + comm.rank)))
        optimizer.step(
            np.full((6, 2), np.nan) if comm.rank else np.ones((6, 2)), rows=1 - comm.rank
        )
        return x

    x = np.zeros((6, 2))
    plain = ss.Adam(x)
    rows = ss.RowGradient([0, 5, 1, 5], np.repeat([0.5, 0.5, 1.0, 1.0], 2).reshape(4, 2))
    plain.step(rows if wrap else rows.whole("", "", x))
    plain.step(np.ones((6, 2)))
    for found in LocalComm.run(2, program):
        assert found.tobytes() == x.tobytes()


@pytest.mark.parametrize("policy", ["ignore", "skip"])
def test_gradients_that_are_not_finite_are_counted_on_all_ranks(policy):
    def program(comm):
        params = {"a": np.ones((4, CHUNK // 2)), "b": np.ones(3)}
        optimizer = Zero1(ss.Adam, params, comm, on_nonfinite=policy)
        grads = {"a": np.ones((4, CHUNK // 2)), "b": np.ones(3)}
        grads["a"][0, 0] = grads["a"][-1, -1] = np.nan  # which the first and the last rank own
        found = optimizer.step(grads, stats=True).nonfinite
        with pytest.raises(TypeError, match="other ranks hold parts"):
            optimizer.arriving()
        return found

    assert LocalComm.run(2, program) == [2, 2]


@pytest.mark.parametrize("policy", ["raise", "skip"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("keywords", [{}, {"clip_norm": 1.0}])
@pytest.mark.parametrize("cls", [ss.Adam, ss.LAMB, ss.DoG, ss.Muon], ids=lambda c: c.__name__)
def test_what_is_not_finite_on_one_rank_all_ranks_see(cls, keywords, bad, policy):
    """The same decision everywhere, and nothing has changed anywhere."""

    def program(comm):
        params = {"a": np.ones((4, CHUNK // 2)), "b": np.ones(3)}
        optimizer = Zero1(cls, params, comm, on_nonfinite=policy, **keywords)
        optimizer.step({"a": np.ones((4, CHUNK // 2)), "b": np.ones(3)})
        before = {name: leaf.copy() for name, leaf in params.items()}, optimizer.state_dict()
        grads = {"a": np.ones((4, CHUNK // 2)), "b": np.ones(3)}
        grads["a"][-1, -1] = bad if comm.rank == 0 else 1.0  # which the last rank owns
        if policy == "skip":
            assert optimizer.step(grads, stats=True).nonfinite == 1
        else:
            with pytest.raises(ss.NonFiniteGradientError, match=r"the gradient of a"):
                optimizer.step(grads)
        found = differences(before, (params, optimizer.state_dict()))
        optimizer.step({"a": np.ones((4, CHUNK // 2)), "b": np.ones(3)})
        return found, params["b"][0]

    results = LocalComm.run(3, program)
    assert [found for found, _ in results] == [[]] * 3
    assert len({value for _, value in results}) == 1


@pytest.mark.parametrize("wrap", ["DataParallel", "Zero1"])
def test_what_one_rank_refuses_all_refuse(wrap):
    def program(comm):
        x = np.ones(2 * CHUNK)
        optimizer = Zero1("adam", x, comm) if wrap == "Zero1" else DataParallel(ss.Adam(x), comm)
        wrong = np.ones(3) if comm.rank == 1 else np.ones(2 * CHUNK)
        with pytest.raises(
            ValueError if comm.rank == 1 else RankError,
            match=r"shape \(3,\)" if comm.rank == 1 else r"rank 1 of 3: ValueError.*shape \(3,\)",
        ):
            optimizer.step(wrong)
        optimizer.step(np.ones(2 * CHUNK))
        return optimizer.step_count, x[0], x[-1]

    found = LocalComm.run(3, program)
    assert found == [(1, found[0][1], found[0][1])] * 3


def test_ranks_begin_from_the_parameters_of_the_first():
    def program(comm):
        x, y = np.full(5, float(comm.rank)), np.full(5, float(comm.rank))
        Zero1("sgd", x, comm)
        DataParallel(ss.SGD(y), comm)
        return x.sum(), y.sum()

    assert LocalComm.run(3, program) == [(0.0, 0.0)] * 3
    for make in (lambda x, c: Zero1("sgd", x, c), lambda x, c: DataParallel(ss.SGD(x), c)):
        with pytest.raises(ValueError, match="must be the same on all ranks"):
            LocalComm.run(2, lambda comm, make=make: make(np.zeros(2 + comm.rank), comm))


def test_what_cannot_be_shared_is_refused_by_name():
    def refused(make, words):
        with pytest.raises(TypeError, match=words):
            LocalComm.run(2, make)

    refused(lambda comm: Zero1("lbfgs", np.zeros(3), comm), "Zero1: LBFGS takes the function")
    refused(lambda comm: Zero1("adam", np.zeros(3), "world"), "Zero1: comm must be a communicator")
    refused(lambda comm: ss.EMA(Zero1("adam", np.zeros(3), comm)), "EMA: Zero1 holds parts")


def test_hyperparameters_and_averages_go_through():
    def program(comm):
        x = np.ones(2 * CHUNK)
        optimizer = Zero1(ss.ScheduleFreeSGD, x, comm, lr=0.5)
        optimizer.lr = 0.25
        optimizer.step(np.ones(2 * CHUNK))
        optimizer.step(np.ones(2 * CHUNK))
        twin = optimizer.clone(np.ones(2 * CHUNK))
        with optimizer.averaged() as inside:
            average = inside.copy()
        assert differences(twin.state_dict(), optimizer.state_dict()) == []
        return x, average, optimizer.eval_params(), optimizer.lr

    y = np.ones(2 * CHUNK)
    plain = ss.ScheduleFreeSGD(y, lr=0.5)
    plain.lr = 0.25
    plain.step(np.ones(2 * CHUNK))
    plain.step(np.ones(2 * CHUNK))
    for x, average, again, lr in LocalComm.run(2, program):
        assert lr == 0.25
        assert x.tobytes() == y.tobytes()
        assert average.tobytes() == again.tobytes() == plain.eval_params().tobytes()


def test_every_rank_sends_what_a_ring_would():
    """2 (n - 1) / n of the bytes of the leaf: gradients to their owners, parameters back."""

    def program(comm):
        optimizer = Zero1("sgd", np.zeros(12 * CHUNK, np.float32), comm)
        optimizer.step(np.ones(12 * CHUNK, np.float32))
        return optimizer.bytes_sent

    for size in (1, 2, 3, 4):
        each = 2 * (size - 1) * 12 * CHUNK * 4 // size
        assert LocalComm.run(size, program) == [each] * size


MODULES = [m.name for m in pkgutil.iter_modules(ss.interop.mpi.__path__, "stepsize.interop.mpi.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_page_runs():
    page = (Path(__file__).parents[2] / "docs" / "mpi.md").read_text("utf-8")
    scope = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "mpi.md", "exec"), scope)

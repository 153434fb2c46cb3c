"""Parameters of every shape and kind: nests, groups, odd memory, options, and hyperparameters."""

import collections
import math
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest

import stepsize as ss
from cases import (
    CHUNK,
    DTYPES,
    EDGES,
    RULES,
    numpy_rule,
    random_grads,
    random_nest,
    same_bits,
    snapshot,
)
from stepsize.arrays.memory import check_apart


def ones(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


Pair = collections.namedtuple("Pair", ["first", "second"])

NESTS = {
    "an array": (lambda: ones(3), ["params"]),
    "a list": (lambda: [ones(3), ones(2)], ["0", "1"]),
    "a tuple": (lambda: (ones(3), [ones(2)]), ["0", "1/0"]),
    "a dict": (lambda: {"b": ones(2), "a": {"w": ones(1)}}, ["a/w", "b"]),
    "whole numbers as keys": (lambda: {2: ones(2), 1: ones(1)}, ["1", "2"]),
    "a place for nothing": (lambda: {"a": None, "b": ones(2)}, ["b"]),
    "an ordered dict": (lambda: collections.OrderedDict(b=ones(2), a=ones(1)), ["b", "a"]),
    "a default dict": (lambda: collections.defaultdict(list, a=ones(1)), ["a"]),
    "a named tuple": (lambda: Pair(ones(1), ones(2)), ["0", "1"]),
}


@pytest.mark.parametrize("kind", NESTS)
def test_any_nest_of_arrays(kind):
    make, paths = NESTS[kind]
    params = make()
    optimizer = ss.SGD(params, lr=0.5)
    assert sorted(optimizer.paths) == sorted(paths)
    optimizer.step(make())
    optimizer.step(ss.arrays.map_leaves(lambda leaf: leaf.astype(leaf.dtype), make()))
    for leaf in ss.arrays.flatten(params)[0]:
        assert np.all(leaf == 0.0)
    assert optimizer.params is params


def test_gradients_of_a_dict_may_come_in_another_order():
    params = {"a": ones(2), "b": ones(3)}
    ss.SGD(params, lr=1.0).step({"b": 3 * ones(3), "a": 2 * ones(2)})
    assert params["a"].tolist() == [-1, -1] and params["b"].tolist() == [-2, -2, -2]


def test_leaves_of_both_dtypes_live_together():
    params = {"a": ones(5, dtype=np.float32), "b": ones(5, dtype=np.float64)}
    optimizer = ss.Adam(params)
    for seed in range(3):
        optimizer.step(random_grads(params, seed))
    assert {slot.dtype for slot in optimizer.state["a"].values()} == {np.dtype(np.float32)}
    assert {slot.dtype for slot in optimizer.state["b"].values()} == {np.dtype(np.float64)}


# Memory.


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_at_odd_addresses(dtype):
    raw = bytearray(1 + 8 * 50)
    odd = np.frombuffer(raw, np.uint8)[1:].view(dtype)[:50]
    assert not odd.flags.aligned
    even = np.zeros(50, dtype)
    one, two = ss.Adam(odd), ss.Adam(even)
    for seed in range(3):
        grad = random_grads(even, seed)
        one.step(grad)
        two.step(grad)
    assert same_bits(odd.copy(), even)


def test_gradients_at_odd_addresses_and_of_foreign_kinds():
    class Foreign:
        def __array__(self, dtype=None, copy=None):
            return np.full(4, 0.5)

    odd = np.frombuffer(bytearray(33), np.uint8)[1:].view(np.float64)
    odd[...] = 0.5
    for grad in (odd, Foreign(), pickle.loads(pickle.dumps(np.full(4, 0.5))), np.full(8, 0.5)[::2]):
        x = ones(4)
        ss.SGD(x, lr=1.0).step(grad)
        assert x.tolist() == [0.5] * 4


def test_a_scalar_parameter_takes_a_numpy_scalar():
    x = np.array(2.0)
    optimizer = ss.SGD(x, lr=0.5)
    optimizer.step(x - 1.0)  # arithmetic on 0-d arrays makes scalars
    assert x == 1.5 and optimizer.step_count == 1


def test_packed_leaves_share_one_aligned_buffer():
    packed = ss.pack({"a": ones(3), "b": ones(2, dtype=np.float32), "c": ones(2, 2)})
    assert packed["a"].base is packed["c"].base is not packed["b"].base
    assert packed["a"].ctypes.data % 64 == 0
    assert packed["c"].ctypes.data == packed["a"].ctypes.data + packed["a"].nbytes


def test_large_state_lies_on_a_large_page():
    x = np.zeros((1 << 20) + 16, np.float32)[5:]
    state = ss.Adam(x).state["params"]
    line = x.ctypes.data % 64  # parameter and state reach the edge of a cache line together
    assert state["exp_avg"].ctypes.data % (1 << 21) == line
    assert state["exp_avg_sq"].ctypes.data % 64 == line


# Groups.


def test_groups_by_glob_and_in_the_form_of_torch_agree():
    def fresh():
        return random_nest({"w": (3, 2), "b": 2}, np.float64)

    glob, listed = fresh(), fresh()
    by_glob = ss.AdamW(glob, lr=0.1, groups=[ss.group("b", weight_decay=0.0, lr=0.2)])
    by_list = ss.AdamW(
        [{"params": listed["w"]}, {"params": [listed["b"]], "weight_decay": 0.0, "lr": 0.2}],
        lr=0.1,
    )
    for seed in range(3):
        grads = random_grads(glob, seed)
        by_glob.step(grads)
        by_list.step([grads["w"], [grads["b"]]])
    assert all(same_bits(glob[name], listed[name]) for name in glob)
    assert by_glob.lr == by_list.lr == (0.1, 0.2)
    assert by_glob.weight_decay == (0.01, 0.0)
    assert by_list.paths == ("0", "1/0")


def test_groups_may_differ_in_state():
    params = {"a": ones(3), "b": ones(3)}
    optimizer = ss.SGD(params, lr=0.1, groups=[ss.group("b", momentum=0.9)])
    optimizer.step(params)
    optimizer.step({"a": ones(3), "b": ones(3)})
    assert list(optimizer.state["a"]) == [] and list(optimizer.state["b"]) == ["momentum_buffer"]


def test_the_first_group_that_matches_takes_a_leaf():
    params = {"a": ones(1), "b": ones(1), "c": ones(1)}
    optimizer = ss.SGD(params, lr=1.0, groups=[ss.group("a", lr=2.0), ss.group("[ab]", lr=3.0)])
    optimizer.step(ss.arrays.copy(params))
    assert [float(leaf[0]) for leaf in params.values()] == [-1.0, -2.0, 0.0]


def test_a_rate_can_be_set_in_all_groups_or_in_each():
    params = {"a": ones(1), "b": ones(1)}
    optimizer = ss.SGD(params, lr=1.0, groups=[ss.group("a", lr=2.0)])
    with pytest.warns(UserWarning, match="one lr for all groups replaces their own"):
        optimizer.lr = 0.5
    assert optimizer.lr == (0.5, 0.5)
    optimizer.lr = (0.25, 0.125)
    assert optimizer.lr == (0.25, 0.125)
    optimizer.step({"a": ones(1), "b": ones(1)})
    assert (params["b"][0], params["a"][0]) == (0.75, 0.875)


# Hyperparameters that move.


def test_functions_of_the_step_as_hyperparameters():
    seen = []

    def rate(step):
        seen.append(step)
        return 0.5 / (1 + step)

    x = ones(2)
    optimizer = ss.SGD(x, lr=rate)
    assert optimizer.lr == 0.5
    for k in range(3):
        optimizer.step(np.ones(2))
        assert optimizer.lr == 0.5 / (2 + k)
    assert np.all(x == 1 - 0.5 - 0.25 - 0.5 / 3)
    assert set(seen) == {0, 1, 2, 3} and all(isinstance(step, int) for step in seen)


def test_a_schedule_is_the_function_it_stands_for():
    schedule = ss.schedules.cosine(0.5, 0.0, 5)
    x, y = ones(3), ones(3)
    one, two = ss.AdamW(x, lr=schedule), ss.AdamW(y, lr=lambda step: schedule(step))
    for k in range(7):
        assert one.lr == two.lr == schedule(k)
        one.step(np.cos(x))
        two.step(np.cos(y))
    assert same_bits(x, y)


def test_every_number_takes_a_schedule():
    linear = ss.schedules.linear(0.9, 0.5, 4)
    optimizer = ss.AdamW(ones(3), betas=(linear, lambda step: 0.9), weight_decay=linear)
    values = []
    for _ in range(3):
        values.append((optimizer.betas, optimizer.weight_decay))
        optimizer.step(ones(3))
    assert values == [((linear(k), 0.9), linear(k)) for k in range(3)]


def test_the_rate_can_be_set_and_scaled():
    x = ones(1)
    optimizer = ss.SGD(x, lr=lambda step: 0.5)
    optimizer.lr_scale = 0.5
    assert optimizer.lr == 0.25
    optimizer.step(np.ones(1))
    assert x[0] == 0.75
    optimizer.lr = 1.0
    assert optimizer.lr == 0.5 and optimizer.hyperparams["lr"] == 0.5
    optimizer.step(np.ones(1))
    assert x[0] == 0.25


def test_hyperparams_lists_current_values():
    optimizer = ss.Adam(ones(1), lr=0.1, amsgrad=True)
    assert optimizer.hyperparams == {
        "lr": 0.1,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "amsgrad": True,
        "cautious": False,
        "cautious_decay": False,
        "decay_max_lr": None,
        "update_clip": None,
        "mars_gamma": None,
        "decoupled_weight_decay": False,
    }


@pytest.mark.parametrize("cls", RULES)
def test_none_is_the_default_rate(cls):
    assert cls(ones(1), None).lr == cls(ones(1)).lr


# Clipping.


@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_norm_scales_all_gradients_together(dtype, limit):
    params = random_nest({"a": 2 * CHUNK + 5, "b": (3, 3), "c": ()}, dtype)
    before, grads = ss.arrays.copy(params), random_grads(params, 1)
    norm = math.sqrt(math.fsum(float(np.sum(np.square(g, dtype=float))) for g in grads.values()))
    stats = ss.SGD(params, lr=1.0, clip_norm=limit).step(grads, stats=True)
    assert stats.grad_norm == pytest.approx(norm, rel=1e-12)  # sums in another order
    factor = dtype(min(1.0, limit / (norm + 1e-6)))
    for name in params:
        # One unit of the factor, whose norm adds up in another order, and one of the difference.
        step = grads[name] * factor
        slack = np.finfo(dtype).eps * (np.abs(before[name]) + np.abs(step))
        assert np.all(np.abs(params[name] - (before[name] - step)) <= slack)


@pytest.mark.parametrize("size", [1, 3, CHUNK + 1])
@pytest.mark.parametrize("height", [1e300, 1e160, 1e-140, 1e-170, 1e-300, 1e-310, 5e-324])
def test_clip_norm_of_norms_whose_squares_leave_the_range(height, size):
    x, limit = np.zeros(size), max(height / 2, 1e-3)
    ss.SGD(x, lr=1.0, clip_norm=limit).step(np.full(size, height))
    expected = height * min(1.0, limit / (height * math.sqrt(size)))
    np.testing.assert_allclose(x, -expected, rtol=1e-12)


def test_clip_norm_leaves_out_missing_gradients():
    params = {"a": np.zeros(1), "b": np.zeros(1)}
    ss.SGD(params, lr=1.0, clip_norm=1.0).step({"a": np.array([4.0]), "b": None})
    assert params["a"][0] == pytest.approx(-1.0, rel=1e-6)  # the 1e-6 beside the norm


def test_clip_value_clamps_after_the_norm():
    x = np.zeros(4)
    ss.SGD(x, lr=1.0, clip_value=0.5).step(np.array([2.0, -2.0, 0.25, -0.0]))
    assert x.tolist() == [-0.5, 0.5, -0.25, 0.0]
    y = np.zeros(2)
    ss.SGD(y, lr=1.0, clip_norm=1.0, clip_value=0.7).step(np.array([3.0, 4.0]))
    np.testing.assert_allclose(y, [-0.6, -0.7], rtol=1e-6)


# NaN and infinity.


def places(size):
    return sorted({0, 1, size // 2, size - 2, size - 1} & set(range(size)))


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bad_gradient_is_found_wherever_it_is(dtype, bad, clip):
    sizes = [size for size in EDGES if size]
    for mode in ("raise", "skip", "ignore"):
        params = {str(size): np.ones(size, dtype) for size in sizes}
        grads = {str(size): np.ones(size, dtype) for size in sizes}
        optimizer = ss.SGD(params, lr=0.5, on_nonfinite=mode, clip_norm=clip)
        for size in sizes if mode == "raise" else (1, 9, CHUNK + 1):
            before = snapshot(optimizer)
            for place in places(size):
                grads[str(size)][place] = bad
                if mode == "raise":
                    with pytest.raises(ss.NonFiniteGradientError, match=f"gradient of {size} "):
                        optimizer.step(grads)
                    assert snapshot(optimizer) == before
                elif mode == "skip":
                    stats = optimizer.step(grads, stats=True)
                    assert stats.nonfinite == 1 and stats.update_norm == 0
                    assert snapshot(optimizer) == before
                grads[str(size)][place] = 1
            if mode == "ignore":
                grads[str(size)][size - 1] = bad
                assert optimizer.step(grads, stats=True).nonfinite == 1
                assert not np.isfinite(params[str(size)][-1])
                params[str(size)][-1] = 1
                grads[str(size)][-1] = 1


# Statistics.


@pytest.mark.parametrize("cls", RULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_what_numpy_computes(cls, dtype):
    params = random_nest({str(size): size for size in EDGES}, dtype)
    optimizer = cls(params)
    more = {"loss": 1.0} if cls.needs_loss else {}
    for seed in range(2):
        before, grads = ss.arrays.copy(params), random_grads(params, seed)
        stats = optimizer.step(grads, stats=True, **more)
        moved = {name: params[name].astype(float) - before[name] for name in params}
        # The fixed tree and NumPy's sum round differently.
        assert stats.grad_norm == pytest.approx(norm_of(grads), rel=1e-12)
        assert stats.param_norm == pytest.approx(norm_of(before), rel=1e-12)
        assert stats.update_norm == pytest.approx(norm_of(moved), rel=1e-12)
        assert stats.update_ratio == stats.update_norm / stats.param_norm
        assert stats.nonfinite == 0


def norm_of(nest):
    squares = (np.square(leaf, dtype=float).ravel() for leaf in nest.values())
    return math.sqrt(math.fsum(np.concatenate(list(squares))))


@pytest.mark.parametrize("cls", RULES)
def test_asking_for_statistics_changes_nothing_and_numpy_says_the_same(cls):
    more = {"loss": 1.0} if cls.needs_loss else {}
    source = random_nest({str(size): size for size in EDGES}, np.float32)
    plain, asked, stated = (ss.arrays.copy(source) for _ in range(3))
    one, two = cls(plain), cls(asked)
    with numpy_rule(cls):
        three = cls(stated)
    for seed in range(2):
        grads = random_grads(source, seed)
        one.step(grads, **more)
        assert two.step(grads, stats=True, **more) == three.step(grads, stats=True, **more)
    assert all(same_bits(plain[k], asked[k]) and same_bits(plain[k], stated[k]) for k in source)


def test_the_ratio_where_the_parameters_are_zero():
    assert ss.SGD(np.zeros(3)).step(np.ones(3), stats=True).update_ratio == math.inf
    assert math.isnan(ss.SGD(np.zeros(3)).step(np.zeros(3), stats=True).update_ratio)


# Processes.

FORK = """
import os, sys
import numpy as np, stepsize as ss
ss.set_num_threads(3)
x = np.ones(300_000, np.float32)
opt = ss.Adam(x)
opt.step(np.ones_like(x))
child = os.fork()
if child == 0:
    alone = ss.build_info()["threads"] == 1
    opt.step(np.ones_like(x))
    os._exit(0 if alone and opt.step_count == 2 else 7)
_, status = os.waitpid(child, 0)
opt.step(np.ones_like(x))
sys.exit(os.waitstatus_to_exitcode(status) or (0 if opt.step_count == 2 else 8))
"""


if hasattr(os, "fork"):

    def test_a_child_of_a_threaded_process_steps():
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FORK], timeout=60, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("seed", range(40))
def test_interleaved_arrays_are_compared_as_two_by_two(seed):
    rng = np.random.default_rng(seed)
    matrix = np.zeros((7, int(rng.integers(9, 40))))
    columns = [matrix[:, k][:: rng.choice([1, -1])] for k in rng.permutation(matrix.shape[1])]
    if seed % 2:
        columns.insert(int(rng.integers(len(columns))), matrix[2, 3:5])
        with pytest.raises(ValueError, match=r"overlaps .* in memory"):
            ss.SGD(columns)
    else:
        ss.SGD(columns)


def test_the_time_to_compare_columns_grows_with_their_number_and_no_faster():
    def seconds(count):
        matrix = np.zeros((3, count))
        names = [str(k) for k in range(count)]
        columns = [matrix[:, k] for k in range(count)]
        start = time.perf_counter()
        check_apart(columns, names, "test")
        return time.perf_counter() - start

    few = min(seconds(1000) for _ in range(3))
    assert min(seconds(8000) for _ in range(3)) < 30 * few

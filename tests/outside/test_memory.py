"""Arrays that are changed, shared or many: a step notices, and takes no more time than it must."""

import time

import numpy as np
import pytest

import stepsize as ss
from stepsize.arrays import check_apart

# Parameters that are changed in place between steps.

CHANGES = {
    "dtype": lambda x: setattr(x, "dtype", np.int64),
    "byte order": lambda x: setattr(x, "dtype", np.dtype(np.float64).newbyteorder()),
    "shape": lambda x: setattr(x, "shape", (x.size,)),
    "read-only": lambda x: x.setflags(write=False),
}


def refuses(optimizer, params, step):
    before = {name: x.tobytes() for name, x in params.items()}
    with pytest.raises((ValueError, TypeError), match="b became read-only or changed its"):
        step()
    assert {name: x.tobytes() for name, x in params.items()} == before
    assert optimizer.step_count == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("cls", ss.optimizers.registry(), ids=lambda cls: cls.__name__)
def test_a_changed_parameter_is_noticed_by_every_rule(cls, change):
    params = {"a": np.ones((3, 2)), "b": np.ones((3, 2))}
    grads = {name: np.ones((3, 2)) for name in params}
    optimizer = cls(params, lr=0.1)
    CHANGES[change](params["b"])
    if cls.needs_closure:
        refuses(optimizer, params, lambda: optimizer.step(lambda p: (1.0, grads)))
    else:
        loss = 1.0 if cls.needs_loss else None
        refuses(optimizer, params, lambda: optimizer.step(grads, loss=loss))


WRAPPERS = {
    "EMA": ss.EMA,
    "SWA": ss.SWA,
    "Lookahead": ss.Lookahead,
    "Accumulate": lambda inner: ss.Accumulate(inner, 1),
    "Mechanic": ss.Mechanic,
    "AdaptiveClip": ss.AdaptiveClip,
    "SAM": ss.SAM,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("change", ["dtype", "byte order", "read-only"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_changed_parameter_is_noticed_by_every_wrapper(wrapper, change):
    params = {"a": np.ones((3, 2)), "b": np.ones((3, 2))}
    grads = {name: np.ones((3, 2)) for name in params}
    optimizer = WRAPPERS[wrapper](ss.SGD(params, lr=0.1))
    CHANGES[change](params["b"])
    given = (lambda p: (1.0, grads)) if optimizer.needs_closure else grads
    refuses(optimizer, params, lambda: optimizer.step(given))


def test_a_changed_parameter_that_is_not_contiguous_is_noticed():
    params = {"a": np.ones((3, 2)), "b": np.ones((2, 3)).T}
    optimizer = ss.SGD(params)
    params["b"].dtype = np.int64
    refuses(optimizer, params, lambda: optimizer.step({n: np.ones((3, 2)) for n in params}))


def test_changed_stacked_parameters_are_noticed():
    params = {"a": np.ones((2, 3)), "b": np.ones((2, 3))}
    models = ss.population("sgd", params, lr=0.1)
    params["b"].dtype = np.int64
    with pytest.raises(ValueError, match="b became read-only or changed its"):
        models.step({name: np.ones((2, 3)) for name in params})
    assert not models.step_count.any() and (params["a"] == 1).all()


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_a_parameter_shows_stays_in_its_place(order):
    base = np.ones(20)
    x = base[:8].reshape(2, 4, order=order)
    optimizer = ss.SGD(x, lr=1.0)
    with pytest.raises(ValueError, match="resize"):
        base.resize(10_000, refcheck=False)
    optimizer.step(np.ones((2, 4)))
    assert not base[:8].any() and base[8:].all()


# Gradients that lie where the step writes.


def test_state_arrays_of_other_leaves_as_gradients_are_read_before_they_move():
    found = []
    for copied in (False, True):
        params = {"a": np.ones(3), "b": np.ones(3), "c": np.ones(3)}
        optimizer = ss.SGD(params, lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.step({name: np.arange(3.0) for name in params})
        state = {n: optimizer.state[n]["momentum_buffer"] for n in params}
        grads = {"a": state["a"], "b": state["a"], "c": params["a"]}
        optimizer.step({n: g.copy() for n, g in grads.items()} if copied else grads)
        found.append([x.copy() for x in params.values()])
    np.testing.assert_array_equal(*found)


def test_state_arrays_cannot_be_bound_as_gradients():
    params = {"a": np.ones(3), "b": np.ones(3)}
    optimizer = ss.SGD(params, momentum=0.9)
    state = optimizer.state["a"]["momentum_buffer"]
    with pytest.raises(ValueError, match="gradient of b shares memory with parameters, state"):
        optimizer.bind({"a": np.ones(3), "b": state})


def test_state_of_a_replica_as_stacked_gradients_is_read_before_it_moves():
    found = []
    for copied in (False, True):
        x = np.ones((1, 3))
        models = ss.population("sgd", x, lr=0.1, momentum=0.9)
        models.step(np.ones((1, 3)))
        state = models.replica(0).state["params"]["momentum_buffer"].reshape(1, 3)
        models.step(state.copy() if copied else state)
        found.append(x.copy())
    np.testing.assert_array_equal(*found)


# Many leaves.


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_columns_of_one_matrix_are_checked_in_linear_time():
    matrix = np.zeros((20, 4_000))
    columns = [matrix[:, i] for i in range(4_000)]
    names = [str(i) for i in range(4_000)]
    assert seconds(lambda: check_apart(columns, names, "test")) < 5.0
    with pytest.raises(ValueError, match="again overlaps 77 in memory"):
        check_apart([*columns, matrix[3:5, 77]], [*names, "again"], "test")


@pytest.mark.parametrize("kind", [list, dict])
def test_one_gradient_that_is_copied_among_many_takes_linear_time(kind):
    leaves, grads = np.zeros((8_000, 2, 3)), [*np.ones((8_000, 2, 3))]
    grads[4_000] = np.asfortranarray(grads[4_000])
    build = list if kind is list else lambda arrays: {str(i): x for i, x in enumerate(arrays)}
    optimizer, taken = ss.SGD(build([*leaves]), lr=1.0), []
    taken += [seconds(lambda: optimizer.step(build(grads))) for _ in range(3)]
    assert (leaves == -3).all() and min(taken) < 5.0


@pytest.mark.parametrize("seed", range(40))
def test_overlaps_are_found_as_numpy_finds_them(seed):
    rng = np.random.default_rng(seed)
    base = np.zeros(400, np.uint8)
    leaves = []
    for _ in range(4):
        dtype = rng.choice([np.float32, np.float64])
        start = rng.integers(0, 40)
        view = base[start : start + 320].view(dtype).reshape(4, -1)
        step, at = rng.integers(2, 5, 2)
        leaves.append(view[:: rng.choice([-2, 1, 2]), at % step :: step])
    shared = any(np.shares_memory(a, b) for i, a in enumerate(leaves) for b in leaves[:i] if a.size)
    try:
        check_apart(leaves, list("abcd"), "test")
    except ValueError:
        assert shared
    else:
        assert not shared

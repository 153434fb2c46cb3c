"""Processes that fork, end or are changed by other libraries around a step."""

import ctypes
import os
import platform
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import stepsize as ss
from stepsize import _core
from stepsize.arrays import check_apart

LARGE = 600_000  # elements from which on several threads share a step, sleeping ones too
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def run(program, *arguments, timeout=60):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


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


# Forks.


def child_ends(work, seconds=30.0):
    """Fork, let the child do the work, and tell whether it has come to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_steps_while_a_thread_of_its_parent_is_in_a_step():
    x, g = np.ones(3 * LARGE, np.float32), np.ones(3 * LARGE, np.float32)
    optimizer, done = ss.AdamW(x), threading.Event()

    def steps():
        while not done.is_set():
            optimizer.step(g)

    def work():
        before = optimizer.step_count
        optimizer.step(g)
        optimizer.load_state_dict(optimizer.state_dict())
        assert optimizer.step_count == before + 1

    thread = threading.Thread(target=steps)
    thread.start()
    try:
        assert all([child_ends(work) for _ in range(5)])
    finally:
        done.set()
        thread.join()


@needs_fork
def test_a_rate_may_fork_and_both_processes_go_on():
    x, children = np.ones(3), []

    def rate(_):
        children.append(os.fork())
        return 0.5

    optimizer = ss.SGD(x, lr=rate)
    code = 1
    try:
        optimizer.step(np.ones(3))
        if children[0] == 0:
            optimizer.lr = 0.5
            optimizer.step(np.ones(3))
            code = int(x.any() or optimizer.step_count != 2)
    finally:
        if children and children[0] == 0:
            os._exit(code)
    assert os.waitpid(children[0], 0)[1] == 0
    assert (x == 0.5).all()


@needs_fork
def test_a_child_of_a_process_without_large_steps_is_serial():
    found = run(
        """
        import os, stepsize as ss
        ss.set_num_threads(2)
        if os.fork() == 0:
            os._exit(ss.build_info()["threads"])
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        """
    )
    assert found.strip() == "1"


# The end of a process.


@pytest.mark.parametrize("size", [1_000, 2_000_000])
@pytest.mark.parametrize("rate", ["0.1", "lambda t: 0.1"])
def test_a_process_ends_while_a_daemon_thread_steps(size, rate):
    program = f"""
    import threading, time, numpy as np, stepsize as ss
    x, g = np.ones({size}), np.ones({size})
    opt = ss.SGD(x, lr={rate}, momentum=0.9)
    def steps():
        while True:
            opt.step(g)
    for _ in range(2):
        threading.Thread(target=steps, daemon=True).start()
    time.sleep(0.02)
    """
    for _ in range(5):
        run(program)


# What other threads read.


def test_numbers_are_those_between_steps():
    """A rate that sleeps lets others in: they wait for the end of the step."""
    inside, seen = threading.Event(), []

    def rate(_):
        inside.set()
        time.sleep(0.2)
        return 1.0

    optimizer = ss.SGD(np.ones(3), lr=rate)
    thread = threading.Thread(target=optimizer.step, args=(np.ones(3),))
    thread.start()
    inside.wait()
    for name in ("step_count", "lr_scale", "loss_scale"):
        seen.append(getattr(optimizer, name))
    thread.join()
    assert seen == [1, 1.0, 1.0]


def test_an_engine_keeps_the_steps_of_others_out():
    optimizer = ss.SGD(np.ones(3))
    engine = optimizer.internals.engine
    thread = threading.Thread(target=optimizer.step, args=(np.ones(3),))
    with engine:
        with engine:
            thread.start()
        thread.join(0.2)
        assert thread.is_alive() and optimizer.step_count == 0
        optimizer.step(np.ones(3))
        assert optimizer.step_count == 1
    thread.join()
    assert optimizer.step_count == 2
    with pytest.raises(RuntimeError, match="not held"):
        engine.__exit__(None, None, None)


# Threads.


def test_no_number_of_threads_is_too_many():
    before = _core.thread_count()
    try:
        _core.set_thread_count(1_000_000)
        assert 2 <= _core.thread_count() <= 4 * max(64, os.cpu_count() or 1)
        x = np.ones(LARGE)
        ss.SGD(x, lr=1.0).step(np.ones(LARGE))
        assert not x.any()
    finally:
        _core.set_thread_count(0)
    assert _core.thread_count() == before


@pytest.mark.skipif(not _core.has_openmp(), reason="built without OpenMP")
def test_limits_of_threadpoolctl_are_followed():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    with threadpoolctl.threadpool_limits(1):
        assert ss.build_info()["threads"] == 1
        ss.set_num_threads(2)
        assert ss.build_info()["threads"] == 2
        ss.set_num_threads(None)
    with threadpoolctl.threadpool_limits(2):
        assert ss.build_info()["threads"] <= 2


# Floating-point modes.

GLIBC = platform.system() == "Linux" and platform.machine() == "x86_64"
FLUSH = 0x8040  # flush to zero, and denormals are zero


def with_modes(bits, call):
    """Call with these bits set in the control register of the SSE unit."""
    libm = ctypes.CDLL("libm.so.6")
    before, changed = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    libm.fegetenv(before)
    changed[:] = before[:]
    register = int.from_bytes(before[28:32], "little") | bits
    changed[28:32] = register.to_bytes(4, "little")
    libm.fesetenv(changed)
    try:
        result = call()
        after = ctypes.create_string_buffer(32)
        libm.fegetenv(after)
    finally:
        libm.fesetenv(before)
    assert int.from_bytes(after[28:32], "little") & 0xFFC0 == register & 0xFFC0
    return result


@pytest.mark.skipif(not GLIBC, reason="needs glibc on x86-64")
@pytest.mark.parametrize("bits", [FLUSH, 0x4000], ids=["flush to zero", "round up"])
@pytest.mark.parametrize("size", [50, 5 * LARGE])
@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adafactor"])
def test_modes_of_other_libraries_change_no_bit(name, size, bits):
    rng = np.random.default_rng(0)
    start = (rng.standard_normal((size // 10, 10)) * 1e-37).astype(np.float32)
    g = (rng.standard_normal((size // 10, 10)) * 1e-38).astype(np.float32)
    found = []
    ss.set_num_threads(2)
    try:
        for modes in (0, bits):
            x = start.copy()
            optimizer = getattr(ss, name)(x, lr=0.3)
            for _ in range(2):
                with_modes(modes, lambda opt=optimizer: opt.step(g))
            found.append(x)
    finally:
        ss.set_num_threads(None)
    assert found[0].tobytes() == found[1].tobytes()


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
    with pytest.raises(ValueError, match="gradient of b shares memory with parameters or state"):
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
    for _ in range(3):
        taken.append(seconds(lambda: optimizer.step(build(grads))))
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
    shared = any(
        np.shares_memory(a, b) for i, a in enumerate(leaves) for b in leaves[:i] if a.size
    )
    try:
        check_apart(leaves, list("abcd"), "test")
    except ValueError:
        assert shared
    else:
        assert not shared


# Tensors whose memory holds the negatives of their numbers.


def test_tensors_with_the_negative_bit_step_with_their_numbers():
    torch = pytest.importorskip("torch")
    interop = pytest.importorskip("stepsize.interop.torch")
    for given in (torch.ones(3), torch.ones(1), torch.ones(3, dtype=torch.bfloat16)):
        p = torch.nn.Parameter(torch.zeros_like(given))
        q = torch.nn.Parameter(torch.zeros_like(given))
        p.grad = torch._neg_view(given)
        assert p.grad.is_neg() and (p.grad == -1).all()
        interop.SGD([p, q], lr=0.5).step()
        assert (p == 0.5).all() and not q.any()


def test_the_imaginary_part_of_a_conjugate_is_a_gradient():
    torch = pytest.importorskip("torch")
    interop = pytest.importorskip("stepsize.interop.torch")
    p = torch.nn.Parameter(torch.zeros(1))
    p.grad = torch.tensor([2.0 + 3.0j]).conj().imag
    interop.SGD([p], lr=1.0).step()
    assert p.item() == 3.0


def test_a_parameter_with_the_negative_bit_is_refused():
    torch = pytest.importorskip("torch")
    interop = pytest.importorskip("stepsize.interop.torch")
    p = torch.nn.Parameter(torch._neg_view(torch.ones(3)))
    with pytest.raises(TypeError, match=r"parameter 0 has the negative bit.*resolve_neg"):
        interop.SGD([p], lr=0.5)

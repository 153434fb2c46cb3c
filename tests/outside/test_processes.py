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
        for _ in range(5):
            assert child_ends(work)
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
    seen += [optimizer.step_count, optimizer.lr_scale, optimizer.loss_scale]
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


# Subinterpreters.

IMPORT = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path[:] = {path}
for module in ("stepsize", "stepsize._core", "stepsize.schedules"):
    try:
        __import__(module)
    except ImportError as error:
        print(module, error)
"""


def test_the_import_in_a_subinterpreter_is_refused_and_does_not_hang():
    interpreters = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    pytest.importorskip(interpreters)
    program = f"""
        import sys, {interpreters} as interpreters
        inside = {IMPORT!r}.format(path=sys.path)
        interpreters.run_string(interpreters.create(), inside)
        import stepsize
        print(stepsize.schedules.constant(0.5)(3))
        """
    *refused, value = run(program).splitlines()
    assert len(refused) == 3 and value == "0.5"
    assert all("is a subinterpreter; use threads or processes" in line for line in refused)


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

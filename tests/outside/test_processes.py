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
from processes import child_ends
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
def test_of_the_number_set_and_limits_of_threadpoolctl_the_latest_counts():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    limits = threadpoolctl.threadpool_limits
    with limits(2):
        assert ss.build_info()["threads"] <= 2
    with limits(1):
        assert _core.thread_count() == 1
        ss.set_num_threads(3)
        assert _core.thread_count() == 3
    assert _core.thread_count() == 3
    ss.set_num_threads(2)
    with limits(1):
        assert _core.thread_count() == 1
    assert _core.thread_count() == 2
    ss.set_num_threads(None)
    with limits(1):
        assert _core.thread_count() == 1


# A wheel has an OpenMP of its own, and so has torch's: a copy under another name stands for that.
ANOTHER = """
    import ctypes, os, shutil, sys
    from stepsize import _core
    maps = open("/proc/self/maps").read().split()
    own = os.path.realpath(next(word for word in maps if "libgomp" in word))
    other = ctypes.CDLL(shutil.copy(own, os.path.join(sys.argv[1], "libgomp-of-another.so.1")))
    before = _core.thread_count()
    other.omp_set_num_threads(1)
    limited = _core.thread_count()
    other.omp_set_num_threads(before)
    print(before, limited, _core.thread_count())
    """


@pytest.mark.skipif(
    not (_core.has_openmp() and sys.platform == "linux" and _core.compiler().startswith("GCC")),
    reason="needs GCC's OpenMP",
)
def test_the_limits_of_another_copy_of_openmp_are_followed(tmp_path):
    before, limited, after = run(ANOTHER, str(tmp_path)).split()
    assert (limited, after) == ("1", before)


# What a process has for all: nothing of it changes by import or use.
UNCHANGED = """
    import ctypes, gc, locale, os, platform, random, signal, sys, threading, warnings
    import numpy as np

    def everything():
        modes = ctypes.create_string_buffer(32)
        if platform.system() == "Linux" and platform.machine() == "x86_64":
            ctypes.CDLL("libm.so.6").fegetenv(modes)
        random_states = np.random.get_state()
        return {
            "environment": dict(os.environ),
            "floating-point modes": int.from_bytes(modes[28:32], "little") & 0xFFC0,
            "rounding of x87": modes[:2],
            "errstate": (np.geterr(), np.geterrcall()),
            "numpy's generator": (random_states[1].tobytes(), random_states[2:]),
            "random": random.getstate(),
            "signals": {s: signal.getsignal(s) for s in signal.valid_signals()},
            "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook),
            "interpreter": (sys.getrecursionlimit(), sys.getswitchinterval(), gc.get_threshold()),
            "tracing": (sys.gettrace(), sys.getprofile(), gc.isenabled()),
            "warnings": warnings.filters[:],
            "printing": np.get_printoptions(),
            "place": (os.getcwd(), sys.path[:], locale.setlocale(locale.LC_ALL)),
            "process": (os.umask(os.umask(0o22)), os.getpriority(os.PRIO_PROCESS, 0)),
            "threads": threading.active_count(),
        }

    os.umask(0o22)
    before = everything()
    import stepsize as ss
    assert everything() == before, "import"

    def value_and_grad(p, batch=None):
        return 0.5 * float(p["x"] @ p["x"]), {"x": p["x"].copy()}

    params = {"x": np.ones(300_000, np.float32)}
    optimizer = ss.AdamW(params, lr=ss.schedules.cosine(0.1, 0.0, 4))
    ss.fit(value_and_grad, params, optimizer, [None, None], epochs=2)
    path = os.path.join(sys.argv[1], "all.safetensors")
    ss.save(path, params, optimizer)
    ss.load(path, params, optimizer)
    small = {"x": np.ones(3)}
    ss.lr_find(value_and_grad, small, [None], steps=20)
    ss.check_gradients(value_and_grad, small, None)
    ss.minimize(value_and_grad, small, max_iter=20)
    after = everything()
    print([name for name in before if before[name] != after[name]])
    """


def test_import_and_use_leave_the_process_as_it_was(tmp_path):
    assert run(UNCHANGED, str(tmp_path)).strip() == "[]"


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


def one_by_one(optimizer, g):
    with optimizer.arriving() as arrived:
        for path in ("b", "a"):
            assert arrived(path, g)
    return [x.tobytes() for x in optimizer.internals.leaves.arrays]


def entries():
    """What else computes in C++: a call for each, from the same start."""
    x, g = np.linspace(-1, 1, 257, dtype=np.float32), np.sin(np.arange(257, dtype=np.float32))
    rate = ss.schedules.cosine(0.3, 1e-5, 2999) * ss.schedules.exponential(0.7, 0.93, 3.3)
    yield "schedule", lambda: [rate(step) for step in range(40)]
    yield "schedule of an array", lambda: rate(np.arange(40.0)).tolist()
    yield "first values", lambda: rate.values(40).tolist()
    scheduled = ss.AdamW(x.copy(), lr=rate)
    yield "rate of an optimizer", lambda: scheduled.step(g) or scheduled.lr
    for more in ({"clip_norm": 0.1}, {"state_dtype": "int8"}, {"lr": rate, "weight_decay": 0.1}):
        one = x.copy()
        made = ss.AdamW(one, **more)
        yield str(more), lambda made=made, one=one: made.step(g) or one.tobytes()
    looks = x.copy()
    seen = ss.AdamW(looks, mars_gamma=0.025, update_clip=1.0, cautious_decay=True)
    yield "sums before the update", lambda: seen.step(g) or looks.tobytes()
    parts = {"a": x.copy(), "b": x.copy()}
    yield "gradients one by one", lambda: one_by_one(ss.AdamW(parts, on_nonfinite="ignore"), g)
    half = x.astype(np.float16)
    narrow = ss.AdamW(half)
    yield "half precision", lambda: narrow.step(g.astype(np.float16)) or half.tobytes()
    rows, table = ss.RowGradient([3, 3, 7], np.full((3, 5), 0.1)), np.ones((50, 5))
    sparse = ss.AdamW({"table": table})
    yield "rows", lambda: sparse.step({"table": rows}) or table.tobytes()
    many = ss.replicate({"x": x}, 2)
    population = ss.population(ss.Adam, many, lr=[0.1, 0.2])
    stacked = {"x": np.stack([g, -g])}
    yield "population", lambda: population.step(stacked) is None or many["x"].tobytes()
    kept, state = [x.copy()], ss.functional.state("adam", [x])
    yield (
        "function",
        lambda: (
            ss.functional.adam_(kept, [g], *state.values(), step=1, lr=0.1) or kept[0].tobytes()
        ),
    )


@pytest.mark.skipif(not GLIBC, reason="needs glibc on x86-64")
@pytest.mark.parametrize("bits", [FLUSH, 0x2000, 0x4000, 0x6000])
def test_modes_of_other_libraries_change_nothing_that_is_compiled(bits):
    expected = {name: with_modes(0, call) for name, call in entries()}
    assert {name: with_modes(bits, call) for name, call in entries()} == expected

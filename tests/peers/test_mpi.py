"""The laws of tests/interop on processes of a real MPI: ``mpiexec -n 1/2/3/4``."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss

pytest.importorskip("mpi4py")
ROOT = Path(__file__).parents[2]
MPIEXEC = shutil.which("mpiexec") or str(Path(sys.executable).with_name("mpiexec"))


def launch(size, program, *arguments, **more):
    """Run a program on so many ranks; ``comm`` is there, and what it prints comes back."""
    # A line is one write: those of two ranks may mix otherwise.
    head = """
        import sys
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        def say(*words):
            sys.stdout.write(" ".join(map(str, words)) + "\\n")
            sys.stdout.flush()
    """
    text = textwrap.dedent(head) + textwrap.dedent(program)
    places = [str(ROOT / "tests" / "support"), str(Path(ss.__file__).parents[1])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*places, os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [MPIEXEC, "-n", str(size), sys.executable, "-m", "mpi4py", "-c", text, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, **more
    )


def printed(size, program, *arguments):
    """The lines that the ranks print, each once in the order of their text."""
    done = launch(size, program, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(done.stdout.split("\n")[:-1])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_rule_on_ranks_has_the_bits_that_it_has_alone(size):
    """Elementwise rules, rules of two passes and matrix rules, with clipping and without."""
    program = """
        from ranks import check_all_rules
        say(f"{comm.rank}: {check_all_rules(comm)}")
    """
    assert printed(size, program) == [f"{rank}: []" for rank in range(size)]


def test_a_state_takes_a_share_of_the_memory():
    """In bytes of the process, not by our count: the peak above that of SGD, without state."""
    program = """
        import resource, sys
        import numpy as np
        from stepsize.interop.mpi import Zero1
        params = np.zeros(4_000_000, np.float32)
        optimizer = Zero1(sys.argv[1], params, comm)
        optimizer.step_averaged(np.ones(4_000_000, np.float32))
        say(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    """
    whole = 32  # MB of the two averages of AdamW
    for size in (1, 2, 4):
        with_state, without = (
            max(map(int, printed(size, program, rule))) for rule in ("adamw", "sgd")
        )
        assert abs(with_state - without - whole / size) < 6, (size, with_state, without)


def test_saved_on_two_ranks_and_continued_on_three(tmp_path):
    path = str(tmp_path / "run")
    printed(2, "import sys; from ranks import saved; saved(comm, sys.argv[1])", path)
    program = """
        import sys
        from ranks import continued, differences, uninterrupted
        for shards in (False, True):
            found = differences(uninterrupted(), continued(comm, sys.argv[1], shards))
            say(shards, found)
    """
    for size in (3, 1):
        assert printed(size, program, path) == ["False []"] * size + ["True []"] * size


FIT = """
    import hashlib, os, signal, sys
    import numpy as np
    import stepsize as ss
    from stepsize.interop.mpi import Zero1, in_parts
    x = np.random.default_rng(0).standard_normal((96, 7))
    y = x @ np.arange(7.0)
    def value_and_grad(params, batch):
        x, y = batch
        error = x @ params - y
        return float(np.mean(error**2)), 2 * x.T @ error / len(y)
    def train(function=value_and_grad, comm=comm, rule=ss.AdamW, **more):
        params = np.zeros(7)
        made = rule(params, lr=0.1) if comm is None else Zero1(rule, params, comm, lr=0.1)
        more = {"batch_size": 16, "progress": False, "comm": comm, **more}
        return ss.fit(function, params, made, (x, y), **more)
    def digest(history):
        text = b"".join(history[name].tobytes() for name in history)
        return hashlib.sha256(text).hexdigest()
"""


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_history_of_a_fit_is_that_of_one_process(size):
    program = (
        FIT
        + """
    expected = digest(train(in_parts(value_and_grad, comm.size), None, epochs=3))
    say(digest(train(epochs=3)) == expected)
    if comm.size == 2:
        params = np.zeros(7)
        halves = ss.fit(value_and_grad, params, ss.AdamW(params, lr=0.1), (x, y), batch_size=8,
                        accumulate=2, epochs=3, progress=False)
        say(digest(halves) == expected)
    found = ss.lr_find(value_and_grad, np.zeros(7), (x, y), batch_size=16, comm=comm)
    alone = ss.lr_find(in_parts(value_and_grad, comm.size), np.zeros(7), (x, y), batch_size=16)
    say(found.suggestion == alone.suggestion)
    """
    )
    found = printed(size, program)
    assert found == ["True"] * (6 if size == 2 else 2 * size)


def test_a_killed_rank_ends_the_job_with_a_message_and_a_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    program = (
        FIT
        + """
    class Kill:
        def on_step(self, run):
            if comm.rank == 1 and run.step == 20:
                os.kill(os.getpid(), signal.SIGKILL)
    checkpoint = ss.Checkpoint(sys.argv[1], every_steps=5)
    train(epochs=50, callbacks=[Kill()], checkpoint=checkpoint)
    """
    )
    done = launch(2, program, str(path))
    assert done.returncode != 0
    told = done.stdout + done.stderr
    assert "Killed (signal 9)" in told or "signal 9" in told
    program = (
        FIT
        + """
    checkpoint = ss.Checkpoint(sys.argv[1], every_steps=5)
    class Nothing:
        def on_step(self, run):
            pass
    resumed = train(epochs=5, callbacks=[Nothing()], checkpoint=checkpoint, resume=True)
    expected = train(in_parts(value_and_grad, comm.size), None, epochs=5)
    say(resumed.meta["resumed"], digest(resumed) == digest(expected))
    """
    )
    assert printed(2, program, str(path)) == ["[18] True"] * 2  # the end of an epoch


def test_a_rank_that_raises_ends_the_job_with_its_words_and_a_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    program = (
        FIT
        + """
    calls = iter(range(100))
    def failing(params, batch):
        if comm.rank == 1 and next(calls) == 9:
            raise OSError("no such sample")
        return value_and_grad(params, batch)
    train(failing, epochs=5, checkpoint=sys.argv[1])
    """
    )
    done = launch(3, program, str(path))
    assert done.returncode != 0
    assert "rank 1 of 3: OSError: no such sample" in done.stderr + done.stdout
    assert "step 9 is saved in" in done.stderr + done.stdout
    params = np.zeros(7)
    ss.load(path, params)
    assert params.any()
    assert signal.SIGKILL.value == 9


@pytest.mark.parametrize("kind", ["DataParallel", "Zero1"])
def test_arguments_that_one_rank_refuses_leave_no_rank_waiting(kind):
    program = """
        import sys
        import numpy as np
        import stepsize as ss
        from stepsize.interop.mpi import DataParallel, Zero1
        x = np.zeros(3)
        if sys.argv[1] == "Zero1":
            optimizer = Zero1("sgd", x, comm, lr=1.0)
        else:
            optimizer = DataParallel(ss.SGD(x, lr=1.0), comm)
        for wrong in ({"rows": -1}, {"rows": float("nan")}, {"loss": "small"}, {"grads": "none"}):
            own = {"grads": np.ones(3), **(wrong if comm.Get_rank() else {})}
            try:
                optimizer.step(**own)
            except Exception as error:
                say(type(error).__name__)
        optimizer.step(np.ones(3))
        say(x.tolist())
    """
    told = printed(2, program, kind)
    assert told.count("RankError") == 4
    assert told.count("[-1.0, -1.0, -1.0]") == 2
    assert len(told) == 10


def test_a_search_for_a_rate_ends_on_all_ranks_with_a_killed_one_and_at_ctrl_c():
    program = """
        import itertools, os, signal, sys
        import numpy as np
        import stepsize as ss
        x = np.random.default_rng(0).standard_normal((96, 7))
        calls = itertools.count()
        def value_and_grad(w, batch):
            if comm.rank == 1 and next(calls) == 20:
                os.kill(os.getpid(), getattr(signal, sys.argv[1]))
            error = batch[0] @ w - 1
            return float(np.mean(error**2)), 2 * batch[0].T @ error / len(error)
        ss.lr_find(value_and_grad, np.zeros(7), (x,), batch_size=16, comm=comm)
    """
    for name, code in (("SIGKILL", 9), ("SIGINT", 130)):
        assert launch(2, program, name).returncode == code

"""The page about executors: its commands for Dask, MPI and Ray."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import page_scripts

PAGE = "beyond-one-machine.md"


def values_of(told):
    """The table of a sweep without its seconds."""
    rows = [
        line.split() for line in told.splitlines() if " runs: " not in line and "best" not in line
    ]
    return [row[:4] + row[5:] for row in rows]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def started(command, folder):
    """A command of the page that goes on, as a group of processes that is ended with the test."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(page_scripts.PACKAGE)}
    process = subprocess.Popen(
        command.split(),
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def in_process(folder):
    (folder / "here.py").write_text(
        "import stepsize as ss\nfrom task import GRID, train\nprint(ss.sweep(train, GRID))\n"
    )
    return values_of(page_scripts.run("python here.py", folder))


def test_dask(tmp_path):
    page_scripts.write_scripts(PAGE, tmp_path)
    port = str(free_port())
    script = tmp_path / "with_dask.py"
    script.write_text(script.read_text().replace("8786", port))
    scheduler, worker = (c for c in page_scripts.commands_of(PAGE) if c.startswith("dask"))
    with (
        started(scheduler.replace("8786", port) + " --no-dashboard", tmp_path),
        started(worker.replace("8786", port) + " --no-dashboard", tmp_path),
    ):
        told = page_scripts.run("python with_dask.py", tmp_path)
    assert values_of(told) == in_process(tmp_path)


def test_mpi(tmp_path):
    page_scripts.write_scripts(PAGE, tmp_path)
    command = next(c for c in page_scripts.commands_of(PAGE) if c.startswith("mpiexec"))
    told = page_scripts.run(command, tmp_path)
    assert values_of(told) == in_process(tmp_path)
    assert page_scripts.run(command, tmp_path) == told  # from the storage, its seconds too


def test_mpi_goes_on_after_a_rank_died(tmp_path):
    page_scripts.write_scripts(PAGE, tmp_path)
    task = tmp_path / "task.py"
    whole = task.read_text()
    die = 'if point["lr"] == 1.0:\n        import os\n\n        os.kill(os.getpid(), 9)\n    rng ='
    task.write_text(whole.replace("rng =", die, 1))
    command = next(c for c in page_scripts.commands_of(PAGE) if c.startswith("mpiexec"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(page_scripts.PACKAGE)}
    died = subprocess.run(
        command.split(),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert died.returncode != 0
    kept = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert 0 < len(kept) < 10
    task.write_text(whole)
    told = page_scripts.run(command, tmp_path)
    assert values_of(told) == in_process(tmp_path)
    assert (tmp_path / "runs.jsonl").read_text().splitlines()[: len(kept)] == kept


def test_ray(tmp_path):
    page_scripts.write_scripts(PAGE, tmp_path)
    told = page_scripts.run("python with_ray.py", tmp_path, 240)
    assert values_of(told) == in_process(tmp_path)


def test_the_readme_on_ranks(tmp_path):
    page_scripts.write_scripts("../README.md", tmp_path)
    told = page_scripts.run("mpiexec -n 2 python -m mpi4py beyond.py ranks", tmp_path)
    losses = re.findall(r"rank [01]: ([0-9.e-]+)\n", told)
    assert len(losses) == 2 and losses[0] == losses[1]

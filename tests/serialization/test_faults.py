"""Full disks, broken disks and SIGKILL: nothing that was saved is ever lost."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).parent / "faults"


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or "clang"
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = FAULTS / "shim.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def session(shim, tmp_path):
    def run(name, *numbers):
        (tmp_path / "files").mkdir()
        result = subprocess.run(
            [sys.executable, FAULTS / "session.py", name, tmp_path / "files", *map(str, numbers)],
            env=os.environ | {"LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


def test_every_call_of_a_save_may_fail(session):
    assert "each failed in 4 ways" in session("fail_every_call")


def test_every_call_of_a_save_may_be_the_last(session):
    assert "killed at each" in session("kill_every_call")


def test_every_call_of_a_run_may_be_the_last(session):
    assert "killed at each" in session("kill_runs_at_every_call")


def test_runs_may_be_killed_at_any_moment(session):
    """Thirty kills; bench/soak makes a thousand."""
    assert "30 kills" in session("kill_runs_at_random", 30, 20)

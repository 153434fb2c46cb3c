"""The page about executors: the scripts that need nothing beside the tests' own packages."""

import re

import pytest

import page_scripts

PAGE = "beyond-one-machine.md"
HERE = ("processes", "loky", "threads", "halving")
ELSEWHERE = ("dask", "mpi", "ray")  # which tests/peers runs


@pytest.mark.parametrize("name", HERE)
def test_the_script_runs(name, tmp_path):
    page_scripts.write_scripts(PAGE, tmp_path)
    told = page_scripts.run(f"python with_{name}.py", tmp_path)
    assert "best: lr=" in told and "verdict" in told.splitlines()[0]
    if name in ("processes", "loky"):
        assert told.splitlines()[-2].startswith("10 runs: ") and "diverged" in told


def test_every_script_and_command_is_run_by_a_test(tmp_path):
    names = page_scripts.write_scripts(PAGE, tmp_path)
    assert sorted(names) == sorted(["task.py", *(f"with_{n}.py" for n in (*HERE, *ELSEWHERE))])
    commands = [c for c in page_scripts.commands_of(PAGE) if not c.startswith("pip")]
    expected = [f"python with_{n}.py" for n in (*HERE, "dask", "ray")]
    expected += ["mpiexec -n 3 python -m mpi4py.futures with_mpi.py"]
    expected += ["dask scheduler --port 8786"]
    expected += ["dask worker tcp://localhost:8786 --nthreads 1 --nworkers 2"]
    assert sorted(commands) == sorted(expected)


def test_the_section_of_the_readme_runs(tmp_path):
    assert page_scripts.write_scripts("../README.md", tmp_path) == ["beyond.py"]
    told = page_scripts.run("python beyond.py", tmp_path)
    assert told.splitlines()[-2].startswith("8 runs: ") and "best: lr=" in told
    section = page_scripts.text_of("../README.md").partition("## Beyond one machine")[2]
    commands = re.findall(r"```sh\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)[0]
    assert [line.partition("  #")[0] for line in commands.splitlines()] == [
        "python beyond.py",
        "mpiexec -n 2 python -m mpi4py beyond.py ranks",  # which tests/peers runs
    ]

"""How the command ends where a file cannot be used, at Ctrl-C, and on terminals of few signs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from one_line import assert_one_line
from terminals import on_a_terminal, shorten_the_demo

INTERRUPTER = """
import os, signal, sys, time

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("INTERRUPT_AT"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)

sys.meta_path.insert(0, Interrupter())
"""
SCRIPT = "import sys\nfrom stepsize.cli import main\nsys.exit(main())\n"


def command(words, tmp_path, **environment):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTER)
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / "stepsize").write_text(SCRIPT)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    starts = {"module": ["-m", "stepsize"], "script": [str(tmp_path / "bin" / "stepsize")]}
    form, *rest = words
    return subprocess.run(
        [sys.executable, *starts[form], *map(str, rest)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        timeout=120,
    )


@pytest.mark.parametrize("form", ["module", "script"])
@pytest.mark.parametrize(
    "place", ["stepsize.runtime", "stepsize.cli.main", "stepsize.cli.commands", "numpy", "argparse"]
)
def test_ctrl_c_while_the_command_is_imported_is_one_line(form, place, tmp_path):
    found = command([form, "info"], tmp_path, INTERRUPT_AT=place)
    assert (found.returncode, found.stdout) == (130, b"")
    assert found.stderr == b"stepsize: interrupted\n"


def test_ctrl_c_elsewhere_is_left_to_the_program(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTER)
    code = "try:\n    import stepsize\nexcept KeyboardInterrupt:\n    print('mine')"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "INTERRUPT_AT": "stepsize.runtime"},
        capture_output=True,
        timeout=120,
    )
    assert (found.returncode, found.stdout) == (0, b"mine\n"), found.stderr


SLOW = """
import os, signal
import numpy as np
import stepsize as ss

def make():
    problem = ss.problems.regressor(np.ones((96, 3)), np.arange(96.0), hidden=())
    def value_and_grad(params, batch):
        os.kill(os.getpid(), signal.SIGINT)
        return problem.value_and_grad(params, batch)
    return ss.Problem(problem.params, value_and_grad, problem.train, problem.validation)
"""


@pytest.mark.parametrize(
    "words", [["train", "--lr", "0.1"], ["find"], ["tune", "--optimizers", "SGD", "--trials", "2"]]
)
def test_ctrl_c_at_work_is_130_and_one_line(words, run, tmp_path):
    (tmp_path / "slow_model.py").write_text(SLOW)
    code, _, err = run(words[0], f"{tmp_path / 'slow_model.py'}:make", *words[1:])
    assert code == 130
    assert err.splitlines()[-1] == "stepsize: interrupted" and "Traceback" not in err


def unusable(tmp_path):
    """Files of every name that nothing can be read from."""
    for ending in (".csv", ".tsv", ".npz", ".parquet", ".py", ".safetensors"):
        yield tmp_path / f"missing{ending}"
        (tmp_path / f"folder{ending}").mkdir()
        yield tmp_path / f"folder{ending}"
        (tmp_path / f"empty{ending}").write_bytes(b"")
        yield tmp_path / f"empty{ending}"
        if ending != ".py":  # the program's own mistakes are 1
            (tmp_path / f"damaged{ending}").write_bytes(b"PK\3\4\0\0\xff\0PAR1" * 9)
            yield tmp_path / f"damaged{ending}"


@pytest.mark.parametrize("name", ["find", "train", "tune", "predict", "predict a table"])
def test_a_file_that_cannot_be_read_is_2_and_one_line(name, run, tmp_path):
    good = tmp_path / "good.csv"
    good.write_text("a,y\n" + "".join(f"{i * 7 % 11},{i}.5\n" for i in range(20)))
    model = tmp_path / "good.safetensors"
    words = ["train", good, "--target", "y", "--epochs", 1, "--lr", 0.01, "--save", model, "--json"]
    assert run(*words)[0] in (0, 3)
    for path in unusable(tmp_path):
        if name == "predict":
            if path.suffix in (".csv", ".tsv", ".py"):
                continue
            words = [name, path, good]
        elif name == "predict a table":
            words = ["predict", model, path]
        elif path.suffix == ".py":
            words = [name, f"{path}:make"]
        elif path.suffix == ".safetensors":
            continue
        else:
            words = [name, path, "--target", "y"]
        code, out, err = run(*words)
        assert (code, out) == (2, ""), (path, err)
        assert_one_line(err)
        assert path.stem in err


def test_a_file_without_permission_is_2_and_one_line(run, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")

    def refused(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", refused)
    code, _, err = run("train", tmp_path / "t.csv", "--target", "y")
    assert code == 2 and "cannot be read: Permission denied" in err
    assert_one_line(err)


@pytest.fixture
def sheet(tmp_path):
    path = tmp_path / "Größe.csv"
    rows = [f"{i * 7 % 11},{'Zürich' if i % 2 else 'Genf'}" for i in range(40)]
    path.write_text("\n".join(["größe,stadt", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("json", [[], ["--json"]])
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_command_survives_a_terminal_of_few_signs(
    encoding, json, sheet, tmp_path, monkeypatch
):
    quick = ["--target", "stadt", "--hidden", 0]
    once = ["--epochs", 1, "--trials", 1, "--method", "random", "--optimizers", "SGD"]
    model = tmp_path / "m.safetensors"
    for words, codes in (
        (["find", sheet, *quick, "--steps", 20, *json], (0,)),
        (["train", sheet, *quick, "--epochs", 1, "--lr", 0.01, "--save", model, *json], (0, 3)),
        (["tune", sheet, *quick, *once, *json], (0, 3)),
        (["predict", model, sheet, *json], (1 if encoding == "ascii" and not json else 0,)),
        (["schedule", "cosine(1, 0, 9)", "--csv", tmp_path / "s.csv", *json], (0,)),
        (["info", *json], (0,)),
        (["train", "größe.py:make"], (2,)),
        (["train", "größe"], (2,)),
        (["train", "größe", "--epochs", "ü"], (2,)),
        (["--help"], (0,)),
    ):
        code, out, err = on_a_terminal(monkeypatch, encoding, words)
        assert code in codes and out + err, (words, out, err)
        if words[0] == "predict" and code:
            assert "--out FILE" in err and not out


def test_the_bench_survives_a_terminal_of_few_signs(monkeypatch):
    words = ["bench", "--quick", "--seconds", 0.001, "--optimizers", "SGD"]
    assert on_a_terminal(monkeypatch, "ascii", words)[0] == 0


def test_the_demo_survives_a_terminal_of_few_signs(tmp_path, monkeypatch):
    shorten_the_demo(monkeypatch)
    words = ["demo", "--quick", "--out", tmp_path / "report"]
    assert on_a_terminal(monkeypatch, "ascii", words)[0] == 0
    assert (tmp_path / "report" / "report.html").exists()

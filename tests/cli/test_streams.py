"""Tables from a pipe or from standard input, for every command that takes one; swapped files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import stepsize as ss
from one_line import assert_one_line
from stepsize.errors import CheckpointError


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{a:.4f},{b:.4f},{2 * a - b:.4f}" for a, b in rng.standard_normal((80, 2))]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["a,b,y", *rows]) + "\n")
    return path


@pytest.fixture
def model(run, table):
    path = table.with_suffix(".safetensors")
    words = ["train", table, "--target", "y", "--epochs", 2, "--lr", 0.1, "--save", path]
    assert run(*words)[0] == 0
    return path


COMMANDS = {
    "find": ["--target", "y", "--steps", 20, "--json"],
    "train": ["--target", "y", "--epochs", 2, "--lr", 0.1, "--json"],
    "tune": ["--target", "y", "--epochs", 1, "--trials", 1, "--optimizers", "SGD", "--json"],
    "predict": [],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reads_a_table_from_a_file_standard_input_or_a_pipe(
    command, run, table, model, tmp_path, monkeypatch
):
    before = [command, model] if command == "predict" else [command]
    code, wanted, _ = run(*before, table, *COMMANDS[command])
    assert code == 0 and wanted
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(table.read_bytes())))
    code, out, _ = run(*before, "-", *COMMANDS[command])
    assert code == 0
    assert out.replace("standard input", "t") == wanted
    pipe = tmp_path / "t"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(table.read_bytes()))
    writer.start()
    code, out, _ = run(*before, pipe, *COMMANDS[command])
    writer.join(30)
    assert (code, out) == (0, wanted)


def test_standard_input_by_its_path_is_read_too(model, table):
    for name in ("-", "/dev/stdin"):
        with table.open("rb") as file:
            words = [sys.executable, "-m", "stepsize", "predict", model, name]
            found = subprocess.run(words, stdin=file, capture_output=True, text=True, timeout=120)
        assert found.returncode == 0 and len(found.stdout.splitlines()) == 81, found.stderr


def test_nothing_on_standard_input_is_said(run, model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    code, _, err = run("predict", model, "-")
    assert code == 2 and "standard input is empty" in err
    monkeypatch.setattr(sys, "stdin", None)
    assert "there is no standard input" in run("predict", model, "-")[2]


def test_swapped_arguments_are_named(run, table, model):
    code, out, err = run("predict", table, model)
    assert (code, out) == (2, "")
    assert_one_line(err)
    assert f"{table} is not a checkpoint of stepsize, but {model} is: they may be swapped" in err
    code, _, err = run("predict", model, model)
    assert code == 2 and "is a checkpoint of stepsize, not a table" in err
    code, _, err = run("predict", table, table)
    assert code == 2 and "is not a checkpoint of stepsize; it begins with 'a,b,y" in err


def test_a_table_of_another_kind_is_refused_with_those_there_are(run, model, tmp_path):
    (tmp_path / "t.pdf").write_bytes(b"%PDF")
    code, _, err = run("predict", model, tmp_path / "t.pdf")
    assert code == 2 and "t.pdf is no table; expected .csv, .tsv, .txt, .xlsx, .json" in err
    assert_one_line(err)


def other_files(tmp_path):
    np.savez(tmp_path / "a.npz", np.ones(9))
    yield tmp_path / "a.npz", "looks like a zip archive"
    for name, data, look in (
        ("empty", b"", "it is empty"),
        ("text", b"sepal,petal\n1,2\n" * 9, "begins with 'sepal,petal 1,2"),
        ("short", b"a,b\n", "begins with 'a,b'"),
        ("binary", bytes(range(128, 256)), "first bytes are damaged"),
        ("zeros", bytes(100), "first bytes are damaged"),
    ):
        (tmp_path / name).write_bytes(data)
        yield tmp_path / name, look


def test_what_is_no_checkpoint_is_called_that_at_every_door(tmp_path):
    params = {"w": np.ones(3)}
    optimizer = ss.SGD(params, lr=0.1)

    def resume(path):
        return ss.fit(
            lambda p, b: (0.0, {"w": np.zeros(3)}), params, optimizer, [0], epochs=1,
            checkpoint=path, resume=True, progress=False,
        )  # fmt: skip

    doors = [lambda p: ss.load(p, params), optimizer.load, ss.History.load, resume]
    for path, look in other_files(tmp_path):
        for door in doors:
            with pytest.raises(CheckpointError, match="not a checkpoint of stepsize") as refused:
                door(path)
            text = str(refused.value)
            assert look in text and path.name in text and "header" not in text, text


def test_parameters_in_the_place_of_the_path_are_named(tmp_path):
    params = {"w": np.ones(100_000)}
    for door in (ss.save, ss.load):
        with pytest.raises(TypeError, match="path must be the path of a file") as refused:
            door(params, tmp_path / "m")
        assert "it comes first" in str(refused.value) and len(str(refused.value)) < 300

"""The command what-if: branches of a run from its checkpoint."""

from __future__ import annotations

import csv
import json

import pytest

from one_line import assert_one_line


@pytest.fixture
def checkpoint(run, model, tmp_path):
    path = tmp_path / "run.safetensors"
    code, *_ = run(
        "train", f"{model}:make", "--lr", "0.01", "--steps", 60, "--checkpoint", path,
        "--optimizer", "Adam", "--batch-size", 16,
    )  # fmt: skip
    assert code == 0
    return path


def test_it_prints_the_branches_and_the_diagnosis_and_leaves_the_file(run, model, checkpoint):
    before = checkpoint.read_bytes()
    code, out, _ = run("what-if", f"{model}:make", "--checkpoint", checkpoint)
    assert code == 0 and checkpoint.read_bytes() == before
    lines = out.splitlines()
    assert lines[0].split()[0] == "factor" and [line.split()[0] for line in lines[1:5]] == [
        "x0.1", "x0.3", "x1", "x10",
    ]  # fmt: skip
    assert "cost: " in out and "the run itself is untouched" in out


def test_json_and_csv_hold_the_numbers(run, model, checkpoint, tmp_path):
    table, picture = tmp_path / "b.csv", tmp_path / "b.png"
    code, out, _ = run(
        "what-if", f"{model}:make", "--checkpoint", checkpoint, "--json", "--factors", "0.5,2",
        "--steps", 12, "--csv", table, "--plot", picture,
    )  # fmt: skip
    told = json.loads(out)
    assert code == 0 and [b["factor"] for b in told["branches"]] == [0.5, 1, 2]
    assert told["steps"] == 12 and told["run_steps"] == 60 and told["gradients"] > 36
    assert told["verdict"] in told["probabilities"]
    with table.open() as file:
        assert [row["factor"] for row in csv.DictReader(file)] == ["0.5", "1.0", "2.0"]
    assert picture.stat().st_size > 1000


def test_its_errors_name_the_next_move(run, model, checkpoint, tmp_path):
    code, _, err = run("what-if", f"{model}:make")
    assert code == 2 and "--checkpoint" in err
    for expected, words in (
        (2, ["--checkpoint", tmp_path / "none.safetensors"]),
        (2, ["--checkpoint", model]),
    ):
        code, out, err = run("what-if", f"{model}:make", *words)
        assert code == expected and not out
        assert_one_line(err)
    code, _, err = run("what-if", f"{model}:make", "--checkpoint", checkpoint, "--factors", "0,2")
    assert code == 2 and "must be numbers above 0" in err


def test_parameters_without_a_run_are_refused(run, model, tmp_path):
    path = tmp_path / "model.safetensors"
    run("train", f"{model}:make", "--lr", "0.01", "--steps", 5, "--save", path)
    code, _, err = run("what-if", f"{model}:make", "--checkpoint", path)
    assert code == 2
    assert_one_line(err)

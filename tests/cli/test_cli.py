"""The command line: what each command prints, writes and returns, and its one-line errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import stepsize as ss
from one_line import assert_one_line
from stepsize.cli import main


def test_help_teaches_and_every_command_has_one(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "ss.Problem(params, value_and_grad" in out
    commands = re.findall(r"^    ([\w-]+) {2,}", out, re.MULTILINE)
    known = {"demo", "find", "train", "watch", "what-if", "predict", "tune", "schedule", "bench"}
    known |= {"info"}
    assert known == set(commands)
    for command in commands:
        code, out, _ = run(command, "--help")
        assert code == 0
        assert out.startswith(f"usage: stepsize {command}")


def test_no_command_shows_help_and_is_wrong_usage(run):
    code, out, _ = run()
    assert code == 2
    assert "commands:" in out


@pytest.mark.parametrize(
    "words", [["frob"], ["schedule"], ["find"], ["schedule", "cosine(1, 0, 9)", "--steps", "0"]]
)
def test_wrong_usage_is_two(run, words):
    code, _, err = run(*words)
    assert code == 2
    assert "usage: stepsize" in err


def test_module_form_runs():
    result = subprocess.run(
        [sys.executable, "-m", "stepsize", "schedule", "constant(0.5)", "--json", "--steps", "2"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(result.stdout) == {"steps": 2, "schedules": {"constant(0.5)": [0.5, 0.5]}}


def test_find_prints_the_line_to_paste(run, model, tmp_path):
    table = tmp_path / "range.csv"
    code, out, _ = run("find", f"{model}:make", "--steps", 40, "--lr-max", 100, "--csv", table)
    assert code == 0
    assert "suggested learning rate" in out
    assert out.splitlines()[-1].startswith("optimizer = ss.SGD(params, lr=")
    assert table.read_text().startswith("lr,")


def test_find_as_json(run, model):
    code, out, _ = run("find", f"{model}:make", "--optimizer", "adamw", "--json", "--steps", 40)
    result = json.loads(out)
    assert code == 0
    assert result["suggestion"] > 0
    assert len(result["lrs"]) == len(result["losses"])


def test_train_finds_its_rate_and_judges_the_run(run, model, tmp_path):
    plot = tmp_path / "loss.svg"
    code, out, err = run("train", f"{model}:make", "--epochs", 20, "--plot", plot)
    assert code == 0
    assert "learning rate found" in err
    assert "val_r2" in out
    assert "<svg" in plot.read_text()


def test_train_logs_what_watch_follows(run, model, tmp_path):
    from stepsize.watching.state import RunState

    log = tmp_path / "new" / "run.jsonl"
    code, _, _ = run("train", f"{model}:make", "--lr", "0.1", "--steps", "30", "--log", str(log))
    told = RunState(log).told()
    assert code == 0 and told["step"] == 30 and told["state"] == "ended" and not told["bad"]


def test_train_as_json_with_a_schedule(run, model, tmp_path):
    saved = tmp_path / "end.safetensors"
    words = ["--lr", "cosine(0.2, 0, 60)", "--steps", 60, "--save", saved, "--json"]
    code, out, err = run("train", f"{model}:make", *words)
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["final"]["val_r2"] > 0.9
    assert result["lr"].startswith("cosine(")
    assert saved.stat().st_size > 0


def test_training_that_diverges_returns_three(run, model):
    code, out, _ = run("train", f"{model}:make", "--lr", "50", "--steps", 100, "--json")
    assert code == 3
    assert json.loads(out)["verdict"] == "diverging"


def test_train_resumes_where_it_stopped(run, model, tmp_path):
    whole, halves = tmp_path / "whole.csv", tmp_path / "halves.csv"
    common = ["train", f"{model}:make", "--lr", "0.1", "--json"]
    checkpoint = ["--checkpoint", tmp_path / "run.safetensors", "--resume"]
    assert run(*common, "--epochs", 6, "--csv", whole)[0] == 0
    assert run(*common, "--epochs", 3, *checkpoint)[0] == 0
    assert run(*common, "--epochs", 6, *checkpoint, "--csv", halves)[0] == 0
    assert whole.read_text() == halves.read_text()


def test_train_resumes_at_its_own_rate_or_at_the_one_given(run, model, tmp_path):
    csv, checkpoint = tmp_path / "run.csv", tmp_path / "run.safetensors"
    words = ["train", f"{model}:make", "--checkpoint", checkpoint, "--resume", "--csv", csv]
    assert "learning rate found" in run(*words, "--epochs", 2)[2]
    assert "learning rate found" not in run(*words, "--epochs", 4)[2]
    steady = rates(csv)
    assert len(set(steady)) == 1
    with pytest.warns(UserWarning, match="lr=0.0123 instead of"):
        run(*words, "--epochs", 6, "--lr", "0.0123")
    assert rates(csv)[: len(steady)] == steady and set(rates(csv)[len(steady) :]) == {"0.0123"}


def rates(path):
    header, *rows = path.read_text().splitlines()
    column = header.split(",").index("lr")
    return [row.split(",")[column] for row in rows]


def test_traceback_on_request(model):
    with pytest.raises(Exception, match="broken raised KeyError"):
        main(["find", f"{model}:broken", "--traceback"])


def test_interrupt_is_130(run, monkeypatch):
    from stepsize.cli import commands

    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "info", interrupted)
    code, _, err = run("info")
    assert (code, err) == (130, "stepsize: interrupted\n")


def test_info_names_the_build(run):
    code, out, _ = run("info")
    assert code == 0
    assert ss.build_info()["target"] in out
    facts = json.loads(run("info", "--json")[1])
    assert "Adam" in facts["optimizers"]
    assert facts["numpy"] == np.__version__


def test_numbers_without_a_json_form_become_null():
    from stepsize.cli.output import plain

    assert plain({"a": np.array([1.0, np.nan]), "b": (np.float32(2), np.inf)}) == {
        "a": [1.0, None],
        "b": [2.0, None],
    }


def test_tune_goes_on_where_it_was(run, model, tmp_path):
    pytest.importorskip("optuna")
    kept = tmp_path / "trials.jsonl"
    common = ["tune", f"{model}:make", "--epochs", 2, "--method", "random", "--storage", kept]
    common += ["--optimizers", "SGD"]
    table = tmp_path / "t.csv"
    assert run(*common, "--trials", 3, "--csv", table)[0] == 0
    first = table.read_text().splitlines()
    assert run(*common, "--trials", 5, "--csv", table)[0] == 0
    second = table.read_text().splitlines()
    assert second[:4] == first
    assert len(second) == 6
    file = tmp_path / "trials.SGD.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[2] |= {"state": "failed", "value": np.inf, "reason": "the disk was away"}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(*common, "--trials", 5)[0] == 0
    assert len(file.read_text().splitlines()) == 6
    assert run(*common, "--trials", 5, "--retry-failed", "--csv", table)[0] == 0
    third = table.read_text().splitlines()
    assert len(file.read_text().splitlines()) == 7 and len(third) == 6
    assert [line.split(",")[:2] for line in third] == [line.split(",")[:2] for line in second]
    assert not any(",failed" in line for line in third)


def test_trials_that_no_file_keeps_cannot_be_made_again(run, model):
    code, _, err = run("tune", f"{model}:make", "--retry-failed")
    assert code == 2 and "give --storage FILE too" in err


def test_bench_measures_every_shape(run, monkeypatch):
    code, out, _ = run("bench", "--optimizers", "Adam", "--quick", "--seconds", "0.001", "--json")
    rows = json.loads(out)["microseconds"]
    assert code == 0
    assert [row["tensors"] for row in rows] == [
        "1 x 1,000",
        "1 x 1,000,000",
        "100 x 1,000",
        "1,000 x 100",
    ]
    assert all(row["stepsize"] > 0 and row["numpy"] > 0 for row in rows)
    assert all(
        row["gb_s"] == pytest.approx(28 * n / row["stepsize"] / 1e3)
        for row, n in zip(rows, (1e3, 1e6, 1e5, 1e5), strict=True)
    )
    assert [row["tensors"] for row in rows if "share_of_triad" in row] == ["1 x 1,000,000"]
    code, out, _ = run("bench", "--optimizers", "Lion", "--quick", "--seconds", "0.001")
    assert code == 0
    assert "1,000 x 100  Lion" in out
    assert re.search(r"1 x 1,000,000  Lion .* \d+%\n", out)
    assert "The triad, x = x / 2 + y" in out


def test_no_usable_rate_is_said(run, model, monkeypatch):
    from types import SimpleNamespace

    from stepsize.cli import commands

    lost = SimpleNamespace(suggestion=float("nan"), why="the loss does not react")
    monkeypatch.setattr(commands, "_range_test", lambda *a, **k: lost)
    code, out, err = run("train", f"{model}:make")
    assert (code, out) == (1, "")
    assert "finds no rate for SGD, because the loss does not react" in err


def test_a_demo_that_has_nowhere_to_write_says_so_first(run, tmp_path, monkeypatch):
    monkeypatch.setattr("stepsize.demo.run", None)
    (tmp_path / "file").touch()
    code, out, err = run("demo", "--out", tmp_path / "file" / "report")
    assert (code, out) == (2, "") and "file" in err
    assert_one_line(err)


@pytest.mark.parametrize("name", ["schedule_free_adamw", "ScheduleFreeAdamW", "adamw", "ADAMW"])
def test_a_rule_has_the_names_that_python_knows(name, run, model):
    code, out, _ = run("train", f"{model}:make", "--optimizer", name, "--lr", 0.1, "--json")
    assert code == 0 and json.loads(out)["optimizer"] == name


def test_advice_of_the_command_line_is_in_its_own_words(run, model):
    code, out, _ = run("train", f"{model}:make", "--lr", "1e9", "--epochs", 3)
    assert code == 3
    assert "leave out --lr" in out and "lr_find" not in out and "Try lr=" not in out

"""What holds for every command: with --json one object and nothing else, whatever else is printed;
output on any terminal; and an end in order where nobody reads on."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import pytest

from json_keys import KEYS
from stepsize.cli.main import _parser
from terminals import on_a_terminal, shorten_the_demo

MODEL = """
import numpy as np
import stepsize as ss

print("loading, größe 3")

def make():
    print("making")
    x = np.random.default_rng(0).standard_normal((96, 3)).astype(np.float32)
    problem = ss.problems.regressor(x, x @ np.ones(3, np.float32), hidden=(), name="größe")
    def value_and_grad(params, batch):
        print("a batch")
        return problem.value_and_grad(params, batch)
    return ss.Problem(
        problem.params, value_and_grad, problem.train, problem.validation, name="größe"
    )
"""


def commands() -> list[str]:
    parsers = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return sorted(parsers.choices)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The words of each command, quick, with the exit codes they may end in."""
    folder = tmp_path_factory.mktemp("all")
    (folder / "größe.py").write_text(MODEL, encoding="utf-8")
    model = f"{folder / 'größe.py'}:make"
    table, saved = folder / "t.csv", folder / "m.safetensors"
    rows = [f"{i * 7 % 11},{'Zürich' if i % 2 else 'Genf'}" for i in range(40)]
    table.write_text("\n".join(["größe,stadt", *rows]) + "\n", encoding="utf-8")
    run = folder / "run.safetensors"
    once = ["--epochs", 1, "--trials", 1, "--method", "random", "--optimizers", "SGD"]
    trained = ["--target", "stadt", "--hidden", 0, "--epochs", 1, "--lr", 0.01]
    guide = ["demo", "--guide", "--quick", "--only", "update-rule"]
    quietly(["train", table, *trained, "--save", saved])
    quietly(["train", model, "--epochs", 4, "--lr", 0.1, "--checkpoint", run])
    return {
        "demo": ["demo", "--quick", "--out", folder / "demo"],
        "demo --guide": [*guide, "--out", folder / "g"],
        "find": ["find", model, "--steps", 20],
        "train": ["train", table, *trained],
        "what-if": ["what-if", model, "--checkpoint", run, "--steps", 4, "--factors", "1,2"],
        "predict": ["predict", saved, table],
        "tune": ["tune", model, *once],
        "schedule": ["schedule", "cosine(1, 0, 9)"],
        "bench": ["bench", "--quick", "--seconds", 0.001, "--optimizers", "SGD"],
        "info": ["info"],
    }


def quietly(words):
    found = subprocess.run(
        [sys.executable, "-m", "stepsize", *map(str, words)], capture_output=True, timeout=120
    )
    assert found.returncode in (0, 3), found.stderr


ALL = list(KEYS)


def test_every_command_is_among_them():
    # watch serves a page until it is interrupted: it has no end to print at.
    assert sorted({name.split()[0] for name in ALL} | {"watch"}) == commands()


@pytest.mark.parametrize("name", ALL)
def test_json_is_one_object_with_the_documented_keys_and_nothing_else(name, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    if name == "demo":
        shorten_the_demo(monkeypatch)
    code, out, err = on_a_terminal(monkeypatch, "ascii", [*words[name], "--json"])
    assert code in (0, 3), err
    found = json.loads(out)  # anything before or behind it would be an error
    tables = {"decisions", "columns", "target"} & set(KEYS[name])
    expected = set(KEYS[name]) - (tables if "columns" in KEYS[name] and name != "train" else set())
    assert set(found) == expected
    assert "NaN" not in out and "Infinity" not in out


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
@pytest.mark.parametrize("name", [n for n in ALL if not n.startswith(("demo", "bench"))])
def test_text_is_printed_on_any_terminal(name, encoding, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    code, out, err = on_a_terminal(monkeypatch, encoding, words[name])
    assert code in ((1,) if (name, encoding) == ("predict", "ascii") else (0, 3)), err
    assert out or "--out FILE" in err  # answers are never spelt in other signs
    assert "Traceback" not in err


START = "import sys; from stepsize.cli import main; sys.exit(main(sys.argv[1:]))"


def ended(words, **streams):
    """The exit code and standard error of a process whose reader has gone."""
    found = subprocess.run(
        [sys.executable, "-c", START, *map(str, words)], timeout=120, check=False, **streams
    )
    return found.returncode, (found.stderr or b"").decode()


# A benchmark is long, and ends as the others do.
@pytest.mark.parametrize("name", [n for n in ALL if n not in ("demo --guide", "bench")])
def test_a_reader_who_has_seen_enough_is_no_failure_of_python(name, words):
    read, write = os.pipe()
    os.close(read)
    try:
        code, err = ended(words[name], stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert code == 1, err
    assert "Exception ignored" not in err and "Traceback" not in err


@pytest.mark.parametrize("name", ["train", "predict", "schedule"])
def test_a_full_disk_is_said_in_a_line(name, words):
    with open("/dev/full", "w") as full:
        code, err = ended(words[name], stdout=full, stderr=subprocess.PIPE)
    assert code == 2
    assert "No space left" in err and "Traceback" not in err and "ignored" not in err


NO_ERRORS, NO_OUTPUT, NEITHER = "2>&-", ">&-", ">&- 2>&-"
CLOSED = {
    "find": [NO_ERRORS],
    "train": [NO_ERRORS, NEITHER],
    "tune": [NO_OUTPUT],
    "predict": [NEITHER],
    "info": [NO_ERRORS, NO_OUTPUT, NEITHER],
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_streams_are_no_failure(name, words):
    line = " ".join(f"'{word}'" for word in [sys.executable, "-m", "stepsize", *words[name]])
    for closed in CLOSED[name]:
        found = subprocess.run(
            ["sh", "-c", f"{line} --json {closed}"], capture_output=True, timeout=120
        )
        assert found.returncode in (0, 3), (closed, found.stderr)
        if closed == NO_ERRORS:
            json.loads(found.stdout)

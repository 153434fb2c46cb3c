"""What is refused by each command, in one table: 2 where other words or another file are needed,
1 where what was asked for was right and failed; always in one line behind the usage, without a
traceback."""

from __future__ import annotations

import argparse

import pytest

from stepsize.cli import main
from stepsize.cli.main import _parser

MODEL = """
import numpy as np
import stepsize as ss

def made(**parts):
    x = np.random.default_rng(0).standard_normal((96, 3)).astype(np.float32)
    problem = ss.problems.regressor(x, x @ np.ones(3, np.float32), hidden=(), name="line")
    given = {"params": problem.params, "value_and_grad": problem.value_and_grad}
    given |= {"train": problem.train, "validation": problem.validation}
    return ss.Problem(**{**given, **parts})

def make():
    return made()

def broken():
    raise KeyError("lost")

def wrong():
    return 3

def unjudged():
    return made(validation=None)

def raising():
    def value_and_grad(params, batch):
        raise KeyError("mine")
    return made(value_and_grad=value_and_grad)

def whole():
    return made(params=np.ones(3, int))

def lost():
    return made(value_and_grad=lambda p, b: (float("nan"), p))

number = 5
"""
M, RUN = "model.py:make", ["what-if", "model.py:make", "--checkpoint"]
T = ["t.csv", "--target", "y"]

# The words, and what the line that refuses them holds.
USAGE = [
    (["demo", "--seed", "-1"], "--seed: must be at least 0, got -1"),
    (["demo", "--only", "map"], "add --guide"),
    (["demo", "--guide", "--only", "nosuch"], "--only: there is no page 'nosuch'"),
    (["demo", "--guide", "--seed", "1"], "--seed does not go with --guide"),
    (["demo", "--out", "t.csv/x"], "t.csv is a file; give the name of a folder"),
    (["demo", "--out", ""], "the name of a folder"),
    (["find", "model.py"], "expected FILE.py:factory, module:factory or a table"),
    (["find", ":make"], "expected FILE.py:factory"),
    (["find", "model.py:mak"], "did you mean 'make'?"),
    (["find", "model.py:number"], "has no function 'number'"),
    (["find", "missing.py:make"], "no such file: missing.py"),
    (["find", "no_such_module_here:make"], "cannot be imported: ModuleNotFoundError"),
    (
        ["find", M, "--optimizer", "Adm"],
        "--optimizer: there is no optimizer 'Adm'; there is 'Adam'",
    ),
    (["find", M, "--lr-min", "1", "--lr-max", "0.1"], "--lr-min 1 must be below --lr-max 0.1"),
    *((["find", M, "--lr-min", text], "a finite number above 0") for text in ("0", "nan", "-1")),
    (["find", M, "--lr-max", "inf"], "a finite number above 0"),
    (["find", M, "--steps", "1"], "--steps: must be at least 20"),
    (["find", M, "--plot", "x.txt"], "its ending is the format"),
    (["find", M, "--target", "y"], "--target goes with a table"),
    (["find", M, "--seed", "x"], "must be a whole number"),
    (["find", "e.csv", "--target", "a"], "is empty"),
    (["train", M, "--lr", "-1"], "--lr must be a finite number >= 0"),
    (["train", M, "--lr", "1e400"], "--lr must be a finite number >= 0"),
    (["train", M, "--lr", "cosin(1, 0, 9)"], "did you mean 'cosine'?"),
    (["train", M, "--lr", "cosine(1"], "--lr: cannot read"),
    (["train", M, "--resume"], "--resume needs --checkpoint"),
    (["train", M, "--epochs", "1", "--steps", "1"], "not allowed with argument"),
    (["train", M, "--seed", "-5"], "at least 0"),
    (
        ["train", M, "--resume", "--checkpoint", "m.safetensors"],
        "stepsize train --checkpoint wrote",
    ),
    (["train", M, "--log", "folder"], "folder is a folder"),
    (["train", *T, "--decimal", "x"], "invalid choice"),
    (["train", *T, "--hidden", "-1"], "at least 1 unit"),
    (["train", *T, "--encoding", "utf9"], "did you mean 'utf-8'?"),
    (["train", *T, "--drop", "y"], "it is the target"),
    ([*RUN, "missing"], "no such file: missing"),
    ([*RUN, "t.csv"], "not a checkpoint of stepsize"),
    ([*RUN, "m.safetensors"], "stepsize train --checkpoint wrote"),
    ([*RUN, "run.safetensors"], "its parameters differ"),
    *(([*RUN, "run.safetensors", "--factors", x], "above 0") for x in ("x", "-1", "0", "nan", "")),
    (["predict", "missing.safetensors", "t.csv"], "no such file: missing.safetensors"),
    (["predict", "run.safetensors", "t.csv"], "give a file that ss.save or stepsize train --save"),
    (["predict", "folder", "t.csv"], "not a regular file"),
    (["predict", "t.csv", "m.safetensors"], "they may be swapped"),
    (["predict", "m.safetensors", "missing.csv"], "no such file"),
    (["predict", "m.safetensors", "m.safetensors"], "not a table"),
    (["predict", "m.safetensors", "e.csv"], "is empty"),
    (["tune", M, "--optimizers", ","], "must be names"),
    (["tune", M, "--optimizers", "Adm"], "--optimizers: there is no optimizer 'Adm'"),
    (["tune", M, "--trials", "0"], "at least 1"),
    (["tune", M, "--method", "magic"], "invalid choice"),
    (["tune", M, "--storage", "folder"], "is a folder"),
    (["schedule", "x"], "'x' is not allowed in a schedule"),
    (["schedule", ""], "cannot read ''"),
    (["schedule", "cosine(1)"], "missing a required argument: 'end'"),
    (["schedule", "cosine(-1, 0, 9)"], "must be a finite number >= 0"),
    (["schedule", "__import__('os')"], "there is no schedule '__import__'"),
    (["schedule", "constant(1)", "--steps", "99999999999", "--json"], "say how many with --steps"),
    (["bench", "--optimizers", "LBFGS"], "LBFGS calls the function of its steps"),
    (["bench", "--optimizers", ""], "must be names"),
    *((["bench", "--seconds", text], "above 0") for text in ("-1", "nan", "inf", "0", "x")),
    (["info", "extra"], "unrecognized arguments: extra"),
    (["watch", "t.csv"], "none is step"),
    (["watch", "m.safetensors"], "such as a checkpoint"),
    (["watch", "folder"], "is no file"),
    (["watch", "x", "--port", "70000"], "from 0 to 65535"),
    (["watch", "x", "--host", "0.0.0.0"], "--allow-remote"),
    (["trian"], "invalid choice: 'trian'"),
]
FAILED = [
    (["find", "bad.py:make"], "bad.py cannot be imported: SyntaxError"),
    (["find", "model.py:broken"], "broken raised KeyError: 'lost'"),
    (["tune", "model.py:wrong"], "returned 3, expected an ss.Problem"),
    *(([c, "model.py:raising"], ", line 26: KeyError: 'mine'; --tr") for c in ("find", "train")),
    (["train", "model.py:whole", "--lr", "0.1"], "convert it with .astype(np.float32)"),
    (["tune", "model.py:unjudged"], "give the problem validation data"),
    (["tune", "model.py:lost"], "finds no rate for SGD"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a program, a table, and what was saved of its training."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "model.py").write_text(MODEL)
    (folder / "bad.py").write_text("def (")
    (folder / "t.csv").write_text("a,y\n" + "".join(f"{i * 7 % 11},{i}.5\n" for i in range(20)))
    (folder / "e.csv").write_text("")
    (folder / "folder").mkdir()
    files = ["--save", folder / "m.safetensors", "--checkpoint", folder / "run.safetensors"]
    words = ["train", folder / "t.csv", "--target", "y", "--epochs", 1, "--lr", 0.01, *files]
    assert main([str(word) for word in words]) in (0, 3)
    return folder


@pytest.mark.parametrize(
    ("words", "message", "expected"),
    [*((*one, 2) for one in USAGE), *((*one, 1) for one in FAILED)],
)
def test_what_is_refused_and_how_it_ends(run, place, monkeypatch, words, message, expected):
    monkeypatch.chdir(place)
    code, out, err = run(*words)
    assert (code, out) == (expected, ""), err
    *usage, last = err.splitlines()
    assert last.startswith("stepsize") and "error: " in last and message in last
    assert "Errno" not in err and "Traceback" not in err
    assert not usage or usage[0].startswith("usage: ") or words[0] == "tune"


def test_every_command_is_in_the_table():
    parsers = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert set(parsers.choices) <= {words[0] for words, _ in USAGE}


@pytest.mark.parametrize("command", ["find", "train"])
def test_a_loss_that_is_never_finite_ends_in_words(run, place, monkeypatch, command):
    monkeypatch.chdir(place)
    options = ["--lr", "0.1", "--epochs", "1"] if command == "train" else []
    code, out, err = run(command, "model.py:lost", *options, "--plot", "lost.png")
    assert code == (3 if command == "train" else 0)
    assert "finite" in out and "Traceback" not in err

"""Where the command line writes: looked at before the work, and in signs that can be shown."""

from __future__ import annotations

import io
import sys

import pytest

from one_line import assert_one_line
from stepsize.cli import main
from stepsize.cli.commands import DIVERGED
from stepsize.validation import prose

FILES = {
    "find": ["--plot", "--csv"],
    "train": ["--plot", "--csv", "--report", "--save", "--checkpoint"],
    "tune": ["--plot", "--csv", "--storage"],
}
CASES = [(command, option) for command, options in FILES.items() for option in options]


@pytest.fixture
def untouched(monkeypatch):
    """Loading the problem is the first of the work; here it fails the test."""

    def work(*_, **__):
        raise AssertionError("the work has begun")

    monkeypatch.setattr("stepsize.cli.loading.load_problem", work)


@pytest.mark.parametrize(("command", "option"), CASES)
def test_a_file_that_cannot_be_written_is_said_before_the_work(
    command, option, run, model, tmp_path, untouched
):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "x.png", tmp_path / "folder.png"):
        code, out, err = run(command, f"{model}:make", option, path)
        assert (code, out) == (2, "")
        assert_one_line(err)
        assert f"{option} {path}" in err


def test_a_picture_of_no_format_is_said_before_the_work(run, model, untouched):
    code, _, err = run("train", f"{model}:make", "--plot", "no/such/dir")
    assert code == 2 and "--plot no/such/dir: its ending is the format" in err


@pytest.mark.parametrize(("command", "option"), CASES)
def test_folders_are_made(command, option, run, model, tmp_path):
    path = tmp_path / "a" / "b" / "file.png"
    words = ["--lr", 0.01, "--epochs", 1] if command == "train" else []
    words = ["--trials", 1, "--epochs", 1, "--method", "random"] if command == "tune" else words
    code = run(command, f"{model}:make", option, path, *words)[0]
    assert code in (0, DIVERGED)  # one epoch is too short to judge
    assert list(path.parent.iterdir())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize(
    "words", [["schedule", "cosine(1, 0, 100)"], ["train", "MODEL", "--lr", "0.01"], ["info"]]
)
def test_a_terminal_of_few_signs_shows_what_it_can(words, encoding, model, monkeypatch):
    streams = {}
    for name in ("stdout", "stderr"):
        streams[name] = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, name, streams[name])
    assert main([word.replace("MODEL", f"{model}:make") for word in words]) == 0
    streams["stdout"].flush()
    text = streams["stdout"].buffer.getvalue().decode(encoding)
    assert len(text) > 100 and "?" not in text
    if words[0] == "schedule":
        assert "cosine(1.0, 0.0, 100)" in text
        assert (("*" in text) and ("|" in text)) == (encoding != "utf-8")


def test_help_and_words_keep_to_the_width_of_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    commands = ["find", "train", "watch", "what-if", "predict", "tune", "schedule", "bench", "info"]
    for words in ([], ["demo"], *([command] for command in commands)):
        assert main([*words, "--help"]) == 0
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= 80, words
    main(["--help"])
    assert "\nstart here:\n  stepsize demo " in capsys.readouterr().out
    long = "one word after another, and no end of them in sight " * 3 + "unbreakable" * 9
    assert prose(long) == long  # into a file, as it is
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert [len(line) <= 80 for line in prose(long).splitlines()] == [True, True, False]
    assert prose(long).replace("\n", " ") == long
    assert prose("a b " * 30, indent=4).splitlines()[1].startswith("    a")

"""Schedules on the command line, and the expressions that spell them."""

from __future__ import annotations

import numpy as np
import pytest

import stepsize as ss
from one_line import assert_one_line
from stepsize.schedules.expression import FUNCTIONS, METHODS, OPERATORS, parse


def test_schedule_prints_the_rates_it_would_use(run):
    text = "warmup_cosine(3e-3, 100, 2000)"
    code, out, err = run("schedule", text)
    assert (code, err) == (0, "")
    assert "warmup_cosine(" in out
    s = ss.schedules.warmup_cosine(3e-3, 100, 2000)
    steps, rates = (
        line.split() for line in out.splitlines() if line.startswith(("step  ", "rate  "))
    )
    for step, rate in zip(steps[1:], rates[1:], strict=True):
        assert rate == f"{s(int(step.replace(',', ''))):.4g}"
    assert steps[-1] == "2,000"


def test_schedules_compare_and_write_files(run, tmp_path):
    plot, table = tmp_path / "s.png", tmp_path / "s.csv"
    words = ["cosine(1, 0, 10)", "linear(1, 0, 20)"]
    code, out, err = run("schedule", *words, "--plot", plot, "--csv", table)
    assert code == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert str(plot) in err
    rows = np.genfromtxt(table, delimiter=",", skip_header=1)
    assert rows.shape == (21, 3)
    assert np.array_equal(rows[:, 1], ss.schedules.cosine(1, 0, 10).values(21))
    assert "A  cosine(" in out
    assert "B  linear(" in out


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_recipe_can_be_called(name):
    """Named, even if its arguments are missing: the complaint is about those."""
    with pytest.raises(ValueError, match=rf"^{name}|^(?!there is no)") as error:
        parse(f"{name}()")
    assert "is not allowed" not in str(error.value)


def test_expressions_are_the_calls_they_spell():
    s = ss.schedules
    for text, expected in {
        "0.1": s.constant(0.1),
        "-1 * -0.5 * constant(2)": s.constant(2) * 0.5,
        "linear(0, 0.1, 50).then(exponential(0.1, 0.99), at=50)": s.linear(0, 0.1, 50).then(
            s.exponential(0.1, 0.99), at=50
        ),
        "constant(1).clip(0, 0.5) + 1 / 4": s.constant(1).clip(0, 0.5) + 0.25,
        "piecewise_constant([10, 20], [1, 0.1, 0.01])": s.piecewise_constant(
            [10, 20], [1, 0.1, 0.01]
        ),
        "cyclic(0.1, 1, 5, mode='triangular2')": s.cyclic(0.1, 1, 5, mode="triangular2"),
    }.items():
        assert np.array_equal(parse(text).values(60), expected.values(60)), text


CURVE = ss.schedules.cosine(0.5, 0.0, 10)
COMBINED = {
    "by_epoch": CURVE.by_epoch(20, smooth=True),
    "clip": CURVE.clip(high=0.25),
    "product": CURVE * (CURVE * CURVE),
    "repeat": CURVE.repeat(5),
    "resume_at": CURVE.resume_at(5, 20),
    "scale": (CURVE + CURVE) * 0.5,
    "shift": CURVE.shift(-2),
    "stretch": CURVE.stretch(40),
    "sum": CURVE + (CURVE + 0.1),
    "then": CURVE.then(CURVE, at=3).then(0.1, at=9),
    "warmup": CURVE.warmup(5, init=0.1),
}


def test_all_that_combines_schedules_is_tried_below():
    assert set(COMBINED) == {"then", *METHODS, *OPERATORS}


@pytest.mark.parametrize("name", COMBINED)
def test_what_is_printed_can_be_given(name, run):
    text = repr(COMBINED[name])
    assert parse(text) == COMBINED[name]
    code, out, _ = run("schedule", text)
    assert code == 0 and out.splitlines()[-1] == text


def test_a_python_function_cannot_be_named(run):
    code, out, err = run("schedule", "from_function('posix:_exit')")
    assert (code, out) == (2, "") and "a function cannot be named in text" in err
    assert_one_line(err)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('x', 'w')",
        "(lambda: 1)()",
        "constant.__globals__",
        "constant(1).__class__",
        "constant(1).compiled",
        "constant(1).to_dict()",
        "[constant(1) for _ in (1, 2)]",
        "constant(*[1])",
        "constant(**{'value': 1})",
        "constant(1) if 1 else constant(2)",
        "9 ** 9 ** 9",
        "'a' * 999999999",
        "[0] * 999999999",
        "from_function(print)",
        "check_run(1, 2)",
        "layerwise_lr([1], 0.5)",
        "constant(1); constant(2)",
        "x := constant(1)",
        "constant(1)[0]",
        "f'{1}'",
        "b'x'",
        "constant(1j)",
        "1 / 0",
        "'text'",
        "",
        "(" * 5000,
    ],
)
def test_nothing_else_is_evaluated(text, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("schedule", text)
    assert (code, out) == (2, "")
    assert_one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_recipe_is_recognised(run):
    assert "did you mean 'warmup_cosine'?" in run("schedule", "warmup_cosin(1, 2, 3)")[2]
    assert "did you mean 'warmup'?" in run("schedule", "constant(1).warm(2)")[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("constant(1).to_dict()", "there is no method 'to_dict'; there are: by_epoch, clip"),
        ("constant(1).values(10 * 9)", "there is no method 'values'"),
        ("'a' * 999", r"\"'a' \* 999\" is not allowed in a schedule"),
        ("[0] * 999", r"'\[0\] \* 999' is not allowed in a schedule"),
    ],
)
def test_what_is_refused_is_refused_before_it_runs(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_a_schedule_of_any_length_is_drawn_in_no_time(run, tmp_path):
    code, out, _ = run("schedule", "linear(1, 0, 1e15)", "--plot", tmp_path / "picture.png")
    assert code == 0 and "1,000,000,000,000,000" in out and "0.75" in out
    assert (tmp_path / "picture.png").stat().st_size > 1000
    for words in (["--json"], ["--csv", tmp_path / "rows.csv"]):
        code, out, err = run("schedule", "linear(1, 0, 1e15)", *words)
        assert (code, out) == (2, "") and "say how many with --steps" in err
        assert_one_line(err)
        assert run("schedule", "linear(1, 0, 1e15)", "--steps", 5, *words)[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schedule", "constant(1)", "--steps", "ten"], "must be a whole number, got 'ten'"),
        (["train", "table.csv", "--hidden", "x"], "must be whole numbers, such as 64,32, got 'x'"),
    ],
)
def test_what_is_no_number_is_refused_in_words(words, message, run):
    code, out, err = run(*words)
    assert (code, out) == (2, "") and message in err

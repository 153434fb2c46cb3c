"""The command line: what each command prints, writes and returns, and its one-line errors."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

import stepsize as ss
from stepsize.cli import main
from stepsize.cli.expressions import parse_schedule, recipes

MODEL = """
import numpy as np
import stepsize as ss

def make():
    x = np.random.default_rng(0).standard_normal((96, 3)).astype(np.float32)
    y = x @ np.array([1.0, -2.0, 3.0], np.float32)
    return ss.problems.regressor(x, y, hidden=(), name="line")

def broken():
    raise KeyError("lost")

def wrong():
    return 3

number = 5
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return str(path)


@pytest.fixture
def run(capsys):
    def call(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def assert_one_line(err):
    assert err.count("\n") == 1
    assert err.startswith("stepsize ")
    assert "Traceback" not in err


def test_help_teaches_and_every_command_has_one(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "ss.Problem(params, value_and_grad" in out
    commands = re.findall(r"^    (\w+) {2,}", out, re.MULTILINE)
    assert {"demo", "find", "train", "tune", "schedule", "bench", "info"} == set(commands)
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


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_can_be_called(name):
    """Named, even if its arguments are missing: the complaint is about those."""
    with pytest.raises(ValueError, match=rf"^{name}|^(?!there is no)") as error:
        parse_schedule(f"{name}()")
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
        assert np.array_equal(parse_schedule(text).values(60), expected.values(60)), text


def test_a_schedule_is_read_back_from_its_repr():
    s = ss.schedules.cosine(0.5, 0, 10).warmup(5) * 2
    assert parse_schedule(repr(s)) == s


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
    assert (code, out) == (1, "")
    assert_one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_recipe_is_recognised(run):
    assert "did you mean 'warmup_cosine'?" in run("schedule", "warmup_cosin(1, 2, 3)")[2]
    assert "did you mean 'warmup'?" in run("schedule", "constant(1).warm(2)")[2]


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


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{model}", "expected FILE.py:factory, module:factory or a table"),
        ("{model}:mak", "did you mean 'make'?"),
        ("{model}:number", "has no function 'number'"),
        ("{model}:broken", "broken raised KeyError: 'lost'"),
        ("{model}:wrong", "returned a int, expected an ss.Problem"),
        ("missing.py:make", "no such file: missing.py"),
        ("no_such_module_here:make", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_target_that_does_not_work_is_explained(run, model, target, message):
    for command in ("find", "train", "tune"):
        code, out, err = run(command, target.format(model=model))
        assert (code, out) == (1, "")
        assert_one_line(err)
        assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimizer", "Adm"], "did you mean 'Adam'?"),
        (["--lr", "cosin(1, 0, 9)"], "did you mean 'cosine'?"),
        (["--lr", "-1"], "lr"),
        (["--resume"], "--resume needs --checkpoint"),
    ],
)
def test_bad_options_of_train(run, model, words, message):
    code, _, err = run("train", f"{model}:make", *words)
    assert code == 1
    assert message in err.splitlines()[-1]


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
    from stepsize.cli.commands import plain

    assert plain({"a": np.array([1.0, np.nan]), "b": (np.float32(2), np.inf)}) == {
        "a": [1.0, None],
        "b": [2.0, None],
    }


@pytest.fixture
def iris(tmp_path):
    """The iris flowers as a file with a column of words to predict."""
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_iris()
    path = tmp_path / "iris.csv"
    rows = [
        ",".join([*map(str, x), data.target_names[y]])
        for x, y in zip(data.data, data.target, strict=True)
    ]
    path.write_text("\n".join(["sl,sw,pl,pw,species", *rows]))
    return path


def test_train_on_a_table_without_code(run, iris):
    code, out, err = run("train", iris, "--target", "species", "--epochs", 30, "--json")
    assert code == 0
    assert "3 classes: setosa, versicolor, virginica" in err
    assert json.loads(out)["final"]["val_accuracy"] > 0.85


def test_tune_on_a_table_ends_with_the_line_to_paste(run, iris, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    trials, plot = tmp_path / "t.csv", tmp_path / "t.png"
    common = ["tune", iris, "--target", "species", "--optimizers", "SGD,adam", "--epochs", 5]
    code, out, _ = run(*common, "--trials", 6, "--csv", trials, "--plot", plot)
    assert code == 0
    monkeypatch.chdir(tmp_path)
    name, *words = shlex.split(out.splitlines()[-1])
    assert name == "stepsize" and run(*words)[0] == 0
    assert (tmp_path / "run.html").stat().st_size > 10_000
    assert len(trials.read_text().splitlines()) == 1 + 2 * 6
    assert plot.read_bytes().startswith(b"\x89PNG")
    again = json.loads(run(*common, "--trials", 6, "--json")[1])
    rule, rate = re.fullmatch(
        r"optimizer = ss\.(SGD|Adam)\(params, lr=([0-9.e-]+)\)", again["line"]
    ).groups()
    assert words[words.index("--lr") + 1] == rate
    assert words[words.index("--optimizer") + 1].lower() == rule.lower()


def test_a_rule_with_a_line_search_needs_no_rate(run, iris):
    common = [iris, "--target", "species", "--optimizer", "LBFGS", "--hidden", 0]
    code, out, _ = run("train", *common, "--batch-size", 112, "--epochs", 5, "--json")
    assert code == 0 and json.loads(out)["final"]["val_accuracy"] > 0.85
    code, _, err = run("find", *common)
    assert code == 1 and "LBFGS searches along each step for itself: just train" in err


def test_a_missing_extra_is_told_before_the_work(run, iris, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for option in ("--report", "--plot"):
        code, out, err = run("train", iris, "--target", "species", option, "run.html")
        assert code == 1 and not out and 'pip install "stepsize[plot]"' in err


def test_tune_goes_on_where_it_was(run, model, tmp_path):
    pytest.importorskip("optuna")
    kept = tmp_path / "trials.jsonl"
    common = ["tune", f"{model}:make", "--epochs", 2, "--method", "random", "--storage", kept]
    table = tmp_path / "t.csv"
    assert run(*common, "--trials", 3, "--csv", table)[0] == 0
    first = table.read_text().splitlines()
    assert run(*common, "--trials", 5, "--csv", table)[0] == 0
    second = table.read_text().splitlines()
    assert second[:4] == first
    assert len(second) == 6


def write(path, text):
    path.write_text(text)
    return path


def test_a_table_of_numbers_words_and_gaps(run, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(120)
    rows = [
        f"{v if i % 10 else ''},{'up' if i % 2 else 'down'},{3 * v + i % 2}"
        for i, v in enumerate(x)
    ]
    path = write(tmp_path / "mixed.csv", "\n".join(["a,kind,y", *rows]))
    code, out, err = run("train", path, "--target", "y", "--hidden", "0", "--json")
    assert code == 0
    assert "12 gaps in a filled with its mean" in err
    assert json.loads(out)["final"]["val_r2"] > 0.6


def test_a_table_of_arrays(run, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 3))
    np.savez(tmp_path / "t.npz", x=x, y=x @ [1.0, 2.0, 3.0])
    code, out, _ = run("train", tmp_path / "t.npz", "--target", "y", "--hidden", "0", "--json")
    assert code == 0
    assert json.loads(out)["final"]["val_r2"] > 0.9


def test_table_columns_are_scaled_by_the_training_rows(tmp_path):
    from stepsize.cli.tables import load_table

    rng = np.random.default_rng(1)
    rows = [f"{100 * v + 7},{int(v > 0)}" for v in rng.standard_normal(60)]
    path = write(tmp_path / "t.csv", "\n".join(["a,label", *rows]))
    problem, _ = load_table(path, "label", (4,), [], 0)
    x = problem.train[0]
    # Means and deviations of float32 columns: rounding of their sums is all that is left.
    assert np.abs(x.mean(axis=0)).max() < 1e-6
    assert np.abs(x.std(axis=0) - 1).max() < 1e-5
    assert np.abs(problem.validation[0].mean(axis=0)).max() > 1e-4


HEAD = "a,b,y\n"
ROWS = "".join(f"{i},{i * i},{i % 2}\n" for i in range(12))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (HEAD + ROWS, [], "give --target; the columns of"),
        (HEAD + ROWS, ["--target", "z"], "there is no column 'z'"),
        (HEAD + ROWS, ["--target", "y", "--drop", "q"], "--drop q: the columns are: a, b, y"),
        (HEAD, ["--target", "y"], "holds no rows below its header"),
        (HEAD + ROWS + "1,2\n", ["--target", "y"], "line 14: 2 cells, expected 3"),
        (HEAD + ROWS[:30], ["--target", "y"], "usable rows, too few"),
        ("y\n" + "1\n2\n" * 9, ["--target", "y"], "no column to predict y from"),
        (
            "w,y\n" + "".join(f"word{i},{i % 2}\n" for i in range(60)),
            ["--target", "y"],
            "column w holds 60 different words; leave it out with --drop w",
        ),
        (
            "a,y\n" + "".join(f"{i},id{i}\n" for i in range(12)),
            ["--target", "y"],
            "neither classes nor numbers",
        ),
    ],
)
def test_tables_that_do_not_work_are_explained(run, tmp_path, text, options, message):
    path = write(tmp_path / "t.csv", text)
    code, out, err = run("train", path, *options)
    assert (code, out) == (1, "")
    assert_one_line(err)
    assert message in err


def test_table_options_need_a_table(run, model):
    code, _, err = run("train", f"{model}:make", "--target", "y")
    assert code == 1
    assert "--target and --drop go with a .csv" in err


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


def test_train_writes_a_report(run, iris, tmp_path):
    page = tmp_path / "deep" / "iris.html"
    code, out, err = run("train", iris, "--target", "species", "--epochs", 4, "--report", page)
    assert code == 0
    assert str(page) in err
    text = page.read_text("utf-8")
    accuracy = re.search(r"val_accuracy +([0-9.]+)", out)[1]
    assert f"<strong>{100 * float(accuracy):.1f} %</strong>" in text
    assert text.count("<svg") == 2


def test_no_usable_rate_is_said(run, model, monkeypatch):
    from types import SimpleNamespace

    from stepsize.cli import commands

    lost = SimpleNamespace(suggestion=float("nan"), why="the loss does not react")
    monkeypatch.setattr(commands, "_range_test", lambda *a, **k: lost)
    code, out, err = run("train", f"{model}:make")
    assert (code, out) == (1, "")
    assert "finds no rate for SGD, because the loss does not react" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("constant(1).to_dict()", "there is no method 'to_dict'; there are: clip"),
        ("constant(1).values(10 * 9)", "there is no method 'values'"),
        ("'a' * 999", r"\"'a' \* 999\" is not allowed in a schedule"),
        ("[0] * 999", r"'\[0\] \* 999' is not allowed in a schedule"),
    ],
)
def test_what_is_refused_is_refused_before_it_runs(text, message):
    with pytest.raises(ValueError, match=message):
        parse_schedule(text)

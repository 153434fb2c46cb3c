"""The command line on a table: columns, gaps, words, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
import sys

import numpy as np
import pytest

from one_line import assert_one_line

HEAD = "a,b,y\n"
ROWS = "".join(f"{i},{i * i},{i % 2}\n" for i in range(12))


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
    assert code == 2 and "LBFGS searches along each step for itself: just train" in err


def test_a_missing_extra_is_told_before_the_work(run, iris, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for option in ("--report", "--plot"):
        code, out, err = run("train", iris, "--target", "species", option, "run.html")
        assert code == 1 and not out and 'pip install "stepsize[plot]"' in err


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
    assert "column a: 12 gaps filled with the median 0.16101" in err
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
    problem = load_table(path, "label", (4,), [], 0).problem
    x = problem.train[0]
    # Means and deviations of float32 columns: rounding of their sums is all that is left.
    assert np.abs(x.mean(axis=0)).max() < 1e-6
    assert np.abs(x.std(axis=0) - 1).max() < 1e-5
    assert np.abs(problem.validation[0].mean(axis=0)).max() > 1e-4


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
    assert (code, out) == (2, "")
    assert_one_line(err)
    assert message in err


def test_table_options_need_a_table(run, model):
    code, _, err = run("train", f"{model}:make", "--target", "y")
    assert code == 2
    assert "--target goes with a table: .csv, .tsv" in err


def test_train_writes_a_report(run, iris, tmp_path):
    page = tmp_path / "deep" / "iris.html"
    code, out, err = run("train", iris, "--target", "species", "--epochs", 4, "--report", page)
    assert code == 0
    assert str(page) in err
    text = page.read_text("utf-8")
    accuracy = re.search(r"val_accuracy +([0-9.]+)", out)[1]
    assert f"<strong>{100 * float(accuracy):.1f} %</strong>" in text
    assert text.count("<svg") == 2


def test_the_loss_that_is_printed_is_the_mean_of_the_last_epoch(run, tmp_path):
    path = tmp_path / "t.csv"
    rng = np.random.default_rng(0)
    rows = [f"{a},{2 * a + rng.normal()}" for a in rng.normal(size=41)]
    path.write_text("\n".join(["a,y", *rows]) + "\n")
    page = tmp_path / "page.html"
    words = ["train", path, "--target", "y", "--epochs", 3, "--lr", 0.03, "--batch-size", 8]
    code, out, _ = run(*words, "--report", page)
    ends = json.loads(run(*words, "--json")[1])["final"]
    assert code == 0 and f"{ends['epoch_loss']:.4g}" != f"{ends['loss']:.4g}"
    shown = dict(line.rsplit(maxsplit=1) for line in out.splitlines() if line.startswith("loss, "))
    assert set(shown) == {"loss, mean of the last epoch", "loss, last batch"}
    assert float(shown["loss, mean of the last epoch"]) == pytest.approx(ends["epoch_loss"], 1e-2)
    assert "training loss, mean of the last epoch" in page.read_text()

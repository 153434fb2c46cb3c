"""A model saved from a table predicts for new rows; what does not fit is named."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

import stepsize as ss
from one_line import assert_one_line
from stepsize.serialization import nested


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    a, kind = rng.standard_normal(200), rng.integers(0, 3, 200)
    path = tmp_path / "t.csv"
    lines = [
        f"{x},{'abc'[k]},{3 * x + k},{'up' if x + k > 1 else 'down'}"
        for x, k in zip(a, kind, strict=True)
    ]
    path.write_text("\n".join(["x,kind,number,side", *lines]) + "\n")
    return path


def trained(run, table, target, drop):
    model = table.with_suffix(".safetensors")
    words = ["train", table, "--target", target, "--drop", drop, "--epochs", 30, "--lr", 0.1]
    assert run(*words, "--save", model, "--json")[0] == 0
    return model


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_numbers_are_predicted_in_their_own_unit(run, table):
    model = trained(run, table, "number", "side")
    code, out, _ = run("predict", model, table)
    assert code == 0
    found = np.array([float(row["number"]) for row in rows_of(out)])
    right = np.array([float(row["number"]) for row in rows_of(table.read_text())])
    assert found.shape == right.shape and np.abs(found - right).mean() < 0.3 * right.std()


def test_classes_are_predicted_with_their_probability(run, table, tmp_path):
    model = trained(run, table, "side", "number")
    out = tmp_path / "deep" / "answers.csv"
    assert run("predict", model, table, "--out", out)[:2] == (0, "")
    rows = rows_of(out.read_text())
    right = [row["side"] for row in rows_of(table.read_text())]
    assert np.mean([row["side"] == side for row, side in zip(rows, right, strict=True)]) > 0.9
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)


def test_columns_are_found_by_name_and_cells_that_are_new_are_said(run, table, tmp_path):
    model = trained(run, table, "number", "side")
    new = tmp_path / "new.csv"
    new.write_text("kind;extra;x\nb;1;1,5\nd;1;-0,5\nb;1;\n")
    code, out, err = run("predict", model, new)
    rows = [float(row["number"]) for row in rows_of(out)]
    assert code == 0 and len(rows) == 3 and abs(rows[0] - 5.5) < 1.5
    assert "column kind: 1 cell with words that were not trained on, 'd' (line 3)" in err
    assert "column x: 1 cell without a number, the first is a gap (line 4); taken as" in err


def test_a_missing_column_is_named(run, table, tmp_path):
    model = trained(run, table, "number", "side")
    (tmp_path / "new.csv").write_text("kind\nb\n")
    code, out, err = run("predict", model, tmp_path / "new.csv")
    assert (code, out) == (2, "") and "has no column 'x'; it has kind" in err
    assert_one_line(err)


def test_a_model_without_a_table_is_refused(run, table, tmp_path):
    ss.save(tmp_path / "m", {"w": np.ones(3)})
    code, out, err = run("predict", tmp_path / "m", table)
    assert (code, out) == (2, "") and "save one with stepsize train TABLE --target" in err


def changes(saved):
    """The contents of a model file with one thing wrong."""
    yield {k: v for k, v in saved.items() if k != "params"}
    for key in saved["params"]:
        rest = {k: v for k, v in saved["params"].items() if k != key}
        yield {**saved, "params": rest}
        for array in (np.ones(7), np.ones((2, 2)), 3.0):
            yield {**saved, "params": {**rest, key: array}}
    table = saved["extra"]["table"]
    for value in (None, 3, [], [{}], "x"):
        for key in table:
            yield {**saved, "extra": {"table": {**table, key: value}}}
    for key in table["target"]:
        for value in (None, "x", -1, float("nan"), [[]], {}):
            for place in ("target", "columns"):
                one = table["target"] if place == "target" else table["columns"][0]
                if value != one[key] and not (key == "name" and value == "x"):
                    new = {**one, key: value}
                    new = new if place == "target" else [new, *table["columns"][1:]]
                    yield {**saved, "extra": {"table": {**table, place: new}}}


def test_a_model_that_does_not_fit_is_one_line(run, table, tmp_path):
    saved = nested.load(trained(run, table, "number", "side"), "parameters and optimizer")
    path, refused = tmp_path / "changed", 0
    for contents in changes(saved):
        nested.dump(path, "parameters and optimizer", contents)
        code, _, err = run("predict", path, table)
        if code:
            assert code == 2
            assert_one_line(err)
            refused += 1
    assert refused > 50


def test_there_is_an_answer_for_every_row(run, table, tmp_path):
    model = trained(run, table, "number", "side")
    whole = rows_of(run("predict", model, table)[1])
    lines = table.read_text().splitlines()
    for blank in (["", ","], ["", "", ""], [",,,"], []):
        text = [lines[0], *blank, *lines[1:3], *blank, *lines[3:], *blank]
        (tmp_path / "gap.csv").write_text("\n".join(text) + "\n")
        code, out, err = run("predict", model, tmp_path / "gap.csv")
        rows = rows_of(out)
        kept = [row for row in rows if row["number"]]
        assert code == 0 and kept == whole
        ends = 0 if "" in blank and blank[-1] == "" else len(blank)
        assert len(rows) == len(whole) + 2 * len(blank) + ends
        assert [row["number"] == "" for row in rows] == [
            not line.strip(",") for line in text[1 : 1 + len(rows)]
        ]
        assert ("an empty answer" in err) == bool(blank)
    (tmp_path / "gap.csv").write_text(lines[0] + "\n,,,\n")
    assert "holds no value below its header" in run("predict", model, tmp_path / "gap.csv")[2]


@pytest.mark.parametrize("gap", ["", "n/a"])
def test_a_row_of_its_number_alone_gets_no_answer(gap, run, tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"{i},{0.37 * (i * 7 % 11)},{'ab'[i % 2]},{i * 7 % 11}.5" for i in range(40)]
    path.write_text("\n".join(["row,x,kind,number", *rows]) + "\n")
    model = trained(run, path, "number", "kind")
    rows[3], rows[5] = f"3,{gap},a,", f",{gap},,"
    path.write_text("\n".join(["row,x,kind,number", *rows]) + "\n")
    code, out, err = run("predict", model, path)
    answers = [row["number"] for row in rows_of(out)]
    assert code == 0 and [i for i, answer in enumerate(answers) if not answer] == [3, 5]
    assert "columns that the model uses" in err and "line 5" in err
    path.write_text("row,x,kind,number\n1,,a,\n2,,b,\n")
    assert "in the columns that the model uses" in run("predict", model, path)[2]

"""Tables as people have them: each ends in a trained model, every decision said in one line, or in
an error that names the place and the cure."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from one_line import assert_one_line

N = 24
CLASS = ["no" if i % 3 else "yes" for i in range(N)]


def lines(*columns, head="a,b,y", sep=","):
    """A table of these columns of cells; numbers for a column of None."""
    rows = [sep.join(str(c[i]) for c in columns) for i in range(len(columns[0]))]
    return "\n".join([head, *rows] if head else rows) + "\n"


def numbers(form="{:.2f}", scale=1.0):
    return [form.format(scale * (i * 7 % 11 + i / 10)) for i in range(N)]


def changed(cells, **at):
    """The cells, some of them changed: ``_3="x"`` changes the third from 0."""
    cells = list(cells)
    for place, cell in at.items():
        cells[int(place[1:])] = cell
    return cells


def euro(cells):
    return [cell.replace(".", ",") for cell in cells]


A, B = numbers(), numbers("{:.3f}", -0.37)
TRAINS = {
    "plain": (lines(A, B, CLASS), ["2 classes: no, yes"]),
    "a mark of the byte order": ("\ufeff" + lines(A, B, CLASS), ["2 classes"]),
    "carriage returns": (lines(A, B, CLASS).replace("\n", "\r\n"), ["2 classes"]),
    "semicolons": (lines(A, B, CLASS, head="a;b;y", sep=";"), ["2 classes"]),
    "tabs": (lines(A, B, CLASS, head="a\tb\ty", sep="\t"), ["2 classes"]),
    "bars": (lines(A, B, CLASS, head="a|b|y", sep="|"), ["2 classes"]),
    "spaces around cells": (lines(A, B, CLASS, head="a , b , y", sep=" , "), ["2 classes"]),
    "classes with spaces behind": (
        lines(A, B, changed(CLASS, _0="yes ", _1=" no")),
        ["2 classes: no, yes"],
    ),
    "decimal commas": (
        lines(euro(A), euro(B), CLASS, head="a;b;y", sep=";"),
        ["column a: 0,00 is read as 0"],
    ),
    "decimal commas in quotes": (
        lines([f'"{c}"' for c in euro(A)], [f'"{c}"' for c in euro(B)], CLASS),
        ["column a: 0,00 is read as 0"],
    ),
    "thousands in quotes": (
        lines([f'"{i + 1},{i * 7 % 900 + 100}"' for i in range(N)], A, CLASS),
        ["column a: 1,100 is read as 1100"],
    ),
    "thousands with points": (
        lines(
            [f"{i + 1}.{i * 7 % 900 + 100},5" for i in range(N)],
            euro(B),
            CLASS,
            sep=";",
            head="a;b;y",
        ),
        ["column a: 1.100,5 is read as 1100.5"],
    ),
    "thousands with spaces": (
        lines([f"{i + 1} {i * 7 % 900 + 100}" for i in range(N)], B, CLASS),
        ["2 classes"],
    ),
    "thousands under semicolons are decimals": (
        lines(
            [f"{i + 1},{i * 7 % 900 + 100}" for i in range(N)],
            numbers("{:.0f}"),
            CLASS,
            head="a;b;y",
            sep=";",
        ),
        ["column a: 1,100 is read as 1.1"],
    ),
    "per cent and money": (
        lines([f"{c}%" for c in A], [f"$ {c}" for c in numbers()], CLASS),
        ["2 classes"],
    ),
    "one inf": (
        lines(changed(A, _5="inf"), B, CLASS),
        ["column a: 1 cell without a number, 'inf' (line 7): gaps", "1 gap filled with the median"],
    ),
    "n.d.": (
        lines(changed(A, _5="n.d.", _9="N/A", _11="-"), B, CLASS),
        ["column a: 3 gaps filled with the median 7.3 (written"],
    ),
    "a word of its own for a gap": (
        lines(changed(A, _2="below limit", _7="below limit"), B, CLASS),
        ["2 cells without a number, 'below limit' (line 4), 'below limit' (line 9): gaps"],
    ),
    "the index of pandas": (
        lines(range(N), A, B, CLASS, head=",a,b,y"),
        ["column 1 without a name is called column1", "column column1 counts the rows, left out"],
    ),
    "a number for each row": (
        lines(range(1, N + 1), A, CLASS, head="id,a,y"),
        ["column id counts the rows, left out"],
    ),
    "row names of R": (
        lines([f'"{i}"' for i in range(1, N + 1)], A, B, CLASS),
        ["the rows have one cell more than the header"],
    ),
    "two columns of one name": (
        lines(A, B, CLASS, head="a,a,y"),
        ["a second column named a is called a.2"],
    ),
    "no header": (
        lines(A, B, CLASS, head=""),
        ["line 1 holds data: no header, the columns are column1, column2, column3"],
        "column3",
    ),
    "no header and numbers alone": (
        lines(A, B, numbers("{:.1f}"), head=""),
        ["no header"],
        "column2",
    ),
    "a header that begins with a hash": (lines(A, B, CLASS, head="# a,b,y"), ["2 classes"]),
    "comments on top": (
        "# measured in May\n" + lines(A, B, CLASS),
        ["1 line that begins with # left out"],
    ),
    "empty lines": (lines(A, B, CLASS).replace("\n", "\n\n"), ["2 classes"]),
    "rows of separators": (lines(A, B, CLASS) + ",,\n,,\n", ["2 classes"]),
    "separators at the end of each line": (
        lines(A, B, CLASS, [""] * N, head="a,b,y,"),
        ["2 classes"],
    ),
    "separators at the end of rows": (lines(A, B, [c + "," for c in CLASS]), ["2 classes"]),
    "an empty column": (lines(A, [""] * N, CLASS), ["column b is empty, left out"]),
    "a constant column": (lines(A, ["3.5"] * N, CLASS), ["column b is 3.5 in every row, left out"]),
    "latin-1": (
        lines(A, ["Zürich" if i % 2 else "Genf" for i in range(N)], CLASS).encode("latin-1"),
        ["not UTF-8 (line 3): read as Windows-1252", "column b: 2 words, one input of 0 or 1 each"],
    ),
    "utf-16": (lines(A, B, CLASS).encode("utf-16"), ["read as UTF-16"]),
    "cells over two lines": (
        lines(A, ['"two\nlines"' if i % 2 else "one" for i in range(N)], CLASS),
        ["column b: 2 words"],
    ),
    "gaps in the target": (
        lines(A, B, changed(CLASS, _3="", _4="NA")),
        ["2 rows without y left out"],
    ),
    "codes of seven digits": (
        lines(A, B, [1234561 + i % 3 for i in range(N)]),
        ["3 classes: 1234561, 1234562, 1234563"],
    ),
    "large whole targets": (
        lines(A, B, [20_000_000 + 999 * i for i in range(N)]),
        ["y holds 24 whole numbers, predicted as a number"],
    ),
    "a target with commas": (
        lines(euro(A), euro(B), euro(numbers("{:.1f}")), head="a;b;y", sep=";"),
        ["the loss is in units of the target's deviation"],
    ),
    "numbers beyond float32": (lines(numbers("{:.2e}", 1e200), B, CLASS), ["2 classes"]),
    "classes in capitals": (
        lines(A, B, changed(CLASS, _0="YES")),
        [
            "3 classes: YES, no, yes",
            "classes that differ in capitals alone are kept apart: 'YES' and 'yes'",
        ],
    ),
    "a target with a word or two": (
        lines(A, changed(B, _3="error"), changed(numbers("{:.1f}"), _4="broken")),
        ["y: 'broken' (line 6) is no number", "1 row without y left out"],
    ),
}


@pytest.mark.parametrize("name", TRAINS)
def test_a_messy_table_trains_and_says_what_was_decided(name, run, tmp_path):
    content, notes, *target = TRAINS[name]
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    words = ["--target", *(target or ["y"]), "--hidden", 0, "--epochs", 1, "--lr", 0.01, "--json"]
    code, out, err = run("train", path, *words)
    assert code == 0, err
    assert np.isfinite(json.loads(out)["final"]["val_loss"])
    for note in notes:
        assert sum(note in line for line in err.splitlines()) == 1, err


REFUSED = {
    "a target twice": (lines(A, B, CLASS, head="a,y,y"), [], "2 columns named y: rename all but"),
    "a short row": (
        lines(A, B, changed(CLASS, _4="no\n1,2")),
        [],
        "line 7: 2 cells, expected 3 (a, b, y); mend or delete the line",
    ),
    "a separator in a cell": (
        lines(A, B, changed(CLASS, _4="no, really")),
        [],
        "line 6: 4 cells, expected 3 (a, b, y); mend or delete the line, or put quotes",
    ),
    "points and commas": (
        lines(changed(A, _3="1,5"), B, CLASS, head="a;b;y", sep=";"),
        [],
        "column a holds 0.00 (line 2) and 1,5 (line 5): write all its numbers one way",
    ),
    "commas that could be either": (
        lines(
            [f"{i + 1},{i * 7 % 900 + 100}" for i in range(N)],
            numbers("{:.0f}"),
            CLASS,
            head="a\tb\ty",
            sep="\t",
        ),
        [],
        "column a: 1,100 (line 2) may have thousands or a decimal comma: say --decimal",
    ),
    "words among numbers": (
        lines(
            [f"{i}.5" if i % 3 else f"about {i}" for i in range(72)],
            numbers() * 3,
            CLASS * 3,
        ),
        [],
        "leave it out with --drop a, or write numbers (24 of its 72 cells are no numbers, the "
        "first is 'about 0' (line 2))",
    ),
    "a word under --task regression": (
        lines(A, B, CLASS),
        ["--task", "regression"],
        "--task regression: y holds 'yes' (line 2), which is no number",
    ),
    "a zero byte": (lines(A, B, CLASS) + "\0", [], "it holds a zero byte; save it as CSV"),
    "nothing": ("", [], "is empty"),
    "names alone": ("a,b,y\n", [], "holds no rows below its header"),
    "the target dropped": (lines(A, B, CLASS), ["--drop", "y"], "--drop y: it is the target"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_cannot_be_used_is_named_with_its_cure(name, run, tmp_path):
    content, options, message = REFUSED[name]
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode())
    code, out, err = run("train", path, "--target", "y", *options)
    assert (code, out) == (2, "")
    assert_one_line(err)
    assert message in err


def test_the_options_decide_where_the_table_does_not(run, tmp_path):
    path = tmp_path / "t.tsv"
    column = [f"{i + 1},{i * 7 % 900 + 100}" for i in range(N)]
    path.write_text(lines(column, [i % 4 for i in range(N)], head="a\ty", sep="\t"))
    words = ["train", path, "--target", "y", "--hidden", 0, "--epochs", 1, "--lr", 0.01, "--json"]
    for decimal, number in ((".", "1100"), (",", "1.1")):
        code, _, err = run(*words, "--decimal", decimal)
        assert code == 0 and f"column a: 1,100 is read as {number} (line 2)\n" in err
    assert "4 classes" in run(*words, "--decimal", ".")[2]
    assert "r2" in run(*words, "--decimal", ".", "--task", "regression")[1]


def test_a_cell_of_any_length_is_read(run, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(lines(A, ["x" * 200_000 if i % 2 else "z" for i in range(N)], CLASS))
    code, _, err = run("train", path, "--target", "y", "--epochs", 1, "--lr", 0.01, "--json")
    assert code == 0 and len(err) < 1000


DATES = ["2024-03-01", "01.03.2024", "3/1/24", "2024-03-01 12:30", "12:30", "1 Mar 2024", "Mar 1"]


@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize("many", [True, False])
def test_dates_are_called_that_with_the_way_out(run, tmp_path, date, many):
    digit = max(i for i, sign in enumerate(date) if sign.isdigit())
    cells = [date[:digit] + str(i if many else i % 3) + date[digit + 1 :] for i in range(72)]
    rows = [f"{cell},{i % 7},{i % 2}" for i, cell in enumerate(cells)]
    (tmp_path / "t.csv").write_text("\n".join(["when,a,y", *rows]) + "\n")
    words = ["train", tmp_path / "t.csv", "--target", "y", "--epochs", 1, "--lr", 0.1, "--json"]
    code, _, err = run(*words)
    assert code == 2 if many else code in (0, 3)  # one epoch may end anywhere
    assert "column when holds dates or times" in err and "--drop when" in err
    assert run(*words, "--drop", "when")[0] in (0, 3)


def test_a_column_that_counts_the_rows_is_left_out_by_name_or_hinted_at(run, tmp_path):
    for name in ("Id", "patient_number"):
        rows = [f"{i + 1},{i % 7},{i % 2}" for i in range(72)]
        (tmp_path / "t.csv").write_text("\n".join([f"{name},a,y", *rows]) + "\n")
        words = ["train", tmp_path / "t.csv", "--target", "y", "--epochs", 1, "--lr", 0.1]
        code, _, err = run(*words)
        assert code in (0, 3) and f"column {name} counts the rows" in err
        assert ("left out" in err) != (f"--drop {name}" in err)


def test_one_thing_is_told_in_the_singular(run, tmp_path):
    (tmp_path / "t.csv").write_text("# from a lab\na,b,y\n1,2,3\n1,2,\n")
    code, _, err = run("train", tmp_path / "t.csv", "--target", "y")
    assert code == 2 and "has 1 usable row, too few" in err
    assert not re.search(r"\b1 [a-z ]*(rows|cells|gaps|lines|words)\b", err), err

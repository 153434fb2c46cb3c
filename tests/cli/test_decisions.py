"""What is decided about the columns of a table is told in one line, kept with the model, and
decided alike when it predicts; what cannot be decided is refused by line and column."""

from __future__ import annotations

import json

import numpy as np
import pytest

from one_line import assert_one_line
from stepsize.cli.errors import CommandError
from stepsize.cli.matching import fitted
from stepsize.cli.preparation import encode
from stepsize.cli.reading import read_table
from stepsize.cli.tables import load_table

N = 24
A = [round(1234.5 + 137.25 * (i * 7 % 11) + i, 2) for i in range(N)]
B = [f"{-0.37 * (i * 5 % 13) + 0.1 * i:.3f}" for i in range(N)]
Y = ["yes" if i % 3 == 0 else "no" for i in range(N)]


def table(path, column, name="a", y=Y, sep=",", encoding="utf-8", b=B):
    rows = [sep.join(map(str, cells)) for cells in zip(column, b, y, strict=True)]
    path.write_bytes("\n".join([sep.join([name, "b", "y"]), *rows, ""]).encode(encoding))
    return path


def load(path, **options):
    return load_table(path, "y", (), [], 0, **options)


def inputs(prepared):
    """The inputs of all rows, in the order of the split."""
    return np.vstack([prepared.problem.train[0], prepared.problem.validation[0]])


def comma(text):
    return str(text).replace(".", ",")


# How people write numbers: the text, and what is to be said of it.
NOTATIONS = {
    "plain": (lambda n: f"{n}", ""),
    "thousands": (lambda n: f'"{n:,.2f}"', "1,234.50 is read as 1234.5"),
    "points": (lambda n: comma(f"{n:_.2f}").replace("_", "."), "1.234,50 is read as 1234.5"),
    "spaces": (lambda n: f"{n:_.2f}".replace("_", " "), "1 234.50 is read as 1234.5"),
    "no-break spaces": (lambda n: f"{n:_.2f}".replace("_", "\u00a0"), "1 234.50 is read as"),
    "apostrophes": (lambda n: f"{n:_.2f}".replace("_", "'"), "1'234.50 is read as 1234.5"),
    "underscores": (lambda n: f"{n:_.2f}", "1_234.50 is read as 1234.5"),
    "dollars": (lambda n: f'"${n:,.2f}"', "$1,234.50 is read as 1234.5"),
    "euros behind": (lambda n: comma(f"{n:.2f} €"), "1234,50 € is read as 1234.5"),
    "per cent": (lambda n: f"{100 * n:.0f}%", "123450% is read as 1234.5"),
    "exponents": (lambda n: f"{round(100 * n)}e-2", "123450e-2 is read as 1234.5"),
    "spaces around": (lambda n: f"  {n} ", ""),
    "plus": (lambda n: f"+{n}", ""),
}
SEPARATORS, ENCODINGS = (",", ";", "\t", "|"), ("utf-8-sig", "utf-16", "cp1252", "utf-32")


@pytest.mark.parametrize("notation", NOTATIONS)
def test_numbers_mean_the_same_however_they_are_written_or_it_is_refused(notation, tmp_path):
    write, said = NOTATIONS[notation]
    plain = inputs(load(table(tmp_path / "plain.csv", A)))
    # Each separator with each encoding, over four notations.
    first = list(NOTATIONS).index(notation)
    for sep, encoding in zip(SEPARATORS, (2 * ENCODINGS)[first % 4 :], strict=False):
        cells = [write(n) for n in A]
        other = [comma(b) for b in B] if "," in said.partition(" is")[0][-3:] else B
        if sep == "," and '"' not in cells[0]:
            cells, other = ([f'"{cell}"' for cell in column] for column in (cells, other))
        path = table(tmp_path / "t.csv", cells, sep=sep, encoding=encoding, b=other)
        prepared = load(path)
        assert np.allclose(inputs(prepared), plain, atol=1e-5), (sep, encoding)
        assert any(f"column a: {said}" in note for note in prepared.notes) or not said


TOLD = {  # a column of cells, and what is said of it
    "codes": ([f"{i % 7:03}" for i in range(N)], "column a: 000 (line 2) begins with 0, a code"),
    "many codes": ([f"{i:04}" for i in range(96)], "column a holds 96 different codes, left out"),
    "-999": ([-999 if i % 9 == 4 else i % 7 for i in range(N)], "a: -999 (3 cells, the first in"),
    "-9999.0": ([-9999.0 if i == 4 else i % 7 for i in range(N)], "-9999 (1 cell, the first in"),
    "9999": ([9999 if i == 4 else i % 7 for i in range(N)], "9999 (1 cell, the first in line 6)"),
    "? and NA": (
        ["?" if i == 3 else "n/a" if i == 5 else i % 7 for i in range(N)],
        "2 gaps filled with the median 2 (written '?', 'n/a')",
    ),
    "gaps among words": (
        ["NA" if i == 3 else "" if i == 5 else "uv"[i % 2] for i in range(N)],
        "column a: 2 gaps, the word '' (written 'NA' or empty)",
    ),
    "whole exponents": ([f"{1 + i % 7}e5" for i in range(N)], "column a: 1e5 is read as 100000"),
    "booleans": (["TRUE" if i % 2 else "FALSE" for i in range(N)], "2 words, one input of 0 or 1"),
    "yes and no": (["yes" if i % 2 else "no" for i in range(N)], "('no', 'yes')"),
    "hex": ([f"0x{i % 7}F" for i in range(N)], "column a: 7 words, one input of 0 or 1 each"),
    "inf": (["inf" if i == 3 else i % 7 for i in range(N)], "without a number, 'inf' (line 5)"),
    "beyond float64": (["-1e400" if i == 3 else i % 7 for i in range(N)], "'-1e400' (line 5)"),
    "dates": (
        [f"2024-03-{1 + i:02}" for i in range(N)],
        "column a holds dates or times (year-month-day), read as days since 1970-01-01: "
        "2024-03-01 is 19783; --drop a",
    ),
    "German dates": ([f"{1 + i}.3.2024" for i in range(N)], "(day.month.year), read as days"),
    "American dates": ([f"3/{1 + i}/2024" for i in range(N)], "(month/day/year), read as days"),
    "compact dates": ([20240301 + i for i in range(N)], "(yearmonthday), read as days", "date"),
    "times": ([f"{i % 24}:30" for i in range(N)], "(hour:minute), read as hours: 0:30 is 0.5"),
    "times of twelve hours": (
        [f"{(i + 5) % 12 + 1}:10 {'PM' if i % 24 >= 6 else 'am'}" for i in range(N)],
        "(hour:minute), read as hours: 6:10 am is 6.166",
    ),
    "noon and midnight": (["12:00 AM", "12:30 p.m."] * (N // 2), "read as hours: 12:00 AM is 0;"),
    "debits": ([f"({i % 7}.5)" if i % 2 else i % 7 for i in range(N)], "(1.5) is read as -1.5"),
    "moments": ([f"2024-03-01T{i:02}:00:00Z" for i in range(N)], "(year-month-day), read as days"),
    "months by name": ([f"{1 + i} Mar 2024" for i in range(N)], "(day month year), read as days"),
    "a row number is missing": (
        ["" if i == 7 else i + 1 for i in range(N)],
        "column id counts the rows, left out",
        "id",
    ),
    "a row is missing": ([i + (i > 7) for i in range(N)], "column a counts the rows; if it tells"),
    "an index without a name": (range(N), "column column1 counts the rows, left out", ""),
    "an id": ([i * 7919 % 1009 for i in range(N)], "another whole number in every row", "user_id"),
    "names": ([f"name{i}" for i in range(N)], "column a: 24 different words in 24 rows, left out"),
    "one word": (["x"] * N, "column a: 'x' in 24 rows, left out"),
    "one number": ([3.5] * N, "column a is 3.5 in every row, left out"),
    "one number and gaps": ([3.5 if i % 2 else "" for i in range(N)], "in every row that has it"),
    "huge ints": ([10**20 + i * 10**3 for i in range(N)], "has more digits than a number keeps"),
    "the target": (Y, "column a tells y in every row; if it is not known before the answer"),
    "the target as numbers": ([i % 3 == 0 for i in range(N)], "column a tells y in every row"),
    "a name twice": (A, "a second column named b is called b.2", "b"),
    "zero-width signs": ([f"\u200b{n}" for n in A], "signs that cannot be seen (the first in line"),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_decision_is_told_and_made_alike_when_it_predicts(name, tmp_path):
    cells, said, *head = TOLD[name]
    copies = len(cells) // N
    path = table(tmp_path / "t.csv", cells, *head, y=Y * copies, b=B * copies)
    prepared = load(path)
    assert sum(said in note for note in prepared.notes) == 1, prepared.notes
    assert all("\n" not in note for note in prepared.notes)
    names = [column.name for column in prepared.columns]
    new = read_table(path, [*names, "y"], keep_blank=True)
    again = encode(fitted(new, prepared.columns, None), new.frame)
    assert np.array_equal(np.sort(again, axis=0), np.sort(inputs(prepared), axis=0))


def test_codes_for_gaps_do_not_shift_the_other_numbers(tmp_path):
    cells = [-999 if i % 9 == 4 else i % 7 for i in range(N)]
    gaps = ["" if cell == -999 else cell for cell in cells]
    coded, empty = (load(table(tmp_path / "t.csv", column)) for column in (cells, gaps))
    assert np.array_equal(inputs(coded), inputs(empty))


def test_days_between_dates_are_what_they_are(tmp_path):
    days = [0, 1, 31, 59, 60, 365, 366, 731] * 3
    first = np.datetime64("2023-01-01")
    forms = [str(first + d) for d in days]
    dated, counted = (load(table(tmp_path / "t.csv", c)) for c in (forms, [f"{d}.5" for d in days]))
    assert np.allclose(inputs(dated), inputs(counted), atol=1e-5)


REFUSED = {
    "per cent and not": ([f"{i}%" if i % 2 else f"{i}" for i in range(N)], "0 (line 2) and 1%"),
    "two currencies": ([f"{'$€'[i % 2]}{i}" for i in range(N)], "$0 (line 2) and €1 (line 3)"),
    "dates of two readings": (
        [f"0{1 + i % 3}/0{2 + i % 5}/2024" for i in range(N)],
        "column a: 01/02/2024 (line 2) may be day/month or month/day",
    ),
    "a quote that is not closed": ([*A[:-3], '"x', *A[-2:]], "line 23: a quote opens here"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_decided_is_refused_by_line_and_column(name, tmp_path):
    cells, said = REFUSED[name]
    with pytest.raises(CommandError) as refused:
        load(table(tmp_path / "t.csv", cells))
    text = str(refused.value)
    assert said in text and ("column a" in text or "line" in text)
    assert any(cure in text for cure in ("--drop a", "write", "close it"))


TARGETS = {
    "codes": ([f"{i % 3:03}" for i in range(N)], "3 classes: 000, 001, 002"),
    "a code for a gap": ([-999 if i < 3 else i % 2 for i in range(N)], "2 classes: 0, 1"),
    "a class of one row": (["z" if i == 3 else Y[i] for i in range(N)], "1 class of one row: 'z'"),
    "gaps by a word": (["none" if i < 3 else Y[i] for i in range(N)], "(written 'none')"),
    "per cent": ([f"{i}%" for i in range(N)], "column y: 0% is read as 0"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_decisions_about_the_target_are_told(name, tmp_path):
    cells, said = TARGETS[name]
    prepared = load(table(tmp_path / "t.csv", A, y=cells))
    assert sum(said in note for note in prepared.notes) == 1, prepared.notes


GROUPED = [f'"${1000 + 250 * i:,}"' for i in range(N)]
PLAIN_GROUPED = [f'"{1000 + 250 * i:,}"' for i in range(N)]
POINTS = [comma(f"{1000.5 + 250 * i:_.2f}").replace("_", ".").join('""') for i in range(N)]
CHANGED = {  # trained on, then seen: what is said of it
    "another unit": ([f"{i}%" for i in range(N)], ["5", "6"], "holds 5 (line 2), and was trained"),
    "a unit": ([f"{i}.5" for i in range(N)], ["5%", "6%"], "trained on numbers without a unit"),
    "another currency": ([f"${i}" for i in range(N)], ["5 €"], "trained on numbers in $"),
    "a point for thousands": (GROUPED, ["$1.000", "$2.500"], "$1.000 (line 2) may hold thousands"),
    "a comma and two digits": (GROUPED, ["$900", '"$1,00"'], "$1,00 (line 3) may hold thousands"),
    "a comma and four digits": (GROUPED, ['"$1,0000"'], "$1,0000 (line 2) may hold thousands"),
    "without a currency": (PLAIN_GROUPED, ["1.000"], "1.000 (line 2) may hold thousands"),
    "points trained on": (POINTS, ['"1,000"', '"2,500"'], "1,000 (line 2) may hold thousands"),
    "both for thousands": (
        [f"${i}" for i in range(N)],
        ['"$1,000"', "$1.000"],
        "holds $1.000 (line 3) and $1,000 (line 2)",
    ),
    "words": ([f"{i}.5" for i in range(N)], ["x", "y"], "'x' (line 2) is not a number"),
    "other dates": ([f"2024-03-{1 + i:02}" for i in range(N)], ["1.3.2024"], "is not a date"),
    "both signs": ([f"{i}.5" for i in range(N)], ["1.5", '"1,5"'], "holds 1.5 (line 2) and 1,5"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_cells_that_would_mean_something_else_are_refused(name, tmp_path):
    cells, new, said = CHANGED[name]
    prepared = load(table(tmp_path / "t.csv", cells))
    seen = read_table(table(tmp_path / "new.csv", new, b=B[: len(new)], y=Y[: len(new)]), ["a"])
    with pytest.raises(CommandError, match="column a") as refused:
        fitted(seen, prepared.columns, None)
    assert said in str(refused.value)


@pytest.mark.parametrize("decimal, numbers", [(".", [1.0, 2.5]), (",", [1000.0, 2500.0])])
def test_the_sign_that_is_given_decides(decimal, numbers, tmp_path):
    prepared = load(table(tmp_path / "t.csv", GROUPED))
    new = table(tmp_path / "new.csv", ["$1.000", "$2.500"], b=B[:2], y=Y[:2])
    seen = read_table(new, ["a"])
    column = fitted(seen, prepared.columns[:1], decimal)[0]
    assert column.numbers(seen.frame["a"]).tolist() == numbers
    assert any(f"$1.000 is read as {numbers[0]:g} (line 2)" in note for note in seen.notes)


def test_a_table_in_another_notation_that_proves_it_is_read(tmp_path):
    prepared = load(table(tmp_path / "t.csv", GROUPED))
    new = table(tmp_path / "new.csv", ['"$1.234,50"', "$2.500"], b=B[:2], y=Y[:2])
    seen = read_table(new, ["a"])
    column = fitted(seen, prepared.columns, None)[0]
    assert column.numbers(seen.frame["a"]).tolist() == [1234.5, 2500.0]


@pytest.mark.parametrize("one", ["1.000", "$1.000"])
def test_a_point_for_thousands_is_never_read_silently(one, tmp_path):
    whole = [str(i) for i in range(N)]
    prepared = load(table(tmp_path / "t.csv", [*[f"1{i}0" for i in range(1, N)], one], b=whole))
    assert any(f"{one} (line {N + 1}) is read as 1;" in note for note in prepared.notes)
    with pytest.raises(CommandError, match=r"column a holds .*1\.000 \(line 24\) and \$1,250"):
        load(table(tmp_path / "t.csv", [*GROUPED[1:-1], "$1.000", "$900"], b=whole))


@pytest.mark.parametrize("name", ["a", "y"])
def test_words_that_differ_in_capitals_are_said_to_be_kept_apart(name, tmp_path):
    cells = [("Red", "red", "blue")[i % 3] for i in range(N)]
    columns = {"column": A, "y": Y} | {"column" if name == "a" else "y": cells}
    prepared = load(table(tmp_path / "t.csv", **columns))
    said = [note for note in prepared.notes if "'Red' and 'red'" in note]
    assert len(said) == 1 and "kept apart" in said[0]
    found = prepared.target if name == "y" else prepared.columns[0]
    assert found.words == ("Red", "blue", "red")


def test_numbers_far_outside_of_the_training_are_told(tmp_path):
    prepared = load(table(tmp_path / "t.csv", [f"{i % 7}.5" for i in range(N)]))
    seen = read_table(table(tmp_path / "new.csv", ["1", "-999"], b=B[:2], y=Y[:2]), ["a"])
    fitted(seen, prepared.columns, None)
    assert any("far outside" in note and "-999 (line 3)" in note for note in seen.notes)


def test_the_decisions_are_in_the_json(run, tmp_path):
    path = table(tmp_path / "t.csv", [f"{i}%" for i in range(N)])
    model = tmp_path / "m.safetensors"
    words = ["train", path, "--target", "y", "--hidden", 0, "--epochs", 1, "--lr", 0.01, "--json"]
    code, out, err = run(*words, "--save", model)
    told = json.loads(out)
    assert code == 0 and told["decisions"] == err.splitlines()
    assert [c["unit"] for c in told["columns"]] == ["%", ""] and told["target"]["words"]
    code, out, err = run("predict", model, path, "--json")
    told = json.loads(out)
    assert code == 0 and told["decisions"] == err.splitlines()
    assert [row["line"] for row in told["answers"]] == list(range(2, N + 2))


@pytest.mark.parametrize("content", [b"y,a\n1,\xff\xfe" + "ä".encode() * 9, b"\xff\xfea\0,"])
def test_a_damaged_text_is_named(run, tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    code, _, err = run("train", tmp_path / "t.csv", "--target", "y")
    assert code == 2
    assert_one_line(err)
    assert "line" in err


def test_a_cell_more_than_the_header_is_no_name_of_a_row_where_it_is_a_number(tmp_path):
    path = tmp_path / "t.csv"
    for first, named in ((["x", "y"], True), (["1", "2"], True), (["1", "0.3"], False)):
        path.write_text("a,b,c\n" + "".join(f"{cell},2,0.5,9\n" for cell in first))
        if named:
            assert list(read_table(path).frame["c"]) == ["9", "9"]
        else:
            with pytest.raises(CommandError, match=r"line 2: every row has one cell more"):
                read_table(path)


def test_a_number_too_large_for_an_answer_is_refused_by_its_line(run, tmp_path):
    path = table(tmp_path / "t.csv", A, y=B)
    model = tmp_path / "m.safetensors"
    assert run("train", path, "--target", "y", "--epochs", 1, "--lr", 0.01, "--save", model)[0] == 0
    path.write_text("a,b\n1,1\n1e300,1\n")
    code, out, err = run("predict", model, path)
    assert code == 2 and not out and "line 3: there is no finite answer" in err

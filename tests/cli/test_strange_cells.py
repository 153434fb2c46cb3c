"""A cell that is not what the column holds otherwise: training and predictions decide alike."""

import pytest

from stepsize.cli.main import main

ROWS = 40


def table(path, cells=None, name="a"):
    lines = [f"{name},kind,y"]
    for i in range(ROWS):
        cell = (cells or {}).get(i, f"{i / 4 + 1:.2f}")
        lines.append(f"{cell},{'xyz'[i % 3]},{3 * i + i % 3}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    given = ["--target", "y", "--epochs", "1", "--lr", "0.01", "--save", str(folder / "model")]
    assert main(["train", table(folder / "t.csv"), *given]) in (0, 3)
    return str(folder / "model")


def both(model, path, capsys):
    """Exit code and standard error of a training on a table, and of predictions for it."""
    for words in (["train", path, "--target", "y", "--epochs", "1", "--lr", "0.01"],
                  ["predict", model, path]):  # fmt: skip
        code = main(words)
        yield code, capsys.readouterr().err


AMOUNTS = ["<0.05", ">= 12", "~7", "5-10", "3 (est.)", "2024-01-02", "\u00b13", "ca. 4"]


@pytest.mark.parametrize("cell", AMOUNTS)
def test_an_amount_that_cannot_be_read_is_no_gap(cell, model, tmp_path, capsys):
    path = table(tmp_path / "t.csv", {3: cell, 9: cell})
    for code, err in both(model, path, capsys):
        assert code == 2
        assert f"column a holds {cell!r} (line 5), {cell!r} (line 11) among its numbers" in err


@pytest.mark.parametrize("cell", ["ill", "1e999", "inf", "true"])
def test_words_among_numbers_are_gaps_and_each_is_told(cell, model, tmp_path, capsys):
    path = table(tmp_path / "t.csv", {3: cell, 9: cell})
    for code, err in both(model, path, capsys):
        assert code in (0, 3)
        assert f"2 cells without a number, {cell!r} (line 5), {cell!r} (line 11)" in err


def test_a_unit_where_training_had_none_is_refused(model, tmp_path, capsys):
    path = table(tmp_path / "t.csv", {i: f"{i / 4 + 1:.2f} kg" for i in range(ROWS)})
    assert main(["predict", model, path]) == 2
    assert "column a holds 1.00 kg (line 2), and was trained on numbers without a unit" in (
        capsys.readouterr().err
    )


def test_every_other_cell_that_training_did_not_see_is_told(model, tmp_path, capsys):
    path = table(tmp_path / "t.csv", {3: "1000.00", 9: "2000.00"})
    text = (tmp_path / "t.csv").read_text().replace(",x,0\n", ",q,0\n").replace(",y,3", ",r,3", 1)
    (tmp_path / "t.csv").write_text(text)
    assert main(["predict", model, path]) == 0
    err = capsys.readouterr().err
    assert "1 to 10.75: 1000.00 (line 5), 2000.00 (line 11)" in err
    assert "words that were not trained on, 'q' (line 2), 'r' (line" in err

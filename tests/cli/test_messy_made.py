"""Tables made messy from a clean one: each gives the model that the clean one gives, every decision
told, or an error that names the place and the cure; none is read wrongly in silence."""

from __future__ import annotations

import json

import numpy as np
import pytest

import messy
from one_line import assert_one_line

MADE = messy.made()
TRAINED = [one for one in MADE if one.meant]
REFUSED = [one for one in MADE if not one.meant]
QUICK = ["--epochs", 30, "--lr", 0.1, "--hidden", 0, "--json"]


def train(run, folder, name, data, target, *words):
    """What training on the table prints as JSON, with the answers that its model then gives it."""
    folder.mkdir(exist_ok=True)
    path, model = folder / name, folder / "model"
    path.write_bytes(data)
    code, out, err = run("train", path, "--target", target, *words, "--save", model, *QUICK)
    if code not in (0, 3):
        return code, out, err
    found = json.loads(out)
    predicted, out, _ = run("predict", model, path, *words, "--json")
    assert predicted == 0
    found["answers"] = [
        (row[target], float(row["probability"]))
        for row in json.loads(out)["answers"]
        if row[target]  # empty where a line is
    ]
    return code, found, err


@pytest.fixture(scope="module")
def cleanly():
    """What the clean tables give, each trained once."""
    return {}


def test_there_are_many_and_they_are_the_same_every_time():
    assert len(MADE) >= 40 and len({one.name for one in MADE}) == len(MADE)
    again = messy.made()
    for one, other in zip(MADE, again, strict=True):
        if "excel" not in one.name and one.file != "t.zip":  # these hold the time
            assert one == other


@pytest.mark.parametrize("one", TRAINED, ids=lambda one: one.name)
def test_a_messy_table_gives_the_model_of_the_clean_one(one, run, tmp_path, cleanly):
    if one.meant not in cleanly:
        cleanly[one.meant] = train(run, tmp_path, "clean.csv", one.meant.encode(), "bought")[1]
    wanted = cleanly[one.meant]
    code, found, err = train(run, tmp_path / "m", one.file, one.data, one.target, *one.words)
    assert code == 0, err
    assert found["decisions"] == err.splitlines()
    for told in one.told:
        assert any(told in note for note in found["decisions"]), (told, found["decisions"])
    assert len(found["columns"]) == len(wanted["columns"])
    for read, meant in zip(found["columns"], wanted["columns"], strict=True):
        assert len(read["words"]) == len(meant["words"])
        numbers = ("mean", "deviation", "low", "high", "fill")
        assert [read[n] is None for n in numbers] == [meant[n] is None for n in numbers]
        for number in numbers:
            assert read[number] is None or np.isclose(read[number], meant[number], rtol=1e-9)
    assert found["target"]["words"] == wanted["target"]["words"]
    for series in ("val_loss", "val_accuracy", "epoch_loss"):
        assert found["final"][series] == pytest.approx(wanted["final"][series], rel=1e-4), series
    assert found["final"]["val_accuracy"] > 0.7
    answers, meant = zip(*found["answers"], strict=True), zip(*wanted["answers"], strict=True)
    (words, shares), (wanted_words, wanted_shares) = answers, meant
    assert words == wanted_words
    assert np.allclose(shares, wanted_shares, atol=2e-4)


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: one.name)
def test_a_table_that_cannot_be_used_ends_in_one_line_with_place_and_cure(one, run, tmp_path):
    code, out, err = train(run, tmp_path, one.file, one.data, one.target, *one.words)
    assert (code, out) == (one.code, "")
    assert_one_line(err)
    for told in one.told:
        assert told in err, err
    assert err.count(";") + err.count(":") >= 3  # what, where, and what to do

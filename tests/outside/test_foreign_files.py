"""A file that stands where a run or a command would write is replaced if it is of that kind."""

import os

import numpy as np
import pytest

import stepsize as ss
from stepsize.cli.main import main
from stepsize.serialization.replaceable import KINDS, check_replaceable

NOTES = "what I want to keep\n"


def fitted(**given):
    params = np.ones(2)
    seen = []

    def function(p, batch):
        seen.append(1)
        return float(p @ p), 2 * p

    try:
        return ss.fit(function, params, ss.SGD(params, lr=0.1), [None] * 4, epochs=1,
                      validation=[None], progress=False, count=lambda b: 1, **given)  # fmt: skip
    except OSError:
        assert not seen  # before the first batch
        raise


RUNS = {
    "checkpoint": lambda path: {"checkpoint": path},
    "Checkpoint": lambda path: {"checkpoint": ss.Checkpoint(path, every_steps=3)},
    "best": lambda path: {
        "checkpoint": ss.Checkpoint(
            path.with_name(path.name.replace("-best", "")), monitor="val_loss"
        )
    },
    "CSVLogger": lambda path: {"callbacks": [ss.CSVLogger(path)]},
    "JSONLogger": lambda path: {"callbacks": [ss.JSONLogger(path)]},
    "LivePlot": lambda path: {"callbacks": [ss.LivePlot(path)]},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_replaces_its_own_files_alone(name, tmp_path):
    path = tmp_path / {"best": "notes-best.txt", "LivePlot": "notes.png"}.get(name, "notes.txt")
    path.write_text(NOTES)
    with pytest.raises(FileExistsError, match=r"there is a file that is no .* it would be lost"):
        fitted(**RUNS[name](path))
    assert path.read_text() == NOTES and os.listdir(tmp_path) == [path.name]
    path.write_text("")  # nothing is lost
    for _ in range(2):  # and then its own
        fitted(**RUNS[name](path))
    assert path.read_bytes() not in (b"", NOTES.encode())


@pytest.mark.parametrize("name", ["checkpoint", "CSVLogger", "JSONLogger"])
def test_a_path_that_cannot_be_written_is_refused_at_the_start(name, tmp_path):
    for path, error in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "none" / "run", FileNotFoundError),
    ):
        with pytest.raises(error, match="folder"):
            fitted(**RUNS[name](path))
    assert os.listdir(tmp_path) == []


TABLE = "a,b,y\n" + "".join(f"{i},{i % 7},{3 * i + i % 7}\n" for i in range(40))
OPTIONS = {
    "--save": ["train"],
    "--checkpoint": ["train"],
    "--log": ["train"],
    "--report": ["train"],
    "--plot": ["train"],
    "--csv": ["find"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_command_replaces_no_other_file(option, tmp_path, capsys):
    table, notes = tmp_path / "table.csv", tmp_path / "notes.png"
    table.write_text(TABLE)
    for target in (table, notes):
        if target is notes:
            notes.write_text(NOTES)
        elif option == "--plot":
            continue  # its ending is no picture's
        code = main([*OPTIONS[option], str(table), "--target", "y", option, str(target)])
        assert code == 2 and "it would be lost" in capsys.readouterr().err
    assert table.read_text() == TABLE and notes.read_text() == NOTES


def test_predict_replaces_answers_of_its_model_alone(tmp_path, capsys):
    table, model, out = (tmp_path / n for n in ("table.csv", "model.safetensors", "out.csv"))
    table.write_text(TABLE)
    train = ["train", str(table), "--target", "y", "--epochs", "1", "--lr", "0.01"]
    assert main([*train, "--save", str(model)]) == 0
    predict = ["predict", str(model), str(table), "--out"]
    for path in (table, model):
        before = path.read_bytes()
        assert main([*predict, str(path)]) == 2 and path.read_bytes() == before
        assert "it would be lost" in capsys.readouterr().err
    for more in ([], ["--json"], [], []):
        assert main([*predict, str(out), *more]) == 0
    assert main([*train, "--save", str(model)]) == 0


def test_every_kind_knows_its_own_and_no_other(tmp_path):
    starts = {
        "CSV of stepsize": b"step,loss\n",
        "log of stepsize": b'{"event": "start"}\n',
        "picture": b"\x89PNG\r\n",
    }
    path = tmp_path / "file"
    ss.save(path, np.ones(2), ss.SGD(np.ones(2)))
    starts["checkpoint of stepsize"] = path.read_bytes()
    from stepsize.report import Page

    starts["report of stepsize"] = Page("x").html().encode()
    assert set(starts) == set(KINDS)
    for kind in KINDS:
        taken = []
        for name, start in starts.items():
            path.write_bytes(start)
            try:
                check_replaceable("x", path, kind)
            except FileExistsError:
                continue
            taken.append(name)
        others = ["CSV of stepsize"] if kind == "log of stepsize" else []
        assert sorted(taken) == sorted([kind, *others])
    for start in (b"MM dear diary", b"RIFF raff", b"plain words"):
        path.write_bytes(start)
        with pytest.raises(FileExistsError, match="no picture"):
            check_replaceable("x", path, "picture")


def test_a_command_writes_into_pipes_and_devices(capsys):
    words = ["schedule", "cosine(0.1, 0.0, 5)", "--steps", "4", "--csv"]
    assert main([*words, os.devnull]) == 0
    reads, writes = os.pipe()
    try:
        assert main([*words, f"/dev/fd/{writes}"]) == 0
    finally:
        os.close(writes)
    with os.fdopen(reads) as stream:
        assert stream.readline().startswith("step,")

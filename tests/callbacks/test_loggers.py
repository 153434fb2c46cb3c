"""Loggers: what they write, and that a resumed run writes what an uninterrupted one does."""

import csv
import json
import os
import sys

import numpy as np
import pytest

import stepsize as ss
from fitting import X, Y, fit, make_params


class Fail:
    """Breaks the run after a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, run):
        if run.step == self.step:
            raise RuntimeError("broken callback")


def test_csv_logger_writes_a_line_per_epoch(tmp_path):
    history = fit(make_params(), callbacks=[ss.CSVLogger(tmp_path / "log.csv")], validation=(X, Y))
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["5", "10", "15"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    values = history["val_loss"][[4, 9, 14]]
    np.testing.assert_array_equal([float(row["val_loss"]) for row in rows], values)


def test_csv_logger_makes_room_for_new_names(tmp_path):
    class Later:
        def on_epoch(self, run):
            if run.epoch == 2:
                run.metrics["late"] = 7.0

    fit(make_params(), callbacks=[Later(), ss.CSVLogger(tmp_path / "log.csv")])
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["late"] for row in rows] == ["", "7.0", "7.0"]


def test_json_logger_writes_events(tmp_path):
    history = fit(
        make_params(),
        epochs=1,
        callbacks=[ss.JSONLogger(tmp_path / "log", every=2)],
        validation=(X, Y),
    )
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["event"], line["step"]) for line in lines] == [
        ("start", 0),
        ("step", 2),
        ("step", 4),
        ("validation", 5),
        ("epoch", 5),
        ("end", 5),
    ]
    assert lines[0]["rule"] == "Adam" and lines[-1]["stopped"] == "finished 1 epoch"
    assert lines[1]["loss"] == history["loss"][1]


def test_json_has_null_for_what_is_not_finite(tmp_path):
    params = {"w": np.zeros(3, np.float32), "b": np.zeros(1)}
    fit(params, steps=1, callbacks=[ss.JSONLogger(tmp_path / "log")])
    step = json.loads((tmp_path / "log").read_text().splitlines()[1])
    assert step["update_ratio"] is None


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (ss.CSVLogger, lambda lines: lines),
        (
            ss.JSONLogger,
            lambda lines: [x for x in map(json.loads, lines) if x["event"] not in ("start", "end")],
        ),
    ],
)
def test_logs_of_a_resumed_run_are_those_of_an_uninterrupted_one(tmp_path, make, read):
    def run(name, **options):
        params = make_params()
        fit(params, callbacks=[make(tmp_path / f"{name}.log")], validation=(X, Y), **options)
        return read((tmp_path / f"{name}.log").read_text().splitlines())

    whole = run("whole")
    keeper = ss.Checkpoint(tmp_path / "c", every_steps=7, every_epochs=None)
    with pytest.raises(RuntimeError):
        fit(
            make_params(),
            callbacks=[make(tmp_path / "cut.log"), Fail(9)],
            checkpoint=keeper,
            validation=(X, Y),
        )
    with open(tmp_path / "cut.log", "a") as file:
        file.write("9,cut o")
    assert run("cut", checkpoint=keeper, resume=True) == whole


def test_any_logger_with_five_methods_will_do():
    log = []

    class Mine:
        def start(self, step, meta):
            log.append(("start", step, meta["rule"]))

        def step(self, step, values):
            log.append(("step", step, sorted(values)))

        def validation(self, step, values):
            log.append(("validation", step, sorted(values)))

        def epoch(self, step, values):
            log.append(("epoch", step, sorted(values)))

        def end(self, stopped):
            log.append(("end", stopped))

    fit(make_params(), epochs=1, callbacks=[ss.LogTo(Mine(), every=5)], validation=(X, Y))
    assert log == [
        ("start", 0, "Adam"),
        ("step", 5, ["grad_norm", "loss", "lr", "update_ratio"]),
        ("validation", 5, ["val_loss"]),
        ("epoch", 5, ["epoch", "loss", "lr", "val_loss"]),
        ("end", "finished 1 epoch"),
    ]


def test_tensorboard_writes_event_files(tmp_path):
    fit(make_params(), callbacks=[ss.TensorBoard(tmp_path)], validation=(X, Y))
    (file,) = os.listdir(tmp_path)
    data = (tmp_path / file).read_bytes()
    assert all(name in data for name in (b"grad_norm", b"val_loss", b"epoch/loss"))


def test_a_missing_extra_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r'pip install "stepsize\[tensorboard\]"'):
        ss.TensorBoard(tmp_path)

"""Following the log of a run: torn, cut, replaced, long, broken, absent."""

import json
import math
import os
import re
import time

import numpy as np
import pytest

import stepsize as ss
from stepsize.watching import following
from stepsize.watching import series as series_module
from stepsize.watching.following import Follower
from stepsize.watching.series import RunLog, Series
from stepsize.watching.state import RunState, panels


def line(step, **values):
    return json.dumps({"event": "step", "step": step, **values}) + "\n"


def losses(follower):
    log = follower.log.series.get("loss")
    return [] if log is None else log.values.tolist()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def test_a_file_may_come_later_and_go(path):
    follower = Follower(path)
    follower.read()
    assert not follower.present
    path.write_text(line(1, loss=2.0))
    follower.read()
    assert losses(follower) == [2.0] and follower.present
    path.unlink()
    follower.read()
    assert losses(follower) == [] and not follower.present


@pytest.mark.parametrize("cut", range(1, len(line(2, loss=0.5))))
def test_a_line_torn_anywhere_is_read_when_it_is_whole(path, cut):
    follower, second = Follower(path), line(2, loss=0.5)
    path.write_text(line(1, loss=2.0) + second[:cut])
    follower.read()
    assert losses(follower) == [2.0]
    with open(path, "a") as file:
        file.write(second[cut:])
    follower.read()
    assert losses(follower) == [2.0, 0.5] and not follower.bad


def test_only_what_is_new_is_read(path, monkeypatch):
    path.write_text("".join(line(k, loss=1.0) for k in range(2_000)))
    follower = Follower(path)
    follower.read()
    seen = []
    taken = Follower._take
    monkeypatch.setattr(
        Follower, "_take", lambda self, chunk: seen.append(chunk) or taken(self, chunk)
    )
    follower.read()
    assert not seen
    with open(path, "a") as file:
        file.write(line(2_000, loss=0.5))
    follower.read()
    assert b"".join(seen).decode() == line(2_000, loss=0.5)


@pytest.mark.parametrize("way", ["shorter", "as long", "longer", "replaced"])
def test_a_file_that_was_written_again_is_read_from_its_start(path, way):
    path.write_text(line(1, loss=1.0) + line(2, loss=2.0))
    follower = Follower(path)
    follower.read()
    new = {"shorter": 1, "as long": 2, "longer": 3, "replaced": 2}[way]
    text = "".join(line(k + 1, loss=9.0) for k in range(new))
    if way == "replaced":
        other = path.with_suffix(".new")
        other.write_text(text)
        os.replace(other, path)
    else:
        path.write_text(text)
    follower.read()
    assert losses(follower) == [9.0] * new and follower.generation == 2


def test_a_resumed_run_goes_on_where_it_was(path):
    follower = Follower(path)
    start = {"event": "start", "step": 0, "rule": "SGD"}
    path.write_text(json.dumps(start) + "\n" + "".join(line(k, loss=float(k)) for k in range(1, 9)))
    follower.read()
    with open(path, "a") as file:
        file.write(json.dumps(start | {"step": 4}) + "\n" + line(5, loss=50.0))
    follower.read()
    assert losses(follower) == [1.0, 2.0, 3.0, 4.0, 50.0] and follower.log.step == 5


BROKEN = [
    "{", "[1, 2]", "null", "7", '"text"', "{}", '{"step": "x"}', '{"step": true, "loss": 1}',
    '{"step": Infinity, "loss": 1}', '{"step": NaN}', '{"step": 1, "event": "other"}',
    "\x00\x01", '{"step": 1' + "0" * 400 + "}", "[" * 100_000,
    '{"step": ' + "9" * 5_000 + "}",
]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_line_that_is_no_event_is_counted_and_passed_over(path, text):
    path.write_text(line(1, loss=2.0) + text + "\n" + line(3, loss=1.0))
    follower = Follower(path)
    follower.read()
    assert losses(follower) == [2.0, 1.0]
    assert (follower.bad, follower.first_bad) == (1, 2)


def test_values_of_every_kind(path):
    path.write_text(
        line(1, loss=2.0, note="x", flag=True, many=[1], huge=10**400)
        + '{"step": 2, "loss": null}\n{"step": 3, "loss": NaN}\n{"step": 4, "loss": Infinity}\n'
    )
    follower = Follower(path)
    follower.read()
    assert set(follower.log.series) == {"loss"} and not follower.bad
    _, drawn = follower.log.series["loss"].drawn()
    assert drawn[0] == 2.0 and np.isnan(drawn[1:]).all()


def test_a_line_without_an_end_takes_no_memory(path, monkeypatch):
    monkeypatch.setattr(following, "CHUNK", 64)
    monkeypatch.setattr(following, "LONGEST_LINE", 256)
    path.write_text(line(1, loss=2.0) + "x" * 10_000 + "\n" + line(2, loss=1.0))
    follower = Follower(path)
    follower.read(seconds=60)
    assert losses(follower) == [2.0, 1.0] and follower.bad == 1 and follower.first_bad == 2


def test_a_reading_ends_in_time_and_goes_on(path, monkeypatch):
    monkeypatch.setattr(following, "CHUNK", 1_000)
    path.write_text("".join(line(k, loss=1.0) for k in range(1_000)))
    follower, count = Follower(path), 0
    follower.read(seconds=0.0)
    assert follower.behind and 0 < len(losses(follower)) < 100
    while follower.behind:
        follower.read(seconds=0.0)
        count += 1
    assert len(losses(follower)) == 1_000 and count > 10


def test_a_folder_and_a_device_are_no_logs(tmp_path):
    assert RunState(tmp_path).told()["state"] == "unreadable"
    assert "regular" in RunState("/dev/zero").told()["problem"]


def test_csv_of_a_history_and_of_a_logger(tmp_path):
    params, path = np.ones(2), tmp_path / "log.csv"
    history = ss.fit(
        lambda p, b: (float(p @ p), 2 * p), params, ss.SGD(params, lr=0.1), [None] * 10, epochs=3,
        validation=[None], callbacks=[ss.CSVLogger(path)], progress=False,
    )  # fmt: skip
    follower = Follower(path)
    follower.read()
    assert len(losses(follower)) == 3 and follower.log.epoch == 3 and not follower.bad
    history.to_csv(path)
    follower.read()
    assert losses(follower) == history["loss"].tolist() and follower.generation == 2
    assert len(follower.log.series["val_loss"]) == 3


def test_the_log_of_a_run_is_read_whole(tmp_path):
    params, path = np.ones(2), tmp_path / "run.jsonl"
    history = ss.fit(
        lambda p, b: (float(p @ p), 2 * p), params, ss.SGD(params, lr=0.1), [None] * 10, epochs=3,
        validation=[None], callbacks=[ss.JSONLogger(path)], progress=False,
    )  # fmt: skip
    told = RunState(path).told()
    assert told["state"] == "ended" and told["stopped"] == history.stopped
    assert ["rule", "SGD"] in [list(fact) for fact in told["facts"]] and not told["bad"]
    assert [panel["title"] for panel in told["panels"]][:2] == ["loss", "learning rate"]
    assert told["diagnosis"]["lead"] == str(ss.diagnose(history)).partition(". ")[0] + "."


def test_what_has_been_seen_is_not_told_again(path):
    path.write_text(line(1, loss=2.0))
    state = RunState(path)
    first = state.told()
    assert state.told(first["version"])["same"]
    with open(path, "a") as file:
        file.write(line(2, loss=1.0))
    assert state.told(first["version"])["step"] == 2


def test_a_quiet_run_is_said_to_be_quiet(path):
    path.write_text(line(1, loss=2.0))
    assert RunState(path).told()["state"] == "running"
    os.utime(path, (time.time() - 1_000,) * 2)
    assert RunState(path).told()["state"] == "quiet"


def test_memory_and_points_are_bounded_and_spikes_are_drawn(monkeypatch):
    monkeypatch.setattr(series_module, "MOST_ROWS", 1_000)
    one = Series()
    for step in range(50_000):
        one.append(step, 1.0)
    assert len(one) <= 1_000 and one.stride == 64 and one.steps[-1] > 49_900
    monkeypatch.setattr(series_module, "MOST_ROWS", 10**6)
    log = RunLog()
    for step in range(100_000):
        log.take({"step": step, "loss": 99.0 if step == 77_777 else 1.0 + step % 7})
    x, y = log.series["loss"].drawn()
    assert len(x) <= 2 * series_module.BUCKETS and y.max() == 99.0 and (np.diff(x) > 0).all()
    assert x[y.argmax()] == 77_777
    for k in range(1_000):
        log.take({"step": 100_000, f"m{k}": 1.0})
    assert len(log.series) == series_module.MOST_SERIES and len(panels(log)) == 16


def test_a_metric_goes_to_the_row_of_its_step():
    log = RunLog()
    for step in (10, 20, 30):
        log.take({"step": step, "loss": float(step)})
    log.take({"event": "validation", "step": 25, "val_loss": 5.0})
    history = log.history()
    assert history["val_loss"][1] == 5.0 and math.isnan(history["val_loss"][2])
    assert history["step"].tolist() == [10, 20, 30]


FOREIGN = {
    "nostep.csv": (b"epoch,loss\n1,0.5\n2,0.4\n", "its columns are epoch, loss, and none is step"),
    "nonames.csv": (b"1,0.5\n2,0.4\n", "holds 2 numbers and no names"),
    "oldmac.csv": (b"step,loss\r1,2\r2,3\r\n", "end in CR alone"),
    "picture.csv": (b"\x89PNG\r\n\x1a\n\0\0", "a picture (PNG)"),
    "page.jsonl": (b"<!DOCTYPE html><html>", "a web page"),
    "search.jsonl": (b'{"stepsize": "search", "seed": 0}\n', "storage of a search"),
    "older.jsonl": (b'{"point": {}, "value": 1, "state": "done"}\n', "storage of a search"),
    "run.safetensors": (b"\x10\0\0\0\0\0\0\0{}", "such as a checkpoint"),
    "shell.jsonl": ('{"step": 1}\n'.encode("utf-16"), "UTF-16"),
    "unmarked.jsonl": ('{"step": 1}\n'.encode("utf-16-le"), "UTF-16"),
    "run.jsonl.gz": (b"\x1f\x8b\x08", "unpack it first"),
    "events.out.tfevents.1": (b"\x18\0\0\0aaaa", "tensorboard --logdir"),
    "noise": (b"\1\0\0\2\3\4", "holds bytes and no text"),
    "list.json": (b'[{"step": 1, "loss": 2}]\n', "is one list"),
    "spread.json": (b'[\n {\n "step": 1\n }\n]\n', "is one list or object"),
    "nostep.jsonl": (b'{"epoch": 1, "loss": 2}\n' * 3, "hold epoch, loss, and no step"),
}
NOTED = {
    "empty.jsonl": (b"", "the file is empty so far"),
    "torn.jsonl": (b'{"step": 1, "lo', "has no end yet"),
    "prose.log": (b"Training started\n", "no step was logged yet; 1 line could not be read"),
    "header.csv": (b"step,loss\n", "no step was logged yet"),
    "steps.csv": (b"step\n1\n", "no numbers were logged yet"),
    "nan.jsonl": (b'{"step": 1, "loss": NaN}\n', "NaN or infinite"),
    "comma.csv": (b"step;loss\n1;0,5\n", "'0,5' in line 2, column loss, is no number"),
    "ragged.csv": (b"step,loss\n1,2,3\n", "the first is 2 (it holds 3 cells under 2 names)"),
    "latin.csv": ("step,größe\n1,2\n".encode("latin1"), "not in UTF-8"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_log_is_refused_with_the_next_move(tmp_path, name):
    (tmp_path / name).write_bytes(FOREIGN[name][0])
    state = RunState(tmp_path / name)
    told = state.told()
    assert (told["state"], told["panels"], told["bad"]) == ("unreadable", [], "")
    assert FOREIGN[name][1] in told["problem"] and re.search("[;:] ", told["problem"])
    (tmp_path / name).write_text(line(1, loss=1.0))  # what is written later is a log
    again = state.told()
    assert again["panels"] and not again["problem"]


@pytest.mark.parametrize("name", NOTED)
def test_a_page_of_nothing_says_why(tmp_path, name):
    (tmp_path / name).write_bytes(NOTED[name][0])
    told = RunState(tmp_path / name).told()
    assert not told["problem"] and NOTED[name][1] in "; ".join([told["empty"], told["bad"]])
    assert told["panels"] or told["empty"]


def test_any_text_table_with_a_step_is_followed(path):
    for text in (
        "# mine\n\nstep,loss\n1,2\n",
        "step;loss;phase\n1;2;train\n",
        "loss\tstep\n2\t1\n",
    ):
        path.write_text(text)
        told = RunState(path).told()
        assert told["latest"] == [("loss", "2")] and not told["bad"], text


def test_steps_that_go_back_are_of_a_run_that_was_begun_anew(path):
    steps = [*range(1, 9), 3, 4]
    path.write_text("".join(line(k, loss=float(n), a=1.0) for n, k in enumerate(steps)))
    with open(path, "a") as file:  # what was measured late, of a step before, is no going back
        file.write(line(2, late=1.0) + line(5, loss=10.0))
    follower = Follower(path)
    follower.read()
    assert losses(follower) == [0.0, 1.0, 8.0, 9.0, 10.0] and follower.log.step == 5
    assert len(follower.log.series["a"]) == 4 and len(follower.notes) == 1
    assert "in line 9 the steps go back from 8 to 3" in follower.notes[0]


def test_an_object_is_no_line_of_names(path):
    path.write_text('{"names":["loss","step","lr"]}\n' + line(1, loss=2.0))
    follower = Follower(path)
    follower.read()
    assert losses(follower) == [2.0]

"""The file of a search: whose it is, who writes to it, and what a line of it means."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest

import stepsize as ss
from stepsize.tuning.storage import JsonLines

# One file goes from one function to another here, which a test of its own looks at.
pytestmark = pytest.mark.filterwarnings("ignore:.* was begun with (function|method)")

GRID = {"lr": [1, 2, 3, 4]}


def rate(point):
    return float(point["lr"])


FOREIGN = {
    "notes": b"my only results, one line",
    "results": b'{"acc": [0.1, 0.2]}',
    "bytes": bytes(range(1, 10)) + bytes(range(11, 256)),
    "an empty line": b"\n",
    "lines": b"one\ntwo\n",
    "a number": b"3",
    "json lines": b'{"loss": 1.0}\n{"loss": 0.5',
    "a list": b"[1]\n",
    "another tool's": b'{"stepsize": "other"}\n',
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("search", ["sweep", "tune"])
def test_a_foreign_file_is_refused_and_left_as_it_is(name, search, tmp_path):
    kept = tmp_path / "notes.txt"
    kept.write_bytes(FOREIGN[name])
    with pytest.raises(ValueError, match=r"notes\.txt does not hold a search; give another file"):
        if search == "sweep":
            ss.sweep(rate, GRID, storage=kept)
        else:
            space = {"lr": ss.LogUniform(1, 4)}
            ss.tune(rate, space, trials=2, method="random", storage=kept)
    assert kept.read_bytes() == FOREIGN[name]


def test_a_file_cut_anywhere_goes_on_and_a_refused_call_leaves_the_cut(tmp_path):
    kept = tmp_path / "runs"
    whole = ss.sweep(rate, GRID, storage=kept)
    data = kept.read_bytes()
    for length in range(0, len(data), 7):
        kept.write_bytes(data[:length])
        again = ss.sweep(rate, GRID, storage=kept)
        assert [t.value for t in again.trials] == [t.value for t in whole.trials]
        lines = [json.loads(line) for line in kept.read_bytes().splitlines()]
        assert len(lines) == 5 and lines[0]["stepsize"] == "search"
    kept.write_bytes(data[:-9])
    with pytest.raises(ValueError, match="holds a search of lr, not of rate"):
        ss.sweep(rate, {"rate": [1]}, storage=kept)
    assert kept.read_bytes() == data[:-9]


DAMAGED = {
    "no JSON": lambda line: line[:9] + b"\xff" + line[10:],
    "cut": lambda line: line[:20],
    "another's": lambda line: b'{"loss": 1.0}',
    "a list": lambda line: b"[1]",
    "no number": lambda line: line.replace(b'"reports": []', b'"reports": [["a", 1]]'),
}


@pytest.mark.parametrize("headless", [False, True])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_line_is_named_and_the_cure_helps(name, headless, tmp_path):
    kept = tmp_path / "runs"
    whole = ss.sweep(rate, GRID, storage=kept)
    lines = kept.read_bytes().splitlines()[headless:]
    broken = [*lines[:2], DAMAGED[name](lines[2]), *lines[3:]]
    kept.write_bytes(b"\n".join(broken) + b"\n")
    with pytest.raises(ValueError, match=r"line 3 of .*runs is damaged: .*; remove that line, and"):
        ss.sweep(rate, GRID, storage=kept)
    kept.write_bytes(b"\n".join(lines[:2] + lines[3:]) + b"\n")
    calls = []
    told = ss.sweep(lambda p: calls.append(p) or rate(p), GRID, storage=kept)
    assert len(calls) == 1 and [t.value for t in told.trials] == [t.value for t in whole.trials]


def test_a_damaged_first_line_is_named(tmp_path):
    kept = tmp_path / "runs"
    ss.sweep(rate, GRID, storage=kept)
    kept.write_bytes(kept.read_bytes().replace(b'"method"', b"method"))
    with pytest.raises(ValueError, match=r"line 1 of .*runs is damaged: .*; restore the file"):
        ss.sweep(rate, GRID, storage=kept)


def copied(file):
    file.with_name("copy").write_bytes(file.read_bytes())
    file.with_name("copy").replace(file)


def replaced(file):
    file.with_name("other").write_bytes(b"precious\n")
    file.with_name("other").replace(file)


def taken(file):
    file.unlink()
    file.mkdir()


HEALED = {
    "deleted": lambda file: file.unlink(),
    "its folder too": lambda file: shutil.rmtree(file.parent),
    "emptied": lambda file: file.write_bytes(b""),
    "a copy of it": copied,
}
FOREIGN_NOW = {
    "replaced": replaced,
    "written to": lambda file: file.write_bytes(file.read_bytes() + b"precious\n"),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-30]),
    "a folder": taken,
}


def swept_while(deed, file, last, monkeypatch):
    """A sweep that something happens to the file of, in its third run or after its last one."""
    done = []

    def once():
        if not done:
            done.append(deed(file))

    close = JsonLines.close
    monkeypatch.setattr(JsonLines, "close", lambda self: (once(), close(self)))
    file.parent.mkdir()
    return ss.sweep(lambda p: (p["lr"] == 3 and not last and once()) or rate(p), GRID, storage=file)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", HEALED)
def test_a_file_that_is_lost_during_a_search_is_made_whole(name, last, tmp_path, monkeypatch):
    kept = tmp_path / "folder" / "runs"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        swept = swept_while(HEALED[name], kept, last, monkeypatch)
    words = [str(w.message) for w in told if "written again with all runs so far" in str(w.message)]
    assert len(words) == (name != "a copy of it")
    assert len(kept.read_bytes().splitlines()) == 5
    again = ss.sweep(lambda p: pytest.fail("run again"), GRID, storage=kept)
    assert again.trials == swept.trials


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", FOREIGN_NOW)
def test_what_takes_the_place_of_a_file_is_left_and_no_run_is_lost(
    name, last, tmp_path, monkeypatch
):
    kept = tmp_path / "folder" / "runs"
    with pytest.raises(RuntimeError, match=r"runs (was|cannot be) .*all runs so far are in .*kept"):
        swept_while(FOREIGN_NOW[name], kept, last, monkeypatch)
    if kept.is_file():
        assert kept.read_bytes()[-9:] == b"precious\n" or name == "cut"
    beside = kept.with_name("runs.kept-1")
    assert len(beside.read_bytes().splitlines()) == (5 if last else 4)
    assert len(ss.sweep(rate, GRID, storage=beside).trials) == 4


def test_a_second_search_on_a_file_is_refused_until_the_first_is_over(tmp_path):
    kept = tmp_path / "runs"

    def nested(point):
        with pytest.raises(RuntimeError, match=r"another search is writing to .*runs; wait for"):
            ss.sweep(rate, GRID, storage=kept)
        return rate(point)

    ss.sweep(nested, {"lr": [1, 2]}, storage=kept, on_error="raise")
    with pytest.raises(ZeroDivisionError):
        ss.sweep(lambda p: 1 / 0, {"lr": [1, 2, 3]}, storage=kept, on_error="raise")
    assert len(ss.sweep(rate, GRID, storage=kept).trials) == 4


def test_the_lock_ends_with_its_process(tmp_path):
    kept = tmp_path / "runs"
    lines = (
        "import os, sys, stepsize as ss",
        "ss.sweep(lambda p: os._exit(7), {'lr': [1]}, storage=sys.argv[1])",
    )
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines), str(kept)], check=False)
    assert ended.returncode == 7
    assert len(ss.sweep(rate, GRID, storage=kept).trials) == 4


def test_runs_that_two_searches_wrote_count_once(tmp_path):
    kept = tmp_path / "runs"
    whole = ss.sweep(rate, GRID, storage=kept)
    head, *lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(head + b"".join(line * 2 for line in lines))
    again = ss.sweep(rate, GRID, storage=kept)
    assert again.trials == whole.trials
    other = json.loads(lines[0])
    other["point"], other["options"], other["value"] = {"lr": 3}, {"lr": "4"}, 40.0
    kept.write_bytes(head + lines[0] + json.dumps(other).encode() + b"\n")
    told = ss.sweep(rate, GRID, storage=kept)
    assert sorted(t.value for t in told.trials) == [1, 2, 3, 40]
    assert sorted(t.number for t in told.trials) == [0, 1, 2, 3]


LONG = np.arange(2000.0)
OTHER = np.where(LONG == 1000, -1.0, LONG)
ALIKE = {
    "long": [LONG, OTHER],
    "near": [np.array([0.3, 1.0]), np.array([0.3 + 1e-10, 1.0])],
    "kinds": [np.array([1, 2]), np.array([1, 2], np.int32), [1, 2], (1, 2), "[1, 2]"],
    "nested": [(LONG, 1), (OTHER, 1), {"a": [LONG]}, {"a": [OTHER]}],
    "numbers": [1, True, 1.0, "1", 0.0, -0.0, (1,), (1.0,)],
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_prints_alike_is_told_apart(name, tmp_path):
    values, calls = ALIKE[name], []

    def count(point):
        calls.append(point)
        return float(len(calls))

    assert len(ss.sweep(count, {"x": values}).trials) == len(calls) == len(values)
    ss.sweep(count, {"x": values[:1]}, storage=tmp_path / "runs")
    told = ss.sweep(count, {"x": values}, storage=tmp_path / "runs")
    assert len({t.value for t in told.trials}) == len(values) == len(calls) - len(values)
    again = ss.sweep(count, {"x": copy.deepcopy(values)[::-1]}, storage=tmp_path / "runs")
    assert [t.value for t in again.trials] == [t.value for t in told.trials][::-1]
    twice = ss.sweep(rate, {"lr": [1], "x": [*values, *copy.deepcopy(values)]})
    assert len(twice.trials) == 2 * len(values)


class Plain:
    def __repr__(self):
        return "<Plain>"


@pytest.mark.parametrize("make", [lambda: Plain(), lambda: lambda x: x, lambda: [Plain()]])
def test_objects_that_no_text_tells_apart_are_refused_with_a_storage(make, tmp_path):
    grid = {"lr": [1], "x": [make(), make()]}
    assert len(ss.sweep(rate, grid).trials) == 2
    with pytest.raises(TypeError, match=r"x=.* cannot be kept in a storage.*look the object up"):
        ss.sweep(rate, grid, storage=tmp_path / "runs")
    with pytest.raises(TypeError, match="cannot be kept in a storage"):
        space = {"lr": ss.LogUniform(1, 2), "x": ss.Choice(grid["x"])}
        ss.tune(rate, space, trials=2, method="random", storage=tmp_path / "runs")


def test_a_sweep_and_a_search_read_the_files_of_each_other(tmp_path):
    space = {"lr": ss.Uniform(1, 4)}
    told = ss.tune(rate, space, trials=3, method="random", storage=tmp_path / "searched")
    with pytest.raises(ValueError, match=r"a search with lr=\d.*, which is not in one of 1, 2"):
        ss.sweep(rate, GRID, storage=tmp_path / "searched")
    rates = [t.point["lr"] for t in told.trials]
    assert len(ss.sweep(rate, {"lr": rates}, storage=tmp_path / "searched").trials) == 3
    ss.sweep(rate, GRID, storage=tmp_path / "swept")
    assert (
        ss.tune(rate, space, trials=4, method="random", storage=tmp_path / "swept").best_value == 1
    )
    with pytest.raises(ValueError, match=r"lr=1, which is not in LogUniform\(low=3"):
        more = {"trials": 4, "method": "random", "storage": tmp_path / "swept"}
        ss.tune(rate, {"lr": ss.LogUniform(3, 9)}, **more)


def test_options_that_files_of_before_hold_as_they_print_are_found(tmp_path):
    kept = tmp_path / "runs"
    values = [np.arange(2), np.float32(0.5), "a"]
    texts = [repr(np.arange(2)), "0.5", "'a'"]
    rest = {"state": "done", "reports": [], "seconds": 0.1}
    lines = [
        {"point": {"x": k}, "options": {"x": text}, "value": k, "number": k, **rest}
        for k, text in enumerate(texts)
    ]
    kept.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = ss.sweep(rate, {"x": values}, storage=kept)
    assert [t.value for t in told.trials] == [0, 1, 2]

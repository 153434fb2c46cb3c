"""The file of a search: whose it is, who writes to it, and what a line of it means."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import stepsize as ss

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

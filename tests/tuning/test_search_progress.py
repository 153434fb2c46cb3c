"""The progress of a search: how many came back, and the best so far."""

import io
import sys

import pytest

import stepsize as ss
from stepsize.tuning import progress

GRID = {"lr": [0.3, 0.1, 0.2, 0.0]}


def value(point):
    return 1 / point["lr"] if point["lr"] else float("nan")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("direction", "best"), [("minimize", "3.333"), ("maximize", "10")])
def test_the_bar_shows_the_best_so_far(direction, best, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "REFRESH", 0.0)
    ss.sweep(value, GRID, direction=direction)
    shown = sys.stderr.getvalue().split("\r")
    assert "4/4" in shown[-1] and f"best={best}" in shown[-1] and "lost=1" in shown[-1]
    assert any("1/4" in line and "best=3.333" in line for line in shown)


def test_lines_stand_where_there_is_no_terminal(capsys):
    ss.sweep(value, GRID, progress=True)
    assert capsys.readouterr().err == "run 4/4  best 3.333  lost 1\n"
    for show in (None, False):
        ss.sweep(value, GRID, progress=show)
    assert capsys.readouterr().err == ""


def test_runs_that_were_kept_are_counted(capsys, tmp_path):
    ss.sweep(value, GRID, storage=tmp_path / "runs")
    ss.sweep(value, {"lr": [*GRID["lr"], 0.5]}, storage=tmp_path / "runs", progress=True)
    assert capsys.readouterr().err == "run 5/5  best 2  lost 1\n"


def test_before_anything_ended_well_there_is_no_best(capsys):
    ss.sweep(value, {"lr": [0.0]}, progress=True)
    assert capsys.readouterr().err == "run 1/1  best none yet  lost 1\n"

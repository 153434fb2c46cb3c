"""The demo's quick form end to end: what it must show, its files, and its page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from stepsize.cli import main
from stepsize.demo import Settings, run
from stepsize.demo.report import _caution

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    lines = []
    story = run(out, seed=0, quick=True, echo=lines.append)
    return story, out, "\n".join(lines)


def test_it_shows_what_it_sets_out_to_show(told):
    story, _, text = told
    assert story.holds == dict.fromkeys(story.holds, True)
    assert story.gap <= 3
    assert story.low.verdict == "too_low"
    assert story.high.verdict in ("diverging", "too_high")
    assert text.count("  yes  ") == len(story.holds) == 3
    assert "  NO  " not in text


def test_what_holds_is_judged_from_the_numbers(told):
    story, _, _ = told
    from dataclasses import replace

    worse = replace(story, right=replace(story.right, accuracy=story.best.accuracy - 0.031))
    assert list(worse.holds.values()) == [False, True, True]
    healthy = replace(story, low=story.right, high=story.right)
    assert list(healthy.holds.values()) == [True, False, False]


def test_every_schedule_and_rule_has_the_same_runs(told):
    story, _, text = told
    assert list(story.schedules) == [
        "constant",
        "time-based",
        "step",
        "exponential",
        "cosine",
        "warm-up + cosine",
        "cyclic",
        "plateau",
    ]
    assert list(story.rules) == ["SGD", "momentum", "Adagrad", "RMSprop", "Adam", "AdamW"]
    steps = len(story.right.history["loss"])
    for runs in (*story.schedules.values(), *story.rules.values()):
        assert len(runs) == story.settings.seeds
        assert all(len(r.history["loss"]) == steps for r in runs)
    for name in (*story.schedules, *story.rules):
        assert name in text
    assert len(story.grid) == Settings.quick().rates


def test_the_same_seed_gives_the_same_numbers(told, tmp_path):
    story, _, _ = told
    again = run(tmp_path, seed=0, quick=True, echo=lambda text: None)
    assert again.found.suggestion == story.found.suggestion
    for one, other in zip(again.grid, story.grid, strict=True):
        assert np.array_equal(one.history["loss"], other.history["loss"], equal_nan=True)


def test_files(told):
    _, out, text = told
    names = {path.name for path in out.iterdir()}
    assert "report.html" in names
    pictures = [name for name in names if name.endswith(".png")]
    assert len(pictures) == 11
    for name in pictures:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert str(out / "report.html") in text


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.found += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset")]
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_self_contained_and_well_formed(told):
    _, out, _ = told
    page = (out / "report.html").read_text("utf-8")
    parser = _Links()
    parser.feed(page)
    assert parser.open == []
    assert all(link.startswith("#") for link in parser.found)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page
    assert page.count("<svg") == 11


def test_the_numbers_in_the_text_are_the_results(told):
    story, out, _ = told
    page = (out / "report.html").read_text("utf-8")
    assert f"{100 * story.right.accuracy:.1f} %" in page
    assert str(story.low.diagnosis).split(". ")[0] in page
    for runs in story.rules.values():
        assert f"{100 * runs[0].accuracy:.1f} %" in page


def test_a_small_gain_is_called_small():
    assert "seed alone" in _caution(0.2, 1.5, 3)
    assert _caution(2.0, 1.5, 3) == ""
    assert "One seed" in _caution(2.0, 0.0, 1)


def test_command(tmp_path, capsys):
    assert main(["demo", "--quick", "--seed", "1", "--out", str(tmp_path / "r")]) == 0
    assert (tmp_path / "r" / "report.html").is_file()
    assert "Report: " in capsys.readouterr().out

"""The guide: the quick form of every page, its verdicts, its code and its links."""

from __future__ import annotations

import html
import importlib.util
import inspect
import re

import numpy as np
import pytest

from stepsize.cli import main
from stepsize.guide import build, pages
from stepsize.guide.build import TONES
from stepsize.guide.claim import CONDITION, FAILS, HOLDS, best_rate, graded, picked, spread
from stepsize.guide.extras import LANDSCAPES, START, best_walk, walk

pytest.importorskip("sklearn")

NAMES = list(pages())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """All pages in their quick form, in this process."""
    out = tmp_path_factory.mktemp("guide")
    return out, {r.claim.name: r for r in build(out, quick=True, jobs=1, progress=False)}


def test_there_is_a_page_for_every_claim():
    assert len(NAMES) >= 26
    assert len({claim.title for claim in pages().values()}) == len(NAMES)


def test_every_system_of_the_articles_is_exercised():
    used = {system for claim in pages().values() for system in claim.systems}
    assert used >= {
        "SGD",
        "momentum",
        "Adagrad",
        "RMSprop",
        "Adam",
        "time-based decay",
        "step decay",
        "exponential decay",
        "warm-up",
        "cyclic rate",
        "range test",
        "subset test",
        "tuning",
        "learning curves",
        "plateau",
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_was_found(built, name):
    out, results = built
    result = results[name]
    finding = result.finding
    text = (out / f"{name}.html").read_text("utf-8")
    assert finding.verdict in TONES
    assert f"<b>{finding.verdict.capitalize()}.</b>" in text
    assert finding.measured.split(".")[0] in html.unescape(text)
    assert html.escape(finding.criterion[:60], quote=False) in text
    assert text.count("<svg") == len(finding.figures) >= 1
    assert len(re.findall(r"[.!?](?:\s|$)", result.claim.text)) >= 3
    for words in (finding.measured, *map(str, finding.rows)):
        assert "nan" not in words.lower().split()


@pytest.mark.parametrize("name", NAMES)
def test_titles_fit_into_their_pictures(built, name):
    for ax, _ in built[1][name].finding.figures:
        ax.figure.canvas.draw()
        wanted = ax.get_title(loc="left")
        (title,) = (t for t in ax.get_children() if getattr(t, "get_text", str)() == wanted != "")
        box = title.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= ax.figure.bbox.x1, wanted


@pytest.mark.parametrize("name", NAMES)
def test_the_code_shown_is_the_code_that_ran(built, name):
    out, _ = built
    text = (out / f"{name}.html").read_text("utf-8")
    shown = [
        html.unescape(re.sub(r"<[^>]+>", "", b)) for b in re.findall(r"<pre>.*?</pre>", text, re.S)
    ]
    assert inspect.getsource(pages()[name].experiment).strip() == shown[0].strip()


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(built, name):
    out, _ = built
    for page in (f"{name}.html", "index.html", "start.html", "paths.html"):
        for link in re.findall(r'href="([^"]+)"', (out / page).read_text("utf-8")):
            assert link.startswith(("#", "data:")) or (out / link).is_file()


# What each judge makes of invented numbers that plainly meet, or plainly miss, its criterion.


def flip(values, name, factor):
    """The same results with one series scaled: better where the factor is below 1."""
    changed = dict(values)
    changed[name] = {**values[name], "loss": [factor * x for x in values[name]["loss"]]}
    return changed


@pytest.mark.parametrize(
    ("name", "series"),
    [("refine", "linear"), ("exponential", "exponential"), ("time-based", "time")],
)
def test_a_race_is_judged_by_its_losses(name, series):
    base = {n: {"loss": [0.3, 0.2]} for n in ("constant", series)}
    judge = pages()[name].judge
    assert judge([flip(base, series, 0.5)] * 5).verdict == HOLDS
    assert judge([flip(base, series, 2.0)] * 5).verdict == FAILS
    # Three seeds in five are not four in five.
    mixed = [flip(base, series, 0.5)] * 3 + [flip(base, series, 2.0)] * 2
    assert judge(mixed).verdict == FAILS


def test_two_decays_of_which_one_wins_hold_under_a_condition():
    base = {n: {"loss": [0.3, 0.2]} for n in ("constant", "polynomial", "cosine")}
    one = flip(base, "cosine", 0.5)
    judge = pages()["smooth-decays"].judge
    assert judge([flip(one, "polynomial", 0.5)] * 5).verdict == HOLDS
    assert judge([flip(one, "polynomial", 2.0)] * 5).verdict == CONDITION


def test_the_update_rule_fails_for_a_single_bit():
    change = np.linspace(-1, 1, 9)
    one = {"wrong": [0, 0, 0], "gradient": change, "changes": [change] * 3}
    judge = pages()["update-rule"].judge
    assert judge([one] * 5).verdict == HOLDS
    assert judge([one] * 4 + [{**one, "wrong": [0, 1, 0]}]).verdict == FAILS


def test_the_batch_size_is_judged_by_its_slope():
    judge = pages()["batch-size"].judge
    assert judge([{"best": [0.1, 0.14, 0.2, 0.28, 0.4, 0.56]}] * 5).verdict == HOLDS
    assert judge([{"best": [0.1] * 6}] * 5).verdict == FAILS
    mixed = [{"best": [0.1, 0.14, 0.2, 0.28, 0.4, 0.56]}] * 3 + [{"best": [0.1] * 6}] * 2
    assert judge(mixed).verdict == FAILS


def test_the_subset_is_judged_by_its_ratio():
    judge = pages()["subset"].judge
    assert judge([{"rates": [0.1, 0.2, 0.2, 0.2, 0.2]}] * 5).verdict == HOLDS
    assert judge([{"rates": [0.01, 0.01, 0.2, 0.2, 0.2]}] * 5).verdict == FAILS


def test_verdict_words():
    assert graded(True, False) == HOLDS
    assert graded(False, True) == CONDITION
    assert graded(False, False) == FAILS


def test_a_rate_at_which_a_seed_was_lost_is_not_picked():
    index, losses = picked([[1.0, 0.1], [1.0, np.nan]])
    assert (index, losses.tolist()) == (0, [1.0, 1.0])
    assert best_rate([0.1, 1.0], [2.0, np.inf]) == 0.1
    assert np.isnan(best_rate([0.1], [np.nan]))


def test_spread_in_words():
    assert spread([1.0, 2.0, 3.0], "{:.1f}") == "2.0 (1.0 to 3.0)"
    assert spread([1.0, np.nan], "{:.0f}") == "1, 1 lost"
    assert spread([np.nan]) == "none finished"


def test_numbers_do_not_depend_on_the_processes(tmp_path):
    one, two = (
        build(tmp_path / str(jobs), only=["too-low"], quick=True, jobs=jobs, progress=False)
        for jobs in (1, 2)
    )
    assert one[0].finding.rows == two[0].finding.rows


def test_a_walk_stops_where_the_landscape_ends():
    import stepsize as ss

    make, _, _ = LANDSCAPES["Rosenbrock"]
    assert len(walk(make, ss.SGD, 1.0, 50)) < 51
    lr, height, path = best_walk(make, ss.SGD, 50)
    assert lr < 1.0
    assert len(path) == 51
    assert height < make().value_and_grad(path[0], None)[0]


def test_the_starting_table_rests_on_pages_that_exist(built):
    out, results = built
    text = html.unescape(re.sub(r"<[^>]+>", "", (out / "start.html").read_text("utf-8")))
    for question, name, advice, otherwise in START:
        assert name in results
        chosen = otherwise if results[name].finding.verdict == FAILS else advice
        assert question in text
        assert chosen.replace("`", "") in text


def test_the_paths_move(built):
    text = (built[0] / "paths.html").read_text("utf-8")
    assert text.count("<animateMotion") == 5
    assert "prefers-reduced-motion" in text


def test_unknown_pages_are_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match="there is no page 'nothing'; there are: update-rule"):
        build(tmp_path, only=["nothing"])
    code = main(["demo", "--guide", "--only", "nothing", "--out", str(tmp_path)])
    assert code == 2
    assert "there is no page 'nothing'" in capsys.readouterr().err


def test_a_missing_module_is_named(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "optuna" else find(n))
    with pytest.raises(ImportError, match=r'needs optuna: pip install "stepsize\[demo,tune\]"'):
        build(tmp_path, only=["tuning"])


def test_command_builds_one_page(tmp_path, capsys):
    out = tmp_path / "g"
    assert main(["demo", "--guide", "--quick", "--only", "update-rule", "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {"index.html", "update-rule.html"}
    assert "update-rule" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--only", "too-low"], "add --guide"), (["--guide", "--seed", "1"], "seeds of its own")],
)
def test_options_that_do_not_go_together(words, message, capsys):
    assert main(["demo", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_helpers_shown_are_those_that_run(built):
    text = html.unescape(re.sub(r"<[^>]+>", "", (built[0] / "too-high.html").read_text("utf-8")))
    # One is called in a list comprehension, the other by the first.
    assert "def sharpness_times_rate(" in text
    assert "def largest_curvature(" in text
    assert "def sweep(" not in text

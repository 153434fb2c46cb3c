"""The cards that results show in a notebook: one look, bounded, escaped, and never an error."""

import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import stepsize as ss
from stepsize.gradients.results import LeafCheck
from stepsize.report import runs
from stepsize.report.notebook import ROWS, cut

HOSTILE = "<script>alert(1)</script>\"'&$\\frac$"
LARGEST = 400_000  # signs of a card, whatever it shows


def quadratic(p, b):
    return float(p @ p), 2 * p


def made():
    """One of each kind of result, with hostile names where a user gives names."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 4))
    y = x @ np.ones(4)

    def loss(p, b):
        error = b[0] @ p[HOSTILE] - b[1]
        return float(error @ error) / len(error), {HOSTILE: 2 * b[0].T @ error / len(error)}

    def wrong(p, b):
        value, grads = loss(p, b)
        return value, {HOSTILE: -grads[HOSTILE]}

    def params():
        return {HOSTILE: np.zeros(4)}

    rate = ss.schedules.warmup_cosine(0.1, 10, 80)
    p = params()
    adam = ss.AdamW(p, lr=rate)
    history = ss.fit(
        loss, p, adam, (x, y), epochs=20, progress=False, validation=(x, y),
        evaluate=lambda p, b: {HOSTILE: loss(p, b)[0]},
    )  # fmt: skip
    found = ss.lr_find(loss, params(), [(x, y)], progress=False)
    return {
        "found": found,
        "momentum": ss.lr_find(loss, params(), [(x, y)], parameter="momentum", progress=False),
        "history": history,
        "diagnosis": ss.diagnose(history),
        "short": ss.diagnose({"loss": [1.0, 0.5]}),
        "what_if": ss.what_if(loss, p, adam, (x, y), history=history, progress=False),
        "tuned": ss.tune(
            lambda point: point[HOSTILE] ** 2,
            {HOSTILE: ss.LogUniform(1e-4, 1.0)},
            trials=6, method="random", progress=False,
        ),
        "swept": ss.sweep(lambda point: 1.0 / point["k"], {"k": [0, 1, 2]}, progress=False),
        "auto": ss.autolr(loss, params(), (x, y), epochs=5, progress=False),
        "check": ss.check_gradients(loss, params(), (x, y)),
        "wrong": ss.check_gradients(wrong, params(), (x, y)),
        "minimum": ss.minimize(lambda x: (float(x @ x), 2 * x), np.ones(3)),
        "schedule": rate,
        "optimizer": adam,
        "wrapper": ss.EMA(ss.SGD(params(), lr=0.1), decay=0.5),
        "transferred": ss.transfer({"lr": 0.1}, batch=(32, 64), rule=ss.SGD),
    }  # fmt: skip


@pytest.fixture(scope="module")
def results():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made()


NAMES = (
    "found", "momentum", "history", "diagnosis", "short", "what_if", "tuned", "swept", "auto",
    "check", "wrong", "minimum", "schedule", "optimizer", "wrapper", "transferred",
)  # fmt: skip
DRAWN = set(NAMES) - {"diagnosis", "short", "transferred", "wrapper"}


class Balance(HTMLParser):
    """Checks that every element is closed, and keeps the names of all."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", NAMES)
def test_every_result_has_a_card_in_the_one_look(results, name):
    card = results[name]._repr_html_()
    tags = Balance(card).seen
    assert card.startswith('<div class="ss-card"><style>')
    assert {"header", "p"} <= set(tags) and not {"script", "link", "iframe"} & set(tags)
    assert ("figure" in tags) == (name in DRAWN)
    assert HOSTILE not in card and len(card) < LARGEST
    assert "http://" not in card.replace("http://www.w3.org/", "") and "https://" not in card


@pytest.mark.parametrize("name", NAMES)
def test_a_card_costs_no_warning_and_changes_no_setting(results, name):
    import matplotlib

    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert results[name]._repr_html_()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", NAMES)
def test_without_matplotlib_the_words_and_the_table_stand_alone(results, name, monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    card = results[name]._repr_html_()
    assert "ss-lead" in card and "<img" not in card
    assert ("<figure" in card) == (name in ("schedule", "optimizer"))  # drawn by our own hand


@pytest.mark.parametrize("name", NAMES)
def test_what_is_broken_shows_nothing_and_raises_nothing(results, name):
    broken = object.__new__(type(results[name]))
    assert broken._repr_html_() is None


def test_no_window_is_opened_and_no_backend_chosen():
    code = (
        "import sys, stepsize as ss\n"
        "h = ss.History.from_arrays(loss=[3.0, 2.0, 1.0], lr=[0.1] * 3)\n"
        "assert 'matplotlib' not in sys.modules\n"
        "assert '<figure>' in h._repr_html_()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "import matplotlib\n"
        "assert dict.__getitem__(matplotlib.rcParams, 'backend') is not None\n"
        "assert not isinstance(dict.__getitem__(matplotlib.rcParams, 'backend'), str)\n"
    )
    own = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=own)


def test_a_users_style_and_tex_do_not_reach_a_card(results):
    import matplotlib

    plain = results["history"]._repr_html_().count("<path")
    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9, "font.size": 40}):
        assert results["history"]._repr_html_().count("<path") == plain


def test_names_inside_of_pictures_are_their_own(results):
    first, second = (
        set(re.findall(r' id="([^"]+)"', results["history"]._repr_html_())) for _ in range(2)
    )
    assert first and not first & second


def long_history(rows=100_000):
    rng = np.random.default_rng(1)
    loss = np.exp(-np.arange(rows) / rows) + 0.1 * rng.normal(size=rows)
    loss[7] = np.nan
    loss[rows // 2] = 50.0
    held = np.full(rows, np.nan)
    held[99::100] = 0.5
    extra = {f"val_{k}": held for k in range(300)}
    return ss.History.from_arrays(loss=loss, lr=np.ones(rows), val_loss=held, **extra)


def test_a_long_history_makes_a_small_card():
    history = long_history()
    card = history._repr_html_()
    assert "<figure>" in card and len(card) < LARGEST
    assert card.count("<tr>") == ROWS + 1 and "and 283 more" in card


def test_what_is_drawn_of_a_long_history_keeps_its_extremes_and_its_validations():
    history = long_history()
    short = runs.thinned(history)
    assert short.steps < 7_000 and np.nanmax(short["loss"]) == 50.0
    assert np.isfinite(short["val_loss"]).sum() >= 1_000
    assert runs.thinned(short.__class__.from_arrays(loss=[1.0])).steps == 1


def test_a_check_of_many_leaves_shows_the_wrong_ones_first(results):
    leaf = next(iter(results["check"].leaves.values()))
    many = {f"l{k}": replace(leaf, path=f"l{k}") for k in range(5_000)}
    many["last"] = LeafCheck("last", (3,), "wrong", words="the sign is flipped")
    card = replace(results["check"], leaves=many)._repr_html_()
    assert len(card) < LARGEST and card.index(">last<") < card.index(">l0<")
    assert "and 4,981 more" in card


def test_an_optimizer_of_many_leaves_makes_a_small_card():
    optimizer = ss.SGD([np.zeros(1) for _ in range(5_000)], lr=0.1)
    card = optimizer._repr_html_()
    assert len(card) < LARGEST and "and 4,980 more" in card


def test_a_search_of_many_runs_makes_a_small_card(results):
    tuned = results["tuned"]
    many = tuple(replace(tuned.trials[k % 6], number=k, reason="é" * 9_999) for k in range(20_000))
    card = replace(tuned, trials=many)._repr_html_()
    assert "<figure>" in card and len(card) < LARGEST and "and 19,980 more" in card


def test_a_wrapper_shows_itself_and_what_it_is_around(results):
    assert "EMA of SGD" in results["wrapper"]._repr_html_()


def test_what_the_branches_say_of_the_rate(results):
    found = results["what_if"]
    gone = tuple(replace(branch, failure="NaN") for branch in found.branches)
    assert "every branch diverges</i>" in replace(found, branches=gone)._repr_html_()
    same = tuple(replace(found[1.0], factor=branch.factor) for branch in found.branches)
    assert "nothing said</i>" in replace(found, branches=same)._repr_html_()


def test_what_is_cut_keeps_both_ends():
    assert cut("abcdefghij", 5) == "ab…ij" and cut("abc", 5) == "abc"


def cells(card):
    """The rows of the first table of a card, as text."""
    rows = re.findall(r"<tr.*?>(.*?)</tr>", card.partition("</table>")[0])
    return [[re.sub("<.*?>", "", one) for one in re.findall(r"<td.*?>(.*?)</td>", r)] for r in rows]


NAN, INF = np.nan, np.inf
RUNS = {
    "empty": ({"loss": []}, "no step was recorded", []),
    "no number": (
        {"loss": [NAN, INF], "lr": [0.1, 0.1]},
        "the loss is finite at no step",
        [["loss", "", "nan", "inf", "-", "-"], ["lr", "", "0.1", "0.1", "0.1", "0.1"]],
    ),
    "diverged": (
        {"loss": [2.0, 1.0, 3.0, NAN], "val_loss": [NAN, 5.0, NAN, NAN], "val_x": [NAN] * 4},
        "the loss is not finite at 1 step, first at step 4",
        [["loss", "", "2", "nan", "1", "3"], ["val_loss", "", "5", "5", "5", "5"],
         ["val_x", "", "-", "-", "-", "-"]],
    ),
    "one step": ({"loss": [2.0]}, "1 step", [["loss", "", "2", "2", "2", "2"]]),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_few_or_lost_steps_does_not_contradict_itself(name):
    given, words, rows = RUNS[name]
    card = ss.History.from_arrays(**given)._repr_html_()
    assert words in card and "more</p>" not in card
    assert [row for row in cells(card) if row] == rows
    assert ("<figure" in card) == (name in ("diverged", "one step"))


def test_long_names_leave_room_for_what_is_said_of_them(results):
    name = "encoder/layers/11/attention/self/query_projection/kernel_of_the_first_block"
    check = results["wrong"]
    leaf = replace(next(iter(check.leaves.values())), path=name)
    card = replace(check, leaves={name: leaf})._repr_html_()
    assert cells(card)[1][1:3] == [leaf.verdict, leaf.words]
    assert '<td class="ss-words">' in card  # it may be broken into lines
    names = [text for text in re.findall(r">([^<>]*)</text>", card) if "encoder" in text]
    assert names and all(len(text) <= 48 and ": " in text for text in names)


def test_what_says_nothing_draws_nothing_and_marks_nothing(results):
    tuned, found = results["tuned"], results["what_if"]
    failed = tuple(replace(t, state="failed", value=INF) for t in tuned.trials)
    card = replace(tuned, trials=failed)._repr_html_()
    assert "<figure" not in card and ">inf<" not in card
    same = tuple(replace(found[1.0], factor=branch.factor) for branch in found.branches)
    assert 'ss-best"' not in replace(found, branches=same)._repr_html_()


def test_where_a_schedule_is_highest():
    said = ss.schedules.warmup_cosine(0.1, 10, 80)._repr_html_()
    assert "0 at step 0, highest near step 10: 0.1, 0 from step 80 on" in said
    assert "0.1 at every step" in ss.schedules.constant(0.1)._repr_html_()

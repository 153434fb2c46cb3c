"""Pictures: what is drawn, where names stand, what a web page and a terminal receive."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from stepsize import diagnose, plots, problems
from stepsize.plots import style, views

matplotlib = pytest.importorskip("matplotlib")


def run(n=200, low=0.1, rise=False):
    steps = np.arange(n)
    loss = np.exp(steps / 10) if rise else low + 2 * np.exp(-steps / 40)
    held_out = np.where(steps % 20 == 19, loss + 0.1, np.nan)
    return {"step": steps, "loss": loss, "val_loss": held_out}


def range_result(suggestion=0.1):
    lrs = np.geomspace(1e-5, 10, 80)
    losses = 2 - np.exp(-((np.log10(lrs) + 0.5) ** 2)) + 5 * np.maximum(0, lrs - 3)
    others = {"steepest": suggestion, "minimum": 0.4}
    return SimpleNamespace(
        lrs=lrs, losses=losses, smoothed=losses, suggestion=suggestion, suggestions=others
    )


def texts(ax):
    return [text for text in ax.texts if text.get_text()]


def boxes(ax):
    ax.figure.canvas.draw()
    return [text.get_window_extent() for text in texts(ax)]


def assert_legible(ax):
    """Every name lies inside the figure and touches no other name."""
    found = boxes(ax)
    page = ax.figure.bbox
    for i, box in enumerate(found):
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        for other in found[i + 1 :]:
            # Line boxes hold the descenders' room: a fifth may be shared without touching ink.
            assert min(box.y1, other.y1) - max(box.y0, other.y0) < 0.2 * box.height


def test_one_run_shows_steps_average_and_validation():
    ax = plots.learning_curves(run(), title="A run")
    assert {text.get_text() for text in texts(ax)} == {"training", "validation"}
    raw, average, held_out = ax.lines
    assert np.array_equal(raw.get_ydata(), run()["loss"])
    assert len(average.get_xdata()) == 200
    assert held_out.get_xdata().tolist() == list(range(19, 200, 20))
    assert_legible(ax)


def test_several_runs_are_named_and_a_diverging_one_does_not_flatten_the_rest():
    ax = plots.learning_curves({"good": run(), "twin": run(), "far above": run(rise=True)})
    assert {text.get_text() for text in texts(ax)} == {"good", "twin", "far above"}
    assert ax.get_ylim()[1] < 10
    assert_legible(ax)


def test_runs_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no history holds a finite loss"):
        plots.learning_curves({"step": [0], "loss": [np.nan]})
    with pytest.raises(ValueError, match="give at least one run"):
        plots.learning_curves([])


@pytest.mark.parametrize("suggestion", [1e-4, 0.1, 5.0])
def test_range_test_names_its_suggestion(suggestion):
    ax = plots.range_test(range_result(suggestion))
    assert ax.get_xscale() == "log"
    assert f"suggested {suggestion:g}" in [text.get_text() for text in texts(ax)]
    assert any(np.all(np.asarray(line.get_xdata()) == suggestion) for line in ax.lines)
    assert_legible(ax)


def test_schedule_draws_every_step_and_names_all():
    named = {f"schedule {i}": lambda step, i=i: 1.0 / (1 + i * step) for i in range(8)}
    ax = plots.schedule(named, steps=50)
    assert len(ax.lines) == 8
    assert all(len(line.get_xdata()) == 50 for line in ax.lines)
    assert len(texts(ax)) == 8
    assert_legible(ax)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        plots.schedule(named, steps=0)


def test_curves_draw_the_median_in_its_band():
    rows = np.array([[1.0, 2.0, np.nan], [3.0, 4.0, np.nan], [8.0, np.nan, np.nan]])
    ax = plots.curves([1, 10, 100], {"a": rows}, xscale="log", xlabel="rate", ylabel="loss")
    assert ax.lines[0].get_ydata()[:2].tolist() == [3.0, 3.0]
    assert np.isnan(ax.lines[0].get_ydata()[2])
    ax.figure.canvas.draw()
    assert {"1", "10", "100"} <= {label.get_text() for label in ax.get_xticklabels()}


def test_comparison_counts_runs_that_diverged():
    ax = plots.comparison(
        {"SGD": [0.5, 1.5], "far": [np.nan, 2.0], "lost": [np.inf]}, form="{:.0f} s"
    )
    assert [text.get_text() for text in texts(ax)] == [
        "1 s",
        "2 s, 1 of 2 diverged",
        "1 of 1 diverged",
    ]
    assert_legible(ax)
    ax = plots.comparison({"slow": [np.nan]}, lost="did not")
    assert [text.get_text() for text in texts(ax)] == ["1 of 1 did not"]


def test_heatmap_hides_what_is_not_finite():
    ax = plots.heatmap([0.1, 1.0], ["slow", "fast"], [[1.0, np.nan], [2.0, 3.0]], label="loss")
    mesh = ax.collections[0]
    assert np.ma.getmaskarray(mesh.get_array()).tolist() == [[False, True], [False, False]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["slow", "fast"]


def test_landscape_keeps_its_limits_when_a_path_runs_away():
    path = np.array([[0.0, 0.0], [1e9, 1e9]])
    ax = plots.landscape(problems.himmelblau(), {"away": path}, xlim=(-5, 5), ylim=(-4, 4))
    assert ax.get_xlim() == (-5, 5)
    assert ax.get_ylim() == (-4, 4)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-5, "1e-5"), (0.0001, "0.0001"), (0.1234567, "0.1235"), (12000, "12,000"), (2e10, "2e10")],
)
def test_numbers_are_short(value, text):
    assert style.number(value) == text


def test_drawing_on_given_axes_returns_them():
    ax = style.new_axes()
    assert plots.curves([0, 1], {"a": [1, 2]}, ax=ax) is ax
    assert plots.schedule(lambda step: 0.1, ax) is ax


def test_nothing_global_changes():
    """In a fresh process: drawing neither imports pyplot nor leaves a setting changed."""
    code = """
import sys, matplotlib
read = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}
before = read()
from stepsize import plots
ax = plots.curves([0, 1], {"a": [1, 2]})
plots.svg(ax), plots.png(ax)
assert "matplotlib.pyplot" not in sys.modules
assert read() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_importing_plots_needs_no_matplotlib():
    code = "import sys, stepsize.plots; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "stepsize\[plot\]"'):
        plots.curves([0, 1], {"a": [1, 2]})


def test_svg_follows_the_page_and_is_the_same_each_time():
    ax = plots.learning_curves({"a": run(), "b": run()}, title="Two")
    text = plots.svg(ax, 'loss of "a" & b')
    again = plots.learning_curves({"a": run(), "b": run()}, title="Two")
    assert text == plots.svg(again, 'loss of "a" & b')
    assert text.startswith('<svg role="img" aria-label="loss of &quot;a&quot; &amp; b"')
    assert "var(--ink)" in text
    assert "var(--c0)" in text
    for value in (style.INK, style.MUTED, style.GRID, *style.COLOURS[0], *style.COLOURS[1]):
        assert value not in text
    assert "<image" not in text
    assert "DejaVu" not in text


def test_files(tmp_path):
    ax = plots.curves([0, 1], {"a": [1, 2]})
    assert plots.save(ax, tmp_path / "deep" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in plots.save(ax, tmp_path / "a.svg").read_text()
    assert plots.png(ax) == plots.png(ax)
    with pytest.raises(ValueError, match=r"cannot write a picture as 'a.doc': end it with .png"):
        plots.save(ax, tmp_path / "a.doc")


def test_smooth_is_the_weighted_mean():
    values = np.array([3.0, 1.0, 4.0])
    keep = 0.75
    weights = keep ** np.arange(2, -1, -1)
    # Three sums of three numbers in another order: a few units in the last place.
    assert views.smooth(values, 4)[-1] == pytest.approx(weights @ values / weights.sum(), rel=1e-14)
    assert np.array_equal(views.smooth(values, 1), values)


def test_text_pictures_fit_and_hold_no_control_codes():
    pictures = [
        plots.text_learning_curves(run(), width=60),
        plots.text_learning_curves({"a": run(), "far above": run(rise=True)}, width=60),
        plots.text_range_test(range_result(), width=60),
        plots.text_schedule(lambda step: 1 / (1 + step), width=60, steps=30),
    ]
    for picture in pictures:
        assert max(map(len, picture.splitlines())) <= 60
        assert "\x1b" not in picture
    assert "far above" in pictures[1]
    assert pictures[2].endswith("suggested learning rate: 0.1")


def test_text_curve_passes_through_its_points():
    width, height = 40, 10
    picture = plots.text_curves({"": ([0, 1], [0.0, 5.0])}, width=width, height=height)
    rows = picture.splitlines()
    assert len(rows) == height + 2
    canvas = [row.split("│")[1] for row in rows[:height]]
    assert canvas[0].strip()
    assert canvas[0].rstrip() == canvas[0]
    assert not canvas[-1].startswith(" ")
    assert rows[0].startswith("  5 │")
    assert rows[height - 1].startswith("  0 │")


def test_text_of_nothing_is_its_title():
    assert plots.text_curves({"a": ([0.0], [np.nan])}, title="loss") == "loss"


def test_sparkline_is_monotone_and_bounded():
    bar = plots.sparkline(np.linspace(0, 1, 500), width=40)
    assert len(bar) == 40
    assert list(bar) == sorted(bar)
    assert plots.sparkline([np.nan] * 3) == "   "


def test_long_names_leave_the_axes_their_room():
    short, long = (
        plots.schedule({name: lambda step: 0.1, f"{name} too": lambda step: 0.2}, steps=9)
        for name in ("a", "one_cycle(0.003, 2000, pct_start=0.3)")
    )
    widths = []
    for ax in (short, long):
        ax.figure.canvas.draw()
        widths.append(ax.get_window_extent().width)
        assert_legible(ax)
    assert widths[1] > 0.6 * widths[0]


def test_every_rule_has_its_name_in_the_range_test():
    ax = plots.range_test(range_result())
    assert {"steepest", "minimum"} <= {text.get_text() for text in texts(ax)}
    assert_legible(ax)


@pytest.mark.parametrize("rise", [False, True])
def test_a_run_is_drawn_with_what_was_found_in_it(rise):
    history = run(rise=rise) | {"lr": np.full(200, 0.1)}
    said = diagnose(history)
    ax = plots.diagnosed(history, title="A run")
    assert ax.get_title(loc="left") == "A run"
    assert said.verdict.replace("_", " ") in {text.get_text() for text in texts(ax)}
    below = " ".join(ax.figure.get_supxlabel().split())
    assert said.findings[0].advice in below
    shared = style.new_axes()
    assert plots.diagnosed(history, ax=shared) is shared
    assert not shared.figure.get_supxlabel()

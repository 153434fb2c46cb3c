"""Pictures: what is drawn, where names stand, what a web page and a terminal receive."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import stepsize as ss
from stepsize import diagnose, plots, problems
from stepsize.curves import moving_average
from stepsize.plots import style, views
from stepsize.tuning.results import TuneResult
from stepsize.tuning.trials import TrialRecord

matplotlib = pytest.importorskip("matplotlib")
pyplot = pytest.importorskip("matplotlib.pyplot")


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


def noisy(history, size=0.2):
    factors = np.exp(size * np.random.default_rng(0).standard_normal(len(history["loss"])))
    return history | {"loss": history["loss"] * factors}


def test_one_run_shows_steps_average_and_validation():
    ax = plots.learning_curves(noisy(run()), title="A run")
    assert {text.get_text() for text in texts(ax)} == {"training", "validation"}
    raw, average, held_out = ax.lines
    assert np.array_equal(raw.get_ydata(), noisy(run())["loss"])
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
    """In a fresh process: drawing changes no setting, and a report's imports no pyplot either."""
    code = """
import sys, matplotlib
read = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}
before = read()
from stepsize import plots
from stepsize.plots.style import offscreen
with offscreen():
    ax = plots.curves([0, 1], {"a": [1, 2]})
plots.svg(ax), plots.png(ax)
assert "matplotlib.pyplot" not in sys.modules
plots.curves([0, 1], {"a": [1, 2]})
assert "matplotlib.pyplot" in sys.modules
assert read() == before
"""
    environment = os.environ | {"MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)


def drawings():
    history = run() | {"lr": np.full(200, 0.1)}
    tried = TuneResult((TrialRecord({"lr": 0.1}, 1.0, "done", (), 0.0),))
    return {
        "learning_curves": lambda **k: plots.learning_curves(history, **k),
        "run_curves": lambda **k: plots.run_curves(history, **k),
        "diagnosed": lambda **k: plots.diagnosed(history, **k),
        "range_test": lambda **k: plots.range_test(range_result(), **k),
        "schedule": lambda **k: plots.schedule(lambda step: 0.1, **k),
        "curves": lambda **k: plots.curves([0, 1], {"a": [1, 2]}, **k),
        "comparison": lambda **k: plots.comparison({"a": [1, 2]}, **k),
        "heatmap": lambda **k: plots.heatmap([0.1, 1.0], [1, 2], np.eye(2), **k),
        "landscape": lambda **k: plots.landscape(problems.saddle(), {"a": np.eye(2)}, **k),
        "tuning": lambda **k: plots.tuning(tried, **k),
    }


@pytest.mark.parametrize("name", drawings())
def test_a_picture_is_where_users_of_pyplot_look_for_it(name, tmp_path):
    ax = drawings()[name]()
    assert pyplot.gcf() is ax.figure and pyplot.gca() is ax
    assert ax.figure.number in pyplot.get_fignums()
    pyplot.savefig(tmp_path / "a.png")
    image = pyplot.imread(tmp_path / "a.png")
    assert (image[..., :3] < 0.9).any(), "a white page"
    pyplot.close(ax.figure)
    with style.offscreen():
        assert drawings()[name]().figure.canvas.manager is None
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("name", sorted(set(drawings()) - {"heatmap"}))
@pytest.mark.parametrize(
    ("layout", "made"), [(None, "subplots"), ("constrained", "subplots"), (None, "by hand")]
)
def test_axes_given_are_kept_within_their_place(name, layout, made):
    figure = pyplot.figure(figsize=(8, 6), layout=layout)
    if made == "subplots":
        ax, *others = figure.subplots(2, 2).ravel()
    else:
        ax, others = (
            figure.add_axes((0.1, 0.55, 0.35, 0.4)),
            [figure.add_axes((0.6, 0.1, 0.3, 0.3))],
        )
    before = {*figure.axes}
    assert drawings()[name](ax=ax) is ax
    figure.canvas.draw()
    drawn = [ax, *(set(figure.axes) - before)]
    boxes = [one.get_tightbbox() for one in drawn]
    page = figure.bbox
    for box in boxes:
        assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1
        assert page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1
        for other in others:
            theirs = other.get_window_extent()
            # A pixel for rounding.
            wide = box.x1 <= theirs.x0 + 1 or theirs.x1 <= box.x0 + 1
            assert wide or box.y1 <= theirs.y0 + 1 or theirs.y1 <= box.y0 + 1, (box, theirs)
    assert not figure.get_supxlabel()


def test_every_metric_of_the_validation_is_drawn_off_the_axis_of_the_loss():
    checks = np.arange(200) % 20 == 19
    metrics = {
        "accuracy": np.where(checks, np.linspace(0, 0.9, 200), np.nan),
        "f1": np.where(checks, np.linspace(0, 0.7, 200), np.nan),
        "perplexity": np.where(checks, np.linspace(900, 80, 200), np.nan),
        "never_measured": np.full(200, np.nan),
    }
    columns = run() | {"lr": np.linspace(0.1, 0, 200)}
    history = ss.History.from_arrays(**columns, **{f"val_{k}": v for k, v in metrics.items()})
    bare = ss.History.from_arrays(**columns).plot()
    for ax in (
        history.plot(),
        plots.diagnosed(history),
        history.plot(ax=pyplot.figure().add_subplot(2, 2, 1)),
    ):
        siblings = ax.figure.axes
        assert [one.get_ylabel() for one in siblings] == ["loss", "", "perplexity", "rate"]
        assert len(ax.lines) == len(bare.lines)
        drawn = [line.get_ydata() for panel in siblings[1:3] for line in panel.lines]
        for values, name in zip(drawn, ("accuracy", "f1", "perplexity"), strict=True):
            np.testing.assert_array_equal(values, metrics[name][checks])
        below = siblings[1]
        legend = below.get_legend()
        named = [t.get_text() for t in (legend.get_texts() if legend else below.texts)]
        assert sorted(filter(None, named)) == ["accuracy", "f1"]
        assert_legible(below)
    lines = history.plot_text().splitlines()[-3:]
    assert [line.split()[0] for line in lines] == ["accuracy", "f1", "perplexity"]
    assert lines[-1].split()[1::2] == ["821.7", "80"]
    assert max(map(len, lines)) <= 78


def test_importing_plots_needs_no_matplotlib():
    code = "import sys, stepsize.plots; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.delattr(matplotlib, "pyplot", raising=False)
    with pytest.raises(ImportError, match=r'pip install "stepsize\[plot\]"'):
        plots.curves([0, 1], {"a": [1, 2]})
    with style.offscreen(), pytest.raises(ImportError, match=r'pip install "stepsize\[plot\]"'):
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


def line_of(ax, name):
    """The strong line of a run: the last one before that of the next."""
    wanted = next(text.get_color() for text in texts(ax) if text.get_text() == name)
    index = next(k for k, pair in enumerate(style.COLOURS) if pair[1] == wanted)
    return [line for line in ax.lines if line.get_color() == style.COLOURS[index][0]][-1]


def test_what_has_no_noise_is_drawn_as_it_is_however_long_the_run():
    loss = 1e-6 + 2 * np.exp(-np.arange(2000) / 20)
    runs = {"alone": {"loss": loss[:400]}, "longer": {"loss": loss}, "noisy": noisy({"loss": loss})}
    ax = plots.learning_curves(runs)
    assert ax.get_yscale() == "log"
    np.testing.assert_array_equal(line_of(ax, "alone").get_ydata(), loss[:400])
    np.testing.assert_array_equal(line_of(ax, "longer").get_ydata(), loss)
    # Within its noise, at no step later or earlier: nothing was averaged with far larger losses.
    ratio = line_of(ax, "noisy").get_ydata() / loss
    assert ratio.min() > 0.8 and ratio.max() < 1.25
    faint = [line for line in ax.lines if line.get_alpha() == views.FAINT]
    np.testing.assert_array_equal(faint[0].get_ydata(), runs["noisy"]["loss"])


def test_all_runs_of_a_picture_have_one_window():
    rng = np.random.default_rng(1)
    loss = 2 + rng.standard_normal(4000) / 10
    short, long = views.smoothed([loss[:400], loss], log=False)
    assert np.std(short[100:300]) == pytest.approx(np.std(long[100:300]), rel=0.3)
    np.testing.assert_allclose(short[50:350], long[50:350])


@pytest.mark.parametrize("window", [2, 3, 7, 100])
@pytest.mark.parametrize("length", [1, 2, 3, 50, 101])
def test_a_centred_average_leaves_a_line_as_it_is(window, length):
    line = 3.0 - 0.25 * np.arange(length)
    # Sums in another order: a few units in the last place.
    np.testing.assert_allclose(moving_average(line, window), line, atol=1e-12)


def test_a_centred_average_keeps_small_values_beside_large_ones():
    row = np.full(2000, 1e-9)
    row[:3] = 1e9
    np.testing.assert_allclose(moving_average(row, 5)[100:], 1e-9, rtol=1e-6)


def test_a_jump_of_a_schedule_stands_upright():
    for every, steps in ((10, 50), (300, 1000), (30_000, 100_000)):
        ax = plots.schedule(ss.schedules.step_decay(0.1, every, 0.5), steps=steps)
        x, y = ax.lines[0].get_data()
        (rows,) = np.nonzero(np.diff(y))
        assert (np.diff(x)[rows] == 0).all()
        assert x[rows].tolist() == list(range(every, steps, every))
    smooth = plots.schedule(ss.schedules.warmup_cosine(0.1, 10, 1000), steps=1001).lines[0]
    assert (np.diff(smooth.get_xdata()) > 0).all()


def test_a_schedule_is_drawn_to_its_end_with_its_peak_in_a_row():
    schedule = ss.schedules.warmup_cosine(3e-3, 137, 1000)
    assert schedule.plot().lines[0].get_xdata()[-1] == 1000
    assert ">1000</text>" in schedule.svg()
    rows = schedule.table().splitlines()[1:]
    assert any(row.split() == ["137", "0.003"] for row in rows)
    assert rows[-1].split() == ["1000", "0"]


def test_ticks_of_one_axis_are_written_in_one_way():
    x = np.geomspace(1e-6, 1, 20)
    ax = plots.curves(x, {"": x}, xscale="log", yscale="log")
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_xticklabels() if label.get_text()]
    assert len(labels) > 3 and all("e" in label for label in labels)
    x = np.geomspace(1e-3, 1, 20)
    ax = plots.curves(x, {"": 1000 + x}, xscale="log")
    ax.figure.canvas.draw()
    assert not any("e" in label.get_text() for label in ax.get_xticklabels())
    assert not ax.yaxis.get_offset_text().get_text()


def test_a_name_stands_at_the_end_of_its_line():
    runs = {"long": run(300), "short": run(100, low=1.0), "lost": run(200, rise=True)}
    ax = plots.learning_curves(runs)
    ax.figure.canvas.draw()
    to_axes = ax.transData + ax.transAxes.inverted()
    for text in texts(ax):
        end = to_axes.transform(np.column_stack(line_of(ax, text.get_text()).get_data())[-1])
        assert text.xy[1] == pytest.approx(np.clip(end[1], 0, 1), abs=0.05)
    leaders = [text for text in ax.texts if text.arrow_patch is not None]
    assert len(leaders) == 2, "of the lines that end before the edge"
    assert_legible(ax)


def test_the_range_test_shows_the_losses_that_decide():
    result = range_result()
    result.losses = result.losses.copy()
    result.losses[40], result.losses[70] = 0.2, 50.0
    result.probes = ((0.01, np.full(9, 1.8)), (0.1, np.linspace(2, 0.1, 9)), (3.0, np.array([])))
    ax = plots.range_test(result)
    low, high = ax.get_ylim()
    assert low < 0.2 and low < 0.1
    shown = [line for line in ax.lines if line.get_marker() == "o"]
    assert shown[0].get_xdata().tolist() == [0.01, 0.1]
    above = np.concatenate([line.get_xdata() for line in ax.lines if line.get_marker() == "^"])
    assert result.lrs[70] in above and 3.0 in above
    assert set(result.lrs[~(result.losses <= high)]) <= set(above)
    assert min(ax.get_yticks()) > -0.5, "a loss that none of them had"


@pytest.mark.parametrize("space", [ss.LogUniform(0.01, 0.1), ss.Uniform(0.01, 0.1)])
def test_the_axis_of_a_search_is_the_one_it_was_searched_on(space):
    found = ss.tune(lambda p: p["size"], {"size": space}, trials=6, method="random")
    wanted = "log" if isinstance(space, ss.LogUniform) else "linear"
    assert found.plot().get_xscale() == wanted


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


def test_every_line_of_the_range_test_has_its_name():
    result = range_result()
    result.peak, result.probes = 0.5, ((0.1, np.ones(9)), (0.3, np.full(9, 1.2)))
    ax = plots.range_test(result)
    names = " ".join(text.get_text() for text in texts(ax))
    for name in ("smoothed loss", "constant rates", "suggested 0.1", "schedule peak 0.5"):
        assert name in names
    assert "race" not in names and "slide" not in names
    upright = {
        float(line.get_xdata()[0])
        for line in ax.lines
        if len(line.get_xdata()) == 2 and np.ptp(line.get_xdata()) == 0
    }
    assert upright == {0.1, 0.5}


def test_every_rule_has_its_name_in_the_range_test():
    ax = plots.range_test(range_result())
    assert {"steepest descent", "minimum / 10", "smoothed loss"} <= {
        text.get_text() for text in texts(ax)
    }
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


@pytest.mark.parametrize(
    ("top", "labels"),
    [(1.2e299, ["4e298", "1.2e299"]), (5e-6, ["1e-6", "5e-6"]), (0.5, ["0.0", "0.1"])],
)
def test_a_linear_axis_has_whole_numbers_and_no_power_to_multiply_by(top, labels):
    from stepsize.plots.style import dress, new_axes

    ax = new_axes()
    ax.plot([0.0, top])
    dress(ax, xlabel="step")
    ax.figure.canvas.draw()
    drawn = [text.get_text() for text in ax.get_yticklabels()]
    assert set(labels) <= set(drawn) and not ax.yaxis.get_offset_text().get_text()

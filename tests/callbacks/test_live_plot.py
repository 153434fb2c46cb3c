"""The picture that follows a run: where it is drawn, how often, and that it costs no training."""

import sys
import time
import types
import warnings

import numpy as np
import pytest

import stepsize as ss
from stepsize.callbacks import live_plot


def train(callback, steps=60, pause=0.0, nan=(), **options):
    params = np.ones(3)

    def value_and_grad(p, b):
        if pause:
            time.sleep(pause)
        value_and_grad.calls += 1
        return (np.nan if value_and_grad.calls in nan else float(p @ p)), 2 * p

    value_and_grad.calls = 0
    optimizer = ss.SGD(params, lr=ss.schedules.cosine(0.05, 0.0, 90), on_nonfinite="ignore")
    options = {"progress": False, "callbacks": [callback], **options}
    return ss.fit(
        value_and_grad, params, optimizer, [None] * (steps // 2), epochs=2,
        validation=[None], evaluate=lambda p, b: {"loss": 1.0, "accuracy": 0.5}, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["run.png", "run.svg", "deep/er/run.pdf"])
def test_a_file_is_written_whole_and_leaves_nothing_else(tmp_path, name):
    live = ss.LivePlot(tmp_path / name, every_seconds=0.0)
    train(live, pause=0.01)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files] == [name.split("/")[-1]]
    assert files[0].read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    assert live.drawn >= 1


def test_the_pictures_take_a_small_share_of_the_run(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(live_plot, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))

    def target(history):
        clock[0] += 1.0  # a second each

    monkeypatch.setattr(live_plot, "_file", lambda path: target)
    live = ss.LivePlot(tmp_path / "run.png", every_seconds=0.0)
    live.on_start(None)
    run = types.SimpleNamespace(history=ss.History.from_arrays(loss=[1.0]))
    for _ in range(10_000):
        clock[0] += 0.1
        live.on_step(run)
    assert live.drawn > 40 and live.seconds - 1 <= 0.05 * clock[0]


def test_nothing_is_drawn_before_its_time_but_the_end_is(tmp_path):
    live = ss.LivePlot(tmp_path / "run.png", every_seconds=1e6)
    train(live)
    assert live.drawn == 1


def test_a_script_without_a_window_is_told_to_name_a_file():
    with pytest.raises(ValueError, match=r'ss.LivePlot\("run.png"\)'):
        train(ss.LivePlot())


@pytest.mark.parametrize("path", ["run", "run.jpeg", "run.csv"])
def test_another_format_is_refused_before_the_run(path):
    with pytest.raises(ValueError, match=r"path must end in \.png, \.svg, \.pdf"):
        ss.LivePlot(path)


def test_a_picture_that_fails_is_warned_of_once_and_the_run_goes_on(tmp_path, monkeypatch):
    live = ss.LivePlot(tmp_path / "run.png", every_seconds=0.0)
    monkeypatch.setattr(live_plot, "_file", lambda path: lambda history: 1 / 0)
    with pytest.warns(UserWarning, match="no more pictures of this run: division by zero") as seen:
        history = train(live)
    told = [one for one in seen if "LivePlot" in str(one.message)]
    assert history.steps == 60 and len(told) == 1 and live.drawn == 0


def test_losses_that_are_not_finite_are_holes(tmp_path):
    from stepsize import plots

    loss = np.linspace(2.0, 1.0, 50)
    loss[20:25] = np.nan
    line = plots.learning_curves(ss.History.from_arrays(loss=loss)).lines[0]
    drawn = line.get_ydata()
    assert np.flatnonzero(np.isnan(drawn)).tolist() == [20] and len(drawn) == 46
    live = ss.LivePlot(tmp_path / "run.png", every_seconds=0.0)
    params = np.ones(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ss.fit(
            lambda p, b: (np.nan, 2 * p), params, ss.SGD(params, lr=0.1, on_nonfinite="ignore"),
            [None] * 3, epochs=1, callbacks=[live], progress=False,
        )  # fmt: skip


def test_a_resumed_run_is_drawn_from_its_start(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(live_plot, "_file", lambda path: lambda history: seen.append(history))
    file = tmp_path / "run.safetensors"
    train(ss.LivePlot(tmp_path / "a.png"), steps=60, checkpoint=file)
    params = np.ones(3)
    optimizer = ss.SGD(params, lr=ss.schedules.cosine(0.05, 0.0, 90), on_nonfinite="ignore")
    with pytest.warns(UserWarning, match="differs .* value_and_grad="):
        ss.fit(
            lambda p, b: (float(p @ p), 2 * p), params, optimizer, [None] * 30, epochs=3,
            validation=[None], evaluate=lambda p, b: {"loss": 1.0, "accuracy": 0.5},
            callbacks=[ss.LivePlot(tmp_path / "a.png")], checkpoint=file, resume=True,
            progress=False,
        )  # fmt: skip
    assert [history.steps for history in seen] == [60, 90]


def test_a_notebook_gets_one_output_that_is_drawn_anew(monkeypatch):
    shown = []

    class Handle:
        def update(self, value):
            shown.append(value)

    display = types.ModuleType("IPython.display")
    display.HTML = str
    display.display = lambda value, display_id: Handle()
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(live_plot, "in_notebook", lambda: True)
    train(ss.LivePlot(every_seconds=0.0), pause=0.01)
    assert len(shown) >= 1 and all(card.startswith('<div class="ss-card">') for card in shown)
    assert "finished 2 epochs" in shown[-1] and "<svg" in shown[-1] and "accuracy" in shown[-1]


def test_a_window_is_drawn_in_and_left_to_the_user(monkeypatch):
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    class Window(FigureCanvasAgg):
        required_interactive_framework = "made up"

    made = pyplot.figure

    def figure(**options):
        new = made(**options)
        Window(new)
        monkeypatch.setattr(new, "show", lambda: None)
        return new

    monkeypatch.setattr(pyplot, "figure", figure)
    before = set(pyplot.get_fignums())
    live = ss.LivePlot(every_seconds=0.0)
    train(live, pause=0.005)
    (number,) = set(pyplot.get_fignums()) - before
    assert live.drawn >= 1
    pyplot.close(number)
    assert set(pyplot.get_fignums()) == before

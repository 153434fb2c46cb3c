"""Public bug reports about notebooks, progress bars and live plots, each tried here."""

import json
import re
import subprocess
import sys

import numpy as np

import stepsize as ss
from reports import report
from stepsize.report.notebook import DARK, IS_DARK, STYLE
from stepsize.watching.state import RunState


def quadratic(params, batch):
    return float(params @ params), 2 * params


def fit(callbacks, epochs=2, **options):
    params = np.ones(2)
    options = {"progress": False, "callbacks": callbacks, "epochs": epochs} | options
    return ss.fit(quadratic, params, ss.SGD(params, lr=0.1), [None] * 10, **options)


@report(
    "tqdm/tqdm#1082",
    "a progress bar in a notebook without ipywidgets ends the loop, or warns of them at each start",
    "mended: the warning was here too",
)
def test_a_notebook_without_widgets_trains():
    code = """
import sys, warnings
from types import ModuleType, SimpleNamespace
warnings.simplefilter("error")
for name in ("IPython", "ipykernel", "ipykernel.zmqshell"):
    sys.modules[name] = ModuleType(name)
sys.modules["IPython"].get_ipython = lambda: SimpleNamespace(kernel=object())
sys.modules["ipywidgets"] = None
import numpy as np, stepsize as ss
x = np.ones(2)
ss.fit(lambda p, b: (float(p @ p), 2 * p), x, ss.SGD(x, lr=0.1), [None] * 9, epochs=1)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and "9/9" in run.stderr and "IProgress" not in run.stderr


@report(
    "fastai/fastai#3844",
    "a live plot fails in a run that is resumed, whose earlier epochs it has not seen",
)
def test_a_resumed_run_is_plotted(tmp_path):
    file, picture = tmp_path / "run.safetensors", tmp_path / "run.png"
    fit([ss.LivePlot(picture)], checkpoint=file, validation=[None])
    picture.unlink()
    live = ss.LivePlot(picture)
    history = fit([live], epochs=3, checkpoint=file, resume=True, validation=[None])
    assert history.steps == 30 and live.drawn == 1 and picture.exists()


@report(
    "stared/livelossplot#52",
    "a live plot in a script stops the training until its window is closed",
)
def test_a_window_does_not_stop_the_training(monkeypatch):
    from matplotlib import pyplot

    def blocks(*arguments, **options):
        raise AssertionError("it waits for the user")

    monkeypatch.setattr(pyplot, "show", blocks)
    monkeypatch.setattr(pyplot, "pause", blocks)
    made = pyplot.figure

    def figure(**options):
        new = made(**options)
        kind = type(new.canvas)
        new.set_canvas(type("Window", (kind,), {"required_interactive_framework": "any"})(new))
        monkeypatch.setattr(new, "show", lambda: None)
        return new

    monkeypatch.setattr(pyplot, "figure", figure)
    before = set(pyplot.get_fignums())
    live = ss.LivePlot(every_seconds=0.0)
    assert fit([live]).steps == 20 and live.drawn
    for number in set(pyplot.get_fignums()) - before:
        pyplot.close(number)


@report(
    "geopandas/xyzservices#66",
    "what a result shows in a notebook is illegible in a dark theme",
    "mended: names in pictures stood on white",
)
def test_a_card_has_its_own_background_in_every_theme():
    found = ss.lr_find(quadratic, np.ones(2), [None], progress=False)
    card = found._repr_html_()
    assert "background:var(--paper)" in STYLE and f":is({IS_DARK}) .ss-card{{{DARK}}}" in STYLE
    assert not re.search(r"fill: *(#fff(fff)?|white)\b", card)


@report(
    "tensorflow/tensorboard#6782",
    "the page that follows a run shows nothing, or both, where the run was restarted",
)
def test_a_restarted_run_is_followed(tmp_path):
    path, file = tmp_path / "run.jsonl", tmp_path / "run.safetensors"
    state = RunState(path)
    fit([ss.JSONLogger(path)], checkpoint=file)
    first = state.told()
    assert first["step"] == 20 and first["state"] == "ended"
    fit([ss.JSONLogger(path)], epochs=3, checkpoint=file, resume=True)
    told = state.told(first["version"])
    (line,) = told["panels"][0]["lines"]
    assert line["x"] == list(range(1, 31)) and told["step"] == 30
    fit([ss.JSONLogger(path)], epochs=1)  # from anew
    assert state.told()["panels"][0]["lines"][0]["x"] == list(range(1, 11))
    assert "NaN" not in json.dumps(told)

"""Progress bars in notebooks, terminals and logs, with kernels and widgets that are made up."""

import io
import subprocess
import sys
import warnings
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import stepsize as ss
from stepsize import bars
from stepsize.finder.trials import ticker
from stepsize.training.progress import Progress
from stepsize.tuning.progress import SearchProgress


def pretend(monkeypatch, kernel):
    """An IPython whose shell has a kernel, or none."""
    shell = SimpleNamespace(kernel=object()) if kernel else SimpleNamespace()
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())


WAYS = {
    "fit": lambda: Progress(None, 10)._bar,
    "tune": lambda: SearchProgress(None, 10, 1)._bar,
    "lr_find": lambda: ticker(None, 10)[1],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_notebook_gets_a_bar_and_a_log_does_not(monkeypatch, way):
    pretend(monkeypatch, kernel=True)
    bar = WAYS[way]()
    assert bar is not None and bar.monitor_interval == 0
    bar.close()
    # That ipykernel is loaded does not make a notebook of a log.
    pretend(monkeypatch, kernel=False)
    assert WAYS[way]() is None


def test_a_notebook_without_widgets_is_not_told_to_install_them():
    code = """
import sys, warnings
from types import ModuleType, SimpleNamespace
for name in ("IPython", "ipykernel", "ipykernel.zmqshell"):
    sys.modules[name] = ModuleType(name)
sys.modules["ipywidgets"] = None
sys.modules["IPython"].get_ipython = lambda: SimpleNamespace(kernel=object())
sys.modules["IPython.display"] = ModuleType("IPython.display")
sys.modules["IPython.display"].display = print
warnings.simplefilter("error")
from stepsize.bars import open_bar
with open_bar(total=3, unit="step", dynamic_ncols=True) as bar:
    bar.update(3)
assert bar.n == 3
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "IProgress" not in run.stderr and "3/3" in run.stderr


def test_a_widget_that_cannot_be_made_costs_no_training(monkeypatch):
    import tqdm.auto

    class Broken(tqdm.auto.tqdm):
        def __init__(self, *args, **options):
            raise RuntimeError("no comm")

    monkeypatch.setattr(tqdm.auto, "tqdm", Broken)
    pretend(monkeypatch, kernel=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = _fit()
    assert history.steps == 5 and "5/5" in sys.stderr.getvalue()


def _fit():
    params = np.ones(2)
    optimizer = ss.SGD(params, lr=0.1)
    return ss.fit(lambda p, b: (float(p @ p), 2 * p), params, optimizer, [None] * 5, epochs=1)


def test_without_ipython_there_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not bars.in_notebook()
    monkeypatch.setattr(sys, "stderr", None)
    assert not bars.can_redraw()

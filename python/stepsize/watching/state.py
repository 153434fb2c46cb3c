"""What the page is told of a run: its state, its diagnosis in words, and the curves to draw."""

from __future__ import annotations

import math
import threading
import time
import warnings
from typing import Any

import numpy as np

from stepsize.arrays import Curve
from stepsize.diagnosis import VERDICTS, diagnose, words
from stepsize.plots.style import number
from stepsize.watching.following import Follower
from stepsize.watching.series import RunLog, Series

__all__ = ["RunState"]

PANELS = 16
LOG_RATIO = 20  # highest over lowest value from which on an axis is logarithmic
QUIET = 60.0  # seconds without a new line after which a run is said to be quiet
AGAIN = 0.05  # share of new rows from which on a run is diagnosed again
BETWEEN = 2.0  # seconds between two drawings of a file that is still being read
SHORT = 80
TITLES = {
    "lr": "learning rate",
    "grad_norm": "norm of the gradient",
    "update_ratio": "update / parameters",
    "param_norm": "norm of the parameters",
}


class RunState:
    """One file, what was read of it, and what the page shows of that; for several threads."""

    def __init__(self, path: Any) -> None:
        self._follower = Follower(path)
        self._lock = threading.Lock()
        self._version = ""
        self._body: dict[str, Any] = {}
        self._panels: list[dict[str, Any]] = []
        self._panels_of = (0, 0.0)
        self._diagnosed: tuple[Any, ...] = ()
        self._diagnosis: dict[str, Any] | None = None

    def told(self, since: str = "") -> dict[str, Any]:
        """What the page shows; only that nothing is new where it has seen this version."""
        with self._lock:
            problem = ""
            try:
                self._follower.read()
            except OSError as error:
                problem = error.strerror or str(error)
                if isinstance(error, PermissionError):
                    problem += "; let this user read it, such as by chmod +r"
            follower, log = self._follower, self._follower.log
            problem = problem or follower.foreign
            age = None if follower.changed is None else max(0.0, time.time() - follower.changed)
            state = self._state(problem, age)
            version = f"{follower.generation}.{follower.lines}.{follower.offset}.{state}.{problem}"
            if version != self._version:
                self._version, self._body = version, self._made(log, state, problem)
            always = {"version": version, "age": age}
            return always | ({"same": True} if since == version else self._body)

    def _state(self, problem: str, age: float | None) -> str:
        follower = self._follower
        if problem:
            return "unreadable"
        if not follower.size:
            return "waiting"
        if follower.behind:
            return "reading"
        if follower.log.stopped is not None:
            return "ended"
        return "quiet" if age is not None and age > QUIET else "running"

    def _made(self, log: RunLog, state: str, problem: str) -> dict[str, Any]:
        follower, drawn = self._follower, self._drawn(log, state)
        return {
            "name": follower.path.name,
            "state": state,
            "problem": problem,
            "read": follower.offset / follower.size if follower.size else 0.0,
            "stopped": log.stopped,
            "step": int(log.step) if math.isfinite(log.step) else 0,
            "epoch": log.epoch,
            "bad": "" if problem else "; ".join(follower.notes),
            "empty": "" if problem or drawn else self._empty(log, state),
            "facts": log.facts,
            "latest": [
                (name[:SHORT], number(series.last))
                for name, series in list(log.series.items())[:12]
            ],
            "diagnosis": self._judged(log, state),
            "panels": drawn,
        }

    def _empty(self, log: RunLog, state: str) -> str:
        """Why there is nothing to draw, where there is nothing."""
        if state == "reading":
            return ""
        if state == "waiting":
            return "the file is empty so far" if self._follower.present else ""
        if log.series:
            return "every number so far is NaN or infinite"
        if log.events:
            return "no numbers were logged yet: each step needs some, such as loss"
        return "no step was logged yet"

    def _drawn(self, log: RunLog, state: str) -> list[dict[str, Any]]:
        """The charts; while a long file is read they are made anew only now and then."""
        now, since = time.monotonic(), self._panels_of
        if state != "reading" or since[0] != self._follower.generation or now >= since[1]:
            self._panels = panels(log)
            self._panels_of = (self._follower.generation, time.monotonic() + BETWEEN)
        return self._panels

    def _judged(self, log: RunLog, state: str) -> dict[str, Any] | None:
        """The diagnosis, made anew where enough has come; None while there is none."""
        rows = len(log.series["loss"]) if "loss" in log.series else 0
        if state == "reading" or not rows:
            return self._diagnosis if rows else None
        key = (self._follower.generation, rows, log.stopped)
        same = self._diagnosed[:1] == key[:1] and self._diagnosed[2:] == key[2:]
        if same and rows - self._diagnosed[1] <= AGAIN * rows:
            return self._diagnosis
        self._diagnosed, self._diagnosis = key, judged(log)
        return self._diagnosis


def judged(log: RunLog) -> dict[str, Any] | None:
    """The diagnosis of a run in words, None where its numbers allow none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            history = log.history()
            found = None if history is None else diagnose(history)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    if found is None:
        return None
    lead, _, rest = str(found).partition(". ")
    row = VERDICTS.get(found.verdict)
    share = found.probabilities.get(found.verdict)
    stride = log.series["loss"].stride
    return {
        "verdict": words(found.verdict),
        "tone": "bad" if found.mismatch else row.tone if row else "none",
        "lead": lead.rstrip(".") + ".",
        "rest": rest,
        "share": "" if share is None or not found.enough_data else f"{share:.0%}",
        "note": f"judged by one row in {stride}: the run is very long" if stride > 1 else "",
    }


def panels(log: RunLog) -> list[dict[str, Any]]:
    """The charts: losses, rate and norms, then what else was measured, each with its lines."""
    series = log.series
    losses = [name for name in ("loss", "val_loss") if name in series]
    names = [name for name in TITLES if name in series]
    rest = sorted(
        (name for name in series if name not in TITLES and name not in ("loss", "val_loss")),
        key=lambda name: not name.startswith("val_"),
    )
    made = [_panel("loss", {name: series[name] for name in losses})] if losses else []
    made += [_panel(TITLES[name], {name: series[name]}) for name in names]
    made += [_panel(name.removeprefix("val_")[:SHORT], {name: series[name]}) for name in rest]
    return [one for one in made if one["lines"]][:PANELS]


def _panel(title: str, lines: dict[str, Series]) -> dict[str, Any]:
    drawn: list[dict[str, Any]] = []
    seen: list[Curve] = []
    for name, series in lines.items():
        x, y = series.drawn()
        if not np.isfinite(y).any():
            continue
        seen.append(y[np.isfinite(y)])
        label = {"loss": "training", "val_loss": "validation"}.get(name, name)[:SHORT]
        smooth = None if name == "lr" else series.smoothed()
        line: dict[str, Any] = {"name": label, "last": _plain(np.array([series.last]))[0]}
        line |= {"x": _plain(x), "y": _plain(y), "faint": smooth is not None}
        if smooth is not None:
            line["smooth"] = [_plain(smooth[0]), _plain(smooth[1])]
        drawn.append(line)
    low = min((float(y.min()) for y in seen), default=0.0)
    high = max((float(y.max()) for y in seen), default=0.0)
    return {"title": title, "log": 0 < low < high / LOG_RATIO, "lines": drawn}


def _plain(values: Curve) -> list[float | None]:
    """Numbers in eight digits; null for what JSON cannot hold."""
    return [float(f"{v:.8g}") if math.isfinite(v) else None for v in values.tolist()]

"""Whether right gradients get the advice they got before: ``python bench/gradients/same.py``.

The tasks of ``bench/advice``, each with one rule, twice: as they are, and with all that looks for
wrong gradients taken out, the slopes of the steps and the calls at the end. `lr_find` has to give
the same rates, `diagnose` of runs at 0.01 to 100 times the best rate the same words.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import told
from families import make
from tasks import RULES, tasks

import stepsize as ss
from stepsize.finder import trials
from stepsize.training import fitting, loop
from stepsize.training.slopes import StepSlopes


class UnitsAlone(StepSlopes):
    """Keeps what `StepSlopes` sees of units without a gradient, a finding of its own."""

    def gradient(self, grads: Any) -> None:
        super().gradient(grads)
        self._run.history.meta.pop("slopes", None)

    def _note_still(self) -> None:
        pass


@contextmanager
def unscreened() -> Iterator[None]:
    with (
        mock.patch.object(trials, "wrong_gradients", lambda *given, **more: ("", 0)),
        mock.patch.object(trials.Trial, "_pair", lambda *given: None),
        mock.patch.object(fitting, "look_for_wrong_gradients", lambda *given: None),
        mock.patch.object(loop, "StepSlopes", UnitsAlone),
    ):
        yield


def answers(task: Any, rule: str, centre: float) -> tuple[list[Any], dict[str, int]]:
    """What both say, and the calls that looks added."""
    found = ss.lr_find(
        task.value_and_grad,
        task.params(0),
        lambda: task.batches(0),
        optimizer=make(rule),
        progress=False,
    )
    said = [(found.suggestions, found.peak, found.confidence, found.why, str(found))]
    calls = {"lr_find": found.checks, "fit": 0, "runs checked": 0}
    for decades in told.RATES:
        params = task.params(0)
        optimizer = make(rule)(params, lr=10.0 ** (centre + decades))
        steps = min(told.STEPS, task.steps)
        history = ss.fit(task.value_and_grad, params, optimizer, task.batches(0), steps=steps)
        found = ss.diagnose(history)
        said.append((found.verdict, found.suggested_lr, str(found), history["loss"].tobytes()))
        calls["fit"] += history.meta.get("checked", {}).get("calls", 0)
        calls["runs checked"] += "checked" in history.meta
    return said, calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="one task in so many")
    parser.add_argument("--first", type=int, default=0, help="where to begin")
    chosen = parser.parse_args()
    truth = json.loads((told.ADVICE / "truth.json").read_text("utf-8"))
    warnings.simplefilter("ignore")
    asked = differ = 0
    more: dict[str, int] = {}
    with np.errstate(all="ignore"):
        for task in told.mixed(tasks()[chosen.first :: chosen.every]):
            rng = np.random.default_rng(zlib.crc32(task.name.encode()))
            rule = str(rng.choice(sorted(RULES)))
            centre = told.best_rate(truth, task.name, rule)
            with unscreened():
                before, _ = answers(task, rule, centre)
            after, calls = answers(task, rule, centre)
            asked += len(after)
            more = {name: more.get(name, 0) + n for name, n in calls.items()}
            known = differ
            for one, other in zip(before, after, strict=True):
                if repr(one) != repr(other):
                    differ += 1
                    sys.stdout.write(f"{task.name}, {rule}:\n  {one!r:.600}\n  {other!r:.600}\n")
            sys.stdout.write(
                f"{task.name}, {task.split}: {differ - known} of {len(after)} differ\n"
            )
            sys.stdout.flush()
    sys.stdout.write(f"{asked} answers, {differ} differ; calls more: {more}\n")


if __name__ == "__main__":
    main()

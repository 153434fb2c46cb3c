"""What a command did: for JSON, as a table of trials, and as one web page."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepsize.cli.tables import Prepared
from stepsize.curves import with_risers
from stepsize.diagnosis import VERDICTS
from stepsize.plots.style import number, offscreen
from stepsize.validation import counted

__all__ = ["final", "labelled", "next_command", "story_told", "told", "write_report"]
__all__ += ["write_trials"]


def told(prepared: Prepared | None) -> dict[str, Any]:
    """What was decided about a table, for JSON; nothing where there was none."""
    if prepared is None:
        return {}
    columns = [dataclasses.asdict(column) for column in prepared.columns]
    target = dataclasses.asdict(prepared.target)
    return {"decisions": prepared.notes, "columns": columns, "target": target}


def story_told(story: Any, page: Path) -> dict[str, Any]:
    """The story of the demo in numbers, for JSON."""
    runs = {"low": story.low, "right": story.right, "high": story.high}
    return {
        "page": page,
        "suggestion": story.found.suggestion,
        "rates": {
            name: {"lr": run.lr, "accuracy": run.accuracy, "loss": run.loss, "verdict": run.verdict}
            for name, run in runs.items()
            if run is not None
        },
        "schedules": {name: _mean_accuracy(runs) for name, runs in story.schedules.items()},
        "rules": {name: _mean_accuracy(runs) for name, runs in story.rules.items()},
        "holds": story.holds,
        "seconds": story.seconds,
    }


def _mean_accuracy(runs: Any) -> float:
    return float(np.mean([run.accuracy for run in runs]))


def final(history: Any) -> dict[str, float]:
    """The last value of every series that has one, and the mean loss of the last epoch."""
    last = {}
    if isinstance(history.meta.get("epoch_loss"), float):
        last["epoch_loss"] = history.meta["epoch_loss"]
    for name in history:
        values = np.asarray(history[name], float)
        seen = values[~np.isnan(values)]
        if len(seen):
            last[name] = float(seen[-1])
    return last


def labelled(ends: Mapping[str, float]) -> list[list[str]]:
    """These values with their names, those of the two training losses in words."""
    words = {"epoch_loss": "loss, mean of the last epoch", "loss": "loss, last batch"}
    return [[words.get(name, name), number(value)] for name, value in ends.items()]


def next_command(args: argparse.Namespace, rule: str, lr: float) -> str:
    """The line that trains on the table as it was tuned."""
    words = ["stepsize", "train", args.problem, "--target", args.target]
    for name in args.drop:
        words += ["--drop", name]
    words += ["--hidden", ",".join(map(str, args.hidden)) or "0"]
    words += ["--batch-size", str(args.batch_size), "--seed", str(args.seed)]
    words += ["--optimizer", rule, "--lr", f"{lr:.3g}", "--epochs", str(args.epochs)]
    return shlex.join([*words, "--report", "run.html"])


def write_trials(path: Path, results: dict[str, Any]) -> None:
    """The trials of every rule as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rule", "lr", "loss", "state"])
        for name, result in results.items():
            writer.writerows([name, t.point["lr"], t.value, t.state] for t in result.trials)


def write_report(
    path: Path, problem: Any, rule: str, lr: Any, history: Any, diagnosis: Any
) -> None:
    """Write the diagnosis, the learning curves, the rate and the last values to `path`."""
    from stepsize import plots
    from stepsize.report import Page

    ends = final(history)
    page = Page(
        problem.name, f"Trained with {rule} for {counted(int(ends.get('step', 0)), 'step')}."
    )
    cards = []
    if "val_accuracy" in ends:
        cards.append((f"{100 * ends['val_accuracy']:.1f} %", "accuracy on held-out rows"))
    if "val_r2" in ends:
        cards.append((f"{ends['val_r2']:.3f}", "R squared on held-out rows"))
    mean = ends.get("epoch_loss", ends["loss"])
    cards.append((number(mean), "training loss, mean of the last epoch"))
    if "val_loss" in ends:
        cards.append((number(ends["val_loss"]), "held-out loss at the end"))
    page.cards(cards)
    if diagnosis.enough_data:
        verdict = VERDICTS[diagnosis.verdict]
        phrase = f"perhaps {verdict.phrase}" if diagnosis.unsure else verdict.phrase
        page.verdict(f"{phrase.capitalize()}.", str(diagnosis), verdict.tone)
    else:
        page.verdict("Not enough data.", str(diagnosis), "fair")
    with offscreen():
        page.figures(_figures(plots, lr, history, diagnosis))
    page.heading("At the end")
    page.table(["series", "last value"], labelled(ends))
    page.write(path)


def _figures(plots: Any, lr: Any, history: Any, diagnosis: Any) -> list[tuple[Any, str]]:
    """The run with what was found in it, and the rate."""
    curves = plots.diagnosed(history, diagnosis)
    figures = [(curves, "Every step and their average; shaded, where the findings are.")]
    rates = np.asarray(history["lr"], float)
    steps, rates = with_risers(np.asarray(history["step"], float), rates)
    figures.append(
        (
            plots.curves(steps, {"": rates}, title="Rate", xlabel="step", ylabel="learning rate"),
            f"As used by every step: {number(lr) if isinstance(lr, float) else lr}.",
        )
    )
    return figures


def in_words_of_options(diagnosis: Any) -> Any:
    """A diagnosis that advises what can be done on the command line: there no --lr finds a rate."""

    def said(advice: str) -> str:
        return advice.replace("ask lr_find", "leave out --lr")

    findings = (dataclasses.replace(f, advice=said(f.advice)) for f in diagnosis.findings)
    return dataclasses.replace(diagnosis, findings=tuple(findings))

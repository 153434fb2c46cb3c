"""The demo as text in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from stepsize import plots
from stepsize.demo.story import Story, TrainingRun
from stepsize.diagnosis import VERDICTS
from stepsize.plots.style import number
from stepsize.validation import prose


def _columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        first, *rest = row
        words = [f"{first:<{widths[0]}}"]
        words += [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  " + "   ".join(words).rstrip())
    return "\n".join(lines)


def short(rate: float) -> str:
    """A rate to two digits: no run can tell more of them apart."""
    return number(float(f"{rate:.2g}"))


def percent(value: float) -> str:
    """A share as per cent, to one digit."""
    return f"{100 * value:.1f} %"


def spread(runs: Sequence[TrainingRun]) -> str:
    """Mean accuracy, and the lowest and highest of the seeds."""
    values = [run.accuracy for run in runs]
    mean = percent(float(np.mean(values)))
    if len(values) == 1:
        return mean
    return f"{mean} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def loss_of(runs: Sequence[TrainingRun]) -> str:
    """Mean held-out loss of the runs that kept a finite one."""
    finite = [run.loss for run in runs if np.isfinite(run.loss)]
    return f"{np.mean(finite):.3f}" if finite else "not finite"


def tell_find(story: Story) -> str:
    """The range test."""
    train, held_out = story.problem.train, story.problem.validation
    return (
        f"1  Which rate?  A range test on {len(train[0]):,} handwritten digits, "
        f"{len(held_out[0])} held out\n\n"
        f"{plots.text_range_test(story.found)}\n\n{prose(story.found)}"
    )


def tell_rates(story: Story) -> str:
    """The three rates and their diagnoses."""
    runs = three(story)
    rows = [
        [run.name, short(run.lr), percent(run.accuracy), VERDICTS[run.verdict].phrase]
        for run in runs
    ]
    table = _columns(["rate", "value", "accuracy", "diagnosis"], rows)
    words = prose("\n".join(f"  {run.name}: {run.diagnosis}" for run in runs))
    return f"2  Too low, right, too high\n\n{table}\n\n{words}"


def tell_schedules(story: Story) -> str:
    """The table of schedules."""
    rows = [
        [name, rates_of(runs), spread(runs), loss_of(runs)]
        for name, runs in story.schedules.items()
    ]
    head = f"3  Schedules, each from the best of {starts(story)} times the suggestion"
    return f"{head}\n\n{_columns(['schedule', 'rate', 'accuracy', 'loss'], rows)}"


def starts(story: Story) -> str:
    """The factors that every schedule was tried from, in words."""
    *most, last = map(number, story.starts)
    return f"{', '.join(most)} and {last}"


def rates_of(runs: Sequence[TrainingRun]) -> str:
    """The rate, or the lowest and highest where the seeds differ."""
    rates = [short(run.lr) for run in runs]
    return (
        rates[0] if len(set(rates)) == 1 else f"{min(rates, key=float)} to {max(rates, key=float)}"
    )


def tell_rules(story: Story) -> str:
    """The table of rules."""
    rows = [
        [name, rates_of(runs), spread(runs), loss_of(runs)] for name, runs in story.rules.items()
    ]
    head = "4  Rules, each at the rate found for it"
    return f"{head}\n\n{_columns(['rule', 'rate', 'accuracy', 'loss'], rows)}"


def tell_end(story: Story, path: Path) -> str:
    """Whether the demo showed what it set out to show, and where the page is."""
    checks = "\n".join(f"  {'yes' if ok else 'NO'}  {what}" for what, ok in story.holds.items())
    return f"{checks}\n\n{story.seconds:.0f} s. Report: {path}"


def three(story: Story) -> list[TrainingRun]:
    """The low, the right and the high run."""
    runs = [run for run in (story.low, story.right, story.high) if run is not None]
    return runs

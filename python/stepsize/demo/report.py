"""The demo as a web page and as pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepsize import plots
from stepsize.demo.story import Settings, Story, TrainingRun, mean_accuracy, tell
from stepsize.demo.terminal import (
    loss_of,
    percent,
    rates_of,
    short,
    spread,
    starts,
    tell_end,
    tell_find,
    tell_rates,
    tell_rules,
    tell_schedules,
    three,
)
from stepsize.diagnosis import VERDICTS
from stepsize.plots.style import new_axes, offscreen
from stepsize.report import Page
from stepsize.serialization.replaceable import check_replaceable
from stepsize.tuning.results import TuneResult
from stepsize.tuning.trials import TrialRecord

__all__ = ["run"]


def run(
    out: str | Path = "stepsize-report",
    *,
    seed: int = 0,
    quick: bool = False,
    echo: Callable[[str], object] = print,
) -> Story:
    """Tell the whole story on the digits and write `out`/report.html with its pictures.

    `seed` draws the split of the data, the weights and the order of the batches; `quick` takes a
    few seconds and shows the same with fewer runs. Returns the story with all its numbers.
    """
    out = Path(out)
    if out.is_dir():
        check_replaceable("demo: out", out / "report.html", "report of stepsize")
    chapters = {
        "find": tell_find,
        "rates": tell_rates,
        "schedules": tell_schedules,
        "rules": tell_rules,
    }
    story = None
    for name, story in tell(seed, Settings.quick() if quick else Settings()):
        if name in chapters:
            echo(chapters[name](story) + "\n")
    assert story is not None
    with offscreen():
        pictures = _pictures(story)
        for name, ax in pictures.items():
            plots.save(ax, out / f"{name}.png")
        page = _page(story, pictures)
    path = page.write(out / "report.html")
    echo(tell_end(story, path))
    return story


# -- pictures -------------------------------------------------------------------------------------


def _pictures(story: Story) -> dict[str, Any]:
    labels = {f"{short(run.lr)}, {run.name}": run.history for run in three(story)}
    steps = len(next(iter(story.schedules.values()))[0].history["loss"])
    plans = dict(story.plans)
    # Where the metric decides, the picture shows what was decided in the first run.
    plans["plateau"] = _recorded(story.schedules["plateau"][0].history["lr"])
    return {
        "range_test": plots.range_test(story.found, title="The range test"),
        "accuracy_by_rate": _accuracy_by_rate(story),
        "loss_by_rate": plots.tuning(_search(story), title="Held-out loss by rate"),
        "low_rate": plots.diagnosed(three(story)[0].history, three(story)[0].diagnosis),
        "high_rate": plots.diagnosed(three(story)[-1].history, three(story)[-1].diagnosis),
        "three_rates": plots.learning_curves(labels, title="Loss at three rates"),
        "schedules": plots.schedule(plans, steps=steps, title="Eight ways to spend a rate"),
        "schedule_results": _dots(story.schedules, "What they reach"),
        "schedule_losses": plots.learning_curves(
            {name: runs[0].history for name, runs in story.schedules.items()},
            title="Training loss",
        ),
        "rule_losses": plots.learning_curves(
            {name: runs[0].history for name, runs in story.rules.items()},
            title="Training loss of each rule",
        ),
        "rule_results": _dots(story.rules, "What the rules reach"),
    }


def _search(story: Story) -> TuneResult:
    """The trainings over the grid of rates, as a search."""
    return TuneResult(
        tuple(
            TrialRecord(
                {"lr": run.lr},
                run.loss if np.isfinite(run.loss) else math.inf,
                "done" if np.isfinite(run.loss) else "diverged",
                (),
                0.0,
            )
            for run in story.grid
        )
    )


def _recorded(values: Any) -> Callable[[int], float]:
    rates = np.asarray(values, float)
    return lambda step: float(rates[min(step, len(rates) - 1)])


def _dots(results: Mapping[str, Sequence[TrainingRun]], title: str) -> Any:
    best = max(results, key=lambda name: mean_accuracy(results[name]))
    values = {name: [100 * run.accuracy for run in runs] for name, runs in results.items()}
    return plots.comparison(
        values, title=title, xlabel="held-out accuracy, %", form="{:.1f} %", highlight=best
    )


def _accuracy_by_rate(story: Story) -> Any:
    """Accuracy over the grid of rates, with the suggested one marked."""
    assert story.right is not None
    ax = new_axes()
    rates = [run.lr for run in story.grid]
    accuracy = [100 * run.accuracy for run in story.grid]
    plots.curves(
        rates,
        {"": accuracy},
        ax=ax,
        title="Accuracy after the same training",
        xlabel="learning rate",
        ylabel="held-out accuracy, %",
        xscale="log",
        marker="o",
        ylim=(0, 104),
    )
    paint, text = plots.style.colour(1)
    ax.axvline(story.right.lr, color=paint, linewidth=1.5)
    ax.plot([story.right.lr], [100 * story.right.accuracy], "o", color=paint, ms=8, zorder=5)
    # Low and to the left is below every curve that rises to a good rate and falls after it.
    ax.annotate(
        f"suggested {short(story.right.lr)}",
        (story.right.lr, 6),
        xytext=(-6, 0),
        textcoords="offset points",
        ha="right",
        color=text,
        fontsize=10,
        fontweight="bold",
    )
    return ax


# -- page -----------------------------------------------------------------------------------------


def _page(story: Story, pictures: Mapping[str, Any]) -> Page:
    assert story.right is not None
    found = story.found
    page = Page(
        "What the learning rate does",
        f"One small network, {len(story.problem.train[0]):,} handwritten digits, and every run "
        f"made on this machine in {story.seconds:.0f} seconds. Each number below comes from "
        "those runs.",
    )
    best = story.best
    page.cards(
        [
            (short(found.suggestion), "learning rate suggested by the range test"),
            (percent(story.right.accuracy), "accuracy on digits it has not seen, at that rate"),
            (
                f"{abs(story.gap):.1f} points",
                f"{'behind' if story.gap >= 0 else 'ahead of'} the best of {len(story.grid)} rates "
                f"tried one by one, which is {short(best.lr)}",
            ),
        ]
    )
    _write_find(page, story, pictures)
    _write_rates(page, story, pictures)
    _write_schedules(page, story, pictures)
    _write_rules(page, story, pictures)
    _write_end(page, story)
    return page


def _write_find(page: Page, story: Story, pictures: Mapping[str, Any]) -> None:
    page.heading("Which rate?")
    page.text(
        "Start far too low, raise the rate with every step, and watch the loss. While the rate is "
        "too small nothing happens; then the loss falls; then it blows up. The useful rates lie "
        "where it falls. The test works on copies, so the network is not touched."
    )
    page.code(
        "result = ss.lr_find(value_and_grad, params, batches, optimizer=ss.SGD)\n"
        "print(result.suggestion)"
    )
    page.figures(
        [
            (pictures["range_test"], "Loss against the rate of each step, and the rate suggested."),
            (
                pictures["accuracy_by_rate"],
                f"The slow way: {len(story.grid)} whole trainings, one per rate. "
                f"The best, {short(story.best.lr)}, reaches {percent(story.best.accuracy)}.",
            ),
            (
                pictures["loss_by_rate"],
                "The same trainings by their held-out loss; within the band it is as low as "
                "anywhere, nearly.",
            ),
        ]
    )


def _write_rates(page: Page, story: Story, pictures: Mapping[str, Any]) -> None:
    page.heading("Too low, right, too high")
    page.text(
        "The same network, the same data, the same number of steps; only the rate differs. Beside "
        "each run is what `ss.diagnose(history)` makes of its curve alone."
    )
    page.figures(
        [(pictures["three_rates"], "Training loss; a curve that leaves at the top blew up.")]
    )
    page.figures(
        [
            (pictures["low_rate"], "The low rate, with what the diagnosis found in it."),
            (pictures["high_rate"], "The high rate, likewise."),
        ]
    )
    for run in three(story):
        verdict = VERDICTS[run.verdict]
        page.verdict(
            f"{short(run.lr)}, {run.name}: {verdict.phrase}.",
            f"{percent(run.accuracy)} accuracy. {run.diagnosis}",
            verdict.tone,
        )


def _best_index(results: Mapping[str, Sequence[TrainingRun]]) -> int:
    means = [mean_accuracy(runs) for runs in results.values()]
    return int(np.argmax(means))


def _write_schedules(page: Page, story: Story, pictures: Mapping[str, Any]) -> None:
    names = list(story.schedules)
    best = names[_best_index(story.schedules)]
    constant = story.schedules["constant"]
    gain = 100 * (mean_accuracy(story.schedules[best]) - mean_accuracy(constant))
    values = [100 * run.accuracy for run in constant]
    luck = max(values) - min(values)
    page.heading("How to spend it: schedules")
    page.text(
        "A schedule lowers the rate while training goes on, so it may start higher than a rate "
        f"that stays. Each of the eight was tried from {starts(story)} times the suggested rate, "
        f"with the same number of steps, and keeps its best. Over {_count(story)}, {best} came out "
        f"first, {gain:.1f} points above the constant rate."
        + _caution(gain, luck, story.settings.seeds)
    )
    page.figures(
        [
            (pictures["schedules"], "The rate each of them uses at each step."),
            (pictures["schedule_results"], _dots_caption(story)),
            (pictures["schedule_losses"], "Training loss under each schedule, first seed."),
        ]
    )
    page.table(
        ["schedule", "rate", "accuracy", "loss", "call"],
        [
            [name, rates_of(runs), spread(runs), loss_of(runs), f"`{_call(story, name)}`"]
            for name, runs in story.schedules.items()
        ],
        best=names.index(best),
    )


def _caution(gain: float, luck: float, seeds: int) -> str:
    """A difference smaller than what the seed alone does is said to be so."""
    if seeds == 1:
        return " One seed cannot tell whether that is more than luck."
    if gain < luck:
        return f" The seed alone moves the constant rate's accuracy by {luck:.1f} points."
    return ""


def _call(story: Story, name: str) -> str:
    if name == "plateau":
        return 'ss.ReduceOnPlateau(monitor="val_loss", factor=0.5)'
    return repr(story.plans[name])


def _write_rules(page: Page, story: Story, pictures: Mapping[str, Any]) -> None:
    names = list(story.rules)
    best = names[_best_index(story.rules)]
    rates = [run.lr for runs in story.rules.values() for run in runs]
    page.heading("The rules, each at its own rate")
    page.text(
        f"A rate belongs to a rule: the range test gives each its own, from {min(rates):.1e} to "
        f"{max(rates):.1e}, a factor of {max(rates) / min(rates):,.0f} between the smallest and "
        f"the largest. At its own rate each rule does well; {best} came out first."
    )
    page.figures(
        [
            (pictures["rule_losses"], "Training loss under each rule, first seed."),
            (pictures["rule_results"], _dots_caption(story)),
        ]
    )
    page.table(
        ["rule", "rate found", "accuracy", "loss"],
        [[name, rates_of(runs), spread(runs), loss_of(runs)] for name, runs in story.rules.items()],
        best=names.index(best),
    )


def _count(story: Story) -> str:
    seeds = story.settings.seeds
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def _dots_caption(story: Story) -> str:
    if story.settings.seeds == 1:
        return "Held-out accuracy of one run each; the best in the second colour."
    return f"Held-out accuracy: {story.settings.seeds} seeds faint, their mean strong."


def _write_end(page: Page, story: Story) -> None:
    page.heading("Does it hold?")
    for what, ok in story.holds.items():
        page.verdict(
            "Yes." if ok else "No.", f"{what[0].upper()}{what[1:]}.", "good" if ok else "bad"
        )
    page.raw(
        "<footer>Made by <code>stepsize demo</code> with "
        f"<code>--seed {story.seed}</code>. The pictures lie beside this page as PNG files. "
        "The digits are the 8 × 8 set that scikit-learn bundles.</footer>"
    )

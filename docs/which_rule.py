"""The page "Which rule for me?" and its picture, from bench/rules_map/results.json.

``python docs/which_rule.py`` after ``python bench/rules_map/run.py``. Every figure of the page is
counted here; the picture is drawn only where it is asked for by ``--picture``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "bench" / "rules_map" / "results.json"
PAGE = DOCS / "which-rule.md"
PICTURE = DOCS / "images" / "which-rule.png"

# The five that a newcomer should know, and for what.
FIVE = {
    "AdamW": "the first to try, with a rate from `ss.lr_find`",
    "SGD": "a memory of nothing but the parameters; `momentum=0.9` where gradients are smooth",
    "Prodigy": "no time to tune the rate",
    "MoMoAdam": "a loss whose lowest value is known, often 0",
    "LBFGS": "few parameters and exact gradients",
}
READS_LOSS = ("MoMo", "MoMoAdam", "PolyakSGD", "ScheduleFreePlus")
SCALES = "scales that differ"
ORDER = ("convex", "valleys, saddles, plateaus", "scales that differ", "noise", "small batches",
         "sparse", "networks", "matrices", "moving targets", "bounded", "complex")  # fmt: skip


class Map:
    """The results: how many of three seeds pass, by rule and problem."""

    def __init__(self, path: Path = RESULTS) -> None:
        found = json.loads(path.read_text())
        self.problems: dict[str, dict[str, Any]] = {
            name: entry
            for place in ORDER
            for name, entry in found["problems"].items()
            if entry["situation"] == place
        }
        fields = ("rate", "left", "passes", "by default")
        self.rules: dict[str, dict[str, dict[str, Any]]] = {
            rule: {
                name: {"refused": True} if row is None else dict(zip(fields, row, strict=True))
                for name, row in zip(found["problems"], rows, strict=True)
            }
            for rule, rows in found["rules"].items()
        }

    def names(self, situation: str) -> list[str]:
        return [n for n, entry in self.problems.items() if entry["situation"] == situation]

    def passed(self, rule: str, names: Any = None, how: str = "passes") -> int:
        """Problems of which all three seeds pass."""
        rows = self.rules[rule]
        return sum(rows[name].get(how, 0) == 3 for name in names or self.problems)

    def refused(self, rule: str) -> int:
        return sum("refused" in row for row in self.rules[rule].values())

    def ranking(self, names: Any = None, how: str = "passes") -> list[str]:
        return sorted(self.rules, key=lambda rule: (-self.passed(rule, names, how), rule.lower()))

    def leaders(self, names: Any, how: str = "passes", most: int = 5) -> str:
        """The rules that pass the most, in words."""
        ranked = self.ranking(names, how)
        best = self.passed(ranked[0], names, how)
        first = [rule for rule in ranked if self.passed(rule, names, how) == best]
        if best == 0:
            return "none"
        shown = first[:most] if len(first) > most else ranked[:most]
        words = [f"{rule} {self.passed(rule, names, how)}" for rule in shown]
        more = len(first) - len(shown)
        return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def table(head: Any, rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def by_situation(found: Map) -> str:
    rows = []
    for place in ORDER:
        names = found.names(place)
        rows.append([place, len(names), found.leaders(names),
                     found.leaders(names, "by default")])  # fmt: skip
    rows.append(["**all**", len(found.problems), found.leaders(None),
                 found.leaders(None, "by default")])  # fmt: skip
    return table(["Situation", "Problems", "Most passed, rate tuned", "At the default rate"], rows)


def by_rule(found: Map) -> str:
    rows = []
    for rule in found.ranking():
        name = f"**{rule}**" if rule in FIVE else rule
        left = found.refused(rule) or ""
        cells = [found.passed(rule, found.names(place)) for place in ORDER]
        rows.append([name, found.passed(rule), found.passed(rule, how="by default"), left, *cells])
    head = ["Rule", "Tuned", "Default", "Refused", *ORDER]
    return table(head, rows)


def draw(found: Map, path: Path) -> None:
    """Rules in rows, problems in columns; a square for each pair."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    from stepsize.plots import style

    ranked = found.ranking()
    values = np.array([
        [3 if "refused" in row else (0, 1, 1, 2)[row["passes"]]
         for row in (found.rules[rule][name] for name in found.problems)]
        for rule in ranked
    ])  # fmt: skip
    colours = ListedColormap(["#f2f3f5", "#a9c7e8", "#1f5fa8", "#ffffff"])
    figure = Figure(figsize=(13, 9.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    ax.pcolormesh(values, cmap=colours, vmin=0, vmax=3, edgecolors="white", linewidth=0.7)
    ax.invert_yaxis()
    for row, column in zip(*np.nonzero(values == 3), strict=True):
        ax.plot([column + 0.3, column + 0.7], [row + 0.5] * 2, color=style.MUTED, linewidth=0.8)
    at = 0
    for place in ORDER:
        size = len(found.names(place))
        if at:
            ax.axvline(at, color="white", linewidth=5)
        words = (
            place.replace(", ", ",\n").replace(" that ", "\nthat ").replace("moving ", "moving\n")
        )
        words = words.replace("small ", "small\n")
        ax.text(at + size / 2, -0.4, words, ha="center", va="bottom", fontsize=9, color=style.INK)
        at += size
    labels = [f"{rule}  {found.passed(rule):2}" for rule in ranked]
    ax.set_yticks(np.arange(len(ranked)) + 0.5, labels, fontsize=9)
    for label, rule in zip(ax.get_yticklabels(), ranked, strict=True):
        label.set_color(style.INK)
        if rule in FIVE:
            label.set_fontweight("bold")
    ax.set_xticks([])
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    for value, words in ((2, "3 of 3 seeds pass"), (1, "1 or 2"), (0, "none")):
        ax.plot([], [], "s", color=colours.colors[value], markersize=10, label=words)
    ax.plot([], [], "_", color=style.MUTED, markersize=8, label="the rule refuses it")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False, fontsize=10)
    figure.suptitle(
        f"{len(ranked)} rules on {len(found.problems)} problems, ten trials of the rate each;"
        " beside a name the problems passed",
        fontsize=13, color=style.INK,
    )  # fmt: skip
    figure.savefig(path, metadata={"Software": None})


TEXT = """# Which rule for me?

Five of the {rules} rules are enough to begin with:

{five}

*Passed* counts the problems of a map: {problems} small problems in {situations} situations, each
rule with the same budget. Nobody wins everywhere, and among the best dozen the differences are
small: {first} passes {first_passed}, the twelfth, {twelfth}, {twelfth_passed}. The rate matters
more than the rule: the median rule passes {median_tuned} with ten trials of its rate and
{median_default} at its default rate. `ss.lr_find` and `ss.autolr` find the rate.

```{{image}} images/which-rule.png
:alt: Rules in rows, problems in columns: passed on three seeds, on some, on none, or refused
:width: 100%
:target: _images/which-rule.png
```

## By situation

{table}

{advice}

## What was asked

`python bench/rules_map/run.py` makes the map again, and `--list` says what each problem asks. A
problem has three levels. It is passed where on all of three seeds at most the stated share of the
initial error is left after 600 gradients, an exact figure without the noise of the gradients;
where targets move, the mean error of the second half counts. Goals were set before any rule was
run, except that the noise of one problem was lowered when four rules had been tried on it and
none came near. {never} of the problems are passed by no rule and {always} by each that takes
them.

*Tuned*: ten trials of the rate on a fourth seed, by tens from the default as long as it helps,
then between. All else stays at its default, so SGD has no momentum. The rate is constant for half
of the run and falls to 0 by a cosine, except for rules that average or set the rate themselves,
where they ask for a constant one, and where targets move. L-BFGS uses its line search, sees one
draw of the noise in a step, and every gradient it asks for counts. *Default*: the default rate on
the same seeds. *Refused*: the rule says that it does not take such parameters or bounds.

The map cannot say what happens on large networks, over days, with schedules and regularisation
that somebody has tuned for one rule, nor what generalises: it asks for a low error, fast, on
small problems. Rules made for large batches (LARS, LAMB) or little memory (Adafactor, SM3) have
no occasion to show it here.

## All rules

{all}
"""


def five(found: Map) -> str:
    rows = [
        [f"{{doc}}`{rule} <rules/{rule}>`", words, f"{found.passed(rule)} of {len(found.problems)}",
         found.passed(rule, how="by default")]
        for rule, words in FIVE.items()
    ]  # fmt: skip
    return table(["Rule", "For", "Passed, rate tuned", "At its default rate"], rows)


def refusing(found: Map, situation: str) -> str:
    names = found.names(situation)
    rules = [rule for rule, rows in found.rules.items() if all("refused" in rows[n] for n in names)]
    return ", ".join(rules)


def advice(found: Map) -> str:
    """What follows from the figures, each counted here."""

    def passed(rule: str, place: str = "", how: str = "passes") -> str:
        names = found.names(place) if place else list(found.problems)
        count = str(found.passed(rule, names, how))
        return f"{rule} {count} of {len(names)}" if place else f"{rule} {count}"

    def all_of(rules: tuple[str, ...], place: str = "", how: str = "passes") -> str:
        words = [passed(rule, place, how) for rule in rules]
        return f"{', '.join(words[:-1])} and {words[-1]}"

    noisy = [*found.names("noise"), *found.names("small batches")]
    matrices = found.names("matrices")
    whole = sum(found.passed(rule, matrices) == len(matrices) for rule in found.rules)
    by_default = found.ranking(how="by default")
    blind = [rule for rule in by_default if rule not in READS_LOSS]
    by_loss = all_of(("PolyakSGD", "MoMo", "MoMoAdam"), how="by default")
    lines = [
        "**No time to tune.** Problems passed at the default rate, without reading the loss: "
        f"{all_of(tuple(blind[:6]), how='by default')}. The default of AdamW, which passes "
        f"{found.passed('AdamW', how='by default')}, is made for larger networks. Of the rules "
        f"that read the loss pass {by_loss}; they take 0 for its lowest value, which is right in "
        "most of these problems; where yours is another, say so by `f_min=` or `lb=`.",
        "**Exact gradients.** Of the convex problems pass: "
        f"{all_of(('AdamW', 'LBFGS', 'SGD'), 'convex')}; for few parameters LBFGS needs no rate. "
        f"In noise it is lost: it passes {found.passed('LBFGS', noisy)} of {len(noisy)}.",
        "**Noise.** Rules whose steps have a bounded length survive heavy tails and broken "
        f"gradients: {all_of(('LARS', 'SignSGD', 'AdamW'), 'noise')}. `clip_norm=`, which gives "
        "that to every rule, was not tried here.",
        f"**Scales that differ.** {all_of(('COCOB', 'Adam', 'AdamW', 'SGD'), SCALES)}: the weight "
        "decay of AdamW pulls parameters that are meant to be large towards 0.",
        f"**Bounds.** Refused by {refusing(found, 'bounded')}.",
        f"**Complex parameters.** Refused by {refusing(found, 'complex')}.",
        f"**Matrices.** {whole} rules pass all {len(matrices)} problems of small matrices, so that "
        "these tell nobody apart. What Muon, SOAP and Shampoo are good for shows in networks with "
        "large matrices (Wen et al. 2025, arXiv:2509.02046; Semenov et al. 2025, "
        "arXiv:2509.01440); `ss.Partition` gives them the matrices and AdamW the rest.",
    ]
    return "\n".join(f"* {line}" for line in lines)


def middle(found: Map, how: str = "passes") -> int:
    counted = sorted(found.passed(rule, how=how) for rule in found.rules)
    return counted[len(counted) // 2]


def page(found: Map | None = None) -> str:
    found = found or Map()
    ranked = found.ranking()
    takers = {
        name: [rows[name]["passes"] for rows in found.rules.values() if "refused" not in rows[name]]
        for name in found.problems
    }
    text = TEXT.format(
        rules=len(found.rules),
        problems=len(found.problems),
        situations=len(ORDER),
        five=five(found),
        first=ranked[0],
        first_passed=found.passed(ranked[0]),
        twelfth=ranked[11],
        twelfth_passed=found.passed(ranked[11]),
        median_tuned=middle(found),
        median_default=middle(found, "by default"),
        table=by_situation(found),
        advice=advice(found),
        never=sum(max(passes) < 3 for passes in takers.values()),
        always=sum(min(passes) == 3 for passes in takers.values()),
        all=by_rule(found),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def main() -> None:
    found = Map()
    PAGE.write_text(page(found), encoding="utf-8")
    if "--picture" in sys.argv[1:]:
        draw(found, PICTURE)


if __name__ == "__main__":
    main()

"""What `lr_find` returns."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepsize.arrays import Curve
from stepsize.finder.pasting import line
from stepsize.validation import counted

SAME = 0.05  # logarithm of a ratio of rates that are printed alike


def frame(columns: Mapping[str, Any]) -> Any:
    """A pandas.DataFrame of columns."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError('to_pandas needs pandas: pip install "stepsize[table]"') from error
    return pandas.DataFrame(dict(columns))


@dataclass(frozen=True, repr=False)
class LRFindResult:
    """What `lr_find` measured and advises; print it to read it.

    `suggestion` is for a constant rate or the start of a decay, `peak` for the top of a one-cycle
    or warm-up schedule. `interval` holds, nine times in ten, a constant rate whose training ends
    within a hundredth of its decrease of the best. `confidence` is "high", "medium", "low" or
    "none", and `why` gives the reason; with "none" the suggestion is NaN. `suggestions` are those
    of other rules, which may lie outside of the interval and are not printed.
    `lrs`, `losses` and `smoothed` are the range test; `probes` the constant-rate races after it,
    as pairs of rate and losses; `gradients` the number of gradients all of it cost, `checks` that
    of calls after them which checked the gradients at the start, some six where they are right;
    `bounds` the rates between which it was to stay. `mismatch` says in words what speaks against
    the gradients, "" where nothing does: `check_gradients` tells which one is wrong.
    """

    suggestion: float
    suggestions: dict[str, float]
    peak: float
    interval: tuple[float, float]
    confidence: str
    why: str
    stopped: str
    lrs: Curve
    losses: Curve
    smoothed: Curve
    probes: tuple[tuple[float, Curve], ...] = field(repr=False)
    gradients: int
    call: str = "ss.SGD(params, lr={})"
    bounds: tuple[float, float] = (0.0, math.inf)
    mismatch: str = ""
    checks: int = 0

    @property
    def usable(self) -> bool:
        """Whether there is a rate to suggest."""
        return math.isfinite(self.suggestion)

    def plot(self, ax: Any = None) -> Any:
        """Draw the range test with every rule's mark; returns the matplotlib axes."""
        from stepsize.plots import range_test

        return range_test(self, ax)

    def plot_text(self) -> str:
        """The same picture as text for a terminal."""
        from stepsize.plots import text_range_test

        return text_range_test(self)

    def to_csv(self, path: str | Path) -> None:
        """Write the range test as `lr,loss,smoothed`, one row per step."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("lr", "loss", "smoothed"))
            columns = (self.lrs.tolist(), self.losses.tolist(), self.smoothed.tolist())
            rows.writerows(zip(*columns, strict=True))

    def to_pandas(self) -> Any:
        """The range test as a `pandas.DataFrame` of lr, loss and smoothed, one row per step."""
        return frame({"lr": self.lrs, "loss": self.losses, "smoothed": self.smoothed})

    def __repr__(self) -> str:
        return (
            f"<LRFindResult suggestion={self.suggestion:.3g}, peak={self.peak:.3g}, "
            f"{self.confidence} confidence, {counted(self.gradients, 'gradient')}>"
        )

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

    def _raced(self) -> list[str]:
        """What won the races, where the suggestion is another rate."""
        if not self.probes or abs(math.log(self.probes[0][0] / self.suggestion)) < SAME:
            return []
        won, losses = self.probes[0]
        other, lowest = (
            ("lower", "a higher one") if self.suggestion < won else ("higher", "a lower one")
        )
        if self.interval[0] <= won <= self.interval[1]:
            lowest = f"{won:.1e}"
        return [
            f"of the constant rates compared over {counted(len(losses), 'step')}, {lowest} came "
            f"lowest; the suggestion is {other}, for a whole training"
        ]

    def __str__(self) -> str:
        if not self.usable:
            return f"no usable rate, because {self.why}\nrange test: {self.stopped}"
        low, high = self.interval
        return "\n".join(
            [
                f"learning rate {self.suggestion:.1e}, likely between {low:.1e} and {high:.1e} "
                f"({self.confidence} confidence: {self.why})",
                *([self.mismatch] if self.mismatch else []),
                *self._raced(),
                f"for the top of a one-cycle or warm-up schedule: {self.peak:.1e}",
                f"range test over {len(self.lrs)} rates: {self.stopped}",
                f"{counted(self.gradients, 'gradient')} on copies; parameters and optimizer are "
                "untouched",
                line(self.call, self.suggestion),
            ]
        )


@dataclass(frozen=True, repr=False)
class ParameterResult:
    """What `lr_find(..., parameter=...)` advises for another hyperparameter; print it to read it.

    `parameter` names it, `suggestion` is NaN when there is none, `interval` holds the values that
    do as well, within the noise. `values` are those tried, `losses` the final loss of the best and,
    for the others, that loss plus how far they lay behind on the same batches (empty for a batch
    size). `lr` is the rate that all were measured at, `gradients` the number of gradients in all,
    those for the rate included.
    """

    parameter: str
    suggestion: float
    interval: tuple[float, float]
    confidence: str
    why: str
    values: Curve = field(repr=False)
    losses: Curve = field(repr=False)
    lr: float
    gradients: int
    call: str

    @property
    def usable(self) -> bool:
        """Whether there is a value to suggest."""
        return math.isfinite(self.suggestion)

    def to_pandas(self) -> Any:
        """The values tried and their losses as a `pandas.DataFrame`."""
        return frame({"value": self.values, "loss": self.losses})

    def __repr__(self) -> str:
        return (
            f"<ParameterResult {self.parameter}={self.suggestion:.4g}, {self.confidence} "
            f"confidence, lr={self.lr:.3g}, {self.gradients} gradients>"
        )

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss of each value; returns the matplotlib axes."""
        from stepsize.plots import parameter

        return parameter(self, ax)

    def __str__(self) -> str:
        name = self.parameter.replace("_", " ")
        if not self.usable:
            return f"no usable {name}, because {self.why}"
        low, high = self.interval
        also = f", as good between {low:.4g} and {high:.4g}" if low < high else ""
        return "\n".join(
            [
                f"{name} {self.suggestion:.4g}{also} ({self.confidence} confidence: {self.why})",
                f"measured at lr={self.lr:.1e}, with {self.gradients} gradients on copies",
                self.call,
            ]
        )

"""What `lr_find` returns."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepsize.curves import Curve


def constructor_call(optimizer: Any) -> str:
    """The call that makes this optimizer, with `{}` for the rate."""
    kind = type(optimizer)
    fields = getattr(kind, "fields", {})
    told = [
        f"{name}={value!r}"
        for name, value in getattr(optimizer, "hyperparams", {}).items()
        if name in fields and name != "lr" and value != fields[name].default
    ]
    return f"ss.{kind.__name__}(params, " + ", ".join(["lr={}", *told]) + ")"


def pasted(optimizer: Any, lr: float) -> str:
    """The line to paste that makes this optimizer at a rate."""
    return f"optimizer = {constructor_call(optimizer).format(f'{lr:.1e}')}"


@dataclass(frozen=True)
class LRFindResult:
    """What `lr_find` measured and advises; print it to read it.

    `suggestion` is for a constant rate or the start of a decay, `peak` for the top of a one-cycle
    or warm-up schedule. `interval` holds the best constant rate nine times in ten. `confidence` is
    "high", "medium", "low" or "none", and `why` gives the reason; with "none" the suggestion is
    NaN.
    `lrs`, `losses` and `smoothed` are the range test; `probes` the constant-rate races after it,
    as pairs of rate and losses; `gradients` the number of gradients all of it cost.
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

    def __str__(self) -> str:
        if not self.usable:
            return f"no usable rate, because {self.why}\nrange test: {self.stopped}"
        low, high = self.interval
        others = ", ".join(f"{k} {v:.1e}" for k, v in self.suggestions.items() if k != "race")
        return "\n".join(
            [
                f"learning rate {self.suggestion:.1e}, likely between {low:.1e} and {high:.1e} "
                f"({self.confidence} confidence: {self.why})",
                f"for the top of a one-cycle or warm-up schedule: {self.peak:.1e}",
                f"range test over {len(self.lrs)} rates: {self.stopped}",
                f"other rules: {others}",
                f"{self.gradients} gradients on copies; parameters and optimizer are untouched",
                f"optimizer = {self.call.format(f'{self.suggestion:.1e}')}",
            ]
        )


@dataclass(frozen=True)
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

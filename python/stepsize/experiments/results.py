"""What `what_if` returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepsize.arrays import Curve
from stepsize.curves import paired
from stepsize.diagnosis.ahead import are_alike
from stepsize.diagnosis.thresholds import CLEAR_Z as CLEAR
from stepsize.validation import counted


@dataclass(frozen=True)
class Branch:
    """The run as it would go on at `factor` times its rate.

    `losses` are those of its steps, `held` the losses of the held batches after them, `failure`
    says in words why it diverged, or is None.
    """

    factor: float
    losses: Curve = field(repr=False)
    held: Curve = field(repr=False)
    failure: str | None = None

    @property
    def diverged(self) -> bool:
        """Whether a loss or a gradient stopped being finite."""
        return self.failure is not None


@dataclass(frozen=True, repr=False)
class WhatIf:
    """What `what_if` measured; print it to read it.

    ``branches`` holds a `Branch` for each factor, ``lr`` the present rate, ``steps`` the steps of a
    branch, ``run_steps`` those of the run before it, ``before`` the losses of the held batches now.
    ``averaged`` are the losses of the held batches at the mean of the weights along the branch at
    the present rate, ``memorised`` the share of its loss that is left of one batch learnt alone for
    ``memorised_steps`` steps, NaN for a loss that is not above 0; None where it was not asked for.
    ``gradients`` and ``values`` count the calls of the function and of ``loss``; ``apart`` says
    whether no held batch was trained on.
    ``interrupted`` says that Ctrl-C ended it: what was measured until then is there.
    """

    branches: tuple[Branch, ...]
    lr: float
    steps: int
    run_steps: int
    before: Curve
    averaged: Curve | None = None
    memorised: float | None = None
    memorised_steps: int = 0
    gradients: int = 0
    values: int = 0
    apart: bool = True
    interrupted: bool = False
    history: Mapping[str, Any] | None = field(default=None, repr=False)

    def __getitem__(self, factor: float) -> Branch:
        for branch in self.branches:
            if branch.factor == factor:
                return branch
        known = ", ".join(f"{b.factor:g}" for b in self.branches)
        raise KeyError(f"there is no branch at factor {factor!r}; there are {known}")

    def gain(self, factor: float) -> tuple[float, float]:
        """How far the held loss falls within the branch, and the standard error of that.

        -inf for a branch that diverged.
        """
        branch = self[factor]
        return (-math.inf, 0.0) if branch.diverged else paired(self.before, branch.held)

    def advantage(self, factor: float) -> tuple[float, float]:
        """How far the branch ends below that at the present rate, on the same held batches."""
        branch, present = self[factor], self[1.0]
        if branch.diverged or present.diverged:
            return (float(present.diverged) - float(branch.diverged)) * math.inf, 0.0
        return paired(present.held, branch.held)

    @property
    def average_gain(self) -> tuple[float, float] | None:
        """How far the mean of the weights ends below the branch at the present rate."""
        if self.averaged is None or self[1.0].diverged:
            return None
        return paired(self[1.0].held, self.averaged)

    @property
    def best(self) -> float:
        """The factor whose branch ends lowest; 1 unless it is lower by two standard errors.

        A lower rate gains at once by averaging noise away, and learns more slowly afterwards: the
        branch that ends lowest is what the next few steps want, not always the rest of the run.
        """
        best, lead = 1.0, 0.0
        for branch in self.branches:
            gained, error = self.advantage(branch.factor)
            if gained > max(lead, CLEAR * error) and not math.isnan(gained):
                best, lead = branch.factor, gained
        return best

    def table(self) -> str:
        """The branches as text."""
        rows = [["factor", "lr", "gain", "+-", "against x1", "+-", "ends at"]]
        for branch in self.branches:
            start = [f"x{branch.factor:g}", f"{branch.factor * self.lr:.3g}"]
            if branch.diverged:
                rows.append([*start, "diverges", "", "", "", ""])
                continue
            numbers = (*self.gain(branch.factor), *self.advantage(branch.factor))
            rows.append([*start, *(f"{x:.3g}" for x in numbers), f"{branch.held.mean():.4g}"])
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows
        )

    def to_dict(self) -> dict[str, Any]:
        """All numbers of it as plain dicts, lists and floats, for JSON.

        ``branches`` is a list with a dict for each factor; what diverged gains ``-inf``.
        """
        rows = []
        for branch in self.branches:
            (gain, gain_error), (lead, lead_error) = (
                self.gain(branch.factor),
                self.advantage(branch.factor),
            )
            rows.append(
                {
                    "factor": branch.factor,
                    "lr": branch.factor * self.lr,
                    "gain": gain,
                    "gain_error": gain_error,
                    "advantage": lead,
                    "advantage_error": lead_error,
                    "ends_at": float(branch.held.mean()),
                    "failure": branch.failure,
                }
            )
        names = ("lr", "steps", "run_steps", "memorised", "memorised_steps", "gradients", "values")
        return {
            "branches": rows,
            "best": self.best,
            "before": float(self.before.mean()),
            "average_gain": self.average_gain,
            **{name: getattr(self, name) for name in (*names, "apart", "interrupted")},
        }

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each branch."""
        from stepsize.finder.results import frame

        gains = [self.gain(b.factor) for b in self.branches]
        leads = [self.advantage(b.factor) for b in self.branches]
        return frame(
            {
                "factor": [b.factor for b in self.branches],
                "lr": [b.factor * self.lr for b in self.branches],
                "gain": [g for g, _ in gains],
                "gain_error": [e for _, e in gains],
                "advantage": [g for g, _ in leads],
                "advantage_error": [e for _, e in leads],
                "diverged": [b.diverged for b in self.branches],
            }
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the run so far and its possible futures; returns matplotlib axes."""
        from stepsize.plots import futures

        return futures(self, ax)

    def __repr__(self) -> str:
        return (
            f"<WhatIf {len(self.branches)} branches of {self.steps} steps, best x{self.best:g}, "
            f"{self.gradients} gradients>"
        )

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

    def __str__(self) -> str:
        return "\n".join([self._branches(), self._reading(), self._cost()])

    def _branches(self) -> str:
        said = []
        for branch in self.branches:
            gained, error = self.gain(branch.factor)
            change = f"{-gained:+.2g}" if gained else "0"
            words = "diverges" if branch.diverged else f"{change} (+-{error:.1g})"
            said.append(f"x{branch.factor:g} {words}")
        return (
            f"{counted(self.steps, 'more step')} at lr={self.lr:.2g} times a factor change the "
            f"held loss of {self.before.mean():.4g} by: {', '.join(said)}"
        )

    def _reading(self) -> str:
        best = self.best
        if self[1.0].diverged and best == 1.0:
            words = "every branch diverges"
        elif best == 1.0:
            words = f"no factor ends lower than the present rate by {CLEAR} standard errors"
            words += self._nearest()
            if are_alike(self):
                words = "all branches are the same, as where a schedule has ended at 0: nothing is "
                words += "said of the rate; ask before that, or give the optimizer another one"
        else:
            gained, error = self.advantage(best)
            by = f" by {gained:.2g} (+-{error:.1g})" if math.isfinite(gained) else ""
            words = f"lowest is x{best:g}, lr={best * self.lr:.2g}: below the present rate{by}"
        if (average := self.average_gain) is not None:
            words += f"; the averaged weights change the end by {0.0 - average[0]:+.2g}"
            words += f" (+-{average[1]:.1g})"
        if self.memorised is not None:
            alone = f"; {counted(self.memorised_steps, 'step')} on one batch"
            if math.isfinite(self.memorised):
                words += f"{alone} leave {self.memorised:.0%} of its loss"
            elif math.isinf(self.memorised):
                words += f"{alone} diverge"
            else:
                words += f"{alone} tell nothing: its loss is not above 0, so it has no share left"
        return words

    def _nearest(self) -> str:
        """The branch that ends lowest all the same, to follow that none does so clearly."""
        leads = {b.factor: self.advantage(b.factor) for b in self.branches if b.factor != 1}
        lower = {k: lead for k, (lead, _) in leads.items() if 0 < lead < math.inf}
        if not lower:
            return ""
        factor = max(lower, key=lower.__getitem__)
        return f" (x{factor:g} ends {lower[factor]:.2g} (+-{leads[factor][1]:.1g}) lower)"

    def _cost(self) -> str:
        cost = counted(self.gradients, "gradient")
        if self.values:
            cost += f" and {counted(self.values, 'loss')}"
        words = f"cost: {cost}; the run itself is untouched"
        if not self.apart:
            words += "; too few batches to hold some back: the held ones were trained on"
        return words + ("; interrupted" if self.interrupted else "")

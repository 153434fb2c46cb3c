"""The eight verdicts, one row each: how it is said, how good it is, which rate to try next."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.features import CurveFeatures
from stepsize.diagnosis.wording import percent, words

Tone = Literal["good", "fair", "bad"]
Factor = Callable[[CurveFeatures], float]


@dataclass(frozen=True)
class Verdict:
    """A row of the table.

    `lead` opens the paragraph, `phrase` completes "this run is ...", `rate_factor` is what to
    multiply the rate by, None where the rate is not the trouble, `way` whether that lowers (-1) or
    raises (1) it; `watch` is what a monitor does.
    """

    name: str
    lead: str
    tone: Tone
    phrase: str
    rate_factor: Factor | None = None
    watch: Literal["stop", "warn", ""] = ""
    way: Literal[-1, 0, 1] = 0


def _after_divergence(f: CurveFeatures) -> float:
    first = f.movement.first_update_ratio
    if not first > 0:
        return th.LOWER_DIVERGED
    return min(max(th.GOOD_FIRST_STEP / first, th.LOWER_DIVERGED_MOST), th.LOWER_DIVERGED_LEAST)


def _lowered(f: CurveFeatures) -> float:
    far = f.movement.gradient_vanished or f.levels.peak > th.LOWER_FAR_PEAK
    return th.LOWER_FAR if far else th.LOWER


def _raised(f: CurveFeatures) -> float:
    path = f.movement.relative_path
    if path < th.RAISE_FARTHEST_PATH:
        return th.RAISE_FARTHEST
    return th.RAISE_FAR if path < th.RAISE_FAR_PATH else th.RAISE


def _decayed(f: CurveFeatures) -> float:
    return th.LOWER_PLATEAU


def _row(
    name: str,
    lead: str,
    tone: Tone,
    rate_factor: Factor | None = None,
    watch: Literal["stop", "warn", ""] = "",
    phrase: str = "",
    way: Literal[-1, 0, 1] = 0,
) -> tuple[str, Verdict]:
    return name, Verdict(name, lead, tone, phrase or words(name), rate_factor, watch, way)


VERDICTS: dict[str, Verdict] = dict(
    (
        _row("diverging", "This run is diverging.", "bad", _after_divergence, "stop", way=-1),
        _row("too_high", "The learning rate is too high.", "bad", _lowered, "warn", way=-1),
        _row("healthy", "This run is healthy.", "good"),
        _row("too_low", "The learning rate is too low.", "fair", _raised, "warn", way=1),
        _row(
            "plateau", "This run is on a plateau.", "fair", _decayed, phrase="on a plateau", way=-1
        ),
        _row("converged", "This run has converged.", "good"),
        _row("overfitting", "This run is overfitting.", "fair", None, "warn"),
        _row("underfitting", "This run is underfitting.", "fair"),
    )
)


# Verdicts by signs that other trouble may give too: only where they are likely the rate is lowered.
LOWERED_BY_SIGNS = ("too_high", "plateau")


# Findings that come before any rate, and how the paragraph opens then.
BEFORE_THE_RATE = {
    "gradient_mismatch": "The gradient does not fit the loss.",
    "dead_units": "Much of this model gets no gradient.",
    "no_floor": "This loss has no floor in view.",
}


def watched(action: str) -> tuple[str, ...]:
    """The verdicts at which a monitor is to "stop" or to "warn"."""
    return tuple(name for name, row in VERDICTS.items() if row.watch == action)


@dataclass(frozen=True)
class Finding:
    """One observation: what it points to, how bad it is, the numbers, what to do, and where.

    `severity` is "info", "warning" or "critical"; `span` the part of the run it speaks of, from 0,
    its start, to 1.
    """

    kind: str
    severity: str
    evidence: str
    advice: str
    span: tuple[float, float] = (0.0, 1.0)

    def __str__(self) -> str:
        return f"{self.evidence[:1].upper()}{self.evidence[1:]}. {self.advice}"


@dataclass(frozen=True)
class Diagnosis:
    """A verdict on a run, the findings behind it, and a rate to try next if one follows.

    `verdict` is one of "diverging", "too_high", "healthy", "too_low", "plateau", "converged",
    "overfitting", "underfitting", or "not_enough_data", for which `enough_data` is False; then the
    second finding is what the few losses look like. `suggested_lr` is None when the rate is not
    the trouble.
    `probabilities` says how sure it is: a number for each of the first eight, which sum to 1,
    fitted on labelled runs with their features and this verdict. Now and then another is as likely
    as the verdict, which follows from the checks in their order; `runner_up` names it.
    `experiment_cost` is the number of gradients that `ss.what_if` would take to tell, None where
    there is little doubt that it could settle, or it has been asked.

    >>> Diagnosis("healthy", (), None, probabilities={"healthy": 0.9})
    Diagnosis('healthy', probability=0.9)
    """

    verdict: str
    findings: tuple[Finding, ...]
    suggested_lr: float | None
    enough_data: bool = True
    probabilities: dict[str, float] = field(default_factory=dict, compare=False)
    experiment_cost: int | None = field(default=None, compare=False)

    @property
    def mismatch(self) -> Finding | None:
        """The finding that the gradient does not fit the loss, None where nothing speaks for it."""
        first = self.findings[0] if self.findings else None
        return first if first is not None and first.kind == "gradient_mismatch" else None

    @property
    def unsure(self) -> bool:
        """Whether the verdict has less than half of the probability and is said with "may"."""
        return self.enough_data and self.probabilities.get(self.verdict, 1.0) < th.UNSURE

    @property
    def runner_up(self) -> str | None:
        """The most probable other verdict, None where there is little doubt or too little data."""
        if not self.enough_data:
            return None
        others = {k: v for k, v in self.probabilities.items() if k != self.verdict}
        name = max(others, key=others.__getitem__, default=None)
        return name if name and (others[name] >= th.RUNNER_UP or self.unsure) else None

    def __repr__(self) -> str:
        parts = [repr(self.verdict)]
        if self.verdict in self.probabilities:
            parts.append(f"probability={self.probabilities[self.verdict]:.2g}")
        if self.suggested_lr is not None:
            parts.append(f"suggested_lr={self.suggested_lr:.2g}")
        if not self.enough_data:
            parts.append("enough_data=False")
        return f"Diagnosis({', '.join(parts)})"

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

    def __str__(self) -> str:
        if not self.enough_data:
            so_far = [f"So far, {finding.evidence}." for finding in self.findings[1:]]
            lead = "There is not enough data for a verdict."
            return " ".join([lead, *map(str, self.findings[:1]), *so_far])
        row = VERDICTS[self.verdict]
        lead = hedged(row.lead) if self.unsure else row.lead
        parts, way, others = [lead, *map(str, self.findings[:1])], int(row.way), self.findings[1:]
        first = self.findings[0].kind if self.findings else ""
        if first in BEFORE_THE_RATE:
            but = "But for that" if first == "no_floor" else "By its curves alone"
            it = hedged("it is") if self.unsure else "it is"
            looks = [f"{but} {it} {row.phrase}: {f.evidence}." for f in others[:1]]
            parts, others = [BEFORE_THE_RATE[first], parts[1], *looks], others[1:]
            if first != "no_floor":
                return " ".join(parts)
        for other in others:
            kind = VERDICTS.get(other.kind)
            if kind is None:
                parts.append(str(other))
            elif kind.way * way < 0:
                # One paragraph gives one advice about the rate.
                parts.append(f"Against it speaks a sign of {words(other.kind)}: {other.evidence}.")
            else:
                way = way or kind.way
                # And none where more is learnt than there is: no rate learns less of it.
                rate = self.verdict == "overfitting" and kind.way
                advice = f"{other.evidence}. {'' if rate else other.advice}".rstrip()
                parts.append(f"Another signal points to {words(other.kind)}: {advice}")
        if self.suggested_lr is not None:
            if_bounded = "If it has one, try" if first == "no_floor" else "Try"
            parts.append(f"{if_bounded} lr={self.suggested_lr:.1e} next.")
        if (second := self.runner_up) is not None:
            share = percent(self.probabilities[second])
            likelier = self.probabilities[second] > self.probabilities.get(self.verdict, 0.0)
            place = "By the probabilities alone likelier" if likelier else "Runner-up"
            parts.append(f"{place}: {VERDICTS[second].phrase} ({share} probable).")
        said = self.probabilities.get(self.verdict, 1.0)
        if self.experiment_cost is not None and said < th.SAY_BELOW:
            cost = f"{self.experiment_cost:,} gradients"
            sure = f"This is {percent(said)} sure"
            parts.append(f"{sure}: what_if would tell, at the cost of {cost}.")
        return " ".join(parts)


def hedged(lead: str) -> str:
    """A sentence that only may be so.

    >>> hedged("This run has converged."), hedged("The learning rate is too low.")
    ('This run may have converged.', 'The learning rate may be too low.')
    """
    return re.sub(r"\bhas\b", "may have", re.sub(r"\bis\b", "may be", lead, count=1), count=1)


def to_find(rate: float, f: CurveFeatures) -> Finding:
    """What is said instead of a next rate that would be as far from any usual one."""
    high = rate >= th.USUAL_RATES[1]
    what = f"a rate of {f.movement.lr:.3g} is far {'above' if high else 'below'} the usual ones"
    return Finding("unusual_rate", "warning", what, "Find one: ask lr_find.")


def is_usual(rate: float) -> bool:
    """Whether a rate lies where one would look for one."""
    return th.USUAL_RATES[0] < rate < th.USUAL_RATES[1]


def _is_weak(verdict: str, shares: dict[str, float]) -> bool:
    """Whether lowering the rate, which a verdict asks for, is as likely no help."""
    if verdict not in LOWERED_BY_SIGNS or verdict not in shares:
        return False
    return sum(share for name, share in shares.items() if VERDICTS[name].way < 0) < th.LOWER_ABOVE


def lowered_in_doubt(
    found: list[Finding], shares: dict[str, float], rate: float | None
) -> tuple[list[Finding], float | None]:
    """The findings and the next rate, without advice to lower it where that is as likely no help.

    A rate raised in vain costs little, and one lowered in vain the rest of the run.
    """
    first = found[0]
    if not _is_weak(first.kind, shares):
        return found, rate
    advice = "The signs are weak: let what_if try other rates on copies first."
    return [replace(first, advice=advice), *found[1:]], None


def next_rate(verdict: str, f: CurveFeatures) -> float | None:
    """A rate to try next, None where the rate is not the trouble or not known."""
    factor = VERDICTS[verdict].rate_factor
    lr = f.movement.lr
    # A schedule that ended too early is no matter of the rate.
    ended = verdict != "diverging" and f.movement.idle >= th.IDLE
    if factor is None or ended or not math.isfinite(lr) or lr <= 0:
        return None
    return lr * factor(f)

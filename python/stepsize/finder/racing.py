"""Races at constant rates (successive halving), all trials over the same batches.

The rates around the middle of a range test run a few steps each, then the two best run for as long
as the budget lasts.

Source: Jamieson & Talwalkar 2016, arXiv:1502.07943.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from stepsize.arrays import Curve
from stepsize.finder.horizon import HALVING_SHIFT
from stepsize.finder.range_test import SPREAD, RangeTest
from stepsize.finder.settings import Settings
from stepsize.finder.trials import Trial, TrialRunner

MOST_TRIALS = 16  # a race that fails at its first step costs nothing, so the budget does not end it
# A lead by this share of the decrease, in thirty steps, says little about a training. Chosen with
# all splits of bench/advice but the held-out one in view.
TIE = 0.1


@dataclass(frozen=True)
class Race:
    """The trials at constant rates, best first, and the rate they speak for together."""

    trials: tuple[Trial, ...]
    weighted_rate: float = math.nan

    @property
    def best(self) -> Trial:
        return self.trials[0]


@dataclass(frozen=True)
class Advice:
    """What one pass over the batches advises; the rate is NaN where the loss never decreased."""

    range_test: RangeTest
    race: Race
    rate: float
    peak: float
    reason: str = ""  # why there is no rate
    before: tuple[float, ...] = ()  # the best rates of the races that a longer one has replaced

    def decided_by(self, end: float, outermost: Callable[[Iterable[float]], float]) -> bool:
        """Whether the best rate is this end of the range, or lies there where longer races went."""
        best = self.race.best.rate
        rates = (t.rate for t in self.race.trials)
        return best == end or (end in self.before and best == outermost(rates))


def _leads(ahead: Trial, behind: Trial, share: int) -> Curve:
    """By how much one lay ahead of the other, on each of the last 1 / `share` of their batches."""
    size = min(len(ahead.losses), len(behind.losses))
    late = slice(size - max(1, size // share), size)
    return np.subtract(behind.losses[late], ahead.losses[late], dtype=np.float64)


def _better(one: Trial, other: Trial) -> bool:
    """Whether one trial leads by more than the standard error of its lead."""
    if other.failure is not None:
        return True
    lead = _leads(one, other, 2)
    return float(lead.mean()) > float(lead.std()) / math.sqrt(max(len(lead) - 1, 1))


def _weighted_rate(ranking: Iterable[Trial], start: float) -> float:
    """The geometric mean of the rates, weighted by how near each came to the first.

    Rates with almost the same decrease lie in one flat valley, whose middle is safer than the
    place where the noise of a short race put the lowest loss.
    """
    best, *others = (t for t in ranking if t.failure is None)
    late = float(np.mean(best.losses[-max(1, len(best.losses) // 3) :]))
    behind = np.array([0.0, *(float(_leads(best, t, 3).mean()) for t in others)])
    scale = TIE * max(start - late, 1e-6 * abs(late), 1e-300)
    weights = np.exp(-(behind - behind.min()) / scale)
    rates = np.log([best.rate, *(t.rate for t in others)])
    return float(np.exp(np.average(rates, weights=weights)))


def race(
    runner: TrialRunner,
    tested: RangeTest,
    settings: Settings,
    first_batch: int,
    exact: bool = False,
) -> Race:
    """Race constant rates around that of a range test, then the two best until the budget ends.

    With `exact`, for a function without noise, a trial that ends above the start has lost.
    """
    trials: dict[float, Trial] = {}
    depth = settings.race_steps

    def enter(rate: float) -> bool:
        """Run a rate, or the end of the range nearest to it; False if that was run before."""
        rate = settings.bounded(rate)
        if rate in trials:
            return False
        trials[rate] = runner.trial(first_batch).extend(rate, depth)
        for loser in sorted(trials.values(), key=Trial.score)[2:]:
            loser.retire()
        return True

    def lost(trial: Trial) -> bool:
        if trial.failure is not None:
            return True
        return exact and max(trial.score(), trial.losses[-1]) >= float(tested.losses[0])

    for exponent in (-0.5, -1.5):
        enter(tested.centre * SPREAD**exponent)
    finalists: list[Trial] | None = None
    while runner.budget >= depth and len(trials) < MOST_TRIALS:
        ranked = sorted(trials, key=lambda r: (trials[r].score(), r))
        lead, low, high = ranked[0], min(trials), max(trials)
        lower = lost(trials[lead]) or (lead == low and _leads_upwards(trials))
        # Where nothing has gone down yet, and noise does not say so, it may be far.
        stride = len(trials) - 1 if exact and lost(trials[lead]) else 1
        if lower and enter(low / SPREAD**stride):
            continue
        if not lower and lead == high and _worth(trials, ranked) and enter(high * SPREAD):
            continue
        if finalists is not None:
            break
        finalists = _final(runner, trials, depth)
    if finalists is None:
        finalists = _final(runner, trials, depth)
    others = [t for t in trials.values() if t not in finalists]
    ranking = sorted(finalists, key=Trial.score) + sorted(others, key=Trial.score)
    if lost(ranking[0]):
        return Race(tuple(ranking))
    return Race(tuple(ranking), _weighted_rate(ranking, tested.start))


def _final(runner: TrialRunner, trials: dict[float, Trial], depth: int) -> list[Trial]:
    """The two best, after racing on."""
    two = [t for t in sorted(trials.values(), key=Trial.score) if t.failure is None][:2]
    until = depth + runner.budget // max(1, len(two))
    for trial in two:
        trial.extend(trial.rate, until)
    return [t for t in two if t.failure is None]


def _leads_upwards(trials: dict[float, Trial]) -> bool:
    """Whether the lowest rate leads the next one by more than the standard error of its lead."""
    rates = sorted(trials)
    return len(rates) < 2 or _better(trials[rates[0]], trials[rates[1]])


def refined(runner: TrialRunner, rate: float, settings: Settings, first_batch: int) -> Race:
    """Five rates within a decade around `rate`, for a training of `settings.horizon` steps.

    All run a fifth of the training, the best and its neighbours as far as the budget lasts, at most
    to its end. They go batch by batch together, so that no batch has to be kept.
    """
    length = settings.horizon
    rates = dict.fromkeys(settings.bounded(rate * 10 ** (k / 4)) for k in range(-2, 3))
    live = [(runner.trial(first_batch), rate) for rate in rates]
    out: list[Trial] = []
    done = 0

    def late_loss(entry: tuple[Trial, float]) -> float:
        late = entry[0].losses[-max(1, done // 3) :]
        return float(np.mean(late)) if late else math.inf

    for until in (length // 5, length):
        while live and done < until and runner.budget >= len(live):
            lost = [entry for entry in live if not entry[0].step(entry[1])]
            live = [entry for entry in live if entry not in lost]
            out += [trial for trial, _ in lost]
            done += 1
            runner.batches.forget(first_batch + done)
        if until < length and len(live) > 3:
            lead = live.index(min(live, key=late_loss))
            low = min(max(lead - 1, 0), len(live) - 3)
            for trial, _ in (*live[:low], *live[low + 3 :]):
                trial.retire()
                out.append(trial)
            live = live[low : low + 3]
    live.sort(key=late_loss)
    trials = (*(trial for trial, _ in live), *reversed(out))
    if not live or not done:
        return Race(trials)
    return Race(trials, live[0][1] * 10 ** (HALVING_SHIFT * math.log2(length / done)))


def _worth(trials: dict[float, Trial], ranked: list[float]) -> bool:
    """Whether the highest rate leads by a tenth of the range of scores: else do not go higher."""
    scores = [s for r in ranked if math.isfinite(s := trials[r].score())]
    if len(trials) <= 3:
        return True
    return len(scores) > 1 and scores[1] - scores[0] > 0.1 * (scores[-1] - scores[0])

"""The finder's own rule: bracket the rate with a short sweep, then race constant rates.

A sweep's loss mixes two things, where the parameters are and which batch was drawn. Going round
three batches makes it comparable with itself: what is left is how much was learnt. Short races at
constant rates then decide, all over the same batches, the two best for as long as the budget lasts.
A race of some thirty steps prefers larger rates than a whole training does, by an amount that
depends on how the optimizer answers: it is measured, without the user's function, by `foresight`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stepsize.arrays import copy, flatten, unflatten
from stepsize.probing import Bench, Nest, Trial

Curve = NDArray[np.float64]

PERIOD = 3
SPREAD = math.sqrt(10)
ENTRIES = 16  # a race that fails at its first step costs nothing, so the budget does not end it
# Fitted on the tuning half of bench/advice (its report half was not looked at for this).
OPTIMISM, DRIFT, RESTLESS = -0.15, -1.6, -0.45
REFINED_OPTIMISM = -0.1


@dataclass(frozen=True)
class Sweep:
    """A range test: its loss fell by `learnt`, half of it by step `half_at`, at rate `centre`."""

    lrs: Curve
    losses: Curve
    stopped: str
    diverged: bool
    centre: float
    learnt: float
    half_at: int


@dataclass(frozen=True)
class Race:
    """The trials at constant rates, best first."""

    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        return self.trials[0]


def progress(losses: Curve) -> Curve:
    """Loss of each step minus the loss of the same batch before anything was learnt."""
    return losses - losses[np.arange(len(losses)) % PERIOD]


def _lost(change: Curve, stop_ratio: float, scale: float) -> bool:
    """Whether the last two steps gave back `stop_ratio` times the best that was gained.

    Works on changes of loss, so neither its sign nor a constant in it matters.
    """
    if len(change) < PERIOD + 3:
        return False
    gained = max(-float(change.min()), scale)
    return bool(min(change[-2:]) > float(change.min()) + stop_ratio * gained)


def sweep(trial: Trial, lrs: Iterable[float], stop_ratio: float) -> Sweep:
    """Raise the rate at every step until more is lost than was gained."""
    stopped, diverged = "", False
    for lr in lrs:
        if not trial.step(lr):
            break
        losses = np.asarray(trial.losses)
        if _lost(progress(losses), stop_ratio, 1e-6 * abs(float(losses[0]))):
            stopped = f"stopped at lr={lr:.2e}, where the loss had risen to {losses[-1]:.3g} "
            stopped += f"from a best of {losses.min():.3g}"
            diverged = True
            break
    losses = np.asarray(trial.losses)
    rates = np.asarray(trial.lrs[: len(losses)])
    if trial.failure is not None:
        stopped, diverged = f"stopped because {trial.failure}", True
    elif not stopped:
        stopped = f"reached lr={rates[-1]:.2e} without diverging"
    if not len(losses):
        return Sweep(rates, losses, stopped, diverged, math.nan, 0.0, 0)
    change = progress(losses)
    smooth = np.convolve(np.pad(change, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    lowest = int(np.argmin(smooth))
    depth = float(smooth[lowest])
    half = int(np.flatnonzero(smooth <= depth / 2)[0]) if depth < 0 else lowest
    return Sweep(rates, losses, stopped, diverged, float(rates[half]), -depth, half)


def race(bench: Bench, centre: float, depth: int, first_batch: int) -> Race:
    """Race constant rates around `centre`, then the two best for as long as the budget lasts."""
    trials: dict[float, Trial] = {}

    def enter(rate: float) -> Trial:
        trial = bench.trial(first_batch)
        trials[rate] = trial.extend(rate, depth)
        for loser in sorted(trials.values(), key=Trial.score)[2:]:
            loser.retire()
        return trial

    for exponent in (0.5, -0.5, -1.5):
        enter(centre * SPREAD**exponent)
    while bench.left >= depth and len(trials) < ENTRIES:
        ranked = sorted(trials, key=lambda r: (trials[r].score(), r))
        lead, low, high = ranked[0], min(trials), max(trials)
        if lead == low or not math.isfinite(trials[lead].score()):
            enter(low / SPREAD)
        elif lead == high and _worth(trials, ranked):
            enter(high * SPREAD)
        else:
            break
    finalists = [t for t in sorted(trials.values(), key=Trial.score) if t.failure is None][:2]
    if len(finalists) == 2:
        length = len(finalists[0].losses) + bench.left // 2
        for trial in finalists:
            trial.extend(trial.rate, length)
    others = [t for t in trials.values() if t not in finalists]
    ranking = sorted(finalists, key=Trial.score) + sorted(others, key=Trial.score)
    return Race(tuple(ranking))


def refined(bench: Bench, rate: float, length: int, first_batch: int) -> Race:
    """Successive halving over two decades around `rate`, for a training of `length` steps.

    Seven rates run an eighth of the training, three a quarter, two as far as the budget lasts, at
    most to its end. All go batch by batch together, so that no batch has to be kept.
    """
    live = [(bench.trial(first_batch), rate * 10 ** (k / 4)) for k in range(-3, 4)]
    out: list[Trial] = []

    def place(entry: tuple[Trial, float]) -> float:
        trial = entry[0]
        late = trial.losses[-max(1, len(trial.losses) // 3) :]
        return math.inf if trial.failure is not None or not late else float(np.mean(late))

    for kept, until in ((3, length // 8), (2, length // 4), (1, length)):
        while live and len(live[0][0].losses) < until and bench.left >= len(live):
            for trial, lr in live:
                trial.step(lr)
            out += [trial for trial, _ in live if trial.failure is not None]
            live = [entry for entry in live if entry[0].failure is None]
            bench.batches.forget(first_batch + len(live[0][0].losses) if live else 0)
        if not live:
            break
        # A longer training likes lower rates than a shorter one: the next below go on too.
        lead = live.index(min(live, key=place))
        going = live[max(0, lead - kept + 1) : lead + 1]
        losers = [trial for trial, _ in live if trial not in [t for t, _ in going]]
        for trial in losers:
            trial.retire()
        out += losers
        live = going
    live.sort(key=place)
    return Race((*(trial for trial, _ in live), *reversed(out)))


def _worth(trials: dict[float, Trial], ranked: list[float]) -> bool:
    """Whether the highest rate leads by a tenth of the field: else faster is not better."""
    scores = [s for r in ranked if math.isfinite(s := trials[r].score())]
    if len(trials) == 3:
        return True
    return len(scores) > 1 and scores[1] - scores[0] > 0.1 * (scores[-1] - scores[0])


def _moves(bench: Bench, lr: float, loss: float, gradients: Iterable[Nest]) -> Curve:
    """Length of each step an optimizer takes on copies when it is shown these gradients."""
    params = copy(bench.params)
    stepper = bench.stepper(params)
    return np.array([stepper.measured(g, lr, loss) for g in gradients])


def _times(factor: float, gradient: Nest) -> Nest:
    leaves, _, spec = flatten(gradient)
    return unflatten(spec, [np.asarray(leaf * factor, leaf.dtype) for leaf in leaves])


def foresight(bench: Bench, lr: float, first_batch: int) -> tuple[float, float]:
    """How many decades above a short race's favourite a whole training wants rate and peak.

    Three questions to the optimizer, each answered by its steps on the first gradient g:
    does the step still grow (momentum) or shrink (Adagrad) when g is shown again and again; how
    long is it when the sign of g is random; does it ignore the size of g (Adam, Lion)?
    An optimizer that keeps stepping just as far when nothing but noise is left needs the most. The
    peak of a schedule, whose end looks after the noise, makes up for steps that shrink.
    """
    loss, g = bench.first(first_batch)
    lr /= 30  # so that the weights hardly change
    sides = {1: g, -1: _times(-1, g)}
    signs = np.random.default_rng(0).choice([-1, 1], 40)
    steady = _moves(bench, lr, loss, [g] * 40)
    noisy = _moves(bench, lr, loss, [sides[int(s)] for s in signs])
    faint = _moves(bench, lr, loss, [_times(1e-3, g)])
    if not (steady > 0).all() or not np.isfinite(steady).all():
        return OPTIMISM, 0.0
    drift = math.log10(steady[-1] / steady[:32].mean())
    restless = float(np.sqrt(np.mean(noisy[8:] ** 2) / np.mean(steady[8:] ** 2)))
    free = min(max(float(faint[0] / steady[0]), 0.0), 1.0)
    # Steps that shrink by themselves (Adagrad) settle in noise too, if not as far.
    calm = min(1.0, 10 ** (drift / 2))
    shift = OPTIMISM + DRIFT * drift + RESTLESS * min(restless, 1.0) * free * calm
    # A rate much above the one that was raced may lie beyond a cliff.
    return min(max(shift, -1.0), 0.1), min(max(-drift, 0.0), 0.3)

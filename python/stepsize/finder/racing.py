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

from stepsize.arrays import Curve, Nest, copy, flatten, unflatten
from stepsize.finder.trials import Bench, Trial

PERIOD = 3
SPREAD = math.sqrt(10)
JUMP = 100  # times the change in the middle, which normal noise hardly ever exceeds
BELOW_END = 3  # half decades from a sweep's end to the rates to race where noise hides the rest
ENTRIES = 16  # a race that fails at its first step costs nothing, so the budget does not end it
# Fitted on the tuning half of bench/advice (its report half was not looked at for this).
OPTIMISM, DRIFT, RESTLESS = -0.15, -1.6, -0.45
# The rest was chosen with all but the unseen tasks in view.
TIE = 0.1  # a lead by this share of what was learnt, in thirty steps, says little about a training
PER_HALVING = -0.05  # decades by which a training likes lower rates than half of it does
# The top of a decay, whose end is quiet, in decades: above the best constant rate, and the race's.
ABOVE, BESIDE = 0.4, 0.15


@dataclass(frozen=True)
class Sweep:
    """A range test: its loss fell by `learnt`, half of it by step `half_at`, at rate `centre`.

    Where that is less than its noise, `half_at` is its length and `centre` is told by its end.
    """

    lrs: Curve
    losses: Curve
    stopped: str
    diverged: bool
    centre: float
    learnt: float
    half_at: int

    @property
    def start(self) -> float:
        """The loss before anything was learnt."""
        return float(self.losses[:PERIOD].mean())


@dataclass(frozen=True)
class Race:
    """The trials at constant rates, best first, and the rate they speak for together."""

    trials: tuple[Trial, ...]
    favourite: float = math.nan

    @property
    def best(self) -> Trial:
        return self.trials[0]


def progress(losses: Curve) -> Curve:
    """Loss of each step minus the loss of the same batch before anything was learnt."""
    return losses - losses[np.arange(len(losses)) % PERIOD]


def _noise(losses: Curve) -> float:
    """How far a loss moves without a step, as under dropout: what the first rates seem to do.

    The largest change from the first to the second round of batches, or, while the second may be
    what explodes, the range of the first. One jump among small changes is a step, and no noise.
    """
    change = np.abs(progress(losses)[PERIOD : 2 * PERIOD])
    if len(losses) < 2 * PERIOD + 2:
        return max(float(change[0]), float(np.ptp(losses[:PERIOD])))
    largest = float(change.max())
    return largest if largest < JUMP * float(np.median(change)) else 0.0


def _lost(losses: Curve, stop_ratio: float) -> bool:
    """Whether the last two steps gave back `stop_ratio` times the best that was gained.

    Works on changes of loss, so neither its sign nor a constant in it matters.
    """
    if len(losses) < PERIOD + 3:
        return False
    change = progress(losses)
    lowest = float(change.min())
    gained = max(-lowest, 1e-6 * abs(float(losses[0])), _noise(losses))
    return bool(min(change[-2:]) > lowest + stop_ratio * gained)


def sweep(trial: Trial, lrs: Iterable[float], stop_ratio: float) -> Sweep:
    """Raise the rate at every step until more is lost than was gained."""
    stopped, diverged = "", False
    for lr in lrs:
        if not trial.step(lr):
            break
        losses = np.asarray(trial.losses)
        if _lost(losses, stop_ratio):
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
    centre = float(rates[half])
    if len(losses) > 2 * PERIOD + 2 and -depth < _noise(losses):
        half, centre = len(losses), float(rates[-1]) / SPREAD**BELOW_END
    return Sweep(rates, losses, stopped, diverged, centre, -depth, half)


def _leads(ahead: Trial, behind: Trial, share: int) -> Curve:
    """By how much one lay ahead of the other, on each of the last 1 / `share` of their batches."""
    size = min(len(ahead.losses), len(behind.losses))
    late = slice(size - max(1, size // share), size)
    return np.subtract(behind.losses[late], ahead.losses[late], dtype=np.float64)


def _better(one: Trial, other: Trial) -> bool:
    """Whether one trial leads by more than chance lets it."""
    if other.failure is not None:
        return True
    lead = _leads(one, other, 2)
    return float(lead.mean()) > float(lead.std()) / math.sqrt(max(len(lead) - 1, 1))


def _favourite(ranking: Iterable[Trial], start: float) -> float:
    """The mean of the rates, on the logarithmic axis, weighted by how near each came to the first.

    Rates that learnt almost as much lie in one flat valley, and its middle is safer than the place
    where the noise of a short race put the lowest loss.
    """
    best, *others = (t for t in ranking if t.failure is None)
    late = float(np.mean(best.losses[-max(1, len(best.losses) // 3) :]))
    behind = np.array([0.0, *(float(_leads(best, t, 3).mean()) for t in others)])
    scale = TIE * max(start - late, 1e-6 * abs(late), 1e-300)
    weights = np.exp(-(behind - behind.min()) / scale)
    rates = np.log([best.rate, *(t.rate for t in others)])
    return float(np.exp(np.average(rates, weights=weights)))


def race(bench: Bench, swept: Sweep, depth: int, first_batch: int) -> Race:
    """Race constant rates around the sweep's, then the two best for as long as the budget lasts."""
    trials: dict[float, Trial] = {}

    def enter(rate: float) -> Trial:
        trial = bench.trial(first_batch)
        trials[rate] = trial.extend(rate, depth)
        for loser in sorted(trials.values(), key=Trial.score)[2:]:
            loser.retire()
        return trial

    def final() -> list[Trial]:
        """The two best, after racing on."""
        two = [t for t in sorted(trials.values(), key=Trial.score) if t.failure is None][:2]
        until = depth + bench.left // max(1, len(two))
        for trial in two:
            trial.extend(trial.rate, until)
        return [t for t in two if t.failure is None]

    for exponent in (-0.5, -1.5):
        enter(swept.centre * SPREAD**exponent)
    finalists: list[Trial] = []
    while bench.left >= depth and len(trials) < ENTRIES:
        ranked = sorted(trials, key=lambda r: (trials[r].score(), r))
        lead, high = ranked[0], max(trials)
        low, next_low = sorted(trials)[:2]
        lost = trials[lead].failure is not None
        if lost or (lead == low and _better(trials[low], trials[next_low])):
            enter(low / SPREAD)
        elif lead == high and _worth(trials, ranked):
            enter(high * SPREAD)
        elif not finalists:
            finalists = final()
        else:
            break
    finalists = finalists or final()
    others = [t for t in trials.values() if t not in finalists]
    ranking = sorted(finalists, key=Trial.score) + sorted(others, key=Trial.score)
    if ranking[0].failure is not None:
        return Race(tuple(ranking))
    return Race(tuple(ranking), _favourite(ranking, swept.start))


def refined(bench: Bench, rate: float, length: int, first_batch: int) -> Race:
    """Five rates within a decade around `rate`, for a training of `length` steps.

    All run a fifth of the training, the best and its neighbours as far as the budget lasts, at most
    to its end. They go batch by batch together, so that no batch has to be kept.
    """
    live = [(bench.trial(first_batch), rate * 10 ** (k / 4)) for k in range(-2, 3)]
    out: list[Trial] = []
    done = 0

    def place(entry: tuple[Trial, float]) -> float:
        late = entry[0].losses[-max(1, done // 3) :]
        return float(np.mean(late)) if late else math.inf

    for until in (length // 5, length):
        while live and done < until and bench.left >= len(live):
            lost = [entry for entry in live if not entry[0].step(entry[1])]
            live = [entry for entry in live if entry not in lost]
            out += [trial for trial, _ in lost]
            done += 1
            bench.batches.forget(first_batch + done)
        if until < length and len(live) > 3:
            lead = live.index(min(live, key=place))
            low = min(max(lead - 1, 0), len(live) - 3)
            for trial, _ in (*live[:low], *live[low + 3 :]):
                trial.retire()
                out.append(trial)
            live = live[low : low + 3]
    live.sort(key=place)
    trials = (*(trial for trial, _ in live), *reversed(out))
    if not live or not done:
        return Race(trials)
    return Race(trials, live[0][1] * 10 ** (PER_HALVING * math.log2(length / done)))


def _worth(trials: dict[float, Trial], ranked: list[float]) -> bool:
    """Whether the highest rate leads by a tenth of the field: else faster is not better."""
    scores = [s for r in ranked if math.isfinite(s := trials[r].score())]
    if len(trials) <= 3:
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
        return OPTIMISM, BESIDE
    drift = math.log10(steady[-1] / steady[:32].mean())
    restless = float(np.sqrt(np.mean(noisy[8:] ** 2) / np.mean(steady[8:] ** 2)))
    free = min(max(float(faint[0] / steady[0]), 0.0), 1.0)
    # Steps that shrink by themselves (Adagrad) settle in noise too, if not as far.
    calm = min(1.0, 10 ** (drift / 2))
    shift = OPTIMISM + DRIFT * drift + RESTLESS * min(restless, 1.0) * free * calm
    # A rate much above the one that was raced may lie beyond a cliff.
    shift = min(max(shift, -1.0), 0.1)
    return shift, min(shift + ABOVE, BESIDE + min(max(-drift, 0.0), 0.3))

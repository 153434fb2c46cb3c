"""Line search for a step length that satisfies the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from stepsize.arrays import Array

ENOUGH_DECREASE = 1e-4  # c1
ENOUGH_CURVATURE = 0.9  # c2


class Trial(NamedTuple):
    """One evaluation on the line: step length, loss, gradient and slope along the direction."""

    t: float
    loss: float
    grad: Array
    slope: float


def strong_wolfe(
    evaluate: Callable[[float], Trial],
    start: Trial,
    t: float,
    reach: float,
    least: float,
    most: int,
) -> tuple[Trial, int]:
    """A trial that satisfies the conditions, else the best one, and the number of evaluations.

    Nocedal & Wright 2006, Algorithms 3.5 and 3.6, with torch's bounds on the interpolation. A loss
    or slope that is not finite counts as too high.

    Args:
        evaluate: Returns the trial at a step length.
        start: The trial at 0.
        t: The first step length.
        reach: The largest component of the direction.
        least: The search ends when the length of the interval times ``reach`` is smaller.
        most: The largest number of trials.
    """
    last, trial = start, evaluate(t)
    tries = 0
    while tries < most:
        if _too_high(trial, start) or (tries > 1 and trial.loss >= last.loss):
            break
        if abs(trial.slope) <= -ENOUGH_CURVATURE * start.slope:
            return trial, tries + 1
        if trial.slope >= 0:
            break
        bounds = trial.t + 0.01 * (trial.t - last.t), trial.t * 10
        t = interpolate(last, trial, bounds)
        last, trial = trial, evaluate(t)
        tries += 1
    else:
        return min(start, trial, key=_loss), tries + 1
    return _zoom(evaluate, start, [last, trial], reach, least, most, tries)


def _too_high(trial: Trial, start: Trial) -> bool:
    limit = start.loss + ENOUGH_DECREASE * trial.t * start.slope
    return not is_finite(trial) or trial.loss > limit


def is_finite(trial: Trial) -> bool:
    """Whether a trial is a place to stay at."""
    return math.isfinite(trial.loss) and math.isfinite(trial.slope)


def _loss(trial: Trial) -> float:
    return trial.loss if is_finite(trial) else math.inf


def _zoom(
    evaluate: Callable[[float], Trial],
    start: Trial,
    bracket: list[Trial],
    reach: float,
    least: float,
    most: int,
    tries: int,
) -> tuple[Trial, int]:
    """Shorten a bracket until its lower end satisfies the conditions."""
    low, high = (0, 1) if _loss(bracket[0]) <= _loss(bracket[1]) else (1, 0)
    stuck = False
    while tries < most and abs(bracket[1].t - bracket[0].t) * reach >= least:
        t, stuck = _inside(bracket, stuck)
        trial = evaluate(t)
        tries += 1
        if _too_high(trial, start) or trial.loss >= bracket[low].loss:
            bracket[high] = trial
            low, high = (0, 1) if _loss(bracket[0]) <= _loss(bracket[1]) else (1, 0)
            continue
        done = abs(trial.slope) <= -ENOUGH_CURVATURE * start.slope
        if not done and trial.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = trial
        if done:
            break
    return bracket[low], tries + 1


def _inside(bracket: list[Trial], stuck: bool) -> tuple[float, bool]:
    """The next step length in a bracket, away from its ends if it has been near them twice."""
    first, last = sorted(trial.t for trial in bracket)
    t = interpolate(bracket[0], bracket[1], (first, last))
    margin = 0.1 * (last - first)
    if min(last - t, t - first) >= margin:
        return t, False
    if not (stuck or t >= last or t <= first):
        return t, True
    return (last - margin if abs(t - last) < abs(t - first) else first + margin), False


def interpolate(a: Trial, b: Trial, bounds: tuple[float, float]) -> float:
    """The minimum of the cubic through two trials and their slopes, within bounds."""
    low, high = bounds
    middle = (low + high) / 2
    if not math.isfinite(a.loss + b.loss + a.slope + b.slope) or a.t == b.t:
        return middle
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    inside = d1 * d1 - a.slope * b.slope
    if inside < 0:
        return middle
    d2 = math.sqrt(inside)
    below = b.slope - a.slope + 2 * d2
    if below == 0:
        return middle
    return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / below), low), high)

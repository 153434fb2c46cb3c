"""Whether the loss does what the gradients say: the decrease predicted beside the decrease seen.

For a step d of any rule, of a run or of a range test, the products of d with the gradients at its
start and at its end (`gradients/slopes.py`) enclose the change of the loss where its slope along
the step is monotone. In a run the gradient at the end is of another batch: the sum of its products
is what the loss has to fall by at least, whatever the noise of the batches; that of the products
at the start, which the noise of its own batch makes larger, is the most it can fall by. Overshoot
makes the former small, or a rise: too high a rate is told from a wrong gradient by that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepsize.arrays import Curve
from stepsize.curves import spacing
from stepsize.diagnosis.verdicts import Finding
from stepsize.validation import counted

KIND = "gradient_mismatch"
CALL = "ss.check_gradients(value_and_grad, params, batch)"
ADVICE = f"Before the learning rate comes the gradient: {CALL} says which one is wrong, and how."

FEWEST_LOOKS = 12  # steps looked at: below it a run says nothing of its gradients
FIRST, BLOCK = 4, 2  # looks in a block, where all steps are looked at and after that
LEAST_SEEN = 0.8  # share of the decrease predicted at least: below it the gradient is wrong
MOST_SEEN = 1.25  # the same for the decrease predicted at most, above it
PREFIX = 4  # looks by which the part of a run grows that is judged
SIGMAS = 5.0  # standard errors of both that are noise
SIGMAS_REST = 2.0  # the same once the blocks that speak most are left out
CANCELS = 0.2  # share of what was seen that must have been predicted, to speak of
STRAY = 0.15  # of the larger slope: how far outside of both a single step counts
ONE_SIDED = 0.85  # share of consecutive steps that must stray to one side more than to the other
FEW_DIGITS = 1e-3  # of a loss that it goes in steps of, to speak of them
UNITS = 64  # of rounding that a loss may differ by
SHORT = 0.5  # difference of the slopes at both ends, as a share, up to which a pair is of use
SMALLER = 3.0  # times smaller slopes: what these pairs stray by is noise
CLEAR = 5.0  # times that noise: slopes that large are of use
FEWER = 8.0  # times less rounding than `UNITS` is allowed for, as noise is measured beside it
MOST_PAIRS = 0.8  # share of the pairs of use that must stray
SPAN, ONE_FACTOR = 5.0, 0.1  # of slopes, over which the ratios scatter by no more than this share
CONSTANT = 0.03  # how far ratios of seen and predicted may lie from one factor


@dataclass(frozen=True)
class Evidence:
    """A change predicted from both ends of steps, and the change seen, in the loss's unit."""

    start: float
    end: float
    seen: float
    steps: int
    unit: float = 0.0  # of the losses, where they are rounded or counts


def gradient_mismatch(history: Any) -> Finding | None:
    """The finding where a run's loss does not do what its gradients say, else None."""
    rows = slopes_of(history)
    found = None if rows is None else judged(rows, history["loss"], history["step"])
    if found is None:
        meta = getattr(history, "meta", None)
        checked = meta.get("checked") if isinstance(meta, dict) else None
        checked = checked if isinstance(checked, dict) else {}
        wrong = checked.get("wrong")
        if not isinstance(wrong, str) or not wrong:
            return None
        where = "before the first" if checked.get("at") == "start" else "after the last"
        return Finding(KIND, "critical", f"a check {where} step says of {wrong}", ADVICE)
    return Finding(KIND, "critical", told(found, counted(found.steps, "step")), ADVICE)


def told(found: Evidence, steps: str) -> str:
    """The numbers of a mismatch in words."""
    least, most = sorted((-found.start, -found.end))
    low, high = f"{least:.3g}", f"{most:.3g}"
    if most <= 0:
        predicted = "a rise of the loss"
    else:
        span = high if low == high else f"{low} to {high}" if least > 0 else f"up to {high}"
        predicted = f"a fall of the loss by {span}"
    did = f"rose by {found.seen:.3g}" if found.seen > 0 else f"fell by {-found.seen:.3g}"
    did = did if found.seen else "stayed as it was"
    if found.unit:
        did += (
            f" (in steps of {found.unit:.3g}: if it is a count or an error rate, return the loss "
            "that was differentiated)"
        )
    return f"over {steps} the gradients predict {predicted}, and it {did}"


def without_advice(found: Sequence[Finding]) -> list[Finding]:
    """What the curves say, without what they would advise: the gradient comes first."""
    return [replace(finding, advice="") for finding in found]


def zero_gradients(history: Any, found: Sequence[Finding]) -> list[Finding]:
    """The findings, with one for leaves whose gradient was 0 at each step looked at."""
    rows, names = slopes_of(history), getattr(history, "meta", {}).get("still")
    if rows is None or not isinstance(names, list) or not names:
        return list(found)
    shown = ", ".join(map(str, names[:3])) + (" and others" if len(names) > 3 else "")
    what = f"the gradient of {shown} was 0 at each of {counted(len(rows), 'step')} looked at"
    advice = f"Either the loss does not depend on it, or its gradient is missing: {CALL} tells."
    # A larger model is no cure where a part of this one does not learn.
    kept = [replace(f, advice="") if f.kind == "underfitting" else f for f in found]
    return [*kept, Finding("zero_gradient", "warning", what, advice)]


def slopes_of(history: Any) -> Curve | None:
    """The rows of step, product at the start, product at the end, that a run has recorded."""
    meta = getattr(history, "meta", None)
    rows = meta.get("slopes") if isinstance(meta, dict) else None
    try:
        found = np.asarray(rows, np.float64)
    except (TypeError, ValueError):
        return None
    if found.ndim != 2 or found.shape[1] != 3 or len(found) < FEWEST_LOOKS:
        return None
    sound = bool(np.isfinite(found).all() and np.all(np.diff(found[:, 0]) > 0))
    return found if sound else None


def judged(looks: Curve, losses: Curve, steps: Curve) -> Evidence | None:
    """What the slopes of some steps say of the whole run, where that is not what was seen."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = _one_sided(looks, losses, steps)
        # What explodes says most at its beginning, where its end does not hide it.
        for count in (*range(FEWEST_LOOKS, len(looks) - 1, PREFIX), len(looks)):
            found = found or _in_all(looks[:count], losses, steps)
        return found


def _one_sided(looks: Curve, losses: Curve, steps: Curve) -> Evidence | None:
    """Consecutive steps which nearly all change the loss by more, or less, than they could.

    The noise of batches has both signs, so this is for losses without it and for those that
    explode, where one block says more than all before it.
    """
    where = np.searchsorted(steps, looks[:, 0])
    known = where + 1 < len(steps)
    where, looks = where[known], looks[known]
    known = (steps[where] == looks[:, 0]) & (steps[where + 1] == looks[:, 0] + 1)
    where, looks = where[known], looks[known]
    seen = losses[where + 1] - losses[where]
    low, high = looks[:, 1:].min(axis=1), looks[:, 1:].max(axis=1)
    unit = _rounding(losses)
    floor = np.maximum(unit[where], unit[where + 1])
    slack = STRAY * np.maximum(np.abs(low), np.abs(high)) + floor
    above, below = seen > high + slack, seen < low - slack
    balance = int(above.sum()) - int(below.sum())
    if len(seen) < FEWEST_LOOKS or abs(balance) < ONE_SIDED * len(seen):
        return None
    these = above if balance > 0 else below
    first = np.flatnonzero(these)[: FEWEST_LOOKS // 2]  # of an explosion, before it is one
    starts, ends = looks[first, 1], looks[first, 2]
    start, end, change = (float(part.sum()) for part in (starts, ends, seen[first]))
    return Evidence(start, end, change, len(first), _unit(losses))


def _rounding(losses: Curve) -> Curve:
    """What two losses may differ by that are the same: sums in another order, and lost digits."""
    known = losses[np.isfinite(losses)]
    single = bool((known == known.astype(np.float32)).all())
    unit = UNITS * float(np.finfo(np.float32 if single else np.float64).eps)
    return np.maximum(unit * np.abs(losses), spacing(losses))


def _unit(losses: Curve) -> float:
    """The steps in which losses go that are counts, or have few digits; else 0."""
    known = losses[np.isfinite(losses)]
    unit = float(spacing(known).max(initial=0.0)) if len(set(known.tolist())) > 1 else 0.0
    return unit if unit > FEW_DIGITS * float(np.abs(known).max(initial=0.0)) else 0.0


def of_pairs(rows: Any) -> tuple[Evidence, Curve] | None:
    """What pairs of points of one batch each say, as rows of start, end, seen, loss.

    Returns the clearest pair with the ratios of the change seen to that predicted, or None where
    they agree. Noise of the function itself is what pairs with far smaller steps stray by.
    """
    found = np.asarray(rows, np.float64).reshape(-1, 4)
    found = found[np.isfinite(found).all(axis=1)]
    starts, ends, seen, losses = found.T
    sizes = np.maximum(np.abs(starts), np.abs(ends))
    strays = np.abs(seen - np.clip(seen, np.minimum(starts, ends), np.maximum(starts, ends)))
    middle = (starts + ends) / 2
    noise = [_noise_beside(k, sizes, middle, seen) for k in range(len(found))]
    unit = _rounding(np.append(losses, losses + seen))[: len(losses)] / FEWER
    floor = np.maximum(unit, spacing(losses))
    short = (np.abs(starts - ends) <= SHORT * sizes) & (sizes > 2 * floor) & (middle != 0)
    stray = short & (strays > STRAY * sizes + floor)
    useful = short & (sizes > CLEAR * np.array(noise))
    wrong = useful & stray
    if wrong.sum() < max(2.0, MOST_PAIRS * float(useful.sum())):
        wrong = short
        if (
            not stray.any()
            or (stray != short).any()
            or not _by_one_factor(seen[short] / middle[short], sizes[short])
        ):
            return None
    ratios = seen[wrong] / middle[wrong]
    best = int(np.argmax(np.where(wrong, sizes, 0.0)))
    start, end, change = (float(part[best]) for part in (starts, ends, seen))
    return Evidence(start, end, change, 1, _unit(losses)), ratios


def _noise_beside(k: int, sizes: Curve, middle: Curve, seen: Curve) -> float:
    """What pairs with smaller steps stray by, from the slopes or from as many times them."""
    smaller = sizes < sizes[k] / SMALLER
    if smaller.sum() < 2 or not middle[k]:
        return math.inf
    rests = (seen - middle)[smaller], (seen - seen[k] / middle[k] * middle)[smaller]
    return min(float(np.abs(rest).max()) for rest in rests)


def _by_one_factor(ratios: Curve, sizes: Curve) -> bool:
    """Whether steps of several lengths go wrong by one factor: noise would not."""
    apart = len(ratios) > 2 and sizes.max() >= SPAN * sizes.min()
    return apart and float(np.ptp(ratios)) <= ONE_FACTOR * abs(float(np.median(ratios)))


def factor_of(ratios: Curve, rows: int | None) -> float | None:
    """The factor between the loss's slopes and the gradient's, where it is one that has a name.

    2, 1/2, and the rows of a batch: a square without its 2, a sum against a mean. The direction is
    right then, and the rate found goes with the gradient as it is.
    """
    named = [2.0, 0.5, *((float(rows), 1 / rows) if rows and rows > 1 else ())]
    near = [f for f in named if np.all(np.abs(ratios / f - 1) <= CONSTANT)]
    return near[0] if near else None


def _in_all(looks: Curve, losses: Curve, steps: Curve) -> Evidence | None:
    """The whole run, in blocks: what noise is left in them is known from differences."""
    blocks = _blocks(looks, losses, steps)
    if blocks is None:
        return None
    seen, ends, starts, *_ = blocks
    everything = np.ones(len(seen), bool)
    if not _wrong(blocks, everything, SIGMAS):
        return None
    # A single jump, into a plateau say, is a step too long and no wrong gradient.
    strays = np.abs(seen - np.clip(seen, np.minimum(starts, ends), np.maximum(starts, ends)))
    worst = int(np.argmax(strays[:-1] + strays[1:]))
    others = everything.copy()
    others[worst : worst + 2] = False
    if not _wrong(blocks, others, SIGMAS_REST):
        return None
    made = int(min(looks[-1, 0], steps[-1]) - looks[0, 0])
    start, end, change = (float(part.sum()) for part in (starts, ends, seen))
    return Evidence(start, end, change, made, _unit(losses))


def _wrong(blocks: Any, these: Any, sigmas: float) -> bool:
    """Whether these blocks together fell by less than they had to, or more than they could."""
    seen, ends, starts, variances, scatter = blocks
    fell = -float(seen[these].sum())
    least, most = -float(ends[these].sum()), -float(starts[these].sum())
    # The noise of a block in the middle is in the fall to it and in that from it, and cancels.
    edges = np.diff(np.concatenate(([0], these.astype(int), [0]))) != 0
    noise = sigmas * math.sqrt(float(variances[edges].sum() + scatter[1:][these].sum()))
    if least > CANCELS * abs(fell) and fell < LEAST_SEEN * least - noise:
        return True
    most = max(most, least)
    return most > 0 and fell > MOST_SEEN * most + noise


def _blocks(looks: Curve, losses: Curve, steps: Curve) -> Any:
    """Changes seen and predicted (by the ends, by the starts) from block to block, variances."""
    first, last = looks[0, 0], min(looks[-1, 0], steps[-1])
    inside = (steps >= first) & (steps <= last) & np.isfinite(losses)
    at, values = steps[inside], losses[inside]
    edges = _edges(looks[:, 0])
    if len(edges) < 5 or len(at) < FEWEST_LOOKS:
        return None
    where = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(where, minlength=len(edges) - 1)
    if not counts.all():
        return None

    def means(series: Curve) -> Any:
        return np.bincount(where, series, len(edges) - 1) / counts

    predicted = [_summed(looks[:, 0], looks[:, column], at) for column in (1, 2)]
    floor = means(_rounding(values)) ** 2
    return (
        np.diff(means(values)),
        np.diff(means(predicted[1])),
        np.diff(means(predicted[0])),
        _variances(values - predicted[1], where, counts) + floor,
        _scatter(looks, edges),
    )


def _edges(at: Curve) -> Any:
    """Where blocks of looks begin, and the end of the last one."""
    close = int(np.argmax(np.append(np.diff(at), 2) > 1)) + 1  # looks at consecutive steps
    starts = [*range(0, close, FIRST), *range(close, len(at), BLOCK)]
    if len(starts) > 1 and len(at) - starts[-1] < 2:
        starts.pop()
    return np.append(at[starts], at[-1] + 1)


def _summed(at: Curve, products: Curve, steps: Curve) -> Any:
    """The change since the first look, with the steps between two looks as the mean of both."""
    gaps = np.diff(at)
    # A look is of the step that begins there; those after it are between it and the next look.
    parts = products[:-1] + np.maximum(gaps - 1, 0) * (products[:-1] + products[1:]) / 2
    return np.interp(steps, at, np.append(0.0, np.cumsum(parts)))


def _variances(rest: Curve, where: Any, counts: Any) -> Any:
    """Of the mean of each block, from differences, in which no trend takes part."""
    squares = np.diff(rest) ** 2 / 2
    inner = where[1:] == where[:-1]
    sums = np.bincount(where[1:][inner], squares[inner], len(counts))
    pairs = np.bincount(where[1:][inner], minlength=len(counts))
    return sums / np.maximum(pairs, 1) / counts


def _scatter(looks: Curve, edges: Curve) -> Any:
    """The variance of what was predicted for each block, from looks that follow each other."""
    at, products = looks[:, 0], looks[:, 2]
    gaps = np.append(np.diff(at), 1.0)
    bent = np.pad(np.diff(products, 2), 1, mode="edge")
    squares = bent**2 / 6 * gaps**2
    where = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(where, squares, len(edges) - 1)

"""A schedule from the gradient norms of a run: `refined`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stepsize.schedules.basic import piecewise_linear
from stepsize.schedules.schedule import Schedule
from stepsize.validation import number

POINTS = 200  # of the schedule; each is the median over a block of steps
FEWEST = 10  # gradient norms
LARGEST_SUM = 1e100  # of weights, whose squares are summed


def refined(
    history: Mapping[str, Any],
    peak: float | None = None,
    total_steps: float | None = None,
    *,
    smoothing: float = 0.1,
    power: float = 2.0,
) -> Schedule:
    r"""The schedule for the next run that the gradient norms of this one ask for.

    With :math:`\hat G_t` the running median of the norms over a share ``smoothing`` of the run,

    .. math::
        w_t = \hat G_t^{-q}, \qquad \eta_t \propto w_t \sum_{s > t} w_s,

    scaled so that the largest is ``peak``. Norms that stay alike give linear decay to 0, norms that
    are large at first a warm-up, norms that fall late a rate that rises before it decays. It is
    made for runs whose norms stay of one order; where they fall to nothing (a model that fits all
    its data) nearly all of the weight is at the end, and linear decay is the better choice.

    The result is a `piecewise_linear` of at most 201 points, which is saved and printed as one.

    Args:
        history: of a run, with a series ``grad_norm``; what is not finite in it is left out.
        peak: the largest rate; None is that of the run's series ``lr``.
        total_steps: of the next run; None is as many steps as this one had.
        smoothing: width of the running median as a share of the run, in (0, 1].
        power: :math:`q`: 2 for SGD; 1 for Adam and its kin, whose steps ignore the gradient's size.

    Raises:
        TypeError, KeyError, ValueError: naming what is missing or does not fit.

    Source: Defazio et al. 2023, arXiv:2310.07831, algorithm 1, and the authors' code: the weights
    and the median filter, held before the first norm and mirrored after the last. For Adam their
    weights are inverse 1-norms, which `fit` does not record; Euclidean ones stand in for them.

    Example:
        >>> s = refined({"grad_norm": [1.0] * 1000, "lr": [0.1] * 1000})
        >>> round(s(0), 3), round(s(500), 3), s(1000)
        (0.1, 0.05, 0.0)
    """
    norms = _series(history, "grad_norm")
    steps = len(norms)
    kept = np.flatnonzero(np.isfinite(norms))
    if len(kept) < FEWEST:
        raise ValueError(
            f"refined: history['grad_norm'] must have at least {FEWEST} finite values, got "
            f"{len(kept)}"
        )
    if (norms[kept] < 0).any():
        raise ValueError("refined: history['grad_norm'] must not be negative; give norms")
    share = number("refined: smoothing", smoothing, 0.0, 1.0, low_open=True, high_open=False)
    exponent = number("refined: power", power, 0.0)
    total = float(steps) if total_steps is None else total_steps
    number("refined: total_steps", total, 0.0, low_open=True)
    blocks = np.array_split(kept, min(POINTS, len(kept)))
    levels = _running_median(np.array([np.median(norms[block]) for block in blocks]), share)
    if levels.min() <= 0:
        raise ValueError(
            "refined: the gradient of this run is 0 for a while, which weighs infinitely much; "
            "leave those steps out, or use ss.schedules.linear(peak, 0, total_steps)"
        )
    with np.errstate(over="ignore"):
        weights = (levels / levels.max()) ** -exponent  # the scale is lost in the peak
    if not weights.sum() < LARGEST_SUM:
        raise ValueError(
            "refined: the gradient norm of this run falls by a factor of "
            f"{levels.max() / levels.min():.3g}, which no schedule can follow; use "
            "ss.schedules.linear(peak, 0, total_steps)"
        )
    counts = np.array([len(block) for block in blocks])
    after = np.cumsum((weights * counts)[::-1])[::-1] - weights * counts / 2
    shape = weights * after
    centres = np.array([block.mean() + 0.5 for block in blocks]) * (total / steps)
    # At the start the sum is that of all weights: half a block more than at the first centre.
    first = weights[0] * (weights * counts).sum()
    height = max(float(shape.max()), float(first))
    top = _peak(history, peak) / height
    points = [(0.0, first), *zip(centres, shape, strict=True), (total, 0.0)]
    return piecewise_linear([(float(step), float(top * value)) for step, value in points])


def _series(history: Mapping[str, Any], name: str) -> Any:
    if not isinstance(history, Mapping):
        raise TypeError(
            f"refined: history must be a History or a mapping of series, got {history!r:.80}"
        )
    if name not in history:
        raise KeyError(f"refined: history has no {name!r}; it has {', '.join(map(str, history))}")
    series = np.asarray(history[name], np.float64)
    if series.ndim != 1:
        raise ValueError(f"refined: history[{name!r}] must have one axis, got {series.shape}")
    return series


def _peak(history: Mapping[str, Any], peak: float | None) -> float:
    if peak is not None:
        return number("refined: peak", peak, 0.0)
    rates = _series(history, "lr")
    finite = rates[np.isfinite(rates)]
    if not len(finite):
        raise ValueError("refined: history['lr'] has no finite value; give peak")
    return number("refined: the highest of history['lr']", float(finite.max()), 0.0)


def _running_median(values: Any, share: float) -> Any:
    """The median around each value; beyond its ends the series is held and mirrored."""
    half = int(share * len(values)) // 2
    wide = np.pad(np.pad(values, (half, 0), mode="edge"), (0, half), mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(wide, 2 * half + 1), axis=1)

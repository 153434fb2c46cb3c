"""`check_gradients`: whether a function's gradients fit its loss, leaf by leaf."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from stepsize.arrays import Array, Nest, ValueAndGrad, check_function
from stepsize.gradients.audit import Audit, Base, audit, norm, wide
from stepsize.gradients.calls import OWNER, Calls, finite
from stepsize.gradients.causes import STALE, Cause, find_cause
from stepsize.gradients.flat import FLAT, MISSING, UNUSED, Still, depends, still
from stepsize.gradients.kinks import bent, isolated, kink_stays
from stepsize.gradients.probes import LARGEST, REPEATS, Probe, Prober
from stepsize.gradients.results import GradientCheck, LeafCheck
from stepsize.names import closed, refuse_unknown
from stepsize.validation import number, whole

CLEAR = 0.1  # error bar, as a share of the gradient, below which a direction decides
CLEAR_NOISY = 0.3  # the same where bars are six standard errors of means
MORE = 4  # further directions beside the parameters, where those at hand do not decide

WORDS = {
    "accumulated": "each call adds to the gradient of the call before: set the buffer to 0",
    "stale": STALE,
    "not_deterministic": "the gradient differs from call to call, and the loss does not",
    "changes_params": "the function changes this parameter: work on a copy",
    "isolated": "the gradient is right on both sides of these parameters and another exactly at "
    "them, as of a case of its own such as x == 0",
    "not_finite": "the gradient holds NaN or infinity where the loss is finite",
}


@closed
def check_gradients(
    value_and_grad: ValueAndGrad,
    params: Nest,
    batch: Any = None,
    *,
    directions: int = 3,
    coordinates: int = 0,
    tolerance: float | None = None,
    seed: int = 0,
    **unknown: NoReturn,
) -> GradientCheck:
    """Say for each leaf whether its gradient fits the loss, and where not, the likely cause.

    The slope of the loss along the gradient and along random directions, at the parameters and a
    little beside them, is compared with what the gradients say::

        slope     = (L(x + h v) - L(x - h v)) / 2h
        predicted = (g(x - h v) + 4 g(x) + g(x + h v)) . v / 6

    Step sizes fit precision and curvature; error bars come from the loss's own noise, of rounding
    or of chance. Random numbers are held fixed where their generator can be found, else averaged
    over. A mismatch counts if it is there with other steps too. The function gets copies; params,
    batch and random generators come back as they were.

    Causes: ``sign_flipped``, ``factor``, ``transposed``, ``reversed``, ``shifted``, ``permuted``,
    ``conjugated``, ``log_scale``, ``of_function``, ``missing_decay``, ``missing_l1``,
    ``missing_term``, ``one_use``, ``clipped``, ``swapped``, ``one_array``, ``stale``,
    ``accumulated``, ``isolated``, ``zero``, ``zero_in_part``, ``unused``, ``not_finite``,
    ``not_deterministic``, ``changes_params``, ``changes_batch``, ``unknown``.

    Args:
        value_and_grad: ``(params, batch) -> (loss, grads)``.
        params: a nest of finite arrays, real or complex; only copies are changed.
        batch: what the function gets as its second argument.
        directions: random directions a leaf, besides that of its gradient. Some twenty calls of
            the function, and eight to sixteen a leaf, are the cost; a leaf that is wrong, or near
            kinks, costs fifty to a hundred more, a noisy loss ten times as many in all.
        coordinates: single elements of each leaf to check as well, two calls or four each: the
            largest of the gradient, then others at random. Real and imaginary parts of a complex
            leaf are elements 2k and 2k + 1.
        tolerance: relative mismatch that passes; None is 1e-5 in double, 1e-3 in single and 5e-2
            in half precision.
        seed: of the directions.

    Raises:
        ValueError: an argument is out of range, a gradient does not match its leaf, or loss or
            parameters are not finite.
        TypeError: the function returns no loss and gradients.

    Source: noise of a function, More & Wild 2011, SIAM J. Sci. Comput. 33, 1292.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x, y = np.arange(12.0).reshape(4, 3), np.ones(4)
        >>> def value_and_grad(p, batch):
        ...     error = x @ p["w"] + p["b"] - y
        ...     return error @ error, {"w": x.T @ error, "b": 2 * error.sum(keepdims=True)}
        >>> check = ss.check_gradients(value_and_grad, {"w": np.ones(3), "b": np.zeros(1)})
        >>> check.ok, check.leaves["b"].verdict, check.leaves["w"].cause, check.leaves["w"].factor
        (False, 'fits', 'factor', 2.0)
    """
    refuse_unknown(check_gradients, unknown)
    check_function(OWNER, value_and_grad)
    directions = whole(f"{OWNER}: directions", directions, 2)
    coordinates = whole(f"{OWNER}: coordinates", coordinates, 0)
    seed = whole(f"{OWNER}: seed", seed, 0)
    if tolerance is not None:
        tolerance = number(f"{OWNER}: tolerance", tolerance, 0.0, 1.0)
    calls = Calls(value_and_grad, params, batch)
    return checked(calls, directions, coordinates, tolerance, seed)


def checked(
    calls: Calls,
    directions: int = 3,
    coordinates: int = 0,
    tolerance: float | None = None,
    seed: int = 0,
) -> GradientCheck:
    """What `check_gradients` finds with these calls."""
    ignored = np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")
    with ignored:
        try:
            seen = audit(calls, np.random.default_rng((seed, 0)))
            prober = Prober(calls, seen, tolerance, seed)
            leaves = {
                path: _in_its_unit(calls, _leaf(prober, i, directions, coordinates))
                for i, path in enumerate(calls.paths)
            }
        finally:
            calls.rewind()
    return _result(calls, seen, leaves)


def _result(calls: Calls, seen: Audit, leaves: dict[str, LeafCheck]) -> GradientCheck:
    notes, base = [], seen.bases[0]
    if base.step and len(set(calls.losses)) > 1:
        notes.append(
            f"the loss goes in steps of {float(calls.unscaled(base.step)):.3g} here: it was "
            "rounded, or is a count, and one of all its digits shows more"
        )
    if calls.batch_changed:
        notes.append("the function changes its batch: work on a copy")
    if seen.hidden:
        notes.append("the loss is noisy, so slopes are means over several calls")
    elif seen.stochastic:
        notes.append("the function draws random numbers, which were held fixed")
    none = [path for path, leaf in leaves.items() if leaf.verdict == "skipped"]
    if none:
        notes.append(
            f"the gradient is None, and the loss was not seen to depend on it: {', '.join(none)}"
        )
    kinks = [path for path, leaf in leaves.items() if leaf.kink]
    if kinks:
        notes.append(
            f"the loss has a kink at these parameters ({', '.join(kinks)}), where any slope "
            "between those of both sides is right"
        )
    if all("unused" in (leaf.verdict, leaf.cause) for leaf in leaves.values()):
        notes.append(
            "the loss is the same wherever the parameters are: is it computed from those that the "
            "function is given?"
        )
    cause = "changes_batch" if calls.batch_changed else None
    if calls.changed:
        cause = cause or "changes_params"
    for leaf in leaves.values():
        cause = cause or leaf.cause
    loss, noise = (float(calls.unscaled(v)) for v in (base.answer.loss, base.noise))
    return GradientCheck(leaves, cause, tuple(notes), loss, noise, seen.stochastic, calls.count)


def _in_its_unit(calls: Calls, found: LeafCheck) -> LeafCheck:
    """The slopes of a leaf in the unit of the function's loss."""
    rows = found.coordinates
    if rows is not None:
        rows = np.column_stack((rows[:, 0], calls.unscaled(rows[:, 1:])))
    slopes = None if found.slopes is None else calls.unscaled(found.slopes)
    return replace(found, slopes=slopes, coordinates=rows)


def _leaf(prober: Prober, i: int, directions: int, coordinates: int) -> LeafCheck:
    """One leaf: its slopes, the verdict, and the cause where it is wrong."""
    calls, bases = prober.calls, prober.audit.bases
    path, leaf = calls.paths[i], calls.start[i]
    shape = leaf.shape[:-1] if calls.complex[i] else leaf.shape
    found = LeafCheck(path, shape, "skipped")
    gradient = bases[0].answer.grads[i]
    if gradient is None:
        missing = depends(prober, i)
        return replace(found, verdict="missing", words=MISSING) if missing else found
    if not finite(gradient):
        return _blamed(found, Cause("not_finite", WORDS["not_finite"]))
    if not leaf.size:
        return replace(found, verdict="unused")
    probes = _look(prober, i, directions)
    known = prober.audit.causes.get(path)
    if path in calls.changed:
        known = "changes_params"
    found = _summary(found, probes, gradient)
    off = any(probe.off for _, probe in probes)
    nothing = None if known else _still(prober, i)
    if nothing is not None:
        found = replace(found, verdict=nothing.verdict, words=nothing.words)
        off = nothing.verdict == "wrong"
    elif not off and not known:
        found = _passed(prober, i, found, probes)
        off = any(probe.off for _, probe in probes)
        known = "isolated" if not off and isolated(prober, i, probes) else None
    if found.kink and not prober.audit.hidden:
        found = replace(found, kink=kink_stays(prober, i, probes))
    if coordinates:
        found = replace(found, coordinates=_coordinates(prober, i, coordinates))
        off |= _strays(found)
    if known:
        found = _blamed(found, Cause(known, WORDS[known]))
    elif off:
        cause = find_cause(prober, i, calls.sizes())
        kink = found.kink  # which was looked at on a shorter step
        found = _blamed(replace(_summary(found, probes, gradient), kink=kink), cause)
    return found


def _still(prober: Prober, i: int) -> Still | None:
    """What there is to say of a leaf whose gradient is 0, where calls can be repeated."""
    zero = not any(np.any(base.answer.grads[i]) for base in prober.audit.bases)
    return still(prober, i) if zero and not prober.audit.hidden else None


def _blamed(found: LeafCheck, cause: Cause) -> LeafCheck:
    return replace(found, verdict="wrong", cause=cause.name, factor=cause.factor, words=cause.words)


Seen = list[tuple[Array, Probe]]


def _look(prober: Prober, i: int, directions: int) -> Seen:
    """The directions of every leaf: along the gradient, at random, and at random beside."""
    bases = prober.audit.bases
    leaf = bases[0].point[i]
    plan: list[tuple[Base, Array, str]] = []
    for base in bases:
        along = prober.along(base.answer.grads[i])  # type: ignore[arg-type]
        count = directions - 1 if base.name == "here" and len(bases) > 1 else 1
        count = directions if len(bases) == 1 else count
        if along is not None and (base.name == "here" or leaf.size == 1):
            plan.append((base, along, "gradient"))
            count = min(count, leaf.size - 1)
        plan += [(base, prober.random(leaf), "random") for _ in range(count)]
    return _measured(prober, i, plan)


def _measured(prober: Prober, i: int, plan: Sequence[tuple[Base, Array, str]]) -> Seen:
    found: Seen = []
    for base, v, kind in plan:
        probe = prober.settled(base, i, v, kind)
        if probe is not None:
            found.append((v, probe))
    return found


def _passed(prober: Prober, i: int, found: LeafCheck, probes: Seen) -> LeafCheck:
    """The verdict on a leaf that nothing speaks against: fits, unused or unclear."""
    bases, hidden = prober.audit.bases, prober.audit.hidden
    zero = not any(np.any(base.answer.grads[i]) for base in bases)
    if zero and all(_flat(prober, base, i) for base in bases):
        return replace(found, verdict="unused", words=UNUSED)
    clear = CLEAR_NOISY if hidden else CLEAR
    leaf = bases[-1].point[i]
    if _clear(probes, clear) < 2:
        plan = [(bases[-1], prober.random(leaf), "random") for _ in range(MORE)]
        found = _with_more(prober, i, found, probes, _measured(prober, i, plan))
    enough, single = min(2, len(probes)), list(probes)
    if hidden and _clear(probes, clear) < enough and not any(p.off for _, p in probes):
        enough = min(enough, leaf.size)  # a single number has one direction
        along = prober.along(bases[-1].answer.grads[i])  # type: ignore[arg-type]
        ways = [prober.random(leaf) if along is None else along]
        ways += [prober.random(leaf)] if leaf.size > 1 else []
        more = [(v, prober.pooled(bases[-1], i, v, clear)) for v in ways]
        found = _with_more(prober, i, found, probes, [(v, p) for v, p in more if p is not None])
    if any(probe.off for _, probe in probes):
        return found
    if _clear(probes, clear) < enough or not probes:
        return replace(found, verdict="unclear", words=_hidden(single, clear, hidden))
    return replace(found, verdict="fits")


def _with_more(prober: Prober, i: int, found: LeafCheck, probes: Seen, more: Seen) -> LeafCheck:
    """The leaf with further directions, which are added to those known."""
    probes += more
    gradient = prober.audit.bases[0].answer.grads[i]
    assert gradient is not None
    return _summary(found, probes, gradient)


def _hidden(probes: Seen, clear: float, hidden: bool) -> str:
    """Why nothing can be said of a leaf, and what to do about it."""
    if not probes:
        return (
            "the function is not defined, or not finite, beside these parameters; check at others, "
            "further from where its domain ends"
        )
    if not hidden and all(probe.slope == 0 for _, probe in probes):
        return FLAT
    words = "the noise of the loss hides whether it fits"
    bars = [p.bar / (clear * max(p.size, abs(p.slope), 1e-300)) for _, p in probes]
    least = min(bars, default=math.inf) ** 2 * REPEATS
    if not hidden or not 1 < least < 1e5:
        return words
    return (
        f"{words}; fix its random numbers, or let the function return means over some "
        f"{10 ** math.ceil(math.log10(least)):d} draws"
    )


def _clear(probes: Seen, share: float) -> int:
    """The number of directions whose error bar is small beside the gradient."""
    return sum(probe.bar <= share * max(probe.size, abs(probe.slope)) for _, probe in probes)


def _flat(prober: Prober, base: Base, i: int) -> bool:
    """Whether the loss stays the same when the leaf moves far."""
    probe = prober.measure(base, i, prober.random(base.point[i]), LARGEST)
    return probe is not None and abs(probe.slope) <= probe.noise


def _strays(found: LeafCheck) -> bool:
    rows = found.coordinates
    return rows is not None and bool((np.abs(rows[:, 1] - rows[:, 2]) > rows[:, 3]).any())


def _coordinates(prober: Prober, i: int, count: int) -> Any:
    """Single elements: flat index, gradient, slope, error bar."""
    base = prober.audit.bases[0]
    g = wide(base.answer.grads[i]).ravel()  # type: ignore[arg-type]
    count = min(count, g.size)
    largest = np.argsort(-np.abs(g), kind="stable")[: (count + 1) // 2]
    others = np.setdiff1d(np.arange(g.size), largest)
    chosen = [*largest, *prober.rng.permutation(others)[: count - len(largest)]]
    rows = []
    for k in chosen:
        v = np.zeros(g.size)
        v[k] = 1.0
        probe = prober.settled(base, i, v.reshape(base.point[i].shape), "coordinate")
        if probe is not None:
            rows.append((float(k), probe.predicted, probe.slope, probe.bar))
    return np.array(rows).reshape(-1, 4)


def _summary(found: LeafCheck, probes: Seen, gradient: Array) -> LeafCheck:
    """Ratio, cosine, error and resolution from the slopes."""
    if not probes:
        return found
    size = norm(gradient)
    here = [(v, probe) for v, probe in probes if probe.base == "here"]
    ratio = cosine = math.nan
    unit = wide(gradient) / size if size else None
    if unit is not None and here:
        along = math.sqrt(gradient.size)
        if abs(float(np.vdot(here[0][0], unit)) - along) < 1e-6 * along:
            ratio = here[0][1].slope / here[0][1].predicted if here[0][1].predicted else math.nan
            cosine = _cosine(ratio * size, here[1:], unit)
            if here[0][1].bar > size * along and not here[0][1].off:
                ratio = cosine = math.nan  # of no digit
    shares = [abs(p.residual) / (p.size or 1.0) for _, p in probes if p.off]
    shares = shares or [abs(p.residual) / p.size for _, p in probes if p.bar < p.size]
    shares = shares or [abs(p.residual) / p.size for _, p in probes if p.size]
    bars = [p.bar / p.size for _, p in probes if p.size]
    return replace(
        found,
        ratio=ratio,
        cosine=cosine,
        error=max(shares, default=math.nan),
        resolution=float(np.median(bars)) if bars else math.nan,
        kink=any(bent(p) for _, p in here),
        slopes=np.array([(p.predicted, p.slope, p.bar) for _, p in probes]),
    )


def _cosine(along: float, others: Seen, unit: Array) -> float:
    """From the slope along the gradient, and what random directions find across it."""
    across = []
    for v, probe in others:
        part = float(np.vdot(v, unit))
        seen = abs(probe.slope - part * along)
        across.append(seen if probe.off else max(0.0, seen - probe.bar))
    square = float(np.mean(np.square(across))) if across else 0.0
    whole = math.hypot(along, math.sqrt(square))
    return along / whole if whole else math.nan

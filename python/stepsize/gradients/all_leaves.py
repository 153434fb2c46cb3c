"""Causes that show in the gradients of all leaves together: clipped, exchanged, in one array."""

from __future__ import annotations

import numpy as np

from stepsize.gradients.audit import norm, wide
from stepsize.gradients.probes import Prober
from stepsize.gradients.structure import fits_inside

SAME_NORM = 1e-5  # relative difference of norms, above what rounding leaves in single precision
LOOKS = 2  # directions at each point, along which another leaf's gradient is tried
NEAR = 0.05  # mismatch, as a share of that gradient, that curvature may leave
LIMITED = 2  # elements at the same largest value


def from_all(prober: Prober, i: int) -> tuple[str, str] | None:
    """The cause of a gradient that does not fit, and its words, or None."""
    return _clipped(prober, i) or _of_another(prober, i) or _one_array(prober, i)


def _clipped(prober: Prober, i: int) -> tuple[str, str] | None:
    if len(prober.audit.bases) > 1 and not prober.audit.hidden:
        given = [[g for g in base.answer.grads if g is not None] for base in prober.audit.bases[:2]]
        here, beside = (norm(np.array([norm(g) for g in grads])) for grads in given)
        same = [np.array_equal(a, b) for a, b in zip(*given, strict=True)]
        if abs(here - beside) <= SAME_NORM * here and not all(same):
            size = float(prober.calls.unscaled(here))
            return (
                "clipped",
                f"all gradients together have the norm {size:.4g} here and elsewhere, as if "
                "clipped or divided by it: return them as they are, and give clip_norm= to the "
                "optimizer",
            )
    g = np.abs(wide(prober.audit.bases[0].answer.grads[i]))  # type: ignore[arg-type]
    top = g.max(initial=0.0)
    if (g == top).sum() >= LIMITED and fits_inside(prober, i, g < top):
        size = float(prober.calls.unscaled(top))
        return (
            "clipped",
            f"the gradient is right where it is less than {size:.4g}, and clipped to it elsewhere: "
            "return it as it is, and give clip_value= to the optimizer",
        )
    return None


def _of_another(prober: Prober, i: int) -> tuple[str, str] | None:
    """Whether the slopes are those that the gradient of another leaf of this shape says."""
    calls, bases = prober.calls, prober.audit.bases
    known = [base.answer.grads for base in bases]
    candidates = {
        j
        for j, leaf in enumerate(calls.start)
        if j != i and leaf.shape == bases[0].point[i].shape and all(g[j] is not None for g in known)
    }
    if not candidates or prober.audit.hidden or bases[0].point[i].size < LOOKS:
        return None
    for base in bases:
        for _ in range(LOOKS):
            v = prober.random(base.point[i])
            probe = prober.probe(base, i, v)
            if probe is None:
                return None
            for j in list(candidates):
                g = wide(base.answer.grads[j])  # type: ignore[arg-type]
                if not abs(probe.slope - float(np.vdot(g, v))) <= probe.noise + NEAR * norm(g):
                    candidates.discard(j)
    if len(candidates) != 1:
        return None
    name = calls.paths[candidates.pop()]
    return "swapped", f"what is given as the gradient of {name} fits: are they exchanged?"


def _one_array(prober: Prober, i: int) -> tuple[str, str] | None:
    """Whether the gradient lies in the memory of another one, which was written later."""
    other = prober.calls.together.get(prober.calls.paths[i])
    if other is None:
        return None
    return (
        "one_array",
        f"it lies in the memory of the gradient of {other}, which was written over it: give each "
        "leaf an array of its own",
    )

"""What a gradient is exactly at a point and on both sides of it: kinks, and faults just there."""

from __future__ import annotations

from collections.abc import Sequence

from stepsize.arrays import Array
from stepsize.gradients.audit import Base
from stepsize.gradients.probes import SIGMAS, STARTS, Probe, Prober, second

SHORT = 1e-3  # step, in units of the leaf's scale, over which a smooth slope hardly changes
KINKED = 0.05  # second difference of slopes that stays, as a share of the gradient
SIDES = 0.05  # of what the middle is off by, how far the slopes of both sides may be apart
LOOKS = 4  # directions that are looked along again
NEARER = 8.0  # times shorter, a step on which a kink is as large and a curve is not


def isolated(prober: Prober, i: int, probes: Sequence[tuple[Array, Probe]]) -> bool:
    """Whether the loss has one slope around the parameters, and the gradient another just there."""
    base = prober.audit.bases[0]
    t = STARTS[base.point[i].dtype.itemsize]
    here = [probe for _, probe in probes if probe.base == "here"]
    some = [abs(second(p.products)) > KINKED * p.size and p.t <= t for p in here]
    if prober.audit.hidden or not some or 2 * sum(some) < len(some):
        return False
    looks = (prober.random(base.point[i]) for _ in range(LOOKS))
    again = [prober.measure(base, i, v, t / NEARER) for v in looks]
    # Along one of them what the middle is off by may nearly cancel.
    return sum(probe is not None and _odd(probe, base) for probe in again) >= LOOKS - 1


def _odd(probe: Probe, base: Base) -> bool:
    """Whether the slopes of both ends are that of the loss, and the middle's is not."""
    low, mid, high = probe.products
    off = abs(mid - (low + high) / 2)
    unseen = SIGMAS * base.rounding / probe.h
    # Of a smooth gradient the mean slope lies between that of the middle and those of the ends.
    apart = max(abs(high - low), abs(probe.slope - (low + high) / 2) - unseen)
    return bool(off > unseen + KINKED * probe.size and apart <= SIDES * off)


def bent(probe: Probe) -> bool:
    """Whether the slopes of both sides differ by more than a step as short as this explains."""
    gap = abs(probe.products[2] - probe.products[0])
    return bool(probe.t < SHORT and gap > KINKED * probe.size)


def kink_stays(prober: Prober, i: int, probes: Sequence[tuple[Array, Probe]]) -> bool:
    """Whether the slopes of both sides differ as much on a shorter step, as they do at no curve."""
    base = prober.audit.bases[0]
    for v, probe in probes:
        if probe.base == "here" and bent(probe):
            nearer = prober.measure(base, i, v, probe.t / NEARER)
            gaps = [abs(p.products[2] - p.products[0]) for p in (probe, nearer) if p is not None]
            if len(gaps) == 1 or gaps[1] > gaps[0] / 2:
                return True
    return False

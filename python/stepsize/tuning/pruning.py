"""Pruning: which runs stop before their end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stepsize.tuning.trials import TrialRecord

REDUCTION = 3  # ASHA's eta: reports between rungs grow, and runs shrink, by this factor
FEWEST, FEWEST_ASHA = 4, 3  # runs that reported a step before it can stop another


def limits(records: Sequence[TrialRecord], asha: bool) -> dict[int, float]:
    """For each step that enough runs reported: the value a new run must not exceed.

    The median of the others, as in Golovin et al. 2017 (Vizier), section 3.1.2; with `asha`
    the best third of them, at the first, third, ninth, ... report only, as in Li et al. 2020
    (ASHA), arXiv:1810.05934, Algorithm 2.
    """
    seen: dict[int, list[float]] = {}
    for record in records:
        rung = 1
        for k, (step, value) in enumerate(record.reports, start=1):
            if not asha or k == rung:
                rung *= REDUCTION
                seen.setdefault(step, []).append(value if math.isfinite(value) else math.inf)
    share, fewest = (1 / REDUCTION, FEWEST_ASHA) if asha else (1 / 2, FEWEST)
    return {
        step: float(np.quantile(values, share, method="higher"))
        for step, values in seen.items()
        if len(values) >= fewest
    }

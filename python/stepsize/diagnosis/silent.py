"""What is said where much of a model gets no gradient: no rate teaches that part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.verdicts import Finding
from stepsize.validation import counted

KIND = "dead_units"
WAKE = (
    "no rate wakes them; start from other weights, with smaller or positive biases, or with a "
    "leaky activation"
)


def told_of(groups: Any) -> tuple[str, float, int]:
    """Dead units in words, their share of the layers that have some, and the step since when.

    The last is -1 where they never had a gradient. Empty words where nothing is known of any.

    >>> told_of([{"dead": 24, "of": 32, "leaves": ["w1", "w2"], "since": -1, "looks": 35}])
    ('24 of 32 units get no gradient (between w1 and w2)', 0.75, -1)
    """
    known = _known(groups)
    dead, every = (sum(int(one[name]) for one in known) for name in ("dead", "of"))
    if not dead:
        return "", 0.0, -1
    between = ", ".join(" and ".join(map(str, one["leaves"])) for one in known[:2])
    between += " and others" if len(known) > 2 else ""
    what = f"{dead} of {counted(every, 'unit')} get no gradient (between {between})"
    return what, dead / every, max(int(one["since"]) for one in known)


def _known(groups: Any) -> list[Mapping[str, Any]]:
    """The entries of a history that are what `Silence` wrote."""
    names = {"dead", "of", "leaves", "since", "looks"}
    rows = groups if isinstance(groups, list) else []
    return [one for one in rows if isinstance(one, Mapping) and names <= set(one)]


def dead_units(history: Any) -> tuple[Finding | None, bool]:
    """The finding on units without a gradient, and whether they are so many that no rate helps."""
    meta = getattr(history, "meta", None)
    meta = meta if isinstance(meta, Mapping) else {}
    groups = meta.get("silent")
    what, share, since = told_of(groups)
    if share < th.SILENT:
        return None, False
    if since < 0:
        what += f" at any of {counted(int(_known(groups)[0]['looks']), 'step')} looked at"
        advice = f"{WAKE[0].upper()}{WAKE[1:]}."
    else:
        what += f" since step {since}"
        advice = "The steps before were too long for them: start again, lower or with a warm-up."
    return Finding(KIND, "warning", what, advice), share >= th.SILENT_MOST

"""Arguments of every schedule, each exchanged for what does not fit: refused by name, or used."""

import math
import warnings

import numpy as np
import pytest

import pages
import stepsize as ss
from stepsize.schedules.schedule import RECIPES

S = ss.schedules
CURVE = S.cosine(1.0, 0.0, 10)
MADE = [
    *map(pages.schedule, pages.RECIPES.values()),
    *(CURVE.then(1, at=3), CURVE * 2, CURVE * CURVE, CURVE + CURVE, CURVE.clip(0.1, 0.5)),
    *(CURVE.shift(2), CURVE.warmup(3, init=0.1), CURVE.repeat(4), CURVE.by_epoch(3)),
    *(CURVE.stretch(5), CURVE.resume_at(3, 20)),
]
EXAMPLES = {made.name: made for made in MADE if made.name != "from_function"}
BAD = [
    *("x", "", "no_module:f", b"1", None, True, np.True_, math.nan, math.inf, -math.inf, -1, 1j),
    *(10**400, -(10**400), 2**60, 1e300, 5e-324, np.float32(0.5), np.array(0.5), np.array("x")),
    *(np.ones(2), [], [None], [[1]], {}, {1: 2}, set(), range(3), object(), len, type),
]


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"from_function"}))
def test_every_argument_is_refused_by_its_call_or_makes_a_schedule(name):
    made = EXAMPLES[name]
    for key in made.arguments:
        for bad in BAD:
            try:
                values = RECIPES[name](**{**made.arguments, key: bad}).values(12)
            except (TypeError, ValueError) as error:
                assert str(error).startswith(f"{name}: ") and len(str(error)) < 1000, (key, bad)
            else:
                assert np.isfinite(values).all() and (values >= 0).all(), (key, bad)


CALLS = {
    "values": CURVE.values,
    "integral": CURVE.integral,
    "table": CURVE.table,
    "table ": lambda steps: CURVE.table(1, steps),
    "plot_text": lambda steps: CURVE.plot_text(steps=steps),
    "then": lambda other: CURVE.then(other, at=3),
    "then ": lambda at: CURVE.then(1, at=at),
    "epochs": lambda n: S.epochs(n, 3),
    "epochs ": lambda steps: S.epochs(3, steps),
    "check_run": lambda schedule: S.check_run(schedule, 3),
    "check_run ": lambda steps: S.check_run(CURVE, steps),
    "layerwise_lr": lambda params: S.layerwise_lr(params, 0.5),
    "layerwise_lr ": lambda decay: S.layerwise_lr({"a": np.ones(2)}, decay),
    "Schedule.from_dict": ss.Schedule.from_dict,
}


@pytest.mark.parametrize("name", CALLS)
def test_every_other_call_refuses_by_its_name(name):
    for bad in BAD:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", S.ScheduleWarning)
            try:
                CALLS[name](bad)
            except (TypeError, ValueError) as error:
                assert str(error).startswith(f"{name.strip()}: ") and len(str(error)) < 1000, bad

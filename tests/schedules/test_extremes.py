"""No arguments, however large or small, give NaN, infinity or a negative rate silently."""

import inspect
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepsize as ss
from schedule_strategies import LEAVES

S = ss.schedules

EXTREMES = [
    0, 5e-324, 1e-310, 2.3e-308, 1e-300, 1e-30, 1e-9, 1e-3, 0.1, 0.3, 0.5, 0.999999, 1, 1.0000001,
    1.5, 2, 3, 7, 10, 33.3, 1e3, 1e6, 2**31, 2**52 + 0.5, 2**53, 1e30, 1e300, 1.79e308,
]  # fmt: skip
numbers = st.sampled_from(EXTREMES)
STEPS = np.array([0, 0.25, 1, 2, 3, 7, 9.99, 10, 33.3, 1e3, 1e6, 2**31, 2**52, 2**53 - 1, 2**53])
settings = settings(max_examples=150, deadline=None)


@st.composite
def arguments(draw, name):
    """Extreme numbers for every argument of a recipe, sequences and words where it takes them."""
    recipe = getattr(S, name)
    hints = get_type_hints(inspect.unwrap(recipe), include_extras=True)
    given = {}
    for key, parameter in recipe.signature.parameters.items():
        if parameter.default is not parameter.empty and draw(st.booleans()):
            continue
        if key in ("milestones", "boundaries"):
            given[key] = sorted(draw(st.sets(numbers, max_size=4)))
        elif key == "values":
            size = len(given.get("boundaries", [0, 1])) + 1
            given[key] = draw(st.lists(numbers, min_size=size, max_size=size))
        elif key == "points":
            at = sorted(draw(st.sets(numbers, min_size=1, max_size=4)))
            given[key] = [(step, draw(numbers)) for step in at]
        elif hints[key] is bool:
            given[key] = draw(st.booleans())
        elif isinstance(parameter.default, str):
            given[key] = draw(st.sampled_from(get_args(hints[key])))
        else:
            given[key] = draw(numbers)
    return given


CHANGES = {
    "itself": lambda s, a, b: s,
    "scaled": lambda s, a, b: s * a,
    "squared": lambda s, a, b: s * s,
    "doubled": lambda s, a, b: s + s,
    "later": lambda s, a, b: s.shift(a),
    "earlier": lambda s, a, b: s.shift(-a),
    "repeated": lambda s, a, b: s.repeat(a),
    "warmed": lambda s, a, b: s.warmup(a, b),
    "stretched": lambda s, a, b: s.stretch(a),
    "resumed": lambda s, a, b: s.resume_at(a, b),
    "by epoch": lambda s, a, b: s.by_epoch(a),
}


@pytest.mark.parametrize("name", LEAVES)
@settings
@given(st.data())
def test_extreme_arguments_are_refused_or_harmless(name, data):
    given = data.draw(arguments(name))
    change = CHANGES[data.draw(st.sampled_from(sorted(CHANGES)))]
    try:
        schedule = change(getattr(S, name)(**given), data.draw(numbers), data.draw(numbers))
    except ValueError:
        return
    values = schedule(STEPS)
    assert np.isfinite(values).all() and (values >= 0).all(), schedule
    assert values.tolist() == [schedule(step) for step in STEPS.tolist()]

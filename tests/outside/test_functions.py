"""A user's function in every entry point: what it does with memory changes no bit, what is no
loss and gradient is refused with nothing changed."""

import numpy as np
import pytest

import stepsize as ss
from hostile import (
    BAD,
    BAD_GRADIENTS,
    BY_HAND,
    ENTRIES,
    SAME,
    SEARCHES,
    OfTheUser,
    clean,
    make_params,
    outcome,
)
from together import alike, together


@pytest.fixture(scope="module")
def expected():
    known = {}

    def of(entry):
        if entry not in known:
            known[entry] = outcome(entry, clean, make_params())
        return known[entry]

    return of


@together("behaviour", SAME, alike)
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_memory_of_a_function_is_its_own(entry, behaviour, expected):
    assert outcome(entry, SAME[behaviour](), make_params()) == expected(entry)


CELLS = [
    (entry, behaviour)
    for entry in ENTRIES
    for behaviour in (BAD_GRADIENTS if entry in BY_HAND else BAD)
]
NOT_FINITE = ("NaN", "infinite")


@together("cell", CELLS, lambda cell: cell[0])
def test_what_is_no_gradient_is_refused(cell):
    (entry, behaviour), params = cell, make_params()
    try:
        ENTRIES[entry](BAD[behaviour](), params)
    except OfTheUser:
        assert behaviour == "raises"
    except ss.NonFiniteGradientError as error:
        assert behaviour in NOT_FINITE
        assert " w " in str(error) or " b " in str(error)
    except (TypeError, ValueError) as error:
        assert behaviour != "raises"
        # Of our own making: it says what should have come back.
        assert any(word in str(error) for word in ("grad", "must return", "the loss")), error
    else:
        # A search says that every rate diverged, `fit` ends and says why; none of them goes on.
        assert behaviour in NOT_FINITE and entry.startswith(("fit", *SEARCHES))
    assert all(np.array_equal(params[k], v) for k, v in make_params().items())

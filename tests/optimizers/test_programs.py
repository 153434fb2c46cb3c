"""Random programs of operations: after each the optimizer is what a slow model of it is.

``tests/support/programs.py`` runs longer ones, and more.
"""

import pytest

import stepsize as ss
from cases import RULES
from programs import WRAPPERS, drawn, fails, operations, run, shortened
from together import alike, together

LENGTH = 40


@together("cls", RULES, alike)
def test_every_rule_in_a_program(cls):
    seed = RULES.index(cls)
    assert run(seed, operations(seed, LENGTH), cls) >= LENGTH


@together("name", WRAPPERS, alike)
def test_every_wrapper_in_a_program(name):
    seed = 1000 + list(WRAPPERS).index(name)
    assert run(seed, operations(seed, LENGTH), None, [name]) >= LENGTH


def test_a_fault_is_found_and_the_program_shortened(monkeypatch):
    """A third update that moves the parameters too far."""
    step = ss.Adam.step

    def faulty(self, *args, **keywords):
        result = step(self, *args, **keywords)
        if self.step_count == 3:
            for leaf in self.internals.leaves.arrays:
                leaf[...] = 0.5
        return result

    monkeypatch.setattr(ss.Adam, "step", faulty)
    ops = operations(5, LENGTH)
    with pytest.raises(AssertionError, match="differs from the model: /params") as caught:
        run(5, ops, ss.Adam, [])
    configuration, _ = drawn(5, ss.Adam, [])
    assert caught.value.__notes__[0].startswith(repr(configuration))
    few = shortened(5, ops, ss.Adam, [])
    assert len(few) <= 4 and fails(5, few, ss.Adam, [])

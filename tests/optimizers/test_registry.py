"""Rules by name."""

import pytest

import stepsize as ss
from stepsize.optimizers.registration import find_rule, finds_its_rate, snake_case

RULES = ss.optimizers.registry()


@pytest.mark.parametrize("cls", RULES)
def test_every_spelling_finds_the_rule(cls):
    for name in (cls.__name__, cls.__name__.lower(), snake_case(cls), snake_case(cls).upper()):
        assert find_rule(name, "test") is cls
    assert find_rule(cls, "test") is cls
    assert snake_case(cls).isidentifier() and snake_case(cls) == snake_case(cls).lower()


def test_names_are_different():
    assert len({snake_case(cls) for cls in RULES}) == len(RULES)


def test_rules_that_find_their_rate_have_a_factor_or_a_bound_for_it():
    free = [cls for cls in RULES if finds_its_rate(cls)]
    assert len(free) == 11 and not finds_its_rate(lambda params: None)
    assert {cls.__name__ for cls in free if cls.fields["lr"].default != 1.0} == {"MoMoAdam"}


def test_a_wrong_name_is_answered_by_the_nearest():
    with pytest.raises(ValueError, match=r"owner: there is no rule 'adamv'; there is 'Adam', "):
        find_rule("adamv", "owner")
    with pytest.raises(ValueError, match=r"there is 'AdaBelief', 'Adadelta'.*'Yogi'"):
        find_rule("zzzzzz", "owner")

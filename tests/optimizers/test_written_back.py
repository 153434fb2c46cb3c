"""What is read from an optimizer may be set again, and changes nothing."""

import warnings
from itertools import combinations_with_replacement

import numpy as np
import pytest

import stepsize as ss
from cases import LOOP, RULES, is_valid
from stepsize.optimizers.fields import Number, Several

SHAPES = {"a/0": (2, 3), "a/1": (2, 3), "b/0": (2, 3), "b/1": (2, 3)}
GROUPS = [ss.group("*1", lr=0.5)]


def nest():
    return {path: np.ones(shape) for path, shape in SHAPES.items()}


def part_of(cls, several):
    return lambda leaves: cls(leaves, groups=GROUPS if several else ())


def write_back(owner, names, what):
    before = owner.hyperparams
    for name in names:
        setattr(owner, name, getattr(owner, name))
        assert owner.hyperparams == before, (what, name)


@pytest.mark.parametrize("several", [False, True], ids=["one group", "groups"])
def test_every_setting_that_is_read_may_be_set_again(several):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cls in RULES:
            write_back(part_of(cls, several)(nest()), cls.fields, cls)
        for pair in combinations_with_replacement(RULES, 2):
            rules = {f"{k}*": part_of(cls, several) for k, cls in zip("ab", pair, strict=True)}
            if pair[0] is pair[1] and not several:
                whole = ss.Partition({"*": pair[0]}, nest())
                write_back(whole, whole.fields, pair)
            both = ss.Partition(rules, nest())
            write_back(both, both.fields, pair)
            for part in both.parts.values():
                write_back(part, part.hyperparams, pair)


def test_numbers_of_different_kinds_are_set_by_a_tuple_of_one_a_rule():
    both = ss.Partition({"a*": ss.Adafactor, "b*": ss.AdamW}, nest())
    assert both.eps == ((0.0, 1e-3), 1e-8)
    both.eps = (1e-9, 1e-2), 1e-7
    assert both.parts["a*"].eps == (1e-9, 1e-2) and both.parts["b*"].eps == 1e-7
    for value, words in ((1e-7, "Adafactor: eps must be 2 numbers"), ((0.0, 0.1), "AdamW: eps")):
        with pytest.raises((TypeError, ValueError), match=words):
            both.eps = value
    with pytest.raises(ValueError, match="eps has 3 values for 2 groups"):
        both.eps = (1e-9, 1e-2), 1e-7, 1e-7
    assert both.eps == ((1e-9, 1e-2), 1e-7)


def test_several_numbers_are_set_for_all_groups_or_for_each():
    optimizer = ss.AdamW(nest(), groups=GROUPS)
    optimizer.betas = 0.5, 0.6
    assert optimizer.betas == ((0.5, 0.6), (0.5, 0.6))
    optimizer.betas = [(0.5, 0.6), (0.7, 0.8)]
    assert optimizer.betas == ((0.5, 0.6), (0.7, 0.8))
    with pytest.warns(UserWarning, match="one betas for all groups replaces their own"):
        optimizer.betas = 0.5, 0.6


@pytest.mark.parametrize("groups", [(), GROUPS])
def test_a_present_value_in_the_place_of_its_schedule_is_said(groups):
    for cls in RULES:
        for name, field in cls.fields.items():
            if not isinstance(field, Number | Several) or not field.parts()[-1].holds(0.9):
                continue
            if getattr(field, "fixed", False):
                continue
            usual = field.default[-1] if isinstance(field, Several) else field.default
            falling = ss.schedules.linear(usual or 0.9, (usual or 0.9) / 2, 10)
            value = (*field.default[:-1], falling) if isinstance(field, Several) else falling
            if not is_valid(cls, {name: value}):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                optimizer = cls(nest(), groups=groups, **{name: value})
            with pytest.warns(UserWarning, match=f"{name} = .* replaces the schedule"):
                setattr(optimizer, name, getattr(optimizer, name))


def test_a_part_shows_the_options_that_it_uses():
    both = ss.Partition({"a*": lambda p: ss.AdamW(p, cautious=True), "b*": ss.SGD}, nest())
    words = [repr(both), *map(repr, both.parts.values())]
    assert ["cautious=True" in text for text in words] == [True, True, False]
    assert not any(f"{name}=" in text for name in LOOP if name != "cautious" for text in words)

"""Rules by name."""

import ast

import numpy as np
import pytest

import rules_stub
import stepsize as ss
from stepsize.optimizers.registration import find_rule, snake_case

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
    free = [cls for cls in RULES if cls.adapts_lr]
    assert len(free) == 12
    assert {cls.__name__ for cls in free if cls.fields["lr"].default != 1.0} == {"MoMoAdam"}


def test_a_wrong_name_is_answered_by_the_nearest():
    with pytest.raises(ValueError, match=r"owner: there is no rule 'adamv'; there is 'Adam', "):
        find_rule("adamv", "owner")
    with pytest.raises(ValueError, match=r"there is 'AdaBelief', 'Adadelta'.*'Yogi'"):
        find_rule("zzzzzz", "owner")


def test_a_slot_of_one_name_is_of_one_kind_but_where_its_meaning_differs():
    kinds = {}
    for cls in RULES:
        for slot in cls.slots:
            kinds.setdefault(str(slot), set()).add(slot.kind)
    # Adagrad's sum is of squares, D-Adaptation's and Prodigy's of gradients.
    assert {name for name, found in kinds.items() if len(found) > 1} == {"sum"}
    state = ss.AdamW([np.ones(3)]).state_dict()["state"]["0"]
    assert all(type(name) is str for name in state)


def test_a_rule_of_a_user_may_name_its_slots_plainly(monkeypatch):
    monkeypatch.setattr(ss.optimizers.rule, "_registry", [])

    class Plain(ss.optimizers.Optimizer):
        lr = ss.optimizers.fields.nonnegative(0.1)
        slots = ("m",)

        def rule(self, x, g, s, h):
            s.m[...] = g
            x -= h.lr * s.m

    x = np.ones(3)
    Plain(x).step(np.ones(3))
    assert list(x) == [0.9] * 3


def test_the_stub_has_every_rule_with_its_arguments():
    written, made = rules_stub.PATH.read_text(encoding="utf-8"), rules_stub.text()
    assert ast.dump(ast.parse(written)) == ast.dump(ast.parse(made)), "run: docs/rules_stub.py"
    for cls in RULES:
        given = [line.split(":")[0].strip("*") for line in rules_stub.arguments(cls)[1:]]
        assert [name for name in given if name] == list(cls.__signature__.parameters)


def test_all_rules_are_reproducible():
    assert all(cls.reproducible for cls in RULES)


def test_a_rule_of_a_user_is_reproducible_where_it_is_ours_with_other_defaults():
    class Named(ss.Muon):
        lr = ss.optimizers.fields.nonnegative(0.1)

    class Other(ss.Muon):
        def rule(self, x, g, s, h):
            x -= h.lr * g @ g.T @ g

    assert Named.reproducible and not Other.reproducible
    assert not ss.optimizers.Optimizer.reproducible

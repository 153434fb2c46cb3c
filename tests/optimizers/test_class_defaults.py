"""Plain values in a class are the defaults of its hyperparameters and options, or refused."""

import copy
import pickle

import numpy as np
import pytest

import stepsize as ss
from cases import LOOP, RULES, advance, is_valid, other_value, same_bits, snapshot
from stepsize.optimizers import Optimizer, loop
from stepsize.optimizers.fields import nonnegative, unit, unit_pair
from stepsize.optimizers.options import Options
from stepsize.optimizers.slots import signed, squares
from together import together

LEAF = (4, 3)


def values_of(cls):
    """Another value of each hyperparameter and option, that goes alone."""
    for name, field in cls.fields.items():
        value = LOOP.get(name, other_value(field))
        if value is not None and is_valid(cls, {name: value}):
            yield name, value


@together("cls", RULES)
def test_a_plain_value_is_the_default(cls):
    for name, value in values_of(cls):
        own = type("Own", (cls,), {name: value})
        further = type("Further", (own,), {"lr": 0.25})
        assert own.accelerated == cls.accelerated and further(np.ones(LEAF)).lr == 0.25
        params = [np.linspace(1.0, 2.0, 12).reshape(LEAF) for _ in range(3)]
        given = cls(params[0], **{name: value})
        made = own(params[1]), further(params[2], lr=given.lr if name != "lr" else value)
        for step in range(3):
            for optimizer in (given, *made):
                advance(optimizer, np.cos(np.arange(12.0) + step).reshape(LEAF))
        assert all(one.hyperparams == given.hyperparams for one in made), name
        assert all(same_bits(params[0], x) for x in params[1:]), name
        assert own.fields[name].default == value != cls.fields[name].default


class Careful(ss.AdamW):
    """AdamW with an option that is on."""

    lr = 0.1
    cautious = True


def test_a_class_with_an_option_is_shown_copied_and_switched_off():
    optimizer = Careful(np.ones(3))
    optimizer.step(np.ones(3))
    assert "cautious=True" in repr(optimizer)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert twin.cautious and snapshot(twin) == snapshot(optimizer)
    assert not Careful(np.ones(3), cautious=False).cautious
    assert not Careful(np.ones((2, 3)), groups=[ss.group("*", cautious=False)]).cautious[1]
    state = optimizer.state_dict()
    for entry in state["groups"]:
        del entry["hyperparams"]["cautious"]  # as older files, which know it as off
    with pytest.raises(ValueError, match="the saved cautious is False, here it is True"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize(
    "base, contents, words",
    [
        (ss.SGD, {"lr": -1.0}, r"Own: lr must be a finite number >= 0, got -1\.0"),
        (ss.SGD, {"momentum": "high"}, "Own: momentum must be a number"),
        (ss.SGD, {"lr": ss.schedules.constant(0.1)}, "lr = .* cannot be the default of a class"),
        (ss.SGD, {"momentum": lambda self: 0.1}, "momentum = .* cannot be the default of a class"),
        (ss.Muon, {"cautious": True}, "Own: cautious = True is for rules that update each"),
        (ss.SGD, {"update_clip": 1.0}, r"Own: update_clip = 1\.0 is for rules of Adam's kind"),
        *(
            (ss.SGD, {name: 1.0}, f"{name} = 1.0 in a class says nothing; .* constructor")
            for name in Options.names()
        ),
    ],
)
def test_a_value_that_a_class_cannot_have_is_refused_where_it_stands(base, contents, words):
    with pytest.raises((TypeError, ValueError), match=words):
        type("Own", (base,), contents)


def adam_like(**contents):
    """A rule of a user in Adam's names, with fields of its own."""

    def rule(self, x, g, s, h):
        s.exp_avg = 0.9 * s.exp_avg + 0.1 * g
        s.exp_avg_sq = 0.99 * s.exp_avg_sq + 0.01 * g * g
        x -= h.lr * s.exp_avg

    slots = (signed("exp_avg"), squares("exp_avg_sq"))
    own = {"lr": nonnegative(0.1), "rule": rule, "slots": slots, "second_moment": "exp_avg_sq"}
    return type("Own", (Optimizer,), {**own, **contents})


@pytest.mark.parametrize(
    "contents, has",
    [
        ({}, set()),
        ({"betas": nonnegative(0.9)}, set()),
        ({"betas": unit_pair(0.9, 0.99)}, {"mars_gamma"}),
        ({"beta2": unit(0.99), "eps": nonnegative(1e-8)}, {"update_clip"}),
        ({"beta2": unit(0.99), "eps": nonnegative(1e-8), "second_moment": "v"}, set()),
        ({"betas": unit_pair(0.9, 0.99), "eps": nonnegative(1e-8)}, set(loop.OF_LEAVES)),
    ],
)
def test_options_are_offered_to_rules_of_users_where_they_can_work(contents, has):
    own = adam_like(**contents)
    for name in loop.OF_LEAVES:
        if name not in has:
            with pytest.raises(TypeError, match=f"Own: {name} is for rules of Adam's kind"):
                own(np.ones(3), **{name: 0.1})
            continue
        optimizer = own(np.ones(3), **{name: 0.1})
        for _ in range(2):
            optimizer.step(np.ones(3))


def test_a_subclass_lacks_the_options_that_its_base_alone_can_have():
    def settle(self, s, h, sums):
        pass

    def measure(self, x, g, s, h):
        return (g,)

    contents = {"scope": "leaf", "rule": ss.SGD.rule, "measure": measure, "settle": settle}
    for base in RULES:
        own = type("Own", (base,), contents)
        optimizer = own(np.ones((2, 3)))
        for name in loop.LOOP.keys() & base.fields.keys():
            assert name not in own.fields and not hasattr(optimizer, name)
            with pytest.raises(AttributeError, match=f"no attribute '{name}'; it is for rules"):
                getattr(optimizer, name)
            with pytest.raises(AttributeError, match=f"no attribute '{name}'.*; it has lr"):
                setattr(optimizer, name, 1.0)

"""A hyperparameter set after construction: copies and files go on with the state there is."""

import copy
import pickle
from contextlib import nullcontext

import numpy as np
import pytest

import stepsize as ss
from cases import (
    CASES,
    KINDS,
    RULES,
    advance,
    is_valid,
    numpy_rule,
    other_value,
    random_grads,
    random_nest,
    same_bits,
    snapshot,
)
from stepsize.optimizers import loop
from stepsize.optimizers.fields import Choice, Count, Flag, Number, Several
from together import alike, together

SHAPES = {"w": (4, 3), "b": (5,)}
BETA = "row_beta2"


def saved(optimizer, make, path):
    optimizer.save(path)
    other = make({name: leaf.copy() for name, leaf in optimizer.params.items()})
    other.load(path)
    return other


def loaded(optimizer, make, path):
    other = make({name: leaf.copy() for name, leaf in optimizer.params.items()})
    other.load_state_dict(optimizer.state_dict())
    return other


def cloned(optimizer, make, path):
    return optimizer.clone({name: leaf.copy() for name, leaf in optimizer.params.items()})


WAYS = [
    *(cloned, loaded, saved),
    lambda optimizer, make, path: copy.deepcopy(optimizer),
    lambda optimizer, make, path: pickle.loads(pickle.dumps(optimizer)),
]


def values_of(field):
    """What a number may be set to later: its lowest value, or a schedule."""
    if isinstance(field, Several):
        yield tuple(part.low for part in field.parts())
    elif isinstance(field, Number) and field.default is not None:
        yield from {0.0, field.parts()[0].low}
        other = other_value(field)
        yield ss.schedules.constant(other) if other is not None and other > 0 else field.default


def allowed(optimizer, name, value):
    try:
        setattr(optimizer, name, value)
    except (TypeError, ValueError):
        return False
    return True


@pytest.mark.filterwarnings("ignore:.*replaces the schedule")
@together("case", KINDS)
def test_copies_of_an_optimizer_with_a_changed_number_go_on(case, tmp_path):
    grads = [random_grads(random_nest(SHAPES, np.float64), seed) for seed in range(4)]
    turn = 0
    for name, field in case.cls.fields.items():
        for value in values_of(field):
            optimizer = case.make(random_nest(SHAPES, np.float64))
            advance(optimizer, grads[0])
            if not allowed(optimizer, name, value):
                continue
            advance(optimizer, grads[1])
            turn += 1
            ways = {WAYS[turn % len(WAYS)]} | ({cloned} if value == 0 else set())
            for way in ways:
                twin = way(optimizer, case.make, tmp_path / "state")
                assert snapshot(twin) == snapshot(optimizer), (name, value)
                for one in (optimizer, twin):
                    advance(one, grads[2])
                    allowed(one, name, field.default)
                    advance(one, grads[3])
                assert snapshot(twin) == snapshot(optimizer), (name, value)


def test_every_number_is_one_that_a_schedule_may_stand_for_or_says_that_it_acts_once():
    for cls in RULES:
        for name, field in cls.fields.items():
            if isinstance(field, Flag | Count | Choice) or field.default is None:
                continue
            value = other_value(field)
            numbers = value if isinstance(value, tuple) else (value,)
            # No schedule is negative, a function may be.
            if min(numbers) < 0 or not is_valid(cls, {name: value}):
                continue
            rates = tuple(map(ss.schedules.constant, numbers))
            params = random_nest(SHAPES, np.float64)
            other = random_nest(SHAPES, np.float64)
            try:
                scheduled = cls(params, **{name: rates if isinstance(value, tuple) else rates[0]})
            except TypeError as error:
                assert f"{name} acts once, at the start: give a number" in str(error)
                continue
            plain = cls(other, **{name: value})
            for seed in range(2):
                advance(scheduled, random_grads(params, seed))
                advance(plain, random_grads(params, seed))
            assert all(np.array_equal(params[leaf], other[leaf]) for leaf in SHAPES), (cls, name)


@pytest.mark.parametrize("cls, name", [(ss.SGD, "momentum"), (ss.Muon, "row_beta2")])
def test_what_was_set_to_0_may_be_set_back(cls, name):
    params = random_nest(SHAPES, np.float64)
    optimizer = cls(params, **{name: 0.9})
    advance(optimizer, random_grads(params, 0))
    setattr(optimizer, name, 0.0)
    twin = copy.deepcopy(optimizer)
    for one in (optimizer, twin):
        advance(one, random_grads(params, 1))
        setattr(one, name, 0.5)
        advance(one, random_grads(params, 2))
    assert snapshot(twin) == snapshot(optimizer)
    without = cls(random_nest(SHAPES, np.float64))
    with pytest.raises(ValueError, match=f"{name}=0.9 needs state that this optimizer was made"):
        setattr(without, name, 0.9)


def needs_state(case, name):
    """Whether a number of a case has state arrays that it does without at 0."""
    field = case.cls.fields[name]
    if not isinstance(field, Number) or field.default is None or not field.parts()[0].holds(0.0):
        return False
    with_it, without = ({**case.values, name: value} for value in (0.5, 0.0))
    alike = loop.layout(case.cls, with_it) == loop.layout(case.cls, without)
    return not alike and is_valid(case.cls, with_it) and is_valid(case.cls, without)


@pytest.mark.parametrize("way", ["before the first step", "later", "schedule"])
@together("numpy", [True, False], alike)
def test_a_number_at_0_is_the_rule_without_it(way, numpy):
    found = {(case, name) for case in CASES for name in case.cls.fields if needs_state(case, name)}
    assert {(case.cls, name) for case, name in found} >= {(ss.SGD, "momentum"), (ss.Muon, BETA)}
    for case, name in sorted(found, key=str):
        params, other = random_nest(SHAPES, np.float64), random_nest(SHAPES, np.float64)
        with numpy_rule(case.cls) if numpy else nullcontext():
            without = case.make(other, **{name: 0.0})
            optimizer = case.make(params, **{name: 0.5 if way != "schedule" else lambda t: 0.0})
        if way == "later":
            for seed in range(3):
                advance(optimizer, random_grads(params, seed))
                advance(without, random_grads(other, seed))
            for path, leaf in other.items():  # the state that both have
                leaf[...] = params[path]
                for slot, array in without.state[path].items():
                    array[...] = optimizer.state[path][slot]
        if way != "schedule":
            setattr(optimizer, name, 0.0)
        for seed in range(3, 6):
            advance(optimizer, random_grads(params, seed))
            advance(without, random_grads(other, seed))
        for path, leaf in params.items():  # of RMSprop, to the rounding of the quotient
            close = np.allclose(leaf, other[path], rtol=1e-12, atol=1e-12)
            assert close if case.cls is ss.RMSprop else same_bits(leaf, other[path]), (case, name)


def test_hyperparameters_in_a_state_dict_need_their_state_too():
    optimizer = ss.SGD(np.ones(3), lr=0.1)
    before = snapshot(optimizer)
    state = optimizer.state_dict()
    state["groups"][0]["hyperparams"]["momentum"] = 0.9
    with pytest.raises(ValueError, match="group 0 need state that this optimizer was made without"):
        optimizer.load_state_dict(state)
    assert snapshot(optimizer) == before

"""A hyperparameter set after construction: copies and files go on with the state there is."""

import copy
import pickle

import numpy as np
import pytest

import stepsize as ss
from cases import KINDS, RULES, advance, is_valid, other_value, random_grads, random_nest, snapshot
from stepsize.optimizers.fields import Choice, Count, Flag, Number, Several
from together import together

SHAPES = {"w": (4, 3), "b": (5,)}


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


def test_hyperparameters_in_a_state_dict_need_their_state_too():
    optimizer = ss.SGD(np.ones(3), lr=0.1)
    before = snapshot(optimizer)
    state = optimizer.state_dict()
    state["groups"][0]["hyperparams"]["momentum"] = 0.9
    with pytest.raises(ValueError, match="group 0 need state that this optimizer was made without"):
        optimizer.load_state_dict(state)
    assert snapshot(optimizer) == before

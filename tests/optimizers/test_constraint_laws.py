"""Bounds of groups and the L1 penalty at every door, and gradients of another kind, by rule."""

import numpy as np
import pytest

import stepsize as ss
from cases import RULES, advance, same_bits
from stepsize.optimizers import wrappers
from stepsize.optimizers.registration import snake_case
from together import alike, together

BOUNDED = [cls for cls in RULES if not hasattr(cls, "averaged")]
SHAPES = {"w": (6, 8), "b": (40,), "v": (3, 5), "c": ()}
GROUPS = {"b": (-0.25, 0.125), "v": (None, 0.3), "c": None}
COMMON = (-0.5, 0.4)


def can_be_penalised(cls):
    try:
        cls(np.zeros(1), l1=0.01)
    except ValueError:
        return False
    return "l1" not in cls.fields


PENALISED = [cls for cls in RULES if can_be_penalised(cls)]


def start(dtype=np.float64, seed=0):
    random = np.random.default_rng(seed)
    shapes = SHAPES.items()
    nest = {name: np.array(random.uniform(-0.2, 0.1, shape), dtype) for name, shape in shapes}
    return nest


def gradients(like, seed):
    random = np.random.default_rng((1, seed))
    return {k: np.array(random.standard_normal(v.shape), v.dtype) for k, v in like.items()}


def of_groups():
    return [ss.group(name, bounds=bounds) for name, bounds in GROUPS.items()]


def inside(params):
    for name, leaf in params.items():
        low, high = GROUPS.get(name, COMMON) or (None, None)
        assert low is None or (leaf >= np.asarray(low, leaf.dtype)).all(), name
        assert high is None or (leaf <= np.asarray(high, leaf.dtype)).all(), name


def strided(params):
    found = {}
    for name, leaf in params.items():
        wide = np.zeros((*leaf.shape[::-1], 2), leaf.dtype)
        found[name] = wide[..., 0].T if leaf.ndim else leaf.copy()
        found[name][...] = leaf
    return found


MEMORIES = {"strided": strided, "packed": ss.pack, "rows": lambda p: {k: p[k] for k in p}}


@together("dtype", [np.float32, np.float64], alike)
@pytest.mark.parametrize("cls", BOUNDED)
def test_bounds_of_groups_hold_in_any_memory_to_the_same_bits(cls, dtype):
    params = [make(start(dtype)) for make in MEMORIES.values()]
    optimizers = [cls(p, lr=0.3, bounds=COMMON, groups=of_groups()) for p in params]
    for seed in range(4):
        grads = gradients(start(dtype), seed)
        for p, optimizer in zip(params, optimizers, strict=True):
            advance(optimizer, grads)
            inside(p)
            assert all(same_bits(np.array(p[name]), np.array(params[0][name])) for name in p)


@pytest.mark.parametrize("cls", BOUNDED)
def test_a_population_holds_the_bounds_of_groups_as_each_optimizer_alone(cls):
    count, shared = 3, {"bounds": COMMON, "groups": of_groups()}
    stacked = ss.replicate(start(), count)
    alone = [{name: np.array(leaf[k]) for name, leaf in stacked.items()} for k in range(count)]
    models = ss.population(cls, stacked, lr=[0.1, 0.3, 0.9], **shared)
    each = [cls(p, lr=lr, **shared) for p, lr in zip(alone, (0.1, 0.3, 0.9), strict=True)]
    for seed in range(3):
        grads = [gradients(start(), (seed, k)) for k in range(count)]
        many = {name: np.stack([g[name] for g in grads]) for name in SHAPES}
        loss = 1.0 + 1.0 / (1 + seed)
        models.step(many, **({"loss": np.full(count, loss)} if cls.needs_loss else {}))
        for k, optimizer in enumerate(each):
            advance(optimizer, grads[k])
            inside(alone[k])
            for name in SHAPES:
                assert same_bits(np.array(stacked[name][k]), np.array(alone[k][name])), name


FUNCTIONS = [cls for cls in BOUNDED if hasattr(ss.functional, f"{snake_case(cls)}_")]


@pytest.mark.parametrize("cls", FUNCTIONS)
def test_functions_take_the_bounds_of_each_group_in_a_call_of_its_own(cls):
    name = snake_case(cls)
    function, params, twin = getattr(ss.functional, f"{name}_"), start(), start()
    states = {path: ss.functional.state(name, leaf) for path, leaf in params.items()}
    optimizer = cls(twin, lr=0.3, bounds=COMMON, groups=of_groups())
    for step in range(1, 4):
        grads = gradients(twin, step)
        advance(optimizer, grads)
        for path, leaf in params.items():
            bounds = GROUPS.get(path, COMMON)
            function(leaf, grads[path], **states[path], step=step, lr=0.3, bounds=bounds)
    inside(params)
    assert all(same_bits(params[path], twin[path]) for path in SHAPES)


# The penalty inside of each wrapper.

NEUTRAL = {
    "EMA": lambda opt: ss.EMA(opt, 0.5),
    "SWA": lambda opt: ss.SWA(opt, start=1),
    "Centralize": ss.Centralize,  # vectors stay as they are
    "GradientNoise": lambda opt: ss.GradientNoise(opt, eta=0.0),
    "AdaptiveClip": lambda opt: ss.AdaptiveClip(opt, clip=1e9),
    "Project": lambda opt: ss.Project(opt, ss.projections.box(-50.0, 50.0)),
    "SAM": lambda opt: ss.SAM(opt, rho=0.0),
}
OTHERS = {"Accumulate", "Lookahead", "Mechanic", "OuterMomentum"}  # the last refuses it


def penalised(cls, l1=0.3):
    x = np.random.default_rng(0).uniform(-1, 1, 30)
    return x, cls(x, lr=0.1, l1=l1)


def noise(seed):
    return 1e-3 * np.random.default_rng((2, seed)).standard_normal(30)


def test_no_wrapper_is_left_out():
    assert set(wrappers.__all__) == {*NEUTRAL, *OTHERS}


@together("name", NEUTRAL, alike)
@pytest.mark.parametrize("cls", PENALISED)
def test_the_penalty_acts_inside_of_a_wrapper_as_without_it(cls, name):
    x, optimizer = penalised(cls)
    y, bare = penalised(cls)
    z, other = penalised(cls, 0.0)
    wrapped = NEUTRAL[name](optimizer)
    for seed in range(4):
        g = noise(seed)
        wrapped.step((lambda p, g=g: (1.0, g)) if wrapped.needs_closure else g)
        bare.step(g)
        other.step(g)
        assert same_bits(x, y)
    assert not np.allclose(x, z, rtol=0, atol=1e-3)


@pytest.mark.parametrize("cls", PENALISED)
def test_an_accumulated_penalty_acts_once_a_step(cls):
    x, optimizer = penalised(cls)
    y, bare = penalised(cls)
    wrapped = ss.Accumulate(optimizer, every=2)
    for seed in range(3):
        one, other = noise(seed), noise(seed + 10)
        wrapped.step(one)
        wrapped.step(other)
        bare.step(one + (other - one) / 2)
        assert same_bits(x, y)


@pytest.mark.parametrize("cls", PENALISED)
def test_lookahead_goes_half_the_way_of_the_penalty(cls):
    x, optimizer = penalised(cls)
    y, bare = penalised(cls)
    wrapped, slow = ss.Lookahead(optimizer, k=2, alpha=0.5), x.copy()
    for seed in range(2):
        wrapped.step(noise(seed))
        bare.step(noise(seed))
    np.testing.assert_allclose(x, slow + 0.5 * (y - slow), rtol=0, atol=1e-15)


@pytest.mark.parametrize("cls", PENALISED)
def test_mechanic_refuses_the_penalty_by_name(cls):
    _, optimizer = penalised(cls)
    with pytest.raises(ValueError, match=f"Mechanic: bounds and l1 of {cls.__name__} would not"):
        ss.Mechanic(optimizer)


# Gradients of another kind.


class NoArray:
    pass


KINDS = {
    "complex": lambda shape: np.ones(shape, complex),
    "whole": lambda shape: np.ones(shape, int),
    "unsigned": lambda shape: np.ones(shape, np.uint16),
    "object": lambda shape: np.full(shape, 0.5, object),
    "bool": lambda shape: np.ones(shape, bool),
    "text": lambda shape: np.full(shape, "1"),
    "date": lambda shape: np.zeros(shape, "M8[s]"),
    "record": lambda shape: np.zeros(shape, [("a", float)]),
    "long": lambda shape: np.ones(shape, np.longdouble),
    "swapped": lambda shape: np.ones(shape, ">f8"),
    "masked": lambda shape: np.ma.ones(shape),
    "word": lambda shape: "gradient",
    "instance": lambda shape: NoArray(),
    "class": lambda shape: NoArray,
}


@together("kind", KINDS, alike)
@pytest.mark.parametrize("cls", RULES)
def test_a_gradient_of_another_kind_is_refused_with_the_leaf_and_changes_nothing(cls, kind):
    shape, bad = (4, 3), KINDS[kind]((4, 3))
    good = np.full(shape, 0.5)
    x = {"layer": {"w": np.ones(shape), "b": np.ones(shape)}}
    optimizer = cls(x, lr=0.1)
    advance(optimizer, {"layer": {"w": good, "b": good}})
    before = {name: leaf.copy() for name, leaf in x["layer"].items()}
    state, count = optimizer.state_dict(), optimizer.step_count
    for door in (optimizer.bind, lambda grads: advance(optimizer, grads)):
        with pytest.raises(TypeError, match=r"gradient of layer/w (has dtype|is a)"):
            door({"layer": {"b": good, "w": bad}})
    assert all(same_bits(x["layer"][name], leaf) for name, leaf in before.items())
    assert repr(optimizer.state_dict()) == repr(state) and optimizer.step_count == count


@together("kind", KINDS, alike)
@pytest.mark.parametrize("cls", FUNCTIONS)
def test_functions_and_populations_refuse_gradients_of_another_kind(cls, kind):
    name = snake_case(cls)
    x = np.ones((3, 2))
    state = ss.functional.state(name, x)
    with pytest.raises(TypeError, match=r"grads?.* (has dtype|is a)|expected"):
        getattr(ss.functional, f"{name}_")(x, KINDS[kind]((3, 2)), **state, step=1)
    models = ss.population(cls, {"w": x}, lr=0.1)
    with pytest.raises(TypeError, match=r"gradient of w (has dtype|is a)"):
        models.step({"w": KINDS[kind]((3, 2))})
    assert (x == 1).all()

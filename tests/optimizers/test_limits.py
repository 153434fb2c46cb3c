"""A step with limits is the step without them, then the limits: in every cell of the registry.

Rules and their variants, leaves of all dtypes and layouts, limits for all and by group, classes,
functions, populations and projections are the axes.
"""

import inspect

import ml_dtypes
import numpy as np
import pytest

import stepsize as ss
from cases import (
    CASES,
    CHUNK,
    DTYPES,
    KINDS,
    RULES,
    Case,
    advance,
    random_grads,
    random_nest,
    same_bits,
    unaligned,
)
from stepsize import functional
from stepsize.optimizers.registration import snake_case
from together import alike, together

LR, L1 = 0.125, 0.5  # whose product is exact
LOW, HIGH = -0.75, 0.5
SHAPES = {"free": (5, 7), "held": (33, 9), "long": (CHUNK + 9,), "scalar": ()}
LIMITS = [ss.group("held", bounds=(LOW, HIGH)), ss.group("long", bounds=(None, HIGH))]
HALVES = (np.float16, ml_dtypes.bfloat16)


def takes(case, **limits):
    try:
        case.make({"x": np.zeros((2, 2), np.float32)}, lr=LR, **limits)
    except (TypeError, ValueError):
        return False
    return True


# A penalty of their own is another one, FTRL's.
SPARSE = [case for case in CASES if "l1" not in case.cls.fields and takes(case, l1=L1)]
BOUNDED = [case for case in map(Case, RULES) if takes(case, bounds=(LOW, HIGH))]


def named(cases):
    return [pytest.param(case, id=str(case)) for case in cases]


def inside(nest):
    """A start that the limits let pass, with numbers at them."""
    for leaf in nest.values():
        leaf[...] = np.clip(leaf.astype(float), LOW, HIGH).astype(leaf.dtype)
    return nest


def limited(x, l1=0.0, low=None, high=None):
    """The limits, as the documentation states them, in the leaf's own arithmetic."""
    part = x.dtype.type(LR * l1)
    x = np.sign(x) * np.maximum(np.abs(x) - part, 0) if l1 else x
    return np.asarray(x if low is None and high is None else np.clip(x, low, high), x.dtype)


def strided(nest):
    def apart(leaf):
        whole = np.zeros((*leaf.shape, 2), leaf.dtype)
        whole[..., 0] = leaf
        return whole[..., 0]

    return {name: apart(leaf) for name, leaf in nest.items()}


LAYOUTS = {
    "plain": dict,
    "packed": ss.pack,
    "strided": strided,
    "unaligned": lambda nest: {name: unaligned(leaf) for name, leaf in nest.items()},
    "columns": lambda nest: {name: np.array(leaf, order="F") for name, leaf in nest.items()},
}


def equal(one, other):
    """Equal numbers: of zeros the sign is open."""
    return one.dtype == other.dtype and np.array_equal(one, other)


def assert_step(case, dtype, layout, limits, expected):
    """One step from the same start, with limits and without."""
    for seed in range(2):
        source = inside(random_nest(SHAPES, dtype, seed))
        with_limits, without = (LAYOUTS[layout]({k: v.copy() for k, v in source.items()})
                                for _ in range(2))  # fmt: skip
        grads = random_grads(source, seed, 1e-1)
        groups = [ss.group(name) for name in ("held", "long")] if "groups" in limits else ()
        advance(case.make(with_limits, lr=LR, **limits), grads)
        advance(case.make(without, lr=LR, groups=groups), grads)
        for name, leaf in without.items():
            assert equal(np.array(with_limits[name]), expected(name, np.array(leaf))), (name, seed)


def by_group(name, x):
    sides = {"held": (LOW, HIGH), "long": (None, HIGH)}
    return limited(x, 0.0, *sides.get(name, (None, None)))


@together("dtype", DTYPES, alike)
@together("case", (case for case in SPARSE if case in KINDS))
def test_the_penalty_follows_the_step_of_every_variant(case, dtype):
    assert_step(case, dtype, "plain", {"l1": L1}, lambda name, x: limited(x, L1))


@together("layout", LAYOUTS, alike)
@pytest.mark.parametrize("case", named(c for c in SPARSE if not c.keywords))
def test_the_penalty_by_group_in_every_layout(case, layout):
    groups = [ss.group("held", l1=L1), ss.group("long", bounds=(None, HIGH))]

    def expected(name, x):
        return {"held": lambda: limited(x, L1), "long": lambda: limited(x, 0, None, HIGH)}.get(
            name, lambda: x
        )()

    assert_step(case, np.float32, layout, {"groups": groups}, expected)


@together("dtype", DTYPES, alike)
@pytest.mark.parametrize("case", named(BOUNDED))
def test_bounds_by_group_follow_the_step_of_every_rule(case, dtype):
    assert_step(case, dtype, "plain", {"groups": LIMITS}, by_group)


@together("layout", [name for name in LAYOUTS if name != "plain"], alike)
@pytest.mark.parametrize("case", named(BOUNDED))
def test_bounds_by_group_in_every_layout(case, layout):
    assert_step(case, np.float32, layout, {"groups": LIMITS}, by_group)


@together("masters", [True, False], alike)
@together("half", HALVES, alike)
@pytest.mark.parametrize("case", named(c for c in SPARSE if not c.keywords))
def test_the_penalty_of_half_precision_makes_zeros(case, half, masters):
    """Of a gradient of 0 nothing but the penalty moves a parameter, whatever its dtype."""
    x = inside(random_nest({"x": 300}, np.float32))["x"].astype(half)
    begun = x.astype(np.float32)
    more = {"weight_decay": 0.0} if "weight_decay" in case.cls.fields else {}
    advance(case.make(x, lr=LR, l1=L1, master_weights=masters, **more), np.zeros_like(x))
    wide = limited(begun, L1)
    assert ((x.astype(np.float32) == 0) == (wide == 0)).all()
    unit = float(ml_dtypes.finfo(half).eps)
    np.testing.assert_allclose(x.astype(np.float32), wide, atol=unit, rtol=unit)


@pytest.mark.parametrize("case", named(c for c in BOUNDED if not c.cls.needs_loss))
def test_bounds_and_the_penalty_of_a_population_are_those_of_each(case):
    l1 = [0.0, L1, 2 * L1] if case in SPARSE else None
    bounds = [(LOW, HIGH), None, (None, HIGH)]
    shapes = {name: (3, *SHAPES[name]) for name in ("free", "held")}
    many = inside(random_nest(shapes, np.float32))
    own = [{name: leaf[k].copy() for name, leaf in many.items()} for k in range(3)]
    models = ss.population(case.cls, many, LR, bounds=bounds, **({"l1": l1} if l1 else {}))
    singles = [
        case.make(own[k], lr=LR, bounds=bounds[k], **({"l1": l1[k]} if l1 else {}))
        for k in range(3)
    ]
    for seed in range(3):
        grads = random_grads(many, seed, 1e-1)
        models.step(grads)
        for k, single in enumerate(singles):
            single.step({name: grad[k].copy() for name, grad in grads.items()})
            assert all(same_bits(many[name][k].copy(), leaf) for name, leaf in own[k].items()), k


FUNCTIONS = [
    case
    for case in BOUNDED
    if snake_case(case.cls) + "_" in functional.__all__
    and "bounds" in inspect.signature(getattr(functional, snake_case(case.cls) + "_")).parameters
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", named(FUNCTIONS))
def test_bounds_and_the_penalty_of_a_function_are_those_of_its_class(case, dtype):
    limits = {"bounds": (LOW, HIGH), **({"l1": L1} if case in SPARSE else {})}
    function = getattr(functional, snake_case(case.cls) + "_")
    x = inside(random_nest({"x": CHUNK + 9}, dtype))["x"]
    twin = x.copy()
    state, optimizer = functional.state(case.cls, x), case.make(twin, lr=LR, **limits)
    for step in (1, 2, 3):
        grad = random_grads(x, step, 1e-1)
        function(x, grad, **state, step=step, lr=LR, **limits)
        optimizer.step(grad)
        assert same_bits(x, twin)
    assert len(FUNCTIONS) > 5


@together("layout", LAYOUTS, alike)
@pytest.mark.parametrize(
    "case", named(c for c in map(Case, RULES) if not hasattr(c.cls, "averaged"))
)
def test_a_projection_follows_the_step_of_every_rule(case, layout):
    sets = {"held": ss.projections.ball(2.0), "long": ss.projections.box(LOW, HIGH)}
    source = inside(random_nest(SHAPES, np.float32))
    source["held"][...] = sets["held"](source["held"])
    one, other = (LAYOUTS[layout]({k: v.copy() for k, v in source.items()}) for _ in range(2))
    projected, plain = ss.Project(case.make(one, lr=LR), sets), case.make(other, lr=LR)
    for seed in range(3):
        grads = random_grads(source, seed, 1e-1)
        loss = {"loss": 1.0} if case.cls.needs_loss else {}
        projected.step(grads, **loss)
        plain.step(grads, **loss)
        for name, nearest in sets.items():
            other[name][...] = nearest(np.array(other[name]))
        assert all(same_bits(np.array(one[k]), np.array(other[k])) for k in source), seed


COMPLEX_SETS = {
    "ball": ss.projections.ball(0.5),
    "unit_norm": ss.projections.unit_norm(),
    "linf": ss.projections.ball(0.5, "linf"),
    "box": ss.projections.box(-0.5, 0.5),
    "nonnegative": ss.projections.nonnegative(),
    "simplex": ss.projections.simplex(),
    "orthogonal": ss.projections.orthogonal(),
}


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("name", COMPLEX_SETS)
def test_projections_of_complex_leaves_are_nearest_points_or_refused(name, dtype):
    random = np.random.default_rng(0)

    def drawn(scale):
        return (
            scale * (random.standard_normal((4, 3)) + 1j * random.standard_normal((4, 3)))
        ).astype(dtype)

    nearest, x = COMPLEX_SETS[name], drawn(1.0)
    kept = x.copy()
    try:
        found = nearest(x)
    except TypeError as error:
        assert "complex" in str(error)
        with pytest.raises((TypeError, ValueError), match="z"):
            ss.Project(ss.SGD({"z": x}, lr=0.1), {"z": nearest})
        assert np.array_equal(x, kept)
        return
    assert (found.dtype, found.shape) == (x.dtype, x.shape)
    np.testing.assert_allclose(nearest(found), found, atol=1e-5)
    for _ in range(50):
        assert np.linalg.norm(nearest(drawn(1.0)) - x) >= np.linalg.norm(found - x) - 1e-5

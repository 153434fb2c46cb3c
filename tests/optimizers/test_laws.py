"""Laws that hold for every rule, because the loop around the rule keeps them."""

import copy
import pickle

import numpy as np

import stepsize as ss
from cases import (
    CHUNK,
    DTYPES,
    KINDS,
    RULES,
    Case,
    advance,
    random_grads,
    random_nest,
    same_bits,
    snapshot,
)
from together import alike, class_of, together
from two_threads import in_two_threads

SHAPES = {"w": (5, 7), "b": (7,), "scalar": (), "empty": (0, 3), "k": (2, 3, 4)}


RULE_CASES = [Case(cls) for cls in RULES]
every_rule = together("case", RULE_CASES)
every_dtype = together("dtype", DTYPES, alike)


def every_kind_and_dtype(test):
    """Of float64, which differs in its kernels, one case of each rule."""
    cells = [(case, np.float32) for case in KINDS] + [(case, np.float64) for case in RULE_CASES]

    def of_a_cell(cell):
        test(*cell)

    of_a_cell.__name__ = test.__name__
    return together("cell", cells, lambda cell: class_of(cell[0]))(of_a_cell)


def trained(case, params, steps=4, grads=random_grads, **keywords):
    """The optimizer after a few steps."""
    optimizer = case.make(params, **keywords)
    for seed in range(steps):
        advance(optimizer, grads(params, seed))
    return optimizer


def assert_same_nests(a, b):
    left, paths, _ = ss.arrays.flatten(a)
    right, _, _ = ss.arrays.flatten(b)
    assert [
        path for path, x, y in zip(paths, left, right, strict=True) if not same_bits(x, y)
    ] == []


# One step over many arrays is the same as one step over one array.


@every_dtype
@together("case", (case for case in KINDS if case.elementwise))
def test_step_of_a_concatenation_is_the_concatenation_of_steps(case, dtype):
    parts = list(random_nest({"a": 3, "b": 300, "c": 17, "d": CHUNK}, dtype).values())
    together = np.concatenate(parts)
    cuts = np.cumsum([part.size for part in parts])[:-1]
    whole, pieces = case.make(together), case.make(parts)
    for seed in range(3):
        grad = random_grads(together, seed)
        advance(whole, grad)
        advance(pieces, np.split(grad, cuts))
    if "clip_norm" in case.keywords:  # the norm adds up in blocks that start with each array
        np.testing.assert_allclose(np.concatenate(parts), together, rtol=1e-5)
    else:
        assert same_bits(np.concatenate(parts), together)


@every_kind_and_dtype
def test_packing_changes_nothing(case, dtype):
    loose = random_nest(SHAPES, dtype)
    packed = ss.pack(loose)
    one, two = trained(case, loose), case.make(packed)
    for seed in range(4):
        advance(two, ss.pack(random_grads(packed, seed)))
    assert_same_nests(loose, packed)
    assert snapshot(one) == snapshot(two)


@every_dtype
@every_rule
def test_memory_layout_changes_nothing(case, dtype):
    plain = random_nest({"a": (6, 4), "b": (9,), "c": (4, 3, 2)}, dtype)
    odd = {
        "a": np.asfortranarray(plain["a"]),
        "b": np.zeros(27, dtype)[::-3],
        "c": np.zeros((4, 4, 4), dtype)[:, :3, ::2],
    }
    ss.arrays.assign(odd, plain)
    one, two = case.make(plain), case.make(odd)
    for seed in range(3):
        grads = random_grads(plain, seed)
        advance(one, grads)
        advance(two, ss.arrays.map_leaves(lambda g: np.repeat(g, 2, axis=0)[::2], grads))
    assert_same_nests(plain, odd)


@every_rule
def test_the_number_of_threads_changes_nothing(case):
    source = random_nest({"a": 3 * CHUNK + 1, "b": (70, 1000), "c": 5 * CHUNK}, np.float32)
    results = []
    for threads in (1, 2, 5):
        params = ss.arrays.copy(source)
        ss.set_num_threads(threads)
        optimizer = case.make(params, clip_norm=3.0)
        stats = [advance(optimizer, random_grads(params, k), stats=True) for k in range(2)]
        results.append((snapshot(optimizer), stats))
    assert results[0] == results[1] == results[2]


# What a rate of 0, a gradient of 0 and the sign of the gradient do.


@every_dtype
@together(
    "case",
    (
        case
        for case in KINDS
        # The rate of Rprop is its first step, which its smallest step bounds from below.
        if case.cls.fields["lr"].parts()[0].holds(0.0) and case.cls is not ss.Rprop
    ),
)
def test_a_rate_of_zero_leaves_parameters_alone(case, dtype):
    params = random_nest(SHAPES, dtype)
    before = ss.arrays.copy(params)
    trained(case, params, lr=0.0)
    assert_same_nests(params, before)


@every_dtype
@together("case", (c for c in RULE_CASES if c.cls.decay_kind(c.values) == "decoupled"))
def test_decoupled_decay_alone_shrinks(case, dtype):
    params = random_nest(SHAPES, dtype)
    expected = {name: leaf * dtype(1 - 0.25 * 0.125) for name, leaf in params.items()}
    case.make(params, lr=0.25, weight_decay=0.125).step(ss.arrays.map_leaves(np.zeros_like, params))
    assert_same_nests(params, {name: np.asarray(leaf) for name, leaf in expected.items()})


@every_dtype
@together(
    "case",
    (
        case
        for case in RULE_CASES
        if "weight_decay" in case.cls.fields and case.cls.decay_kind(case.values) == "coupled"
    ),
)
def test_coupled_decay_is_a_gradient(case, dtype):
    params = random_nest({"x": 100}, dtype)
    other = ss.arrays.copy(params)
    decay, plain = case.make(params, weight_decay=0.25), case.make(other, weight_decay=0.0)
    for _ in range(3):
        advance(decay, {"x": np.zeros(100, dtype)})
        advance(plain, {"x": other["x"] * dtype(0.25)})
    assert_same_nests(params, other)


@every_kind_and_dtype
def test_climbing_is_descending_the_negative(case, dtype):
    up, down = random_nest(SHAPES, dtype), random_nest(SHAPES, dtype)
    maximize = not case.keywords.get("maximize", False)
    climber, descender = case.make(up, maximize=maximize), case.make(down, maximize=not maximize)
    for seed in range(3):
        grads = random_grads(up, seed)
        advance(climber, grads)
        advance(descender, ss.arrays.map_leaves(lambda g: np.asarray(-g), grads))
    assert_same_nests(up, down)


# Missing gradients, and gradients that live in odd places.


@every_kind_and_dtype
def test_a_leaf_without_gradient_stays_where_it_is(case, dtype):
    params = random_nest({"moved": 20, "kept": 20}, dtype)
    optimizer = trained(case, params)
    before = snapshot(optimizer)["state"]
    kept = params["kept"].copy()
    advance(optimizer, {"moved": random_grads(params, 9)["moved"], "kept": None})
    after = snapshot(optimizer)["state"]
    assert same_bits(params["kept"], kept)
    assert after["state"]["kept"] == before["state"]["kept"]
    assert after["steps"] == {"moved": 5, "kept": 4} and after["step_count"] == 5


@every_rule
def test_a_step_without_any_gradient_moves_nothing(case):
    params = random_nest({"a": 20, "b": (2, 2)}, np.float64)
    optimizer = trained(case, params)
    before = snapshot(optimizer)
    advance(optimizer, {"a": None, "b": None})
    after = snapshot(optimizer)
    assert after["params"] == before["params"]
    assert after["state"]["state"] == before["state"]["state"]
    assert after["state"]["steps"] == before["state"]["steps"]


@every_kind_and_dtype
def test_gradients_are_only_read(case, dtype):
    params = random_nest(SHAPES, dtype)
    optimizer = case.make(params)
    for seed in range(3):
        grads = random_grads(params, seed)
        kept = ss.arrays.copy(grads)
        for leaf in grads.values():
            leaf.flags.writeable = False
        advance(optimizer, grads)
        assert_same_nests(grads, kept)


def aliases(params):
    """Gradients that are, or cross, the parameters."""
    a, b = params["a"], params["b"]
    base = a.base
    return {
        "own": {"a": a, "b": b},
        "each other": {"a": b, "b": a},
        "one ahead": {"a": base[1 : a.size + 1], "b": b},
        "one behind": {"a": base[: a.size], "b": b[::-1]},
        "reversed": {"a": a[::-1], "b": a},
    }


@together("kind", ["own", "each other", "one ahead", "one behind", "reversed"], alike)
@every_dtype
@every_rule
def test_gradients_may_be_the_parameters(case, dtype, kind):
    size = 2 * CHUNK + 3

    def fresh():
        base = random_nest({"base": size + 2}, dtype)["base"]
        return {"a": base[1:-1], "b": random_nest({"b": size}, dtype, 1)["b"]}

    apart, shared = fresh(), fresh()
    one, two = case.make(apart), case.make(shared)
    for _ in range(3):
        one_stats = advance(one, ss.arrays.copy(aliases(apart)[kind]), stats=True)
        two_stats = advance(two, aliases(shared)[kind], stats=True)
        np.testing.assert_array_equal(one_stats, two_stats)  # NaN where all is 0
    assert_same_nests(apart, shared)


# A run that stops and goes on.


def by_state_dict(optimizer, case, path):
    fresh = case.make(ss.arrays.copy(optimizer.params), lr=0.123)
    fresh.load_state_dict(optimizer.state_dict())
    return fresh


def by_file(optimizer, case, path):
    optimizer.save(path)
    fresh = case.make(ss.arrays.copy(optimizer.params), lr=0.123)
    fresh.load(path)
    return fresh


def by_clone(optimizer, case, path):
    return optimizer.clone(ss.arrays.copy(optimizer.params))


def by_pickle(optimizer, case, path):
    return pickle.loads(pickle.dumps(optimizer))


def by_deepcopy(optimizer, case, path):
    return copy.deepcopy(optimizer)


WAYS = [by_state_dict, by_clone, by_pickle, by_deepcopy]


@together(
    "run",
    [(case, by_file) for case in KINDS] + [(case, way) for case in RULE_CASES for way in WAYS],
    lambda run: class_of(run[0]),
)
def test_a_run_goes_on_bit_for_bit(run, tmp_path):
    case, way = run
    params = random_nest(SHAPES, np.float32)
    first = case.make(params)
    for seed in range(3):
        grads = random_grads(params, seed)
        advance(first, grads | {"b": None} if seed == 1 else grads)
    first.lr_scale = 0.5
    second = way(first, case, tmp_path / "optimizer")
    assert second.params["w"] is not first.params["w"]
    assert snapshot(second) == snapshot(first)
    for seed in range(3, 6):
        grads = random_grads(params, seed)
        advance(first, grads)
        advance(second, grads)
    assert snapshot(second) == snapshot(first)


# Threads of Python.


@every_rule
def test_two_threads_take_turns(case):
    size = 8 * CHUNK  # long enough for the interpreter's lock to be let go
    grad = np.full(size, 0.01, np.float32)
    alone, shared = np.ones(size, np.float32), np.ones(size, np.float32)
    expected, optimizer = case.make(alone), case.make(shared)
    more = {"loss": 1.0} if case.cls.needs_loss else {}
    for _ in range(20):
        expected.step(grad, **more)

    def work():
        for _ in range(10):
            optimizer.step(grad, **more)

    assert not in_two_threads(work)
    assert optimizer.step_count == 20
    assert same_bits(shared, alone)

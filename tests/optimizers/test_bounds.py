"""Bounds and the L1 penalty: what follows each update, as a law of every rule."""

import pickle
import zlib

import ml_dtypes
import numpy as np
import pytest

import stepsize as ss
from cases import CHUNK, DTYPES, RULES, advance, numpy_rule, random_grads, same_bits, unaligned
from stepsize import _core

BOUNDED = [cls for cls in RULES if not hasattr(cls, "averaged")]
PENALISED = ["AdaBelief", "AdamW", "AdEMAMix", "LaProp", "Lion", "NAdamW", "SGD", "SignSGD"]
PENALISED += ["Signum"]
HALVES = (np.float16, ml_dtypes.bfloat16)
SHAPES = {"scalar": (), "short": 7, "tile": 256, "odd": 1033, "matrix": (33, 65), "empty": (0, 3)}


# What factors a matrix of a vector would take a second for each step of the long one.
SHORTER = SHAPES | {"odd": 263}


def start(dtype, seed=0, shapes=SHAPES):
    """Parameters in [-1, 1], some of them at the bounds."""
    random = np.random.default_rng(seed)
    nest = {name: np.array(random.uniform(-1, 1, shape)) for name, shape in shapes.items()}
    for leaf in nest.values():
        leaf.reshape(-1)[::5] = 0.5
        np.clip(leaf, -0.75, 0.5, out=leaf)
    return {name: leaf.astype(dtype) for name, leaf in nest.items()}


def sides(params, each):
    """Numbers, or arrays that differ from place to place."""
    if not each:
        return (-0.75, 0.5)
    random = np.random.default_rng(5)
    low = {name: -0.75 - random.uniform(0, 0.5, leaf.shape) for name, leaf in params.items()}
    return (low, {name: 0.5 if name != "empty" else None for name in params})


def inside(params, bounds):
    for name, leaf in params.items():
        low, high = (side[name] if isinstance(side, dict) else side for side in bounds)
        wide = leaf.astype(float)
        assert (wide >= (-np.inf if low is None else low)).all(), name
        assert (wide <= (np.inf if high is None else high)).all(), name


def shapes_of(cls):
    return SHORTER if cls.shaped else SHAPES


def run(cls, dtype, bounds, steps=4, lr=0.3, stats=False, **more):
    params = start(dtype, shapes=shapes_of(cls))
    optimizer = cls(params, lr=lr, bounds=bounds, **more)
    found = []
    for seed in range(steps):
        grads = random_grads(params, seed, 1e-2)
        grads["short"] = None if seed == 1 else grads.get("short")
        found.append(advance(optimizer, grads, stats=stats))
        if bounds is not None:
            inside(params, bounds)
    state = [slot for leaf in optimizer.state.values() for slot in leaf.values()]
    return [*params.values(), *state], found


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", BOUNDED)
def test_every_rule_ends_inside_as_numpy_states_it(cls, dtype, each):
    bounds = sides(start(dtype, shapes=shapes_of(cls)), each)
    more = {"l1": 0.05} if cls.__name__ in PENALISED else {}
    for stats in (False, True):
        found, seen = run(cls, dtype, bounds, stats=stats, **more)
        with numpy_rule(cls):
            expected, known = run(cls, dtype, bounds, stats=stats, **more)
        assert all(map(same_bits, found, expected))
        assert seen == known
    assert any((leaf == 0.5).any() for leaf in found[:5])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", BOUNDED)
def test_bounds_that_nothing_meets_change_no_bit(cls, dtype):
    found, _ = run(cls, dtype, (-1e35, 1e35), lr=1e-3)
    expected, _ = run(cls, dtype, None, lr=1e-3)
    assert all(map(same_bits, found, expected))


@pytest.mark.parametrize("masters", [True, False])
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("cls", BOUNDED)
def test_half_precision_is_inside_bounds_that_it_cannot_hold(cls, half, masters):
    bounds = (-0.7501, 0.5009)
    found, _ = run(cls, half, bounds, master_weights=masters)
    with numpy_rule(cls):
        expected, _ = run(cls, half, bounds, master_weights=masters)
    assert all(map(same_bits, (x.astype(np.float32) for x in found), (
        x.astype(np.float32) for x in expected)))  # fmt: skip


def test_a_bound_that_the_dtype_cannot_hold_is_kept_on_its_inner_side():
    for dtype in (np.float32, *HALVES):
        x = np.array([0.5, 0.5], dtype)
        ss.SGD(x, lr=1.0, bounds=(1e-30, 1 - 1e-9)).step(np.array([9.0, -9.0], dtype))
        assert x[0] > 0 and x[1] < 1
    with pytest.raises(ValueError, match="no float32 lies between the bounds of params"):
        ss.SGD(np.ones(1, np.float32), bounds=(1 + 1e-9, 1 + 2e-9))


@pytest.mark.parametrize("form", [None, "bfloat16", "int8"])
def test_targets_threads_and_packing_give_the_same_bits(form):
    sizes = {"a": 3 * CHUNK + 5, "b": 300, "c": CHUNK, "short": 9}
    sources = {each: start(np.float32, shapes=sizes) for each in (False, True)}
    limits = {each: sides(source, each) for each, source in sources.items()}
    grads = random_grads(sources[False], 0, 1e-2)
    answers = []
    first = _core.target()
    try:
        for target in _core.available_targets():
            _core.choose_target(target)
            for threads in (1, 3):
                ss.set_num_threads(threads)
                for make in (dict, ss.pack, lambda p: {k: unaligned(v) for k, v in p.items()}):
                    for each in (False, True):
                        params = {name: leaf.copy() for name, leaf in sources[each].items()}
                        params = make(params)
                        opt = ss.AdamW(
                            params, lr=0.3, bounds=limits[each], l1=0.01, state_dtype=form
                        )
                        opt.step(grads)
                        opt.step(grads)
                        inside(params, limits[each])
                        answers.append(
                            (each, [zlib.crc32(leaf.tobytes()) for leaf in params.values()])
                        )
    finally:
        _core.choose_target(first)
        ss.set_num_threads(None)
    for each in (False, True):
        alike = [answer for kind, answer in answers if kind == each]
        assert len(alike) >= 6 and all(answer == alike[0] for answer in alike)


def test_packed_leaves_may_have_bounds_of_their_own():
    groups = [ss.group("b", bounds=(0, 0.1)), ss.group("c", bounds=None)]
    nest = ss.pack({name: np.full(100, 0.1) for name in "abcd"})
    opt = ss.SGD(nest, lr=1.0, bounds=(-1, 0.2), groups=groups)
    opt.step({name: np.full(100, -5.0) for name in "abcd"})
    assert [nest[name].max() for name in "abcd"] == [0.2, 0.1, 5.1, 0.2]
    listed = [{"params": np.zeros(2), "bounds": (-1, 1)}, {"params": np.zeros(2), "l1": 1.0}]
    opt = ss.SGD(listed, lr=1.0)
    opt.step([np.full(2, -5.0), np.full(2, -5.0)])
    assert listed[0]["params"][0] == 1 and listed[1]["params"][0] == 4


def test_copies_keep_the_bounds():
    x = np.zeros(3)
    opt = ss.AdamW(x, lr=1.0, bounds=(-0.5, [0.1, 0.2, 0.3]), l1=0.01)
    for twin in (opt.clone(x.copy()), pickle.loads(pickle.dumps(opt))):
        twin.step(np.full(3, -5.0))
        assert np.array_equal(twin.params, [0.1, 0.2, 0.3])
    state = opt.state_dict()
    ss.AdamW(x, lr=1.0).load_state_dict(state)  # as clipping, they are no state


def test_functions_and_populations_do_as_the_class():
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (3, 500)).astype(np.float32)
    g = random.standard_normal((3, 500)).astype(np.float32)
    one, many, each = x[0].copy(), x.copy(), x.copy()
    state = ss.functional.state("adamw", one)
    models = ss.population("adamw", many, 0.5, bounds=(-1, 1), l1=[0.1, 0.2, 0.3])
    varied = ss.population("adamw", each, 0.5, bounds=[(-1, 1), None, (-1.5, 1.5)])
    opt = ss.AdamW(x[0], lr=0.5, bounds=(-1, 1), l1=0.1)
    for t in range(1, 4):
        ss.functional.adamw_(one, g[0], **state, step=t, lr=0.5, bounds=(-1, 1), l1=0.1)
        models.step(g)
        varied.step(g)
        opt.step(g[0])
    assert same_bits(one, x[0]) and same_bits(many[0], x[0]) and np.abs(x[0]).max() == 1
    assert np.abs(each).max(axis=1).tolist()[0::2] == [1.0, 1.5] and np.abs(each[1]).max() > 1.5
    with pytest.raises(ValueError, match="adamw_: bounds must be numbers here"):
        ss.functional.adamw_(one, g[0], **state, step=4, bounds=(np.zeros(500), 1))
    with pytest.raises(ValueError, match=r"adam_: l1=0\.1 is not possible"):
        ss.functional.adam_(one, g[0], **state, step=4, l1=0.1)


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
def test_averages_of_points_inside_are_inside(dtype):
    for wrap in (
        lambda opt: ss.EMA(opt, 0.3),
        lambda opt: ss.EMA(opt, 0.999, warmup=True),
        ss.SWA,
        lambda opt: ss.Lookahead(opt, 2, 0.7),
        lambda opt: ss.SAM(opt, 0.5),
        lambda opt: ss.Accumulate(opt, 2),
    ):
        x = start(dtype)["odd"]
        opt = wrap(ss.AdamW(x, lr=0.3, bounds=(-0.7501, 0.5009)))
        for seed in range(9):
            grads = random_grads({"x": x}, seed)["x"]
            opt.step((lambda p, g=grads: (0.0, g)) if opt.needs_closure else grads)
            inside({"x": x}, (-0.7501, 0.5009))
            if hasattr(opt, "eval_params"):
                inside({"x": np.asarray(opt.eval_params())}, (-0.7501, 0.5009))
    with pytest.raises(ValueError, match=r"put ss\.Project around Mechanic"):
        ss.Mechanic(ss.SGD(np.zeros(3), bounds=(-1, 1)))


@pytest.mark.parametrize("compiled", [True, False])
def test_rows_have_the_bounds_of_their_places(compiled):
    class Own(ss.SGD):
        by_row = True

        def rule(self, x, g, s, h):
            x -= h.lr * g

    x = np.zeros((6, 4))
    low = -np.arange(24.0).reshape(6, 4)
    opt = (ss.SGD if compiled else Own)(x, lr=1.0, bounds=(low, None), l1=0.5)
    opt.step(ss.RowGradient([4, 1], np.full((2, 4), 99.0)))
    assert np.array_equal(x[[1, 4]], low[[1, 4]]) and not x[[0, 2, 3, 5]].any()
    assert np.array_equal(opt.internals.options.bounds.by_leaf[0].low, low)


def test_the_penalty_is_a_soft_threshold_by_the_rate():
    x = np.array([3.0, 0.4, -0.2, -2.0])
    opt = ss.SGD(x, lr=ss.schedules.linear(1.0, 0.5, 10), l1=0.5)
    opt.lr_scale = 0.5
    opt.step(np.zeros(4))
    np.testing.assert_allclose(x, [2.75, 0.15, 0.0, -1.75], rtol=1e-15)


def test_sgd_with_the_penalty_finds_the_lasso():
    random = np.random.default_rng(1)
    a = random.standard_normal((60, 12))
    b = a[:, :3] @ [2.0, -1.0, 0.5] + 0.1 * random.standard_normal(60)
    x, penalty = np.zeros(12), 8.0
    opt = ss.SGD(x, lr=1 / np.linalg.norm(a, 2) ** 2, l1=penalty)
    for _ in range(3000):
        opt.step(a.T @ (a @ x - b))
    slope = a.T @ (a @ x - b)
    assert 3 <= np.count_nonzero(x) < 12
    np.testing.assert_allclose(slope[x != 0], -penalty * np.sign(x[x != 0]), atol=1e-6)
    assert np.abs(slope[x == 0]).max() <= penalty


@pytest.mark.parametrize("cls", ss.optimizers.registry())
def test_rules_that_cannot_say_so(cls):
    params = {"layer": {"w": np.full((2, 3), 0.5)}}
    if cls in BOUNDED:
        cls(params, bounds=(0, 1))
    else:
        with pytest.raises((TypeError, ValueError), match=f"{cls.__name__}: bounds are not"):
            cls(params, bounds=(0, 1))
    if "l1" in cls.fields:  # the penalty of the rule itself
        assert cls(params, l1=0.1).l1 == 0.1
    elif cls.__name__ in PENALISED:
        cls(params, l1=0.1)
    else:
        with pytest.raises(ValueError, match=rf"{cls.__name__}: l1=0\.1 is not possible"):
            cls(params, l1=0.1)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0.5, 1), r"2 of 4 elements of a/w start outside of the bounds, the first 0 at \[0\]"),
        ((None, 0.1), r"2 of 4 elements of a/w start outside of the bounds, the first 1 at \[1\]"),
        ((1, 0), "1 lower bounds of a/w lie above the upper ones, the first 1 above 0"),
        ((np.nan, 2), "low of the bounds of a/w holds NaN"),
        ((-1, [np.nan, 2, 2, 2]), "high of the bounds of a/w holds NaN"),
        ((-1j, 2), r"low of the bounds of a/w must be real numbers .* got \(-0-1j\)"),
        (("a", 2), "low of the bounds of a/w must be real numbers that fit its shape"),
        ((True, 2), "low of the bounds of a/w must be real numbers that fit its shape"),
        ((np.zeros(3), 2), r"fit its shape \(4,\), got array\(\[0., 0., 0.\]\)"),
        ((np.zeros((2, 4)), 2), r"fit its shape \(4,\)"),
        (({"b": 1}, 2), "low of bounds must have the nesting of params"),
        ((np.inf, np.inf), "leave no number"),
        (3.0, "bounds must be a pair"),
        ((1, 2, 3), "bounds must be a pair"),
    ],
)
def test_bounds_that_cannot_be_are_refused_by_name(bounds, words):
    w = np.array([0.0, 1.0, 0.0, 1.0])
    for make in (
        lambda: ss.AdamW({"a": {"w": w}}, bounds=bounds),
        lambda: ss.AdamW({"a": {"w": w}}, groups=[ss.group("*w", bounds=bounds)]),
    ):
        with pytest.raises(ValueError, match=f"AdamW: .*{words}|AdamW: {words}"):
            make()
    assert np.array_equal(w, [0, 1, 0, 1])
    with pytest.raises(TypeError, match="AdamW: z is complex128; bounds are of real numbers"):
        ss.AdamW({"z": np.zeros(2, complex)}, bounds=(-1, 1))
    with pytest.raises(TypeError, match="SGD: z is complex128; an L1 penalty is of real"):
        ss.SGD({"z": np.zeros(2, complex)}, l1=0.1)
    with pytest.raises(ValueError, match="AdamW: l1 must be a finite number >= 0, got -1"):
        ss.AdamW(w, l1=-1)


def test_a_later_group_that_would_lose_its_bounds_is_refused():
    groups = [ss.group("w", lr=0.1), ss.group("*", bounds=(0, 1))]
    with pytest.raises(ValueError, match="whose bounds would not act on it"):
        ss.SGD({"w": np.zeros(2), "v": np.zeros(2)}, groups=groups)


def test_a_rule_of_ones_own_may_have_fields_of_these_names():
    class Ridge(ss.optimizers.Optimizer):
        lr = ss.optimizers.fields.nonnegative(0.1)
        bounds = ss.optimizers.fields.nonnegative(2.0)
        l1 = ss.optimizers.fields.nonnegative(0.0)

        def rule(self, x, g, s, h):
            x -= h.lr * (g + h.bounds * h.l1)

    x = np.zeros(2)
    opt = Ridge(x, bounds=3.0, groups=[ss.group("*", l1=1.0)])
    opt.step(np.zeros(2))
    assert opt.bounds == (3.0, 3.0) and np.allclose(x, -0.3)

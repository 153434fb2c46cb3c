"""Parameters of two bytes that are rounded stochastically or have split master weights."""

import ml_dtypes
import numpy as np
import pytest

import stepsize as ss
from cases import RULES, Case, advance, numpy_rule
from halves import grads_of, params_of
from stepsize import _core
from stepsize.optimizers import half
from together import together

BFLOAT16, FLOAT16 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
SPLIT, SPLIT8 = {"master_weights": "split"}, {"master_weights": "split8"}
STOCHASTIC = {"master_weights": False, "param_rounding": "stochastic"}
STORAGES = [
    (BFLOAT16, SPLIT),
    (BFLOAT16, SPLIT8),
    (BFLOAT16, STOCHASTIC),
    (FLOAT16, STOCHASTIC),
]
SIZES = (1, 257, 700)


def same(first, second):
    assert first.keys() == second.keys()
    for key, leaf in first.items():
        assert leaf.dtype == second[key].dtype
        np.testing.assert_array_equal(leaf.view(np.uint8), second[key].view(np.uint8), err_msg=key)


def low_of(opt):
    return {key: slots["master_low"] for key, slots in opt.state_dict()["state"].items()}


def joined(params, low):
    return {key: half.load_master(leaf, low[key]) for key, leaf in params.items()}


def all_kinds():
    """Numbers of every exponent, ties and their neighbours, zeros, infinities and NaN."""
    rng = np.random.default_rng(1)
    high = np.arange(1 << 16, dtype=np.uint32) << 16
    ends = (0, 1, 0x7F, 0x80, 0x81, 0x7FFF, 0x8000, 0x8001, 0xFFFF)
    drawn = rng.integers(0, 1 << 32, 1 << 16, dtype=np.uint32)
    return np.concatenate([drawn, *(high + np.uint32(end) for end in ends)]).view(np.float32)


def on_every_target(run):
    before, threads = _core.target(), _core.thread_count()
    found = []
    try:
        for target in _core.available_targets():
            _core.choose_target(target)
            for count in (1, 2):
                _core.set_thread_count(count)
                found.append(run())
    finally:
        _core.choose_target(before)
        _core.set_thread_count(threads)
    return found


@pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)
@together("storage", STORAGES, lambda _: "all")
def test_compiled_is_numpy(cls, storage):
    dtype, options = storage
    first, second = params_of(dtype, SIZES), params_of(dtype, SIZES)
    one = Case(cls).make(first, **options)
    with numpy_rule(cls):
        two = Case(cls).make(second, **options)
    for t in range(3):
        grads = grads_of(first, t, dtype if t % 2 else np.float32)
        assert advance(one, grads, stats=True) == advance(two, grads, stats=True)
        same(first, second)
    if options is not STOCHASTIC:
        same(low_of(one), low_of(two))


@pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)
def test_split_masters_are_the_parameters_of_a_float32_run(cls):
    small = params_of(BFLOAT16, (40, 257))
    large = {key: half.to_float32(leaf) for key, leaf in small.items()}
    one, two = Case(cls).make(small, **SPLIT), Case(cls).make(large)
    for t in range(4):
        grads = grads_of(large, t)
        advance(one, grads)
        advance(two, grads)
        same(joined(small, low_of(one)), large)
        for key, leaf in small.items():
            exact = large[key].astype(float)
            nearest = np.abs(large[key].astype(BFLOAT16).astype(float) - exact)
            np.testing.assert_array_equal(np.abs(leaf.astype(float) - exact), nearest)


@together("options", [SPLIT, SPLIT8], lambda _: "all")
def test_parts_of_every_kind_of_number_give_it_back(options):
    values = all_kinds()
    kept = 8 if options is SPLIT8 else 0

    def run():
        x = np.zeros(values.size, BFLOAT16)
        opt = ss.SGD(x, lr=1.0, on_nonfinite="ignore", **options)
        opt.step(-values)
        return x, low_of(opt)["params"]

    found = on_every_target(run)
    for x, low in found:
        np.testing.assert_array_equal(x.view(np.uint16), found[0][0].view(np.uint16))
        np.testing.assert_array_equal(low, found[0][1])
    x, low = found[0]
    nan = np.isnan(values)
    back = half.load_master(x, low)
    assert (x[nan].view(np.uint16) & 0x7FFF == 0x7FC0).all() and not low[nan].any()
    bits = values[~nan].view(np.uint32)
    dropped = (1 << kept) - 1
    near = bits + (dropped >> 1) + (bits >> kept & 1) & ~np.uint32(dropped) if kept else bits
    wanted = np.where(bits & 0x7FFFFFFF == 0, 0, near)  # 0 - (-0) is 0
    np.testing.assert_array_equal(back[~nan].view(np.uint32) & 0x7FFFFFFF, wanted & 0x7FFFFFFF)
    finite = np.isfinite(back)
    with np.errstate(over="ignore"):
        far = np.abs(x[finite].astype(float) - back[finite].astype(float))
        nearest = np.abs(back[finite].astype(BFLOAT16).astype(float) - back[finite].astype(float))
    np.testing.assert_array_equal(far, nearest)


@together("options", [SPLIT, SPLIT8], lambda _: "all")
def test_zero_and_infinity_set_from_outside_are_what_was_set(options):
    x = np.ones(300, BFLOAT16)
    opt = ss.SGD(x, lr=1e-4, on_nonfinite="ignore", **options)
    for _ in range(5):
        opt.step(np.ones(300, np.float32))
    assert (low_of(opt)["params"] < 0).all()
    x[3:6] = 0.0, -0.0, 0.5
    opt.step(np.zeros(300, np.float32))
    assert not x[3:5].any() and x[5] == 0.5
    assert not np.isnan(x.astype(np.float32)).any()
    np.testing.assert_array_equal(low_of(opt)["params"][3:5], 0)


@together("storage", STORAGES[2:], lambda _: "all")
def test_stochastic_rounding_goes_to_a_neighbour_and_is_right_on_average(storage):
    dtype, options = storage
    rng = np.random.default_rng(5)
    sizes = np.exp2(rng.uniform(-23, 14, 64)).astype(np.float32)
    values = np.where(rng.random(64) < 0.5, -sizes, sizes)
    values[:4] = 0, 1, -65504 if dtype == FLOAT16 else -65280, 2.0**-14
    repeated = np.tile(values, 512)
    rounds = 64
    total = np.zeros(repeated.size)
    x = np.zeros(repeated.size, dtype)
    opt = ss.SGD(x, lr=1.0, **options)
    exponents = np.floor(np.log2(np.maximum(np.abs(values), 1e-30)))
    digits, least = (10, -14) if dtype == FLOAT16 else (7, -126)
    places = np.exp2(np.maximum(exponents, least) - digits)
    places = np.tile(places, 512)
    for _ in range(rounds):
        x[...] = 0
        opt.step(-repeated)
        assert (np.abs(x.astype(float) - repeated) < places).all()
        total += x.astype(float)
    error = (total / rounds - repeated).reshape(512, 64).mean(axis=0) / places[:64]
    # Independent draws of one place deviate by at most a half.
    assert np.abs(error).max() < 6 * 0.5 / (512 * rounds) ** 0.5
    exact = repeated.astype(dtype).astype(np.float32) == repeated
    np.testing.assert_array_equal(x[exact].astype(np.float32), repeated[exact])


@together("storage", STORAGES[2:], lambda _: "all")
def test_stochastic_rounding_of_every_kind_of_number(storage):
    dtype, options = storage
    values = all_kinds()

    def run():
        x = np.zeros(values.size, dtype)
        ss.SGD(x, lr=1.0, on_nonfinite="ignore", **options).step(-values)
        return x.view(np.uint16)

    first, *others = on_every_target(run)
    for found in others:
        np.testing.assert_array_equal(found, first)
    x = first.view(dtype).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(x), np.isnan(values))
    with np.errstate(invalid="ignore", over="ignore"):
        infinite = np.isinf(values) if dtype == BFLOAT16 else np.abs(values) >= 65536
    np.testing.assert_array_equal(np.isinf(x), infinite)
    signed = (x != 0) & ~np.isnan(x)  # that of a NaN is not negated everywhere
    np.testing.assert_array_equal(np.signbit(x[signed]), np.signbit(values[signed]))


@together("dtype", [FLOAT16, BFLOAT16], lambda _: "all")
def test_every_number_is_read_and_rounded_alike_on_every_target(dtype):
    codes, values = np.arange(1 << 16, dtype=np.uint16).view(dtype), all_kinds()

    def run():
        x, y = np.zeros(codes.size, np.float32), np.zeros(values.size, dtype)
        z = codes.copy()
        ss.SGD(x, lr=1.0, on_nonfinite="ignore").step(codes)
        ss.SGD(y, lr=1.0, on_nonfinite="ignore", master_weights=False).step(-values)
        opt = ss.SGD(z, lr=0.0, on_nonfinite="ignore")
        z.view(np.uint16)[...] = z.view(np.uint16)[::-1]
        opt.step(np.zeros(z.size, np.float32))
        return [x, y, z, opt.state_dict()["state"]["params"]["master"]]

    first, *others = on_every_target(run)
    for found in others:
        for a, b in zip(first, found, strict=True):
            np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))
    x, y, _, master = first
    some = (values != 0) & ~np.isnan(values)  # 0 - (-0) is 0
    wide = half.to_float32(codes)
    np.testing.assert_array_equal(-x[~np.isnan(wide)], wide[~np.isnan(wide)])
    assert np.isnan(x[np.isnan(wide)]).all()
    np.testing.assert_array_equal(
        y.view(np.uint16)[some],
        half.round_to_half(values, dtype).view(np.uint16)[some],
    )
    with np.errstate(invalid="ignore"):
        set_now = half.to_float32(codes[::-1]) * np.float32(1)  # arithmetic makes a NaN quiet
    seen = ~np.isinf(set_now)  # whose decay of 0 is NaN
    np.testing.assert_array_equal(master.view(np.uint32)[seen], set_now.view(np.uint32)[seen])


@together("storage", STORAGES, lambda _: "all")
def test_bits_do_not_depend_on_threads_instruction_set_or_packing(storage):
    dtype, options = storage

    def run(wrap=lambda params: params):
        params = wrap(params_of(dtype, (1, 300, 40_000)))
        opt = ss.AdamW(params, clip_norm=1.0, state_dtype="int8", **options)
        for t in range(3):
            opt.step(grads_of(params, t, dtype))
        return {key: leaf.copy() for key, leaf in params.items()}

    results = [*on_every_target(run), run(ss.pack)]
    for found in results[1:]:
        same(results[0], found)


@together("storage", STORAGES, lambda _: "all")
def test_a_resumed_run_is_the_run(storage):
    dtype, options = storage

    def train(opt, start, end):
        for t in range(start, end):
            opt.step(grads_of(opt.params, t, dtype))
        return opt

    whole = train(ss.AdamW(params_of(dtype, SIZES), **options), 0, 6)
    part = train(ss.AdamW(params_of(dtype, SIZES), **options), 0, 3)
    resumed = ss.AdamW({key: leaf.copy() for key, leaf in part.params.items()}, **options)
    resumed.load_state_dict(part.state_dict())
    train(resumed, 3, 6)
    same(whole.params, resumed.params)
    other = {key: leaf.copy() for key, leaf in part.params.items()}
    same(whole.params, train(part.clone(other), 3, 6).params)


@together("storage", STORAGES, lambda _: "all")
def test_a_partition_arriving_gradients_and_strided_leaves_give_the_same_bits(storage):
    dtype, options = storage
    first, second, third = (params_of(dtype, SIZES) for _ in range(3))
    strided = {key: np.repeat(leaf, 2, axis=0)[::2] for key, leaf in third.items()}
    plain = ss.AdamW(first, **options)
    parts = ss.Partition({"*": lambda leaves: ss.AdamW(leaves, **options)}, second)
    spread = ss.AdamW(strided, **options)
    for t in range(3):
        grads = grads_of(first, t)
        for opt in (plain, parts, spread):
            opt.step(grads)
    same(first, second)
    same(first, {key: np.ascontiguousarray(leaf) for key, leaf in strided.items()})
    if options is not STOCHASTIC:
        same(low_of(plain), low_of(parts))


def test_refusals():
    wide, narrow = np.zeros(3, np.float32), np.zeros(3, np.float16)
    both = {"a": np.zeros(3, BFLOAT16), "b": wide}
    with pytest.raises(TypeError, match=r"param_rounding='stochastic' is for .* dtype float32"):
        ss.SGD(wide, **STOCHASTIC)
    with pytest.raises(TypeError, match=r"master_weights='split' is for .* dtype float16"):
        ss.SGD(narrow, **SPLIT)
    with pytest.raises(ValueError, match="without master weights, but master_weights is True"):
        ss.SGD(narrow, param_rounding="stochastic")
    with pytest.raises(ValueError, match="param_rounding must be one of 'nearest', 'stochastic'"):
        ss.SGD(narrow, param_rounding="up")
    with pytest.raises(ValueError, match="or one of 'split', 'split8', got 'half'"):
        ss.SGD(narrow, master_weights="half")
    ss.SGD(both, **SPLIT).step({"a": wide, "b": wide})
    whole, split = (ss.SGD(np.zeros(3, BFLOAT16), **o) for o in ({}, SPLIT))
    with pytest.raises(ValueError, match="no master_low"):
        split.load_state_dict(whole.state_dict())


@together("form", (None, "bfloat16", "int8"), lambda _: "all")
def test_bytes_of_parameters_and_state_are_those_of_the_page(form):
    state = {None: 8, "bfloat16": 4, "int8": 2}[form]
    cases = [(np.float32, {}, 4), (FLOAT16, {}, 6), (BFLOAT16, {}, 6), (BFLOAT16, SPLIT, 4)]
    cases += [(BFLOAT16, SPLIT8, 3), (BFLOAT16, STOCHASTIC, 2), (FLOAT16, STOCHASTIC, 2)]
    for dtype, options, parameters in cases:
        x = np.zeros(2560, dtype)
        stored = ss.AdamW(x, state_dtype=form, **options).state_dict()["state"]["params"]
        scales = [slot for name, slot in stored.items() if name.endswith("_scale")]
        found = x.nbytes + sum(slot.nbytes for slot in stored.values())
        assert found == x.size * (parameters + state) + sum(scale.nbytes for scale in scales)

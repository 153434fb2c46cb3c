"""Parameters and gradients of two bytes, and the loss scale that keeps such gradients alive."""

import ml_dtypes
import numpy as np
import pytest

import stepsize as ss
from cases import RULES, Case, advance, numpy_rule
from halves import grads_of, params_of
from stepsize import _core
from stepsize.arrays import is_narrow
from stepsize.optimizers import half

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = (np.dtype(np.float16), BFLOAT16)

by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def wide(nest):
    return {key: half.to_float32(leaf) for key, leaf in nest.items()}


def same(first, second):
    for key, leaf in first.items():
        found = second[key]
        assert leaf.dtype == found.dtype
        np.testing.assert_array_equal(leaf.view(np.uint8), found.view(np.uint8), err_msg=key)


def codes(dtype):
    return np.arange(1 << 16, dtype=np.uint16).view(dtype)


@by_dtype
def test_every_number_comes_back(dtype):
    numbers = codes(dtype)
    back = half.round_to_half(half.to_float32(numbers), dtype)
    nan = np.isnan(numbers.astype(np.float32))
    np.testing.assert_array_equal(back[~nan].view(np.uint16), numbers[~nan].view(np.uint16))
    assert np.isnan(back[nan].astype(np.float32)).all()


@by_dtype
@pytest.mark.parametrize("target", _core.available_targets())
def test_every_number_is_read(dtype, target):
    """As a gradient, as a parameter and, of bfloat16, as state."""
    numbers = codes(dtype)
    wide = numbers.astype(np.float32)
    finite, zeros = numbers[np.isfinite(wide)], np.zeros(1 << 16, np.float32)
    before = _core.target()
    _core.choose_target(target)
    try:
        of_grads = ss.SGD(zeros.copy(), lr=1.0, on_nonfinite="ignore")
        of_grads.step(numbers)
        of_params = ss.SGD(finite.copy(), lr=1.0, master_weights=False)
        of_params.step(np.zeros(finite.size, np.float32))
        of_state = ss.SGD(np.zeros(finite.size), lr=1.0, momentum=1.0, state_dtype="bfloat16")
        for g in (finite.astype(float), np.zeros(finite.size)):  # rounded where it is float16
            of_state.step(g)
    finally:
        _core.choose_target(before)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(of_grads.params, 0 - wide)
        np.testing.assert_array_equal(of_params.params.view(np.uint16), finite.view(np.uint16))
        if dtype == ml_dtypes.bfloat16:
            np.testing.assert_array_equal(of_state.params, -2 * finite.astype(float))


@by_dtype
@pytest.mark.parametrize("target", _core.available_targets())
def test_rounding_is_to_the_nearest(dtype, target):
    rng = np.random.default_rng(3)
    values = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    numbers = np.sort(codes(dtype).astype(np.float32))
    numbers = numbers[np.isfinite(numbers)]
    ties = numbers[1:] / 2 + numbers[:-1] / 2
    edges = np.array([np.inf, -np.inf, 65519, 65520, 1e-8, 3.4e38], np.float32)
    values = np.concatenate([values[~np.isnan(values)], ties, edges])
    before = _core.target()
    _core.choose_target(target)
    try:
        x = np.zeros(values.size, dtype)
        opt = ss.SGD(x, lr=1.0, on_nonfinite="ignore", master_weights=False)
        opt.step(-values)
    finally:
        _core.choose_target(before)
    with np.errstate(over="ignore"):
        wanted = values.astype(dtype)
    np.testing.assert_array_equal(x, wanted)


@by_dtype
@pytest.mark.parametrize("masters", (True, False))
@pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)
def test_compiled_is_numpy(cls, dtype, masters):
    first, second = params_of(dtype), params_of(dtype)
    one = Case(cls).make(first, master_weights=masters)
    with numpy_rule(cls):
        two = Case(cls).make(second, master_weights=masters)
    for t in range(3):
        grads = grads_of(first, t, dtype if t % 2 else np.float32)
        assert advance(one, grads, stats=True) == advance(two, grads, stats=True)
        same(first, second)


@by_dtype
@pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)
def test_masters_are_the_parameters_of_a_float32_run(cls, dtype):
    small = params_of(dtype, (40, 257))
    large = wide(small)
    one, two = Case(cls).make(small), Case(cls).make(large)
    for t in range(4):
        grads = grads_of(large, t)
        advance(one, grads)
        advance(two, grads)
    masters = {key: one.state_dict()["state"][key]["master"] for key in small}
    same(masters, large)
    same(small, {key: half.round_to_half(leaf, dtype) for key, leaf in large.items()})


@by_dtype
def test_small_updates_add_up_with_masters_alone(dtype):
    with_masters, without = np.ones(8, dtype), np.ones(8, dtype)
    for x, masters in ((with_masters, True), (without, False)):
        opt = ss.SGD(x, lr=1e-5, master_weights=masters)
        for _ in range(2000):
            opt.step(np.ones(8, np.float32))
    assert (with_masters.astype(float) < 0.99).all()
    assert (without.astype(float) == 1).all()


@by_dtype
def test_a_parameter_set_from_outside_is_kept(dtype):
    x = np.ones(300, dtype)
    opt = ss.SGD(x, lr=1e-5)
    for _ in range(3):
        opt.step(np.ones(300, np.float32))
    x[7] = 0.5
    opt.step(np.ones(300, np.float32))
    masters = opt.state_dict()["state"]["params"]["master"]
    assert masters[7] == np.float32(0.5) - np.float32(1e-5)
    assert masters[8] < np.float32(1) - np.float32(3e-5)


@by_dtype
def test_bits_do_not_depend_on_instruction_set_or_threads(dtype):
    sizes = (1, 300, 40_000)
    results = []
    before, threads = _core.target(), _core.thread_count()
    try:
        for target in _core.available_targets():
            _core.choose_target(target)
            for count in (1, 2):
                _core.set_thread_count(count)
                params = params_of(dtype, sizes)
                opt = ss.AdamW(params, clip_norm=1.0, state_dtype="int8")
                for t in range(3):
                    opt.step(grads_of(params, t, dtype))
                results.append(params)
    finally:
        _core.choose_target(before)
        _core.set_thread_count(threads)
    for found in results[1:]:
        same(results[0], found)


@by_dtype
@pytest.mark.parametrize("clip", (None, 0.5))
def test_gradients_of_two_bytes_are_those_numbers(dtype, clip):
    params = params_of(np.float32)
    other = {key: leaf.copy() for key, leaf in params.items()}
    one, two = ss.AdamW(params, clip_norm=clip), ss.AdamW(other, clip_norm=clip)
    for t in range(3):
        grads = grads_of(params, t, dtype)
        assert one.step(grads, stats=True) == two.step(wide(grads), stats=True)
    same(params, other)
    one.bind(grads)
    one.step()
    two.step(wide(grads))
    same(params, other)


@by_dtype
def test_gradients_that_are_not_finite_are_found(dtype):
    x = np.zeros(700, np.float32)
    for value in (np.nan, np.inf, -np.inf):
        g = np.ones(700).astype(dtype)
        g[613] = value
        with pytest.raises(ss.NonFiniteGradientError):
            ss.SGD(x).step(g)
        assert ss.SGD(x, on_nonfinite="skip").step(g, stats=True).nonfinite == 1
    assert not x.any()


@by_dtype
def test_a_resumed_run_is_the_run(dtype, tmp_path):
    def train(opt, start, end):
        for t in range(start, end):
            opt.step(grads_of(opt.params, t, dtype))
        return opt

    whole = train(ss.AdamW(params_of(dtype)), 0, 6)
    part = train(ss.AdamW(params_of(dtype)), 0, 3)
    ss.save(tmp_path / "run", part.params, part)
    resumed = ss.AdamW(params_of(dtype, seed=5))
    ss.load(tmp_path / "run", resumed.params, resumed)
    train(resumed, 3, 6)
    same(whole.params, resumed.params)
    same(whole.params, train(part.clone(part.params), 3, 6).params)


@by_dtype
def test_leaves_that_do_not_lie_side_by_side_and_packed_ones(dtype):
    params = params_of(dtype, (40, 9))
    strided = {key: np.repeat(leaf, 2, axis=0)[::2] for key, leaf in params.items()}
    packed = ss.pack(params)
    assert is_narrow(packed["p9"].dtype)
    runs = [ss.AdamW(nest) for nest in (params, strided, packed)]
    for t in range(3):
        for opt in runs:
            opt.step(grads_of(params, t))
    same(params, {key: np.ascontiguousarray(leaf) for key, leaf in strided.items()})
    same(params, packed)


@pytest.mark.parametrize("scale", (1024.0, 2.0**-10))
def test_a_loss_scale_of_a_power_of_two_changes_no_bit(scale):
    params, other = params_of(np.float32), params_of(np.float32)
    plain = ss.AdamW(params, clip_norm=1.0)
    scaled = ss.AdamW(other, clip_norm=1.0, loss_scale=scale)
    assert scaled.loss_scale == scale and plain.loss_scale == 1
    for t in range(3):
        grads = grads_of(params, t)
        large = {key: g * np.float32(scale) for key, g in grads.items()}
        assert plain.step(grads, stats=True) == scaled.step(large, stats=True)
    same(params, other)


def test_the_dynamic_scale_halves_at_infinity_and_doubles_after_a_while():
    x = np.zeros(3, np.float32)
    opt = ss.SGD(x, lr=0.0, loss_scale="dynamic")
    assert opt.loss_scale == 65536
    opt.step(np.array([1, np.inf, 0], np.float32))
    assert (opt.loss_scale, opt.step_count) == (32768, 0)
    for _ in range(1999):
        opt.step(np.ones(3, np.float32))
    assert opt.loss_scale == 32768
    saved = opt.state_dict()
    opt.step(np.ones(3, np.float32))
    assert opt.loss_scale == 65536
    again = ss.SGD(x, lr=0.0, loss_scale="dynamic")
    again.load_state_dict(saved)
    assert again.loss_scale == 32768
    again.step(np.ones(3, np.float32))
    assert again.loss_scale == 65536


def test_a_scale_of_one_does_not_hide_gradients_that_are_never_finite():
    bad = np.array([np.nan], np.float32)
    opt = ss.SGD(np.zeros(1, np.float32), loss_scale="dynamic")
    for _ in range(16):
        opt.step(bad)
    assert opt.loss_scale == 1
    opt.step(np.ones(1, np.float32))
    before = opt.state_dict()["loss_scale"]
    with pytest.raises(ss.NonFiniteGradientError):
        opt.step(bad)
    assert opt.state_dict()["loss_scale"] == before == [1.0, 1]
    quiet = ss.SGD(np.zeros(1, np.float32), loss_scale="dynamic", on_nonfinite="skip")
    for _ in range(20):
        quiet.step(bad)
    assert (quiet.loss_scale, quiet.step_count) == (1, 0)


def test_refusals():
    x = np.zeros((4, 2), np.float16)
    with pytest.raises(TypeError, match="RowGradient, which needs parameters of float32"):
        ss.SGD(x).step(ss.RowGradient([1], np.ones((1, 2), np.float16)))
    with pytest.raises(TypeError, match="has dtype float64, expected float32"):
        ss.SGD(x).step(np.zeros((4, 2)))
    with pytest.raises(
        TypeError, match=r"master_weights must be True or False, or one of .*, got 1"
    ):
        ss.SGD(x, master_weights=1)
    with pytest.raises(TypeError, match="loss_scale must be a number > 0, None or 'dynamic'"):
        ss.SGD(x, loss_scale="auto")
    with pytest.raises(ValueError, match="loss_scale must be a finite number > 0"):
        ss.SGD(x, loss_scale=0.0)


@by_dtype
@pytest.mark.parametrize("make", (lambda opt: ss.EMA(opt, decay=0.999), ss.SWA), ids=["EMA", "SWA"])
def test_averages_are_those_of_the_numbers_passed(dtype, make):
    params = params_of(dtype, (40,))
    opt = make(ss.SGD(params, lr=1e-3))
    passed = wide(params)
    other = make(ss.SGD(passed, lr=1e-3))
    for t in range(5):
        opt.step(grads_of(params, t))
        # The other average follows the same numbers, which are float32 there.
        other.inner.step({"p40": None})
        passed["p40"][...] = half.to_float32(params["p40"])
        share = other._share()
        other._prepare_to_follow(share)
        other._follow(share)
        other._count_update()
    assert opt.eval_params()["p40"].dtype == np.float32
    same(opt.eval_params(), other.eval_params())
    with opt.averaged():
        assert params["p40"].dtype == dtype


@by_dtype
def test_wrappers_take_gradients_of_two_bytes(dtype):
    params = params_of(dtype, (40, 9))
    wrappers = [lambda o: ss.Accumulate(o, 2), ss.Centralize, ss.Lookahead, ss.GradientNoise]
    for wrap in wrappers:
        opt = wrap(ss.AdamW(params))
        for t in range(4):
            opt.step(grads_of(params, t, dtype), stats=True)
    for leaf in params.values():
        assert np.isfinite(leaf.astype(float)).all()
    with pytest.raises(TypeError, match=f"Mechanic: p40 has dtype {dtype}, expected float32"):
        ss.Mechanic(ss.AdamW(params))


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda x: np.repeat(x, 2, axis=0)[::2]])
def test_masters_of_parameters_in_any_layout_are_there_from_the_start(layout):
    x = layout(np.arange(12, dtype=np.float16).reshape(4, 3))
    optimizer = ss.AdamW(x)
    (state,) = optimizer.state_dict()["state"].values()
    np.testing.assert_array_equal(state["master"], x)
    twin = ss.AdamW(np.ascontiguousarray(x))
    twin.load_state_dict(optimizer.state_dict())

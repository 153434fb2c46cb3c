"""State in fewer bytes: the same bits on every path, right on average, and small."""

import numpy as np
import pytest

import stepsize as ss
from cases import EDGES, RULES, Case
from stepsize import _core
from stepsize.optimizers import quantization, slots

FORMS = ("bfloat16", "int8")
SUPPORTED = [
    cls
    for cls in RULES
    if cls.accelerated
    and cls.scope is None
    and not cls.shaped
    and {slot.kind for slot in cls.slots} - {"exact"}
]


def params_of(sizes, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return {f"p{i}": rng.standard_normal(n).astype(dtype) for i, n in enumerate(sizes)}


def grads_of(params, seed):
    rng = np.random.default_rng(seed)
    # Of very different sizes, some zero.
    return {
        key: (np.exp(3 * rng.standard_normal(p.shape)) * rng.integers(-1, 2, p.shape)).astype(
            p.dtype
        )
        for key, p in params.items()
    }


def train(cls, params, steps=3, **keywords):
    opt = Case(cls).make(params, **keywords)
    for t in range(steps):
        opt.step(grads_of(params, t))
    return opt


def same(first, second):
    for a, b in zip(first.params.values(), second.params.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    for side in ("arrays", "scales"):
        for a, b in zip(
            getattr(first.internals.slots, side), getattr(second.internals.slots, side), strict=True
        ):
            for name in a:
                np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("cls", SUPPORTED, ids=lambda cls: cls.__name__)
def test_compiled_is_numpy(cls, dtype, form, monkeypatch):
    sizes = (1, 255, 256, 257, 700)
    first = train(cls, params_of(sizes, dtype), state_dtype=form)
    monkeypatch.setattr(slots, "check_quantizable", lambda *parts: None)
    monkeypatch.setattr(cls, "accelerated", False)
    second = train(cls, params_of(sizes, dtype), state_dtype=form)
    same(first, second)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", _core.available_targets())
def test_bits_do_not_depend_on_instruction_set_packing_or_threads(form, target):
    first = train(ss.AdamW, params_of(EDGES), state_dtype=form)
    before, threads = _core.target(), _core.thread_count()
    _core.choose_target(target)
    _core.set_thread_count(2)
    try:
        second = train(ss.AdamW, ss.pack(params_of(EDGES)), state_dtype=form)
    finally:
        _core.choose_target(before)
        _core.set_thread_count(threads)
    same(first, second)


@pytest.mark.parametrize(("form", "most"), [("bfloat16", 4.0), ("int8", 2.1)])
def test_bytes_of_state(form, most):
    opt = ss.AdamW(params_of((100_000,)), state_dtype=form)
    arrays = [*opt.internals.slots.arrays[0].values(), *opt.internals.slots.scales[0].values()]
    assert sum(a.nbytes for a in arrays) / 100_000 <= most


def coded(values, form):
    codes = np.empty(values.size, {"bfloat16": np.uint16, "signed": np.int8}.get(form, np.uint8))
    scales = None if form == "bfloat16" else np.zeros(quantization.blocks(values.size), np.float32)
    return codes, scales


@pytest.mark.parametrize("form", ("bfloat16", "signed", "unsigned"))
def test_rounding_is_right_on_average(form):
    rng = np.random.default_rng(5)
    values = rng.standard_normal(256).astype(np.float32)
    values = abs(values) if form == "unsigned" else values
    codes, scales = coded(values, form)
    total = np.zeros(256)
    repeats = 2000
    for draw in range(repeats):
        quantization.quantize(values, codes, scales, quantization.rounding_key(draw, 0, 0))
        total += quantization.dequantize(codes, scales, np.float32)
    # The spacing of the codes around each number, and six standard errors of the mean of numbers
    # that differ by at most one step.
    step = abs(values) / 128 if form == "bfloat16" else (abs(values) + scales[0]) / 16
    assert (abs(total / repeats - values) <= 3 * step / np.sqrt(repeats)).all()


@pytest.mark.parametrize("form", ("bfloat16", "signed", "unsigned"))
def test_extremes(form):
    rows = [
        np.zeros(256),
        np.full(256, 1e-42),
        np.full(256, 3.2e38),
        np.r_[3.2e38, np.full(255, 1e-38)],
        np.r_[np.inf, np.nan, np.ones(254)],
    ]
    values = np.concatenate(rows).astype(np.float32)
    codes, scales = coded(values, form)
    quantization.quantize(values, codes, scales, 1)
    found = quantization.dequantize(codes, scales, np.float32).reshape(-1, 256)
    assert not found[0].any()
    assert np.isfinite(found[:4]).all()
    assert not np.isfinite(found[4, :2]).any()
    if form == "unsigned":
        assert (found[1:4] > 0).all()


def test_a_second_moment_never_vanishes_under_a_first():
    x = np.zeros(256, np.float32)
    g = np.full(256, 1e-4, np.float32)
    g[0] = 1e4
    opt = ss.Adam(x, lr=1.0, eps=0.0, state_dtype="int8")
    for _ in range(20):
        opt.step(g)
    assert np.isfinite(x).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_run_is_the_run(form, tmp_path):
    whole = train(ss.AdamW, params_of((300, 5)), steps=6, state_dtype=form)
    part = train(ss.AdamW, params_of((300, 5)), steps=3, state_dtype=form)
    part.save(tmp_path / "state")
    resumed = ss.AdamW(part.params, state_dtype=form)
    resumed.load(tmp_path / "state")
    for t in range(3, 6):
        resumed.step(grads_of(resumed.params, t))
    same(whole, resumed)
    same(whole, whole.clone(params_of((300, 5))).clone(whole.params))


@pytest.mark.parametrize("name", ("float16", "bfloat16"))
def test_gradients_of_two_bytes_move_parameters_of_four(name):
    dtype = np.dtype(name if name == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    g = np.array([0.1, -2.5, 1000.0]).astype(dtype)
    narrow, wide = np.zeros(3, np.float32), np.zeros(3, np.float32)
    ss.AdamW(narrow).step(g)
    ss.AdamW(wide).step(g.astype(np.float32))
    np.testing.assert_array_equal(narrow, wide)
    with pytest.raises(TypeError, match=f"has dtype {name}"):
        ss.AdamW(np.zeros(3)).step(g)


def test_refusals():
    with pytest.raises(ValueError, match=r"state_dtype must be one of None, 'bfloat16', 'int8'"):
        ss.Adam(np.zeros(3), state_dtype="float16")
    with pytest.raises(ValueError, match="state has to be exact"):
        ss.LAMB(np.zeros(3), state_dtype="int8")
    saved = ss.Adam(np.zeros(3), state_dtype="bfloat16").state_dict()
    with pytest.raises(ValueError, match="state_dtype it was saved with"):
        ss.Adam(np.zeros(3)).load_state_dict(saved)


def test_the_first_values_of_state_are_coded():
    opt = ss.Adagrad(np.zeros(3), initial_accumulator_value=2.0, state_dtype="bfloat16")
    found = quantization.dequantize(opt.internals.slots.arrays[0]["sum"], None, np.float32)
    np.testing.assert_array_equal(found, 2.0)


@pytest.mark.parametrize("form", FORMS)
def test_training_ends_where_float32_ends(form):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200, 20)).astype(np.float32)
    wanted = rng.standard_normal(20).astype(np.float32)
    ends = []
    for state_dtype in (None, form):
        x = np.zeros(20, np.float32)
        lr = ss.schedules.cosine(0.1, 0.0, 400)
        opt = ss.AdamW(x, lr=lr, weight_decay=0.0, state_dtype=state_dtype)
        for _ in range(400):
            opt.step(a.T @ (a @ x - a @ wanted) / 200)
        ends.append(np.linalg.norm(x - wanted))
    assert ends[1] < 1e-2, ends

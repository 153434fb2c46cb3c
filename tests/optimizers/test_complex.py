"""A complex leaf is its two parts side by side: every rule steps it as it steps a real view."""

import copy
import pickle

import numpy as np
import pytest

import stepsize as ss
from cases import CASES, advance, random_nest, same_bits
from stepsize.arrays import view_as_complex, view_as_real

SHAPES = {"w": (5, 7), "scalar": (), "empty": (0, 3), "long": (3000,)}
DTYPES = {np.complex64: np.float32, np.complex128: np.float64}
BY_PARTS = [case for case in CASES if not case.cls.shaped]
REFUSED = sorted({case.cls for case in CASES if case.cls.shaped}, key=lambda cls: cls.__name__)

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def named(values):
    return [pytest.param(value, id=str(value)) for value in values]


def complex_nest(dtype, seed, shapes=SHAPES, size=1.0):
    parts = random_nest({name: (*shape, 2) for name, shape in shapes.items()}, DTYPES[dtype], seed)
    return {name: view_as_complex(part * size, np.dtype(dtype)) for name, part in parts.items()}


def real(nest):
    """The parts of every leaf, as arrays of their own."""
    return {
        name: None if leaf is None else np.array(view_as_real(leaf)) for name, leaf in nest.items()
    }


def assert_same(params, twin):
    for name, leaf in params.items():
        assert same_bits(np.array(view_as_real(leaf)), twin[name]), name


def assert_same_state(optimizer, twin):
    for path, slots in optimizer.state.items():
        for name, slot in slots.items():
            assert same_bits(np.array(view_as_real(slot)), twin.state[path][name]), (path, name)


def gradients(dtype, step, absent=None):
    return complex_nest(dtype, 10 + step, size=10.0**step) | ({absent: None} if absent else {})


@pytest.mark.parametrize("case", named(BY_PARTS))
def test_a_complex_leaf_steps_as_its_parts(case):
    dtype = np.complex64
    params = complex_nest(dtype, 1)
    twin = real(params)
    ours, theirs = case.make(params), case.make(twin)
    for step, absent in enumerate([None, "w", None, "long"]):
        grads = gradients(dtype, step - 1, absent)
        one = advance(ours, grads, stats=True)
        assert one == advance(theirs, real(grads), stats=True) or one is None
    assert_same(params, twin)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("case", named(c for c in BY_PARTS if not c.keywords))
def test_a_complex128_leaf_strided_or_packed_steps_as_its_parts(case):
    dtype = np.complex128
    source = complex_nest(dtype, 1)
    twin = real(source)
    wide = np.zeros((7, 10), dtype)
    strided = {**copy.deepcopy(source), "w": wide[:, ::2].T}
    strided["w"][...] = source["w"]
    kinds = [strided, ss.pack(source)]
    optimizers = [case.make(params) for params in kinds]
    theirs = case.make(twin)
    for step in range(3):
        grads = gradients(dtype, step - 1)
        advance(theirs, real(grads))
        advance(optimizers[0], {**grads, "w": np.asfortranarray(grads["w"])})
        advance(optimizers[1], ss.pack(grads))
    for params in kinds:
        assert_same(params, twin)
    assert not wide[:, 1::2].any()


@every_dtype
def test_real_and_complex_leaves_go_together(dtype):
    params = {**complex_nest(dtype, 1), "real": np.ones(5, DTYPES[dtype])}
    twin = {**real(params)}
    twin["real"] = params["real"].copy()
    ours, theirs = (
        ss.AdamW(nest, lr=0.1, clip_norm=1.0, groups=[ss.group("real", weight_decay=0.0)])
        for nest in (params, twin)
    )
    for step in range(3):
        grads = {**gradients(dtype, step), "real": np.full(5, step, DTYPES[dtype])}
        ours.step(grads)
        theirs.step({**real(grads), "real": grads["real"]})
    assert_same({name: params[name] for name in SHAPES}, twin)
    assert same_bits(params["real"], twin["real"])


@every_dtype
@pytest.mark.parametrize("form", ["bfloat16", "int8"])
def test_low_precision_state_holds_the_parts(dtype, form):
    params = complex_nest(dtype, 1)
    twin = real(params)
    ours, theirs = (ss.Adam(nest, lr=0.1, state_dtype=form) for nest in (params, twin))
    for step in range(3):
        grads = gradients(dtype, step)
        ours.step(grads)
        theirs.step(real(grads))
    assert_same(params, twin)
    assert ours.state["w"]["exp_avg"].shape == (5, 7, 2)


@every_dtype
def test_the_state_is_complex_and_goes_through_dicts_files_clones_and_pickles(dtype, tmp_path):
    def run(optimizer, steps):
        for step in steps:
            optimizer.step(gradients(dtype, step))

    params = complex_nest(dtype, 1)
    optimizer = ss.Adam(params, lr=0.1)
    run(optimizer, range(2))
    slot = optimizer.state["w"]["exp_avg"]
    assert (slot.dtype, slot.shape) == (dtype, (5, 7))
    ss.save(tmp_path / "file", params, optimizer)
    others = [copy.deepcopy(params), copy.deepcopy(params)]
    by_dict, cloned = ss.Adam(others[0], lr=0.1), optimizer.clone(others[1])
    by_dict.load_state_dict(optimizer.state_dict())
    pickled = pickle.loads(pickle.dumps(optimizer))
    fresh = complex_nest(dtype, 5)
    by_file = ss.Adam(fresh, lr=0.1)
    ss.load(tmp_path / "file", fresh, by_file)
    for one in (optimizer, by_dict, cloned, pickled, by_file):
        run(one, range(2, 4))
    for one in (by_dict, cloned, pickled, by_file):
        assert all(same_bits(one.params[name].view(), params[name]) for name in SHAPES)


@every_dtype
def test_clip_norm_is_of_the_modulus_and_clip_value_of_the_parts(dtype):
    z = np.zeros(2, dtype)
    ss.SGD(z, lr=1.0, clip_norm=1.0).step(np.array([3 + 4j, 0], dtype))
    np.testing.assert_allclose(z, [-0.6 - 0.8j, 0], rtol=1e-6)
    z = np.zeros(2, dtype)
    ss.SGD(z, lr=1.0, clip_value=1.0).step(np.array([3 + 0.5j, -4j], dtype))
    assert z.tolist() == [-1 - 0.5j, 1j]


@every_dtype
def test_norms_are_of_the_modulus(dtype):
    z = np.array([3 + 4j], dtype)
    stats = ss.SGD(z, lr=1.0).step(np.array([5 - 12j], dtype), stats=True)
    assert (stats.grad_norm, stats.param_norm, stats.update_norm) == (13, 5, 13)
    assert ss.arrays.norm([z, np.ones(1)]) == np.hypot(abs(complex(z[0])), 1)


@every_dtype
@pytest.mark.parametrize("part", [np.inf, 1j * np.nan])
def test_a_part_that_is_not_finite_is_refused_or_skipped(dtype, part):
    z = np.ones(3, dtype)
    grads = np.array([1, part, 1], dtype)
    with pytest.raises(ss.NonFiniteGradientError, match="gradient of params"):
        ss.Adam(z).step(grads)
    ss.Adam(z, on_nonfinite="skip").step(grads)
    assert (z == 1).all()


def test_gradients_are_bound_and_averages_follow_in_the_same_pass():
    z, twin, g = np.ones(3, np.complex64), np.ones((3, 2), np.float32), np.zeros(3, np.complex64)
    twin[:, 1] = 0
    ours, theirs = (ss.EMA(ss.SGD(x, lr=0.5), decay=0.9, warmup=True) for x in (z, twin))
    ours.bind(g)
    for step in range(5):
        g[:] = [1j, step, 1 - 1j]
        ours.step()
        theirs.step(view_as_real(g).copy())
    assert same_bits(np.array(view_as_real(z)), twin)
    assert same_bits(np.array(view_as_real(ours.eval_params())), theirs.eval_params())
    with ours.averaged() as params:
        assert params is z


WRAPPERS = {
    "EMA": lambda opt: ss.EMA(opt, decay=0.9),
    "SWA": lambda opt: ss.SWA(opt, start=1),
    "Lookahead": lambda opt: ss.Lookahead(opt, k=2),
    "Accumulate": lambda opt: ss.Accumulate(opt, every=2),
    "GradientNoise": lambda opt: ss.GradientNoise(opt, eta=0.1),
    "Mechanic": ss.Mechanic,
}


@pytest.mark.parametrize("name", WRAPPERS)
@every_dtype
def test_wrappers_act_on_the_parts(name, dtype):
    params = complex_nest(dtype, 1)
    twin = real(params)
    ours, theirs = (WRAPPERS[name](ss.SGD(nest, lr=0.1)) for nest in (params, twin))
    for step, absent in enumerate([None, "w", None, None]):
        grads = gradients(dtype, 0, absent)
        ours.step(grads)
        theirs.step(real(grads))
        assert step < 5
    assert_same(params, twin)
    if hasattr(ours, "eval_params"):
        assert_same(ours.eval_params(), theirs.eval_params())


def test_centralize_takes_the_complex_mean_and_adaptive_clip_the_modulus():
    z = np.zeros((1, 2), complex)
    ss.Centralize(ss.SGD(z, lr=1.0)).step(np.array([[1 + 2j, 3 + 6j]]))
    assert z.tolist() == [[1 + 2j, -1 - 2j]]
    z = np.array([3 + 4j, 0])
    ss.AdaptiveClip(ss.SGD(z, lr=1.0), clip=0.1).step(np.array([0, 5j]))
    np.testing.assert_allclose(z, [3 + 4j, -0.5j])


def test_sam_and_lbfgs_walk_in_the_plane_of_parts():
    goal = np.array([1 + 2j, -1j, 0.5])

    def loss(z):
        return float((abs(z - goal) ** 2).sum()), 2 * (z - goal)

    def loss_of_parts(x):
        return float(((x - view_as_real(goal)) ** 2).sum()), 2 * (x - view_as_real(goal))

    for make in (lambda p: ss.SAM(ss.SGD(p, lr=0.1), rho=0.1), ss.LBFGS):
        z, x = np.zeros(3, complex), np.zeros((3, 2))
        ours, theirs = make(z), make(x)
        for _ in range(3):
            ours.step(loss)
            theirs.step(loss_of_parts)
        assert same_bits(np.array(view_as_real(z)), x)
    assert abs(z - goal).max() < 1e-8


@every_dtype
def test_a_population_steps_each_row_as_an_optimizer_of_its_own(dtype):
    z = ss.replicate(np.array([1 + 1j, 2 - 1j], dtype), 3)
    models = ss.population("adam", z, lr=[0.1, 0.2, 0.4], clip_norm=1.0)
    alone = [row.copy() for row in z]
    optimizers = [
        ss.Adam(x, lr=lr, clip_norm=1.0) for x, lr in zip(alone, (0.1, 0.2, 0.4), strict=True)
    ]
    for _ in range(3):
        models.step(2 * z)
        for x, optimizer in zip(alone, optimizers, strict=True):
            optimizer.step(2 * x)
    assert all(same_bits(row, x) for row, x in zip(z, alone, strict=True))
    with pytest.raises(TypeError, match="expected complex"):
        models.step(np.ones((3, 2), DTYPES[dtype]))
    bad = 2 * z
    bad[1, 1] = 1j * np.nan
    with pytest.raises(ss.NonFiniteGradientError, match="replica 1"):
        models.step(bad)


# Refusals.


@pytest.mark.parametrize("cls", REFUSED, ids=lambda cls: cls.__name__)
@every_dtype
def test_rules_of_matrices_refuse_complex_leaves_by_name(cls, dtype):
    params = {"w": np.ones((3, 3), dtype), "b": np.ones(3, DTYPES[dtype])}
    with pytest.raises(TypeError, match=f"{cls.__name__}: w has dtype complex.* real matrices"):
        cls(params)


def wrong(dtype):
    small = DTYPES[dtype]
    other = np.complex128 if dtype == np.complex64 else np.complex64
    return [
        (np.ones(3, small), "gradient of z has dtype float.*, expected complex"),
        (np.ones((3, 2), small), "gradient of z has dtype float.*, expected complex"),
        (np.ones(3, other), "gradient of z has dtype complex.*, expected complex"),
        (np.ones(2, dtype), r"shape \(2,\), expected \(3,\)"),
        ([1j, 2, 3], "is a list"),
        (ss.RowGradient([0], np.ones(1, dtype)), "needs parameters of float32 or float64"),
    ]


@every_dtype
@pytest.mark.parametrize("k", range(6))
def test_gradients_of_another_kind_are_refused_and_change_nothing(dtype, k):
    grad, words = wrong(dtype)[k]
    params = {"z": np.ones(3, dtype)}
    optimizer = ss.Adam(params)
    optimizer.step({"z": np.ones(3, dtype)})
    before = params["z"].copy(), optimizer.step_count
    with pytest.raises((TypeError, ValueError), match=words):
        optimizer.step({"z": grad})
    with pytest.raises((TypeError, ValueError), match="z"):
        optimizer.bind({"z": grad})
    assert same_bits(params["z"], before[0])
    assert optimizer.step_count == before[1]


@every_dtype
def test_a_complex_gradient_of_a_real_leaf_names_the_real_part(dtype):
    x = np.ones(3, DTYPES[dtype])
    with pytest.raises(TypeError, match=r"has dtype complex.*give the real part, gradient\.real"):
        ss.Adam(x).step(np.ones(3, dtype))
    assert (x == 1).all()


def test_extended_precision_is_refused():
    with pytest.raises(TypeError, match=r"expected float32.*complex64.*astype\(np\.complex64\)"):
        ss.SGD(np.ones(3, np.clongdouble))


@pytest.mark.parametrize("loss", [1 + 0j, np.complex64(1), np.complex128(1), np.array(1j)])
def test_a_complex_loss_is_refused_with_the_cure(loss):
    z = np.ones(3, complex)
    with pytest.raises(TypeError, match=r"complex.*loss\.real"):
        ss.PolyakSGD(z).step(z.copy(), loss=loss)
    with pytest.raises(TypeError, match=r"complex loss.*loss\.real"):
        ss.minimize(lambda z: (loss, z), z)
    with pytest.raises(TypeError, match=r"complex loss.*loss\.real"):
        ss.fit(lambda z, b: (loss, z), z, ss.SGD(z), [0], steps=1)
    assert (z == 1).all()


def test_a_parameter_that_becomes_read_only_or_another_array_is_seen():
    z = np.ones(4, np.complex64)
    optimizer = ss.Adam(z)
    z.flags.writeable = False
    with pytest.raises(ValueError, match="became read-only"):
        optimizer.step(np.ones(4, np.complex64))
    z.flags.writeable = True
    z.shape = (2, 2)
    with pytest.raises(ValueError, match="changed"):
        optimizer.step(np.ones((2, 2), np.complex64))

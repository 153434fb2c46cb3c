"""Rules that act on whole matrices: torch's and Optax's numbers, and the laws of their algebra.

The numbers are in golden/shaped.npz; golden/make_shaped.py made them.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss
from stepsize.optimizers.primitives import random_normal
from stepsize.optimizers.rules.muon import orthogonalize

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "shaped.npz"))
CASES = sorted(key for key in GOLDEN if "{" in key)
# Means and matrix products are rounded in another order.
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}


@pytest.mark.parametrize("case", CASES)
def test_arrives_where_the_reference_does(case):
    name, rest = case.split(" ", 1)
    keywords, dtype, leaf = rest.rsplit(" ", 2)
    x = GOLDEN[f"{leaf} x0"].astype(dtype)
    optimizer = getattr(ss, name)(x, **json.loads(keywords))
    marks = list(GOLDEN["marks"])
    for step, g in enumerate(GOLDEN[f"{leaf} grads"].astype(dtype), 1):
        optimizer.step(g)
        if step in marks:
            expected = GOLDEN[case][marks.index(step)]
            apart = np.abs(x.astype(float) - expected).max()
            assert apart <= TOLERANCE[dtype] * max(1.0, np.abs(expected).max()), step


def rotation(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


@pytest.mark.parametrize(
    ("cls", "keywords"),
    [
        (ss.Shampoo, {"momentum": 0.5}),
        (ss.Shampoo, {"precondition_frequency": 3}),
        (ss.SOAP, {"precondition_frequency": 2}),
        (ss.Muon, {}),
    ],
)
def test_does_the_same_in_a_rotated_space(cls, keywords):
    left, right = rotation(4, 1), rotation(3, 2)
    random = np.random.default_rng(3)
    plain = random.normal(size=(4, 3))
    turned = left @ plain @ right
    one, two = cls(plain, lr=0.05, **keywords), cls(turned, lr=0.05, **keywords)
    for _ in range(12):
        g = random.normal(size=(4, 3))
        one.step(g)
        two.step(np.ascontiguousarray(left @ g @ right))
    # The last eigenvalue of a sum of few gradients is near 0, where its root is steep.
    np.testing.assert_allclose(left @ plain @ right, turned, atol=1e-6)


def test_shampoo_is_adagrad_where_gradients_are_diagonal():
    random = np.random.default_rng(4)
    x, y = np.zeros((3, 3)), np.zeros(3)
    one = ss.Shampoo(x, lr=0.1, eps=1e-12)
    two = ss.Adagrad(y, lr=0.1)
    for _ in range(20):
        g = random.normal(size=3)
        one.step(np.diag(g))
        two.step(g)
    np.testing.assert_allclose(np.diag(x), y, rtol=1e-6)


def test_soap_is_adam_on_vectors_a_step_later():
    random = np.random.default_rng(5)
    x, y = np.zeros(5), np.zeros(5)
    one = ss.SOAP(x, lr=0.1, weight_decay=0.0, eps=0.0)
    two = ss.Adam(y, lr=0.1, betas=(0.95, 0.95), eps=0.0)
    one.step(random.normal(size=5))
    for _ in range(20):
        g = random.normal(size=5)
        one.step(g)
        two.step(g)
    np.testing.assert_allclose(x, y, rtol=1e-9)


def test_muon_makes_singular_values_alike():
    matrix = np.diag([100.0, 1.0, 0.2]) @ rotation(3, 6)
    found = np.linalg.svd(orthogonalize(matrix, 5, 1e-7), compute_uv=False)
    assert found.min() > 0.6 and found.max() < 1.3


def test_polar_express_brings_singular_values_nearer_to_one():
    matrix = np.diag([100.0, 1.0, 0.2]) @ rotation(3, 6)
    for steps, apart in ((5, 0.2), (8, 1e-3), (12, 1e-9)):  # the factor of safety goes last
        found = orthogonalize(matrix, steps, 1e-7, table="polar_express")
        assert np.abs(np.linalg.svd(found, compute_uv=False) - 1).max() < apart


def normuon(x, grads, lr, beta2):
    """Algorithm 1 of arXiv:2510.05491 as its authors' code has it, with NumPy's products."""
    momentum, second = np.zeros_like(x), np.zeros((len(x), 1))
    for g in grads:
        momentum += 0.05 * (g - momentum)
        update = g + 0.95 * (momentum - g)
        update = orthogonalize(update, 5, 1e-7)
        norm = np.linalg.norm(update)
        second += (1 - beta2) * (np.mean(update**2, axis=1, keepdims=True) - second)
        update = update / (np.sqrt(second) + 1e-10)
        update *= norm / (np.linalg.norm(update) + 1e-10)
        x = x * (1 - lr * 0.1) - lr * update * np.sqrt(max(1, x.shape[0] / x.shape[1]))
    return x


@pytest.mark.parametrize("shape", [(5, 3), (3, 20), (1, 4)])
def test_normuon_is_what_its_authors_compute(shape):
    random = np.random.default_rng(12)
    x, grads = random.normal(size=shape), random.normal(size=(100, *shape))
    expected = normuon(x, grads, 0.02, 0.95)
    optimizer = ss.Muon(x, lr=0.02, row_beta2=0.95)
    for g in grads:
        optimizer.step(g)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-9)
    assert optimizer.state["params"]["row_avg_sq"].shape == shape[:1]


def test_muon_sees_kernels_as_first_axis_and_rest():
    random = np.random.default_rng(13)
    for options in ({}, {"row_beta2": 0.9}):
        x = random.normal(size=(4, 3, 2, 2))
        y = x.reshape(4, 12).copy()
        one = ss.Muon(x, lr=0.1, flatten=True, **options)
        two = ss.Muon(y, lr=0.1, **options)
        for g in random.normal(size=(5, *x.shape)):
            one.step(g)
            two.step(g.reshape(4, 12))
        np.testing.assert_array_equal(x.reshape(4, 12), y)
    assert "exp_avg" in ss.Muon(x).state["params"]


def test_row_averages_are_there_from_the_start_or_never():
    optimizer = ss.Muon(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"row_beta2=0\.9 needs state"):
        optimizer.row_beta2 = 0.9


@pytest.mark.parametrize("cls", [ss.Adafactor, ss.SM3, ss.Shampoo, ss.SOAP, ss.Muon, ss.Kron])
def test_states_of_their_own_shape_are_saved(cls, tmp_path):
    random = np.random.default_rng(7)

    def nest():
        return {"w": random.normal(size=(3, 2)), "b": random.normal(size=4), "s": np.array(1.0)}

    x = nest()
    optimizer = cls(x)
    for _ in range(3):
        optimizer.step(nest())
    optimizer.save(tmp_path / "state")
    y = ss.arrays.copy(x)
    other = cls(y)
    other.load(tmp_path / "state")
    for _ in range(3):
        grads = nest()
        optimizer.step(grads)
        other.step(grads)
    assert all(np.array_equal(x[name], y[name]) for name in x)
    with pytest.raises(ValueError, match="shape"):
        cls({"w": np.ones((2, 3)), "b": np.ones(4), "s": np.array(1.0)}).load(tmp_path / "state")


def test_other_leaves_of_muon_follow_adamw():
    x, y = np.ones(3), np.ones(3)
    one = ss.Muon({"b": x}, lr=0.01, adamw_scale=2.0, adamw_betas=(0.9, 0.999))
    two = ss.AdamW({"b": y}, lr=0.02, weight_decay=0.1)
    for g in np.random.default_rng(8).normal(size=(10, 3)):
        one.step({"b": g})
        two.step({"b": g})
    np.testing.assert_array_equal(x, y)


def full(q):
    return np.diag(q) if q.ndim == 1 else q


@pytest.mark.parametrize("mode", [None, "one_diag"])
def test_kron_whitens_what_it_sees(mode):
    random = np.random.default_rng(9)
    left, right = random.normal(size=(4, 4)), np.diag([3.0, 0.3, 1.0])
    always = {"momentum": 0.0, "preconditioner_update_probability": 1.0}
    rate = ss.schedules.cosine(0.1, 0.0, 2000)
    optimizer = ss.Kron(np.zeros((4, 3)), precond_lr=rate, memory_save_mode=mode, **always)
    if mode == "one_diag":
        left = np.diag([1.0, 5.0, 0.5, 2.0])
    for _ in range(2000):
        optimizer.step(left @ random.normal(size=(4, 3)) @ right)
    state = optimizer.state["params"]
    assert state["q0"].ndim == (1 if mode else 2)
    one, two = full(state["q0"]), full(state["q1"])
    whole = np.kron(one.T @ one @ left, two.T @ two @ right)
    spread = np.linalg.eigvalsh(whole @ whole.T)
    assert spread.min() > 0.7 and spread.max() < 1.4


def test_kron_is_what_its_product_says():
    """The first update, with the factors multiplied out to one matrix."""
    g = np.random.default_rng(10).normal(size=(3, 2)) / 100
    x = np.zeros((3, 2))
    optimizer = ss.Kron(x, lr=1.0, precond_lr=0.3)
    optimizer.step(g)
    one, two = optimizer.state["params"]["q0"], optimizer.state["params"]["q1"]
    whole = np.kron(one.T @ one, two.T @ two)
    update = (whole @ g.ravel()).reshape(3, 2)
    np.testing.assert_allclose(x, -update, rtol=1e-12)
    large = np.zeros((3, 2))
    ss.Kron(large, lr=1.0).step(g * 1e4)
    np.testing.assert_allclose(np.sqrt(np.mean(large**2)), 1.1, rtol=1e-6)
    v = random_normal(1, 6, np.float64).reshape(3, 2)
    for found, a, b in ((one, g, v), (two, g.T, v.T)):
        # A lower bound of the norm makes the step longer than the norm would, by a little.
        direction = np.triu(a @ a.T - b @ b.T) / np.linalg.norm(a @ a.T + b @ b.T, 2)
        step = (np.eye(len(a)) - found)[np.triu_indices(len(a))]
        ratio = step / (0.3 * direction[np.triu_indices(len(a))])
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
        assert 1 <= ratio[0] < 1.1


def test_kron_fits_ever_less_often():
    x = np.ones(2)
    rare = ss.Kron(x, preconditioner_update_probability=0.3)
    plain = ss.Kron(x.copy())
    fits = []
    for _ in range(1200):
        rare.step(x)
        plain.step(x)
        fits.append(plain.internals.scalars(0).fits)
    assert rare.internals.scalars(0).fits == 300  # every fourth: a share of 0.3 is waited for
    gaps = np.diff(np.flatnonzero(np.diff(fits)))
    assert list(np.unique(gaps)) == [1, 2, 3]
    assert list(np.flatnonzero(np.diff(gaps))) == [499 - 1, 499 + 346 - 1]  # 0.5 is after 693


def test_kron_beside_a_rule_in_numpy_is_kron():
    class Own(ss.optimizers.Optimizer):
        lr = ss.optimizers.fields.nonnegative(0.1)

        def rule(self, x, g, s, h):
            x -= h.lr * g

    alone, both = {"w": np.ones((3, 2))}, {"w": np.ones((3, 2)), "b": np.ones(2)}
    one = ss.Kron(alone)
    two = ss.Partition({"w": ss.Kron, "b": Own}, both)
    for g in np.random.default_rng(12).normal(size=(5, 3, 2)):
        one.step({"w": g})
        two.step({"w": g, "b": g[0]})
    assert np.array_equal(alone["w"], both["w"]) and not np.array_equal(both["w"], np.ones((3, 2)))


def test_kron_bears_rests_and_sudden_gradients():
    random = np.random.default_rng(11)
    params = {"w": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}
    optimizer = ss.Kron(params, preconditioner_update_probability=1.0)

    def steps(count, scale):
        for _ in range(count):
            grads = ss.arrays.map_leaves(lambda x: random.normal(size=x.shape) * scale, params)
            optimizer.step(ss.arrays.map_leaves(lambda g: g.astype(np.float32), grads))

    steps(1200, 0.0)
    assert all((leaf == 1).all() for leaf in params.values())
    steps(50, 1e3)
    steps(1200, 0.0)
    steps(5, 1e25)
    assert all(np.isfinite(leaf).all() for leaf in params.values())

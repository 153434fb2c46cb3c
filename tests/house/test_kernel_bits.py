"""The pieces under the rules: sums in a fixed tree, powers, memory, threads."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stepsize as ss
from cases import CHUNK, DTYPES, EDGES
from stepsize import _core
from stepsize.optimizers import primitives

TARGETS = ss.build_info()["available_targets"]


@pytest.fixture(params=TARGETS)
def target(request):
    before = _core.target()
    _core.choose_target(request.param)
    assert ss.build_info()["target"] == request.param
    yield request.param
    _core.choose_target(before)


def lanes_by_hand(terms):
    """16 lanes, element i in lane i mod 16, joined by halves."""
    lanes = [0.0] * 16
    for i, term in enumerate(terms):
        lanes[i % 16] += float(term)
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_squares_are_the_tree_by_hand(target, dtype, random):
    for size in EDGES:
        values = random.standard_normal(size).astype(dtype)
        squares = np.square(values, dtype=float)
        expected = 0.0
        for start in range(0, size, CHUNK):
            expected += lanes_by_hand(squares[start : start + CHUNK])
        assert _core.sum_of_squares(values) == expected
        assert ss.arrays.sum_of_squares(values[::-1][::-1]) == expected
        assert primitives.sum_of_blocks(squares) == expected


def test_sum_of_lanes_is_the_tree_by_hand(target, random):
    for size in EDGES:
        terms = random.standard_normal(size) * 10.0 ** random.uniform(-20, 20, size)
        assert _core.sum_lanes(terms) == lanes_by_hand(terms)


def product_by_hand(a, b):
    """Term after term, in blocks that are added in order."""
    total = np.zeros((len(a), b.shape[1]), a.dtype)
    for start in range(0, a.shape[1], _core.depth_block):
        part = np.zeros_like(total)
        for k in range(start, min(start + _core.depth_block, a.shape[1])):
            part = part + a[:, k, None] * b[k]
        total = total + part if start else part
    return total


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_of_matrices_is_the_sum_by_hand(target, dtype, random):
    for rows, depth, columns in ((1, 1, 1), (3, 0, 2), (17, 255, 7), (23, 256, 33), (37, 600, 40)):
        a, b = random.standard_normal((rows, depth)), random.standard_normal((depth, columns))
        a, b = a.astype(dtype), b.astype(dtype)
        expected = product_by_hand(a, b)
        for threads in (1, 2, 3):
            ss.set_num_threads(threads)
            assert np.array_equal(primitives.product(a, b), expected)
        ss.set_num_threads(None)
        gram = primitives.product(a, a.T)
        assert np.array_equal(gram, gram.T)
    with pytest.raises(TypeError, match="that fit each other"):
        _core.product(a, a)


def graded(random):
    """A Gram matrix whose rows have sizes of up to 200 orders of magnitude, some of them 0."""
    n, span = int(random.integers(1, 12)), random.choice([0, 50, 200])
    rows = random.normal(size=(n, 3)) * 10.0 ** random.uniform(-span, 0, (n, 1))
    rows[random.uniform(size=n) < 0.2] = 0
    return rows @ rows.T


def test_decompositions_are_right_and_the_same_on_every_target(random):
    before = _core.target()
    matrices = [graded(random) for _ in range(50)] + [random.normal(size=(70, 70)) for _ in "ab"]
    for a in matrices:
        found, one = [], np.eye(len(a))
        gram = a if (a == a.T).all() else a @ a.T
        for target in TARGETS:
            _core.choose_target(target)
            found.append((*primitives.eigen(gram), primitives.orthonormal(a)))
        _core.choose_target(before)
        values, vectors, q = found[0]
        for other in found:
            assert all(map(np.array_equal, other, found[0]))
        assert np.all(np.diff(values) >= 0)
        np.testing.assert_allclose((vectors * values) @ vectors.T, gram, atol=1e-13 * gram.max())
        np.testing.assert_allclose(vectors.T @ vectors, one, atol=1e-12)
        np.testing.assert_allclose(q.T @ q, one, atol=1e-12)
        np.testing.assert_allclose(np.tril(q.T @ a, -1), 0, atol=1e-12 * np.abs(a).max())
    upper = np.triu(random.normal(size=(9, 9))) + 5 * one[:9, :9]
    b = random.normal(size=(9, 4))
    np.testing.assert_allclose(
        upper.T @ primitives.solve_turned(upper, b), b, rtol=1e-12, atol=1e-12
    )


@given(st.floats(0, 1), st.integers(0, 10**7))
def test_power_is_the_exact_one_rounded(base, n):
    found = _core.power(base, n)
    assert found == primitives.power(base, n)
    if n <= 2000 and found > 1e-290:
        exact = Fraction(base) ** n
        assert abs(Fraction(found) - exact) <= Fraction(math.ulp(found))


@pytest.mark.parametrize("base", [0.9, 0.99, 0.999, 0.9999])
def test_power_has_the_same_bits_on_every_target(target, base):
    assert all(_core.power(base, n) == primitives.power(base, n) for n in range(2000))


@pytest.mark.parametrize("size", [0, 1, 63, 64, 4096, (1 << 21) - 1, 1 << 21, (5 << 20) + 7])
def test_memory_comes_zeroed_and_aligned(size):
    memory = _core.allocate(size)
    assert memory.nbytes == size and not memory.any() and memory.flags.writeable
    assert memory.ctypes.data % 64 == 0
    if size >= 1 << 21:
        assert memory.ctypes.data % (1 << 21) == 0
    memory[...] = 255


def test_threads_are_as_many_as_asked_for():
    openmp = ss.build_info()["openmp"]
    for count in (1, 2, 5):
        ss.set_num_threads(count)
        assert ss.build_info()["threads"] == (count if openmp else 1)
    ss.set_num_threads(None)
    assert ss.build_info()["threads"] >= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("w", [0.0, 1e-9, 0.3, 0.5, 0.7, 1 - 1e-9, 1.0])
def test_lerp_is_exact_at_its_ends_and_stays_between(dtype, w, random):
    a, b = random.standard_normal((2, 1000)).astype(dtype)
    point = primitives.lerp(a, b, w)
    assert w != 0 or np.array_equal(point, a)
    assert w != 1 or np.array_equal(point, b)
    slack = 4 * np.finfo(dtype).eps * (np.abs(a) + np.abs(b))  # three roundings
    assert np.all(np.abs(point - (a + w * (b.astype(float) - a))) <= slack)

"""SAM's second point: a radius away, whatever the size of the gradient."""

import numpy as np
import pytest

import stepsize as ss

SIZES = [(np.float64, s) for s in (1e-310, 1e-200, 1e-150, 1e-13, 1.0, 1e12, 1e150, 1e200)]
SIZES += [(np.float32, s) for s in (1e-38, 1e-30, 1e-12, 1.0, 1e12, 1e30, 1e37)]
SIZES += [(np.float16, s) for s in (1e-4, 1.0, 1e4)]


def points(x, g, rho, **keywords):
    """The points at which SAM asks for gradients."""
    seen = []

    def value_and_grad(params):
        seen.append(params["x"].astype(np.float64))
        return 1.0, {"x": g}

    ss.SAM(ss.SGD({"x": x}, lr=0.0), rho=rho, **keywords).step(value_and_grad)
    assert (x == seen[0].astype(x.dtype)).all()
    return seen


@pytest.mark.parametrize(("dtype", "size"), SIZES)
def test_the_radius(dtype, size):
    x = np.zeros(2, dtype)
    g = (np.array([3.0, -4.0]) * size / 5).astype(dtype)
    _, there = points(x, g, 0.5)
    digits = 1e-3 if dtype is np.float16 or size < np.finfo(dtype).tiny * 1e4 else 1e-6
    np.testing.assert_allclose(there, [0.3, -0.4], rtol=digits)


@pytest.mark.parametrize(("dtype", "size"), SIZES)
@pytest.mark.parametrize("weight", [1e-3, 1.0, 100.0])
def test_the_adaptive_radius(dtype, size, weight):
    x = (np.array([1.0, -2.0]) * weight).astype(dtype)
    g = (np.array([3.0, -2.0]) * size / 5).astype(dtype)
    here, there = points(x, g, 0.05, adaptive=True)
    # x^2 g / |x g|, for x = w (1, -2) and g = s (3, -2): w (3, -8) / 5.
    expected = 0.05 * weight * np.array([3.0, -8.0]) / 5
    digits = 0.02 if dtype is np.float16 else 1e-3
    np.testing.assert_allclose(there - here, expected, rtol=digits)


@pytest.mark.parametrize("weight", [1e-200, 1e200])
@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_the_adaptive_radius_of_products_beyond_the_range(weight, size):
    x, g = np.array([weight, -2 * weight]), np.array([3.0, -2.0]) * size
    here, there = points(x, g, 0.25, adaptive=True)
    np.testing.assert_allclose((there - here) / weight, 0.25 * np.array([3.0, -8.0]) / 5)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_without_a_gradient_there_is_no_other_point(dtype, adaptive):
    here, there = points(np.ones(3, dtype), np.zeros(3, dtype), 0.5, adaptive=adaptive)
    assert (here == there).all()
    here, there = points(np.zeros(3, dtype), np.ones(3, dtype), 0.5, adaptive=True)
    assert (here == there).all()

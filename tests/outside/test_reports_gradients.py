"""Public bug reports about checks of gradients, complex parameters and bounds, each tried here."""

from math import log

import numpy as np
import pytest

import stepsize as ss
from reports import report


@report(
    "scipy/scipy#9098",
    "for a gradient by differences the function is called beyond the bounds, where it is undefined",
    "mended: `minimize(grad=...)` did so too",
)
@pytest.mark.parametrize("grad", ["central", "forward"])
def test_differences_stay_inside_of_bounds(grad):
    def f(x):
        return log(1 + 1e-8 - x[0])  # no number above the bound

    result = ss.minimize(f, np.array([0.0]), bounds=(0.0, 1.0), grad=grad, max_iter=50)
    assert result.converged and result.x[0] == 1.0


@report(
    "stevengj/nlopt#328",
    "a check of derivatives finds more and more errors as a right gradient has more elements",
)
def test_a_long_gradient_is_as_right_as_a_short_one():
    goal = np.random.default_rng(0).random(10_000)
    for n in (10, 1000, 10_000):
        x, a = np.arange(1.0, n + 1), goal[:n]
        check = ss.check_gradients(
            lambda x, a: (float((x - a) @ (x - a)), 2 * (x - a)), x, a, coordinates=20
        )
        assert check.ok, str(check)


@report(
    "PaddlePaddle/Paddle#4283",
    "a right gradient in single precision fails its check, by rounding of the differences",
)
def test_a_right_gradient_in_single_precision_fits():
    rng = np.random.default_rng(1)
    x, y = (rng.random(shape).astype(np.float32) for shape in ((1, 84), (84, 1)))
    check = ss.check_gradients(
        lambda p, batch: (np.float32((p["x"] @ p["y"])[0, 0]), {"x": p["y"].T, "y": p["x"].T}),
        {"x": x, "y": y},
        coordinates=84,
    )
    assert check.ok, str(check)


@report(
    "google/jaxopt#169",
    "norms of complex gradients, and second moments, are of squares in place of squared moduli",
)
@pytest.mark.parametrize("rule", [ss.Adam, ss.RMSprop, ss.LBFGS])
def test_complex_parameters_converge_and_have_norms_of_moduli(rule):
    goal = np.array([0.5j, 1.0 - 1.0j])
    z = np.array([1 + 2j, 3 - 1j])
    optimizer = rule(z) if rule is ss.LBFGS else rule(z, lr=0.1)

    def value_and_grad(z, batch):
        return float(np.vdot(z - goal, z - goal).real), 2 * (z - goal)

    size = np.sqrt((np.abs(2 * (z - goal)) ** 2).sum())
    history = ss.fit(value_and_grad, z, optimizer, [None], steps=300)
    assert np.isclose(history["grad_norm"][0], size)
    np.testing.assert_allclose(z, goal, atol=1e-3)


@report(
    "scikit-learn/scikit-learn#18702",
    "the gradient of a kernel by the logarithm of its parameter is taken for that by the parameter",
    "mended: the cause is named, `log_scale`",
)
@pytest.mark.parametrize("by_log", [True, False])
def test_a_gradient_by_the_logarithm_is_told_from_that_by_the_parameter(by_log):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(9, 2)), rng.normal(size=9)

    def value_and_grad(p, batch):
        kernel = x @ x.T + p["sigma"] ** 2 + np.eye(9)
        solved = np.linalg.solve(kernel, y)
        by_kernel = (np.linalg.inv(kernel) - np.outer(solved, solved)) / 2
        slope = 2 * p["sigma"] ** (2 if by_log else 1)
        loss = (y @ solved + np.linalg.slogdet(kernel)[1]) / 2
        return float(loss), {"sigma": by_kernel.sum(keepdims=True)[0] * slope}

    check = ss.check_gradients(value_and_grad, {"sigma": np.array([1.7])})
    assert check.cause == ("log_scale" if by_log else None), str(check)


@report(
    "HomericIntelligence/Odyssey#2018",
    "right gradients of normalised outputs, which add up to 0, fail their check",
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weights", ["ones", "others"])
def test_a_gradient_that_rounding_has_left_over_is_not_called_wrong(dtype, weights):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(8, 3)).astype(dtype)
    w = np.ones_like(x) if weights == "ones" else rng.normal(size=x.shape).astype(dtype)

    def value_and_grad(p, batch):
        x, gain = p["x"], p["gain"]
        size = np.sqrt(x.var(0))
        unit = (x - x.mean(0)) / size
        d = w * gain
        dx = (d - d.mean(0) - unit * (d * unit).mean(0)) / size
        return (gain * unit * w).sum(), {"x": dx, "gain": (unit * w).sum(0)}

    check = ss.check_gradients(value_and_grad, {"x": x, "gain": np.ones(3, dtype)})
    assert not check.wrong and check.ok == (weights == "others"), str(check)


@report(
    "chainer/chainer#488",
    "the numerical gradient is 0 where the function returns a view of its input",
)
def test_views_of_the_parameters_may_be_returned():
    first = np.eye(4)[0]
    assert ss.check_gradients(lambda p, b: (p[:1], first), np.arange(1.0, 5.0)).ok
    check = ss.check_gradients(lambda p, b: (float(p @ p) / 2, p), np.arange(1.0, 5.0))
    assert check.ok, str(check)


@report(
    "google-deepmind/torch-totem#26",
    "a right gradient is called wrong where the input is not contiguous",
)
@pytest.mark.parametrize("view", ["transposed", "strided", "reversed", "repeated"])
def test_parameters_of_any_strides_are_checked_by_element(view):
    whole = np.random.default_rng(6).normal(size=(8, 10))
    views = {
        "transposed": whole.T,
        "strided": whole[::2, 1::3],
        "reversed": whole[::-1],
        "repeated": np.broadcast_to(whole[0], (3, 10)),
    }
    x = views[view]
    weights = np.arange(1.0, x.size + 1).reshape(x.shape)

    def value_and_grad(p, batch):
        return float((weights * np.sin(p)).sum()), weights * np.cos(p)

    assert ss.check_gradients(value_and_grad, x, coordinates=x.size).ok
    turned = ss.check_gradients(lambda p, b: (value_and_grad(p, b)[0], -np.cos(p) * weights), x)
    assert turned.cause == "sign_flipped"

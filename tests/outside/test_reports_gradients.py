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

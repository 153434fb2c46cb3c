"""Every rule finds the minimum of a parabola, and of Rosenbrock's valley, in 10,000 steps."""

import numpy as np
import pytest

import stepsize as ss
from cases import RULES

# Rates for both problems; a rule that is not here has no need of one and runs at its default. For
# rules that find their own rate these multiply it.
RATES = {
    "AdaBelief": 0.01,
    "Adadelta": 0.1,
    "Adagrad": 1.0,
    "Adam": 0.01,
    "Adamax": 0.01,
    "AdamW": 0.01,
    "Adan": 0.01,
    "AdEMAMix": 0.01,
    "ADOPT": 0.01,
    "ASGD": 0.001,
    "COCOB": 0.5,
    "DAdaptAdam": 0.2,
    "FTRL": 1.0,
    "Kron": 0.003,
    "LaProp": 0.01,
    "Lion": 0.01,
    "MADGRAD": 0.001,
    "NAdam": 0.01,
    "NAdamW": 0.005,
    "RAdam": 0.01,
    "RMSprop": 0.005,
    "Rprop": 0.01,
    "ScheduleFreeAdamW": 0.01,
    "ScheduleFreeRAdam": 0.01,
    "ScheduleFreeSGD": 0.01,
    "Shampoo": 1.0,
    "SGD": 0.001,
    "SignSGD": 0.01,
    "Signum": 0.01,
    "SM3": 1.0,
    "Yogi": 0.01,
}
# What its authors advise for long runs.
ADVISED = {"ScheduleFreePlus": {"r": 2.0}}
# Steps of one length for all coordinates cannot follow a bent valley at a constant rate, and a rate
# found for convex functions is too long for it.
NOT_IN_VALLEYS = ("DAdaptSGD", "Lion", "SignSGD", "Signum")


GOAL = np.array([1.0, -1.0, 1.0])


def parabola(x):
    return np.sum((x - GOAL) ** 2), 2 * (x - GOAL)


def rosenbrock(x):
    a, b = x.tolist()
    bend = b - a * a
    return (1 - a) ** 2 + 100 * bend**2, np.array([-2 * (1 - a) - 400 * a * bend, 200 * bend])


def arrive(cls, problem, start, goal, steps=10_000, **keywords):
    """Where the steps end, or stay: within the hundredth part of a length for 1,000 of them."""
    x = np.array(start)
    optimizer = cls(
        x, **{"lr": RATES.get(cls.__name__), **ADVISED.get(cls.__name__, {}), **keywords}
    )
    there = 0
    for step in range(steps):
        loss, gradient = problem(x)
        optimizer.step(gradient, loss=float(loss))
        if step % 100 == 99:
            answer = optimizer.eval_params() if hasattr(optimizer, "eval_params") else x
            there = there + 1 if np.abs(answer - goal).max() < 1e-2 else 0
            if there == 10:
                break
    return answer


@pytest.mark.parametrize("cls", RULES)
def test_parabola(cls):
    x = arrive(cls, parabola, [-1.0, 10.0, 1.0], GOAL)
    np.testing.assert_allclose(x, GOAL, atol=3e-2)


@pytest.mark.parametrize("cls", [cls for cls in RULES if cls.__name__ not in NOT_IN_VALLEYS])
def test_rosenbrock(cls):
    x = arrive(cls, rosenbrock, [0.0, 0.0], 1.0)
    np.testing.assert_allclose(x, [1.0, 1.0], atol=3e-2)


# Rules that find their rate, and the field that is their first guess. Those that divide by a moment
# move on at full length near the goal, unless a factor fades, as their authors advise.
FIRST_GUESSES = {ss.DoG: "reps_rel", ss.LDoG: "reps_rel", ss.DoWG: "eps", ss.COCOB: "eps"}
FIRST_GUESSES |= {ss.DAdaptSGD: "d0", ss.DAdaptAdam: "d0", ss.Prodigy: "d0"}
FADING = (ss.DAdaptAdam, ss.Prodigy)


def without_a_rate(cls, steps=10_000):
    return ss.schedules.cosine(1.0, 0.0, steps) if cls in FADING else 1.0


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("cls", FIRST_GUESSES)
def test_no_rate_is_needed_whatever_the_first_guess(cls, factor):
    name = FIRST_GUESSES[cls]
    guess = {name: factor * cls.fields[name].default}
    x = arrive(cls, parabola, [-1.0, 10.0, 1.0], GOAL, lr=without_a_rate(cls), **guess)
    np.testing.assert_allclose(x, GOAL, atol=3e-2)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize("cls", FIRST_GUESSES)
def test_no_rate_is_needed_at_any_scale(cls, scale):
    def scaled(x):
        loss, gradient = parabola(x / scale)
        return scale**2 * loss, scale * gradient

    start = [-scale, 10 * scale, scale]
    x = arrive(cls, scaled, start, np.inf, lr=without_a_rate(cls)) / scale
    np.testing.assert_allclose(x, GOAL, atol=3e-2)

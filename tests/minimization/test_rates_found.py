"""The rate that `minimize` finds, on functions whose best runs are known from a grid of rates."""

import numpy as np
import pytest

import stepsize as ss

NESTEROV = {"momentum": 0.9, "nesterov": True}


def valley(x):
    scales = np.geomspace(1, 1e3, 10)
    return float(scales @ x**2) / 2, scales * x


def beale(p):
    x, y = p
    r = np.array([1.5, 2.25, 2.625]) - x * (1 - np.array([y, y**2, y**3]))
    by_x = 2 * r @ (np.array([y, y**2, y**3]) - 1)
    return float(r @ r), np.array([by_x, 2 * r @ (np.array([1, 2 * y, 3 * y**2]) * x)])


def rosenbrock(x):
    bend, off = x[1] - x[0] ** 2, 1 - x[0]
    slopes = np.array([-400 * x[0] * bend - 2 * off, 200 * bend])
    return float(100 * bend**2 + off**2), slopes


@pytest.mark.parametrize(
    ("function", "start", "options", "best"),
    [  # the lowest end of constant rates and flat cosines, four rates a decade
        (valley, np.ones(10), NESTEROV, 1e-9),
        (beale, np.ones(2), {}, 1e-10),
        (rosenbrock, np.array([-1.2, 1.0]), NESTEROV, 3.5e-5),
    ],
)
def test_a_run_ends_within_ten_times_of_the_best_of_a_grid(function, start, options, best):
    result = ss.minimize(function, start, "sgd", gtol=0, **options)
    assert result.fun <= 10 * best


def test_no_point_of_a_rehearsal_is_called_again():
    seen = []

    def watched(x):
        seen.append(x.tobytes())
        return valley(x)

    result = ss.minimize(watched, np.ones(10), "sgd", gtol=0, **NESTEROV)
    assert result.nfev == len(seen) and result.nit == 1000
    # The run repeats the rehearsal at its rate, half of its steps, and calls none of them.
    steps = [np.ones(10)]
    opt = ss.SGD(steps[0].copy(), lr=result.lr, **NESTEROV)
    for _ in range(500):
        opt.step(valley(opt.params)[1])
        steps.append(opt.params.copy())
    counts = [seen.count(point.tobytes()) for point in steps[100:400]]
    assert max(counts) == 1


def test_the_search_ends_where_it_has_come_to_the_end():
    bowl = ss.minimize(lambda x: (float(x @ x) / 2, x.copy()), np.ones(3), "sgd", max_iter=1000)
    assert bowl.converged and bowl.nfev < 400


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, NESTEROV])
def test_without_noise_the_winner_of_the_race_is_the_suggestion(options):
    found = ss.lr_find(
        lambda x, _: valley(x),
        np.ones(10),
        [None],
        optimizer=lambda p: ss.SGD(p, lr=1.0, **options),
        progress=False,
    )
    assert found.suggestion == found.probes[0][0]
    assert found.peak >= found.suggestion

"""The method "lr" over rate, decay, batch and beta2 together."""

import math

import numpy as np
import pytest

import stepsize as ss
from stepsize.tuning.joint import Surface, middle, next_point, scores

SPACE = {
    "lr": ss.LogUniform(1e-6, 10.0),
    "weight_decay": ss.LogUniform(1e-5, 10.0),
    "batch": ss.Choice(16, 32, 64, 128),
    "beta2": ss.Choice(0.9, 0.95, 0.99, 0.999),
}


def bowl(point):
    """Lowest at a rate that goes with the root of the batch, as for Adam."""
    rate = math.log10(point["lr"]) - math.log10(point["batch"]) / 2 + 3.5
    decay = math.log10(point["lr"] * point["weight_decay"] / point["batch"]) + 6
    if rate > 1.5:
        return math.inf
    return 1 + rate**2 + 0.1 * decay**2 + 0.2 * math.log2(point["batch"] / 32) ** 2


def test_it_comes_nearer_than_runs_that_take_the_rest_at_random():
    ends = {"lr": [], "random": []}
    for seed in range(5):
        for method, found in ends.items():
            given = 1e-2 if method == "lr" else None
            found.append(
                ss.tune(bowl, SPACE, trials=16, method=method, prior=given, seed=seed).best_value
            )
    assert np.median(ends["lr"]) - 1 < (np.median(ends["random"]) - 1) / 4


def edge(point):
    """Lowest at the first option of batch and beta2; the decay is nothing to it."""
    rate = math.log10(point["lr"]) - math.log10(point["batch"]) / 2 + 3.5
    if rate > 1.5:
        return math.inf
    squares = SPACE["beta2"].options.index(point["beta2"])
    return 1 + rate**2 + 0.3 * math.log2(point["batch"] / 16) + 0.2 * squares


def test_it_follows_a_slope_to_the_end_of_a_range_and_leaves_what_tells_nothing():
    ends = [
        ss.tune(edge, SPACE, trials=16, method="lr", prior=1e-2, seed=seed).best_value
        for seed in range(5)
    ]
    assert np.median(ends) - 1 < 1e-3


@pytest.mark.parametrize("prior", [None, 1e-2])
def test_the_first_run_is_the_prior_in_the_middle_of_the_rest(prior):
    result = ss.tune(bowl, SPACE, trials=1, method="lr", prior=prior)
    point = result.trials[0].point
    rest = {k: v for k, v in middle(SPACE).items() if k != "lr"}
    assert {k: v for k, v in point.items() if k != "lr"} == rest
    assert prior is None or point["lr"] == prior


def test_points_alike_by_the_rules_of_transfer_have_the_same_coordinates():
    small = {"lr": 1e-3, "weight_decay": 0.1, "batch": 16, "beta2": 0.99}
    large = {"lr": 2e-3, "weight_decay": 0.2, "batch": 64, "beta2": 0.99**4}
    one, other = Surface(SPACE, "lr").at([small, large])
    names = ["lr", *(name for name in SPACE if name != "lr")]
    same = [name for name in names if name != "batch"]
    for name in same:
        k = names.index(name)
        assert one[k] == pytest.approx(other[k]), name


def test_every_kind_of_value_stays_in_its_space():
    space = {
        "lr": ss.LogUniform(1e-4, 1.0),
        "width": ss.Uniform(4, 64, whole=True),
        "act": ss.Choice("relu", "tanh", None),
        "drop": ss.Uniform(0.0, 0.5),
    }
    rng = np.random.default_rng(0)
    tried = []
    for k in range(12):
        point = next_point(space, "lr", tried, 1e-2, rng)
        assert set(point) == set(space) and isinstance(point["width"], int)
        assert 1e-4 <= point["lr"] <= 1 and 4 <= point["width"] <= 64
        assert point["act"] in ("relu", "tanh", None) and 0 <= point["drop"] <= 0.5
        tried.append((point, math.inf if k < 3 else abs(point["drop"] - 0.2)))
    assert np.isfinite(scores([math.inf, math.inf])).all()
    assert scores([2.0, 1.0, math.inf]).argmin() == 1


def test_a_search_in_parts_is_deterministic(tmp_path):
    whole = ss.tune(bowl, SPACE, trials=9, method="lr", prior=1e-2, seed=3)
    for trials in (4, 9):
        path = tmp_path / "runs"
        parts = ss.tune(bowl, SPACE, trials=trials, method="lr", prior=1e-2, seed=3, storage=path)
    assert [t.point for t in parts.trials] == [t.point for t in whole.trials]

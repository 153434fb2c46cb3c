"""Searches: what decides at an edge, seen from both of its sides."""

from __future__ import annotations

import math

import numpy as np
import pytest

import stepsize as ss
from stepsize.tuning.identity import exact, identity
from stepsize.tuning.joint import RANGE_LENGTH, RATE_LENGTH, SQUARE_LENGTH, Surface
from stepsize.tuning.pruning import REDUCTION, Quantiles
from stepsize.tuning.trials import Trial, TrialRecord

SPACE = {
    "lr": ss.LogUniform(1e-4, 1.0),
    "batch_size": ss.Choice(10, 100, 1000),
    "beta2": ss.Choice(0.9, 0.99, 1.0),
    "depth": ss.Choice(1, 2, 8),
    "width": ss.Uniform(0.0, 4.0),
}
POINT = {"lr": 0.1, "batch_size": 100, "beta2": 0.99, "depth": 1, "width": 1.0}


def moved(**changed):
    """How far a point moves on the surface, by the hyperparameter that changes."""
    surface = Surface(SPACE, "lr")
    here, there = surface.at([POINT, {**POINT, **changed}])
    return float(np.abs(there - here).max())


def test_distances_are_those_of_each_scale():
    assert moved(lr=1.0) == pytest.approx(1 / RATE_LENGTH)
    assert moved(depth=8) == pytest.approx(1 / RANGE_LENGTH)
    assert moved(depth=2) == pytest.approx(0.5 / RANGE_LENGTH)
    assert moved(width=3.0) == pytest.approx(0.5 / RANGE_LENGTH)
    assert moved(beta2=0.9) == pytest.approx(
        math.log10(math.log(0.9) / math.log(0.99)) / SQUARE_LENGTH
    )
    assert math.isfinite(moved(beta2=1.0))
    assert (RATE_LENGTH, RANGE_LENGTH, SQUARE_LENGTH) == (0.7, 0.4, 0.8)


def test_what_holds_something_without_a_text_has_none():
    thing = object()
    for held in ((1, thing), [thing, 1], {"a": thing}):
        assert exact(held) is None and identity(held) == (id(held),)
    assert exact((1, 2)) is not None


@pytest.mark.parametrize("step", [0, -1, 0.5, "2"])
def test_a_step_of_whole_numbers_is_one_or_more(step):
    with pytest.raises((ValueError, TypeError), match="Uniform: step"):
        ss.Uniform(0, 9, whole=True, step=step)


def test_a_grid_smaller_than_its_choices_is_refused():
    space = {"a": ss.Choice(1, 2, 3), "b": ss.Choice(1, 2)}
    with pytest.raises(ValueError, match="the grid has 6 choices, more than trials=5"):
        ss.tune(lambda point: 0.0, space, trials=5, method="grid")
    assert len(ss.tune(lambda point: 0.0, space, trials=6, method="grid").trials) == 6


def test_a_value_that_is_not_finite_ends_a_run_at_once():
    after = []

    def objective(point, trial):
        assert trial.share == 1.0
        trial.report(1, math.nan)
        after.append(point)
        return 0.0

    result = ss.tune(objective, {"lr": ss.LogUniform(1e-4, 1.0)}, trials=2, method="random")
    assert not after and all("reported nan at step 1" in one.reason for one in result.trials)


def test_the_share_of_a_budget_is_that_of_the_largest():
    assert Trial({}).share == 1.0 and Trial({}, budget=3, most=9).share == 1 / 3
    assert TrialRecord({}, 0.0, "done", (), 0.0).number == -1


def test_rungs_are_a_factor_apart():
    reports = tuple((step, 1.0) for step in range(1, 2 * REDUCTION**2))
    record = TrialRecord({}, 1.0, "done", reports, 0.0)
    assert list(Quantiles([record], asha=True)._seen) == [1, REDUCTION, REDUCTION**2]
    assert len(Quantiles([record], asha=False)._seen) == len(reports)


def test_progress_counts_the_runs(capsys):
    ss.tune(lambda p: p["a"], {"a": ss.Choice(1, 2)}, trials=2, method="grid", progress=True)
    assert "2/2" in capsys.readouterr().err


def test_a_result_is_printed_without_its_curves():
    def loss(params, batch):
        return float(params["x"] @ params["x"]), {"x": 2 * params["x"]}

    found = ss.lr_find(loss, {"x": np.ones(2)}, [None])
    assert len(found.probes) and "probes=" not in repr(found)
    with pytest.raises(TypeError, match="optimizer must make an optimizer"):
        ss.lr_find(loss, {"x": np.ones(2)}, [None], optimizer=lambda params: None)

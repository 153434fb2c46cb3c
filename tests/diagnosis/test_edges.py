"""Diagnosis: what decides at an edge, seen from both of its sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import stepsize as ss
from stepsize.diagnosis import calibration
from stepsize.diagnosis.measurement import measure

T = np.linspace(0, 1, 100)


def test_a_verdict_refuted_that_was_all_there_was_leaves_the_probabilities():
    assert calibration.without({"a": 1.0, "b": 0.0}, ("a",)) == {"a": 1.0, "b": 0.0}
    assert calibration.without({"a": 0.5, "b": 0.5}, ("a",)) == {"a": 0.0, "b": 1.0}


def test_a_level_has_fallen_by_what_it_fell_and_not_by_what_it_is():
    levels = replace(measure({"loss": 2 - T}).levels, start=1.0, best=0.875, decrease=0.25)
    assert not levels.fell
    assert replace(levels, decrease=0.125).fell
    assert not replace(levels, best=1.0, decrease=0.0).fell


@pytest.mark.parametrize(("values", "rising"), [([1, 2, 3], True), ([1, 3, 2], False)])
def test_few_validations_rise_if_each_does(values, rising):
    val = np.full(100, np.nan)
    val[[20, 60, 99]] = values
    said = ss.diagnose({"loss": np.exp(-5 * T), "val_loss": val})
    assert any(f.kind == "overfitting" and "all 3" in f.evidence for f in said.findings) == rising


def test_a_hole_is_told_by_its_step_and_without_steps_by_its_row():
    loss = np.exp(-3 * T)
    loss[40] = np.inf
    steps = {"step": 10.0 * np.arange(1, 101)}
    for more, step in ((steps, 410), ({}, 41)):
        said = ss.diagnose({"loss": loss, **more})
        assert any(f"inf at step {step}," in one.evidence for one in said.findings)


def test_few_losses_that_end_far_above_all_before_run_away():
    steady = [1.0, 0.9, 1.1, 0.95, 1.02, 0.9, 1.05]
    assert measure({"loss": [*steady, 50.0]}).levels.runs_away
    assert not measure({"loss": [*steady, 1.06]}).levels.runs_away
    assert not measure({"loss": [1.0, 50.0, 1.1, 0.95, 1.02, 0.9, 1.05, 1.06]}).levels.runs_away


def test_a_loss_that_rose_diverges_once_the_weights_have_moved_by_three_lengths():
    for path, verdict in ((3.5, True), (2.5, False)):
        history = {"loss": 1 + T + 0.3 * np.sin(40 * T), "update_ratio": np.full(100, path / 100)}
        assert (ss.diagnose(history).verdict == "diverging") == verdict


def test_a_metric_named_by_early_stopping_is_the_one_looked_at():
    from stepsize.diagnosis.validations import early_stopping

    class Stopped(dict):
        stopped = "val_loss has not improved on 0.25 since step 70"

    found = early_stopping(Stopped())
    assert (found.metric, found.best, found.step) == ("val_loss", 0.25, 70)

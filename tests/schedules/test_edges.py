"""Schedules: what decides at an edge, seen from both of its sides."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import stepsize as ss
from stepsize.schedules.expression import parse
from stepsize.schedules.torch_rates import TorchRates

S = ss.schedules


def test_steps_that_are_the_same_twice_are_not_in_order():
    with pytest.raises(ValueError, match="sort the steps"):
        S.piecewise_constant([5, 5], [1.0, 0.5, 0.1])


def test_what_never_stops_changing_has_no_length_to_stretch():
    endless = S.exponential(1.0, 0.5, 10)
    assert endless.length == math.inf and S.exponential(1.0, 1.0, 10).length == 0
    for stretched in (lambda: endless.stretch(10), lambda: endless.resume_at(5, 20)):
        with pytest.raises(ValueError, match="never stops changing"):
            stretched()


@pytest.mark.parametrize("text", ["table([1.0] * 3)", "table(3 * [1.0])", "linear(1, 0, 5)(3)"])
def test_what_is_no_schedule_in_text_is_refused_by_its_part(text):
    with pytest.raises(ValueError, match="is not allowed in a schedule"):
        parse(text)


def test_a_part_of_several_lines_is_told_by_the_whole_text():
    text = "linear(1, 0,\n    5)(3)"
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert repr(text) in str(caught.value)


def test_a_gradient_that_is_zero_for_a_while_weighs_infinitely_much():
    norms = np.where(np.arange(100) < 40, 0.0, 1.0)
    with pytest.raises(ValueError, match="is 0 for a while"):
        S.refined({"step": np.arange(1, 101), "grad_norm": norms}, 0.1)


def test_a_run_that_ends_at_the_last_rate_of_its_schedule_is_long_enough():
    dip = S.constant(1.0).then(0.5, at=50).then(1.0, at=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        S.check_run(dip, 10)
    with pytest.warns(S.ScheduleWarning, match="the run ends at step 60"):
        S.check_run(S.constant(1.0).then(0.5, at=100), 60)


def test_a_scale_of_rates_is_what_they_were_multiplied_by():
    torch_like = SimpleNamespace(param_groups=[{"lr": 0.5}, {"lr": 0.25}])
    rates = TorchRates("Plateau", torch_like)
    assert rates.lr_scale == 1.0
    rates.lr_scale = 0.5
    assert rates.lr == (0.25, 0.125)
    rates.lr_scale = 1.0
    assert rates.lr == (0.5, 0.25)


@pytest.mark.parametrize("name", ["patience", "cooldown"])
def test_counts_of_a_controller_end_at_two_to_the_53(name):
    opt = ss.SGD(np.zeros(2), lr=0.1)
    assert getattr(S.Plateau(opt, **{name: 2**53}), name) == 2**53
    with pytest.raises(ValueError, match=name):
        S.Plateau(opt, **{name: 2**53 + 2})


def test_best_parameters_of_another_shape_are_refused():
    plateau = S.Plateau(ss.SGD(np.zeros(2), lr=0.1), restore_best=True)
    plateau.update(1.0)
    saved = plateau.state_dict()
    plateau.load_state_dict(saved)
    with pytest.raises(ValueError, match="must be an array of shape"):
        plateau.load_state_dict({**saved, "best_params": [np.zeros(3)]})

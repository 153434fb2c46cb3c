"""Optimizers: what decides at an edge, seen from both of its sides."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

import stepsize as ss
from cases import numpy_rule
from stepsize.optimizers import elementary, primitives
from stepsize.optimizers.globs import few
from stepsize.optimizers.groups import is_grouped
from stepsize.optimizers.registration import refuse_other_arrays, snake_case
from stepsize.optimizers.rule import rebinds_parameter
from stepsize.optimizers.rules import factored, kron
from stepsize.optimizers.state_dict import LARGEST_COUNT
from stepsize.validation import range_text, within


def test_a_range_has_its_ends_where_they_are_closed():
    for low_open in (False, True):
        for high_open in (False, True):
            ends = [within(x, 0.0, 1.0, low_open, high_open) for x in (0.0, 0.5, 1.0)]
            assert ends == [not low_open, True, not high_open]
    words = range_text(-np.inf, 1.0), range_text(-np.inf, 1.0, high_open=False)
    assert words == ("a number < 1", "a number <= 1")


def test_no_group_is_no_list_of_groups():
    assert not is_grouped([]) and is_grouped([{"params": np.zeros(1)}])


def test_eight_names_are_told_and_more_are_hinted_at():
    names = list("abcdefghi")
    assert few(names[:8]) == ", ".join(names[:8]) and few(names) == few(names[:8]) + ", ..."


def test_powers_of_two_end_at_the_largest_double():
    ends = [elementary.exp2((x, 0.0)) for x in (-1081.0, 0.0, 1023.0, 1024.0, 2000.0)]
    assert ends == [0.0, 1.0, 2.0**1023, sys.float_info.max, sys.float_info.max]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_of_many_numbers_near_the_limit_have_a_finite_sum(dtype):
    top = np.finfo(dtype).maxexp // 2
    for exponent in range(top - 20, top + 3):
        a = np.full(10_000, 0.9 * 2.0**exponent, dtype)
        scaled = a * primitives.squaring_scale(a)
        with np.errstate(over="raise"):
            assert np.isfinite(np.sum(scaled * scaled, dtype=dtype)) and scaled.min() > 0


def test_a_method_that_gives_its_x_another_array_is_known():
    def rebinding(self, x):
        x = x - 1
        return x

    def in_place(self, x):
        x -= 1

    assert rebinds_parameter(rebinding) and not rebinds_parameter(in_place)
    assert not rebinds_parameter(lambda self: self)


def test_names_of_two_letters_are_words_too():
    kind = type("MySGD", (ss.SGD,), {})
    assert snake_case(kind) == "my_sgd"


def test_as_many_axes_as_there_are_slots_for():
    ss.SM3(np.zeros((1,) * factored._AXES), lr=0.1)
    with pytest.raises(ValueError, match="axes; reshape it"):
        ss.SM3(np.zeros((1,) * (factored._AXES + 1)), lr=0.1)


def test_the_preconditioner_is_updated_less_and_less_often():
    assert kron._annealed(0) == 1.0 and kron._annealed(10**6) == 0.03
    values = {"max_size_triangular": 8, "min_ndim_triangular": 2}
    shapes = {"one_diag": [True, False], "smart_one_diag": [True, True], "all_diag": [False] * 2}
    for mode, triangular in shapes.items():
        assert kron._triangular((4, 4), {**values, "memory_save_mode": mode}) == triangular


@pytest.mark.parametrize("rule", [ss.LARS, ss.LAMB, ss.NovoGrad])
def test_no_gradient_is_the_same_in_both_statements(rule):
    def ran():
        x = np.array([3.0, -4.0])
        opt = rule(x, lr=0.1, weight_decay=0.1)
        for gradient in (np.zeros(2), np.zeros(2), np.array([1e-3, 0.0])):
            opt.step(gradient)
            yield x.copy(), opt.lr_effective

    with numpy_rule(rule):
        stated = list(ran())
    for (x, rate), (y, other) in zip(ran(), stated, strict=True):
        assert x.tobytes() == y.tobytes() and rate == other


def test_the_rate_before_a_gradient_is_the_rate():
    opt = ss.NovoGrad(np.zeros(2), lr=0.25)
    with numpy_rule(ss.NovoGrad):
        stated = ss.NovoGrad(np.zeros(2), lr=0.25)
        stated.step(np.zeros(2))
        assert stated.lr_effective == {"params": 0.25}
    opt.step(np.zeros(2))
    assert opt.lr_effective == {"params": 0.25}


def test_a_counter_of_the_loss_scale_ends_at_the_largest_count():
    opt = ss.SGD(np.zeros(2, np.float16), lr=0.1, loss_scale="dynamic")
    saved = opt.state_dict()
    opt.load_state_dict({**saved, "loss_scale": [2.0, LARGEST_COUNT]})
    with pytest.raises(ValueError, match="loss_scale must be"):
        opt.load_state_dict({**saved, "loss_scale": [2.0, LARGEST_COUNT + 1]})


def test_an_average_that_holds_half_of_the_start_is_no_warning():
    for decay, steps, told in ((0.5, 1, False), (0.51, 1, True), (0.75, 3, False)):
        x = np.ones(2)
        average = ss.EMA(ss.SGD(x, lr=0.1), decay=decay)
        for _ in range(steps):
            average.step(np.ones(2))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with average.averaged():
                pass
        assert bool(said) == told


def test_a_run_that_climbed_is_refused_by_what_looks_for_a_descent():
    class Ran(dict):
        meta = {"options": ["SGD", ["SGD", {"maximize": True}]]}  # noqa: RUF012

    with pytest.raises(ValueError, match="maximize"):
        ss.diagnose(Ran(loss=[1.0, 0.5]))


def test_an_optimizer_may_have_an_empty_array_of_its_own():
    params = {"x": np.ones(2)}
    refuse_other_arrays("f", ss.SGD({"x": params["x"], "none": np.zeros(0)}, lr=0.1), params)
    with pytest.raises(ValueError, match="over other arrays"):
        refuse_other_arrays("f", ss.SGD({"x": np.ones(2), "none": np.zeros(0)}, lr=0.1), params)

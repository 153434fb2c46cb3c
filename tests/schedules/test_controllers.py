"""Plateau and Greedy: when they act, how far, and that they resume."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepsize as ss

metrics = st.lists(st.one_of(st.floats(-2, 2), st.sampled_from([math.nan, math.inf, 0.0])))
settings = settings(max_examples=100, deadline=None)


def optimizer(lr=0.1):
    return ss.SGD({"w": np.zeros(3)}, lr=lr)


def reference(values, mode, patience, threshold, threshold_mode, cooldown):
    """torch's ReduceLROnPlateau, line by line, with the margin taken from the size of the best."""
    sign = 1 if mode == "min" else -1
    best, bad, wait, cuts = math.inf, 0, 0, []
    for value in values:
        value *= sign
        size = abs(best) if threshold_mode == "rel" else 1.0
        better = value < best if math.isinf(best) else value < best - threshold * size
        best, bad = (value, 0) if better else (best, bad + 1)
        if wait > 0:
            wait, bad = wait - 1, 0
        cuts.append(bad > patience)
        if bad > patience:
            wait, bad = cooldown, 0
    return cuts


@settings
@given(
    metrics,
    st.sampled_from(["min", "max"]),
    st.integers(0, 4),
    st.sampled_from([0.0, 1e-4, 0.3]),
    st.sampled_from(["rel", "abs"]),
    st.integers(0, 3),
)
def test_plateau_cuts_when_torch_does(values, mode, patience, threshold, threshold_mode, cooldown):
    opt = optimizer()
    plateau = ss.Plateau(opt, mode, 0.5, patience, threshold, threshold_mode, cooldown)
    cuts = [plateau.update(value) for value in values]
    assert cuts == reference(values, mode, patience, threshold, threshold_mode, cooldown)
    assert opt.lr_scale == 0.5 ** sum(cuts)


def test_negative_metrics_improve_downwards():
    plateau = ss.Plateau(optimizer(), patience=0, threshold=0.1)
    # best * (1 - threshold), torch's rule, would ask a value above the best one to improve on it.
    assert not plateau.update(-1.0)
    assert plateau.update(-1.05)
    assert not plateau.update(-1.2) and plateau.best == -1.2


def test_plateau_multiplies_a_schedule_and_stops_at_min_lr():
    opt = optimizer(lr=ss.schedules.constant(0.1) * 1.0)
    plateau = ss.Plateau(opt, patience=0, factor=0.1, min_lr=0.004)
    plateau.update(1.0)
    assert plateau.update(1.0) and opt.lr == pytest.approx(0.01, rel=1e-15)
    assert plateau.update(1.0) and opt.lr == pytest.approx(0.004, rel=1e-15)
    assert not plateau.update(1.0) and opt.lr == pytest.approx(0.004, rel=1e-15)


def test_a_rate_below_min_lr_is_left_alone():
    opt = optimizer(lr=1e-5)
    plateau = ss.Plateau(opt, patience=0, min_lr=1e-3)
    assert [plateau.update(1.0) for _ in range(3)] == [False] * 3
    assert opt.lr == 1e-5


def test_groups_keep_their_proportions():
    params = {"a": np.zeros(2), "b": np.zeros(2)}
    opt = ss.SGD(params, lr=0.1, groups=[ss.group("b", lr=0.01)])
    plateau = ss.Plateau(opt, patience=0, factor=0.1, min_lr=0.005)
    plateau.update(1.0)
    assert plateau.update(1.0)
    assert sorted(opt.lr) == pytest.approx([0.005, 0.05], rel=1e-15)


def test_restore_best_puts_the_parameters_back():
    opt = optimizer()
    plateau = ss.Plateau(opt, patience=1, restore_best=True)
    w = opt.params["w"]
    for step, loss in enumerate([3.0, 1.0, 2.0, 2.0]):
        w[...] = step
        cut = plateau.update(loss)
        assert cut == (step == 3)
    assert opt.params["w"] is w and (w == 1.0).all()


@settings
@given(metrics, st.integers(0, 20), st.booleans())
def test_plateau_resumes(values, at, restore_best):
    def make():
        opt = optimizer()
        return opt, ss.Plateau(opt, patience=1, cooldown=1, restore_best=restore_best)

    (opt, whole), (other, first) = make(), make()
    expected = [whole.update(value) for value in values]
    before = [first.update(value) for value in values[:at]]
    resumed = ss.Plateau(other, patience=1, cooldown=1, restore_best=restore_best)
    resumed.load_state_dict(first.state_dict())
    assert before + [resumed.update(value) for value in values[at:]] == expected
    assert opt.lr_scale == other.lr_scale


@settings
@given(metrics, st.integers(0, 20))
def test_greedy_resumes(values, at):
    def make(opt):
        return ss.schedules.Greedy(opt, patience=1, cooldown=1, warmup=2, window=3)

    opt, other = optimizer(), optimizer()
    whole, first = make(opt), make(other)
    expected = [whole.update(value) for value in values]
    before = [first.update(value) for value in values[:at]]
    resumed = make(other)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + [resumed.update(value) for value in values[at:]] == expected
    assert opt.lr_scale == other.lr_scale


def test_greedy_goes_up_and_down_within_its_limits():
    opt = optimizer(lr=0.1)
    greedy = ss.schedules.Greedy(opt, factor=0.5, patience=0, min_lr=0.03, max_lr=0.3)
    losses = [4.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]
    seen = [(greedy.update(loss), round(opt.lr, 12)) for loss in losses]
    assert seen == [
        (True, 0.2), (True, 0.3), (False, 0.3), (True, 0.15),
        (True, 0.075), (True, 0.0375), (True, 0.03), (True, 0.06),
    ]  # fmt: skip


def test_greedy_waits_after_a_change():
    opt = optimizer(lr=1.0)
    greedy = ss.schedules.Greedy(opt, factor=0.5, patience=0, cooldown=2, warmup=2)
    changes = [greedy.update(loss) for loss in [9.0, 8.0, 7.0, 6.0, 6.0, 6.0, 6.0, 6.0]]
    assert changes == [True, False, False, True, True, False, False, True]


BAD = [
    ({"mode": "lower"}, "Plateau: mode must be one of 'min', 'max', got 'lower'"),
    ({"factor": 1.0}, "Plateau: factor must be in (0, 1), got 1.0"),
    ({"patience": -1}, "Plateau: patience must be a whole number >= 0, got -1"),
    ({"patience": 1.5}, "Plateau: patience must be a whole number >= 0, got 1.5"),
    ({"threshold": math.nan}, "Plateau: threshold must be a finite number >= 0, got nan"),
    ({"cooldown": -1}, "Plateau: cooldown must be a whole number >= 0, got -1"),
    ({"min_lr": -1}, "Plateau: min_lr must be a finite number >= 0, got -1"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD)
def test_bad_arguments(keywords, message):
    with pytest.raises(ValueError) as caught:
        ss.Plateau(optimizer(), **keywords)
    assert str(caught.value) == message


def test_bad_use():
    with pytest.raises(
        TypeError, match=r"Plateau: opt must be an optimizer of stepsize or of torch, got 3"
    ):
        ss.Plateau(3)
    with pytest.raises(TypeError, match=r"Plateau: metric must be a number, got None"):
        ss.Plateau(optimizer()).update(None)
    with pytest.raises(ValueError, match=r"Greedy: max_lr must be above min_lr=1\.0, got 0\.5"):
        ss.schedules.Greedy(optimizer(), min_lr=1.0, max_lr=0.5)
    with pytest.raises(ValueError, match=r"load_state_dict: cooldown_left is missing; it holds"):
        ss.Plateau(optimizer()).load_state_dict({"best": 1.0})


@pytest.mark.parametrize("kind", [np.asarray, np.float32, np.float64, int])
@pytest.mark.parametrize("make", [ss.Plateau, ss.schedules.Greedy])
def test_a_metric_is_any_single_number(make, kind):
    one, other = make(optimizer(), patience=0), make(optimizer(), patience=0)
    for metric in (3, 2, 2, 1, 1):
        assert one.update(kind(metric)) == other.update(float(metric))
    assert one.opt.lr == other.opt.lr
    for bad in ("1", None, np.ones(1), np.True_):
        with pytest.raises(TypeError, match="metric must be a number"):
            one.update(bad)


def broken(state):
    """State dicts with one thing wrong."""
    yield from (None, [], {}, "x", {**state, "more": 1})
    for key in state:
        yield {k: v for k, v in state.items() if k != key}
        for value in ("x", None, math.nan, [1], -1, 1.5, True, {}):
            right = {"best": (-1, 1.5), "recent": ([1],), "best_params": (None,)}
            if value not in right.get(key, ()):
                yield {**state, key: value}


@pytest.mark.parametrize(
    "make",
    [
        lambda: ss.Plateau(optimizer(), restore_best=True),
        lambda: ss.Plateau(optimizer()),
        lambda: ss.schedules.Greedy(optimizer(), window=3),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(make):
    controller = make()
    for metric in (3.0, 2.0, 2.5):
        controller.update(metric)
    before = repr(controller.state_dict())
    for state in broken(controller.state_dict()):
        with pytest.raises(ValueError, match="load_state_dict"):
            controller.load_state_dict(state)
        assert repr(controller.state_dict()) == before
    controller.load_state_dict(controller.state_dict())
    assert repr(controller.state_dict()) == before

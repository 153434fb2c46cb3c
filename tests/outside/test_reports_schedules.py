"""Public bug reports about schedules, each tried here."""

import warnings

import numpy as np
import pytest

import stepsize as ss
from reports import report

S = ss.schedules


def steps(opt, n):
    for _ in range(n):
        opt.step(np.ones(2))


@report(
    "pytorch/pytorch#29697",
    "after loading, a stepwise scheduler trusts the rate it finds in the optimizer instead of "
    "computing the rate of the step",
)
def test_a_rate_belongs_to_a_step_and_not_to_what_was_there_before():
    schedule = S.multistep(0.1, [3, 6], 0.1)
    opt = ss.SGD(np.zeros(2), lr=schedule)
    steps(opt, 7)
    again = ss.SGD(np.zeros(2), lr=schedule)
    again.lr = 5.0
    again.load_state_dict(opt.state_dict())
    assert again.lr == schedule(7) == pytest.approx(0.001)


@report(
    "pytorch/pytorch#60265",
    "a cosine schedule resumed in the middle of a run has a discontinuity there",
)
def test_a_resumed_cosine_is_continuous():
    schedule = S.cosine(1e-3, 0, 100)
    whole, first = ss.Adam(np.zeros(2), lr=schedule), ss.Adam(np.zeros(2), lr=schedule)
    steps(whole, 46)
    steps(first, 45)
    second = ss.Adam(np.zeros(2), lr=schedule)
    second.load_state_dict(first.state_dict())
    assert second.lr == schedule(45)
    steps(second, 1)
    assert second.lr == whole.lr


@report(
    "pytorch/pytorch#65342",
    "making a scheduler resets the optimizer's rate to its initial value, and loading the "
    "scheduler's state does not bring it back",
)
def test_the_order_of_making_and_loading_does_not_matter():
    schedule = S.cosine(0.1, 0, 1000)
    opt = ss.SGD(np.zeros(2), lr=schedule)
    steps(opt, 400)
    state = opt.state_dict()
    late = ss.SGD(np.zeros(2), lr=0.1)
    late.load_state_dict(state)
    late.lr = schedule
    early = ss.SGD(np.zeros(2), lr=schedule)
    early.load_state_dict(state)
    assert late.lr == early.lr == opt.lr == schedule(400)


@report(
    "pytorch/pytorch#162591",
    "a sequence of schedulers resumed after its first milestone uses the first scheduler's rate",
)
def test_a_join_resumed_after_its_boundary_is_in_its_second_part():
    schedule = S.constant(0.1).then(S.exponential(1.0, 0.9), at=3)
    opt = ss.SGD(np.zeros(2), lr=schedule)
    steps(opt, 4)
    again = ss.SGD(np.zeros(2), lr=schedule)
    again.load_state_dict(opt.state_dict())
    assert again.lr == pytest.approx(0.9)


@report(
    "pytorch/pytorch#52911",
    "loading a cyclic scheduler's state keeps the old decay although the state shows the new one",
)
@report(
    "tensorflow/addons#1623",
    "the decay of a cyclical rate is left out when it is serialized",
)
def test_a_cyclic_schedule_read_back_has_its_decay():
    schedule = S.cyclic(0.01, 0.1, 5, mode="exp_range", gamma=0.9)
    again = ss.Schedule.from_dict(schedule.to_dict())
    assert again == schedule and (again.values(60) == schedule.values(60)).all()
    assert schedule.values(60)[45:].max() < 0.02


@report(
    "pytorch/pytorch#91765",
    "the last step of a one-cycle schedule jumps back up",
)
def test_one_cycle_falls_to_its_last_step():
    values = S.one_cycle(0.01, 50).values(50)
    peak = values.argmax()
    assert (np.diff(values[peak:]) < 0).all() and values[-1] == values.min()
    assert values[-1] == pytest.approx(0.01 / 25 / 1e4)


@report(
    "pytorch/pytorch#32898",
    "a one-cycle schedule without a rising part (pct_start=0) fails with an unbound variable",
)
def test_one_cycle_without_a_rise():
    values = S.one_cycle(0.01, 50, pct_start=0.0).values(50)
    assert values[0] == pytest.approx(0.01, rel=2e-3) and (np.diff(values) < 0).all()


@report(
    "pytorch/pytorch#38170",
    "one step past the end of a one-cycle schedule raises an error with a wrong number in it",
)
@report(
    "flairNLP/flair#2954",
    "a run that becomes longer than its one-cycle schedule ends with an error",
)
def test_past_its_end_a_schedule_holds_its_last_value():
    schedule = S.one_cycle(0.01, 50)
    assert schedule(50) == schedule(49) == schedule(10_000)
    opt = ss.SGD(np.zeros(2), lr=schedule)
    steps(opt, 60)
    assert opt.lr == schedule(49)


@report(
    "CodefyUI/CodefyUI#244",
    "a one-cycle schedule meant in steps is followed in epochs: the rate never falls, no warning",
)
def test_a_schedule_much_longer_than_its_run_is_told():
    with pytest.warns(S.ScheduleWarning):
        S.check_run(S.one_cycle(0.01, 1000), 50)


@report(
    "pytorch/pytorch#22542",
    "warm restarts given a float multiplier raise NameError in place of the message",
)
@report(
    "pytorch/pytorch#95122",
    "restarts that become more frequent (a multiplier below 1) are refused as not an integer",
    "refused by name: a multiplier below 1 has no end of restarts",
)
def test_the_multiplier_of_restarts_is_a_number_and_checked_by_name():
    assert S.cosine_restarts(0.1, 10, multiplier=2.0)(10) == 0.1
    with pytest.raises(ValueError, match=r"multiplier.*0\.5"):
        S.cosine_restarts(0.1, 10, multiplier=0.5)


@report(
    "pytorch/pytorch#23480",
    "warm restarts reach their restart one step late when stepped without an epoch",
)
def test_restarts_happen_at_their_step():
    values = S.cosine_restarts(0.5, 1, multiplier=2).values(9)
    expected = [0.5, 0.5, 0.25, 0.5, 0.4267767, 0.25, 0.0732233, 0.5, 0.4809699]
    assert values == pytest.approx(expected, abs=1e-7)


@report(
    "pytorch/pytorch#196243",
    "a sequence of one scheduler around a composite scheduler changes its values",
)
def test_composition_of_one_part_changes_nothing():
    inner = S.constant(0.5).then(S.constant(0.2), at=2)
    for outer in (inner.shift(0), inner * 1, S.constant(9.0).then(inner, at=0), inner + 0):
        assert (outer.values(20) == inner.values(20)).all()


@report(
    "pytorch/pytorch#67586",
    "a sequence whose first part is exponential has wrong values in its second part",
)
def test_each_part_of_a_join_starts_at_its_own_start():
    joined = S.exponential(0.1, 0.5).then(S.exponential(0.1, 0.9), at=5)
    expected = [0.1 * 0.5**k for k in range(5)] + [0.1 * 0.9**k for k in range(10)]
    assert joined.values(15) == pytest.approx(expected, rel=1e-14)


@report(
    "huggingface/pytorch-image-models#1242",
    "after the warm-up the cosine is already some way down, so the rate jumps",
)
@report(
    "microsoft/Swin-Transformer#277",
    "a visible drop of the rate at the end of a long warm-up",
)
@report(
    "lindermanlab/S5#11",
    "the cosine counts the steps of the warm-up too: it starts late in its curve and ends early",
)
@report(
    "facebookresearch/fairchem#1967",
    "the schedule decays during the warm-up, with a sharp drop at its end",
)
def test_a_warm_up_ends_at_the_peak_and_the_decay_starts_there():
    schedule = S.warmup_cosine(1e-3, 20, 300, init=1e-5, end=1e-5)
    assert schedule(0) == 1e-5 and schedule(20) == 1e-3 and schedule(300) == 1e-5
    changes = np.abs(np.diff(schedule.values(301)))
    assert changes.max() < 1.001 * (1e-3 - 1e-5) / 20
    assert schedule.values(301).argmax() == 20


@report(
    "deepspeedai/DeepSpeed#5287",
    "a warm-up and cosine computes steps 0 and 1 wrongly",
)
def test_the_first_two_steps_of_a_warm_up():
    schedule = S.warmup_cosine(1.0, 10, 100)
    assert schedule(0) == 0 and schedule(1) == pytest.approx(0.1, rel=1e-15)
    assert S.warmup_cosine(1.0, 0, 100)(0) == 1.0


@report(
    "Tencent-Hunyuan/UniRL#223",
    "a cosine shorter than the run climbs again after it has reached 0",
)
def test_a_cosine_stays_down():
    values = S.cosine(1.0, 0.0, 10).values(40)
    assert (values[10:] == 0).all()


@report(
    "keras-team/keras#3991",
    "without a cooldown, reducing on a plateau lowers the rate at every epoch after the first time",
)
@report(
    "fastai/fastai#4046",
    "reducing on a plateau announces a lower rate and does not set it",
)
def test_each_reduction_waits_for_its_patience():
    opt = ss.SGD(np.zeros(2), lr=1.0)
    plateau = ss.Plateau(opt, patience=4, cooldown=0, factor=0.5)
    reduced = [k for k in range(30) if plateau.update(1.0)]
    assert len(reduced) >= 4 and (np.diff(reduced) >= 4).all()
    assert opt.lr == 0.5 ** len(reduced)


@report(
    "tensorflow/tensorflow#36612",
    "reducing on a plateau crashes when the rate is a schedule",
)
def test_a_plateau_below_a_schedule():
    schedule = S.exponential(0.1, 0.99)
    opt = ss.SGD(np.zeros(2), lr=schedule)
    plateau = ss.Plateau(opt, patience=1, factor=0.1)
    for _ in range(6):
        steps(opt, 1)
        plateau.update(1.0)
    assert opt.lr_scale < 1 and opt.lr == schedule(6) * opt.lr_scale


@report(
    "PaulRitsche/DeepACSA#36",
    "a lowest rate equal to the rate itself: the reduction on a plateau never happens, silently",
    "documented: min_lr is a lower bound; update() says False",
)
def test_a_plateau_at_its_lowest_rate_says_that_nothing_was_lowered():
    opt = ss.SGD(np.zeros(2), lr=0.1)
    plateau = ss.Plateau(opt, patience=1, min_lr=0.1)
    assert not any(plateau.update(1.0) for _ in range(10)) and opt.lr == 0.1


@report(
    "tensorflow/tensorflow#51399",
    "setting the rate fails when it is a schedule",
)
def test_a_number_takes_the_place_of_a_schedule():
    opt = ss.Adam(np.zeros(2), lr=S.exponential(0.1, 0.96, 1000))
    steps(opt, 3)
    opt.lr = 0.01
    steps(opt, 3)
    assert opt.lr == 0.01


@report(
    "tensorflow/tensorflow#41639",
    "a schedule together with progress output ends in a TypeError",
)
def test_progress_is_shown_under_a_schedule(capsys):
    params = {"w": np.zeros(2)}

    def value_and_grad(params, batch):
        return float((params["w"] ** 2).sum()), {"w": 2 * params["w"] + 1}

    opt = ss.SGD(params, lr=S.exponential(0.1, 0.9))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ss.fit(value_and_grad, params, opt, [np.zeros(1)] * 4, epochs=2, progress=True)
    assert opt.step_count == 8


@report(
    "google-deepmind/optax#1426",
    "weight decay in AdamW takes no schedule",
)
def test_weight_decay_takes_a_schedule():
    x = np.ones(2)
    opt = ss.AdamW(x, lr=0.1, weight_decay=S.linear(0.5, 0.0, 2))
    opt.step(np.zeros(2))
    assert (x == 1 - 0.1 * 0.5).all()
    opt.step(np.zeros(2))
    assert x == pytest.approx((1 - 0.05) * (1 - 0.1 * 0.25))
    opt.step(np.zeros(2))
    assert x == pytest.approx((1 - 0.05) * (1 - 0.1 * 0.25))

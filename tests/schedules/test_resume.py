"""Schedules inside an optimizer: swapped at any time, and resumed in the middle."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import stepsize as ss
from schedule_strategies import schedules

S = ss.schedules


def optimizer(lr, **keywords):
    return ss.SGD({"w": np.zeros(3)}, lr=lr, **keywords)


def rates(opt, n):
    """The rates the next `n` updates use, each read before its update and seen in what it did."""
    seen = []
    for _ in range(n):
        opt.params["w"][...] = 0.0
        seen.append(opt.lr)
        opt.step({"w": np.full(3, -1.0)})
        assert (opt.params["w"] == seen[-1]).all()
    return seen


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(schedules)
def test_a_resumed_run_uses_the_same_rates(schedule):
    if schedule.values(40).max() < 1e6:
        whole = optimizer(schedule)
        expected = rates(whole, 40)
        assert expected == schedule.values(40).tolist()
        first = optimizer(schedule)
        rates(first, 17)
        resumed = optimizer(0.5)  # the schedule itself comes back with the state
        resumed.load_state_dict(first.state_dict())
        assert rates(resumed, 23) == expected[17:]


def test_a_schedule_is_swapped_at_any_time():
    opt = optimizer(S.constant(0.1))
    assert rates(opt, 3) == [0.1] * 3
    opt.lr = S.linear(1.0, 0.0, 10)
    assert rates(opt, 2) == [0.7, 0.6]  # steps go on counting
    opt.lr = S.linear(1.0, 0.0, 10).resume_at(5, new_end=25)
    assert rates(opt, 2) == pytest.approx([0.5, 0.475])
    opt.lr = 0.25
    assert rates(opt, 1) == [0.25]


def test_a_longer_run_is_continuous_where_it_was_decided():
    for schedule in (S.warmup_cosine(0.1, 10, 100), S.wsd(0.1, 10, 60, 30), S.one_cycle(0.1, 100)):
        longer = schedule.resume_at(50, new_end=400)
        assert longer(50) == schedule(50)
        assert (longer.values(51) == schedule.values(51)).all()
        assert abs(longer(50.001) - longer(50)) < 1e-4 * 0.1
        assert longer(400) == schedule(schedule.length)


def test_a_branch_from_the_stable_part():
    trunk = S.wsd(0.1, 10, 10_000, 1000)
    branch = trunk.then(S.linear(trunk(500), 0.0, 200), at=500)
    assert branch(500) == trunk(500) == 0.1 and branch(600) == 0.05 and branch(700) == 0.0


def test_a_second_warmup_after_a_resume():
    plan = S.cosine(0.1, 0.0, 1000)
    rewarmed = plan.then(plan.shift(-600).warmup(50), at=600)
    assert rewarmed(600) == 0.0 and rewarmed(650) == plan(600) and rewarmed(1050) == plan(1000)


def test_momentum_is_a_schedule_too():
    lr, momentum = S.one_cycle_momentum(0.1, 20)
    opt = optimizer(lr, momentum=momentum)
    for step in range(20):
        assert opt.hyperparams["momentum"] == momentum(step) and opt.lr == lr(step)
        opt.step({"w": np.ones(3)})

"""What rules of two passes promise besides their numbers: effective rates, losses, groups."""

import numpy as np
import pytest

import stepsize as ss

PARAMETER_FREE = (ss.DoG, ss.DoWG, ss.DAdaptSGD, ss.DAdaptAdam, ss.Prodigy)
WITH_LOSS = (ss.PolyakSGD, ss.MoMo, ss.MoMoAdam, ss.ScheduleFreePlus)


def nest():
    return {"a": np.linspace(-1, 1, 5), "b": np.full((2, 2), 3.0)}


@pytest.mark.parametrize("cls", [ss.SGD, ss.Adam])
def test_without_adaptation_the_effective_rate_is_the_rate(cls):
    optimizer = cls(nest(), lr=ss.schedules.linear(0.5, 0.1, 4))
    optimizer.step(nest())
    assert optimizer.lr_effective == optimizer.lr == 0.4


@pytest.mark.parametrize("cls", [ss.DoG, ss.DoWG, ss.PolyakSGD])
def test_the_effective_rate_multiplies_the_gradient(cls):
    x = nest()
    optimizer = cls(x, lr=0.7)
    for _ in range(3):
        before, grads = ss.arrays.copy(x), ss.arrays.copy(x)
        optimizer.step(grads, loss=2.0)
        rate = optimizer.lr_effective
        assert rate > 0
        for name in x:
            np.testing.assert_allclose(x[name], before[name] - rate * grads[name], rtol=1e-4)


def test_rules_by_leaf_report_a_rate_for_each():
    x = {"a": np.array([3.0, 4.0]), "b": np.array([1.0])}
    optimizer = ss.LARS(x, lr=2.0, trust_coefficient=0.1, groups=[ss.group("b", adapt=False)])
    optimizer.step({"a": np.array([0.0, 0.5]), "b": np.array([7.0])})
    assert optimizer.lr_effective == pytest.approx({"a": 2.0 * 0.1 * 5 / 0.5, "b": 2.0})


@pytest.mark.parametrize("cls", PARAMETER_FREE)
def test_groups_multiply_the_rate(cls):
    x = nest()
    optimizer = cls(x, groups=[ss.group("b", lr=0.25)])
    for _ in range(20):
        optimizer.step(ss.arrays.copy(x))
    first, second = optimizer.lr_effective
    assert second == pytest.approx(first / 4) and first > 0


@pytest.mark.parametrize("cls", PARAMETER_FREE)
def test_one_group_or_two_alike_are_the_same(cls):
    one, two = nest(), nest()
    single, double = cls(one), cls(two, groups=[ss.group("b", lr=1.0)])
    for _ in range(5):
        single.step(ss.arrays.copy(one))
        double.step(ss.arrays.copy(two))
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("cls", WITH_LOSS)
def test_a_missing_or_infinite_loss_is_refused_and_changes_nothing(cls):
    x = nest()
    optimizer = cls(x)
    with pytest.raises(TypeError, match=r"loss is missing; the rule needs it, step\(grads, loss="):
        optimizer.step(nest())
    with pytest.raises(ValueError, match="loss is nan"):
        optimizer.step(nest(), loss=float("nan"))
    assert optimizer.step_count == 0
    assert all(np.array_equal(x[name], leaf) for name, leaf in nest().items())


@pytest.mark.parametrize("cls", [*PARAMETER_FREE, ss.LDoG, ss.COCOB])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_finds_its_rate_at_any_scale(cls, scale):
    steep = np.array([1.0, 0.3, 0.1])
    x = scale * np.array([1.0, -2.0, 3.0])
    first = np.abs(x).max()
    # D-Adaptation's d / |g0| for SGD is too long a step where the curvature varies.
    keywords = {ss.COCOB: {"alpha": 1.0}, ss.DAdaptSGD: {"lr": 0.3}}
    optimizer = cls(x, **keywords.get(cls, {}))
    for _ in range(3000):
        optimizer.step(steep * x)
    assert np.abs(x).max() < 0.2 * first

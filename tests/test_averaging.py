"""Rules that train at one point and answer with another keep the two apart."""

import pickle

import numpy as np
import pytest

import stepsize as ss
from cases import RULES, random_grads, random_nest, snapshot
from stepsize.optimizers.averaging import AveragingOptimizer

AVERAGING = [cls for cls in RULES if issubclass(cls, AveragingOptimizer)]
every_rule = pytest.mark.parametrize("cls", AVERAGING)


def make(cls, dtype=np.float32, layout=np.array):
    params = random_nest({"w": (5, 7), "b": 7, "scalar": (), "empty": (0, 2)}, dtype)
    params["w"] = layout(params["w"])
    return cls(params, lr=0.01, **({"t0": 2.0} if cls is ss.ASGD else {}))


def train(optimizer, steps):
    for seed in range(steps):
        optimizer.step(random_grads(optimizer.params, seed))


def bits(nest):
    return {name: leaf.tobytes() for name, leaf in nest.items()}


def test_there_are_averaging_rules():
    names = {cls.__name__ for cls in AVERAGING}
    assert names == {"ASGD", "ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD"}


@every_rule
def test_before_the_first_step_the_average_is_the_start(cls):
    optimizer = make(cls)
    assert bits(optimizer.eval_params()) == bits(optimizer.params)
    optimizer.params["b"][...] = 5  # also if the start changes after construction
    assert np.all(optimizer.eval_params()["b"] == 5)


@every_rule
@pytest.mark.parametrize("layout", [np.array, np.asfortranarray])
def test_averaged_swaps_in_place_and_back(cls, layout):
    optimizer = make(cls, layout=layout)
    train(optimizer, 10)
    training, average = snapshot(optimizer), bits(optimizer.eval_params())
    leaf = optimizer.params["w"]
    assert bits(optimizer.params) != average
    with optimizer.averaged() as params:
        assert params is optimizer.params and params["w"] is leaf
        assert bits(params) == average == bits(optimizer.eval_params())
    assert snapshot(optimizer) == training


@every_rule
def test_the_average_is_a_copy_in_the_dtype_of_the_parameters(cls):
    optimizer = make(cls)
    train(optimizer, 6)
    before = snapshot(optimizer)
    average = optimizer.eval_params()
    assert all(leaf.dtype == np.float32 for leaf in average.values())
    for leaf in average.values():
        leaf[...] = 7
    assert snapshot(optimizer) == before


@every_rule
def test_while_swapped_nothing_that_needs_the_training_point_works(cls, tmp_path):
    optimizer = make(cls)
    train(optimizer, 6)
    saved, before = optimizer.state_dict(), snapshot(optimizer)
    grads = random_grads(optimizer.params, 9)
    with optimizer.averaged():
        for forbidden in (
            lambda: optimizer.step(grads),
            lambda: optimizer.save(tmp_path / "optimizer"),
            lambda: optimizer.load_state_dict(saved),
            lambda: optimizer.clone(ss.arrays.copy(optimizer.params)),
            lambda: pickle.dumps(optimizer),
            lambda: optimizer.averaged().__enter__(),
        ):
            with pytest.raises(RuntimeError, match=f"{cls.__name__}: .* leave the `with"):
                forbidden()
    assert snapshot(optimizer) == before
    optimizer.step(grads)


@every_rule
def test_an_error_inside_brings_the_training_point_back(cls):
    optimizer = make(cls)
    train(optimizer, 6)
    before = snapshot(optimizer)
    with pytest.raises(KeyError), optimizer.averaged():
        raise KeyError("evaluation failed")
    assert snapshot(optimizer) == before


@every_rule
def test_saving_keeps_training_point_and_average(cls, tmp_path):
    optimizer = make(cls)
    train(optimizer, 10)
    ss.save(tmp_path / "both", optimizer.params, optimizer)
    other = make(cls)
    ss.load(tmp_path / "both", other.params, other)
    assert snapshot(other) == snapshot(optimizer)
    assert bits(other.eval_params()) == bits(optimizer.eval_params())


def test_with_one_weight_the_average_is_the_mean_of_the_base_points():
    x = np.array([1.0, -2.0])
    optimizer = ss.ScheduleFreeSGD(x, lr=0.1, weight_lr_power=0.0)
    bases = []
    for k in range(20):
        optimizer.step(np.array([1.0 + k, -0.5 * k]))
        bases.append(optimizer.state["params"]["z"].copy())
    # Rounding of twenty interpolations.
    np.testing.assert_allclose(optimizer.eval_params(), np.mean(bases, axis=0), rtol=1e-13)


def test_schedule_free_rules_refuse_what_cannot_work():
    x = np.zeros(2)
    with pytest.raises(ValueError, match=r"momentum must be in \(0, 1\)"):
        ss.ScheduleFreeSGD(x, momentum=0.0)
    with pytest.raises(ValueError, match=r"betas\[0\] must be in \(0, 1\)"):
        ss.ScheduleFreeAdamW(x, betas=(0.0, 0.999))
    with pytest.raises(ValueError, match=r"betas\[1\] must be above 0.6"):
        ss.ScheduleFreeRAdam(x, betas=(0.9, 0.5))

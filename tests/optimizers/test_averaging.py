"""Rules that train at one point and answer with another keep the two apart."""

import pickle

import numpy as np
import pytest

import stepsize as ss
from cases import EDGES, RULES, Case, random_grads, random_nest, snapshot
from stepsize import _core
from stepsize.optimizers.half import to_float32
from stepsize.optimizers.primitives import lerp
from stepsize.optimizers.rules.averaging import AveragingOptimizer

AVERAGING = [cls for cls in RULES if issubclass(cls, AveragingOptimizer)]
every_rule = pytest.mark.parametrize("cls", AVERAGING)


def make(cls, dtype=np.float32, layout=np.array):
    params = random_nest({"w": (5, 7), "b": 7, "scalar": (), "empty": (0, 2)}, dtype)
    params["w"] = layout(params["w"])
    return cls(params, lr=0.01, **({"t0": 2.0} if cls is ss.ASGD else {}))


def train(optimizer, steps):
    for seed in range(steps):
        optimizer.step(random_grads(optimizer.params, seed), loss=1.0)


def bits(nest):
    return {name: leaf.tobytes() for name, leaf in nest.items()}


def test_there_are_averaging_rules():
    names = {cls.__name__ for cls in AVERAGING}
    free = {f"ScheduleFree{kind}" for kind in ("AdamW", "Plus", "RAdam", "SGD")}
    assert names == free | {"ASGD"}


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
            lambda: optimizer.step(grads, loss=1.0),
            lambda: optimizer.save(tmp_path / "optimizer"),
            lambda: optimizer.load_state_dict(saved),
            lambda: optimizer.clone(ss.arrays.copy(optimizer.params)),
            lambda: pickle.dumps(optimizer),
            lambda: optimizer.averaged().__enter__(),
        ):
            with pytest.raises(RuntimeError, match=f"{cls.__name__}: .* leave the `with"):
                forbidden()
    assert snapshot(optimizer) == before
    optimizer.step(grads, loss=1.0)


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


def check_average(optimizer, steps, grads_of, expected_to_follow, **step):
    """The average is the lerp of what was passed, bit for bit, in the step or after it."""
    leaf_of = dict(zip(optimizer.paths, optimizer._points, strict=True))
    expected = [np.array(to_float32(leaf)) for leaf in leaf_of.values()]
    for t in range(steps):
        share = optimizer._share()
        optimizer.step(grads_of(t), **step)
        assert optimizer.internals.engine.average_tracked == expected_to_follow
        for i, leaf in enumerate(leaf_of.values()):
            expected[i] = lerp(expected[i], to_float32(leaf), share)
        for path, found, wanted in zip(
            leaf_of, optimizer._arrays["average"], expected, strict=True
        ):
            np.testing.assert_array_equal(found, wanted, err_msg=path)


# Compiled for whole leaves; averages follow their step.
BY_LEAF = (ss.Kron, ss.Muon, ss.Shampoo, ss.SOAP)


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("wrap", (lambda opt: ss.EMA(opt, 0.9), ss.SWA), ids=("EMA", "SWA"))
def test_the_average_comes_along_with_every_rule(cls, dtype, wrap):
    params = random_nest({f"p{n}": (n,) for n in (1, 7, 255, 256, 257, 700)}, dtype)
    case = Case(cls, {"eps": 1e-3} if cls is ss.COCOB else {})
    optimizer = wrap(case.make(params))
    loss = {"loss": 1.0} if cls.needs_loss else {}
    along = case.compiled and cls not in BY_LEAF
    check_average(optimizer, 3, lambda t: random_grads(params, t), along, **loss)


@pytest.mark.parametrize("keywords", [{}, *({"state_dtype": f} for f in ("bfloat16", "int8"))])
@pytest.mark.parametrize("stats", (False, True))
@pytest.mark.parametrize("pack", (lambda params: params, ss.pack), ids=("apart", "packed"))
def test_the_average_comes_along_over_chunks_and_threads(pack, stats, keywords):
    params = pack(random_nest({f"p{n}": (n,) for n in EDGES}, np.float32))
    before = _core.thread_count()
    _core.set_thread_count(2)
    try:
        optimizer = ss.EMA(ss.AdamW(params, lr=0.1, cautious=stats, **keywords), 0.99)
        check_average(optimizer, 2, lambda t: random_grads(params, t), True, stats=stats)
    finally:
        _core.set_thread_count(before)


def test_an_average_that_cannot_come_along_follows_after_the_step():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((6, 4))
    rows = ss.RowGradient(np.array([1, 3]), np.ones((2, 4)))
    check_average(ss.EMA(ss.Adagrad(table), 0.9), 3, lambda t: rows, False)
    two = {"a": rng.standard_normal(5), "b": rng.standard_normal(5)}
    check_average(
        ss.EMA(ss.SGD(two, lr=0.1), 0.9), 3, lambda t: {"a": two["b"].copy(), "b": None}, False
    )
    half = rng.standard_normal(300).astype(np.float16)
    check_average(ss.EMA(ss.SGD(half, lr=0.1), 0.9), 3, lambda t: np.ones(300, np.float16), False)
    wide = rng.standard_normal((8, 6))[:, ::2]
    check_average(ss.EMA(ss.SGD(wide, lr=0.1), 0.9), 3, lambda t: np.ones((8, 3)), False)
    check_average(ss.EMA(ss.Adafactor(table, lr=0.1), 0.9), 3, lambda t: np.ones((6, 4)), False)


def test_after_a_refused_step_the_inner_optimizer_steps_alone():
    x = np.ones(4)
    optimizer = ss.EMA(ss.ScheduleFreeSGD(x, lr=0.5), 0.9)
    with optimizer.inner.averaged(), pytest.raises(RuntimeError, match="hold the average"):
        optimizer.step(np.ones(4))  # refused before the compiled step,
    optimizer.inner.step(np.ones(4))
    with pytest.raises(ss.NonFiniteGradientError):
        optimizer.step(np.full(4, np.nan))  # and in it
    optimizer.inner.step(np.ones(4))
    assert (optimizer._arrays["average"][0] == 1).all() and (x < 1).all()


def test_an_average_that_follows_keeps_the_signs_of_zeros():
    """e + w (x - e), as beside the step: of two negative zeros the sum is a positive one."""
    zeros = np.array([0.0, -0.0, 0.0, -0.0, -0.0, 1.0])
    points = np.array([0.0, -0.0, -0.0, 0.0, -5e-324, -0.0])
    params = {"x": zeros.copy(), "without": np.ones(2)}
    beside = {"x": zeros.copy()}
    optimizers = [ss.EMA(ss.SGD(nest, lr=0.0), 0.875) for nest in (params, beside)]
    for nest, optimizer in zip((params, beside), optimizers, strict=True):
        nest["x"][...] = points
        optimizer.step(
            {"x": np.zeros(6)} if nest is beside else {"x": np.zeros(6), "without": None}
        )
    follows, along = (optimizer.eval_params()["x"] for optimizer in optimizers)
    assert not optimizers[0].internals.engine.average_tracked
    assert optimizers[1].internals.engine.average_tracked
    assert follows.tobytes() == along.tobytes()
    assert not np.signbit(along[1])

"""A step whose gradients arrive one by one is the step that gets them together."""

import copy
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import stepsize as ss
from cases import (
    DTYPES,
    KINDS,
    RULES,
    WRAPPERS,
    Case,
    random_grads,
    random_nest,
    same_bits,
    snapshot,
)
from stepsize.optimizers.rule import Rule
from together import alike, together

SHAPES = {"w": (5, 7), "b": (7,), "scalar": (), "empty": (0, 3), "k": (2, 3, 4)}
PLAIN = {"on_nonfinite": "ignore"}


def arrive(optimizer, grads, seed, **policies):
    """One step with the gradients in an order of its own; returns what the context knows."""
    loss = 1.0 if optimizer.needs_loss else None
    flat, paths, _ = ss.arrays.flatten(grads)
    order = np.random.default_rng(seed).permutation(len(paths))
    with optimizer.arriving(loss=loss, **policies) as arrived:
        for i in order:
            assert arrived(paths[i], flat[i])
    return arrived


def step(optimizer, grads):
    optimizer.step(grads, loss=1.0 if optimizer.needs_loss else None)


def both(case, dtype, steps=4, policies=None, **keywords):
    """The same steps made whole and leaf by leaf."""
    params = random_nest(SHAPES, dtype)
    other = copy.deepcopy(params)
    whole, parts = case.make(params, **keywords), case.make(other, **keywords)
    for seed in range(steps):
        grads = random_grads(params, seed)
        step(whole, grads)
        last = arrive(parts, grads, seed, **policies or {})
        assert snapshot(whole) == snapshot(parts)
    return last


@together("dtype", DTYPES, alike)
@together("case", KINDS)
def test_the_order_of_arrival_changes_no_bit(case, dtype):
    last = both(case, dtype, **PLAIN)
    waits = case.cls.scope == "all" or "clip_norm" in case.keywords
    assert bool(last.waits) == waits


@together("case", [Case(cls) for cls in RULES])
def test_neither_does_waiting(case):
    assert both(case, np.float32, clip_norm=0.3).waits.startswith(("clip_norm", case.cls.__name__))
    assert both(case, np.float32).waits  # a gradient that is not finite would stop all


@together(
    "keywords",
    [{"state_dtype": "int8"}, {"state_dtype": "bfloat16"}, {"bounds": (-4, 4), "lr": 1.0}],
    str,
)
def test_storage_and_bounds(keywords):
    for case in (Case(ss.AdamW), Case(ss.SGD, {"momentum": 0.9})):
        assert not both(case, np.float32, **PLAIN, **keywords).waits


def test_half_complex_rows_and_groups():
    def nest():
        rng = np.random.default_rng(0)
        return {
            "h": rng.normal(size=9).astype(np.float16),
            "z": rng.normal(size=4) + 1j * rng.normal(size=4),
            "rows": rng.normal(size=(6, 3)),
        }

    made = [ss.AdamW(nest(), **PLAIN, groups=[ss.group("z", lr=0.1)]) for _ in range(2)]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        grads = {
            "h": rng.normal(size=9).astype(np.float32),
            "z": rng.normal(size=4) + 1j * rng.normal(size=4),
            "rows": ss.RowGradient([4, 1, 4], rng.normal(size=(3, 3))),
        }
        made[0].step(grads)
        with made[1].arriving() as arrived:
            for path in ("rows", "z", "h"):
                assert arrived(path, grads[path])
        assert snapshot(made[0]) == snapshot(made[1])


def test_leaves_without_a_gradient_are_left_alone():
    params = random_nest(SHAPES, np.float64)
    other = copy.deepcopy(params)
    whole, parts = ss.Adam(params, **PLAIN), ss.Adam(other, **PLAIN)
    grads = {**dict.fromkeys(SHAPES), "b": np.ones(7)}
    whole.step(grads)
    with parts.arriving() as arrived:
        assert not arrived("w", None)
        assert arrived("b", grads["b"])
    assert arrived.moved == ("b",)
    assert snapshot(whole) == snapshot(parts)
    whole.step(dict.fromkeys(SHAPES))
    with parts.arriving() as arrived:
        pass
    assert snapshot(whole) == snapshot(parts)


def test_a_schedule_is_asked_once():
    asked = []

    def rate(step):
        asked.append(step)
        return 0.1

    x = {"a": np.ones(2), "b": np.ones(2)}
    for keywords in (PLAIN, {}):  # at once, and waiting
        optimizer = ss.SGD(x, lr=rate, **keywords)
        asked.clear()
        for _ in range(2):
            arrive(optimizer, {"a": np.ones(2), "b": np.ones(2)}, 0)
        assert asked == [0, 1]


# Clipping.


def test_each_leaf_is_clipped_by_its_own_norm():
    params, other = ({"a": np.ones(3), "b": np.ones(4)} for _ in range(2))
    grads = {"a": np.full(3, 9.0), "b": np.full(4, 0.1)}
    parts = ss.SGD(params, lr=1.0, clip_norm=1.0, **PLAIN)
    arrived = arrive(parts, grads, 0, norm="leaf")
    assert not arrived.waits
    for name in params:
        ss.SGD(other[name], lr=1.0, clip_norm=1.0).step(grads[name])
        assert same_bits(params[name], other[name])
    np.testing.assert_allclose(arrived.grad_norm, np.sqrt(3 * 81 + 4 * 0.01), rtol=1e-15)


def test_a_norm_that_is_known_before_clips_like_that_norm():
    params = {"a": np.ones(3), "b": np.ones(4)}
    grads = {"a": np.full(3, 3.0), "b": np.full(4, 0.5)}
    optimizer = ss.SGD(params, lr=1.0, clip_norm=2.0, **PLAIN)
    first = arrive(optimizer, grads, 0)  # waits, and so knows the norm of this step
    np.testing.assert_allclose(first.grad_norm, np.sqrt(28), rtol=1e-15)
    before = copy.deepcopy(params)
    second = arrive(optimizer, grads, 0, norm=first.grad_norm)
    assert not second.waits
    np.testing.assert_allclose(second.grad_norm, first.grad_norm, rtol=1e-15)
    factor = 2.0 / (first.grad_norm + 1e-6)
    for name, grad in grads.items():
        np.testing.assert_allclose(params[name], before[name] - factor * grad, rtol=1e-12)


# Gradients that are not finite.


def test_a_leaf_that_is_not_finite_is_refused_alone():
    params = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = ss.SGD(params, lr=0.5)
    refused = pytest.raises(ss.NonFiniteGradientError, match=r"of b holds NaN .*1 others")
    with refused as told, optimizer.arriving(nonfinite="leaf") as arrived:
        arrived("a", np.ones(2))
        arrived("b", np.array([1.0, np.nan]))
    assert "1 of 2 leaves had moved" in told.value.__notes__[0]
    assert arrived.moved == ("a",)
    assert params["a"].tolist() == [0.5, 0.5]
    assert params["b"].tolist() == [1.0, 1.0]
    assert optimizer.step_count == 1


def test_or_skipped_alone():
    params = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = ss.SGD(params, lr=0.5, on_nonfinite="skip")
    with optimizer.arriving(nonfinite="leaf") as arrived:
        assert not arrived("b", np.array([1.0, np.inf]))
        assert arrived("a", np.ones(2))
    assert (arrived.moved, arrived.skipped, optimizer.step_count) == (("a",), ["b"], 1)
    with optimizer.arriving(nonfinite="leaf") as arrived:
        assert not arrived("b", np.array([1.0, np.inf]))
    assert (arrived.moved, optimizer.step_count) == ((), 1)  # as a whole step that is skipped


def test_exactly_keeps_the_promise_of_a_whole_step():
    params = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = ss.SGD(params, lr=0.5)
    refused = pytest.raises(ss.NonFiniteGradientError, match="nothing was changed")
    with refused, optimizer.arriving() as arrived:
        arrived("a", np.ones(2))
        arrived("b", np.array([1.0, np.nan]))
    assert params["a"].tolist() == [1.0, 1.0]
    assert optimizer.step_count == 0


# Whose memory it is, and what may happen meanwhile.


def test_a_buffer_that_is_used_again_is_no_trap():
    for keywords in (PLAIN, {}):
        params, other = ({"a": np.ones(3), "b": np.ones(3)} for _ in range(2))
        optimizer, whole = ss.Adam(params, **keywords), ss.Adam(other, **keywords)
        buffer = np.empty(3)
        with optimizer.arriving() as arrived:
            for path, value in (("b", 2.0), ("a", -1.0)):
                buffer[:] = value
                arrived(path, buffer)
        whole.step({"a": np.full(3, -1.0), "b": np.full(3, 2.0)})
        assert snapshot(optimizer) == snapshot(whole)


@pytest.mark.parametrize("keywords", [PLAIN, {}], ids=["at once", "waiting"])
def test_nothing_else_steps_reads_or_loads_meanwhile(keywords):
    params = {"a": np.ones(2), "b": np.ones(2)}
    grads = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = ss.Adam(params, **keywords)
    state = optimizer.state_dict()
    with optimizer.arriving() as arrived:
        for call in (
            lambda: optimizer.step(grads),
            optimizer.state_dict,
            lambda: optimizer.load_state_dict(state),
            lambda: pickle.dumps(optimizer),
            lambda: copy.deepcopy(optimizer),
            lambda: optimizer.clone(grads),
            lambda: optimizer.arriving().__enter__(),
            lambda: ss.EMA(optimizer).step(grads),
        ):
            with pytest.raises(RuntimeError, match="arrive one by one"):
                call()
        arrived("a", np.ones(2))
    assert optimizer.step_count == 1
    optimizer.step(grads)
    with pytest.raises(RuntimeError, match="has ended"):
        arrived("b", np.ones(2))
    assert optimizer.step_count == 2


def test_another_thread_may_bring_gradients_and_not_step():
    params = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = ss.SGD(params, lr=0.5, **PLAIN)
    found = []

    def work():
        arrived("a", np.ones(2))
        try:
            optimizer.step({"a": np.ones(2), "b": np.ones(2)})
        except RuntimeError as error:
            found.append(str(error))

    with optimizer.arriving() as arrived:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "another thread" in found[0]
    assert arrived.moved == ("a",)


@pytest.mark.parametrize("keywords", [PLAIN, {}], ids=["at once", "waiting"])
def test_an_error_in_the_block(keywords):
    params = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = ss.SGD(params, lr=0.5, **keywords)
    with pytest.raises(ZeroDivisionError) as told, optimizer.arriving() as arrived:
        arrived("a", np.ones(2))
        1 / 0  # noqa: B018
    moved = keywords is PLAIN
    assert hasattr(told.value, "__notes__") == moved
    assert optimizer.step_count == moved
    assert arrived.moved == (("a",) if moved else ())
    optimizer.step({"a": np.ones(2), "b": np.ones(2)})  # nothing is left open


def test_wrappers_and_classes_with_a_step_of_their_own_wait():
    class Twice(ss.SGD):
        def step(self, grads, **keywords):
            super().step(grads, **keywords)
            return super().step(grads, **keywords)

    grads = {"a": np.ones(2), "b": np.ones(2)}
    for make in (lambda x: ss.EMA(ss.SGD(x, lr=0.5, **PLAIN)), lambda x: Twice(x, lr=0.5, **PLAIN)):
        made = [make({"a": np.ones(2), "b": np.ones(2)}) for _ in range(2)]
        made[0].step(grads)
        assert "does more in a step" in arrive(made[1], grads, 0).waits
        assert snapshot(made[0]) == snapshot(made[1])


# What is refused by name.


@pytest.mark.parametrize(
    ("keywords", "policies", "message"),
    [
        ({}, {"norm": "previous"}, "norm must be 'exact', 'leaf' or a number"),
        ({}, {"norm": "leaf"}, "clip_norm is None"),
        ({"clip_norm": 1.0}, {"norm": 0.0}, "norm must be"),
        ({"clip_norm": 1.0}, {"norm": float("nan")}, "norm must be"),
        ({}, {"nonfinite": "ignore"}, "nonfinite must be 'exact' or 'leaf'"),
        (PLAIN, {"nonfinite": "leaf"}, 'on_nonfinite is "ignore"'),
        ({"loss_scale": "dynamic"}, {"nonfinite": "leaf"}, "dynamic loss_scale"),
    ],
)
def test_policies_that_nothing_would_follow(keywords, policies, message):
    with pytest.raises(ValueError, match=message):
        ss.SGD(np.ones(2), lr=0.1, **keywords).arriving(**policies)


def test_wrappers_and_rules_over_all_leaves_have_no_policies():
    for optimizer in (ss.EMA(ss.SGD(np.ones(2), lr=0.1)), ss.Prodigy(np.ones(2))):
        with pytest.raises(ValueError, match="nonfinite must be 'exact'"):
            optimizer.arriving(nonfinite="leaf")


def test_leaves_that_are_not_there_or_come_twice():
    optimizer = ss.SGD({"weight": np.ones(2), "b": np.ones(2)}, lr=0.1)
    with optimizer.arriving() as arrived:
        with pytest.raises(ValueError, match="no leaf 'wight'; did you mean 'weight'"):
            arrived("wight", np.ones(2))
        with pytest.raises(ValueError, match=r"no leaf 0; opt\.paths"):
            arrived(0, np.ones(2))
        with pytest.raises(ValueError, match=r"gradient of weight has shape \(3,\)"):
            arrived("weight", np.ones(3))
        arrived("weight", np.ones(2))
        with pytest.raises(ValueError, match="second gradient of weight"):
            arrived("weight", np.ones(2))
    assert arrived.moved == ("weight",)


def test_averages_and_arriving_gradients_keep_apart():
    for optimizer in (ss.ScheduleFreeSGD(np.ones(2), lr=0.1), ss.EMA(ss.SGD(np.ones(2), lr=0.1))):
        with optimizer.averaged(), pytest.raises(RuntimeError, match="hold the average now"):
            optimizer.arriving()
        with optimizer.arriving() as arrived:
            with pytest.raises(RuntimeError, match="arrive one by one"):
                optimizer.averaged().__enter__()
            arrived("params", np.ones(2))
        assert optimizer.step_count == 1


def test_rules_that_take_the_function_are_refused():
    with pytest.raises(TypeError, match="takes the function value_and_grad"):
        ss.LBFGS(np.ones(2)).arriving()


# What is refused while gradients arrive, and what answers: of every public name of an optimizer.
REFUSED = {
    "step": lambda opt, state, file: opt.step(opt.params),
    "arriving": lambda opt, state, file: opt.arriving().__enter__(),
    "state_dict": lambda opt, state, file: opt.state_dict(),
    "load_state_dict": lambda opt, state, file: opt.load_state_dict(state),
    "save": lambda opt, state, file: opt.save(file.with_name("never written")),
    "load": lambda opt, state, file: opt.load(file),
    "clone": lambda opt, state, file: opt.clone(copy.deepcopy(opt.params)),
    "eval_params": lambda opt, state, file: opt.eval_params(),
    "averaged": lambda opt, state, file: opt.averaged().__enter__(),
    "lr_scale": lambda opt, state, file: setattr(opt, "lr_scale", 0.5),
    "lr": lambda opt, state, file: setattr(opt, "lr", 0.5),
    "parts": lambda opt, state, file: setattr(opt.parts["a"], "lr", 0.5),
    "deepcopy": lambda opt, state, file: copy.deepcopy(opt),
    "pickle": lambda opt, state, file: pickle.dumps(opt),
}
OF_SOME = ("eval_params", "averaged", "parts")
ANSWERS = {"bind", "hyperparams", "internals", "loss_scale", "lr_effective", "params", "paths"}
ANSWERS |= {"state", "step_count", "inner", "needs_closure"}
OF_CLASSES = {"assemble", "over", "settled", "again", "average", "whole", "change"}

MADE = {cls.__name__: lambda p, cls=cls: cls(p, on_nonfinite="ignore") for cls in RULES}
MADE |= {
    name: lambda p, wrap=wrap: wrap(ss.SGD(p, lr=0.1, on_nonfinite="ignore"))
    for name, wrap in WRAPPERS.items()
}
MADE["Partition"] = lambda p: ss.Partition(
    {"a": ss.SGD, "b": ss.ScheduleFreeSGD}, p, on_nonfinite="ignore"
)


@together("name", MADE, alike)
def test_what_would_see_half_a_step_is_refused_and_all_else_answers(name, tmp_path):
    grads = {"a": np.ones((2, 3)), "b": np.ones((2, 3))}
    optimizer = MADE[name]({"a": np.ones((2, 3)), "b": np.ones((2, 3))})
    public = {n for n in dir(type(optimizer)) if not n.startswith("_")} - set(dir(Rule))
    assert public - set(optimizer.fields) <= REFUSED.keys() | ANSWERS | OF_CLASSES
    optimizer.step(grads, loss=1.0)
    optimizer.save(tmp_path / "saved")
    state, twin = optimizer.state_dict(), optimizer.clone(copy.deepcopy(optimizer.params))
    with optimizer.arriving(loss=1.0) as arrived:
        arrived("a", grads["a"])
        before = [x.tobytes() for x in optimizer.params.values()], repr(optimizer.hyperparams)
        for what, ask in REFUSED.items():
            if what in OF_SOME and not hasattr(type(optimizer), what):
                continue
            with pytest.raises(RuntimeError, match=r"a step is under way .* has to wait until"):
                ask(optimizer, state, tmp_path / "saved")
        for what in ANSWERS - {"bind"}:
            getattr(optimizer, what, None)
        optimizer.bind(grads)
        now = [x.tobytes() for x in optimizer.params.values()], repr(optimizer.hyperparams)
        assert now == before
        arrived("b", grads["b"])
    twin.step(grads, loss=1.0)
    assert snapshot(twin) == snapshot(optimizer)
    assert not (tmp_path / "never written").exists()


FORK = """
import os, sys, threading
import numpy as np, stepsize as ss
opt = ss.SGD({"a": np.ones(3), "b": np.ones(3)}, lr=0.5, on_nonfinite="ignore")
begun, forked = threading.Event(), threading.Event()

def work():
    with opt.arriving() as arrived:
        arrived("a", np.ones(3))
        begun.set()
        forked.wait()
        arrived("b", np.ones(3))

other = threading.Thread(target=work)
other.start()
begun.wait()
child = os.fork()
if child == 0:
    state = opt.state_dict()  # refused inside of the block
    opt.step({"a": np.ones(3), "b": np.ones(3)})
    with opt.arriving() as arrived:
        arrived("a", np.ones(3))
    moved = opt.params["a"].tolist(), opt.params["b"].tolist(), opt.step_count
    os._exit(0 if moved == ([-0.5] * 3, [0.5] * 3, 2) else 7)
_, status = os.waitpid(child, 0)
forked.set()
other.join()
sys.exit(os.waitstatus_to_exitcode(status) or (0 if opt.step_count == 1 else 8))
"""


if hasattr(os, "fork"):

    def test_a_child_of_a_fork_between_two_arrivals_steps():
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FORK], timeout=60, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr

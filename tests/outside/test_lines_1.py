"""Waiting for the first validation, holding an average, rates of groups: cases that had no test."""

import copy
import pickle

import numpy as np
import pytest

import stepsize as ss
from hostile import X, Y, clean, make_params

ROWS = (X, Y)

# A validation that is rarer than the epochs.

MONITORS = {
    "EarlyStopping": lambda path: ss.EarlyStopping("val_loss", patience=2),
    "ReduceOnPlateau": lambda path: ss.ReduceOnPlateau("val_loss", patience=1),
    "Checkpoint": lambda path: ss.Checkpoint(path, monitor="val_loss"),
}


@pytest.mark.parametrize("every", [1, 2, 3, 5])
@pytest.mark.parametrize("monitor", MONITORS)
def test_a_monitor_waits_for_the_first_validation(monitor, every, tmp_path):
    params, values = make_params(), []

    def evaluate(params, batch):
        values.append(1 / (1 + len(values)))  # always better
        return {"val_loss": values[-1]}

    optimizer = ss.SGD(params, lr=0.01)
    callback = MONITORS[monitor](tmp_path / "run.safetensors")
    options = {"validation": ROWS, "validate_every": every, "evaluate": evaluate}
    options |= {"batch_size": len(Y), "progress": False, "callbacks": [callback]}
    history = ss.fit(clean, params, optimizer, ROWS, epochs=30, **options)
    assert history.stopped == "finished 30 epochs" and optimizer.lr_scale == 1
    assert len(values) == 30 // every


@pytest.mark.parametrize("monitor", MONITORS)
def test_a_monitor_of_what_is_never_measured_is_refused(monitor, tmp_path):
    callback = MONITORS[monitor](tmp_path / "run.safetensors")
    params = make_params()
    options = {"batch_size": len(Y), "progress": False, "callbacks": [callback]}
    with pytest.raises(ValueError, match="there is no 'val_loss' to monitor"):
        ss.fit(clean, params, ss.SGD(params, lr=0.01), ROWS, epochs=2, **options)
    measured = {"validation": ROWS, "evaluate": lambda params, batch: {"val_other": 1.0}}
    with pytest.raises(ValueError, match="there is no 'val_loss' to monitor"):
        ss.fit(clean, params, ss.SGD(params, lr=0.01), ROWS, epochs=2, **measured, **options)


# An average that is held in the parameters is not the training point.

AVERAGES = {
    "EMA": lambda params: ss.EMA(ss.SGD(params, lr=0.1), decay=0.5),
    "SWA": lambda params: ss.SWA(ss.SGD(params, lr=0.1), start=1),
    "ScheduleFreeSGD": lambda params: ss.ScheduleFreeSGD(params, lr=0.1),
    "ScheduleFreeAdamW": lambda params: ss.ScheduleFreeAdamW(params, lr=0.1),
    "ScheduleFreeRAdam": lambda params: ss.ScheduleFreeRAdam(params, lr=0.1),
    "AdaptiveClip around EMA": lambda params: ss.AdaptiveClip(
        ss.EMA(ss.SGD(params, lr=0.1), decay=0.5)
    ),
    "EMA around ScheduleFreeSGD": lambda params: ss.EMA(
        ss.ScheduleFreeSGD(params, lr=0.1), decay=0.5
    ),
}
COPIES = {
    "state_dict": lambda opt, path: opt.state_dict(),
    "save": lambda opt, path: opt.save(path),
    "ss.save": lambda opt, path: ss.save(path, opt.params, opt),
    "pickle": lambda opt, path: pickle.dumps(opt),
    "deepcopy": lambda opt, path: copy.deepcopy(opt),
    "clone": lambda opt, path: opt.clone(make_params()),
    "averaged": lambda opt, path: opt.averaged().__enter__(),
}


def stepped(make, params):
    optimizer = make(params)
    for _ in range(3):
        optimizer.step(clean(params, ROWS)[1])
    return optimizer


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", AVERAGES)
def test_no_copy_takes_an_average_for_the_training_point(name, way, tmp_path):
    params = make_params()
    optimizer = stepped(AVERAGES[name], params)
    before = {key: leaf.copy() for key, leaf in params.items()}
    with optimizer.averaged(), pytest.raises(RuntimeError, match="the parameters hold the average"):
        COPIES[way](optimizer, tmp_path / "a.safetensors")
    assert all(np.array_equal(params[key], leaf) for key, leaf in before.items())
    if way != "averaged":
        COPIES[way](optimizer, tmp_path / "a.safetensors")
    assert not [path for path in tmp_path.iterdir() if path.name != "a.safetensors"]


def test_torch_takes_no_average_for_the_training_point():
    torch = pytest.importorskip("torch")
    interop = pytest.importorskip("stepsize.interop.torch")
    for cls in (interop.ScheduleFreeSGD, interop.ScheduleFreeAdamW, interop.ScheduleFreeRAdam):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = cls([p], lr=0.1)
        for _ in range(3):
            p.grad = torch.ones(3)
            optimizer.step()
        state, point = optimizer.state_dict(), p.detach().clone()
        ways = [
            optimizer.state_dict,
            lambda: optimizer.load_state_dict(state),  # noqa: B023
            lambda: pickle.dumps(optimizer),  # noqa: B023
            lambda: copy.deepcopy(optimizer),  # noqa: B023
            optimizer.step,
        ]
        for way in ways:
            with optimizer.averaged(), pytest.raises(RuntimeError, match="hold the average"):
                way()
            assert torch.equal(p, point)
            way()
            point = p.detach().clone()


# One value for groups that have their own.

TWO = {"a": np.ones(2), "b": np.ones(2)}


def grouped(**keywords):
    return ss.AdamW({k: v.copy() for k, v in TWO.items()}, **keywords)


def test_one_rate_for_groups_with_their_own_is_said():
    optimizer = grouped(lr=0.1, groups=[ss.group("a", lr=0.01)])
    with pytest.warns(UserWarning, match=r"one lr for all groups replaces their own, 0\.\d+, 0\."):
        optimizer.lr = 0.5
    optimizer.lr = 0.3  # they are alike now
    optimizer.lr = (0.1, 0.2)
    optimizer.lr_scale *= 0.5
    with pytest.warns(UserWarning, match="lr_scale"):
        ss.EMA(optimizer).lr = ss.schedules.cosine(0.1, 0.0, 10)
    decayed = grouped(weight_decay=0.1, groups=[ss.group("a", weight_decay=0.0)])
    with pytest.warns(UserWarning, match="one weight_decay for all groups"):
        decayed.weight_decay = 0.2


def test_one_schedule_for_torch_groups_with_their_own_rates_is_said(recwarn):
    torch = pytest.importorskip("torch")
    interop = pytest.importorskip("stepsize.interop.torch")
    schedule = ss.schedules.cosine(0.1, 0.0, 100)

    def make(second):
        leaves = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
        groups = [{"params": [leaves[0]], "lr": 0.1}, {"params": [leaves[1]], "lr": second}]
        return torch.optim.SGD(groups)

    interop.ScheduleLR(make(0.1), schedule)
    interop.ScheduleLR(make(0.01), [schedule, schedule * 0.1])
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"replaces their own rates, 0\.1, 0\.01"):
        interop.ScheduleLR(make(0.01), schedule)


# Torch's words, and a tensor that is no number.


def torch_classes():
    torch = pytest.importorskip("torch")
    interop = pytest.importorskip("stepsize.interop.torch")
    found = (getattr(interop, name) for name in interop.__all__)
    classes = [c for c in found if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)]
    return torch, [c for c in classes if hasattr(c, "__signature__")]


def test_a_loaded_group_has_the_keys_that_it_had():
    torch, classes = torch_classes()
    for cls in classes:
        optimizer = cls([torch.nn.Parameter(torch.zeros(2, 2))])
        keys, defaults = set(optimizer.param_groups[0]), set(optimizer.defaults)
        optimizer.load_state_dict(optimizer.state_dict())
        assert (set(optimizer.param_groups[0]), set(optimizer.defaults)) == (keys, defaults)
        again = pickle.loads(pickle.dumps(optimizer))
        assert (set(again.param_groups[0]), set(again.defaults)) == (keys, defaults)
    assert len(classes) > 40


def test_a_tensor_of_two_numbers_is_no_rate():
    torch, classes = torch_classes()
    two = torch.tensor([0.1, 0.2])
    for cls in classes:
        p = torch.nn.Parameter(torch.zeros(2, 2))
        with pytest.raises(ValueError, match=rf"{cls.__name__}: lr must be one number, .*\(2,\)"):
            cls([p], lr=two)
        optimizer = cls([p])
        optimizer.param_groups[0]["lr"] = two
        p.grad = torch.ones(2, 2)
        with pytest.raises(ValueError, match="lr must be one number"):
            optimizer.step(lambda: torch.ones(()))
        assert not p.any()


# SciPy's functions.


@pytest.mark.parametrize("given", [None, "1", [1.0], [1.0, 2.0, 3.0], np.ones((2, 2))])
@pytest.mark.parametrize("method", ["sgd", "adam", "lbfgs"])
def test_what_is_no_gradient_is_refused_by_name(method, given):
    optimize = pytest.importorskip("scipy.optimize")
    interop = pytest.importorskip("stepsize.interop.scipy")
    with pytest.raises(ValueError, match=rf"{method}: jac must return the gradient, 2 numbers"):
        optimize.minimize(
            lambda x: x @ x, [1.0, 2.0], jac=lambda x: given, method=getattr(interop, method)
        )


@pytest.mark.parametrize("method", ["sgd", "adam", "lbfgs"])
def test_fun_may_overwrite_what_it_is_given(method):
    optimize = pytest.importorskip("scipy.optimize")
    interop = pytest.importorskip("stepsize.interop.scipy")

    def fun(x):
        value = (x - 1) @ (x - 1)
        x[:] = 77.0
        return value

    found = [
        optimize.minimize(f, [3.0, 4.0], jac=lambda x: 2 * (x - 1), method=getattr(interop, method))
        for f in (fun, lambda x: (x - 1) @ (x - 1))
    ]
    assert np.array_equal(found[0].x, found[1].x)


# Numbers as given.


def test_none_is_taken_where_it_is_the_default_in_torch():
    start = np.random.default_rng(0).normal(size=(3, 2))

    def moved(cls, **keywords):
        params = {"w": start.copy()}
        cls(params, lr=0.1, **keywords).step({"w": np.cos(start)})
        return params["w"]

    muon, factor = moved(ss.Muon), moved(ss.Adafactor)
    assert np.array_equal(moved(ss.Muon, adjust_lr_fn=None), muon)
    assert np.isfinite(moved(ss.Adafactor, eps=(None, 1e-3)) - factor).all()


@pytest.mark.parametrize("given", ["initial_accumulator_value", "initial_accumulator"])
def test_state_in_double_starts_from_the_number_itself(given):
    torch, classes = torch_classes()
    found = [cls for cls in classes if given in cls.__signature__.parameters]
    assert found
    for cls in found:
        p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        optimizer = cls([p], lr=0.1, **{given: 0.1})
        p.grad = torch.zeros_like(p)
        optimizer.step()
        tensors = [v for v in optimizer.state[p].values() if torch.is_tensor(v) and v.numel() == 2]
        assert any((v == 0.1).all() for v in tensors)

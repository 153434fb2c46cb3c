"""Schedules and the range test for torch, and the pages that show them."""

import copy
import doctest
import importlib
import inspect
import pkgutil
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import stepsize as ss
import stepsize.interop.torch as interop
from stepsize import _core
from stepsize.interop.torch import ScheduleLR, lr_find
from torch_cases import CLASSES

ROOT = Path(__file__).parents[2]
COSINE = ss.schedules.warmup_cosine(0.1, 3, 10)


def sgd(count=1):
    groups = [{"params": [torch.zeros(1)], "lr": 1.0 + k} for k in range(count)]
    return torch.optim.SGD(groups, lr=1.0)


def rates(optimizer, scheduler, steps):
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def test_a_schedule_gives_the_rates():
    optimizer = sgd()
    found = rates(optimizer, ScheduleLR(optimizer, COSINE), 12)
    assert found == [[COSINE(t)] for t in range(12)]


@pytest.mark.filterwarnings("ignore:ScheduleLR. one schedule for all groups")
def test_a_schedule_for_each_group():
    optimizer = sgd(2)
    other = ss.schedules.constant(0.5)
    found = rates(optimizer, ScheduleLR(optimizer, [COSINE, other]), 3)
    assert found == [[COSINE(t), 0.5] for t in range(3)]
    assert rates(sgd(2), ScheduleLR(optimizer, other), 1) == [[1.0, 2.0]]
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_a_schedule_on_our_optimizer_is_the_schedule_of_the_rule():
    p, x = torch.ones(3, requires_grad=True), np.ones(3, np.float32)
    optimizer = interop.AdamW([p])
    scheduler = ScheduleLR(optimizer, COSINE)
    plain = ss.AdamW(x, lr=COSINE)
    for _ in range(12):
        p.grad = torch.cos(p.detach())
        plain.step(p.grad.numpy())
        optimizer.step()
        scheduler.step()
    assert p.tolist() == x.tolist()


def test_a_scheduler_resumes_by_its_state():
    first = sgd()
    rates(first, before := ScheduleLR(first, COSINE), 4)
    state = before.state_dict()
    assert torch.load(_saved(state), weights_only=True) == state
    second = sgd()
    after = ScheduleLR(second, ss.schedules.constant(9.0))
    with pytest.warns(
        UserWarning, match=r"the schedule warmup_cosine\(.* place of constant\(9.0\)"
    ):
        after.load_state_dict(state)
    second.load_state_dict(first.state_dict())
    assert rates(second, after, 4) == [[COSINE(t)] for t in range(4, 8)]


def _saved(state):
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def test_a_nameless_function_stays_where_it_is():
    optimizer = sgd()
    scheduler = ScheduleLR(optimizer, ss.schedules.from_function(lambda t: 1 / (1 + t)))
    state = scheduler.state_dict()
    assert state["schedules"] == [None]
    scheduler.load_state_dict({**state, "last_epoch": 3})
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 1 / 5


@pytest.mark.filterwarnings("ignore:ScheduleLR. one schedule for all groups")
def test_a_scheduler_refuses_what_is_no_schedule():
    with pytest.raises(TypeError, match=r"ScheduleLR: schedule must be of .* got 0.1; wrap"):
        ScheduleLR(sgd(), 0.1)
    with pytest.raises(ValueError, match="ScheduleLR: 3 schedules for 2 groups"):
        ScheduleLR(sgd(2), [COSINE] * 3)
    two = ScheduleLR(sgd(2), COSINE)
    with pytest.raises(ValueError, match="the state has schedules for 2 groups, here there are 1"):
        ScheduleLR(sgd(), COSINE).load_state_dict(two.state_dict())


CUTTERS = {
    "torch": lambda optimizer: (
        torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5).step
    ),
    "ours": lambda optimizer: ss.Plateau(optimizer, patience=0, factor=0.5).update,
}


@pytest.mark.parametrize("make", [torch.optim.SGD, interop.SGD])
@pytest.mark.parametrize("cutter", CUTTERS)
def test_what_others_cut_multiplies_the_schedule(make, cutter):
    optimizer = make([torch.nn.Parameter(torch.ones(2))], lr=1.0)
    scheduler = ScheduleLR(optimizer, COSINE)
    cut, factor = CUTTERS[cutter](optimizer), 1.0
    for t in range(9):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(factor * COSINE(t))
        cut(1.0)
        factor *= 1.0 if t == 0 else 0.5
        assert optimizer.param_groups[0]["lr"] == pytest.approx(factor * COSINE(t))
        if t == 5:  # a resume between a cut and the next step keeps it
            state, rates = scheduler.state_dict(), optimizer.state_dict()
            scheduler = ScheduleLR(optimizer, COSINE)
            scheduler.load_state_dict(state)
            optimizer.load_state_dict(rates)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("make", [torch.optim.SGD, interop.SGD])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.filterwarnings("ignore:ScheduleLR. one schedule for all groups")
@pytest.mark.filterwarnings("ignore:ScheduleLR. the one schedule for all groups")
@pytest.mark.filterwarnings("ignore:ScheduleLR. the state has the schedule")
def test_groups_that_are_added_have_their_rates(make, shared):
    optimizer = make([torch.nn.Parameter(torch.ones(2))], lr=1.0)
    scheduler = ScheduleLR(optimizer, COSINE if shared else [COSINE])
    found = rates(optimizer, scheduler, 2)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))], "lr": 0.25})
    found += rates(optimizer, scheduler, 3)
    other = [0.25, *((COSINE(t) if shared else 0.25) for t in (3, 4))]
    added = [[COSINE(t), rate] for t, rate in zip((2, 3, 4), other, strict=True)]
    assert found == [[COSINE(0)], [COSINE(1)], *added]
    state = scheduler.state_dict()
    again = ScheduleLR(optimizer, COSINE)
    again.load_state_dict(state)
    assert rates(optimizer, again, 2)[1][0] == COSINE(6)


@pytest.mark.filterwarnings("ignore:ScheduleLR. one schedule for all groups")
@pytest.mark.parametrize("listed", [False, True])
def test_a_state_of_another_schedule_is_told_with_both_and_wins(listed):
    def make(schedule, count=1):
        return ScheduleLR(sgd(count), [schedule] * count if listed else schedule)

    state, other = make(COSINE).state_dict(), ss.schedules.step_decay(0.5, 3, 0.5)
    after = make(other)
    with pytest.warns(UserWarning) as told:
        after.load_state_dict(state)
    assert len(told) == 1 and repr(COSINE) in str(told[0].message)
    assert repr(other) in str(told[0].message) and after.schedules == [COSINE]
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(COSINE).load_state_dict(state)


@pytest.mark.parametrize("rate, told", [(0.25, True), (None, False)])
def test_a_rate_of_an_added_group_that_is_replaced_is_told(rate, told):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=1.0)
    scheduler = ScheduleLR(optimizer, COSINE)
    added = {"params": [torch.nn.Parameter(torch.ones(3))], **({"lr": rate} if rate else {})}
    optimizer.add_param_group(added)
    optimizer.step()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scheduler.step()
        optimizer.step()
        scheduler.step()
    said = [str(w.message) for w in caught if "ScheduleLR" in str(w.message)]
    assert len(said) == told and all("the rate 0.25 of group 1" in text for text in said)


@pytest.mark.parametrize("make", [torch.optim.SGD, interop.SGD])
def test_plateau_moves_the_rates_of_torch(make):
    x = torch.nn.Parameter(torch.ones(2))
    groups = [{"params": [x], "lr": 0.5}, {"params": [torch.nn.Parameter(torch.ones(1))]}]
    optimizer = make(groups, lr=0.25)
    plateau = ss.Plateau(optimizer, patience=0, factor=0.5, min_lr=0.0625, restore_best=True)
    assert not plateau.update(1.0)
    with torch.no_grad():
        x.fill_(7.0)
    assert plateau.update(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.125]
    assert x.tolist() == [1.0, 1.0]
    assert plateau.update(1.0) and not plateau.update(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.0625]
    half = [torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))]
    with pytest.raises(TypeError, match="Plateau: restore_best needs parameters that NumPy"):
        ss.Plateau(make(half, lr=0.1), restore_best=True)
    with pytest.raises(
        TypeError, match="Plateau: opt must be an optimizer of stepsize or of torch"
    ):
        ss.Plateau(object())
    tensor = torch.optim.SGD([x], lr=torch.tensor(0.5))
    greedy = ss.schedules.Greedy(tensor, patience=0, factor=0.5)
    assert greedy.update(1.0) and float(tensor.param_groups[0]["lr"]) == 1.0


def test_lazy_layers_get_their_step_with_their_shapes():
    def run(lazy):
        torch.manual_seed(0)
        first = torch.nn.LazyLinear(4) if lazy else torch.nn.Linear(3, 4)
        model = torch.nn.Sequential(first, torch.nn.Linear(4, 1))
        if not lazy:
            torch.manual_seed(1)
            first.reset_parameters()
        optimizer = interop.AdamW(model.parameters(), lr=0.1)
        if lazy:
            with pytest.raises(ValueError, match="parameter 0 belongs to a lazy layer"):
                optimizer.step()
            torch.manual_seed(1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(5, 3)).square().sum().backward()
            optimizer.step()
        return [p.tolist() for p in model.parameters()], optimizer.state_dict()["state"][0]["step"]

    def shapes(found):
        return [np.shape(values) for values in found[0]], float(found[1])

    assert shapes(run(True)) == shapes(run(False)) == ([(4, 3), (4,), (1, 4), (1,)], 3.0)


# The range test.


def model_and_batches(dtype=torch.float32, rows=64):
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1)
    ).to(dtype)
    model[0].bias.requires_grad_(False)
    x = torch.randn(rows, 3).to(dtype)
    return model, [(x[i : i + 16], x[i : i + 16].sum(1, keepdim=True)) for i in range(0, rows, 16)]


def loss_fn(model, batch):
    x, y = batch
    np.random.random()  # noqa: NPY002
    random.random()
    return ((model(x) - y) ** 2).mean()


def snapshot(model, optimizer):
    return copy.deepcopy(
        {
            "model": model.state_dict(),
            "grads": [p.grad for p in model.parameters()],
            "optimizer": optimizer.state_dict(),
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state()[1],  # noqa: NPY002
            "python": random.getstate(),
        }
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [interop.AdamW, torch.optim.AdamW], ids=["ours", "theirs"])
def test_everything_comes_back_bit_for_bit(make, dtype):
    model, batches = model_and_batches(dtype)
    optimizer = make(model.parameters(), lr=1e-3)
    for batch in batches:
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*(torch.cat(part) for part in zip(*batches, strict=True))),
        batch_size=16,
        shuffle=True,
        generator=torch.Generator().manual_seed(5),
    )
    before, generator = snapshot(model, optimizer), loader.generator.get_state()
    result = lr_find(model, loss_fn, loader, optimizer=optimizer)
    assert result.usable
    torch.testing.assert_close(snapshot(model, optimizer), before, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(loader.generator.get_state(), generator)

    calls = []

    def breaks(model, batch):
        calls.append(loss_fn(model, batch))
        if len(calls) == 7:
            raise RuntimeError("out of luck")
        return calls[-1]

    with pytest.raises(RuntimeError, match="out of luck"):
        lr_find(model, breaks, loader, optimizer=optimizer)
    torch.testing.assert_close(snapshot(model, optimizer), before, rtol=0, atol=0, equal_nan=True)


def test_the_answer_is_that_of_the_range_test_on_arrays():
    model = torch.nn.Linear(3, 1, bias=False).double()
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).double()
    batches = [x[:32], x[32:]]

    def value_and_grad(params, batch):
        error = batch.numpy() @ params[0].T - batch.numpy().sum(1, keepdims=True)
        return float((error**2).mean()), [2 * error.T @ batch.numpy() / len(batch)]

    def loss_fn(model, batch):
        return ((model(batch) - batch.sum(1, keepdim=True)) ** 2).mean()

    params = [model.weight.detach().numpy().copy()]
    there = ss.lr_find(value_and_grad, params, batches, optimizer=ss.SGD)
    for optimizer in (
        interop.SGD,
        torch.optim.SGD,
        lambda p: torch.optim.SGD(p, lr=0.1),
        torch.optim.SGD(model.parameters(), lr=0.1),
    ):
        here = lr_find(model, loss_fn, batches, optimizer=optimizer)
        assert here.suggestion == pytest.approx(there.suggestion, rel=1e-6)
    assert str(here).endswith(f"= SGD(model.parameters(), lr={here.suggestion:.1e})")


def test_trials_start_from_groups_and_state():
    model, batches = model_and_batches()
    groups = [
        {"params": model[0].parameters(), "lr": 0.1, "momentum": 0.9},
        {"params": model[3].parameters(), "lr": 0.01},
    ]
    result = lr_find(model, loss_fn, batches, optimizer=torch.optim.SGD(groups))
    assert result.usable and "momentum=(0.9, 0" in result.call


def test_other_parameters_than_the_rate():
    model, batches = model_and_batches()
    result = lr_find(model, loss_fn, batches, optimizer=interop.SGD, parameter="momentum")
    assert result.parameter == "momentum" and "= SGD(model.parameters(), " in result.call


def test_an_optimizer_without_a_twin_is_refused():
    model, batches = model_and_batches()
    with pytest.raises(ValueError, match="lr_find: optimizer must be a torch optimizer of one of"):
        lr_find(model, loss_fn, batches, optimizer=torch.optim.LBFGS)


# Names, signatures and pages.


def modules():
    names = [m.name for m in pkgutil.walk_packages(interop.__path__, "stepsize.interop.torch.")]
    return ["stepsize.interop.torch", *names]


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name):
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0


def test_every_rule_of_gradients_has_its_class():
    rules = [rule for rule in ss.optimizers.registry() if not rule.needs_closure]
    assert len(rules) >= 40
    for rule in rules:
        cls = getattr(interop, rule.__name__)
        assert issubclass(cls, torch.optim.Optimizer) and cls.rule is rule
        assert rule.__name__ in interop.__all__
        for field in rule.fields:
            assert field in cls.__signature__.parameters
    with pytest.raises(AttributeError, match="has no Adan2; the optimizers here are AdaBelief,"):
        _ = interop.Adan2


@pytest.mark.parametrize("name", [name for name in CLASSES if hasattr(torch.optim, name)])
def test_torchs_signature_comes_first(name):
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    ours = CLASSES[name].__signature__.parameters
    assert [p for p in ours if p in theirs] == list(theirs)
    for key, parameter in theirs.items():
        assert ours[key].default == parameter.default and ours[key].kind == parameter.kind
    assert all(p.kind is p.KEYWORD_ONLY for key, p in ours.items() if key not in theirs)


def blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```(?:python|py)\n(.*?)```", text, re.DOTALL)


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = blocks("docs/torch.md")
    assert len(found) >= 4
    scope = {"__name__": "page"}
    for block in found:
        exec(compile(block, "docs/torch.md", "exec"), scope)


def test_each_line_of_the_pages_table():
    rows = re.findall(
        r"^\| `(torch\.[^`]*)` \| `([^`]*)` \|",
        (ROOT / "docs/torch.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert len(rows) >= 15
    for theirs, ours in rows:
        p, q = (torch.ones(3, requires_grad=True) for _ in range(2))
        found = []
        for call, tensor in ((theirs, p), (ours, q)):
            scope = {"torch": torch, "ss": ss, "interop": interop, "params": [tensor]}
            exec(f"made = {call.replace('optimizer', 'interop.SGD(params, lr=0.1)')}", scope)
            found.append(scope["made"])
        for _ in range(3):
            for made, tensor in zip(found, (p, q), strict=True):
                optimizer = getattr(made, "optimizer", made)
                tensor.grad = torch.cos(tensor.detach())
                optimizer.step()
                if made is not optimizer:
                    made.step()
        torch.testing.assert_close(p, q, rtol=1e-6, atol=0, msg=f"{theirs} and {ours}")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((torch.nn.MSELoss(), [1]), "loss_fn=MSELoss takes outputs and targets"),
        ((torch.nn.functional.mse_loss, [1]), "loss_fn=mse_loss takes outputs and targets"),
        (
            ([1], torch.nn.MSELoss()),
            "loss_fn is a list, .* the order is lr_find.model, loss_fn, ba",
        ),
        ((max, torch.nn.MSELoss()), "batches is a MSELoss, .* the order is"),
    ],
)
def test_arguments_in_the_order_of_other_finders_are_refused_in_words(given, told):
    with pytest.raises(TypeError, match=told):
        lr_find(torch.nn.Linear(2, 1), *given)


def test_a_class_for_arrays_stands_for_that_of_its_name():
    model, x = torch.nn.Linear(3, 1), torch.randn(64, 3)

    def loss_fn(model, batch):
        return (model(batch) ** 2).mean()

    one, other = (lr_find(model, loss_fn, [x], optimizer=c) for c in (ss.SGD, interop.SGD))
    assert one.suggestion == other.suggestion and one.call == other.call
    with pytest.raises(TypeError, match=r"take the optimizers of stepsize\.interop\.torch"):
        ss.SGD(list(model.parameters()), lr=0.1)
    with pytest.raises(TypeError, match=r"take the optimizers of stepsize\.interop\.torch"):
        ss.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("name", ["adamw", "AdamW", "sign_sgd"])
def test_an_optimizer_goes_by_name(name):
    model, batches = model_and_batches()
    found = lr_find(model, loss_fn, batches, optimizer=name)
    cls = {"sign_sgd": interop.SignSGD}.get(name, interop.AdamW)
    assert found.suggestion == lr_find(model, loss_fn, batches, optimizer=cls).suggestion
    with pytest.raises(ValueError, match="there is no optimizer 'adma'"):
        lr_find(model, loss_fn, batches, optimizer="adma")
    with pytest.raises(ValueError, match="LBFGS takes a function at each step"):
        lr_find(model, loss_fn, batches, optimizer="lbfgs")


@pytest.mark.parametrize("parameter", ["lr", "weight_decay", "batch_size"])
def test_the_line_to_paste_sets_what_was_found_in_each_group(parameter):
    model, batches = model_and_batches(rows=256)
    groups = [
        {"params": model[0].parameters(), "lr": 0.1, "momentum": 0.9},
        {"params": model[3].parameters(), "lr": 0.01},
    ]
    optimizer = torch.optim.SGD(groups)
    result = lr_find(model, loss_fn, batches, optimizer=optimizer, parameter=parameter)
    assert result.usable
    exec(str(result).splitlines()[-1].replace("    # for", "\nfor"), {"optimizer": optimizer})
    rates = [group["lr"] for group in optimizer.param_groups]
    found = result.suggestion if parameter == "lr" else result.lr
    assert rates[0] == pytest.approx(found, rel=0.05) and rates[1] == pytest.approx(rates[0] / 10)
    if parameter == "weight_decay":
        assert optimizer.param_groups[1]["weight_decay"] == pytest.approx(
            result.suggestion, rel=1e-3
        )


def test_the_number_of_threads_of_torch_is_followed():
    before = torch.get_num_threads()
    free = _core.thread_count()
    try:
        torch.set_num_threads(1)
        assert _core.thread_count() == 1
        ss.set_num_threads(2)
        assert _core.thread_count() == 2  # the later word
        torch.set_num_threads(2)
        ss.set_num_threads(2)
        torch.set_num_threads(1)
        assert _core.thread_count() == 1
    finally:
        ss.set_num_threads(None)
        torch.set_num_threads(before)
    assert _core.thread_count() == free

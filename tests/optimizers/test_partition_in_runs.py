"""A partition of several rules in what trains, measures and advises."""

import functools
import re

import numpy as np
import pytest

import stepsize as ss
from cases import snapshot
from stepsize.interop.mpi import DataParallel, LocalComm, Zero1

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((96, 5))
DATA = (X, np.tanh(X @ RANDOM.standard_normal((5, 2))))


def start():
    random = np.random.default_rng(1)
    layers = {"first": (5, 6), "head": (6, 2)}
    return {n: {"w": random.normal(size=s) / 3, "b": np.zeros(s[1])} for n, s in layers.items()}


def value_and_grad(params, batch):
    x, y = batch
    first, head = params["first"], params["head"]
    hidden = np.tanh(x @ first["w"] + first["b"])
    error = hidden @ head["w"] + head["b"] - y
    d = 2 * error / error.size
    back = (d @ head["w"].T) * (1 - hidden * hidden)
    grads = {"first": {"w": x.T @ back, "b": back.sum(0)}, "head": {"w": hidden.T @ d}}
    return float(np.mean(error**2)), {**grads, "head": {**grads["head"], "b": d.sum(0)}}


def make(params):
    rules = {
        "first/w": functools.partial(ss.Muon, lr=0.02),
        "*": functools.partial(ss.AdamW, lr=0.005),
    }
    return ss.Partition(rules, params, clip_norm=1.0)


def fit(params, optimizer, **more):
    given = {"batch_size": 32, "progress": False, "seed": 0, **more}
    return ss.fit(value_and_grad, params, optimizer, DATA, **given)


def test_a_run_says_its_rules_and_is_resumed(tmp_path):
    whole, halves = start(), start()
    history = fit(whole, make(whole), steps=12)
    assert [group["rule"] for group in history.meta["groups"]] == ["Muon", "AdamW"]
    assert [name for name, _ in history.meta["options"]] == ["Partition", "Muon", "AdamW"]
    fit(halves, make(halves), steps=6, checkpoint=tmp_path / "run")
    other = ss.Partition({"*": ss.AdamW}, again := start(), clip_norm=1.0)
    with pytest.raises(ValueError, match="Partition: the state's groups are"):
        fit(again, other, steps=12, checkpoint=tmp_path / "run", resume=True)
    optimizer = make(halves)
    fit(halves, optimizer, steps=12, checkpoint=tmp_path / "run", resume=True)
    assert np.array_equal(halves["head"]["w"], whole["head"]["w"]) and optimizer.step_count == 12


@pytest.mark.parametrize("wrap", [lambda opt: opt, ss.EMA], ids=["alone", "EMA"])
def test_the_rate_that_is_found_is_the_largest_and_pasted_in_proportion(wrap):
    params = start()
    optimizer = wrap(make(params))
    before = snapshot(optimizer)
    found = ss.lr_find(value_and_grad, params, DATA, optimizer=optimizer, progress=False)
    assert snapshot(optimizer) == before
    line = str(found).splitlines()[-1]
    assert re.fullmatch(r"optimizer\.lr = \(\S+, 0\.25 \* \S+\)", line), line
    exec(line, {"optimizer": optimizer})
    assert optimizer.lr[0] == 4 * optimizer.lr[1] > 0
    by_function = ss.lr_find(value_and_grad, params, DATA, optimizer=make, progress=False)
    assert by_function.suggestion == found.suggestion


def test_autolr_keeps_the_proportion_of_rates():
    params = start()
    options = {"optimizer": make, "steps": 60, "batch_size": 32, "rehearsals": 0, "progress": False}
    result = ss.autolr(value_and_grad, params, DATA, **options)
    tables = result.optimizer.internals.groups.tables
    for step in (0, 5, 30):
        assert tables[1]["lr"](step) == pytest.approx(tables[0]["lr"](step) / 4)


def test_autolr_keeps_the_proportion_of_groups_too():
    def grouped(params):
        return ss.AdamW(params, lr=0.01, groups=[ss.group("head/*", lr=0.001)])

    options = {"optimizer": grouped, "steps": 60, "batch_size": 32, "rehearsals": 0}
    result = ss.autolr(value_and_grad, start(), DATA, progress=False, **options)
    tables = result.optimizer.internals.groups.tables
    assert tables[1]["lr"](20) == pytest.approx(tables[0]["lr"](20) / 10)


def test_branches_sam_and_cards():
    params = start()
    optimizer = make(params)
    batches = [(DATA[0][:32], DATA[1][:32])] * 40
    before = snapshot(optimizer)
    assert ss.what_if(value_and_grad, params, optimizer, batches, steps=10).best in (
        0.1,
        0.3,
        1,
        3,
        10,
    )
    assert snapshot(optimizer) == before
    card = optimizer._repr_html_()
    assert "momentum" in card and "betas" in card
    ss.SAM(optimizer).step(lambda p: value_and_grad(p, DATA))
    assert optimizer.step_count == 1


def test_what_is_no_rule_is_no_maker():
    for owner, act in (
        ("lr_find", lambda: ss.lr_find(value_and_grad, start(), DATA, optimizer=ss.Partition)),
        (
            "autolr",
            lambda: ss.autolr(value_and_grad, start(), DATA, optimizer=ss.Partition, steps=9),
        ),
        ("transfer", lambda: ss.transfer({"lr": 1e-3}, batch=(1, 2), rule=ss.Partition)),
    ):
        with pytest.raises(TypeError, match=f"{owner}: .*Partition"):
            act()


def test_ranks_step_one_partition_and_must_have_the_same():
    here = start()
    optimizer = make(here)
    grads = value_and_grad(here, DATA)[1]
    optimizer.step(grads)

    def program(comm):
        there = start()
        parallel = DataParallel(make(there), comm)
        parallel.step(grads)
        return there, parallel.lr

    for there, lr in LocalComm.run(2, program):
        assert np.array_equal(there["first"]["w"], here["first"]["w"]) and lr == (0.02, 0.005)

    def other(comm):
        rules = {"*": functools.partial(ss.AdamW, state_dtype=(None, "int8")[comm.rank])}
        return DataParallel(ss.Partition(rules, start()), comm)

    with pytest.raises(ValueError, match="state_dtype"):
        LocalComm.run(2, other)

    def sharded(comm):
        return Zero1(ss.Partition, start(), comm)

    with pytest.raises(TypeError, match="Zero1: rule must be the name of a rule"):
        LocalComm.run(1, sharded)

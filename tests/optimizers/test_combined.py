"""Groups, partitions, options of the loop and arriving gradients, where they meet."""

import copy
import pickle

import numpy as np
import pytest

import stepsize as ss
from cases import same_bits, snapshot

SHAPES = {"w": (6, 5), "b": (5,), "v": (4, 4)}
LOOP = {"mars_gamma": 0.025, "update_clip": 1.0, "cautious": True}


def nest(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def parted(params, **options):
    rules = {
        "w": lambda leaves: ss.NAdam(leaves, lr=0.01, update_clip=1.0),
        "v": lambda leaves: ss.Muon(leaves, lr=0.02),
        "*": lambda leaves: ss.AdamW(leaves, lr=0.01, cautious_decay=True, mars_gamma=0.02),
    }
    return ss.Partition(rules, params, **options)


def test_a_group_may_have_options_and_state_that_others_lack():
    params, apart = nest(), nest()
    one = ss.AdamW(params, lr=0.01, groups=[ss.group("b", **LOOP)])
    rest = ss.AdamW({"w": apart["w"], "v": apart["v"]}, lr=0.01)
    other = ss.AdamW({"b": apart["b"]}, lr=0.01, **LOOP)
    for k, again in enumerate(
        (copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o)), lambda o: o)
    ):
        one = again(one)
        grads = nest(k + 1)
        one.step(grads)
        rest.step({"w": grads["w"], "v": grads["v"]})
        other.step({"b": grads["b"]})
    assert all(same_bits(one.params[name], apart[name]) for name in SHAPES)
    assert set(one.state["b"]) - set(one.state["w"]) == {"last_grad"}


def test_rules_of_a_partition_keep_their_options():
    one, apart = parted(nest()), nest()
    others = [
        ss.NAdam({"w": apart["w"]}, lr=0.01, update_clip=1.0),
        ss.Muon({"v": apart["v"]}, lr=0.02),
        ss.AdamW({"b": apart["b"]}, lr=0.01, cautious_decay=True, mars_gamma=0.02),
    ]
    for k in range(4):
        grads = nest(k + 1)
        one.step(grads)
        for name, other in zip("wvb", others, strict=True):
            other.step({name: grads[name]})
        one = pickle.loads(pickle.dumps(one))
    assert all(same_bits(one.params[name], apart[name]) for name in SHAPES)


def test_gradients_may_arrive_one_by_one():
    made = [
        lambda: parted(nest(), on_nonfinite="ignore"),
        lambda: ss.AdamW(nest(), lr=0.1, on_nonfinite="ignore", **LOOP),
        lambda: ss.Muon(
            {"w": np.ones((3, 6, 5)), "b": np.ones((2, 5, 5)), "v": np.ones((1, 4, 4))},
            stacked=1,
            on_nonfinite="ignore",
        ),
    ]
    for make in made:
        whole, parts = make(), make()
        for k in range(3):
            rng = np.random.default_rng(k)
            grads = {name: rng.normal(size=leaf.shape) for name, leaf in whole.params.items()}
            whole.step(grads)
            with parts.arriving() as arrived:
                for path in ("v", "b", "w"):
                    assert arrived(path, grads[path])
        assert not arrived.waits
        assert snapshot(whole) == snapshot(parts)


def test_one_rule_of_a_partition_may_make_all_wait():
    optimizer = ss.Partition({"w": ss.Prodigy, "*": ss.SGD}, nest())
    assert optimizer.arriving().waits == "Prodigy adapts its rate to all leaves together"
    with pytest.raises(ValueError, match="nonfinite must be 'exact'"):
        optimizer.arriving(nonfinite="leaf")

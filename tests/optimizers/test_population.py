"""Replicas stepped at once move as optimizers of their own, to the bit."""

import copy
import pickle

import numpy as np
import pytest

import stepsize as ss
from cases import CASES, RULES, Case, comparable, random_grads, random_nest, same_bits
from stepsize.errors import CheckpointError, NonFiniteGradientError
from stepsize.optimizers.fields import nonnegative
from stepsize.optimizers.slots import signed

COUNT = 3
SHAPES = {"w": (5, 7), "b": (9,), "scalar": (), "k": (2, 3, 4)}
# What acts on all leaves together or per leaf, and the rest once a rule.
CHOSEN = [Case(cls) for cls in RULES] + [c for c in CASES if set(c.keywords) & {"clip_norm"}]


def stacked(dtype=np.float32, seed=0):
    return random_nest({name: (COUNT, *shape) for name, shape in SHAPES.items()}, dtype, seed)


def row(nest, k):
    return {name: leaf[k, ...].copy() for name, leaf in nest.items()}


def loss_of(cls, step):
    return {"loss": [1.0 / (1 + step + k) for k in range(COUNT)]} if cls.needs_loss else {}


def assert_rows(models, params, singles, own):
    for k in range(COUNT):
        for name, leaf in own[k].items():
            assert same_bits(params[name][k, ...], leaf), (k, name)
        assert comparable(models.replica(k).state_dict()) == comparable(singles[k].state_dict())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in CHOSEN])
def test_replicas_move_as_optimizers_of_their_own(case, dtype):
    rates = [1e-3, 0.05, 0.4]
    params = stacked(dtype)
    own = [row(params, k) for k in range(COUNT)]
    models = ss.population(case.cls, params, lr=rates, **case.keywords)
    singles = [case.make(own[k], lr=rates[k]) for k in range(COUNT)]
    for step in range(3):
        grads = random_grads(params, step)
        if step == 1:
            grads["b"] = None
        more = loss_of(case.cls, step)
        stats = models.step(grads, stats=True, **more)
        for k, single in enumerate(singles):
            nest = {name: None if g is None else g[k, ...].copy() for name, g in grads.items()}
            loss = {"loss": more["loss"][k]} if more else {}
            assert comparable(list(single.step(nest, stats=True, **loss))) == comparable(
                list(stats[k])
            )
    assert_rows(models, params, singles, own)
    assert models.step(random_grads(params, 9), **loss_of(case.cls, 9)) is None
    assert models.step_count.tolist() == [4] * COUNT


def test_any_hyperparameter_is_one_for_all_or_one_for_each():
    schedule = ss.schedules.cosine(0.1, 0.0, 10)
    models = ss.population(
        "adamw",
        stacked(),
        lr=[0.1, schedule, 0.3],
        betas=[(0.9, 0.99), (0.8, 0.9), (0.5, 0.6)],
        eps=np.array([1e-8, 1e-6, 1e-4]),
        weight_decay=0.5,
        amsgrad=[False, True, False],
        clip_norm=[None, 1.0, 2.0],
        groups=[ss.group("b", weight_decay=0.0)],
    )
    assert [models.replica(k).betas[0] for k in range(3)] == [(0.9, 0.99), (0.8, 0.9), (0.5, 0.6)]
    assert [models.replica(k).eps[0] for k in range(3)] == [1e-8, 1e-6, 1e-4]
    assert "max_exp_avg_sq" in models.replica(1).state["w"]
    assert "max_exp_avg_sq" not in models.replica(0).state["w"]
    assert models.replica(2).weight_decay == (0.5, 0.0)
    pair = ss.population("adam", {"x": np.ones((2, 3))}, betas=(0.5, 0.6))
    assert pair.betas == [(0.5, 0.6), (0.5, 0.6)]
    assert len(pair) == 2 and "2 x Adam" in repr(pair)


def test_rates_are_read_and_set_by_replica():
    models = ss.population("sgd", stacked(), lr=[0.1, 0.2, 0.3], momentum=0.9)
    models.lr = models.lr / 2
    assert models.lr.tolist() == [0.05, 0.1, 0.15]
    models.lr = 1.0
    models.lr_scale = [1.0, 0.5, 0.25]
    assert models.lr.tolist() == [1.0, 0.5, 0.25]
    assert models.hyperparams["momentum"].tolist() == [0.9] * 3
    with pytest.raises(ValueError, match="lr must be"):
        models.lr = [0.1, 0.2, -1.0]
    assert models.lr.tolist() == [1.0, 0.5, 0.25]
    with pytest.raises(ValueError, match="lr has 2 values for 3 replicas"):
        models.lr = [0.1, 0.2]
    with pytest.raises(AttributeError, match="no attribute 'rate'"):
        models.rate = 1.0
    with pytest.raises(AttributeError, match="no attribute 'rate'"):
        _ = models.rate


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_on_alike(make_copy):
    params = stacked()
    models = ss.population("adam", params, lr=[1e-3, 0.1, 0.2])
    models.step(random_grads(params, 1))
    other = make_copy(models)
    third = models.clone(ss.arrays.copy(params))
    for m in (models, other, third):
        m.step(random_grads(params, 2))
        assert comparable(m.state_dict()) == comparable(models.state_dict())
        assert all(same_bits(m.params[name], params[name]) for name in params)


def test_saved_and_loaded(tmp_path):
    params = stacked()
    models = ss.population("nadam", params, lr=[1e-3, 0.1, 0.2])
    models.step(random_grads(params, 1))
    models.save(tmp_path / "p.ss")
    other = ss.population("nadam", stacked(), lr=[1e-3, 0.1, 0.2])
    other.load(tmp_path / "p.ss")
    assert comparable(other.state_dict()) == comparable(models.state_dict())
    models.replica(0).save(tmp_path / "o.ss")
    with pytest.raises(CheckpointError, match="expected population"):
        other.load(tmp_path / "o.ss")
    for change, words in [
        ({"rule": "Adam"}, "rule must be 'NAdam', got 'Adam'"),
        ({"format": 2}, "format must be 1"),
        ({"replicas": []}, "it has 3 replicas, the state 0"),
        ({"replicas": [*models.state_dict()["replicas"][:2], {}]}, "a state dict must have"),
    ]:
        before = comparable(other.state_dict())
        with pytest.raises(ValueError, match=words):
            other.load_state_dict({**ss.population("nadam", stacked()).state_dict(), **change})
        assert comparable(other.state_dict()) == before


def test_a_diverged_replica_stays_or_stops_all():
    params = stacked()
    grads = random_grads(params, 1)
    grads["b"][1, 3] = np.inf
    before = ss.arrays.copy(params)
    models = ss.population("adam", params, lr=0.1)
    words = r"gradient of b holds NaN or infinity in replica 1 at step 0.*nothing was changed"
    with pytest.raises(NonFiniteGradientError, match=words):
        models.step(grads)
    assert all(same_bits(params[name], before[name]) for name in params)
    models = ss.population("adam", params, lr=0.1, on_nonfinite="skip")
    models.step(grads)
    assert models.step_count.tolist() == [1, 0, 1]
    for name in params:
        assert same_bits(params[name][1, ...], before[name][1, ...])
        assert not same_bits(params[name][2, ...], before[name][2, ...])


def test_an_error_in_one_replica_moves_none():
    def late(step):
        if step == 1:
            raise RuntimeError("no more")
        return 0.1

    params = stacked()
    models = ss.population("sgd", params, lr=[0.1, 0.1, late])
    models.step(random_grads(params, 0))
    before = ss.arrays.copy(params)
    with pytest.raises(RuntimeError, match="no more"):
        models.step(random_grads(params, 1))
    assert all(same_bits(params[name], before[name]) for name in params)
    assert models.step_count.tolist() == [1, 1, 1]
    models = ss.population("sgd", params, lr=[0.1, 0.1, lambda step: -1.0])
    with pytest.raises(ValueError, match=r"lr is -1\.0 at step 0"):
        models.step(random_grads(params, 1))
    assert all(same_bits(params[name], before[name]) for name in params)
    models = ss.population("polyak_sgd", params)
    for loss, words in [
        (1.0, "must be 3 numbers"),
        ([1.0], "must be 3"),
        (None, "loss is missing"),
    ]:
        with pytest.raises((TypeError, ValueError), match=words):
            models.step(random_grads(params, 1), loss=loss)
    assert all(same_bits(params[name], before[name]) for name in params)


def test_gradients_are_taken_in_any_form_and_refused_by_name():
    params = {"w": np.zeros((3, 2, 4))}
    models = ss.population("sgd", params, lr=1.0)
    models.step({"w": np.ones((3, 4, 2)).transpose(0, 2, 1)})
    models.step({"w": np.asfortranarray(np.ones((3, 2, 4)))})
    assert (params["w"] == -2).all()
    params["w"][...] = 1.0
    models.step(params)  # read where it is written
    assert not params["w"].any()
    memory = np.ones(30)
    models = ss.population("sgd", {"a": memory[:12].reshape(3, 4)}, lr=1.0)
    models.step({"a": memory[6:18].reshape(3, 4)})  # copied, since it overlaps
    assert not memory[:12].any()
    for grads, words in [
        ({"a": np.ones((2, 4))}, r"gradient of a has shape \(2, 4\), expected \(3, 4\)"),
        ({"a": np.ones((3, 4), "f")}, "gradient of a has dtype float32"),
        ({"b": np.ones((3, 4))}, "a is missing"),
        ([np.ones((3, 4))], "must be a dict"),
    ]:
        with pytest.raises((TypeError, ValueError), match=words):
            models.step(grads)
    assert models.step_count.tolist() == [1, 1, 1]


def test_parameters_whose_rows_do_not_lie_side_by_side_move_too():
    loose = np.asfortranarray(np.ones((3, 4)))
    models = ss.population("adam", loose, lr=[0.1, 0.2, 0.3])
    plain = np.ones((3, 4))
    other = ss.population("adam", plain, lr=[0.1, 0.2, 0.3])
    for seed in range(2):
        grad = random_grads(plain, seed)
        models.step(grad)
        other.step(grad)
    assert same_bits(np.ascontiguousarray(loose), plain)


@pytest.mark.parametrize(
    ("params", "keywords", "words"),
    [
        ({"a": np.ones((3, 2)), "b": np.ones(4)}, {}, r"b has shape \(4,\), but every array"),
        ({"a": np.array(1.0)}, {}, r"a has shape \(\).*ss\.replicate"),
        ({"a": np.ones((0, 2))}, {}, "leading axis"),
        ({"a": np.ones((3, 2))}, {"lr": [0.1, 0.2]}, "lr has 2 values for 3 replicas"),
        ({"a": np.ones((3, 2))}, {"lr": [0.1, -0.2, 0.3]}, "replica 1: Adam: lr must be"),
        ({"a": np.ones((3, 2))}, {"on_nonfinite": ["skip"] * 3}, "on_nonfinite must be one of"),
        ({"a": np.ones((3, 2), int)}, {}, "a has dtype int64"),
        ([{"params": np.ones((3, 2))}], {}, "cannot be a list of groups"),
    ],
)
def test_what_does_not_fit_is_named(params, keywords, words):
    with pytest.raises((TypeError, ValueError), match=words):
        ss.population("adam", params, **keywords)


def test_rules_that_call_the_model_are_refused():
    with pytest.raises(ValueError, match="LBFGS calls value_and_grad itself"):
        ss.population("lbfgs", np.ones((2, 3)))
    with pytest.raises(ValueError, match="count must be a whole number"):
        ss.replicate(np.ones(3), 0)
    copies = ss.replicate([np.ones((2, 3), np.float32), (np.ones(()),)], 4)
    assert copies[0].shape == (4, 2, 3) and copies[1][0].shape == (4,)


@pytest.mark.parametrize("rule", ["adam", "lamb"])
def test_threads_share_the_replicas_and_change_nothing(rule):
    found = []
    for threads in (1, 3):
        ss.set_num_threads(threads)
        params = random_nest({"a": (9, 10_000), "b": (9, 17)}, np.float32)
        models = ss.population(rule, params, lr=np.geomspace(1e-4, 1, 9), on_nonfinite="skip")
        for seed in range(3):
            grads = random_grads(params, seed)
            grads["a"][4, 5] = np.nan if seed == 1 else 1.0
            models.step(grads)
        assert models.step_count.tolist() == [3] * 4 + [2] + [3] * 4
        found.append(params)
    assert all(same_bits(found[0][name], found[1][name]) for name in found[0])


def test_gradients_of_two_bytes_are_those_numbers():
    params, other = stacked(), stacked()
    one, two = (ss.population(ss.AdamW, nest, lr=[0.1] * COUNT) for nest in (params, other))
    grads = {name: leaf.astype(np.float16) for name, leaf in random_grads(params, 1, 1e-3).items()}
    one.step(grads)
    two.step({name: leaf.astype(np.float32) for name, leaf in grads.items()})
    for name, leaf in params.items():
        assert same_bits(leaf, other[name])


def test_what_only_single_optimizers_have_is_refused():
    with pytest.raises(TypeError, match="w has dtype float16, expected float32 or float64"):
        ss.population(ss.SGD, {"w": np.zeros((2, 3), np.float16)}, lr=[0.1, 0.2])
    with pytest.raises(ValueError, match="loss_scale must be a number or None here"):
        ss.population(ss.SGD, np.zeros((2, 3)), lr=[0.1, 0.2], loss_scale="dynamic")


def test_a_rule_that_raises_in_one_replica_moves_none():
    class Own(ss.optimizers.Optimizer):
        lr = nonnegative(1.0)
        slots = (signed("m"),)

        def rule(self, x, g, s, h):
            if h.lr == 3.0 and h.t == 2:
                raise ZeroDivisionError("the rule itself")
            s.m += g
            x -= h.lr * s.m

    x = np.zeros((4, 3))
    models = ss.population(Own, x, lr=[1.0, 2.0, 3.0, 4.0])
    models.step(np.ones((4, 3)))
    before, state = x.copy(), comparable(models.state_dict())
    with pytest.raises(ZeroDivisionError, match="the rule itself"):
        models.step(np.ones((4, 3)))
    assert same_bits(x, before) and comparable(models.state_dict()) == state
    models.lr = 1.0
    models.step(np.ones((4, 3)))
    assert list(models.step_count) == [2] * 4

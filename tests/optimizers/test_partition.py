"""Several rules in one optimizer: each leaf moves as under its own rule alone, to the bit."""

import copy
import functools
import pickle
from contextlib import ExitStack

import numpy as np
import pytest

import stepsize as ss
from cases import (
    DTYPES,
    RULES,
    WRAPPERS,
    advance,
    comparable,
    numpy_rule,
    random_grads,
    random_nest,
    same_bits,
    snapshot,
)
from stepsize.optimizers.rule import Rule
from together import alike, together

SHAPES = {"a": (5, 7), "b": (7,), "c": (2, 3, 4), "d": (), "e": (300,), "f": (6, 6)}
FIRST = "[ace]"


def nest_of(dtype, seed=0):
    return random_nest(SHAPES, dtype, seed)


def of_two(one, other, params, **keywords):
    return ss.Partition({FIRST: one, "*": other}, params, **keywords)


def shares(nest):
    return [{n: x for n, x in nest.items() if (n in "ace") is first} for first in (True, False)]


def move(optimizer, grads, loss=1.25, **more):
    given = {"loss": loss} if optimizer.needs_loss else {}
    return optimizer.step(grads, **given, **more)


def everything(optimizer):
    """State and parameters by path, with the counters and scalars of each leaf."""
    d = optimizer.state_dict()
    leaves, paths, _ = ss.arrays.flatten(optimizer.params)
    found = {path: [np.array(leaf)] for path, leaf in zip(paths, leaves, strict=True)}
    return comparable(
        {p: [x, d["steps"][p], d["scalars"][p], d["state"][p]] for p, x in found.items()}
    )


@together("dtype", DTYPES, alike)
@together("pair", list(zip(RULES, RULES[1:] + RULES[:1], strict=True)), lambda p: p[0].__name__)
def test_two_rules_are_two_optimizers_to_the_bit(pair, dtype):
    params = nest_of(dtype)
    apart = shares(ss.arrays.copy(params))
    both = of_two(*pair, params)
    alone = [rule(part) for rule, part in zip(pair, apart, strict=True)]
    for seed in range(4):
        grads = random_grads(params, seed)
        if seed == 1:
            both = pickle.loads(pickle.dumps(both))
        if seed == 2:
            both = both.clone(ss.arrays.copy(both.params))
            grads |= {"a": None, "f": None}
        if seed == 3:
            grads |= dict.fromkeys("ace")
        move(both, grads)
        for optimizer, part in zip(alone, shares(grads), strict=True):
            move(optimizer, part)
    expected = {path: v for optimizer in alone for path, v in everything(optimizer).items()}
    assert everything(both) == expected
    assert both.step_count == 4


def test_rules_of_matrices_beside_rules_of_two_passes():
    """Of which one has passes that the other has not."""
    for shaped in (cls for cls in RULES if cls.shaped):
        for summing in (cls for cls in RULES if cls.scope is not None and cls is not shaped):
            params = nest_of(np.float32)
            apart = shares(ss.arrays.copy(params))
            both = of_two(shaped, summing, params)
            alone = [rule(part) for rule, part in zip((shaped, summing), apart, strict=True)]
            for seed in range(3):
                grads = random_grads(params, seed)
                grads |= dict.fromkeys("bdf" if seed == 1 else "ace" if seed == 2 else "")
                move(both, grads)
                for optimizer, part in zip(alone, shares(grads), strict=True):
                    move(optimizer, part)
            due = {path: v for optimizer in alone for path, v in everything(optimizer).items()}
            assert everything(both) == due, (shaped, summing)


OPTIONS = [{}, {"clip_norm": 0.5}, {"clip_value": 0.1, "maximize": True}, {"loss_scale": "dynamic"}]


@together("options", OPTIONS, alike)
@together("rule", [cls for cls in RULES if cls.scope != "all"])
def test_twice_one_rule_is_one_optimizer_to_the_bit(rule, options):
    """So one norm is clipped, one check is made and one set of statistics is taken over all."""
    params = nest_of(np.float32)
    whole = ss.arrays.copy(params)
    both, one = of_two(rule, rule, params, **options), rule(whole, **options)
    for seed in range(3):
        grads = random_grads(params, seed)
        if seed == 1 and "loss_scale" in options:
            grads["f"][2] = np.inf
        assert repr(move(both, grads, stats=True)) == repr(move(one, grads, stats=True))
        assert both.loss_scale == one.loss_scale
    assert everything(both) == everything(one)
    for name in ("lr_scale", "step_count", "paths"):
        assert getattr(both, name) == getattr(one, name)


@pytest.mark.parametrize("place", ["a", "f"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_refused_moves_no_part(place, clip):
    params = nest_of(np.float64)
    opt = of_two(ss.Muon, ss.Prodigy, params, clip_norm=clip)
    opt.step(random_grads(params, 0))
    before, grads = snapshot(opt), random_grads(params, 1)
    grads[place][1] = np.nan
    with pytest.raises(ss.NonFiniteGradientError, match=f"Partition: the gradient of {place} "):
        opt.step(grads)
    assert snapshot(opt) == before
    with pytest.raises(ValueError, match=f"Partition: the gradient of {place} has shape"):
        opt.step(grads | {place: np.ones(3)})
    assert snapshot(opt) == before
    skips = of_two(ss.Muon, ss.Prodigy, params, clip_norm=clip, on_nonfinite="skip")
    start = snapshot(skips)
    assert skips.step(grads, stats=True).nonfinite
    assert snapshot(skips) == start


class Failing(ss.SGD):
    """A rule of a user, which fails when it is told to."""

    def rule(self, x, g, s, h):
        if g.flat[0] > 1e6:
            raise RuntimeError("no")
        super().rule(x, g, s, h)


@together("place", ["a", "f"], alike)
def test_a_rule_that_raises_moves_no_part(place):
    params = nest_of(np.float64)
    rules = (Failing, ss.Prodigy) if place == "a" else (ss.Prodigy, Failing)
    opt = of_two(*rules, params)
    opt.step(random_grads(params, 0))
    before, grads = snapshot(opt), random_grads(params, 1)
    grads[place].flat[0] = 1e7
    with pytest.raises(RuntimeError, match="no"):
        opt.step(grads)
    assert snapshot(opt) == before


def by_state_dict(opt, again, path):
    again.load_state_dict(opt.state_dict())
    return again


def by_file(opt, again, path):
    opt.save(path)
    again.load(path)
    return again


WAYS = {
    "state_dict": by_state_dict,
    "file": by_file,
    "clone": lambda opt, again, path: opt.clone(again.params),
    "pickle": lambda opt, again, path: pickle.loads(pickle.dumps(opt)),
    "deepcopy": lambda opt, again, path: copy.deepcopy(opt),
}
MUON = functools.partial(
    ss.Muon, lr=ss.schedules.linear(0.02, 0.001, 9), groups=[ss.group("c", flatten=True, lr=0.5)]
)
ADAMW = functools.partial(ss.AdamW, lr=3e-3, state_dtype="int8", bounds=(-2.0, 9.0))


@pytest.mark.parametrize("way", WAYS)
def test_a_run_goes_on_bit_for_bit(way, tmp_path):
    params = ss.arrays.map_leaves(lambda x: np.array(np.clip(x, -1, 1)), nest_of(np.float32))
    first = of_two(MUON, ADAMW, params, clip_norm=1.0)
    for seed in range(3):
        first.step(random_grads(params, seed))
    first.lr_scale = 0.5
    first.parts["*"].betas = (0.8, 0.9)
    copied = ss.arrays.copy(params)
    second = WAYS[way](first, of_two(MUON, ADAMW, copied, clip_norm=1.0), tmp_path / "state")
    assert second.params is not params and snapshot(second) == snapshot(first)
    for seed in range(3, 6):
        for optimizer in (first, second):
            optimizer.step(random_grads(params, seed))
    assert snapshot(second) == snapshot(first)
    assert repr(second) == repr(first) and second.lr == first.lr


def test_a_rule_of_a_user_keeps_what_it_has_besides():
    class Scaled(ss.SGD):
        factor = 1.0

        def __init__(self, params, factor, **keywords):
            super().__init__(params, **keywords)
            self.factor = factor

        def rule(self, x, g, s, h):
            x -= self.factor * h.lr * g

    params = nest_of(np.float64)
    before = ss.arrays.copy(params)
    opt = of_two(lambda leaves: Scaled(leaves, 3.0, lr=0.5), "sgd", params)
    copies = [opt.clone(ss.arrays.copy(params)), copy.deepcopy(opt), opt]
    ones = ss.arrays.map_leaves(np.ones_like, params)
    for one in copies:
        one.step(ones)
        assert same_bits(one.params["a"], before["a"] - 3.0 * 0.5)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrappers_go_around_all_parts(wrap):
    params = nest_of(np.float64)
    whole = ss.arrays.copy(params)
    rule = functools.partial(ss.AdamW, lr=0.1)
    both, one = WRAPPERS[wrap](of_two(rule, rule, params)), WRAPPERS[wrap](rule(whole))
    for seed in range(7):
        if seed == 4:
            both = pickle.loads(pickle.dumps(both))
            two = WRAPPERS[wrap](of_two(rule, rule, ss.arrays.copy(both.params)))
            two.load_state_dict(both.state_dict())
            both = two.clone(ss.arrays.copy(two.params))
        grads = random_grads(params, seed)
        both.step(grads)
        one.step(grads)
    assert all(same_bits(both.params[name], whole[name]) for name in SHAPES)
    if hasattr(one, "eval_params"):
        averages = both.eval_params(), one.eval_params()
        assert all(same_bits(averages[0][name], averages[1][name]) for name in SHAPES)


def test_what_optimizers_do_with_gradients_and_layouts():
    """Bound ones, rows, half precision, strided and complex parameters, and quantized state."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    random = np.random.default_rng(0)
    wide = random.standard_normal((12, 4))
    base = {
        "strided": wide[::2],
        "rows": random.standard_normal((5, 3)),
        "complex": random.standard_normal(4) + 1j,
        "half": random.standard_normal((4, 4)).astype(np.float16),
        "bf16": random.standard_normal(9).astype(ml_dtypes.bfloat16),
        "int8": random.standard_normal(700).astype(np.float32),
    }
    rules = {
        "strided": ss.Muon,
        "rows": ss.Adagrad,
        "complex": ss.Adam,
        "half": ss.Shampoo,
        "bf16": functools.partial(ss.Lion, master_weights=False),
        "int8": functools.partial(ss.AdamW, state_dtype="int8"),
    }
    for names in (list(rules), [n for n in rules if n != "half"]):  # the latter all in C++
        mine = {n: np.array(base[n]) if n != "strided" else wide.copy()[::2] for n in names}
        apart = {n: {n: np.array(mine[n])} for n in names}
        both = ss.Partition({n: rules[n] for n in names}, mine)
        assert both.internals.engine.reference is ("half" in names)
        alone = {n: rules[n](apart[n]) for n in names}
        grads = {n: np.array(random.standard_normal(x.shape), x.dtype) for n, x in mine.items()}
        grads["half"] = grads["half"].astype(np.float32) if "half" in names else None
        grads = {n: g for n, g in grads.items() if g is not None}
        grads["rows"] = ss.RowGradient(np.array([3, 1]), random.standard_normal((2, 3)))
        for _ in range(3):
            both.step(grads)
            for n in names:
                alone[n].step({n: grads[n]})
        expected = {p: v for one in alone.values() for p, v in everything(one).items()}
        assert everything(both) == expected
    plain = nest_of(np.float32)
    held, twin = random_grads(plain, 1), ss.arrays.copy(plain)
    bound, given = of_two(ss.Muon, ss.AdamW, plain), of_two(ss.Muon, ss.AdamW, twin)
    bound.bind(held)
    bound.step()
    given.step(held)
    assert snapshot(bound) == snapshot(given)


def test_bounds_and_penalties_hold_for_their_part():
    params = ss.arrays.map_leaves(np.zeros_like, nest_of(np.float64))
    bounded = functools.partial(ss.SGD, lr=1.0, bounds=(-0.25, 0.5))
    opt = of_two(bounded, functools.partial(ss.SGD, lr=1.0, l1=0.5), params)
    opt.step(ss.arrays.map_leaves(np.ones_like, params))
    assert all(np.all(params[n] == (-0.25 if n in "ace" else -0.5)) for n in SHAPES)
    opt.clone(ss.arrays.copy(params)).step(ss.arrays.map_leaves(np.ones_like, params))


def test_hyperparameters_of_all_and_of_each():
    params = nest_of(np.float64)
    opt = of_two(MUON, functools.partial(ss.SGD, lr=0.1, weight_decay=0.5, momentum=0.5), params)
    assert opt.lr == (0.02, 0.5, 0.1) and opt.weight_decay == (0.1, 0.1, 0.5)
    opt.lr = (0.1, 0.2, 0.3)
    assert opt.hyperparams["lr"] == (0.1, 0.2, 0.3) == (*opt.parts[FIRST].lr, opt.parts["*"].lr)
    opt.parts["*"].momentum = 0.9
    assert opt.parts["*"].hyperparams["momentum"] == 0.9
    assert opt.parts["*"].rule is ss.SGD and opt.parts["*"].paths == ("b", "d", "f")
    opt.lr = (0.5, 0.5, 0.5)
    assert opt.lr == (0.5, 0.5, 0.5)
    opt.lr_scale = 0.5
    assert opt.lr == (0.25, 0.25, 0.25) == opt.lr_effective
    for act, message in (
        (lambda: opt.dampening, r"not every rule has dampening.*opt.parts\['\*'\].dampening"),
        (lambda: setattr(opt, "dampening", 1), "not every rule has dampening"),
        (lambda: opt.weight_decya, "did you mean weight_decay"),
        (lambda: setattr(opt, "weight_decya", 1), "did you mean weight_decay"),
        (lambda: opt.parts["*"].betas, "has no attribute 'betas'"),
        (lambda: setattr(opt.parts["*"], "betas", 1), "has no attribute 'betas'"),
    ):
        with pytest.raises(AttributeError, match=message):
            act()
    with pytest.raises(ValueError, match="Partition: SGD: weight_decay must be"):
        opt.parts["*"].weight_decay = -2
    with pytest.raises(ValueError, match="lr has 2 values for 3 groups"):
        opt.lr = (0.1, 0.2)
    by_leaf = of_two(ss.LARS, ss.SGD, params)
    assert set(by_leaf.lr_effective) == set(SHAPES)


class OwnStep(ss.SGD):
    def step(self, *args, **keywords):
        return super().step(*args, **keywords)


X = {"w": np.eye(2), "b": np.zeros(2)}
REFUSED = {
    "no rule for a leaf": ({"w": ss.SGD}, {}, ValueError, "no glob matches b"),
    "no leaf": (
        {"*": ss.SGD, "x": ss.SGD},
        {},
        ValueError,
        "'x' matches no leaf; the leaves are b",
    ),
    "taken": (
        {"*": ss.SGD, "w": ss.SGD},
        {},
        ValueError,
        "every leaf of 'w' is taken by an earlier",
    ),
    "no dict": ([ss.SGD], {}, TypeError, "rules must be a dict"),
    "none": ({}, {}, TypeError, "rules must be a dict"),
    "no glob": ({3: ss.SGD}, {}, TypeError, "globs of leaf paths"),
    "no rule": ({"*": 3}, {}, TypeError, "'\\*' must have a rule's name, its class, or a function"),
    "a name": ({"*": "adamx"}, {}, ValueError, "there is no optimizer 'adamx'"),
    "made": ({"*": ss.SGD(X)}, {}, TypeError, "made already, SGD; give its class"),
    "other arrays": ({"*": lambda p: ss.SGD(X)}, {}, ValueError, "over other arrays"),
    "some": (
        {"*": lambda p: ss.SGD(p["w"])},
        {},
        ValueError,
        "over other leaves, or has them",
    ),
    "a wrapper": ({"*": lambda p: ss.EMA(ss.SGD(p))}, {}, TypeError, "ss.EMA\\(ss.Partition"),
    "nothing": ({"*": lambda p: None}, {}, TypeError, "one rule, got NoneType"),
    "itself": ({"*": lambda p: ss.Partition({"*": ss.SGD}, p)}, {}, TypeError, "got Partition"),
    "closure": ({"*": ss.LBFGS}, {}, TypeError, "takes the function value_and_grad"),
    "own step": ({"*": OwnStep}, {}, TypeError, "has a step of its own"),
    "settings": ({"*": lambda p: ss.SGD(p, lr=-1)}, {}, ValueError, "'\\*': SGD: lr must be"),
    "clip": ({"*": lambda p: ss.SGD(p, clip_norm=1)}, {}, ValueError, "give it to the Partition"),
    "bounds": ({"*": ss.SGD}, {"bounds": (0, 1)}, TypeError, "bounds is given to the rules"),
    "groups": ({"*": ss.SGD}, {"groups": []}, TypeError, "groups is given to the rules"),
    "lr": ({"*": ss.SGD}, {"lr": 0.1}, TypeError, "unknown argument 'lr'"),
    "clip_nrom": ({"*": ss.SGD}, {"clip_nrom": 1}, TypeError, "did you mean clip_norm"),
    "clip_norm": ({"*": ss.SGD}, {"clip_norm": -1}, ValueError, "Partition: clip_norm must be"),
}


@together("name", REFUSED, alike)
def test_what_is_refused(name):
    rules, keywords, kind, message = REFUSED[name]
    params = ss.arrays.copy(X)
    with pytest.raises(kind, match=message):
        ss.Partition(rules, params, **keywords)


def test_groups_in_the_form_of_torch_are_refused():
    with pytest.raises(ValueError, match="params cannot be a list of groups"):
        ss.Partition({"*": ss.SGD}, [{"params": np.ones(2)}])


def test_a_state_of_other_rules_is_refused():
    params = nest_of(np.float64)
    opt = of_two(ss.Adam, ss.AdamW, params)
    before = snapshot(opt)
    for other in (of_two(ss.AdamW, ss.Adam, params), ss.Partition({"*": ss.Adam}, params)):
        with pytest.raises(ValueError, match="the state's groups are"):
            opt.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="the state is one of Adam"):
        opt.load_state_dict(ss.Adam(params).state_dict())
    with pytest.raises(ValueError, match="the state is one of Partition"):
        ss.Adam(params).load_state_dict(opt.state_dict())
    assert snapshot(opt) == before


def test_what_takes_one_rule_refuses_the_class():
    stacked = ss.replicate({"w": np.ones(2)}, 2)
    for act in (
        lambda: ss.population(ss.Partition, stacked),
        lambda: ss.minimize(lambda x: (x @ x, 2 * x), np.ones(2), rule=ss.Partition),
    ):
        with pytest.raises(TypeError, match="Partition"):
            act()
    assert not hasattr(ss.functional, "partition")
    assert ss.Partition not in ss.optimizers.registry()


def test_every_part_of_a_rule_is_asked_of_the_rule_of_the_leaf():
    """What a rule declares is the optimizer's own nowhere, or it would be that of no rule."""
    assert Rule.rule_at(rule := ss.SGD(np.ones(2)), 0) is rule
    opt = of_two(ss.Muon, ss.PolyakSGD if hasattr(ss, "PolyakSGD") else ss.MoMo, nest_of(float))
    assert opt.needs_loss
    with pytest.raises(TypeError, match="Partition: loss is missing"):
        opt.step(random_grads(opt.params, 0))
    advance(opt.clone(ss.arrays.copy(opt.params)), random_grads(opt.params, 0), loss=1.0)


def test_averages_of_some_parts():
    params = nest_of(np.float32)
    averaging, plain = shares(ss.arrays.copy(params))
    both = of_two(ss.ScheduleFreeSGD, ss.AdamW, params)
    alone = [ss.ScheduleFreeSGD(averaging), ss.AdamW(plain)]
    assert not hasattr(of_two(ss.SGD, ss.AdamW, ss.arrays.copy(params)), "averaged")
    for seed in range(3):
        grads = random_grads(params, seed)
        both.step(grads)
        for optimizer, part in zip(alone, shares(grads), strict=True):
            optimizer.step(part)
    both = pickle.loads(pickle.dumps(both)).clone(ss.arrays.copy(both.params))
    expected = {**alone[0].eval_params(), **plain}
    training = ss.arrays.copy(both.params)
    with both.averaged() as inside:
        assert all(same_bits(inside[name], expected[name]) for name in SHAPES)
        for act in (both.state_dict, lambda: both.step(grads), lambda: pickle.dumps(both)):
            with pytest.raises(RuntimeError, match="the parameters hold the average now"):
                act()
    assert all(same_bits(both.params[name], training[name]) for name in SHAPES)
    assert all(same_bits(both.eval_params()[name], expected[name]) for name in SHAPES)

    class Own(ss.Partition):
        pass

    with pytest.raises(TypeError, match="Own: a rule answers with an average"):
        Own({"*": ss.ASGD}, params)


STATED = [(ss.Prodigy, ss.DAdaptAdam), (ss.DoG, ss.Muon), (ss.SOAP, ss.DoWG), (ss.LAMB, ss.NAdam)]


@together("pair", STATED, alike)
@together("dtype", DTYPES, alike)
def test_numpy_says_the_same_of_two_rules(pair, dtype):
    """Also where one of them alone has no compiled twin, and so the whole step is in NumPy."""
    found = []
    for stated in ((), pair[:1], pair[1:], pair):
        with ExitStack() as stack:
            for cls in stated:
                stack.enter_context(numpy_rule(cls))
            params = nest_of(dtype)
            opt = of_two(*pair, params, clip_norm=2.0)
            assert opt.internals.engine.reference is bool(stated)
            stats = [opt.step(random_grads(params, seed), stats=True) for seed in range(3)]
        found.append((everything(opt), stats))
    assert found[0] == found[1] == found[2] == found[3]

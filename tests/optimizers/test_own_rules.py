"""Rules of users: what a class says runs, whatever its name, and what it forgets is refused."""

import copy
import pickle

import numpy as np
import pytest

import cases
import stepsize as ss
from cases import RULES, advance
from stepsize.optimizers import Optimizer, loop
from stepsize.optimizers.fields import Count, nonnegative, unit, unit_pair
from stepsize.optimizers.registration import find_rule
from stepsize.optimizers.rule import rebinds_parameter, runs_compiled
from stepsize.optimizers.slots import signed

ACCELERATED = [cls for cls in RULES if cls.accelerated]


def twice(self, x, g, s, h):
    x -= 2 * h.lr * g


@pytest.mark.parametrize("name", [cls.__name__ for cls in RULES])
def test_a_class_of_a_taken_name_runs_its_own_rule(name):
    own = type(name, (Optimizer,), {"lr": nonnegative(0.5), "rule": twice})
    x = np.ones(3)
    own(x).step(np.ones(3))
    assert not own.accelerated and list(x) == [0.0] * 3
    assert own not in ss.optimizers.registry()
    assert find_rule(name, "test") is getattr(ss, name)


@pytest.mark.parametrize("cls", ACCELERATED)
def test_a_subclass_with_a_rule_of_its_own_is_not_compiled(cls):
    for name in ("rule", "variant"):
        own = type(cls.__name__, (cls,), {name: vars(Optimizer).get(name, twice)})
        assert not own.accelerated, name


@pytest.mark.parametrize("cls", ACCELERATED)
def test_a_rule_that_is_replaced_later_runs(cls, monkeypatch):
    own = type(cls.__name__, (cls,), {})
    assert own.accelerated
    monkeypatch.setattr(own, "rule", twice)
    x = np.ones((2, 3))
    optimizer = own(x, lr=0.25, **({"weight_decay": 0.0} if "weight_decay" in cls.fields else {}))
    if not cls.needs_closure and cls.scope is None:
        optimizer.step(np.ones((2, 3)), loss=1.0)
        assert (x == 0.5).all()
    assert not runs_compiled(own) and runs_compiled(cls)


def rebinding(self, x, g, s, h):
    x = x - h.lr * g


def rebinding_beside_state(self, x, g, s, h):
    s.m[...] = 0.5 * s.m + g
    x = x - h.lr * s.m


def view_first(self, x, g, s, h):
    x = x.reshape(-1)
    x -= h.lr * g


def out_of_place(self, x, g, s, h):
    y = x
    x = x - h.lr * g
    y[...] = x


@pytest.mark.parametrize("rule", [rebinding, rebinding_beside_state])
def test_a_rule_that_gives_x_another_array_is_refused_and_changes_nothing(rule):
    optimizer = declared(slots=("m",), rule=rule)(np.ones(2))
    with pytest.raises(TypeError, match=r"Own: rule gives x another array.* in place"):
        optimizer.step(np.ones(2))
    assert optimizer.step_count == 0 and not optimizer.state["params"]["m"].any()


def test_no_rule_here_gives_x_another_array():
    assert not [cls for cls in RULES if rebinds_parameter(cls.rule)]


@pytest.mark.parametrize("rule", [view_first, out_of_place])
def test_a_rule_that_moves_x_may_name_other_arrays_x(rule):
    x = np.ones(2)
    declared(rule=rule)(x, lr=0.5).step(np.ones(2))
    assert list(x) == [0.5, 0.5]


@pytest.mark.parametrize("cls", [c for c in ACCELERATED if "weight_decay" in c.fields])
def test_a_subclass_with_other_defaults_alone_is_compiled_as_its_base(cls):
    own = type("SGD", (cls,), {"weight_decay": nonnegative(0.25)})
    params = [np.linspace(1.0, 2.0, 6).reshape(2, 3) for _ in range(2)]
    first, second = own(params[0]), cls(params[1], weight_decay=0.25)
    assert own.accelerated
    for optimizer in (first, second):
        advance(optimizer, np.ones((2, 3)))
    np.testing.assert_array_equal(*params)


def declared(**contents):
    defaults = {"lr": nonnegative(0.1), "rule": twice}
    return type("Own", (Optimizer,), {**defaults, **contents})


@pytest.mark.parametrize(
    "contents, error, words",
    [
        ({"slots": "m"}, TypeError, r"Own: slots must be a tuple of names, such as \('m',\)"),
        ({"slots": ("m", 3)}, TypeError, "slots must be a tuple of names"),
        ({"slots": ("m", "m")}, ValueError, "'m' cannot name a state array"),
        ({"slots": ("m",), "scalars": {"m": 0.0}}, ValueError, "'m' cannot name"),
        ({"slots": ("a b",)}, ValueError, "'a b' cannot name"),
        ({"slots": ("master",)}, ValueError, "'master' is that of master weights"),
        ({"betas": unit_pair(0.1, 0.2), "beta1": unit(0.5)}, ValueError, r"both be h\.beta1"),
        ({"scalars": ("n",)}, TypeError, "scalars must be a dict"),
        ({"lr": 0.1}, TypeError, r"lr must be a field, such as lr = nonnegative.*, got 0\.1"),
        ({"rule": Optimizer.rule}, TypeError, r"define rule, as in def rule\(self, x, g, s, h\)"),
        ({"scope": "all"}, TypeError, "define measure"),
        ({"scope": "every"}, ValueError, "scope must be None, 'leaf' or 'all'"),
        ({"decay": "weights"}, ValueError, "decay 'coupled', 'decoupled' or 'none'"),
        ({"clip_norm": nonnegative(1.0)}, ValueError, "clip_norm is taken by every optimizer"),
        ({"scope": nonnegative(1.0)}, ValueError, "scope is taken by every optimizer"),
    ],
)
def test_a_declaration_that_would_be_misread_is_refused_where_it_stands(contents, error, words):
    with pytest.raises(error, match=words):
        declared(**contents)


@pytest.mark.parametrize("shaped", [True, False])
def test_the_names_of_a_users_fields_mean_nothing_to_the_loop(shaped):
    fields = {name: field for cls in RULES for name, field in cls.fields.items()}
    for name, field in fields.items():
        if name in loop.LOOP or name in ("lr", "weight_decay"):  # the contract: `decay` says how
            continue
        seen = []

        def rule(self, x, g, s, h, seen=seen):
            seen.append(x.shape)
            x -= h.lr * g

        values = [field.default, cases.other_value(field)]
        values += [1] if isinstance(field, Count) else []
        for value in (value for value in values if value is not None):
            own = declared(rule=rule, shaped=shaped, **{name: copy.copy(field)})
            x = np.zeros((2, 3, 4))
            own(x, lr=1.0, **{name: value}).step(np.ones(x.shape), loss=9.0)
            assert seen.pop() == (x.shape if shaped else (x.size,)) and not seen, name
            assert (x == -1.0).all(), name


def test_no_field_takes_the_place_of_what_an_optimizer_has():
    names = {name for name in dir(Optimizer) if not name.startswith("__")} | {"t", "loss"}
    for name in names - {"lr", "fields"}:
        with pytest.raises(ValueError, match=f"Own: {name} is taken by every optimizer"):
            declared(**{name: nonnegative(1.0)})


def test_without_lr_a_class_is_refused():
    with pytest.raises(TypeError, match="lr must be a field"):
        type("Own", (Optimizer,), {"rule": twice})


def test_setting_a_state_array_writes_into_it():
    def rule(self, x, g, s, h):
        s.m = h.momentum * s.m + g
        s.n = s.n + 1
        x -= h.lr * s.m

    own = declared(slots=(signed("m"),), scalars={"n": 0.0}, momentum=unit(0.5), rule=rule)
    x = np.zeros(2)
    optimizer = own(x, lr=1.0)
    for _ in range(3):
        optimizer.step(np.ones(2))
    assert list(optimizer.state["params"]["m"]) == [1.75, 1.75]
    assert list(x) == [-4.25, -4.25]
    assert optimizer.internals.scalars(0).n == 3


@pytest.mark.parametrize(
    "rule, error, words",
    [
        (lambda self, x, g, s, h: x - g, TypeError, "rule returned a ndarray, but .* in place"),
        (lambda self, x, g, s, h: setattr(s, "mm", g), AttributeError, "the state has no 'mm'"),
    ],
)
def test_a_rule_that_changes_nothing_says_so_and_leaves_all_as_it_was(rule, error, words):
    optimizer = declared(slots=("m",), rule=rule)(np.ones(2))
    with pytest.raises(error, match=words):
        optimizer.step(np.ones(2))
    assert optimizer.step_count == 0 and list(optimizer.params) == [1.0, 1.0]


class Remembering(Optimizer):
    """Keeps to itself what its rule needs, and how often it was asked."""

    lr = nonnegative(1.0)

    def __init__(self, params, **keywords):
        super().__init__(params, **keywords)
        self._factor, self._calls = 4.0, []

    def rule(self, x, g, s, h):
        self._calls.append(h.t)
        x -= h.lr * self._factor * g


class Looking(Optimizer):
    """Looks at what is of the optimizer, not of its rule."""

    lr = nonnegative(1.0)
    asked = "lr"

    def rule(self, x, g, s, h):
        x -= getattr(self, self.asked) * g


def alone(rule, x):
    return rule(x)


def in_a_partition(rule, x):
    return ss.Partition({"*": rule}, x)


def in_a_population(rule, x):
    return ss.population(rule, x)


@pytest.mark.parametrize("make", [alone, in_a_partition, in_a_population])
def test_what_a_rule_keeps_to_itself_goes_along_everywhere(make):
    x = np.zeros((2, 3))
    optimizer = make(Remembering, x)
    optimizer.step(np.ones((2, 3)))
    assert (x == -4.0).all()
    twins = [optimizer.clone(x.copy()), copy.deepcopy(optimizer)]
    twins.append(pickle.loads(pickle.dumps(optimizer)))
    optimizer.step(np.ones((2, 3)))
    for twin in twins:
        twin.step(np.ones((2, 3)))
        assert (twin.params == x).all()
        if make is alone:
            assert twin._calls == [1, 2] and twin._calls is not optimizer._calls


@pytest.mark.parametrize("asked", ["lr", "step_count", "params", "hyperparams", "_leaves"])
def test_the_rule_of_a_part_is_told_where_its_numbers_are(asked):
    own = type("Own", (Looking,), {"asked": asked})
    optimizer = in_a_partition(own, np.ones(3))
    words = f"Own: {asked} is of an optimizer with leaves.* h has this step's hyperparameters"
    with pytest.raises(AttributeError, match=words):
        optimizer.step(np.ones(3))
    assert list(optimizer.params) == [1.0] * 3 and optimizer.step_count == 0

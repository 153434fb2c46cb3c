"""What is set, grouped or masked in a way that would be misread: used, or refused by name."""

import gc
import warnings
import weakref

import numpy as np
import pytest

import stepsize as ss
from cases import RULES, advance, cases_of, other_value
from stepsize.optimizers.fields import Choice, Field, Several

ARRAYS = {"body": {"w": np.ones((3, 2)), "b": np.ones(2)}, "head": {"b": np.ones(2)}}


def params():
    return ss.arrays.copy(ARRAYS)


FIELDS = [(cls, field) for cls in RULES for field in cls.fields.values()]
NEEDED = [
    (cls, field)
    for cls, field in FIELDS
    if field.default is not None and not (isinstance(field, Choice) and field.accepts_none)
]


@pytest.mark.parametrize(("cls", "field"), NEEDED, ids=lambda x: getattr(x, "name", None))
def test_none_is_no_value_but_for_the_rate_in_a_constructor(cls, field: Field):
    if field.name != "lr":
        with pytest.raises((TypeError, ValueError), match=f"{cls.__name__}: {field.name} must be"):
            cls(params(), **{field.name: None})
    optimizer = cls(params(), lr=None)
    before = repr(optimizer)
    with pytest.raises((TypeError, ValueError), match=f"{cls.__name__}: {field.name} must be"):
        setattr(optimizer, field.name, None)
    assert repr(optimizer) == before
    if not cls.needs_closure:
        with pytest.raises((TypeError, ValueError), match=f"group 'head/b': {field.name} must be"):
            cls(params(), groups=[ss.group("head/b", **{field.name: None})])


@pytest.mark.parametrize(
    "value", [np.bool_(True), np.array(True), np.array([0.1]), "0.1", 10**400, None, 1j]
)
def test_what_is_no_number_leaves_the_schedule_in_place(value):
    schedule = ss.schedules.linear(0.1, 0.0, 10)
    optimizer = ss.SGD(params(), lr=schedule)
    with pytest.raises((TypeError, ValueError), match="SGD: lr must be"):
        optimizer.lr = value
    assert optimizer.lr == 0.1 and optimizer.internals.groups.tables[0]["lr"] is schedule


def test_a_field_that_was_left_out_cannot_be_given_later_and_nothing_changes():
    optimizer = ss.LBFGS(params())
    with pytest.raises(ValueError, match="max_eval is settled when the optimizer is made"):
        optimizer.max_eval = 3
    assert optimizer.max_eval is None


def test_scaling_the_present_rate_says_that_the_schedule_ends():
    optimizer = ss.SGD(params(), lr=ss.schedules.linear(0.1, 0.0, 10))
    with pytest.warns(UserWarning, match=r"lr = 0.05, .* replaces the schedule .* opt.lr_scale"):
        optimizer.lr *= 0.5
    assert optimizer.lr == 0.05
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.lr *= 0.5  # a number by now
        optimizer.lr = ss.schedules.linear(0.1, 0.0, 10)
        optimizer.lr = 0.3  # a decision, not a calculation


def test_a_changing_rate_of_ftrl_is_said():
    with pytest.warns(UserWarning, match="a changing rate scales the whole solution"):
        ss.FTRL(params(), lr=ss.schedules.linear(0.1, 0.05, 10))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (
            [ss.group("body/*", lr=0.01), ss.group("*/b", weight_decay=0.0)],
            r"body/b is in group 'body/\*' and in '\*/b', whose weight_decay would not act "
            r".*put ss.group\('body/b', weight_decay=0.0, lr=0.01\) first",
        ),
        (
            [ss.group("*", lr=0.01), ss.group("head/b", lr=0.1)],
            r"every leaf of group 'head/b' is taken by an earlier one \(head/b by '\*'\)",
        ),
    ],
)
def test_groups_that_would_lose_a_setting_are_refused(groups, words):
    with pytest.raises(ValueError, match=words):
        ss.AdamW(params(), lr=0.3, groups=groups)


def test_groups_that_overlap_without_loss_are_taken_in_their_order():
    groups = [ss.group("body/b", lr=0.1, weight_decay=0.5), ss.group("body/*", lr=0.2)]
    assert ss.AdamW(params(), lr=0.3, groups=groups).lr == (0.3, 0.1, 0.2)


@pytest.mark.parametrize("cls", [ss.SGD, ss.Muon])
def test_masks_are_not_lost(cls):
    masked = np.ma.masked_array(np.ones((3, 2)), mask=np.eye(3, 2))
    with pytest.raises(TypeError, match="parameter w is a masked array"):
        cls({"w": masked})
    x = {"w": np.ones((3, 2))}
    for optimizer in (cls(x), ss.Centralize(cls(x))):
        with pytest.raises(TypeError, match="the gradient of w is a masked array"):
            optimizer.step({"w": masked})
    assert (x["w"] == 1).all()


DOORS = {
    "pack": ss.pack,
    "population": lambda nest: ss.population("sgd", nest, lr=0.1),
    "minimize": lambda nest: ss.minimize(lambda x: (0.0, x), nest),
    "save": lambda nest: ss.save("never-written", nest),
    "LBFGS": ss.LBFGS,
    "clone": lambda nest: ss.SGD({"w": np.ones((3, 2))}).clone(nest),
    "replicate": lambda nest: ss.replicate(nest, 2),
    "bounds, low": lambda nest: ss.SGD({"w": np.ones((3, 2))}, bounds=(nest, 5.0)),
    "bounds, high": lambda nest: ss.SGD({"w": np.ones((3, 2))}, bounds=(None, nest)),
    "bounds of minimize": lambda nest: ss.minimize(
        lambda x: (float(x @ x), 2 * x), np.ones(2), bounds=(nest["w"][0], 5.0)
    ),
    "lr_find": lambda nest: ss.lr_find(lambda p, b: (0.0, p), nest, [0]),
    "autolr": lambda nest: ss.autolr(lambda p, b: (0.0, p), nest, [0], steps=20),
    "sharpness": lambda nest: ss.sharpness(lambda p, b: (0.0, p), nest),
    "check_gradients": lambda nest: ss.check_gradients(lambda p, b: (0.0, p), nest, 0),
    "central": lambda nest: ss.gradients.central(lambda p, b: 0.0)(nest, None),
    "noise scale": lambda nest: ss.gradient_noise_scale([nest] * 3, 8),
}


@pytest.mark.parametrize("door", DOORS)
def test_masks_of_parameters_are_lost_nowhere(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match="masked array, whose mask would be lost"):
        DOORS[door]({"w": np.ma.masked_array(np.ones((3, 2)), mask=np.eye(3, 2))})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clip_norm", 1.0),
        ("clip_value", 1.0),
        ("on_nonfinite", "skip"),
        ("loss_scale", 8.0),
        ("groups", [ss.group("body/*", lr=0.1)]),
    ],
)
def test_what_a_line_search_cannot_use_is_refused_where_lbfgs_is_made(name, value):
    with pytest.raises(ValueError, match=f"LBFGS: {name}.* does not go with a line search"):
        ss.LBFGS(params(), **{name: value})


WRAPPERS = (ss.EMA, ss.SWA, ss.Lookahead, ss.Mechanic, ss.Centralize, ss.AdaptiveClip, ss.SAM)


@pytest.mark.parametrize("wrap", [*WRAPPERS, ss.GradientNoise, lambda opt: ss.Accumulate(opt, 2)])
def test_nothing_goes_around_what_takes_the_function(wrap):
    for inner in (ss.LBFGS(params()), ss.SAM(ss.SGD(params()))):
        with pytest.raises(TypeError, match="takes the function value_and_grad, not gradients"):
            wrap(inner)


@pytest.mark.parametrize("cls", [c for c in RULES if not c.needs_closure])
def test_mechanic_leaves_a_leaf_without_gradient_where_it_is(cls):
    nest = {"w": np.ones((3, 2)), "b": np.ones(2)}
    optimizer = ss.Mechanic(cls(nest))
    loss = {"loss": 1.0} if cls.needs_loss else {}
    for _ in range(3):
        optimizer.step({"w": np.ones((3, 2)), "b": None}, **loss)
    assert list(nest["b"]) == [1.0, 1.0]


def test_an_average_that_is_still_the_start_says_so():
    optimizer = ss.EMA(ss.SGD(params(), lr=0.1))
    optimizer.eval_params()
    optimizer.step(params())
    for read in (optimizer.eval_params, lambda: optimizer.averaged().__enter__()):
        with pytest.warns(UserWarning, match=r"after 1 updates the average still holds 100.0%"):
            read()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warm = ss.EMA(ss.SGD(params(), lr=0.1), warmup=True)
        warm.step(params())
        warm.eval_params()


@pytest.mark.parametrize("wrap", [ss.EMA, ss.SWA])
def test_the_average_is_not_taken_for_the_training_point(wrap, tmp_path):
    optimizer = wrap(ss.SGD(params(), lr=0.1))
    state = optimizer.state_dict()
    with optimizer.averaged():
        for refused in (
            lambda: optimizer.step(params()),
            optimizer.state_dict,
            lambda: optimizer.load_state_dict(state),
            lambda: optimizer.save(tmp_path / "file"),
            lambda: ss.save(tmp_path / "file", optimizer.params, optimizer),
            lambda: optimizer.averaged().__enter__(),
        ):
            with pytest.raises(RuntimeError, match=f"{wrap.__name__}: .* hold the average now"):
                refused()
    optimizer.step(params())


WRAPPED = [
    lambda opt: opt,
    ss.Lookahead,
    ss.Mechanic,
    ss.Centralize,
    ss.AdaptiveClip,
    lambda opt: ss.Accumulate(opt, 1),
    lambda opt: ss.EMA(opt, 0.5),
]


@pytest.mark.parametrize("wrap", WRAPPED)
def test_bound_gradients_reach_the_rule_through_every_wrapper(wrap):
    nests, grads = [params(), params()], params()
    bound, passed = (wrap(ss.SGD(nest, lr=0.1)) for nest in nests)
    with pytest.raises(ValueError, match="none are bound"):
        bound.step()
    bound.bind(grads)
    for _ in range(3):
        bound.step()
        passed.step(grads)
    for one, two in zip(*(ss.arrays.flatten(nest)[0] for nest in nests), strict=True):
        np.testing.assert_array_equal(one, two)


class Trainer:
    """Owns an optimizer whose hyperparameters are methods of its own."""

    def __init__(self, how):
        self.optimizer = ss.AdamW(np.ones(3), lr=0.1)
        if how == "made":
            self.optimizer = ss.AdamW(np.ones(3), lr=self.rate, betas=(self.rate, 0.99))
        elif how == "set":
            self.optimizer.lr, self.optimizer.betas = self.rate, (0.9, self.rate)
        elif how == "in a schedule":
            rate = ss.schedules.from_function(self.rate)
            self.optimizer = ss.AdamW(np.ones(3), lr=rate, weight_decay=(rate * 2).warmup(3))
        elif how == "a schedule set":
            self.optimizer.lr = ss.schedules.from_function(self.rate)
        elif how == "a schedule kept":
            self.schedule = ss.schedules.from_function(self.rate)
            self.optimizer = ss.EMA(ss.AdamW(np.ones(3), lr=self.schedule))
        elif how == "cloned":
            self.optimizer.lr = self.rate
            self.optimizer = self.optimizer.clone(np.ones(3))

    def rate(self, step):
        return 0.5 / (step + 1)


@pytest.mark.parametrize(
    "how", ["made", "set", "cloned", "in a schedule", "a schedule set", "a schedule kept"]
)
def test_an_optimizer_whose_rate_is_a_method_of_its_owner_is_freed(how):
    trainer = Trainer(how)
    trainer.optimizer.step(np.ones(3))
    assert trainer.optimizer.lr == 0.25
    gone = weakref.ref(trainer.optimizer)
    del trainer
    gc.collect()
    assert gone() is None


OPTIONAL = [(cls, field) for cls, field in FIELDS if isinstance(field, Several) and field.optional]


@pytest.mark.parametrize(("cls", "field"), OPTIONAL, ids=lambda x: getattr(x, "name", None))
def test_none_among_several_numbers_is_the_default_of_its_place_alone(cls, field: Several):
    given = tuple(item / 2 + 0.001 for item in field.default)
    for place, default in enumerate(field.default):
        value = (*given[:place], None, *given[place + 1 :])
        expected = (*given[:place], default, *given[place + 1 :])
        assert getattr(cls(params(), **{field.name: value}), field.name) == expected


def parameters_after(case, change):
    """The parameters after steps at falling rates, between which the change was made."""
    leaves = {"w": np.linspace(-1, 1, 12).reshape(3, 4), "b": np.linspace(1, 2, 5)}
    optimizer = case.make(leaves)
    for k in range(8):
        if k == 2:
            for name, value in change.items():
                setattr(optimizer, name, value)
        optimizer.lr = 0.1 / (1 + k)
        advance(optimizer, {name: np.cos(7 * x + k) for name, x in leaves.items()})
    return [leaf.tobytes() for leaf in leaves.values()]


def other_values(field):
    """Near and far: some numbers count where they are large, or small."""
    yield from (value for value in (other_value(field), field.default) if value is not None)
    if isinstance(field, Several):
        yield tuple(item * (0.9 + 0.2 * k) for k, item in enumerate(field.default))
        yield tuple(item + 0.25 for item in field.default)
        yield from (tuple(item * factor for item in field.default) for factor in (1e-3, 1e3))
    elif not isinstance(field, Choice):
        yield from (100, 0.5, 1.01, -100.0)
        if type(field.default) is float:
            yield from (field.default * factor for factor in (1e-3, 30.0, 1e3))


# What eight steps cannot show: the step an average begins at, and a bound of a growth that is slow.
LATE = {"lr", "t0", "growth_rate"}


def is_refused_or_used(cls, field):
    for case in cases_of(cls):
        unchanged = parameters_after(case, {})
        for value in other_values(field):
            try:
                if parameters_after(case, {field.name: value}) != unchanged:
                    return True
            except (TypeError, ValueError) as error:  # it may not hold the value either
                if "is settled when the optimizer is made" in str(error):
                    return True
    return False


@pytest.mark.parametrize("cls", RULES)
def test_what_can_be_set_later_changes_the_steps_that_follow(cls):
    fields = (field for name, field in cls.fields.items() if name not in LATE)
    assert not [field.name for field in fields if not is_refused_or_used(cls, field)]

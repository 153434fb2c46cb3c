"""What may be set on an optimizer: what it has a use for, and what a user's class has besides."""

import copy
import pickle

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from stepsize.optimizers.fields import nonnegative

WORDS = ("decay", "kernel", "slots", "scope", "shaped", "scalars", "fields", "accelerated", "later")
WORDS += (
    "by_row",
    "adapts_lr",
    "steady_lr",
    "needs_loss",
    "needs_closure",
    "step",
    "rule",
    "params",
)
WORDS += ("paths", "state", "step_count", "loss_scale", "lr_effective", "hyperparams", "internals")
WORDS += ("clip_norm", "maximize", "on_nonfinite", "learning_rate", "weightdecay", "nothing")


@pytest.mark.parametrize("cls", [*RULES, ss.LBFGS])
def test_names_that_mean_nothing_are_refused(cls):
    optimizer = cls({"x": np.ones(3)})
    fields = [f for rule in RULES for f in rule.fields if f not in cls.fields]
    for name in {*WORDS, *fields, *dir(cls)}:
        if name in cls.fields or name.startswith("_") or name == "lr_scale":
            continue
        with pytest.raises(AttributeError, match=f"'{name}'"):
            setattr(optimizer, name, 0.1)
        assert name not in vars(optimizer), name


@pytest.mark.parametrize("wrap", [lambda opt: opt, ss.SAM, ss.Lookahead])
def test_the_nearest_name_is_given(wrap):
    optimizer = wrap(ss.SGD(np.ones(2), lr=0.1))
    for name, near in (("learning_rate", "lr_scale"), ("momentun", "momentum")):
        with pytest.raises(AttributeError, match=rf"SGD has no attribute '{name}'.*{near}"):
            setattr(optimizer, name, 0.1)
    with pytest.raises(AttributeError, match="'decay'; did you mean weight_decay"):
        optimizer.decay = 0.1
    population = ss.population("sgd", np.ones((2, 3)), lr=0.1)
    with pytest.raises(AttributeError, match="did you mean weight_decay"):
        population.decay = 0.1


class Mixin:
    def prepare(self):
        self.prepared = True


class Counting(ss.optimizers.Optimizer, Mixin):
    """A rule of a user, with attributes of its own."""

    lr = nonnegative(0.5)
    calls = 0
    label: str

    def __init__(self, *args, factor=2.0, **keywords):
        self.early = "before"
        super().__init__(*args, **keywords)
        self.factor = factor
        self.seen = []
        self.prepare()

    @property
    def doubled(self):
        return 2 * self.factor

    @doubled.setter
    def doubled(self, value):
        self.factor = value / 2

    def rule(self, x, g, s, h):
        self.calls += 1
        self.seen.append(h.t)
        x -= h.lr * self.factor * g


class Named(ss.SGD):
    """A class of ours under another name, with an attribute."""

    purpose = "none"


def test_classes_of_users_have_their_own():
    x = np.zeros(2)
    opt = Counting(x, factor=4.0)
    opt.step(np.ones(2))
    assert list(x) == [-2.0, -2.0] and opt.calls == 1 and opt.seen == [1]
    opt.label, opt.calls, opt.doubled, opt.early = "mine", 7, 2.0, "after"
    assert (opt.label, opt.calls, opt.factor, opt.prepared) == ("mine", 7, 1.0, True)
    for name in ("slots", "decay", "fakter", "momentum"):
        with pytest.raises(AttributeError, match=f"Counting has no attribute '{name}'"):
            setattr(opt, name, 1)
    named = Named(x)
    named.purpose = "test"
    assert named.purpose == "test" and named.accelerated
    with pytest.raises(AttributeError, match="Named has no attribute 'kernel'"):
        named.kernel = "Adam"


@pytest.mark.parametrize("way", ["clone", "pickle", "deepcopy"])
def test_copies_have_them_too(way):
    opt = Counting(np.zeros(2), factor=4.0)
    opt.step(np.ones(2))
    opt.label = "mine"
    twin = {
        "clone": lambda: opt.clone(np.array(opt.params)),
        "pickle": lambda: pickle.loads(pickle.dumps(opt)),
        "deepcopy": lambda: copy.deepcopy(opt),
    }[way]()
    assert (twin.factor, twin.label, twin.calls, twin.seen) == (4.0, "mine", 1, [1])
    twin.seen.append(9)
    assert opt.seen == [1]
    opt.step(np.ones(2))
    twin.step(np.ones(2))
    assert list(opt.params) == list(twin.params)


@pytest.mark.parametrize("wrap", [lambda opt: opt, ss.Lookahead])
def test_habits_of_other_libraries_are_answered(wrap):
    optimizer = wrap(ss.SGD(np.ones(2), lr=0.1))
    for name, near in (
        ("zero_grad", "keeps none"),
        ("param_groups", "hyperparams"),
        ("apply_gradients", "step.grads."),
        ("learning_rate", "it is lr here"),
    ):
        with pytest.raises(
            AttributeError, match=f"'SGD' object has no attribute '{name}'; .*{near}"
        ):
            getattr(optimizer, name)
    assert not hasattr(optimizer, "nothing") and not hasattr(optimizer, "__array__")
    for name, ours in (
        ("adamw", "AdamW"),
        ("EarlyStopper", None),
        ("ModelCheckpoint", "Checkpoint"),
    ):
        with pytest.raises(AttributeError, match=f"it is stepsize.{ours} here" if ours else name):
            getattr(ss, name)
    with pytest.raises(AttributeError, match=r"it is schedules\.cosine here"):
        _ = ss.schedules.cosine_decay
    assert set(ss._ELSEWHERE.values()) <= {*ss.__all__, *ss._EXTRAS}
    assert set(ss.schedules._ELSEWHERE.values()) <= set(ss.schedules.__all__)

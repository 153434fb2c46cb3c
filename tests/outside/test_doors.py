"""Gradients of every layout, dtype and flag at the doors beside an optimizer's step: functions on
arrays, populations, tensors of torch, estimators and the noise scale."""

import numpy as np
import pytest

import stepsize as ss
from cases import comparable
from hostile import Tagged, misaligned, read_only, spread

SHAPES = {"w": (2, 4, 3), "b": (2, 5)}


def nest(seed):
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape) for name, shape in SHAPES.items()}


class Functions:
    """`functional.adamw_` on every leaf, with the state that a user keeps."""

    def __init__(self):
        self.params = nest(0)
        self.moments = [{k: np.zeros_like(v) for k, v in self.params.items()} for _ in range(2)]
        self.steps = 0

    def step(self, grads):
        if list(grads) != list(self.params):
            grads = {"b": grads["b"], "w": grads["w"]}
        names = list(self.params)
        first, second = self.moments
        ss.functional.adamw_(
            [self.params[k] for k in names], [grads[k] for k in names],
            [first[k] for k in names], [second[k] for k in names], lr=0.1, step=self.steps + 1,
        )  # fmt: skip
        self.steps += 1

    def whole(self):
        return comparable([self.params, self.moments])


class Replicas:
    def __init__(self, rule):
        self.population = ss.population(rule, nest(0), lr=[0.1, 0.2])

    def step(self, grads):
        self.population.step(grads)

    def whole(self):
        return comparable([self.population.state_dict(), self.population.params])


class Bound:
    """An optimizer that reads what it was bound to."""

    def __init__(self):
        self.optimizer = ss.Adam(nest(0), lr=0.1)

    def step(self, grads):
        self.optimizer.bind(grads)
        self.optimizer.step()

    def whole(self):
        return comparable([self.optimizer.state_dict(), self.optimizer.params])


class Parts:
    """Two rules, one of which has a clipped norm in common with the other."""

    def __init__(self):
        rules = {"w": ss.Muon, "*": ss.AdamW}
        self.optimizer = ss.Partition(rules, nest(0), clip_norm=1.0)

    def step(self, grads):
        self.optimizer.step(grads)

    def whole(self):
        return comparable([self.optimizer.state_dict(), self.optimizer.params])


class NoiseScale:
    """Many gradients at one point."""

    def __init__(self):
        self.found = []

    def step(self, grads):
        nests = [grads, {k: np.array(v) * 1.5 for k, v in grads.items()}, grads]
        self.found.append(ss.gradient_noise_scale(nests, 8))

    def whole(self):
        return repr(self.found)


DOORS = {
    "functional": Functions,
    "population, Adam": lambda: Replicas(ss.Adam),
    "population, SGD": lambda: Replicas(ss.SGD),
    "population, Lion": lambda: Replicas(ss.Lion),
    "bind": Bound,
    "partition": Parts,
    "noise scale": NoiseScale,
}


def each(change):
    return lambda grads: {name: change(grad.copy()) for name, grad in grads.items()}


SAME = {
    "Fortran order": each(np.asfortranarray),
    "reversed": each(lambda g: np.flip(np.flip(g).copy())),
    "with gaps": each(spread),
    "misaligned": each(misaligned),
    "read-only": each(read_only),
    "a subclass": each(lambda g: g.view(Tagged)),
    "a view": each(lambda g: np.stack([g, g])[1]),
    "another order": lambda grads: dict(reversed(list(grads.items()))),
}
BAD = {
    "a list": each(lambda g: g.tolist()),
    "whole numbers": each(lambda g: g.astype(np.int64)),
    "truth values": each(lambda g: g > 0),
    "complex": each(lambda g: g.astype(np.complex128)),
    "objects": each(lambda g: g.astype(object)),
    "strings": each(lambda g: g.astype(str)),
    "dates": each(lambda g: g.astype(np.int64).astype("M8[s]")),
    "float32": each(lambda g: g.astype(np.float32)),
    "other byte order": each(lambda g: g.astype(np.dtype(float).newbyteorder())),
    "one axis more": each(lambda g: g[None]),
    "too long": each(lambda g: np.concatenate([g, g])),
    "masked": each(lambda g: np.ma.masked_array(g, g > 0)),
    "a leaf is missing": lambda grads: {"w": grads["w"]},
    "a leaf of None": lambda grads: grads | {"b": "x"},
    "one number": lambda grads: grads | {"b": 1.0},
    "a set": lambda grads: grads | {"b": {1.0}},
    "a string": lambda grads: "gradients",
    "nothing": lambda grads: 3,
}


BY_HAND = ("a leaf is missing", "a string", "nothing")
# Where the gradients have to lie as they are read, anything else is refused.
IN_PLACE = ("functional", "bind")
COPIED = ("Fortran order", "reversed", "with gaps", "misaligned")


@pytest.mark.parametrize("form", SAME)
@pytest.mark.parametrize("door", DOORS)
def test_the_layout_of_a_gradient_changes_no_bit(door, form):
    plain, other = DOORS[door](), DOORS[door]()
    for seed in (1, 2, 3):
        plain.step(nest(seed))
        if door in IN_PLACE and form in COPIED:
            with pytest.raises(ValueError, match="contiguous"):
                other.step(SAME[form](nest(seed)))
            other.step(nest(seed))
        else:
            other.step(SAME[form](nest(seed)))
    assert plain.whole() == other.whole()


@pytest.mark.parametrize("form", BAD)
@pytest.mark.parametrize("door", [name for name in DOORS if name != "noise scale"])
def test_a_gradient_that_does_not_fit_is_refused(door, form):
    owner = DOORS[door]()
    owner.step(nest(1))
    before = owner.whole()
    if door == "functional" and form in BY_HAND:
        return  # the user's own loop takes the nest apart
    with pytest.raises((TypeError, ValueError)) as caught:
        owner.step(BAD[form](nest(2)))
    assert "grad" in str(caught.value) or "replica" in str(caught.value)
    assert owner.whole() == before
    owner.step(nest(2))


@pytest.mark.parametrize(
    "form", ["complex", "objects", "strings", "dates", "masked", "a set", "a string", "nothing"]
)
def test_what_is_no_gradient_has_no_noise_scale(form):
    wrong = BAD[form](nest(2))
    with pytest.raises((TypeError, ValueError), match=r"gradient|micro_grads|array"):
        ss.gradient_noise_scale([nest(1), wrong, nest(3)], 8)


def masked(values, *missing):
    mask = np.zeros(len(values), bool)
    mask[list(missing)] = True
    return np.ma.masked_array(np.asarray(values, float), mask)


def test_a_masked_number_is_no_number():
    makers = (
        lambda: ss.schedules.table(masked([1, 2, 3], 1)),
        lambda: ss.schedules.piecewise_constant([1, 2], masked([1, 2, 3], 2)),
        lambda: ss.schedules.constant(np.ma.masked),
        lambda: ss.SGD(np.ones(2), lr=np.ma.masked),
        lambda: ss.scale_lr(np.ma.masked, 32, 64),
        lambda: ss.LogUniform(np.ma.masked, 1),
        lambda: ss.Plateau(ss.SGD(np.ones(2))).update(np.ma.masked),
    )
    for make in makers:
        with pytest.raises(TypeError, match="number"):
            make()


def test_a_masked_value_of_a_series_is_none():
    history = ss.History.from_arrays(loss=masked([3, 2, 1], 1))
    assert np.array_equal(history["loss"], [3.0, np.nan, 1.0], equal_nan=True)


@pytest.mark.parametrize(
    ("asked", "move"),
    [
        (lambda: ss.SGD(np.ones(2), learning_rate=0.1), "did you mean lr?"),
        (lambda: ss.AdamW(np.ones(2), lr=0.1, wd=0.1), "did you mean weight_decay?"),
        (lambda: ss.Adam(np.ones(2), beta1=0.8), "did you mean betas?"),
        (lambda: ss.minimize(lambda x: (x @ x, 2 * x), np.ones(2), maxiter=3), "mean max_iter?"),
        (lambda: ss.minimize(lambda x: (x @ x, 2 * x), np.ones(2), method="sgd"), "mean rule?"),
        (lambda: ss.History.from_arrays(loss=[1.0]).loss, r"is history\['loss'\]"),
        (lambda: ss.History.from_arrays(loss=[1.0]).plot("a.png"), "savefig"),
        (lambda: ss.schedules.constant(1).plot("a.png"), "savefig"),
        (lambda: ss.find_lr, "it is stepsize.lr_find here"),
        (lambda: ss.schedules.OneCycleLR, "it is schedules.one_cycle here"),
        (lambda: ss.fit([np.ones(2)], len, ss.SGD([np.ones(2)], lr=0.1), []), "comes second"),
    ],
)  # fmt: skip
def test_what_is_asked_for_by_the_habit_of_other_libraries_is_named(asked, move):
    with pytest.raises((AttributeError, TypeError), match=move):
        asked()

"""The finder and what users hand it: reused memory, given ends, rows, odd optimizers, no sense."""

from __future__ import annotations

import math

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from stepsize.finder.cached_batches import CachedBatches

rng = np.random.default_rng(0)
X = rng.standard_normal((128, 4))
Y = X @ np.arange(1.0, 5.0) + 0.3 * rng.standard_normal(128)


def linear(params, batch):
    x, y = batch
    error = x @ params["w"] - y
    return 0.5 * float(np.mean(error**2)), {"w": x.T @ error / len(y)}


def start():
    return {"w": np.ones(4)}


def batches():
    return [(X[k : k + 16], Y[k : k + 16]) for k in range(0, 128, 16)]


def quadratic(params, batch):
    h = np.array([1.0, 2.0, 5.0, 10.0])
    return 0.5 * float(h @ params["w"] ** 2), {"w": h * params["w"]}


def facts(result):
    probes = [(rate, losses.tolist()) for rate, losses in result.probes]
    return result.suggestion, result.peak, result.losses.tolist(), probes, result.gradients


# Memory that is not ours.


def reusing(function):
    kept = {}

    def value_and_grad(params, batch):
        loss, grads = function(params, batch)
        for name, grad in grads.items():
            kept.setdefault(name, np.empty_like(grad))[...] = grad
        return loss, kept

    return value_and_grad


def overwriting(function):
    def value_and_grad(params, batch):
        found = function(params, batch)
        for leaf in params.values():
            leaf[...] = np.nan
        return found

    return value_and_grad


def gradient_in_the_argument(function):
    def value_and_grad(params, batch):
        loss, grads = function(params, batch)
        for name, leaf in params.items():
            leaf[...] = grads[name]
        return loss, params

    return value_and_grad


# Every parameter of one rule; the rate of a wrapper, for which that is enough.
LOOKED_FOR = [(name, ss.SGD) for name in ("lr", "momentum", "weight_decay", "batch_size")]
LOOKED_FOR += [("lr", lambda p: ss.SAM(ss.SGD(p)))]


@pytest.mark.parametrize("memory", [overwriting, gradient_in_the_argument])
@pytest.mark.parametrize(("parameter", "optimizer"), LOOKED_FOR)
def test_a_function_that_writes_into_the_parameters_is_told_so(memory, parameter, optimizer):
    params = start()
    with pytest.raises(ValueError, match="wrote into the parameters: w"):
        ss.lr_find(memory(linear), params, batches(), parameter=parameter, optimizer=optimizer)
    np.testing.assert_equal(params, start())


@pytest.mark.parametrize(("parameter", "optimizer"), LOOKED_FOR)
def test_memory_of_the_function_is_its_own(parameter, optimizer):
    call = {"parameter": parameter, "optimizer": optimizer}
    plain = ss.lr_find(linear, start(), batches(), **call)
    moved = ss.lr_find(reusing(linear), start(), batches(), **call)
    assert plain.suggestion == moved.suggestion or parameter == "batch_size"
    np.testing.assert_equal(moved.suggestion, plain.suggestion)
    assert moved.gradients == plain.gradients <= 200


def test_batches_in_the_same_arrays_are_different_batches():
    x, y = np.empty((16, 4)), np.empty(16)

    def refilled():
        for one, other in batches():
            x[...], y[...] = one, other
            yield x, y

    def viewed():
        for one, other in batches():
            x[...], y[...] = one, other
            yield x[:], y[:]

    plain = facts(ss.lr_find(linear, start(), batches()))
    assert facts(ss.lr_find(linear, start(), refilled)) == plain
    assert facts(ss.lr_find(linear, start(), viewed)) == plain
    assert facts(ss.lr_find(linear, start(), refilled())) == plain


# The ends that were given.


@pytest.mark.parametrize(
    "ends",
    [
        {"lr_max": 1e-3},
        {"lr_min": 5.0, "lr_max": 10.0},
        {"lr_min": 1.0},
        {"lr_min": 1e-15, "lr_max": 1e-12},
        {"lr_min": 1e-4, "lr_max": 1e-2},
        {"lr_min": 1e-9, "lr_max": 1e6},
    ],
)
@pytest.mark.parametrize("task", [(linear, batches()), (quadratic, [None])], ids=["noisy", "exact"])
@pytest.mark.parametrize("rule", [ss.SGD, ss.Adam])
@pytest.mark.parametrize("refine", [False, 120])
def test_given_ends_bind_or_it_is_said(ends, task, rule, refine):
    tried = []

    def factory(params):
        made = rule(params)
        tried.append(made)
        return made

    function, data = task
    result = ss.lr_find(function, start(), data, optimizer=factory, refine=refine, **ends)
    low, high = ends.get("lr_min", 0.0), ends.get("lr_max", math.inf)
    assert result.bounds == (low, high if high != 10 else math.inf)
    for rate in (result.suggestion, result.peak):
        assert math.isnan(rate) or low <= rate <= high or "outside" in result.why
    if not result.usable:
        assert "lr_min" in result.why or "lr_max" in result.why
    if result.suggestion in (low, high):
        assert "rates may be better" in str(result)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("settings", [{}, {"repeats": 3}, {"refine": 120}, {"for_steps": 2000}])
@pytest.mark.parametrize("rule", [ss.SGD, ss.Adam])
def test_a_bound_that_decided_is_named(rule, settings, grouped):
    def find(**ends):
        return ss.lr_find(linear, start(), batches(), optimizer=factory, **settings, **ends)

    def factory(params):
        groups = [ss.group("b", lr=1.0)] if grouped and "b" in params else ()
        return rule(params, lr=0.1, groups=groups)

    free = find()
    assert "lr_m" not in free.why
    for factor in (0.001, 0.01, 0.1):
        assert f"lr_max={factor * free.suggestion:g}" in find(lr_max=factor * free.suggestion).why
    if "refine" not in settings:  # a longer race may have its best rate above
        assert "lr_min=" in find(lr_min=20 * free.suggestion).why
    wide = find(lr_min=1e-5 * free.suggestion, lr_max=1e4 * free.suggestion)
    assert "lr_m" not in wide.why


@pytest.mark.parametrize("scale", [1e-6, 1e9])
def test_a_rate_outside_of_the_default_ends_is_said_to_be(scale):
    def scaled(params, batch):
        loss, grads = quadratic(params, batch)
        return scale * loss, {"w": scale * grads["w"]}

    result = ss.lr_find(scaled, start(), [None])
    assert result.usable and "outside of 1e-07 to 10" in str(result)


# A function without noise.


@pytest.mark.parametrize("rule", [ss.SGD, ss.Adam, ss.Lion, ss.RMSprop])
def test_without_noise_nothing_above_the_rates_that_won_ground_is_suggested(rule):
    result = ss.lr_find(quadratic, start(), [None], optimizer=rule)
    start_loss = quadratic(start(), None)[0]
    fell = [rate for rate, losses in result.probes if losses[-1] < start_loss]
    assert result.suggestion <= result.peak <= max(fell) * (1 + 1e-12)


def test_a_rate_whose_race_ended_above_the_start_is_no_suggestion():
    def soft(params, batch):
        z = params["w"]
        gap = np.logaddexp(0, z) - 1
        return 0.5 * float(gap @ gap), {"w": gap / (1 + np.exp(-z))}

    result = ss.lr_find(soft, {"w": np.full(3, -3.0)}, [None])
    if result.usable:
        assert result.probes[0][1][-1] < result.losses[0] and result.suggestion < 1e3


# Rules that erase the start, find their rate, or ask for a function.


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_rate_is_recommended_where_the_start_is_erased(rule, scale):
    params = {"w": np.full(4, 3.0)}

    def function(p, batch):
        loss, grads = linear(p, batch)
        return scale * loss, {"w": scale * grads["w"]}

    result = ss.lr_find(function, params, batches(), optimizer=rule)
    if rule is ss.FTRL:
        assert not result.usable and (scale > 1 or "start from zeros" in str(result))
    else:
        assert "starting point is erased" not in result.why


def test_from_zeros_every_rule_may_have_a_rate():
    result = ss.lr_find(linear, {"w": np.zeros(4)}, batches(), optimizer=ss.FTRL)
    assert "erased" not in result.why


def test_a_line_search_needs_no_rate():
    with pytest.raises(ValueError, match="LBFGS finds the length of its steps"):
        ss.lr_find(linear, start(), batches(), optimizer=ss.LBFGS)


# Gradients of rows.


def embedded(params, batch):
    rows, target = batch
    gap = params["e"][rows] - target
    return 0.5 * float(np.sum(gap**2)), {"e": ss.RowGradient(rows, gap)}


def whole(params, batch):
    loss, grads = embedded(params, batch)
    full = np.zeros_like(params["e"])
    np.add.at(full, grads["e"].rows, grads["e"].values)
    return loss, {"e": full}


def row_batches():
    rng = np.random.default_rng(1)
    return [(rng.permutation(12)[:6], rng.normal(1, 0.1, (6, 2))) for _ in range(8)]


@pytest.mark.parametrize("parameter", ["lr", "momentum", "weight_decay"])
def test_gradients_of_rows_will_do(parameter):
    params = {"e": np.zeros((12, 2))}
    rows = ss.lr_find(embedded, params, row_batches(), parameter=parameter)
    dense = ss.lr_find(whole, params, row_batches(), parameter=parameter)
    assert rows.usable
    if parameter == "lr":
        assert rows.suggestion == pytest.approx(dense.suggestion, rel=1e-6)


# One data set.


@pytest.mark.parametrize("size", [None, 16, 128, 1000])
def test_a_tuple_of_arrays_is_one_data_set(size):
    sizes = []

    def function(params, batch):
        sizes.append(len(batch[1]))
        return linear(params, batch)

    extra = {} if size is None else {"batch_size": size}
    result = ss.lr_find(function, start(), (X, Y), **extra)
    assert result.usable and set(sizes) == {min(size or 32, 128)}


def test_other_data_is_refused_or_explained():
    with pytest.raises(ValueError, match="one data set, whose arrays agree in their first axis"):
        ss.lr_find(linear, start(), (X, Y[:5]))
    with pytest.raises(ValueError, match="batch_size=4 cuts a tuple of arrays"):
        ss.lr_find(linear, start(), batches(), batch_size=4)
    with pytest.raises(ValueError, match="batches is empty"):
        ss.lr_find(linear, start(), (X[:0], Y[:0]))
    with pytest.raises(TypeError, match=r"batches is a list of 2 arrays of .* give a tuple"):
        ss.lr_find(linear, start(), [X, Y])
    with pytest.raises(ValueError, match="unpack") as caught:
        ss.lr_find(linear, start(), [X, Y[:-1]])
    assert "for one data set give a tuple of arrays (x, y)" in caught.value.__notes__[0]
    with pytest.raises((TypeError, ValueError)) as caught:
        ss.lr_find(lambda p, batch: (float(batch @ p["w"]), {"w": batch}), start(), (Y, Y))
    assert "give batches as a list" in caught.value.__notes__[0]


# What cannot be meant.


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"value_and_grad": None}, "value_and_grad must be a function"),
        ({"value_and_grad": 3}, "value_and_grad must be a function"),
        ({"params": None}, "params holds no array"),
        ({"params": {}}, "params holds no array"),
        ({"batches": None}, "batches must be an iterable"),
        ({"lr_min": "x"}, "lr_min must be a number, got 'x'"),
        ({"lr_max": None}, "lr_max must be a number, got None"),
        ({"lr_min": math.nan}, "lr_min must be a"),
        ({"steps": math.nan}, "steps must be a whole number >= 20, got nan"),
        ({"steps": 50.5}, "steps must be a whole number"),
        ({"repeats": "x"}, "repeats must be a whole number >= 1, got 'x'"),
        ({"smoothing": "x"}, "smoothing must be a number"),
        ({"stop_ratio": None}, "stop_ratio must be a number"),
        ({"refine": "x"}, "refine must be a whole number"),
        ({"spacing": None}, "spacing must be one of 'exponential', 'linear', got None"),
        ({"optimizer": None}, "optimizer must be an optimizer class"),
        ({"parameter": 3}, "parameter must be one of lr"),
        ({"batches": (X, Y), "batch_size": 0}, "batch_size must be a whole number >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    given = {"value_and_grad": linear, "params": start(), "batches": batches(), **wrong}
    with pytest.raises((TypeError, ValueError), match=words):
        ss.lr_find(**given)


@pytest.mark.parametrize("grads", [None, {"w": None}, {}, {"w": np.ones(3)}, "x"])
def test_a_gradient_that_is_none_is_no_rate(grads):
    try:
        result = ss.lr_find(lambda p, b: (linear(p, b)[0], grads), start(), batches())
    except (TypeError, ValueError) as error:
        assert "grad" in str(error)
    else:
        assert not result.usable


# Batches in the same memory that a function can tell apart.

PLACE = np.zeros((2, 2))
FLAGS = np.zeros(2, bool)
RECORD = np.zeros(2, [("a", float), ("b", "i2")])


def filled(number):
    PLACE[...] = number
    return PLACE


def masked(flag):
    FLAGS[0] = flag
    return np.ma.masked_array(PLACE[0], FLAGS, shrink=False)


def record(number):
    RECORD["b"] = number
    return RECORD


LOOKS = {
    "values": lambda: (filled(k) for k in range(2)),
    "signs of 0": lambda: (filled(k) for k in (0.0, -0.0)),
    "dtypes": lambda: (filled(0).view(kind) for kind in (float, np.int64)),
    "shapes": lambda: (filled(0).reshape(shape) for shape in ((2, 2), (4,))),
    "orders": lambda: iter((filled(0), PLACE.T)),
    "masks": lambda: (masked(flag) for flag in (False, True)),
    "fields": lambda: (record(k) for k in range(2)),
}


def seen(batch):
    leaf = batch[0]
    order = sorted(range(leaf.ndim), key=lambda k: leaf.strides[k])
    mask = np.ma.getmaskarray(leaf).tolist() if leaf.dtype.names is None else None
    return leaf.tobytes(), leaf.dtype, leaf.shape, order, mask


@pytest.mark.parametrize("look", LOOKS)
def test_batches_in_one_place_are_as_they_came(look):
    batches = CachedBatches(lambda: ((leaf,) for leaf in LOOKS[look]()))
    came = [seen((leaf,)) for leaf in LOOKS[look]()]
    assert came[0] != came[1]
    for _ in range(2):
        assert [seen(batches[k]) for k in range(6)] == came * 3

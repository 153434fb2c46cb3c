"""The few calls that see a wrong gradient before a rate is advised."""

import numpy as np
import pytest

import stepsize as ss
from stepsize.gradients.screen import wrong_gradients
from stepsize.training import doubts

LEAVES = ("w", "b", "v", "c")
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(256, 8))
Y = np.tanh(X @ RANDOM.normal(size=(8, 3))) @ RANDOM.normal(size=(3, 1))


def seen(value_and_grad, params, batch, groups=()):
    return wrong_gradients(value_and_grad, params, batch, ss.SGD(params, lr=0.1, groups=groups))


def start(dtype=float):
    random = np.random.default_rng(1)
    shapes = {"w": (8, 6), "b": (6,), "v": (6, 1), "c": (1,)}
    return {name: (0.3 * random.normal(size=s)).astype(dtype) for name, s in shapes.items()}


def network(change=None, kinked=False, calls=None):
    def function(p, batch):
        if calls is not None:
            calls.append(1)
        x, y = (part.astype(p["w"].dtype) for part in batch)
        z = x @ p["w"] + p["b"]
        h, slope = (np.maximum(z, 0), z > 0) if kinked else (np.tanh(z), 1 - np.tanh(z) ** 2)
        error = h @ p["v"] + p["c"] - y
        e = 2 * error / p["w"].dtype.type(error.size)
        dz = (e @ p["v"].T) * slope
        grads = {"w": x.T @ dz, "b": dz.sum(0), "v": h.T @ e, "c": e.sum(0)}
        if change is not None:
            leaf, how = change
            grads[leaf] = how(grads[leaf])
        return float((error**2).mean()), grads

    return function


def of_mantissa(bits):
    def change(loss):
        mantissa, exponent = np.frexp(loss)
        return float(np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits))

    return change


FEW_DIGITS = {
    "four places": lambda loss: round(loss, 4),
    "one place": lambda loss: round(loss, 1),
    "one place in single precision": lambda loss: float(np.float32(round(loss, 1))),
    "cut after two places": lambda loss: np.floor(100 * loss) / 100,
    "two digits": lambda loss: float(f"{loss:.1e}"),
    "integer": round,
    "shares of 200": lambda loss: round(200 * loss) / 200,
    "float16": lambda loss: float(np.float16(loss)),
    "bfloat16": of_mantissa(8),
    "float8": of_mantissa(4),
}


def with_few_digits(change, scale, flipped=None):
    def function(p, batch):
        loss, grads = network(flipped)(p, batch)
        return change(scale * loss), {name: scale * g for name, g in grads.items()}

    return function


@pytest.mark.parametrize("kind", FEW_DIGITS)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_a_loss_of_few_digits_is_no_wrong_gradient(kind, scale):
    function = with_few_digits(FEW_DIGITS[kind], scale)
    assert not ss.check_gradients(function, start(), (X, Y)).wrong
    assert not ss.lr_find(function, start(), [(X, Y)], progress=False).mismatch
    for rate, size in ((1e-3, 256), (0.1, 64)):
        params = start()
        optimizer = ss.SGD(params, lr=rate / scale)
        history = ss.fit(function, params, optimizer, (X, Y), steps=60, batch_size=size)
        assert ss.diagnose(history).mismatch is None


@pytest.mark.parametrize("kind", ["four places", "shares of 200", "float16"])
def test_few_digits_hide_no_flipped_sign(kind):
    function = with_few_digits(FEW_DIGITS[kind], 30.0, ("v", np.negative))
    check = ss.check_gradients(function, start(), (X, Y))
    assert check.wrong == ["v"] and check.leaves["v"].cause == "sign_flipped"
    assert any(note.startswith("the loss goes in steps of ") for note in check.notes)
    assert "v: the sign is flipped" in seen(function, start(), (X, Y))[0]


def test_an_error_rate_is_told_from_the_loss_that_was_differentiated():
    def function(p, batch):
        x, y = batch
        _, grads = network()(p, batch)
        z = np.tanh(x @ p["w"] + p["b"]) @ p["v"] + p["c"]
        return float(np.mean((z > 0) != (y > 0))), {name: 30 * g for name, g in grads.items()}

    assert (
        "an error rate, return the loss that was"
        in ss.lr_find(function, start(), [(X, Y)], progress=False).mismatch
    )


every_kind = pytest.mark.parametrize("dtype, kinked", [(np.float32, True), (float, False)])


@every_kind
def test_right_gradients_pass_in_some_six_calls(dtype, kinked):
    params, calls = start(dtype), []
    assert seen(network(kinked=kinked, calls=calls), params, (X, Y))[0] == ""
    assert len(calls) <= 12
    assert all(np.array_equal(params[name], leaf) for name, leaf in start(dtype).items())


@every_kind
@pytest.mark.parametrize("leaf", LEAVES)
def test_one_flipped_leaf_is_seen_however_small_it_is(leaf, dtype, kinked):
    flipped = network((leaf, np.negative), kinked)
    words, _ = seen(flipped, start(dtype), (X, Y))
    assert words == f"{leaf}: the sign is flipped"


@every_kind
@pytest.mark.parametrize("leaf", LEAVES)
def test_a_gradient_that_is_left_at_0_is_seen(leaf, dtype, kinked):
    without = network((leaf, np.zeros_like), kinked)
    words, _ = seen(without, start(dtype), (X, Y))
    assert words.startswith(f"{leaf}: "), words
    found = ss.lr_find(without, start(dtype), (X, Y), progress=False)
    assert not found.usable and "the gradient does not fit the loss" in found.mismatch


@pytest.mark.parametrize("zero", LEAVES)
def test_a_gradient_that_is_0_where_it_has_to_be_costs_eight_calls_at_most(zero):
    """Nothing but the last layer moves from its zeros, and what the loss ignores not at all."""
    params, calls = start() | {"unused": np.ones(3)}, []
    params[zero][...] = 0

    def function(p, batch):
        loss, grads = network(calls=calls)({name: p[name] for name in LEAVES}, batch)
        return loss, grads | {"unused": np.zeros(3)}

    assert seen(function, params, (X, Y))[0] == ""
    assert len(calls) <= 20


@pytest.mark.parametrize("leaf", LEAVES)
def test_lr_find_has_no_rate_for_a_flipped_leaf(leaf):
    found = ss.lr_find(network((leaf, np.negative)), start(), (X, Y), progress=False)
    assert not found.usable
    assert "the gradient does not fit the loss" in found.mismatch


def test_the_budget_of_lr_find_is_that_of_the_search():
    calls = []
    found = ss.lr_find(network(calls=calls), start(), (X, Y), steps=60, progress=False)
    assert found.usable and found.gradients <= 60
    assert len(calls) == found.gradients + found.checks


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("lr", [1e-4, 0.3])
def test_a_run_with_a_flipped_leaf_gets_no_advice_about_its_rate(leaf, lr):
    params = start()
    optimizer = ss.SGD(params, lr=lr)
    history = ss.fit(network((leaf, np.negative)), params, optimizer, (X, Y), steps=60)
    diagnosis = ss.diagnose(history)
    if diagnosis.verdict not in ("healthy", "converged"):
        assert diagnosis.mismatch is not None and diagnosis.suggested_lr is None


def exploding(change=None):
    """A bowl and a sum of squares to the fourth, which explodes where it is climbed."""

    def function(p, batch):
        x, q = p["x"], p["q"]
        grads = {"x": 4 * x**3, "q": 2 * q}
        if change is not None:
            grads["x"] = change(grads["x"])
        return float((x**4).sum() + (q**2).sum()), grads

    return function


RULES = {
    "sgd": lambda p, lr: ss.SGD(p, lr=lr),
    "sam": lambda p, lr: ss.SAM(ss.SGD(p, lr=lr)),
    "lbfgs": lambda p, lr: ss.LBFGS(p, lr=lr, max_iter=1),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("lr", [0.01, 0.03, 10.0, 1e9])
def test_a_run_that_explodes_is_looked_at_where_it_began(rule, lr):
    """In 2 steps or in 40; and what is advised of the rate with right gradients stays."""
    for change in (np.negative, None):
        p = {"x": np.array([0.9, -0.7]), "q": np.array([0.5])}
        optimizer = RULES[rule](p, lr)
        with np.errstate(all="ignore"):
            history = ss.fit(exploding(change), p, optimizer, [None] * 300, epochs=1)
        found = ss.diagnose(history)
        if change is None:
            assert found.mismatch is None
            assert lr < 10 or rule == "lbfgs" or "lower" in str(found)
        elif found.verdict not in ("healthy", "converged"):
            assert found.mismatch is not None and found.suggested_lr is None, str(found)
            assert "lower" not in str(found)
            if history.meta.get("checked"):
                words = "check before the first step says of x: the sign is flipped"
                assert words in str(found)
                assert history.meta["checked"]["at"] == "start"


def test_a_leaf_whose_gradient_fits_at_the_start_is_not_blamed_at_the_end():
    """There the loss may have more digits than its gradient, which is 0 by rounding."""

    def function(p, batch):  # a logistic loss, of which one part is computed with more care
        z = p["w"] * np.float32(3)
        slope = (np.float32(1) / (1 + np.exp(-z)) - 1) * np.float32(3)
        return float(np.log1p(np.exp(-z)).sum()), {"w": slope}

    p = {"w": np.zeros(4, np.float32)}
    optimizer = ss.SGD(p, lr=lambda k: 3.0 if k < 60 else 0.0)
    history = ss.fit(function, p, optimizer, [None] * 90, epochs=1)
    far = {"w": np.full(4, 8.0, np.float32)}
    assert ss.check_gradients(function, far, None).wrong  # so much for digits
    assert seen(function, far, None)[0]
    for end in (p, far):
        words, _ = wrong_gradients(function, end, None, optimizer, start={"w": np.zeros(4)})
        assert words == ""
    assert ss.diagnose(history).mismatch is None


def test_a_run_that_ends_where_gradients_vanish_is_looked_at_where_it_began():
    """The sigmoid is saturated at the end, and what went wrong no longer shows."""

    def function(p, batch):
        x = p["x"]
        value = 1 / (1 + np.exp(-x))
        return float(value.sum()), {"x": -value * (1 - value)}

    p = {"x": np.linspace(-1, 1, 5)}
    history = ss.fit(function, p, ss.Adam(p, lr=20.0), [None] * 60, epochs=1)
    history.meta.pop("slopes")
    assert ss.diagnose(history).mismatch is not None
    assert history.meta["checked"]["at"] == "start"


def test_a_start_is_kept_up_to_a_size(monkeypatch):
    assert doubts.kept_start({"a": None, "b": np.zeros(3)})["a"] is None
    monkeypatch.setattr(doubts, "MOST_KEPT", 8 * 3)
    assert doubts.kept_start({"b": np.zeros(3)}) is not None
    assert doubts.kept_start({"b": np.zeros(4)}) is None
    params = start()
    optimizer = ss.SGD(params, lr=1e-4)
    history = ss.fit(network(), params, optimizer, (X, Y), steps=60)  # called too low a rate
    assert history.meta["checked"]["at"] == "end" and history.meta["checked"]["calls"] < 20


def test_a_right_run_keeps_its_advice_and_a_good_one_costs_nothing_more():
    for lr, verdict, more in ((1e-4, "too_low", True), (0.03, "healthy", False)):
        params, calls = start(), []
        history = ss.fit(network(calls=calls), params, ss.SGD(params, lr=lr), (X, Y), steps=200)
        diagnosis = ss.diagnose(history)
        assert (diagnosis.verdict, diagnosis.mismatch) == (verdict, None)
        assert (len(calls) > 200) is more
        assert ("checked" in history.meta) is more


@pytest.mark.parametrize("checked", [None, 3, {}, {"wrong": 3}, {"wrong": ""}, {"calls": 1}])
def test_meta_of_another_kind_is_no_mismatch(checked):
    params = start()
    history = ss.fit(network(), params, ss.SGD(params, lr=1e-4), (X, Y), steps=60)
    history.meta["checked"] = checked
    assert ss.diagnose(history).mismatch is None


def test_a_function_that_fails_there_or_has_noise_of_its_own_says_nothing():
    def fails(p, batch):
        raise RuntimeError

    assert seen(fails, start(), (X, Y)) == ("", 0)
    count = []

    def noisy(p, batch):
        count.append(1)
        loss, grads = network(("w", np.negative))(p, batch)
        return loss + 0.1 * len(count), grads

    assert seen(noisy, start(), (X, Y)) == ("", 2)


def test_leaves_at_a_rate_of_0_stay_where_they_are():
    params = {"x": np.array([3.0, -2.0]), "table": np.array([1.0, 2.0])}
    tables = []

    def function(p, _):
        tables.append(p["table"].copy())
        value = float((p["x"] ** 2).sum() / 2 + (p["table"] ** 2).sum())
        return value, {"x": p["x"], "table": np.ones(2)}  # of a leaf that nobody trains

    assert seen(function, params, None)[0].startswith("table")
    tables.clear()
    frozen = [ss.group("table", lr=0.0)]
    assert seen(function, params, None, frozen)[0] == ""
    assert all(np.array_equal(table, params["table"]) for table in tables)


@pytest.mark.parametrize("dtype", [np.float32, float])
def test_a_slope_without_digits_is_no_missing_gradient(dtype):
    """Behind a saturated tanh the gradient is 0, and the loss goes in jumps."""
    params = start(dtype)
    for name in "wb":
        params[name] *= dtype(1e5)
    assert not network()(params, (X, Y))[1]["w"].any()
    assert seen(network(), params, (X, Y))[0] == ""

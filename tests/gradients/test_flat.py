"""Where a loss has no slope to compare with check_gradients says so: a 0 alone proves nothing."""

import itertools

import numpy as np
import pytest

import stepsize as ss

X = np.random.default_rng(0).normal(size=(32, 5))
Y = np.random.default_rng(1).normal(size=(32, 2))
TARGET = np.random.default_rng(2).integers(0, 3, 32)
FLAT, JUMPS = "does not change along any direction here", "the loss goes in jumps here"


def sigmoid(z):
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-z))


UNITS = {
    "tanh": (np.tanh, lambda a: 1 - a * a),
    "sigmoid": (sigmoid, lambda a: a * (1 - a)),
}


def network(unit, missing=None):
    act, slope = UNITS[unit]

    def function(p, batch):
        x, y = (part.astype(p["w"].dtype) for part in batch)
        a = act(x @ p["w"] + p["b"])
        error = a @ p["v"] - y
        d = 2 * error / error.dtype.type(error.size)
        dz = (d @ p["v"].T) * slope(a)
        grads = {"w": x.T @ dz, "b": dz.sum(0), "v": a.T @ d}
        if missing:
            grads[missing] = 0 * grads[missing]
        return float((error * error).mean()), {k: g.astype(p[k].dtype) for k, g in grads.items()}

    return function


def weights(size, dtype):
    rng = np.random.default_rng(1)
    shapes = {"w": (5, 4), "b": (4,), "v": (4, 2)}
    sizes = {"w": size, "b": size, "v": 1.0}
    return {k: (sizes[k] * rng.normal(size=s)).astype(dtype) for k, s in shapes.items()}


every_unit = pytest.mark.parametrize("unit", UNITS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@every_unit
@every_dtype
@pytest.mark.parametrize("missing", [None, "w"])
def test_behind_saturated_units_nothing_is_said_of_a_gradient_of_0(unit, dtype, missing):
    check = ss.check_gradients(network(unit, missing), weights(1e5, dtype), (X, Y))
    assert not check.ok and not check.wrong and check.cause is None
    assert check.unclear == ["b", "w"] and check.leaves["v"].verdict == "fits"
    for path in check.unclear:
        words = check.leaves[path].words
        assert (FLAT in words or JUMPS in words) and words in str(check)
    assert str(check).startswith("nothing is wrong that could be seen, but 2 of 3")
    assert "b, w unclear" in repr(check)


@every_unit
@every_dtype
@pytest.mark.parametrize("size", [0.5, 30.0])
def test_a_gradient_that_is_missing_is_told_where_the_loss_has_a_slope(unit, dtype, size):
    check = ss.check_gradients(network(unit, "w"), weights(size, dtype), (X, Y))
    assert check.wrong == ["w"] and check.leaves["w"].cause == "zero"
    assert ss.check_gradients(network(unit), weights(size, dtype), (X, Y)).ok


@every_dtype
@pytest.mark.parametrize("at", [40.0, 1e3, -1e3])
def test_a_loss_that_is_flat_to_its_last_digit_is_called_so(dtype, at):
    def function(p, batch):
        a = sigmoid(p["x"]) if at > 0 else np.maximum(p["x"], 0)  # as relus that are dead
        return float(a.sum()), {"x": a * (1 - a)}

    check = ss.check_gradients(function, {"x": np.array([at, 1.1 * at], dtype)})
    assert check.unclear == ["x"] and FLAT in check.leaves["x"].words
    assert np.isnan(check.leaves["x"].ratio)


@every_dtype
def test_softmax_far_out(dtype):
    def function(p, batch):
        z = X.astype(dtype) @ p["w"]
        shares = np.exp(z - z.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        rows = np.arange(len(TARGET))
        hit = shares[rows, TARGET].copy()
        d = shares * hit[:, None]
        d[rows, TARGET] -= hit
        return float(1 - hit.mean()), {"w": (X.T @ d / len(rows)).astype(dtype)}

    w = np.random.default_rng(1).normal(size=(5, 3)).astype(dtype)
    assert ss.check_gradients(function, {"w": w}).ok
    check = ss.check_gradients(function, {"w": w * dtype(1e5)})
    assert check.unclear == ["w"] and JUMPS in check.leaves["w"].words


@every_dtype
def test_a_leaf_that_nothing_depends_on_is_unused_and_not_flat(dtype):
    def function(p, batch):
        loss, grads = network("tanh")({k: p[k] for k in "wbv"}, batch)
        return loss, grads | {"extra": 0 * p["extra"]}

    check = ss.check_gradients(function, weights(0.5, dtype) | {"extra": np.ones(3, dtype)}, (X, Y))
    assert check.ok and check.leaves["extra"].verdict == "unused"


def test_a_missing_gradient_of_few_digits_and_many_kinks_is_not_called_unused():
    """Of a loss in single precision, most of which comes from elsewhere."""
    x = np.random.default_rng(3).normal(size=40).astype(np.float32)

    def function(p, batch, missing=True):
        d = np.diff(p["x"])
        loss = np.float32(50) + np.float32(0.02) * np.abs(d).sum() + (p["y"] ** 2).sum()
        grad = np.zeros_like(p["x"])
        grad[1:] += np.float32(0.02) * np.sign(d)
        grad[:-1] -= np.float32(0.02) * np.sign(d)
        return loss, {"x": 0 * grad if missing else grad, "y": 2 * p["y"]}

    params = {"x": x, "y": np.ones(2, np.float32)}
    check = ss.check_gradients(function, params)
    assert check.wrong == ["x"] and check.leaves["x"].cause == "zero"
    assert ss.check_gradients(lambda p, b: function(p, b, False), params).ok


def test_single_elements_are_listed_where_the_gradient_is_0_too():
    def function(p, batch):
        return 1.0, {"x": np.zeros(3)}

    leaf = ss.check_gradients(function, {"x": np.ones(3)}, coordinates=3).leaves["x"]
    assert leaf.verdict == "unused" and leaf.coordinates.shape == (3, 4)


# Exactly at a point.


def log_sigmoid(p, batch):
    """As `minimum(0, x) - log1p(exp(-abs(x)))`, whose parts have slopes of 0 where x is 0."""
    x = p["x"]
    tail = np.exp(-np.abs(x))
    return float((np.log1p(tail) - np.minimum(0, x)).sum()), {
        "x": -1.0 * (x < 0) - np.sign(x) * tail / (1 + tail)
    }


@every_dtype
@pytest.mark.parametrize("n", [1, 3, 4, 50])
def test_a_gradient_that_is_wrong_at_one_point_alone_is_wrong(n, dtype):
    def function(p, batch):
        loss, grads = log_sigmoid(p, batch)
        return loss, {"x": grads["x"].astype(dtype)}

    check = ss.check_gradients(function, {"x": np.zeros(n, dtype)})
    assert check.wrong == ["x"] and check.leaves["x"].cause == "isolated", str(check)
    assert ss.check_gradients(function, {"x": np.full(n, 0.7, dtype)}).ok


AT_KINKS = {
    "abs": lambda x: (np.abs(x).sum(), np.sign(x)),
    "relu": lambda x: (np.maximum(x, 0).sum(), 1.0 * (x > 0)),
    "norm": lambda x: (np.linalg.norm(x), x / (np.linalg.norm(x) or 1.0)),
    "largest": lambda x: (x.max(), 1.0 * (np.arange(x.size) == x.argmax())),
}


@pytest.mark.parametrize("name", AT_KINKS)
@pytest.mark.parametrize("n", [1, 3])
def test_a_kink_is_no_wrong_point(name, n):
    def function(p, batch):
        loss, grad = AT_KINKS[name](p["x"])
        return float(loss), {"x": grad}

    assert ss.check_gradients(function, {"x": np.zeros(n)}).ok


@pytest.mark.parametrize("power", [2, 4])
def test_a_minimum_is_no_kink(power):
    def function(p, batch):
        return float((p["x"] ** power).sum()), {"x": power * p["x"] ** (power - 1)}

    check = ss.check_gradients(function, {"x": np.zeros(3)})
    assert check.ok and not check.leaves["x"].kink, str(check)


# Noise that cannot be held fixed.


def rate_of_a_decay(sign=1.0):
    """One number, the slope of whose loss is a tenth of the noise of a call."""
    count = itertools.count()
    t = np.linspace(0, 3, 25)

    def function(p, batch):
        draw = np.random.default_rng((8, next(count))).standard_normal(t.size)
        error = np.exp(-p["rate"] * t) - np.exp(-0.8 * t) - 0.15 * draw
        slope = (2 * error * -t * np.exp(-p["rate"] * t)).mean()
        return float((error**2).mean()), {"rate": np.array(sign * slope)}

    return function


@pytest.mark.parametrize("seed", range(3))
def test_one_number_is_measured_until_noise_no_longer_hides_its_slope(seed):
    params = {"rate": np.array(0.6)}
    check = ss.check_gradients(rate_of_a_decay(), params, seed=seed)
    assert check.ok and check.calls < 1500, str(check)
    check = ss.check_gradients(rate_of_a_decay(-1.0), params, seed=seed)
    assert check.wrong == ["rate"]


def test_where_it_would_take_too_long_the_words_say_how_many_draws_would_do():
    count = itertools.count()

    def function(p, batch):
        noise = np.random.default_rng(next(count)).normal()
        return float((p["x"] ** 2).sum() + 30 * noise), {"x": 2 * p["x"]}

    check = ss.check_gradients(function, {"x": np.ones(3)})
    assert check.unclear == ["x"] and not check.wrong and check.calls < 1500
    assert "let the function return means over some 10000 draws" in str(check)


# Losses of few digits, and functions that are not defined everywhere.

ROUNDED = {
    "half precision": np.float16,
    "single precision": np.float32,
    "whole thousandths": lambda loss: int(1000 * loss),
    **{f"{k} decimals": lambda loss, k=k: round(float(loss), k) for k in (1, 2, 3, 4, 6)},
}


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("seed", range(3))
def test_a_loss_that_was_rounded_is_no_wrong_gradient(name, seed):
    size = 1000 if name == "whole thousandths" else 1

    def function(p, batch, factor=1.0):
        loss, grads = network("tanh")(p, batch)
        return ROUNDED[name](loss), {k: size * factor * g for k, g in grads.items()}

    params = weights(0.5, float)
    check = ss.check_gradients(function, params, (X, Y), seed=seed)
    assert not check.wrong, str(check)
    few = name in ("1 decimals", "2 decimals")
    assert few or check.ok, str(check)
    flipped = ss.check_gradients(lambda p, b: function(p, b, -1.0), params, (X, Y), seed=seed)
    assert few or "v" in flipped.wrong


def test_advice_about_the_rate_does_not_turn_into_blame_by_a_rounded_loss():
    def function(p, batch):
        loss, grads = network("tanh")(p, batch)
        return np.float16(loss), grads

    params = weights(0.5, float)
    history = ss.fit(function, params, ss.SGD(params, lr=1e-4), (X, Y), steps=60)
    assert ss.diagnose(history).mismatch is None
    assert not ss.lr_find(function, weights(0.5, float), (X, Y), progress=False).mismatch


@pytest.mark.parametrize("error", [AssertionError, RuntimeError, ValueError, ZeroDivisionError])
def test_a_domain_ends_where_the_function_raises(error):
    def function(p, batch):
        if not (p["x"] > 0).all():
            raise error
        return float(np.log(p["x"]).sum()), {"x": 1 / p["x"]}

    assert ss.check_gradients(function, {"x": np.array([1e-3, 1.0, 50.0])}).ok


@pytest.mark.parametrize("elsewhere", [np.nan, RuntimeError])
def test_a_function_of_one_point_alone_is_called_so(elsewhere):
    def function(p, batch):
        if p["x"].tolist() != [1.0, 2.0]:
            if elsewhere is RuntimeError:
                raise RuntimeError
            return elsewhere, {"x": 2 * p["x"]}
        return float(p["x"] @ p["x"]), {"x": 2 * p["x"]}

    check = ss.check_gradients(function, {"x": np.array([1.0, 2.0])})
    assert check.unclear == ["x"] and "not defined, or not finite, beside" in str(check)


def test_a_batch_that_runs_out_is_refused_by_name():
    with pytest.raises(TypeError, match="batch is a list_iterator that has run out"):
        ss.check_gradients(lambda p, b: (next(b), p), np.ones(2), iter([1.0, 2.0]))

"""Mistakes that people make who write gradients by hand, beyond those of one factor or one term."""

import numpy as np
import pytest

import stepsize as ss

RNG = np.random.default_rng(11)
X, Y = RNG.normal(size=(32, 6)), RNG.normal(size=(32, 2))
LABELS = RNG.integers(0, 3, 32)


def network(dtype=np.float64):
    rng = np.random.default_rng(12)
    shapes = {"w1": (6, 8), "b1": (8,), "w2": (8, 2)}
    return {name: (rng.normal(size=shape) / 2).astype(dtype) for name, shape in shapes.items()}


def value_and_grad(params, batch):
    x, y = (part.astype(params["w1"].dtype) for part in batch)
    hidden = np.tanh(x @ params["w1"] + params["b1"])
    error = hidden @ params["w2"] - y
    e = error * x.dtype.type(2 / error.size)
    inner = e @ params["w2"].T * (1 - hidden**2)
    return (error**2).mean(), {"w1": x.T @ inner, "b1": inner.sum(0), "w2": hidden.T @ e}


def whole_norm(grads):
    return np.sqrt(sum((g**2).sum() for g in grads.values()))


def with_gradients(change):
    def function(params, batch):
        loss, grads = value_and_grad(params, batch)
        return loss, change(grads)

    return function


def with_loss(change):
    def function(params, batch):
        loss, grads = value_and_grad(params, batch)
        return change(loss), grads

    return function


WHOLE = {
    "clipped to a norm": (
        with_gradients(lambda g: {k: v * min(1, 0.1 / whole_norm(g)) for k, v in g.items()}),
        "clipped", "the norm 0.1 here and elsewhere",
    ),
    "divided by its norm": (
        with_gradients(lambda g: {k: v / whole_norm(g) for k, v in g.items()}),
        "clipped", "the norm 1 here and elsewhere",
    ),
    "clipped by element": (
        with_gradients(lambda g: {k: np.clip(v, -0.05, 0.05) for k, v in g.items()}),
        "clipped", "right where it is less than 0.05",
    ),
    "a root of the loss": (with_loss(np.sqrt), "of_function", "divide it by 2 * loss"),
    "a log of the loss": (with_loss(np.log), "of_function", "divide it by exp(loss)"),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mistake", WHOLE)
def test_what_is_done_to_the_gradients_of_all_leaves_is_named(mistake, dtype):
    function, cause, words = WHOLE[mistake]
    check = ss.check_gradients(function, network(dtype), (X, Y))
    assert check.wrong == sorted(network()), str(check)
    assert {leaf.cause for leaf in check.leaves.values()} == {cause}, str(check)
    assert all(words in leaf.words for leaf in check.leaves.values())
    # A leaf beside them, that has no gradient and that the loss ignores, changes nothing of that.
    beside = network(dtype) | {"seen": np.zeros(1, dtype)}
    check = ss.check_gradients(
        lambda p, b: (function(p, b)[0], function(p, b)[1] | {"seen": None}), beside, (X, Y)
    )
    assert [leaf.cause for leaf in check.leaves.values()].count(cause) == len(network())


def scales(kind):
    """Log-normal data by the log of a scale; the gradient by another one."""

    def function(params, batch):
        s = np.exp(params["log_s"])
        z = (Y.astype(s.dtype) - params["m"]) / s
        by_log = (1 - z**2).mean(0) / 2
        given = {"right": by_log, "by s": by_log / s, "by log log s": by_log * params["log_s"]}
        loss = (z**2 / 2 + params["log_s"]).mean()
        return loss, {"log_s": given[kind], "m": -(z / s).mean(0) / 2}

    return function


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_by_another_scale_of_the_parameter_is_named(dtype):
    start = {"log_s": np.array([0.4, -0.6], dtype), "m": np.array([0.1, 0.3], dtype)}
    assert ss.check_gradients(scales("right"), start).ok
    for kind, words in {"by s": "multiply it by exp(x)", "by log log s": "divide it by x"}.items():
        check = ss.check_gradients(scales(kind), start)
        assert check.wrong == ["log_s"] and check.cause == "log_scale", str(check)
        assert words in check.leaves["log_s"].words
    # A factor is one in the leaf of one number too, where each point has an exp(x).
    one = {"a": np.array([0.7], dtype)}
    check = ss.check_gradients(lambda p, b: ((p["a"] ** 4).sum(), {"a": 3 * p["a"] ** 3}), one)
    assert check.cause == "factor"


def pair(kind):
    """Two leaves of one shape in one term, and one whose gradient is the same everywhere."""

    def function(params, batch):
        a, c, d = params["a"], params["c"], params["d"]
        grads = {"a": 2 * a + c, "c": 4 * c**3 + a, "d": np.ones_like(d)}
        if kind == "swapped":
            grads["a"], grads["c"] = grads["c"], grads["a"]
        if kind == "one array":
            grads["a"] = grads["c"]
        return (a**2).sum() + (c**4).sum() + (a * c).sum() + d.sum(), grads

    return function


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_two_leaves_that_are_mixed_up_are_named(dtype):
    start = {"a": np.array([0.1, -0.5, 0.7, 0.3, 1.2]), "c": np.linspace(1, 2, 5), "d": np.ones(5)}
    start = {name: leaf.astype(dtype) for name, leaf in start.items()}
    assert ss.check_gradients(pair("right"), start).ok
    check = ss.check_gradients(pair("swapped"), start)
    assert check.wrong == ["a", "c"] and check.cause == "swapped", str(check)
    assert "of c" in check.leaves["a"].words and "of a" in check.leaves["c"].words
    check = ss.check_gradients(pair("one array"), start)
    assert check.wrong == ["a"] and check.cause == "one_array", str(check)
    assert "the gradient of c" in check.leaves["a"].words


def test_one_array_for_two_leaves_is_right_where_their_gradients_are_the_same():
    def tied(params, batch):
        g = 2 * (params["a"] + params["c"] - 1)
        return ((params["a"] + params["c"] - 1) ** 2).sum(), {"a": g, "c": g}

    assert ss.check_gradients(tied, {"a": np.ones(3), "c": np.arange(3.0)}).ok


def test_a_loss_of_other_arrays_than_those_given_is_called_so():
    elsewhere = network()

    def function(params, batch):
        return value_and_grad(elsewhere, batch)

    check = ss.check_gradients(function, network(), (X, Y))
    assert not check.ok and check.cause == "unused"
    assert any("the same wherever the parameters are" in note for note in check.notes)
    check = ss.check_gradients(
        lambda p, b: (value_and_grad(p, b)[0], value_and_grad(elsewhere, b)[1]), network(), (X, Y)
    )
    assert check.cause == "stale" and "the same at other parameters" in str(check)


def softmax(kind):
    def function(params, batch):
        x, n = X.astype(params["w"].dtype), len(X)
        z = x @ params["w"]
        z = z - z.max(axis=1, keepdims=True)
        if kind == "shifted by columns too":  # is no fault: what a row loses, all its classes lose
            z = z - z.max()
        p = np.exp(z)
        p /= p.sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(n), LABELS]).mean()
        p[np.arange(n), LABELS] -= kind != "without the label"
        return loss, {"w": x.T @ p / n}

    return function


def relu(kind):
    def function(params, batch):
        z = X @ params["w1"]
        a = np.maximum(z, 0, out=z)  # z is a from here on
        error = a @ params["w2"] - Y
        e = 2 * error / error.size
        slope = {"in place": z > 0, "in place, from 0 on": z >= 0}[kind]
        return (error**2).mean(), {"w1": X.T @ (e @ params["w2"].T * slope), "w2": a.T @ e}

    return function


def euler(kind):
    """The adjoint of explicit Euler steps; `late` reads the state after the step."""
    times = np.linspace(0, 2, 21)
    seen = np.array([np.cos(times), -np.sin(times)]).T

    def function(params, batch):
        a, h, states = params["a"], times[1], [params["start"]]
        for _ in times[1:]:
            states.append(states[-1] + h * a @ np.tanh(states[-1]))
        rest = np.array(states) - seen
        pull = 2 * rest / rest.size
        adjoint, g = pull[-1], np.zeros_like(a)
        for k in reversed(range(len(times) - 1)):
            x = states[k + (kind == "late")]
            g += h * np.outer(adjoint, np.tanh(x))
            adjoint = adjoint + h * (a.T @ adjoint) * (1 - np.tanh(x) ** 2) + pull[k]
        return (rest**2).mean(), {"a": g, "start": adjoint}

    return function


def looked_up(kind):
    index, goal = RNG.integers(0, 5, 40), RNG.normal(size=(40, 3))

    def function(params, batch):
        error = params["e"][index] - goal
        g = np.zeros_like(params["e"])
        if kind == "add.at":
            np.add.at(g, index, 2 * error / error.size)
        else:
            g[index] += 2 * error / error.size  # a word that comes twice counts once
        return (error**2).mean(), {"e": g}

    return function


W = {"w": RNG.normal(size=(6, 3))}
R = {"w1": RNG.normal(size=(6, 8)), "w2": RNG.normal(size=(8, 2))}
A = {"a": np.array([[-0.1, 1.0], [-1.1, -0.05]]), "start": np.array([0.8, 0.1])}
BY_HAND = {
    "softmax": (softmax("right"), W, []),
    "softmax, shifted twice": (softmax("shifted by columns too"), W, []),
    "softmax without the label": (softmax("without the label"), W, ["w"]),
    "relu in place": (relu("in place"), R, []),
    "relu in place, from 0 on": (relu("in place, from 0 on"), R, ["w1"]),
    "adjoint": (euler("right"), A, []),
    "adjoint of the state after": (euler("late"), A, ["a", "start"]),
    "rows added up": (looked_up("add.at"), {"e": RNG.normal(size=(5, 3))}, []),
    "rows written over": (looked_up("+="), {"e": RNG.normal(size=(5, 3))}, ["e"]),
    "Fortran order": (
        with_gradients(lambda g: {k: np.asfortranarray(v) for k, v in g.items()}), network(), [],
    ),
    "a bias of means": (
        with_gradients(lambda g: g | {"b1": g["b1"] / 32}), network(), ["b1"],
    ),
    "a sum of losses": (with_loss(lambda loss: 32 * loss), network(), ["b1", "w1", "w2"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND)
def test_exactly_the_leaves_that_are_wrong_are_called_so(case):
    function, params, wrong = BY_HAND[case]
    check = ss.check_gradients(function, params, (X, Y))
    assert check.wrong == wrong, str(check)
    assert check.ok == (not wrong)


def test_leaves_of_which_the_same_is_said_share_a_line():
    params = {f"w{k}": np.ones(2) for k in range(9)} | {"b": np.ones(1)}

    def function(params, batch):
        loss = sum((leaf**2).sum() for leaf in params.values())
        return loss, {k: (-2 if k == "b" else 1) * leaf for k, leaf in params.items()}

    lines = str(ss.check_gradients(function, params)).splitlines()
    assert "b: the sign is flipped" in lines
    assert "w0, w1, w2, w3, w4, w5 and 3 more: multiply it by 2 (as of a square)" in lines

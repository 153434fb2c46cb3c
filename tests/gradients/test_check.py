"""check_gradients: right gradients pass whatever the loss is like, wrong ones are named."""

import itertools

import numpy as np
import pytest

import stepsize as ss
from hostile import BAD, SAME, OfTheUser, X, Y, clean, make_params

DATA = np.random.default_rng(3)
BATCH = DATA.normal(size=(30, 6)), DATA.normal(size=(30, 2))


def network(dtype=np.float64):
    rng = np.random.default_rng(4)
    shapes = {"u": (6, 7), "b": (7,), "w": (7, 7), "v": (7, 2)}
    return {name: (0.5 * rng.normal(size=shape)).astype(dtype) for name, shape in shapes.items()}


def value_and_grad(params, batch, use="both"):
    """Two layers that share `w`; `use` leaves one of them out of its gradient."""
    x, y = (part.astype(params["u"].dtype) for part in batch)
    a1 = np.tanh(x @ params["u"] + params["b"])
    a2 = np.tanh(a1 @ params["w"])
    a3 = np.tanh(a2 @ params["w"])
    error = a3 @ params["v"] - y
    e = 2 * error / error.size
    d3 = e @ params["v"].T * (1 - a3**2)
    d2 = d3 @ params["w"].T * (1 - a2**2)
    d1 = d2 @ params["w"].T * (1 - a1**2)
    w = a2.T @ d3 + (a1.T @ d2 if use == "both" else 0)
    grads = {"u": x.T @ d1, "b": d1.sum(0), "w": w, "v": a3.T @ e}
    return (error**2).mean(), {k: g.astype(params[k].dtype) for k, g in grads.items()}


def wrong(change, leaf="w"):
    def function(params, batch):
        loss, grads = value_and_grad(params, batch)
        grads[leaf] = np.asarray(change(grads[leaf], params[leaf]), grads[leaf].dtype)
        return loss, grads

    return function


def keeps(change):
    """A function with a memory: the change gets the gradient and a list."""

    def make():
        kept = []
        return wrong(lambda g, x: change(g, kept))

    return make


def stale(g, kept):
    kept.append(g.copy())
    return kept[-2] if len(kept) > 1 else g


def accumulated(g, kept):
    kept.append(g.copy())
    return sum(kept)


def with_decay(params, batch):
    loss, grads = value_and_grad(params, batch)
    return loss + 0.02 * (params["w"] ** 2).sum(), grads


def with_l1(params, batch):
    loss, grads = value_and_grad(params, batch)
    return loss + 0.02 * np.abs(params["w"]).sum(), grads


def with_another_term(params, batch):
    loss, grads = value_and_grad(params, batch)
    return loss + 0.05 * np.cos(3 * params["w"]).sum(), grads


def changes_params(params, batch):
    result = value_and_grad(params, batch)
    params["w"] *= 0.9
    return result


def changes_batch(params, batch):
    result = value_and_grad(params, batch)
    batch[0][0] = 0
    return result


def jitters():
    count = itertools.count()
    return wrong(
        lambda g, x: g * (1 + 0.3 * np.random.default_rng(next(count)).normal(size=g.shape))
    )


ORDER = [3, 0, 4, 6, 1, 5, 2]
CAUSES = {
    "sign_flipped": lambda: wrong(lambda g, x: -g),
    "factor": lambda: wrong(lambda g, x: g / 2),
    "transposed": lambda: wrong(lambda g, x: g.T),
    "reversed": lambda: wrong(lambda g, x: g[::-1]),
    "shifted": lambda: wrong(lambda g, x: np.roll(g, 2, 0)),
    "permuted": lambda: wrong(lambda g, x: g[ORDER]),
    "missing_decay": lambda: with_decay,
    "missing_l1": lambda: with_l1,
    "missing_term": lambda: with_another_term,
    "one_use": lambda: lambda p, b: value_and_grad(p, b, use="last"),
    "zero": lambda: wrong(lambda g, x: 0 * g),
    "zero_in_part": lambda: wrong(lambda g, x: g * (np.arange(7) > 2)),
    "stale": keeps(stale),
    "accumulated": keeps(accumulated),
    "not_deterministic": jitters,
    "not_finite": lambda: wrong(lambda g, x: g * np.nan),
    "changes_params": lambda: changes_params,
    "changes_batch": lambda: changes_batch,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_named_and_no_other_leaf_blamed(cause, dtype):
    params = network(dtype)
    check = ss.check_gradients(CAUSES[cause](), params, BATCH)
    assert not check.ok and check.cause == cause
    if cause != "changes_batch":
        assert check.wrong == ["w"] and check.leaves["w"].cause == cause
        assert check.leaves["w"].words in str(check)
    assert all(np.array_equal(params[k], v) for k, v in network(dtype).items())


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        (lambda g: g / 2, 2), (lambda g: 2 * g, 0.5), (lambda g: 30 * g, 1 / 30),
        (lambda g: g / 30, 30), (lambda g: g / 60, 60), (lambda g: -2 * g, -0.5),
    ],
)  # fmt: skip
def test_factors_are_recognised(change, factor):
    leaf = ss.check_gradients(wrong(lambda g, x: change(g), "u"), network(), BATCH).leaves["u"]
    assert (leaf.cause, leaf.factor) == ("factor", factor)
    assert leaf.ratio == pytest.approx(factor, rel=1e-4)  # a slope has that many digits
    assert leaf.cosine == pytest.approx(np.sign(factor), abs=1e-3)


def test_the_strength_of_a_decay_is_told():
    leaf = ss.check_gradients(with_decay, network(), BATCH).leaves["w"]
    assert leaf.factor == pytest.approx(0.04, rel=1e-3)  # fitted to slopes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_right_gradients_fit(dtype, seed):
    check = ss.check_gradients(value_and_grad, network(dtype), BATCH, seed=seed)
    assert check.ok and check.cause is None and not check.wrong
    assert all(leaf.verdict == "fits" for leaf in check.leaves.values())


def single_inside(params, batch):
    """Double outside, single inside."""
    narrow = {name: leaf.astype(np.float32) for name, leaf in params.items()}
    loss, grads = value_and_grad(narrow, batch)
    return float(loss), {name: g.astype(np.float64) for name, g in grads.items()}


def relu(params, batch):
    """Biases of 0 on inputs of 0: half of the kinks are exactly at the parameters."""
    x, y = batch
    x = np.where(np.arange(len(x))[:, None] < 15, 0, x)
    z = x @ params["u"] + params["b"]
    error = np.maximum(z, 0) @ params["v"] - y
    e = error / len(x)
    d = (e @ params["v"].T) * (z > 0)
    return (error**2).sum() / 2 / len(x), {
        "u": x.T @ d, "b": d.sum(0), "v": np.maximum(z, 0).T @ e,
    }  # fmt: skip


def test_single_precision_inside_of_double_is_noise():
    check = ss.check_gradients(single_inside, network(), BATCH, tolerance=1e-4)
    assert check.ok, str(check)


def test_a_kink_at_the_parameters_is_told_from_a_wrong_gradient():
    params = {k: v for k, v in network().items() if k != "w"} | {"b": np.zeros(7)}
    check = ss.check_gradients(relu, params, BATCH)
    assert check.ok and check.leaves["b"].kink, str(check)
    assert "kink" in str(check)
    assert not ss.check_gradients(value_and_grad, network(), BATCH).leaves["b"].kink


def dropout(rng, other=False):
    def function(params, batch):
        x, y = batch
        loss, grads = value_and_grad(params, (x * (rng.random(x.shape) < 0.7), y))
        if other:
            grads = value_and_grad(params, (x * (rng.random(x.shape) < 0.7), y))[1]
        return loss, grads

    return function


def test_chance_whose_generator_is_found_is_held_fixed_and_put_back():
    rng = np.random.default_rng(5)
    before = rng.bit_generator.state
    check = ss.check_gradients(dropout(rng), network(), BATCH)
    assert check.ok and check.stochastic and check.leaves["w"].error < 1e-5
    assert rng.bit_generator.state == before


def test_a_gradient_of_another_draw_is_not_deterministic():
    check = ss.check_gradients(dropout(np.random.default_rng(5), other=True), network(), BATCH)
    assert {leaf.cause for leaf in check.leaves.values()} == {"not_deterministic"}


def hidden_noise(sign=1):
    count = itertools.count()

    def function(params, batch):
        x, y = batch
        jitter = np.random.default_rng(next(count)).normal(size=x.shape)
        loss, grads = value_and_grad(params, (x * (1 + 0.01 * jitter), y))
        return loss, grads | {"w": sign * grads["w"]}

    return function


def test_chance_whose_generator_is_not_found_is_averaged_over():
    check = ss.check_gradients(hidden_noise(), network(), BATCH)
    assert check.ok and check.stochastic and "noisy" in str(check)
    check = ss.check_gradients(hidden_noise(-1), network(), BATCH)
    assert check.wrong == ["w"] and check.leaves["w"].cause == "sign_flipped"


def test_noise_that_hides_the_answer_is_not_ok():
    count = itertools.count()

    def function(params, batch):
        loss, grads = value_and_grad(params, batch)
        return loss + 10 * np.random.default_rng(next(count)).normal(), grads

    check = ss.check_gradients(function, network(), BATCH)
    assert not check.ok and not check.wrong
    assert "unclear" in {leaf.verdict for leaf in check.leaves.values()}


def test_a_leaf_that_the_loss_ignores_is_unused_or_wrong():
    def function(params, batch, extra):
        loss, grads = value_and_grad(params, batch)
        return loss, grads | {"extra": extra}

    params = network() | {"extra": np.ones(3)}
    check = ss.check_gradients(lambda p, b: function(p, b, np.zeros(3)), params, BATCH)
    assert check.ok and check.leaves["extra"].verdict == "unused"
    check = ss.check_gradients(lambda p, b: function(p, b, np.ones(3)), params, BATCH)
    assert check.wrong == ["extra"] and check.leaves["extra"].cause == "unused"
    check = ss.check_gradients(lambda p, b: function(p, b, None), params, BATCH)
    assert check.ok and check.leaves["extra"].verdict == "skipped"


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_a_leaf_without_a_gradient_is_missing_where_the_loss_depends_on_it(share):
    rng = [np.random.default_rng(1)]  # found nowhere, in a list

    def function(params, batch):
        mask = rng[0].random(batch[1].shape) > share
        loss, grads = value_and_grad(params, (batch[0], batch[1] * mask))
        params["mean"] += 0.1 * batch[0].mean()  # a state that the loss does not read
        return loss, grads | {"b": None, "mean": None}

    params = network() | {"mean": np.zeros(1)}
    params["b"] += 0.5
    check = ss.check_gradients(function, params, BATCH)
    assert check.missing == ["b"] and not check.ok and not check.wrong and check.cause is None
    assert check.leaves["mean"].verdict == "skipped"
    assert "b: the gradient is None, and the loss depends on this leaf" in str(check)
    assert str(check).startswith("1 of 5 gradients are missing") and "b missing" in repr(check)


def test_one_wrong_element_is_seen_by_coordinates():
    params = {"x": np.linspace(1, 2, 2000)}

    def function(p, batch):
        g = p["x"].copy()
        g[7] += 1e-4
        return float(p["x"] @ p["x"]) / 2, {"x": g}

    assert ss.check_gradients(function, params).ok  # 1e-6 of the whole
    rows = ss.check_gradients(function, params, coordinates=2000).leaves["x"].coordinates
    off = np.abs(rows[:, 1] - rows[:, 2]) > rows[:, 3]
    assert rows[off, 0].tolist() == [7]
    assert not ss.check_gradients(function, params, coordinates=2000).ok


def test_rows_of_gradients_count_as_the_whole():
    def function(params, rows):
        values = params["e"][rows]
        return float((values**2).sum()), {"e": ss.RowGradient(rows, 2 * values)}

    assert ss.check_gradients(function, {"e": np.ones((5, 2))}, np.array([0, 2, 3])).ok


@pytest.mark.parametrize("params", [np.array(1.5), [np.ones(2), (np.ones((1, 1)), None)]])
def test_any_nest_of_parameters(params):
    def function(p, batch):
        leaves = ss.arrays.flatten(p)[0]
        grads = ss.arrays.map_leaves(lambda x: 2 * x, p)
        return sum(float((leaf**2).sum()) for leaf in leaves), grads

    assert ss.check_gradients(function, params).ok


@pytest.mark.parametrize(
    "scale, size",
    [(1e-12, 1e-6), (1e6, 1e5), (1e-160, 1.0), (1e-290, 1e5), (1e200, 1e-6), (1e6, 1e-200)],
)
def test_neither_the_unit_of_the_loss_nor_of_the_parameters_matters(scale, size):
    def function(params, batch):
        inner = {name: leaf / size for name, leaf in params.items()}
        loss, grads = value_and_grad(inner, batch)
        return scale * loss, {name: scale / size * g for name, g in grads.items()}

    params = {name: size * leaf for name, leaf in network().items()}
    assert ss.check_gradients(function, params, BATCH).ok
    flipped = lambda p, b: (function(p, b)[0], {k: -g for k, g in function(p, b)[1].items()})  # noqa: E731
    check = ss.check_gradients(flipped, params, BATCH)
    assert {leaf.cause for leaf in check.leaves.values()} == {"sign_flipped"}
    loss, grads = function(params, BATCH)
    assert check.loss == loss
    # The first direction is the gradient's, and its numbers are 1 in the root mean square.
    along = np.sqrt(7) * np.linalg.norm(grads["b"] * (size / scale)) * (scale / size)
    assert check.leaves["b"].slopes[0, :2] == pytest.approx([along, -along], rel=1e-4, abs=0)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_start_at_the_minimum_says_nothing_of_the_unit(scale, factor):
    def function(x, batch):
        return scale * float(((x - 1) ** 2 + (x - 1) ** 4).sum()), (
            scale * (2 * (x - 1) + 4 * (x - 1) ** 3) / factor
        )

    check = ss.check_gradients(function, np.ones(3))
    assert check.ok == (factor == 1), str(check)
    assert factor == 1 or check.leaves["params"].factor == 2
    assert not check.leaves["params"].kink


@pytest.mark.parametrize("behaviour", SAME)
def test_the_memory_of_a_function_is_its_own(behaviour):
    check = ss.check_gradients(SAME[behaviour](), make_params(), (X, Y))
    assert check.ok and str(check) == str(ss.check_gradients(clean, make_params(), (X, Y)))


@pytest.mark.parametrize("behaviour", BAD)
def test_what_is_no_gradient_is_refused(behaviour):
    params = make_params()
    if behaviour in ("NaN", "infinite"):
        check = ss.check_gradients(BAD[behaviour](), params, (X, Y))
        assert {leaf.cause for leaf in check.leaves.values()} == {"not_finite"}
    else:
        with pytest.raises((TypeError, ValueError, OfTheUser), match=r"grad|must return|function"):
            ss.check_gradients(BAD[behaviour](), params, (X, Y))
    assert all(np.array_equal(params[k], v) for k, v in make_params().items())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"directions": 1}, "directions must be a whole number >= 2, got 1"),
        ({"coordinates": -1}, "coordinates must be a whole number >= 0, got -1"),
        ({"tolerance": 2.0}, "tolerance must be in .0, 1., got 2.0"),
        ({"seed": 0.5}, "seed must be a whole number >= 0, got 0.5"),
        ({"value_and_grad": 3}, "value_and_grad must be a function .*, got 3"),
        ({"params": {}}, "params holds no array"),
        ({"params": {"w": np.array([1.0, np.nan])}}, "w holds NaN or infinity"),
        ({"params": {"w": np.ones(2, int)}}, "w has dtype int64"),
        ({"value_and_grad": lambda p, b: (np.nan, p)}, "the loss at the parameters is nan"),
    ],
)
def test_bad_arguments_are_refused(arguments, error):
    good = {"value_and_grad": value_and_grad, "params": network(), "batch": BATCH}
    with pytest.raises((TypeError, ValueError), match=error):
        ss.check_gradients(**good | arguments)


def test_the_cost_does_not_grow_with_the_elements():
    def function(p, batch):
        return float(p["x"] @ p["x"]), {"x": 2 * p["x"]}

    small, large = (
        ss.check_gradients(function, {"x": np.linspace(1, 2, n)}).calls for n in (100, 100_000)
    )
    assert large <= small + 10 < 60


def test_the_picture_shows_every_leaf_with_its_cause():
    pytest.importorskip("matplotlib")
    ax = ss.check_gradients(wrong(lambda g, x: -g), network(), BATCH).plot()
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(shown) == ["b", "u", "v", "w: sign flipped"]

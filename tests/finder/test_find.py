"""The finder: right on what is known, blind to sign, constant and scale, and harmless."""

# ruff: noqa: NPY002 - the legacy generator must come back too

from __future__ import annotations

import copy
import random
import re
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from stepsize.curves import debiased_ema
from stepsize.finder.confidence import confidence
from stepsize.finder.racing import _weighted_rate
from stepsize.finder.suggestions import classical, minimum, slide, steepest, valley


def quadratic(scale=1.0, constant=0.0):
    """Curvatures 1 and 10, so rates above 0.2 / scale diverge."""
    h = scale * np.array([1.0, 10.0])

    def value_and_grad(params, batch):
        x = params["x"]
        return 0.5 * float(h @ (x * x)) + constant, {"x": h * x}

    return value_and_grad


def start():
    return {"x": np.array([3.0, -2.0])}


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 1e3, 1e9])
def test_the_suggestion_lies_below_the_limit_of_stability_at_every_scale(scale):
    result = ss.lr_find(quadratic(scale), start(), [None])
    assert 0.01 < result.suggestion * scale < 0.2


@pytest.mark.parametrize("constant", [-1e3, -20.0, 0.0, 1e3])
def test_a_constant_in_the_loss_changes_nothing(constant):
    plain = ss.lr_find(quadratic(), start(), [None])
    moved = ss.lr_find(quadratic(constant=constant), start(), [None])
    # Equal up to the rounding that adding a large constant costs the losses.
    assert moved.suggestion == pytest.approx(plain.suggestion, rel=1e-6)
    assert len(moved.lrs) == len(plain.lrs)


def test_parameters_optimizer_and_random_state_come_back_bit_for_bit():
    params, rng = start(), np.random.default_rng(5)
    optimizer = ss.Adam(params, lr=0.1)
    optimizer.step({"x": np.array([0.3, -0.1])})
    f = quadratic()

    def noisy(p, batch):
        loss, grads = f(p, batch)
        grads["x"] += 0.01 * np.random.randn(2) * rng.random() * random.random()
        return loss, grads

    def batches():
        while True:
            yield rng.permutation(4)

    np.random.seed(3)
    before = copy.deepcopy(
        (
            params,
            optimizer.state_dict(),
            np.random.get_state(),
            rng.bit_generator.state,
            random.getstate(),
        )
    )
    ss.lr_find(noisy, params, batches, optimizer=optimizer)
    after = (
        params,
        optimizer.state_dict(),
        np.random.get_state(),
        rng.bit_generator.state,
        random.getstate(),
    )
    np.testing.assert_equal(after, before)


@pytest.mark.parametrize("call", [1, 2, 30])
def test_an_error_of_the_function_is_passed_on_and_nothing_has_changed(call):
    params, f, calls = start(), quadratic(), []
    optimizer = ss.SGD(params, lr=0.5, momentum=0.9)

    def failing(p, batch):
        calls.append(np.random.random())
        if len(calls) == call:
            raise RuntimeError("the data loader died")
        return f(p, batch)

    np.random.seed(1)
    before = copy.deepcopy((params, optimizer.state_dict(), np.random.get_state()))
    with pytest.raises(RuntimeError, match="the data loader died"):
        ss.lr_find(failing, params, [None], optimizer=optimizer)
    np.testing.assert_equal((params, optimizer.state_dict(), np.random.get_state()), before)


def test_it_starts_from_the_state_of_an_optimizer_that_is_given():
    params = start()
    optimizer = ss.SGD(params, lr=ss.lr_find(quadratic(), params, [None]).suggestion, momentum=0.9)
    for _ in range(5):
        optimizer.step(quadratic()(params, None)[1])
    fresh = ss.lr_find(quadratic(), params, [None], optimizer=lambda p: ss.SGD(p, momentum=0.9))
    warm = ss.lr_find(quadratic(), params, [None], optimizer=optimizer)
    assert fresh.losses[0] == warm.losses[0]
    assert fresh.losses[2] != warm.losses[2]


@pytest.mark.parametrize("steps", [20, 50, 100, 300])
@pytest.mark.parametrize("repeats", [1, 3])
def test_it_never_takes_more_gradients_than_asked(steps, repeats):
    count = []

    def counted(p, batch):
        count.append(1)
        return quadratic()(p, batch)

    result = ss.lr_find(counted, start(), [None], steps=steps, repeats=repeats)
    assert len(count) == result.gradients + result.checks
    assert result.gradients <= steps * repeats
    assert result.checks <= 6


@pytest.mark.parametrize("refine", [True, 150, 400])
def test_refining_costs_at_most_two_trainings_and_ends_near_the_best_rate(refine):
    count = []

    def counted(p, batch):
        count.append(1)
        return quadratic()(p, batch)

    result = ss.lr_find(counted, start(), [None], refine=refine)
    assert len(count) == result.gradients + result.checks
    assert result.gradients <= 2 * (200 if refine is True else refine)
    # Gradient descent on curvatures 1 and 10 is fastest at 2 / (1 + 10).
    assert result.suggestion == pytest.approx(2 / 11, rel=0.5)


def test_a_long_source_is_not_kept_in_memory_while_refining():
    alive = []

    class Batch:
        pass

    def batches():
        while True:
            batch = Batch()
            alive.append(weakref.ref(batch))
            yield batch

    most = []

    def value_and_grad(p, batch):
        most.append(sum(r() is not None for r in alive))
        return quadratic()(p, batch)

    ss.lr_find(value_and_grad, start(), batches, refine=2000)
    assert max(most) < 200


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_ends_a_sweep_with_the_reason(bad):
    f = quadratic()

    def fragile(p, batch):
        loss, grads = f(p, batch)
        return (bad if loss > 40 else loss), grads

    result = ss.lr_find(fragile, start(), [None])
    assert 0.01 < result.suggestion < 0.2
    assert np.isfinite(result.losses).all() and len(result.losses) == len(result.lrs)
    assert f"the loss became {float(bad)}" in result.stopped


def test_an_overflow_that_python_raises_counts_as_a_lost_loss():
    import math

    def exponential(p, batch):
        x = float(p["x"][0])
        return math.exp(x) - 2 * x, {"x": np.array([math.exp(x) - 2])}

    result = ss.lr_find(exponential, {"x": np.array([3.0])}, [None], lr_max=1e4)
    assert 1e-3 < result.suggestion < 1.2


def test_gradients_that_are_not_finite_end_a_sweep():
    f = quadratic()

    def fragile(p, batch):
        loss, grads = f(p, batch)
        return loss, {"x": grads["x"] * (np.nan if loss > 40 else 1.0)}

    assert "the gradient of x was not finite" in ss.lr_find(fragile, start(), [None]).stopped


def test_hopeless_tasks_are_told_apart():
    flat = ss.lr_find(lambda p, b: (1.0, {"x": p["x"] * 0}), start(), [None])
    assert flat.confidence == "none" and not flat.usable
    assert str(flat).startswith("no usable rate, because no rate tried made the loss fall")
    still = ss.lr_find(lambda p, b: (float(-p["x"] @ p["x"]), {"x": p["x"] * 0}), start(), [None])
    assert still.confidence == "none" and not still.usable
    assert "x: the gradient is 0 where the loss has a slope" in str(still)
    lost = ss.lr_find(lambda p, b: (np.nan, {"x": p["x"]}), start(), [None])
    assert lost.why == "the loss is not finite at the starting parameters"
    assert not lost.usable and len(lost.losses) == 0
    broken = ss.lr_find(lambda p, b: (1.0, {"x": p["x"] * np.nan}), start(), [None])
    assert "at the lowest, the gradient of x was not finite at the starting parameters" in str(
        broken
    )
    assert lost.stopped == "stopped because the loss was nan at the starting parameters"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_learns_at_the_rate_found(rule):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 8))
    y = x @ rng.standard_normal(8)
    params = {"w": 0.3 * rng.standard_normal(8)}

    def value_and_grad(p, batch):
        error = batch[0] @ p["w"] - batch[1]
        return 0.5 * float(np.mean(error**2)), {"w": batch[0].T @ error / len(error)}

    batches = [(x[k : k + 32], y[k : k + 32]) for k in range(0, 256, 32)]
    result = ss.lr_find(value_and_grad, params, batches, optimizer=rule)
    if rule.__name__ == "FTRL":  # it forgets where it starts, so that at first every loss rises
        return
    optimizer, before = rule(params, lr=result.suggestion), value_and_grad(params, (x, y))[0]
    for k in range(100):
        loss, grads = value_and_grad(params, batches[k % 8])
        optimizer.step(grads, loss=loss)
    assert value_and_grad(params, (x, y))[0] < 0.5 * before


def test_an_optimizer_of_another_package_will_do():
    class Plain:
        def __init__(self, params):
            self.params, self.lr = params, 0.1

        def step(self, grads):
            self.params["x"] -= self.lr * grads["x"]

    ours = ss.lr_find(quadratic(), start(), [None])
    theirs = ss.lr_find(quadratic(), start(), [None], optimizer=Plain)
    # The rounding of a step may differ, and with it that of the shift that is measured on steps.
    assert theirs.suggestion == pytest.approx(ours.suggestion, rel=1e-6)


def test_groups_with_rates_of_their_own_keep_their_ratio():
    made = []

    def factory(params):
        made.append(ss.SGD(params, lr=0.1, groups=[ss.group("y", lr=0.001)]))
        return made[-1]

    def value_and_grad(p, batch):
        return float(p["x"] @ p["x"] + p["y"] @ p["y"]), {k: 2 * v for k, v in p.items()}

    ss.lr_find(value_and_grad, {"x": np.ones(2), "y": np.ones(2)}, [None], optimizer=factory)
    tried = {max(o.lr) for o in made if o.step_count}
    assert len(tried) > 3
    assert all(max(o.lr) / min(o.lr) == pytest.approx(100) for o in made)


def test_short_and_reused_batches_are_cycled():
    seen = []

    def value_and_grad(p, batch):
        seen.append(batch)
        return quadratic()(p, batch)

    ss.lr_find(value_and_grad, start(), iter(["a", "b"]))
    assert set(seen) == {"a", "b"}


def test_a_function_may_reuse_its_gradient_buffers():
    buffer = {"x": np.zeros(2)}

    def reusing(p, batch):
        loss, grads = quadratic()(p, batch)
        buffer["x"][...] = grads["x"]
        return loss, buffer

    fresh = ss.lr_find(quadratic(), start(), [None])
    assert ss.lr_find(reusing, start(), [None]).suggestion == fresh.suggestion


def test_the_result_reads_well_and_ends_with_the_line_to_paste():
    made = lambda p: ss.AdamW(p, weight_decay=0.1)  # noqa: E731
    result = ss.lr_find(quadratic(), start(), [None], optimizer=made)
    last = str(result).splitlines()[-1]
    assert last == f"optimizer = ss.AdamW(params, lr={result.suggestion:.1e}, weight_decay=0.1)"
    params = start()
    optimizer = eval(last.removeprefix("optimizer = "), {"ss": ss, "params": params})
    assert isinstance(optimizer, ss.AdamW)
    assert set(result.suggestions) == {"steepest", "valley", "slide", "minimum", "race"}
    low, high = result.interval
    assert low < result.suggestion < high
    assert result.peak >= result.suggestion / 2


def test_the_curve_can_be_kept_and_drawn(tmp_path):
    result = ss.lr_find(quadratic(), start(), [None])
    result.to_csv(tmp_path / "curve.csv")
    rows = np.genfromtxt(tmp_path / "curve.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(rows["lr"], result.lrs)
    np.testing.assert_array_equal(rows["loss"], result.losses)
    assert result.plot().get_xlabel() == "learning rate"
    assert "learning rate" in result.plot_text()


def test_rates_are_spaced_as_asked():
    f = quadratic(1e-9)
    kept = {"lr_min": 1e-3, "lr_max": 1e-1}
    grid = ss.lr_find(f, start(), [None], spacing="linear", lr_min=1e-12, lr_max=1e12).lrs
    np.testing.assert_allclose(np.diff(grid), np.diff(grid)[0])
    ratios = np.diff(np.log(ss.lr_find(quadratic(), start(), [None], **kept).lrs))
    np.testing.assert_allclose(ratios, ratios[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr_min": 0.0}, "need 0 < lr_min < lr_max"),
        ({"lr_min": 1.0, "lr_max": 0.1}, "lr_min=1.0 and lr_max=0.1"),
        ({"lr_max": np.inf}, "both finite"),
        ({"steps": 5}, "steps must be at least 20, got 5"),
        ({"spacing": "cubic"}, "got 'cubic'"),
        ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\), got 1.0"),
        ({"stop_ratio": 0}, "stop_ratio must be positive, got 0"),
        ({"refine": 50}, "refine must be at least steps=100, got 50"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ss.lr_find(quadratic(), start(), [None], **wrong)


def test_wrong_batches_and_optimizers_are_refused():
    with pytest.raises(ValueError, match="batches is empty"):
        ss.lr_find(quadratic(), start(), [])
    with pytest.raises(TypeError, match=r"wrap a single batch as \[batch\]"):
        ss.lr_find(quadratic(), start(), 3)
    with pytest.raises(TypeError, match="optimizer must be an optimizer class"):
        ss.lr_find(quadratic(), start(), [None], optimizer=3)
    with pytest.raises(ValueError, match="there is no optimizer 'adma'; there is"):
        ss.lr_find(quadratic(), start(), [None], optimizer="adma")


def test_an_optimizer_may_be_named():
    named, given = (
        ss.lr_find(quadratic(), start(), [None], optimizer=o) for o in ("adam", ss.Adam)
    )
    assert named.suggestion == given.suggestion and named.call == given.call


def test_rules_on_a_curve_drawn_by_hand():
    lrs = np.geomspace(1e-4, 1e2, 61)
    x = np.log10(lrs)
    losses = np.where(x < -3, 3.0, np.where(x < 1, 3.0 - (x + 3) / 2, 1.0 + 40 * (x - 1)))
    assert minimum(lrs, losses) == pytest.approx(1.0, rel=0.3)
    assert 1e-3 <= steepest(lrs, losses) <= 10.0
    assert 1e-2 < valley(lrs, losses) < 1.0
    assert 1.0 < slide(lrs, losses) < 20.0
    assert classical(lrs[:4], losses[:4])["valley"] != classical(lrs, losses)["valley"]


def test_the_average_is_debiased():
    losses = np.array([4.0, 2.0, 1.0])
    np.testing.assert_array_equal(debiased_ema(losses, 0.0), losses)
    np.testing.assert_allclose(debiased_ema(np.full(5, 7.0), 0.98), 7.0)
    assert debiased_ema(losses, 0.5)[1] == pytest.approx((0.5 * 4 + 2) / 1.5)


def test_a_short_race_gives_no_high_confidence():
    long = ss.lr_find(quadratic(), start(), [None], refine=400)
    assert long.confidence == "high"
    for steps in (20, 40):
        assert ss.lr_find(quadratic(), start(), [None], steps=steps).confidence != "high"


def trusted(losses, suggested):
    """The confidence in a rate, where another won a race with these losses."""
    trials = [trial(1.0, losses), trial(0.3, np.add(losses, 0.5))]
    won = SimpleNamespace(trials=trials, weighted_rate=1.0)
    return confidence(
        [SimpleNamespace(race=won, rate=suggested, range_test=SimpleNamespace(start=10.0))]
    )


def test_a_race_that_shows_no_end_or_lost_what_it_had_is_not_trusted():
    falls = np.linspace(9, 3, 30)
    assert trusted(falls, 1.0)[0] == "medium"
    assert trusted(falls, 0.3)[0] == "medium"  # the winner is inside of the interval
    trust, why = trusted(falls, 0.1)
    assert trust == "low" and "a far higher rate won" in why
    settled = np.append(np.linspace(9, 3, 10), np.full(20, 3.0))
    assert trusted(settled, 0.1)[0] != "low"
    trust, why = trusted(
        np.concatenate([np.full(10, 9.0), np.full(10, 3.0), np.full(10, 7.0)]), 1.0
    )
    assert trust == "low" and "lost more than it kept" in why
    partly = np.concatenate([np.full(10, 9.0), np.full(10, 3.0), np.full(10, 5.0)])
    assert trusted(partly, 1.0)[0] != "low"


def trial(rate, losses, failure=None):
    return SimpleNamespace(rate=rate, losses=losses, failure=failure)


def test_rates_that_tie_are_averaged_and_those_far_behind_are_not():
    good, bad = np.linspace(5, 1, 30), np.full(12, 5.0)
    assert _weighted_rate([trial(1e-1, good), trial(1e-3, good)], 5) == pytest.approx(1e-2)
    far = _weighted_rate([trial(1e-1, good), trial(1e-3, bad), trial(1.0, good, "lost")], 5)
    assert far == pytest.approx(1e-1, rel=0.2)


@pytest.mark.parametrize(("scale", "constant"), [(1e6, 0.0), (1e-6, -3.0), (1.0, 1e3)])
def test_the_mean_of_a_race_is_blind_to_scale_and_constant(scale, constant):
    one, two = np.linspace(5, 1, 30), np.linspace(5, 1.2, 30)
    plain = _weighted_rate([trial(1e-1, one), trial(1e-2, two)], 5)
    moved = [trial(r, scale * x + constant) for r, x in ((1e-1, one), (1e-2, two))]
    assert _weighted_rate(moved, 5 * scale + constant) == pytest.approx(plain, rel=1e-4)
    assert 1e-2 < plain < 1e-1


@pytest.mark.parametrize("wall", [1.0, 1.5, 3.0, 4.0, 8.0, 10.0])
def test_when_the_last_two_are_lost_late_the_race_goes_on_lower(wall):
    def walled(params, batch):
        x = float(params["x"][0])
        return (-x if x < wall else np.nan), {"x": np.array([-1.0])}

    def heavy_ball(params):
        return ss.SGD(params, momentum=0.95)

    result = ss.lr_find(walled, {"x": np.zeros(1)}, [None], optimizer=heavy_ball)
    assert result.usable
    params = {"x": np.zeros(1)}
    optimizer = ss.SGD(params, lr=result.suggestion, momentum=0.95)
    for _ in range(len(result.probes[0][1])):
        optimizer.step(walled(params, None)[1])
    assert params["x"][0] < wall


@pytest.mark.parametrize("share", [1e-6, 1e-3, 3e-2])
def test_noise_of_the_function_itself_neither_ends_a_sweep_nor_hides_the_rate(share):
    """As dropout does: the same parameters and batch never give the same loss twice."""
    plain = ss.lr_find(quadratic(), start(), [None])
    f = quadratic()
    for seed in range(20):
        rng = np.random.default_rng(seed)

        def noisy(params, batch, rng=rng):
            loss, grads = f(params, batch)
            return loss + 29 * share * rng.standard_normal(), grads

        found = ss.lr_find(noisy, start(), [None])
        assert len(found.lrs) >= len(plain.lrs) - 2
        assert 0.02 < found.suggestion < 0.2


@pytest.mark.parametrize("steps", [400, 4000, 40, 10**6])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lion", lambda p: ss.SGD(p, momentum=0.9)])
def test_for_steps_moves_the_rate_of_rules_that_ignore_the_size_of_a_gradient(optimizer, steps):
    plain = ss.lr_find(quadratic(), start(), [None], optimizer=optimizer)
    moved = ss.lr_find(quadratic(), start(), [None], optimizer=optimizer, for_steps=steps)
    factor = min((steps / 400) ** -0.32, 10**0.1) if isinstance(optimizer, str) else 1.0
    factor = 1.0 if optimizer == "sgd" else factor
    assert moved.suggestion == pytest.approx(factor * plain.suggestion)
    assert moved.interval[0] <= moved.suggestion <= moved.peak <= moved.interval[1]
    assert f"for {steps} steps" in str(moved) and moved.gradients == plain.gradients
    bounded = ss.lr_find(
        quadratic(), start(), [None], optimizer=optimizer, for_steps=steps, lr_max=1e-3
    )
    assert bounded.suggestion <= 1e-3 or not bounded.usable


def test_the_exponent_of_length_is_that_of_transfer():
    from stepsize.finder.horizon import LENGTH_EXPONENT
    from stepsize.scaling.transferring import HORIZON

    assert -HORIZON == LENGTH_EXPONENT
    with pytest.raises(ValueError, match="for_steps"):
        ss.lr_find(quadratic(), start(), [None], for_steps=0)


@pytest.mark.parametrize("rule", ["sgd", "adam", "momentum"])
def test_the_interval_ends_below_what_was_seen_to_diverge(rule):
    """The loss of a matrix factorisation diverges at rates that are not far above the best one."""
    random = np.random.default_rng(1)
    m = random.normal(size=(30, 3)) @ random.normal(size=(3, 20))

    def value_and_grad(p, _):
        off = p["u"] @ p["v"] - m
        grads = {"u": 2 * off @ p["v"].T / m.size, "v": 2 * p["u"].T @ off / m.size}
        return float((off**2).mean()), grads

    params = {"u": random.normal(size=(30, 3)), "v": random.normal(size=(3, 20))}
    rules = {"sgd": "sgd", "adam": "adam", "momentum": lambda p: ss.SGD(p, lr=1, momentum=0.9)}
    result = ss.lr_find(value_and_grad, params, [None], optimizer=rules[rule], steps=200)
    high = result.interval[1]
    ended = re.match(r"stopped at lr=(\S+),", result.stopped)
    assert ended is None or high <= float(ended[1]) * 1.01
    assert result.suggestion <= high

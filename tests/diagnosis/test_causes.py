"""Trouble that is not the rate's: what is said of it gives no other rate."""

from __future__ import annotations

import re

import numpy as np
import pytest

import stepsize as ss
from stepsize.diagnosis import VERDICTS

RNG = np.random.default_rng(5)
X = RNG.normal(size=(320, 4)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5, 3.0])).astype(np.float32)


def linear(params, batch):
    x, y = batch[0], batch[1]
    error = x @ params["w"] + params["b"] - y
    grads = {"w": 2 * x.T @ error / len(y), "b": 2 * error.mean(keepdims=True)}
    return float(np.mean(error**2)), grads


def leaving_out(params, batch):
    """The same over the rows that are finite."""
    sound = np.isfinite(batch[0]).all(axis=1)
    return linear(params, (batch[0][sound], batch[1][sound]))


def named(params, batch):
    return linear(params, (batch["x"], batch["y"]))


def start():
    return {"w": np.full(4, 0.1, np.float32), "b": np.zeros(1, np.float32)}


def holed(value=np.nan, row=37):
    x = X.copy()
    x[row, 2] = value
    return x


def trained(value_and_grad, train, lr=0.01, **settings):
    params = start()
    optimizer = ss.SGD(params, lr=lr, **settings)
    keywords = {"batch_size": 16} if isinstance(train, tuple) else {}
    with np.errstate(all="ignore"):
        return ss.fit(
            value_and_grad, params, optimizer, train, epochs=4, progress=False, **keywords
        )


def says_nothing_of_the_rate(diagnosis):
    return diagnosis.suggested_lr is None and " rate" not in diagnosis.findings[0].advice


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_data_that_are_not_finite_are_named_and_no_rate_is(value):
    history = trained(linear, (holed(value), Y))
    diagnosis = ss.diagnose(history)
    assert diagnosis.verdict == "diverging"
    assert says_nothing_of_the_rate(diagnosis)
    assert f"holds {value} in row" in str(diagnosis)
    assert f"holds {value} in row" in history.stopped


def test_the_same_of_batches_in_a_dict_and_of_a_target():
    y = Y.copy()
    y[100] = np.nan
    batches = [{"x": X[k : k + 16], "y": y[k : k + 16]} for k in range(0, 320, 16)]
    assert "row 4 of its part y" in str(ss.diagnose(trained(named, batches)))


def test_a_rate_too_high_is_not_blamed_on_rows_that_the_function_leaves_out():
    train = (holed(), Y)
    assert np.isfinite(trained(leaving_out, train)["loss"]).all()
    history = trained(leaving_out, train, lr=1e6)
    assert not np.isfinite(history["loss"][-1])
    assert "unsound" not in history.meta
    assert " rate" in ss.diagnose(history).findings[0].advice


def test_a_rate_too_high_stays_one():
    diagnosis = ss.diagnose(trained(linear, (X, Y), lr=5.0))
    assert diagnosis.verdict == "diverging"
    assert diagnosis.suggested_lr is not None


def test_a_loss_that_is_not_finite_before_any_update_is_no_matter_of_the_rate():
    def lost(params, batch):
        return np.nan, linear(params, batch)[1]

    diagnosis = ss.diagnose(trained(lost, (X, Y)))
    assert says_nothing_of_the_rate(diagnosis)
    assert "before any update" in str(diagnosis)


def test_updates_that_were_all_skipped_are_no_matter_of_the_rate():
    def lost(params, batch):
        loss, grads = linear(params, batch)
        return loss, {name: g * np.nan for name, g in grads.items()}

    diagnosis = ss.diagnose(trained(lost, (X, Y), on_nonfinite="skip"))
    assert says_nothing_of_the_rate(diagnosis)
    assert "no update was made" in str(diagnosis)


def test_what_made_a_run_stop_outlives_saving(tmp_path):
    history = trained(linear, (holed(), Y))
    history.save(tmp_path / "run.json")
    assert ss.diagnose(ss.History.load(tmp_path / "run.json")).suggested_lr is None


def test_the_finder_names_a_batch_that_is_not_finite_at_any_rate():
    found = ss.lr_find(linear, start(), (holed(), Y), batch_size=16, progress=False)
    assert not found.usable
    assert "the loss is nan at the starting parameters too for batch" in str(found)
    assert "it holds nan in row" in str(found)
    x = X.copy()
    x[:, 1] = np.nan
    found = ss.lr_find(linear, start(), (x, Y), batch_size=16, progress=False)
    assert "at the starting parameters; the batch holds nan in row 0" in str(found)


def test_the_finder_leaves_rows_alone_that_the_function_or_the_optimizer_does():
    train = (holed(), Y)
    assert ss.lr_find(leaving_out, start(), train, batch_size=16, progress=False).usable

    def skipping(params):
        return ss.SGD(params, on_nonfinite="skip")

    found = ss.lr_find(linear, start(), train, optimizer=skipping, batch_size=16, progress=False)
    assert "starting parameters" not in str(found)


def dead_network(width=24):
    """A ReLU layer that is never on, with a read-out: only the bias of that has a gradient."""
    rng = np.random.default_rng(1)
    params = {
        "w0": rng.normal(size=(4, width)).astype(np.float32),
        "b0": np.full(width, -40.0, np.float32),
        "w1": rng.normal(size=(width, 1)).astype(np.float32),
        "b1": np.zeros(1, np.float32),
    }

    def value_and_grad(p, batch):
        x, y = batch
        z = x @ p["w0"] + p["b0"]
        h = np.maximum(z, 0)
        out = (h @ p["w1"] + p["b1"])[:, 0]
        d = (2 * (out - y) / len(y))[:, None]
        dz = (d @ p["w1"].T) * (z > 0)
        grads = {"w0": x.T @ dz, "b0": dz.sum(0), "w1": h.T @ d, "b1": d.sum(0)}
        return float(np.mean((out - y) ** 2)), grads

    return params, value_and_grad


@pytest.mark.parametrize("frozen_bias", [False, True])
def test_no_higher_rate_is_advised_for_weights_that_have_no_gradient(frozen_bias):
    params, value_and_grad = dead_network()
    if frozen_bias:
        inner = value_and_grad

        def value_and_grad(p, batch):
            loss, grads = inner(p, batch)
            return loss, grads | {"b1": np.zeros_like(grads["b1"])}

    optimizer = ss.SGD(params, lr=0.01)
    history = ss.fit(
        value_and_grad, params, optimizer, (X, Y), batch_size=16, epochs=10, progress=False
    )
    diagnosis = ss.diagnose(history)
    assert VERDICTS[diagnosis.verdict].way == 0
    assert diagnosis.suggested_lr is None
    assert "zero_gradient" in [finding.kind for finding in diagnosis.findings]


def test_weights_that_barely_move_are_told_beside_a_leaf_that_has_no_gradient():
    params = start() | {"unused": np.ones(50, np.float32)}

    def value_and_grad(p, batch):
        loss, grads = linear(p, batch)
        return loss, grads | {"unused": np.zeros(50, np.float32)}

    optimizer = ss.SGD(params, lr=1e-6)
    history = ss.fit(
        value_and_grad, params, optimizer, (X, Y), batch_size=16, epochs=10, progress=False
    )
    assert 0 < history.meta["moving"] < 0.1
    assert ss.diagnose(history).verdict == "too_low"


def swinging(level, swing, steps=300):
    """A loss that fell at once and then swings, as the weights do."""
    rng = np.random.default_rng(2)
    slow = np.convolve(rng.normal(size=steps + 9), np.ones(10) / np.sqrt(10), "valid")
    loss = level + (2 - level) * np.exp(-np.arange(steps) / 6) + swing * slow
    return {
        "loss": loss,
        "lr": np.full(steps, 0.1),
        "update_ratio": np.full(steps, 0.1),
        "grad_norm": np.exp(rng.normal(size=steps)),
    }


def test_a_rate_is_lowered_only_where_that_is_likelier_than_not():
    weak = sure = 0
    for level in (0.05, 0.3, 0.7):
        for swing in (0.1, 0.4):
            diagnosis = ss.diagnose(swinging(level, swing))
            if diagnosis.verdict not in ("too_high", "plateau"):
                continue
            lowering = sum(
                share for name, share in diagnosis.probabilities.items() if VERDICTS[name].way < 0
            )
            if lowering >= 0.5:
                sure += 1
                assert diagnosis.suggested_lr is not None
            else:
                weak += 1
                assert diagnosis.suggested_lr is None
                assert " may be " in str(diagnosis)
                assert "what_if" in diagnosis.findings[0].advice
    assert weak and sure


def test_no_rate_is_advised_to_a_run_that_overfits():
    steps = 400
    rng = np.random.default_rng(3)
    loss = 0.1 + 0.9 * np.exp(-np.arange(steps) / 60) + 0.02 * rng.normal(size=steps)
    loss[300:] += np.linspace(0, 0.12, 100)
    val = np.full(steps, np.nan)
    val[::20] = np.concatenate([np.linspace(1, 0.5, 5), np.linspace(0.5, 1.4, 15)])
    diagnosis = ss.diagnose({"loss": loss, "lr": np.full(steps, 0.1), "val_loss": val})
    assert diagnosis.verdict == "overfitting"
    assert "too_high" in [finding.kind for finding in diagnosis.findings]
    assert "lower the rate" not in str(diagnosis)


def test_branches_that_one_batch_ends_alike_say_nothing_of_the_rate():
    history = trained(linear, (X, Y), lr=1e-3)
    params = start()
    optimizer = ss.SGD(params, lr=1e-3)
    batches = [(X[k : k + 16], Y[k : k + 16]) for k in range(0, 320, 16)] * 2
    batches[4] = (holed(row=70)[64:80], Y[64:80])
    found = ss.what_if(linear, params, optimizer, batches, history=history, steps=10)
    assert all(branch.diverged for branch in found.branches)
    alone, both = ss.diagnose(history), ss.diagnose(history, what_if=found)
    assert (both.verdict, both.suggested_lr) == (alone.verdict, alone.suggested_lr)
    assert "not finite" not in str(both)


def test_a_held_batch_that_is_not_finite_is_named_by_its_row():
    params, x = start(), holed(row=slice(None, None, 20))
    with pytest.raises(ValueError, match="for a held batch that holds nan in row"):
        ss.what_if(linear, params, ss.SGD(params, lr=0.1), (x, Y), steps=10, batch_size=16)


def noisy_lines(lr, steps, seed):
    """A linear model from zero, on batches whose losses differ by more than such steps do."""
    random = np.random.default_rng(0)
    x = random.normal(size=(600, 5))
    y = x @ np.arange(5.0) + 0.1 * random.normal(size=600)

    def value_and_grad(w, batch):
        x, y = batch
        error = x @ w - y
        return float(error @ error) / len(y), 2 / len(y) * (x.T @ error)

    w = np.zeros(5)
    history = ss.fit(
        value_and_grad, w, ss.SGD(w, lr=lr), (x, y), steps=steps, batch_size=50, seed=seed
    )
    return ss.diagnose(history)


@pytest.mark.parametrize("lr, steps", [(1e-5, 48), (1e-4, 48), (5e-4, 40)])
def test_steps_that_cannot_be_seen_in_the_noise_are_too_short(lr, steps):
    for seed in range(4):
        found = noisy_lines(lr, steps, seed)
        assert found.verdict == "too_low" and found.suggested_lr > lr
        assert found.probabilities["diverging"] == found.probabilities["too_high"] == 0


def test_swings_of_the_batches_lower_no_rate():
    for seed in range(4):  # a tenth of the loss is learned, and batches differ by a third of it
        found = noisy_lines(2e-3, 60, seed)
        assert found.verdict not in ("too_high", "diverging", "plateau")
        assert found.suggested_lr is None or found.suggested_lr > 2e-3


@pytest.mark.parametrize("lr", [1.2, 3.0])
def test_what_runs_away_is_diverging(lr):
    assert all(noisy_lines(lr, 60, seed).verdict == "diverging" for seed in range(4))


@pytest.mark.parametrize("count", [5, 8, 12, 19])
def test_noise_of_a_few_losses_is_not_diverging(count):
    random = np.random.default_rng(count)
    told = [ss.diagnose({"loss": 5 + random.normal(size=count)}).verdict for _ in range(50)]
    assert told.count("diverging") <= 2  # 22 of these 50 and more, where any end above counts
    for growth in (1.5, 3.0):
        assert ss.diagnose({"loss": growth ** np.arange(count)}).verdict == "diverging"


@pytest.mark.parametrize("schedule", [ss.schedules.cosine, ss.schedules.linear])
def test_after_a_schedule_nothing_is_promised_of_more_steps(schedule):
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 30))
    y = (x @ random.normal(size=30) + 2 * random.normal(size=400) > 0).astype(float)

    def value_and_grad(w, batch):
        x, y = batch
        p = 1 / (1 + np.exp(-(x @ w)))
        loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
        return float(loss), x.T @ (p - y) / len(y)

    w = np.zeros(30)
    optimizer = ss.SGD(w, lr=schedule(0.1, 0.0, 200))
    history = ss.fit(value_and_grad, w, optimizer, (x, y), steps=200, batch_size=50)
    found = ss.diagnose(history)
    assert "more in as many steps" not in str(found) and "Carry on" not in str(found)
    branches = ss.what_if(value_and_grad, w, optimizer, (x, y), history=history)
    assert "all branches are the same" in str(branches)
    assert ss.diagnose(history, what_if=branches).verdict == found.verdict


def test_what_is_said_of_branches_agrees_with_their_table():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 60)), random.integers(0, 2, 300).astype(float)

    def value_and_grad(w, batch):
        x, y = batch
        z = x @ w
        return float(np.mean(np.logaddexp(0, z) - y * z)), x.T @ (1 / (1 + np.exp(-z)) - y) / len(y)

    w = np.zeros(60)
    optimizer = ss.SGD(w, lr=0.1)
    history = ss.fit(value_and_grad, w, optimizer, (x, y), epochs=20, batch_size=30)
    branches = ss.what_if(value_and_grad, w, optimizer, (x, y), history=history)
    said = str(ss.diagnose(history, what_if=branches))
    factor = re.search(r"at (\S+) times the rate lie .* on their way, and (\S+) at their end", said)
    if factor is not None:
        assert float(factor[2]) == float(f"{branches.advantage(float(factor[1]))[0]:.2g}")
    assert "times the rate end" not in said

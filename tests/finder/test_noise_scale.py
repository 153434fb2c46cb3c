"""Batch size: the rules for the rate, and the noise scale against distributions that are known."""

import math

import numpy as np
import pytest

import stepsize as ss
from fitting import X, Y, bits, fit, make_params


def test_rules():
    assert ss.scale_lr(0.1, 32, 128) == 0.4
    assert ss.scale_lr(0.1, 32, 128, rule="sqrt") == 0.2
    assert ss.scale_lr(ss.scale_lr(0.1, 32, 128), 128, 32) == 0.1
    schedule = ss.schedules.linear(0.1, 0.0, 10)
    assert ss.scale_lr(schedule, 32, 64)(5) == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.1, 8, 8), "lr must be a finite number >= 0, got -0.1; it may also"),
        ((math.nan, 8, 8), "lr must be a finite number >= 0, got nan; it may also"),
        ((0.1, 0, 8), "batch_from must be a finite number > 0, got 0"),
        ((0.1, 8, math.inf), "batch_to must be a finite number > 0, got inf"),
        ((0.1, 8, 8, "cube"), "rule must be one of 'linear', 'sqrt', got 'cube'"),
    ],
)
def test_scale_lr_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ss.scale_lr(*arguments)


def sample(rng, count, batch, size=50, noise=1.0):
    """Gradients of small batches with signal 1 per coordinate: the noise scale is noise**2."""
    for _ in range(count):
        yield {"a": 1 + rng.normal(size=(size, 2)) * noise / math.sqrt(batch), "b": [np.ones(0)]}


def test_the_noise_scale_is_found_and_its_interval_holds_it():
    rng = np.random.default_rng(0)
    estimates = [ss.gradient_noise_scale(sample(rng, 32, 4, noise=5.0), 4) for _ in range(200)]
    assert np.median([e.critical_batch for e in estimates]) == pytest.approx(25, rel=0.02)
    inside = np.mean([e.low < 25 < e.high for e in estimates])
    assert 0.9 <= inside <= 0.99
    assert np.mean([e.grad_square for e in estimates]) == pytest.approx(100, rel=0.02)
    assert np.mean([e.variance for e in estimates]) == pytest.approx(2500, rel=0.02)


def test_gradients_may_share_one_buffer():
    rng, buffer = np.random.default_rng(0), np.empty(20)

    def reusing():
        for _ in range(8):
            buffer[:] = 1 + rng.normal(size=20)
            yield buffer

    estimate = ss.gradient_noise_scale(reusing(), 1)
    again = np.random.default_rng(0)
    assert estimate == ss.gradient_noise_scale([1 + again.normal(size=20) for _ in range(8)], 1)


def test_equal_gradients_have_no_noise_and_noise_alone_no_limit():
    assert ss.gradient_noise_scale([np.ones(3)] * 4, 8).critical_batch == 0
    noise = ss.gradient_noise_scale([np.ones(3), -np.ones(3)], 8)
    assert noise.critical_batch == math.inf and (noise.low, noise.high) == (0, math.inf)


@pytest.mark.parametrize(
    ("grads", "size", "message"),
    [
        ([np.ones(3)], 8, "micro_grads: at least two gradients are needed, got 1"),
        ([np.ones(3)] * 2, 0, "batch_size must be .* got 0"),
        ([{"a": np.ones(3)}, {"b": np.ones(3)}], 8, "expected the leaves a, got b"),
        ([np.ones(3), np.ones(2)], 8, r"params must have shape \(3,\) .* got \(2,\)"),
    ],
)
def test_the_noise_scale_refuses(grads, size, message):
    with pytest.raises(ValueError, match=message):
        ss.gradient_noise_scale(grads, size)


def noisy(params, batch):
    """A gradient of signal 1 and variance 16 per sample and coordinate."""
    rng = np.random.default_rng(int(abs(batch[1].sum()) * 1e9))
    noise = rng.normal(size=(len(batch[1]), 400)).mean(axis=0) * 4
    return 1.0, {"x": 1 + noise}


def test_the_monitor_agrees_during_a_run():
    params = {"x": np.zeros(400)}
    monitor = ss.NoiseScaleMonitor()
    opt = ss.SGD(params, lr=0.0)
    history = ss.fit(
        noisy,
        params,
        opt,
        (X, Y),
        epochs=60,
        batch_size=8,
        accumulate=5,
        callbacks=[monitor],
        progress=False,
    )
    assert monitor.estimate.critical_batch == pytest.approx(16, rel=0.1)
    assert monitor.estimate.low < 16 < monitor.estimate.high
    assert history["critical_batch"][-1] == monitor.estimate.critical_batch
    assert np.isfinite(history["critical_batch"]).sum() == 6


def test_the_monitor_changes_nothing_and_survives_a_resume(tmp_path):
    def run(name, *limits, monitored=True):
        for steps in limits:
            params = make_params()
            monitor = ss.NoiseScaleMonitor(every=1)
            history = fit(
                params,
                epochs=None,
                steps=steps,
                accumulate=2,
                callbacks=[monitor] * monitored,
                checkpoint=tmp_path / name,
                resume=True,
            )
        return bits(params), history

    whole = run("whole", 9)
    assert run("plain", 9, monitored=False)[0] == whole[0]
    assert run("parts", 4, 9) == whole


def test_the_monitor_needs_small_batches():
    with pytest.raises(ValueError, match="give fit accumulate=2 or more"):
        fit(make_params(), callbacks=[ss.NoiseScaleMonitor()])
    with pytest.raises(ValueError, match="window must be a whole number >= 3"):
        ss.NoiseScaleMonitor(window=2)


@pytest.mark.parametrize("k", range(3))
@pytest.mark.parametrize("value", ["x", None, [1], np.True_, b"1"])
def test_scale_lr_names_what_is_no_number(k, value):
    arguments = [0.1, 32, 64]
    arguments[k] = value
    name = ("lr", "batch_from", "batch_to")[k]
    with pytest.raises(TypeError, match=f"scale_lr: {name} must be a number, got"):
        ss.scale_lr(*arguments)


def test_scale_lr_refuses_a_factor_without_meaning():
    with pytest.raises(ValueError, match="the rate would change by a factor of inf"):
        ss.scale_lr(0.1, 1e-200, 1e200)


def test_gradients_that_are_no_iterable_are_named():
    with pytest.raises(TypeError, match="micro_grads must be an iterable of nests of gradients"):
        ss.gradient_noise_scale(None, 8)

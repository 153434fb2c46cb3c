"""What the gradients predict beside what the loss does: in a run, in a range test, in words."""

import numpy as np
import pytest

import stepsize as ss
from stepsize.diagnosis import mismatch

X = np.random.default_rng(0).standard_normal((256, 6))
Y = np.tanh(X @ np.random.default_rng(1).standard_normal((6, 2)))


def params(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {
        "w1": (rng.standard_normal((6, 12)) / 2).astype(dtype),
        "w2": (rng.standard_normal((12, 2)) / 3).astype(dtype),
    }


def right(p, batch):
    x, y = batch
    hidden = np.tanh(x @ p["w1"])
    error = hidden @ p["w2"] - y
    e = 2 * error / error.size
    inner = e @ p["w2"].T * (1 - hidden**2)
    dtype = p["w1"].dtype
    grads = {"w1": (x.T @ inner).astype(dtype), "w2": (hidden.T @ e).astype(dtype)}
    return float((error**2).mean()), grads


def sign_of_a_layer(p, batch):
    loss, grads = right(p, batch)
    return loss, grads | {"w2": -grads["w2"]}


def thrice(p, batch):
    loss, grads = right(p, batch)
    return loss, {name: 3 * g for name, g in grads.items()}


def part_of(p, batch):
    loss, grads = right(p, batch)
    return loss, {name: g / 7 for name, g in grads.items()}


def rows_elsewhere(p, batch):
    loss, grads = right(p, batch)
    return loss, {name: np.roll(g, 1, axis=0) for name, g in grads.items()}


WRONG = [sign_of_a_layer, thrice, part_of, rows_elsewhere]
RULES = [ss.SGD, ss.Adam, lambda p, lr: ss.SGD(p, lr=lr, momentum=0.9)]


def trained(function, lr, rule=ss.SGD, batch_size=64, steps=150, dtype=np.float64):
    p = params(dtype=dtype)
    data = X.astype(dtype), Y.astype(dtype)
    return ss.fit(function, p, rule(p, lr=lr), data, steps=steps, batch_size=batch_size)


@pytest.mark.parametrize(
    ("function", "batch_size"),
    [*((function, 256) for function in WRONG), (sign_of_a_layer, 64), (rows_elsewhere, 64)],
)
def test_a_wrong_gradient_is_told_instead_of_an_advice_about_the_rate(function, batch_size):
    for lr in (0.003, 0.03):
        found = ss.diagnose(trained(function, lr, batch_size=batch_size))
        assert found.findings[0].kind == "gradient_mismatch", (lr, str(found))
        assert found.mismatch is found.findings[0]
        assert found.suggested_lr is None
        text = str(found)
        assert text.startswith("The gradient does not fit the loss.")
        assert "ss.check_gradients(value_and_grad, params, batch)" in text
        for advice in ("raise the rate", "lower the rate", "Try lr", "larger model", "lr_find"):
            assert advice not in text


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_right_gradient_is_none_at_any_rate_and_batch(rule, dtype):
    for lr in 10.0 ** np.arange(-6, 3):
        for size in (1, 16, 256):
            with np.errstate(all="ignore"):
                history = trained(right, lr, rule, size, steps=60, dtype=dtype)
            assert mismatch.gradient_mismatch(history) is None, (lr, size)
            assert ss.diagnose(history).mismatch is None


def test_a_step_into_a_plateau_is_too_long_and_no_wrong_gradient():
    # A bump of which one step goes over the edge: flat from there on, at a higher loss.
    def plateau(x, batch):
        far = np.abs(x) > 2
        value = np.where(far, 5.0, x * x / 2)
        return float(value.sum()), np.where(far, 0.0, x)

    x = np.array([1.5])
    history = ss.fit(
        plateau, x, ss.SGD(x, lr=lambda k: 0.01 if k != 15 else 5.0), [None] * 40, epochs=1
    )
    assert history["loss"][-1] == 5.0
    assert mismatch.gradient_mismatch(history) is None


def test_what_rules_do_to_the_step_does_not_matter():
    # Decay, clipping, momentum, averages: the step that was made is what counts.
    for make in (
        lambda p: ss.AdamW(p, lr=0.01, weight_decay=1.0),
        lambda p: ss.SGD(p, lr=0.1, clip_norm=1e-3, momentum=0.9, nesterov=True),
        lambda p: ss.SGD(p, lr=0.1, weight_decay=0.1),
        lambda p: ss.Lookahead(ss.SGD(p, lr=0.1)),
        lambda p: ss.ScheduleFreeAdamW(p, lr=0.01),
    ):
        p = params()
        history = ss.fit(right, p, make(p), (X, Y), steps=100, batch_size=256)
        assert len(history.meta["slopes"]) > 20
        assert mismatch.gradient_mismatch(history) is None


def test_a_gradient_that_never_was_is_named_and_no_larger_model_advised():
    def without(p, batch):
        loss, grads = right(p, batch)
        return loss, grads | {"w1": 0 * grads["w1"]}

    found = ss.diagnose(trained(without, 0.5, batch_size=256, steps=400))
    assert "zero_gradient" in [finding.kind for finding in found.findings]
    text = str(found)
    assert "the gradient of w1 was 0 at each of" in text.lower()
    assert "larger" not in text
    assert "check_gradients" in text


def test_slopes_are_recorded_for_some_steps_and_survive_a_resume(tmp_path):
    path = tmp_path / "run.safetensors"

    def run(steps, resume, checkpoint=path):
        p = params()
        return ss.fit(
            right, p, ss.Adam(p, lr=0.01), (X, Y), steps=steps, checkpoint=checkpoint, resume=resume
        )

    run(30, False)
    resumed, whole = run(200, True), run(200, False, None)
    assert resumed == whole
    steps = [row[0] for row in whole.meta["slopes"]]
    assert steps[:16] == list(range(1, 17))
    assert len(steps) < 35
    known = {row[0]: row[1:] for row in whole.meta["slopes"]}
    again = {row[0]: row[1:] for row in resumed.meta["slopes"]}
    # The look that the resume cut in two is the only one that is missing.
    assert len(set(known) - set(again)) <= 1
    assert all(np.allclose(again[step], known[step]) for step in again)
    assert mismatch.gradient_mismatch(resumed) is None


def test_a_history_with_anything_in_its_meta_is_read(recwarn):
    history = trained(right, 0.1, steps=40)
    for slopes in (None, [], "text", [[1, 2]], [[1.0, np.nan, 2.0]] * 20, [[5, -1, -1]] * 30):
        history.meta["slopes"] = slopes
        assert ss.diagnose(history).mismatch is None
    assert not len(recwarn)


def test_a_monitor_warns_of_it_once_and_not_of_the_rate():
    p = params()
    monitor = ss.DiagnosisMonitor(every=25, stop=())
    with pytest.warns(UserWarning, match="The gradient does not fit the loss") as seen:
        ss.fit(
            sign_of_a_layer, p, ss.SGD(p, lr=1e-3), (X, Y), steps=120, batch_size=256,
            callbacks=[monitor],
        )  # fmt: skip
    assert len(seen) == 1
    p = params()
    ss.fit(
        sign_of_a_layer, p, ss.SGD(p, lr=1e-3), (X, Y), steps=60, batch_size=256,
        callbacks=[ss.DiagnosisMonitor(every=25, warn=(), stop=())],
    )  # fmt: skip


@pytest.mark.parametrize("function", WRONG)
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_lr_find_gives_no_rate_for_a_wrong_gradient(function, rule):
    for dtype in (np.float32, np.float64):
        data = X.astype(dtype), Y.astype(dtype)
        found = ss.lr_find(function, params(dtype=dtype), data, optimizer=rule)
        assert not found.usable
        assert "the gradient does not fit the loss" in found.mismatch
        assert found.why == found.mismatch
        assert str(found).startswith("no usable rate, because the gradient does not fit the loss")
        with pytest.raises(ValueError, match="check_gradients"):
            ss.autolr(function, params(dtype=dtype), data, steps=50, optimizer=rule)


def test_lr_find_keeps_the_rate_of_a_gradient_with_a_factor_that_has_a_name():
    plain = ss.lr_find(right, params(), (X, Y))
    assert not plain.mismatch
    for factor, words in ((2.0, "1/2"), (0.5, "2"), (32.0, "1/32")):

        def scaled(p, batch, factor=factor):
            loss, grads = right(p, batch)
            return loss, {name: factor * g for name, g in grads.items()}

        found = ss.lr_find(scaled, params(), (X, Y))
        assert found.usable
        assert found.suggestion == pytest.approx(plain.suggestion / factor, rel=1.5)
        assert f"a factor of {words} is missing" in str(found)


def test_lr_find_of_a_noisy_function_says_nothing():
    rng = np.random.default_rng(3)

    def noisy(p, batch):
        x, y = batch
        return right(p, (x * (rng.random(x.shape) > 0.3), y))

    for seed in range(6):
        assert not ss.lr_find(noisy, params(seed), (X, Y)).mismatch

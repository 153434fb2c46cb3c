"""Diagnosis: losses of any scale, infinite ones in a run, runs stopped at their start."""

import re

import numpy as np
import pytest

import stepsize as ss

T = np.arange(300) / 300
NOISE = np.random.default_rng(0).normal(size=300)
CURVES = {
    "slow": 2.3 - 1.9 * T,
    "flat": 1 + 0 * T,
    "rests": 0.5 + np.exp(-30 * T) + 0.001 * NOISE,
    "healthy": 0.2 + 2 * np.exp(-3 * T) + 0.05 * NOISE,
    "swings": 0.2 + np.exp(-20 * T) + 0.3 * np.abs(NOISE),
    "rises": 1 + T + 0.01 * NOISE,
}


def history(name, scale=1.0):
    checks = np.arange(300) % 20 == 19
    val = np.where(checks, CURVES[name] + 0.1, np.nan) * scale
    return {"loss": CURVES[name] * scale, "val_loss": val, "lr": np.full(300, 0.01)}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("power", [-300, -200, -100, -50, 50, 100, 200, 300])
def test_the_verdict_does_not_depend_on_the_scale(name, power):
    usual, scaled = ss.diagnose(history(name)), ss.diagnose(history(name, 10.0**power))
    assert scaled.verdict == usual.verdict and scaled.suggested_lr == usual.suggested_lr
    assert scaled.probabilities == pytest.approx(usual.probabilities, abs=1e-3)
    assert [f.kind for f in scaled.findings] == [f.kind for f in usual.findings]
    if name == "slow":
        assert f"e{power:+03d}" in str(scaled) or f"e{power - 1:+03d}" in str(scaled)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("row", [0, 37, 298])
def test_an_infinite_loss_is_told_and_never_answered_by_a_higher_rate(name, row):
    run = history(name)
    run["loss"] = run["loss"].copy()
    run["loss"][row] = np.inf
    said = ss.diagnose(run)
    assert said.verdict == "diverging" or f"inf at step {row + 1}" in str(said.findings)
    assert said.suggested_lr is None or said.suggested_lr <= 0.01
    assert "raise the rate" not in str(said)


def test_a_loss_that_is_no_number_is_told_of_a_training():
    values = iter([*np.linspace(3, 1, 30), np.nan, *np.linspace(1, 0.5, 30)])
    x = np.ones(3)
    run = ss.fit(
        lambda p, b: (next(values), 0.01 * p),
        x,
        ss.SGD(x, lr=0.01, on_nonfinite="skip"),
        [None] * 61,
        epochs=1,
    )
    assert "nan at step 31" in str(ss.diagnose(run).findings)


HOOKS = ["on_start", "on_gradients", "on_step", "on_validation", "on_epoch", "on_end"]


@pytest.mark.parametrize("validation", [None, [np.ones(2)]])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_run_may_be_stopped_in_every_hook(hook, validation):
    def stop(self, run):
        run.stop("enough")

    x = np.ones(2)
    stopper = type("Stopper", (), {hook: stop})()
    run = ss.fit(
        lambda p, b: (float(p @ p), 2 * p),
        x,
        ss.SGD(x, lr=0.1),
        [np.ones(2)] * 3,
        epochs=2,
        validation=validation,
        callbacks=[stopper],
    )
    if hook == "on_start":
        assert run.steps == 0 and run.stopped == "enough"
        with pytest.raises(ValueError, match="no step in it"):
            ss.diagnose(run)
        return
    assert run.steps in (1, 3, 6)


@pytest.mark.parametrize("top", [100, 150, 200, 250, 296.4, 307])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_words_agree_with_the_numbers_where_losses_run_away(top, sign):
    loss = sign * 10 ** np.linspace(0, top, 200)
    found = ss.diagnose(loss)
    assert found.verdict == "diverging"
    told = float(re.search(r"(?:ended at|to) (-?[\d.]+e\+\d+)", str(found))[1])
    assert 0.05 < told / loss[-1] <= 1


@pytest.mark.parametrize("level", [1e100, 1e150, 1e250, 1e300])
@pytest.mark.parametrize("first", [1.0, 1e4])
def test_a_level_is_told_wherever_it_is(level, first):
    noise = 1 + 0.001 * np.random.default_rng(0).normal(size=100)
    found = str(ss.diagnose(np.r_[np.geomspace(first * level, level, 100), level * noise]))
    told = [float(number) for number in re.findall(r"\d[\d.]*e\+\d+", found)]
    assert any(abs(number / level - 1) < 0.01 for number in told), found


@pytest.mark.parametrize("kind", ["array", "list", "series"])
def test_a_masked_loss_is_no_value_and_not_one_that_is_lost(kind):
    loss = np.linspace(2, 0.5, 200) + 0.02 * np.random.default_rng(0).normal(size=200)
    masked = np.ma.masked_array(loss, mask=np.arange(200) >= 150)
    given = {
        "array": masked,
        "list": [value if value is np.ma.masked else float(value) for value in masked],
        "series": {"loss": masked, "lr": np.full(200, 0.1)},
    }[kind]
    found, known = ss.diagnose(given), ss.diagnose(loss[:150])
    assert found.verdict == known.verdict != "diverging"
    assert found.findings[0].evidence == known.findings[0].evidence
    with pytest.raises(ValueError, match=r"every value of history\['loss'\] is masked"):
        ss.diagnose(np.ma.masked_all(50))

"""Diagnosis: each verdict on a run made to deserve it, and on curves drawn by hand."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import stepsize as ss
from stepsize.diagnosis import FEWEST_STEPS, VERDICTS
from stepsize.diagnosis.checks import judge
from stepsize.diagnosis.measurement import measure

STEPS = 400


def train(lr, steps=STEPS):
    """Noisy linear regression with curvatures 0.25 to 4 by SGD; rates above 0.5 diverge."""
    rng = np.random.default_rng(0)
    h = np.geomspace(0.25, 4, 8)
    x = np.full(8, 3.0)
    rows = {"loss": [], "lr": [], "grad_norm": [], "update_ratio": []}
    for _ in range(steps):
        loss = 0.5 * float(h @ (x * x)) * (1 + 0.02 * rng.standard_normal()) + 0.1
        grad = h * x + 0.02 * rng.standard_normal(8)
        rows["loss"].append(loss)
        rows["lr"].append(lr)
        rows["grad_norm"].append(float(np.linalg.norm(grad)))
        rows["update_ratio"].append(float(lr * np.linalg.norm(grad) / np.linalg.norm(x)))
        x = np.clip(x - lr * grad, -1e150, 1e150)
    return rows


@pytest.mark.parametrize(
    ("lr", "verdicts"),
    [
        (2e-5, {"too_low"}),
        (1e-3, {"too_low"}),
        (0.2, {"healthy", "converged"}),
        (0.6, {"diverging"}),
        (5.0, {"diverging"}),
    ],
)
def test_runs_over_the_rate(lr, verdicts):
    diagnosis = ss.diagnose(train(lr))
    assert diagnosis.verdict in verdicts
    assert diagnosis.verdict in VERDICTS


def test_the_suggested_rate_goes_the_right_way():
    assert ss.diagnose(train(1e-3)).suggested_lr > 1e-3
    assert ss.diagnose(train(0.6)).suggested_lr < 0.5
    assert ss.diagnose(train(0.2)).suggested_lr is None


@pytest.mark.parametrize("end", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [1, 50, STEPS - 1])
def test_a_loss_that_stops_being_finite_diverges(end, at):
    rows = train(0.2)
    rows["loss"][at:] = [end] * (STEPS - at)
    diagnosis = ss.diagnose(rows)
    assert diagnosis.verdict == "diverging"
    assert f"at step {at}" in str(diagnosis)


def test_rows_without_a_loss_are_not_a_divergence():
    rows = train(0.2)
    with_gaps = np.array(rows["loss"])
    with_gaps[5::7] = np.nan
    validated = np.full(STEPS + 1, np.nan)
    validated[-1] = 1.0
    history = {"loss": np.append(with_gaps, np.nan), "val_loss": validated}
    assert ss.diagnose(history).verdict in {"healthy", "converged"}


def test_a_validation_loss_that_turns_is_overfitting():
    rows = train(0.02)
    t = np.linspace(0, 1, STEPS)
    rows["val_loss"] = np.where(np.arange(STEPS) % 10 == 0, 2 * (t - 0.4) ** 2 + 1, np.nan)
    diagnosis = ss.diagnose(rows)
    assert diagnosis.verdict == "overfitting"
    assert "40% of the run" in str(diagnosis)


def test_an_early_rise_is_a_rate_too_high():
    t = np.arange(STEPS)
    loss = np.where(t < 60, 2.0 + 0.2 * t, 3 * np.exp(-(t - 60) / 50) + 1)
    loss = loss + 0.05 * np.random.default_rng(0).standard_normal(STEPS)
    assert ss.diagnose({"loss": loss, "lr": np.full(STEPS, 0.1)}).verdict == "too_high"


@pytest.mark.parametrize("constant", [-1000.0, 0.0, 1000.0])
@pytest.mark.parametrize("lr", [1e-3, 0.6])
def test_a_constant_in_the_loss_does_not_change_what_is_said_of_the_rate(constant, lr):
    rows = train(lr)
    rows["loss"] = np.array(rows["loss"]) + constant
    assert ss.diagnose(rows).verdict == ss.diagnose(train(lr)).verdict


def test_loss_alone_is_enough():
    assert ss.diagnose({"loss": train(1e-3)["loss"]}).verdict == "too_low"
    assert ss.diagnose({"loss": train(0.6)["loss"]}).suggested_lr is None


def test_too_short_a_history_says_so():
    diagnosis = ss.diagnose({"loss": train(0.2)["loss"][: FEWEST_STEPS - 1]})
    assert not diagnosis.enough_data and diagnosis.verdict == "not_enough_data"
    assert "not enough data" in str(diagnosis)


@pytest.mark.parametrize("count", range(1, FEWEST_STEPS))
def test_a_few_losses_are_no_verdict_but_where_they_are_not_finite(count):
    for losses in (np.ones(count), np.arange(count, 0.0, -1.0), 0.9 ** np.arange(count)):
        said = ss.diagnose(losses)
        assert said.verdict == "not_enough_data" and said.runner_up is None
        assert sum(said.probabilities.values()) == pytest.approx(1.0)
        lost = ss.diagnose([*losses, np.nan])
        assert lost.verdict == "diverging" and lost.enough_data


def test_it_reads_as_a_paragraph_with_numbers():
    diagnosis = ss.diagnose(train(0.6))
    text = str(diagnosis)
    assert text.startswith("This run is diverging.") and "\n" not in text
    assert f"Try lr={diagnosis.suggested_lr:.1e} next." in text
    finding = diagnosis.findings[0]
    assert finding.kind == "diverging" and finding.severity == "critical"
    assert any(c.isdigit() for c in finding.evidence) and finding.advice


@pytest.mark.parametrize("history", [{}, {"lr": [1.0]}, {"loss": []}])
def test_a_history_without_losses_is_refused(history):
    with pytest.raises(ValueError, match="non-empty series 'loss'"):
        ss.diagnose(history)


def noisy(level, noise=0.05, jitter=0.0, **series):
    """A loss around `level`, a row of 400, with noise of the batches and jitter of the weights."""
    rng = np.random.default_rng(3)
    at = np.arange(STEPS) % 10 == 0
    wander = jitter * rng.standard_normal(STEPS)
    loss = np.asarray(level) + noise * rng.standard_normal(STEPS) + wander
    rows = {"loss": loss, "lr": np.full(STEPS, 0.1), "update_ratio": np.full(STEPS, 0.02)}
    rows["val_loss"] = np.where(at, np.asarray(level) + wander - 0.05, np.nan)
    rows["grad_norm"] = np.exp(0.4 * rng.standard_normal(STEPS))
    return rows | series


T = np.linspace(0, 1, STEPS)
RUNS = {
    "too_low": noisy(2 - 0.5 * T, update_ratio=np.full(STEPS, 1e-3)),
    "healthy": noisy(0.4 + 2 * np.exp(-4 * T)),
    "converged": noisy(0.05 + 2 * np.exp(-30 * T), noise=0.01),
    "underfitting": noisy(1.4 + np.exp(-30 * T), noise=0.02),
    "plateau": noisy(0.2 + 2 * np.exp(-30 * T), jitter=0.2),
    "too_high": noisy(0.9 + 1.5 * np.exp(-30 * T), jitter=0.4),
    "overfitting": noisy(2 * np.exp(-6 * T), val_loss=np.where(T % 0.05 < 0.003, 1 + T, np.nan)),
    "diverging": noisy(2 + 3 * T),
}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_in_plain_words_and_with_a_place(verdict):
    diagnosis = ss.diagnose(RUNS[verdict])
    assert diagnosis.verdict == verdict
    assert "too_" not in str(diagnosis)
    for finding in diagnosis.findings:
        assert 0 <= finding.span[0] < finding.span[1] <= 1


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_scale_of_the_loss_does_not_matter(verdict, scale):
    rows = {k: v * scale if "loss" in k else v for k, v in RUNS[verdict].items()}
    assert ss.diagnose(rows).verdict == verdict


def test_noisy_batches_are_no_divergence_where_the_weights_hardly_move():
    rng = np.random.default_rng(1)
    loss = 8 + 4 * rng.standard_normal(STEPS)
    loss[0] = 3.0
    still = {"loss": loss, "lr": np.full(STEPS, 1e-5), "update_ratio": np.full(STEPS, 1e-6)}
    diagnosis = ss.diagnose(still)
    assert diagnosis.verdict == "too_low" and diagnosis.suggested_lr == pytest.approx(1e-3)
    moving = still | {"update_ratio": np.full(STEPS, 0.1)}
    assert ss.diagnose(moving).verdict == "diverging"


@pytest.mark.parametrize("seed", range(20))
def test_a_loss_that_ends_above_its_start_is_never_healthy(seed):
    rng = np.random.default_rng(seed)
    end = rng.uniform(2.3, 9)
    loss = np.interp(T, [0, 0.2, 0.5, 1], [2, rng.uniform(1, 12), rng.uniform(1, 12), end])
    rows = noisy(loss, noise=0.1 * rng.uniform(), update_ratio=np.full(STEPS, 0.05))
    assert ss.diagnose(rows).verdict in ("diverging", "too_high")


def test_other_signals_are_told_too():
    rows = noisy(0.9 + 1.5 * np.exp(-30 * T), jitter=0.4)
    rows["val_loss"] = np.where(np.isfinite(rows["val_loss"]), 1 + T, np.nan)
    rows["loss"] = 1.2 * np.exp(-8 * T) + 0.05 * np.random.default_rng(0).standard_normal(STEPS)
    rows["loss"][300:] += 0.5
    diagnosis = ss.diagnose(rows)
    assert len({f.kind for f in diagnosis.findings}) == len(diagnosis.findings)
    for finding in diagnosis.findings[1:]:
        assert f"Another signal points to {finding.kind.replace('_', ' ')}: " in str(diagnosis)


def test_flipping_signs_and_sharpness_above_two_are_evidence_of_a_rate_too_high():
    flat = noisy(0.9 + 1.5 * np.exp(-30 * T), noise=0.02)
    assert ss.diagnose(flat).verdict != "too_high"
    flips = ss.diagnose(flat | {"sign_flips": np.full(STEPS, 0.9)})
    assert flips.verdict == "too_high" and "90% of the gradient's signs" in str(flips)
    edge = ss.diagnose(flat | {"sharpness": np.full(STEPS, 24.0)})
    assert edge.verdict == "too_high" and "is 2.4, above the limit of stability" in str(edge)
    calm = flat | {"sharpness": np.full(STEPS, 19.0), "sign_flips": np.full(STEPS, 0.5)}
    assert ss.diagnose(calm).verdict == ss.diagnose(flat).verdict


def test_with_the_loss_alone_a_flat_one_is_a_rate_too_low_and_a_raised_one_diverges():
    noise = np.random.default_rng(2).standard_normal(STEPS)
    flat = ss.diagnose({"loss": 8 + noise, "lr": np.full(STEPS, 1e-5)})
    assert flat.verdict == "too_low" and "has not moved" in str(flat)
    raised = 30 + noise
    raised[0] = 8.0
    assert ss.diagnose({"loss": raised}).verdict == "diverging"
    assert ss.diagnose({"loss": [0.9, 6.9, 1e5, 1e18, 1e30, 1e55]}).verdict == "diverging"


def test_a_validation_loss_tells_whether_a_loss_within_its_noise_has_moved():
    rows = {"loss": 8 + np.random.default_rng(2).standard_normal(STEPS), "lr": np.full(STEPS, 0.1)}
    at = np.arange(STEPS) % 20 == 0
    slow, lost = (np.where(at, 8 + way * 0.1 * T, np.nan) for way in (-1, 4))
    rows["loss"][0] = 5.0
    assert ss.diagnose(rows).verdict == "diverging"
    assert ss.diagnose(rows | {"val_loss": slow}).verdict == "too_low"
    rows["loss"][0] = 8.0
    assert ss.diagnose(rows).verdict == "too_low"
    assert ss.diagnose(rows | {"val_loss": lost}).verdict != "too_low"


def test_a_history_of_every_fifth_step_knows_the_way_the_weights_went():
    rows = noisy(2 - 0.5 * T, update_ratio=np.full(STEPS, 4e-3)) | {"step": np.arange(STEPS) + 1}
    some = {name: values[::5] for name, values in rows.items()}
    whole, thin = measure(rows), measure(some)
    assert thin.movement.relative_path == pytest.approx(whole.movement.relative_path) == 1.6
    flat = noisy(3.0, noise=1.0, update_ratio=np.full(STEPS, 4e-3)) | {"step": rows["step"]}
    assert measure(
        {name: values[::5] for name, values in flat.items()}
    ).levels.start == pytest.approx(flat["loss"][:15:5].mean())


def test_a_second_signal_is_told_in_words_too():
    late = noisy(2 * np.exp(-2 * T), val_loss=np.where(T % 0.05 < 0.003, 1 + T, np.nan))
    late["update_ratio"] = np.full(STEPS, 4e-3)
    diagnosis = ss.diagnose(late)
    assert [f.kind for f in diagnosis.findings][:2] == ["overfitting", "too_low"]
    assert "Another signal points to too low: " in str(diagnosis)


@pytest.mark.parametrize("verdict", ["diverging", "healthy", "too_low", "converged", "overfitting"])
def test_a_constant_in_the_loss_changes_no_verdict(verdict):
    rows = {k: v + 1000 if "loss" in k else v for k, v in RUNS[verdict].items()}
    assert ss.diagnose(rows).verdict == verdict


def test_the_start_is_a_mean_for_as_long_as_the_weights_stay():
    loss = 3 + np.random.default_rng(0).standard_normal(STEPS)
    still = measure({"loss": loss, "update_ratio": np.full(STEPS, 1e-4)})
    assert still.levels.start == loss[: STEPS // 20].mean()
    assert measure({"loss": loss, "update_ratio": np.full(STEPS, 0.1)}).levels.start == loss[0]
    assert measure({"loss": loss}).levels.start == loss[0]


def test_numbers_in_a_sentence_can_be_told_apart():
    rows = {k: v + 1000 if "loss" in k else v for k, v in RUNS["too_low"].items()}
    text = str(ss.diagnose(rows))
    start, end = re.search(r"from (\S+) to ([\d.e+]+)", text).groups()
    assert float(start) > 1001.5 > float(end) > 1001


def test_of_weights_that_stayed_nothing_else_is_said():
    loss = 3 + np.random.default_rng(0).standard_normal(STEPS)
    loss[-40:] += 0.5
    still = {"loss": loss, "update_ratio": np.full(STEPS, 1e-5)}
    assert [f.kind for f in ss.diagnose(still).findings] == ["too_low"]
    moved = still | {"update_ratio": np.full(STEPS, 1e-2)}
    assert ss.diagnose(moved).verdict != "too_low"


@pytest.mark.parametrize(
    ("curve", "gain"),
    [
        (2 - T, 1.0),
        (2 * np.exp(-2 * T), 2 * (np.exp(-2) - np.exp(-4))),
        (2 * np.exp(-8 * T), 2 * np.exp(-8)),
        (1 / (T + 0.05), 1 / 1.05 - 1 / 2.05),
        (np.full(STEPS, 3.0), 0.0),
    ],
)
@pytest.mark.parametrize("constant", [-5.0, 0.0, 5.0])
def test_what_going_on_gains_is_read_off_the_shape_of_the_decay(curve, gain, constant):
    features = measure({"loss": curve + constant})
    ahead = features.trend.extrapolated_decrease * features.levels.decrease
    assert ahead == pytest.approx(gain, rel=0.35, abs=2e-3)


def test_a_fall_that_has_come_to_rest_is_not_healthy():
    going = noisy(0.8 + 2 * np.exp(-30 * T) - 0.3 * T, noise=0.01)
    rested = noisy(0.3 + 2 * np.exp(-12 * T), noise=0.01)
    assert measure(going).trend.late_decrease > 0.057 > measure(rested).trend.late_decrease
    assert ss.diagnose(going).verdict == "healthy"
    assert ss.diagnose(rested).verdict in ("converged", "underfitting")


@pytest.mark.parametrize(("stride", "factor"), [(1e-3, 0.1), (0.5, 0.02), (1e4, 1e-3)])
def test_after_a_divergence_the_next_rate_follows_from_the_first_steps(stride, factor):
    rows = {"loss": [2.0, 9.0, np.inf], "lr": [0.3] * 3}
    known = ss.diagnose(rows | {"update_ratio": [stride, 2 * stride, stride / 2]})
    assert known.suggested_lr == pytest.approx(0.3 * factor)
    for unknown in ({}, {"update_ratio": [np.inf, 2.0, 3.0]}):
        assert ss.diagnose(rows | unknown).suggested_lr == pytest.approx(0.03)


def test_a_first_loss_unlike_all_that_follow_is_not_the_noise_of_one_that_stays():
    rng = np.random.default_rng(4)
    loss = np.where(rng.random(STEPS) < 0.5, 4, 120) + rng.random(STEPS)
    assert ss.diagnose({"loss": loss}).verdict == "too_low"
    loss[0] = 2.0
    assert ss.diagnose({"loss": loss}).verdict == "diverging"


def test_underfitting_is_to_rest_above_a_tenth_of_the_start():
    assert ss.diagnose(noisy(0.25 + 1.75 * np.exp(-30 * T), noise=0.01)).verdict == "underfitting"
    assert ss.diagnose(noisy(0.15 + 1.85 * np.exp(-30 * T), noise=0.01)).verdict == "converged"


@pytest.mark.parametrize(
    ("level", "kinds"),
    [
        (0.05, ["converged"]),
        (0.15, ["converged", "underfitting"]),
        (0.6, ["underfitting", "converged"]),
        (1.4, ["underfitting"]),
    ],
)
def test_a_loss_at_rest_near_the_line_is_read_both_ways(level, kinds):
    diagnosis = ss.diagnose(noisy(level + (2 - level) * np.exp(-30 * T), noise=0.01))
    assert [f.kind for f in diagnosis.findings] == kinds


def test_of_a_loss_with_a_constant_nothing_is_said_that_needs_its_floor():
    rest = noisy(1000.3 + 1.7 * np.exp(-30 * T), noise=0.01)
    assert [f.kind for f in ss.diagnose(rest).findings] == ["converged"]


def test_a_larger_model_is_advised_only_after_a_long_way():
    rows = noisy(1.4 + np.exp(-30 * T), noise=0.02, update_ratio=np.full(STEPS, 2e-3))
    short = ss.diagnose(rows)
    assert short.verdict == "too_low" and short.suggested_lr > 0.1
    assert "moved the weights by only 0.8 times" in str(short)
    rows["update_ratio"] = np.full(STEPS, 3e-3)
    assert ss.diagnose(rows).verdict == "underfitting"


def test_a_validation_loss_far_above_speaks_against_underfitting():
    rows = noisy(1.4 + np.exp(-30 * T), noise=0.02)
    rows["val_loss"] = rows["val_loss"] + 1.0
    assert ss.diagnose(rows).verdict == "converged"


@pytest.mark.parametrize("looks", range(5, 10))
def test_few_validations_hide_no_fall_of_the_loss(looks):
    level = 2 - 0.5 * T
    rows = noisy(level, noise=0.01, update_ratio=np.full(STEPS, 2e-3))
    rows["val_loss"] = np.full(STEPS, np.nan)
    rows["val_loss"][:: STEPS // looks] = level[:: STEPS // looks]
    alone = measure({k: v for k, v in rows.items() if k != "val_loss"})
    assert measure(rows).trend.late_decrease == pytest.approx(alone.trend.late_decrease, rel=0.15)
    assert ss.diagnose(rows).verdict == "too_low"


def test_the_noise_of_the_batches_is_no_jitter_of_the_weights():
    rng = np.random.default_rng(5)
    batches, weights = rng.standard_normal((2, 400, 10))
    weights = np.repeat(weights[:, 0], 10)
    fall = 3 * np.exp(-np.linspace(0, 9, 4000))
    still = measure({"loss": fall + 0.3 * batches.reshape(-1)})
    moving = measure({"loss": fall + 0.3 * weights})
    assert still.noise.jitter < 0.005 < 0.01 < moving.noise.jitter


def test_what_is_to_come_does_not_depend_on_what_is_left():
    high, low = (noisy(level + 1.5 * np.exp(-3.5 * T), noise=0.01) for level in (0.4, 0.0))
    assert measure(high).trend.extrapolated_decrease == pytest.approx(
        measure(low).trend.extrapolated_decrease, rel=0.1
    )
    assert ss.diagnose(high).verdict == ss.diagnose(low).verdict == "healthy"


@pytest.mark.parametrize(("gain", "verdict"), [(0.002, "converged"), (0.006, "healthy")])
def test_healthy_is_a_gain_in_the_last_half_of_which_more_than_half_a_per_cent_is_to_come(
    gain, verdict
):
    rows = noisy(0.1 + 2 * np.exp(-40 * T) - 4 * gain * np.maximum(T - 0.02, 0), noise=1e-3)
    rows["val_loss"] = np.full(STEPS, np.nan)
    rows["update_ratio"] = np.full(STEPS, 0.5)
    assert measure(rows).trend.late_decrease == pytest.approx(gain, rel=0.15)
    assert ss.diagnose(rows).verdict == verdict


def test_a_rise_of_the_validation_is_told_in_decreases_of_the_training_loss():
    """Its own first value may come late, when there is little left for it to fall."""
    at = np.arange(STEPS) % 20 == 19
    rows = noisy(2 * np.exp(-6 * T) + 0.05, noise=0.01)
    for rise, verdict in ((0.1, {"healthy", "converged"}), (0.5, {"overfitting"})):
        late = np.where(at & (T > 0.3), 0.5 + rise * np.abs(T - 0.4), np.nan)
        assert ss.diagnose(rows | {"val_loss": late}).verdict in verdict


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("rise", "overfits"), [(0.03, False), (0.1, True), (0.12, True)])
def test_a_validation_loss_that_rises_by_much_of_its_own_fall_overfits(rise, overfits, scale):
    """A training loss that goes to nothing falls farther, so that the rise is small beside it."""
    fall = 0.6 * np.exp(-20 * T) + np.where(T > 0.3, rise * 0.6 * (T - 0.3) / 0.7, 0)
    rows = noisy(2 * np.exp(-6 * T), noise=0.01, val_loss=np.full(STEPS, np.nan))
    rows["val_loss"][::20] = (1.4 + fall)[::20]
    rows = {"loss": scale * rows["loss"], "val_loss": scale * rows["val_loss"]}
    assert measure(rows).validation.rise < 0.05
    assert (ss.diagnose(rows).verdict == "overfitting") == overfits


def test_steps_whose_length_is_not_known_are_taken_for_short_ones():
    rows = noisy(1 + np.exp(-3.5 * T), noise=0.01, update_ratio=np.full(STEPS, 1.0))
    assert judge(measure(rows))[0].kind == "healthy"
    del rows["update_ratio"]
    assert judge(measure(rows))[0].kind == "too_low"


def test_a_loss_at_rest_above_its_start_is_not_said_to_have_come_down():
    loss = (
        0.667 + 0.068 * (1 - np.exp(-40 * T)) + 0.02 * np.random.default_rng(0).normal(size=STEPS)
    )
    said = str(ss.diagnose({"loss": loss, "update_ratio": np.full(STEPS, 4e-3)}))
    assert "down from" not in said


def test_a_validation_loss_above_its_first_value_is_called_by_its_name():
    rows = noisy(0.04 + 0.56 * np.exp(-4 * T), noise=0.001)
    at = np.arange(STEPS) % 20 == 0
    rows["val_loss"] = np.where(at, np.where(T > 0.03, 0.62, 0.6), np.nan)
    said = ss.diagnose(rows)
    assert said.verdict == "overfitting" and "not clearly below" not in str(said)
    assert "validation loss ended at 0.62, above its first value of 0.6, while" in str(said)


@pytest.mark.parametrize("looks", [3, 4])
def test_validations_that_only_rise_are_overfitting(looks):
    rows = noisy(2 * np.exp(-6 * T), noise=0.01, update_ratio=np.full(STEPS, 0.05))
    rows["val_loss"] = np.full(STEPS, np.nan)
    rows["val_loss"][STEPS // looks - 1 :: STEPS // looks] = np.linspace(1.0, 1.9, looks)
    said = ss.diagnose(rows)
    assert said.verdict == "overfitting"
    assert f"all {looks} validation losses rise, from 1 to 1.9" in said.findings[0].evidence


def test_two_validations_are_a_hint_and_no_verdict():
    rows = noisy(0.05 + 2 * np.exp(-30 * T), noise=0.01)
    rows["val_loss"] = np.full(STEPS, np.nan)
    rows["val_loss"][[100, 399]] = 0.2, 0.9
    said = ss.diagnose(rows)
    assert said.verdict == "converged"
    assert "Another signal points to overfitting: all 2 validation losses rise" in str(said)


def test_an_accuracy_that_falls_is_overfitting_and_one_that_rises_is_told():
    rows = noisy(2 * np.exp(-6 * T), noise=0.01, update_ratio=np.full(STEPS, 0.05))
    at = np.arange(STEPS) % 20 == 19
    losses = rows.pop("val_loss")
    falling = np.where(at, 0.9 - (T - 0.4) ** 2, np.nan)
    said = ss.diagnose(rows | {"val_accuracy": falling})
    assert said.verdict == "overfitting"
    assert "validation accuracy was best (0.9) after 40% of the run" in str(said)
    rising = np.where(at, 0.6 + 0.3 * T, np.nan)
    assert ss.diagnose(rows | {"val_accuracy": rising}).verdict != "overfitting"
    turned = np.where(np.isfinite(losses), 1 + (T - 0.3) ** 2, np.nan)
    for accuracy, words in ((falling, "has fallen to"), (rising, "rose from 0.6")):
        said = str(ss.diagnose(rows | {"val_loss": turned, "val_accuracy": accuracy}))
        assert said.startswith("This run is overfitting.") and words in said


def test_a_metric_that_is_better_when_lower_is_not_taken_for_an_accuracy():
    rows = RUNS["converged"] | {"val_error": np.linspace(0, 1, STEPS)}
    assert str(ss.diagnose(rows)) == str(ss.diagnose(RUNS["converged"]))


@pytest.mark.parametrize("start", [0.0, 0.1, 0.5])
def test_a_rate_of_0_is_said_before_anything_else(start):
    schedule = np.where(start > T, 0.1, 0.0)
    loss = (
        1 + np.exp(-10 * np.minimum(T, start)) + 0.01 * np.random.default_rng(0).normal(size=STEPS)
    )
    said = ss.diagnose({"loss": loss, "lr": schedule})
    assert said.findings[0].severity == "critical"
    assert "rate was 0 in" in said.findings[0].evidence
    assert said.verdict == "too_low" and said.suggested_lr is None
    assert said.findings[0].span == pytest.approx((start, 1.0), abs=0.01)
    decay = np.where(T < 0.6, 0.1, 0.0)
    assert "rate was 0" not in str(ss.diagnose({"loss": loss, "lr": decay}))
    restarts = np.where(np.arange(STEPS) % 4 < 2, 0.1, 0.0)
    said = ss.diagnose({"loss": loss, "lr": restarts})
    assert said.findings[0].evidence == "the rate was 0 in 50% of the run"
    assert said.findings[0].span == (0, 1)


def test_a_divergence_counts_for_more_than_a_rate_of_0():
    loss = np.where(T < 0.3, 1.0, np.nan)
    assert ss.diagnose({"loss": loss, "lr": np.where(T < 0.2, 1.0, 0.0)}).verdict == "diverging"


def test_a_schedule_meant_in_epochs_is_told_from_a_run():
    x = np.random.default_rng(0).normal(size=(160, 3))
    params = np.zeros(3)

    def value_and_grad(params, batch):
        error = batch[0] @ params - batch[1]
        return float(error @ error) / len(error), 2 * batch[0].T @ error / len(error)

    lr = ss.schedules.warmup_cosine(0.05, 1, 15)
    data = (x, x @ [1.0, 2.0, 3.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = ss.fit(
            value_and_grad, params, ss.SGD(params, lr=lr), data, epochs=20, batch_size=8,
            progress=False,
        )  # fmt: skip
    assert "counts updates, not epochs" in str(ss.diagnose(history))


def test_an_average_of_weights_that_lags_is_not_blamed_on_the_rate():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 4))
    data = (x, x @ [1.0, -2.0, 3.0, 0.5])
    params = np.zeros(4)

    def value_and_grad(params, batch):
        error = batch[0] @ params - batch[1]
        return float(error @ error) / len(error), 2 * batch[0].T @ error / len(error)

    optimizer = ss.EMA(ss.SGD(params, lr=0.02), decay=0.9999)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = ss.fit(
            value_and_grad, params, optimizer, data, epochs=40, validation=data, progress=False
        )
    rows = {name: history[name] for name in history}
    slow = ss.History.from_arrays(
        **rows
        | {"val_loss": np.where(np.isfinite(rows["val_loss"]), 14 - T[: history.steps], np.nan)}
    )
    slow.meta["rule"] = "EMA"
    said = ss.diagnose(slow)
    assert said.verdict == ss.diagnose({k: v for k, v in rows.items() if k != "val_loss"}).verdict
    assert said.findings[-1].kind == "lagging_average"
    assert "the average lags" in str(said) and "Lower its decay" in str(said)


def test_a_plain_row_of_losses_is_a_history():
    losses = train(1e-3)["loss"]
    for given in (losses, tuple(losses), np.array(losses)):
        assert str(ss.diagnose(given)) == str(ss.diagnose({"loss": losses}))


@pytest.mark.parametrize(
    ("history", "error", "text"),
    [
        (None, TypeError, "history must be a History, a mapping of series"),
        (3, TypeError, "got 3"),
        ("loss", TypeError, "got 'loss'"),
        (
            {"loss": 3.0},
            ValueError,
            r"history\['loss'\] must hold one number for each row, got 3.0",
        ),
        ({"loss": "abc"}, ValueError, "must hold one number for each row, got 'abc'"),
        ({"loss": [{}]}, ValueError, "must hold one number for each row"),
        ({"loss": np.ones((5, 2))}, ValueError, "must hold one number for each row"),
        ({"loss": [1.0] * 9, "lr": [0.1]}, ValueError, r"history\['lr'\] has 1 rows and history"),
        ([{"loss": 1.0}], ValueError, "must hold one number"),
        ([], ValueError, "non-empty series 'loss'"),
        ({1: 2}, ValueError, "non-empty series 'loss', it has 1"),
    ],
)
def test_what_is_no_history_is_refused_by_name(history, error, text):
    with pytest.raises(error, match=f"diagnose: .*{text}"):
        ss.diagnose(history)


def test_masked_losses_are_rows_without_a_value():
    loss = np.array(train(0.2)["loss"])
    hidden = np.ma.masked_array(
        np.where(np.arange(STEPS) % 7, loss, 1e9), np.arange(STEPS) % 7 == 0
    )
    plain = np.where(np.arange(STEPS) % 7, loss, np.nan)
    val = {"val_loss": np.ones(STEPS)}
    assert str(ss.diagnose({"loss": hidden} | val)) == str(ss.diagnose({"loss": plain} | val))


def test_a_data_frame_is_a_history():
    pandas = pytest.importorskip("pandas")
    rows = train(1e-3)
    assert str(ss.diagnose(pandas.DataFrame(rows))) == str(ss.diagnose(rows))


@pytest.mark.parametrize("level", [0.1, 1.4])
def test_a_run_at_rest_tells_its_slope_and_its_error(level):
    rows = noisy(level + 2 * np.exp(-30 * T), noise=0.01)
    said, trend = ss.diagnose(rows), measure(rows).trend
    unit = 100 * measure(rows).levels.decrease
    way = "fell" if trend.slope > 0 else "rose"
    told = (
        f"{way} by {abs(unit * trend.slope):.2g} (+-{unit * trend.slope_error:.1g}) per 100 steps"
    )
    assert said.verdict in ("converged", "underfitting") and told in str(said)


@pytest.mark.parametrize("per_row", [1, 10])
def test_a_slope_counts_steps_and_not_rows(per_row):
    rows = {"loss": 2 - 0.001 * np.arange(200), "step": per_row * np.arange(200)}
    features = measure(rows)
    slope = features.trend.slope * features.levels.decrease
    assert slope == pytest.approx(0.001 / per_row)


@pytest.mark.parametrize("creep", [0.0, 0.002, 0.006, 0.01])
@pytest.mark.parametrize("noise", [1e-4, 1e-3])
def test_converged_is_not_said_where_more_is_to_come_than_noise_and_half_a_per_cent(creep, noise):
    rows = noisy(0.1 + 2 * np.exp(-40 * T) - 4 * creep * np.maximum(T - 0.02, 0), noise=noise)
    rows["val_loss"] = np.full(STEPS, np.nan)
    rows["update_ratio"] = np.full(STEPS, 0.5)
    said, trend = ss.diagnose(rows), measure(rows).trend
    more = trend.forecast > 0.005 and trend.slope > 3 * trend.slope_error
    assert (said.verdict == "converged") != more == (creep > 0.005)
    assert "per 100 steps" in str(said) and ("gains nothing" in str(said)) != more


@pytest.mark.parametrize(
    ("curve", "most"),
    [
        (2 * np.exp(-8 * T), 2 * np.exp(-8) * 1.01),
        (1 + 2 * np.exp(-12 * T), 0.002),
        (2 - T, 1.01),
        (0.5 + 1.5 * np.maximum(1 - 1.6 * T, 0.0), 0.02),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_more_is_forecast_than_the_last_decreases_come_to(curve, most, seed):
    loss = curve + 1e-3 * np.random.default_rng(seed).standard_normal(STEPS)
    features = measure({"loss": loss})
    unit, quarters = features.levels.decrease, [q.mean() for q in np.array_split(loss, 4)]
    assert features.trend.forecast * unit <= max(4 * (quarters[2] - quarters[3]), 0) + 1e-9
    assert 0 <= features.trend.forecast <= max(features.trend.extrapolated_decrease, 0)
    assert features.trend.forecast * unit <= most + 2e-3

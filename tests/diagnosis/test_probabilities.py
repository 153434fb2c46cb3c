"""Diagnosis: the eight probabilities are a distribution whatever the history, and fit the table."""

from __future__ import annotations

import numpy as np
import pytest

import stepsize as ss
from stepsize.diagnosis import FEWEST_STEPS, VERDICTS, Diagnosis, calibration
from stepsize.diagnosis.checks import judge, of_batches
from stepsize.diagnosis.doubt import TOLD_BY_BRANCHES
from stepsize.diagnosis.measurement import measure
from stepsize.diagnosis.thresholds import RUNNER_UP

T = np.linspace(0, 1, 400)


def histories():
    rng = np.random.default_rng(0)
    noise = 0.02 * rng.standard_normal(400)
    yield {"loss": 2 * np.exp(-4 * T) + noise}
    yield {"loss": 2 + noise, "lr": np.full(400, 0.0)}
    yield {"loss": np.where(T < 0.5, 1.0, np.inf)}
    yield {"loss": np.full(400, np.nan)}
    yield {"loss": -1e300 * T}
    yield {"loss": np.zeros(400), "val_loss": np.zeros(400), "grad_norm": np.zeros(400)}
    yield {"loss": 1 + T, "update_ratio": np.full(400, 1e9), "val_loss": 1e9 * T}
    yield {"loss": [1.0]}


@pytest.mark.parametrize("history", list(histories()))
def test_they_are_a_distribution_over_the_eight(history):
    said = ss.diagnose(history)
    assert list(said.probabilities) == list(VERDICTS)
    values = list(said.probabilities.values())
    assert sum(values) == pytest.approx(1, abs=1e-12) and min(values) > 0


def test_every_weight_belongs_to_a_feature_or_a_verdict():
    features = calibration.row(measure({"loss": 1 - T}))
    assert len(calibration.WEIGHTS) == len(features) + len(VERDICTS)
    assert {len(row) for row in calibration.WEIGHTS.values()} == {len(VERDICTS)}
    assert len(calibration.BIAS) == len(VERDICTS)
    named = list(calibration.WEIGHTS)[len(features) :]
    assert named == [f"verdict_{name}" for name in VERDICTS]


def test_the_less_is_known_the_less_sure_it_is():
    loss = 2 - T
    whole = ss.diagnose({"loss": loss, "update_ratio": np.full(400, 1e-4)})
    assert whole.verdict == "too_low" and whole.probabilities["too_low"] > 0.9
    sure = [
        max(ss.diagnose({"loss": loss[:n]}).probabilities.values())
        for n in (1, 5, FEWEST_STEPS - 1)
    ]
    assert sure == sorted(sure) and sure[0] < 0.2


@pytest.mark.parametrize("history", list(histories()))
def test_the_repr_is_one_short_line(history):
    said = ss.diagnose(history)
    assert "\n" not in repr(said) and len(repr(said)) < 100
    told = "probability=" if said.enough_data else "enough_data=False)"
    assert repr(said).startswith(f"Diagnosis({said.verdict!r}, {told}")


def test_the_runner_up_is_the_next_probable_where_there_is_doubt():
    def said(**shares):
        return Diagnosis("converged", (), None, probabilities=shares)

    sure, doubtful = said(converged=0.9, plateau=0.1), said(converged=0.5, plateau=0.3, healthy=0.2)
    assert sure.runner_up is None and "Runner-up" not in str(sure)
    assert doubtful.runner_up == "plateau"
    assert str(doubtful).endswith("Runner-up: on a plateau (30% probable).")
    assert said(converged=0.3, healthy=0.7).runner_up == "healthy"
    assert said().runner_up is None


@pytest.mark.parametrize("history", list(histories()))
def test_what_steps_can_have_changed_is_asked_once(history, monkeypatch):
    from stepsize import diagnosis
    from stepsize.diagnosis import checks

    asked, own = [], checks.unseen
    for module in (diagnosis, checks):
        monkeypatch.setattr(module, "unseen", lambda f: asked.append(1) or own(f))
    ss.diagnose(history)
    assert len(asked) == 1


def random_histories():
    """Curves of every shape, with the path of the weights or without."""
    for seed in range(400):
        rng = np.random.default_rng(seed)
        t = np.linspace(0, 1, int(rng.integers(20, 500)))
        loss = rng.choice([0, 0.3, 2]) + np.exp(-rng.uniform(0, 20) * t) + rng.choice([0, 0.5]) * t
        rows = {"loss": loss + rng.choice([0.001, 0.02, 0.2]) * rng.normal(size=len(t))}
        if seed % 2:
            rows["update_ratio"] = np.full(len(t), 10 ** rng.uniform(-5, 0))
        yield rows


def test_a_verdict_that_has_next_to_nothing_gives_way_to_the_likeliest():
    moved = 0
    for rows in random_histories():
        said, features = ss.diagnose(rows), measure(rows)
        checked = judge(features)[0].kind
        shares = calibration.probabilities(features, checked)
        likeliest = max(shares, key=shares.get)
        told = {checked, likeliest} <= set(TOLD_BY_BRANCHES) and checked != "plateau"
        told = told and not (likeliest == "too_high" and of_batches(features))
        told = told and not (likeliest == "underfitting" and features.movement.relative_path < 1)
        if shares[checked] < RUNNER_UP and told:
            moved += likeliest != checked
            assert said.verdict == likeliest == said.findings[0].kind
            assert said.probabilities[said.verdict] == max(said.probabilities.values())
        else:
            assert said.verdict == checked
        if said.probabilities[said.verdict] < RUNNER_UP:
            assert not told and "alone likelier" in str(said) and said.unsure
    assert moved > 10


def test_the_sign_of_the_rule_is_told_where_the_likeliest_takes_its_place():
    for rows in random_histories():
        said = ss.diagnose(rows)
        if "one sign speaks for" in said.findings[0].evidence:
            assert f"it is {VERDICTS[said.verdict].phrase} with" in said.findings[0].evidence
            assert said.findings[0].advice
            return
    raise AssertionError("none was replaced")


@pytest.mark.parametrize("zero", [True, False])
def test_what_the_probabilities_do_not_know_of_is_not_overruled(zero):
    for rows in random_histories():
        rows["lr"] = np.where(np.arange(len(rows["loss"])) > 5 * zero, 0.0 if zero else 0.1, 0.1)
        if not zero:
            rows["sign_flips"] = np.full(len(rows["loss"]), 0.9)
        assert ss.diagnose(rows).verdict == judge(measure(rows))[0].kind


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_diverging_beyond_doubt(lost):
    for rows in random_histories():
        rows["loss"][-3:] = lost
        said = ss.diagnose(rows)
        assert said.verdict == "diverging" and said.probabilities["diverging"] >= 0.95
        assert "likelier" not in str(said) and not said.unsure


def test_few_losses_have_no_slope_and_a_constant_one_does_not_change():
    for steps in range(1, 8):
        assert "+-" not in str(ss.diagnose({"loss": np.linspace(1, 0.5, steps)}))
    flat = {"loss": np.append(np.linspace(1, 0.5, 10), np.full(200, 0.5)).round(1)}
    assert "did not change" in str(ss.diagnose(flat))

"""Diagnosis: in every sentence the numbers agree with the words, whatever the history."""

from __future__ import annotations

import re

import numpy as np
import pytest

import stepsize as ss
from stepsize.diagnosis import FEWEST_STEPS, VERDICTS
from stepsize.diagnosis.wording import apart, beside, went

NUMBER = r"(-?\d[\d.,]*(?:e[+-]?\d+)?)"


def random_history(seed):
    """A run of any shape, with any of the series, some of them odd."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([rng.integers(1, 40), rng.integers(40, 800)]))
    t = np.linspace(0, 1, n)
    level = rng.choice([0, 0, 1, -3, 1000]) + rng.uniform(0, 3) * np.exp(-rng.uniform(0, 30) * t)
    level = level + rng.choice([0, 0, 1]) * rng.normal() * t
    level = level + rng.choice([0, 0, 2]) * np.exp(-(((t - rng.random()) / 0.1) ** 2))
    loss = level + rng.choice([0, 0.003, 0.03, 0.3]) * rng.normal(size=n)
    if rng.random() < 0.15:
        loss[0] = rng.choice([0.0, 0.1, 50.0])
    rows = {"loss": loss}
    if rng.random() < 0.7:
        rows["lr"] = np.full(n, 10 ** rng.uniform(-5, 0))
        if rng.random() < 0.2:
            rows["lr"][int(n * rng.random()) :] = 0.0
    if rng.random() < 0.6:
        rows["update_ratio"] = np.exp(rng.normal(size=n)) * 10 ** rng.uniform(-5, 0)
    if rng.random() < 0.6:
        rows["grad_norm"] = np.exp(0.3 * rng.normal(size=n) - rng.choice([0, 5, 40]) * t)
    if rng.random() < 0.6:
        looks = int(rng.choice([1, 2, 3, 4, 6, 20]))
        at = np.unique(np.linspace(0, n - 1, looks + 1)[1:].astype(int))
        for name, sign in (("val_loss", 1), ("val_accuracy", -1)):
            if rng.random() < 0.7:
                rows[name] = np.full(n, np.nan)
                drift = rng.choice([-1, 0, 0.5, 2]) * t
                rows[name][at] = (sign * (level + drift))[at] + 0.01 * rng.normal(size=len(at))
    if rng.random() < 0.2:
        rows["sign_flips"] = rng.uniform(0, 1, n)
    if rng.random() < 0.2 and "lr" in rows:
        rows["sharpness"] = np.full(n, 2.02) / np.maximum(rows["lr"], 1e-9)
    if rng.random() < 0.1:
        rows["loss"][int(n * rng.random()) :] = rng.choice([np.nan, np.inf])
    if rng.random() < 0.3:
        rows["step"] = 1.0 + np.arange(n)
    return rows


# Patterns with two numbers, and how the first one compares with the second.
PAIRS = {
    rf"fell from {NUMBER} to {NUMBER}": np.greater,
    rf"rose from {NUMBER} to {NUMBER}": np.less,
    rf"falling \(from {NUMBER} to {NUMBER}\)": np.greater,
    rf"came down from {NUMBER} but now swings around {NUMBER}": np.greater,
    rf"{NUMBER}, down from {NUMBER}": np.less,
    rf"{NUMBER}, above its start of {NUMBER}": np.greater,
    rf"{NUMBER}, above its first value of {NUMBER}": np.greater,
    rf"{NUMBER}, above the {NUMBER} it had reached": np.greater,
    rf"{NUMBER}, above the limit of stability, {NUMBER}": np.greater,
    rf"{NUMBER}, not clearly below its start of {NUMBER}": np.less,
    rf"{NUMBER}, not below its start of {NUMBER}": np.greater_equal,
    rf"was best \({NUMBER}\) after \S+ of the run and has risen to {NUMBER}": np.less,
    rf"was best \({NUMBER}\) after \S+ of the run and has fallen to {NUMBER}": np.greater,
    rf"losses rise, from {NUMBER} to {NUMBER}": np.less,
}
SEEN = set()


def value(text):
    return float(text.rstrip(".,").replace(",", ""))


def check(rows):
    said = ss.diagnose(rows)
    text = str(said)
    assert "nan" not in text and "inf" not in text.replace("inference", "")
    assert "  " not in text and text.endswith(".") and ".." not in text
    for pattern, compares in PAIRS.items():
        for a, b in re.findall(pattern, text):
            assert compares(value(a), value(b)), text
            SEEN.add(pattern)
    for share in re.findall(r"([\d.]+)% of the (?:run|gradient's signs)", text):
        assert 0 <= float(share) <= 100, text
    finite = rows["loss"][np.isfinite(rows["loss"])]
    finite = finite if len(finite) else np.zeros(1)
    for level in re.findall(rf"(?:has settled at|the loss ended at) {NUMBER}", text):
        low, high = np.clip([finite.min(), finite.max()], -1e100, 1e100)
        room = 5e-3 * max(abs(low), abs(high))
        if "validation loss ended" not in text:
            assert low - room <= value(level) <= high + room, text
    # One paragraph gives one advice about the rate.
    assert not ("raise the rate" in text and "ower the rate" in text), text
    assert not (said.verdict == "overfitting" and "raise the rate" in text), text
    others = re.findall(
        r"(Runner-up|[^.]*alone likelier): ([^.]+) \((?:more than )?([\d.]+)% probable\)", text
    )
    assert len(others) == (said.runner_up is not None), text
    for place, name, share in others:
        other = said.runner_up
        likelier = said.probabilities[other] > said.probabilities[said.verdict]
        assert (place != "Runner-up") == likelier
        assert name == VERDICTS[other].phrase and other != said.verdict
        assert float(share) / 100 == pytest.approx(said.probabilities[other], abs=0.0051)
        assert said.probabilities[other] == max(
            p for k, p in said.probabilities.items() if k != said.verdict
        )
    share = said.probabilities.get(said.verdict, 1.0)
    assert said.unsure == (share < 0.5 and said.enough_data)
    first = text.split(". ")[0] if said.findings[0].kind != "no_floor" else text
    assert said.unsure == (" may be " in first or " may have " in first), text
    if said.unsure:
        assert said.runner_up is not None and VERDICTS[said.runner_up].phrase in text
    for per in re.findall(r"per ([\d,]+) steps?", text):
        assert 2 * value(per) <= np.isfinite(rows["loss"]).sum(), text
    for part, start in re.findall(r"rate was 0 in ([\d.]+)% of the run, from ([\d.]+)%", text):
        assert float(part) <= 100 - float(start) + 100 / len(rows["loss"]) + 1, text
    if said.suggested_lr is not None:
        assert VERDICTS[said.verdict].way in (-1, 1)
        assert (said.suggested_lr > np.nanmax(rows["lr"])) == (VERDICTS[said.verdict].way > 0)
    if len(finite) < FEWEST_STEPS and said.verdict != "diverging":
        assert not said.enough_data and said.suggested_lr is None
        assert said.verdict == said.findings[0].kind == "not_enough_data"
        assert text.startswith("There is not enough data")
        assert "raise the rate" not in text and "ower the rate" not in text
    for finding in said.findings:
        assert finding.severity in ("info", "warning", "critical")
        assert 0 <= finding.span[0] < finding.span[1] <= 1
    return said


@pytest.mark.parametrize("block", range(20))
def test_numbers_agree_with_words(block):
    for seed in range(100 * block, 100 * block + 100):
        check(random_history(seed))


def test_the_random_histories_reach_most_sentences():
    for seed in range(2000):
        if len(SEEN) >= len(PAIRS) - 3:
            break
        check(random_history(seed))
    assert len(SEEN) >= len(PAIRS) - 3, set(PAIRS) - SEEN


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0 + 1e-9), (1e-300, 2e-300), (0.0, 0.0), (-2.0, 3.0)])
def test_two_numbers_are_told_apart_if_they_are_two(a, b):
    x, y = apart(a, b)
    assert (x == y) == (a == b)
    assert ("stayed" in went(a, b)) == (a == b)
    assert ("started" in beside(a, b)) == (a == b)

"""Diagnosis with an experiment: the past claims, the branches refute; asked only where in doubt."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

import stepsize as ss
from stepsize.diagnosis import VERDICTS, Finding
from stepsize.diagnosis.ahead import advice
from stepsize.diagnosis.doubt import cost_of
from stepsize.diagnosis.likelier import with_branches

T = np.linspace(0, 1, 400)
NOISE = 0.01 * np.random.default_rng(0).standard_normal(400)


@dataclass
class Branch:
    factor: float
    losses: np.ndarray
    diverged: bool = False


@dataclass
class Experiment:
    """What `what_if` would return, by numbers: gains and leads over the present rate by factor."""

    gains: dict = field(default_factory=lambda: dict.fromkeys((0.1, 0.3, 1.0, 10.0), 0.0))
    average_gain: tuple | None = (0.0, 0.001)
    memorised: float | None = 0.01
    lost: tuple = ()
    lr: float = 0.1
    steps: int = 20
    run_steps: int = 400
    before: np.ndarray = field(default_factory=lambda: np.full(16, 0.5))

    @property
    def branches(self):
        return tuple(
            Branch(factor, 0.5 - gain + np.zeros(self.steps), factor in self.lost)
            for factor, gain in self.gains.items()
        )

    def gain(self, factor):
        return (-np.inf, 0.0) if factor in self.lost else (self.gains[factor], 0.001)

    def advantage(self, factor):
        if factor in self.lost:
            return -np.inf, 0.0
        return self.gains[factor] - self.gains[1.0], 0.001


def falling(rate=6.0, end=0.5, path=2e-2):
    """A loss from 1.5 towards its end, and weights that move."""
    loss = end + np.exp(-rate * T) + NOISE
    return {"loss": loss, "lr": np.full(400, 0.1), "update_ratio": np.full(400, path)}


def tried(history, **numbers):
    return ss.diagnose(history, what_if=Experiment(**numbers))


def gains(tenth=0.0, third=0.0, present=0.0, ten=-0.5):
    return {0.1: tenth, 0.3: third, 1.0: present, 10.0: ten}


def test_a_lower_rate_that_ends_lower_is_a_plateau_and_advises_a_fade():
    said = tried(falling(30), gains=gains(tenth=0.05, third=0.04))
    assert said.verdict == "plateau" and said.suggested_lr is None
    assert "ss.schedules.linear(0.1, 0, steps)" in str(said)
    assert "5% of the whole decrease" in str(said)


def test_the_mean_of_the_weights_tells_it_too():
    said = tried(falling(30), gains=gains(), average_gain=(0.05, 0.001))
    assert said.verdict == "plateau" and "the mean of the weights" in str(said).lower()


def test_a_lead_along_the_branch_counts_and_not_the_one_moment_at_its_end():
    class Lucky(Experiment):
        def advantage(self, factor):
            return (0.0, 0.001) if factor < 1 else super().advantage(factor)

    lucky = Lucky(gains=gains(tenth=0.025, third=0.025))
    assert ss.diagnose(falling(30), what_if=lucky).verdict == "plateau"


def test_overfitting_in_doubt_asks_whether_the_rate_did_it_and_nothing_else():
    turned = falling(8) | {"val_loss": 0.5 + 0.6 * np.maximum(T - 0.5, 0) ** 2 + np.exp(-9 * T)}
    asked = []

    def experiment(**numbers):
        asked.append(numbers)
        return Experiment(**numbers)

    passive = ss.diagnose(turned)
    assert passive.verdict == "overfitting" and passive.probabilities["overfitting"] < 0.7
    far = gains(tenth=0.3, third=0.4)
    assert ss.diagnose(turned, what_if=lambda: experiment(gains=far)).verdict == "too_high"
    for some in (gains(), gains(tenth=0.05), gains(present=0.01, ten=0.5)):
        said = ss.diagnose(turned, what_if=lambda some=some: experiment(gains=some))
        assert said.verdict == "overfitting"
    assert len(asked) == 4


def test_what_lies_far_below_is_a_rate_too_high_and_the_branch_says_how_far_to_lower_it():
    said = tried(falling(30), gains=gains(tenth=0.2, third=0.4))
    assert said.verdict == "too_high" and said.suggested_lr == pytest.approx(0.03)


def test_ten_times_the_rate_that_falls_faster_is_a_rate_too_low():
    said = tried(falling(0.2, path=1e-5), gains=gains(present=0.01, ten=0.1))
    assert said.verdict == "too_low" and said.suggested_lr == pytest.approx(1.0)


def test_nothing_gains_at_rest_is_converged_and_a_batch_not_learnt_by_heart_underfitting():
    assert tried(falling(30), gains=gains()).verdict == "converged"
    said = tried(falling(30), gains=gains(), memorised=0.95)
    assert said.verdict == "underfitting" and "95% of the loss" in str(said)


def test_the_past_claims_and_lowering_that_pays_at_once_does_not_refute_it():
    # The last half gained 12% of the decrease; x0.1 ends 3% lower at once: short-horizon bias.
    said = tried(falling(3), gains=gains(tenth=0.04, third=0.03, present=0.01))
    assert said.verdict == "healthy" and said.suggested_lr is None


def test_what_the_curves_show_beyond_doubt_stays():
    broken = {"loss": np.where(T < 0.5, 1.0, np.inf)}
    assert tried(broken, gains=gains(tenth=0.3)).verdict == "diverging"
    idle = {"loss": 2 + NOISE, "lr": np.zeros(400)}
    assert ss.diagnose(idle).findings == tried(idle, gains=gains(tenth=0.3)).findings
    turned = falling(8) | {"val_loss": 0.5 + (T - 0.3) ** 2 + np.exp(-20 * T)}
    assert ss.diagnose(turned).verdict == "overfitting"
    assert tried(turned, gains=gains()).verdict == "overfitting"


def test_a_present_rate_that_loses_the_run_is_too_high():
    said = tried(falling(3), gains=gains(), lost=(1.0, 10.0), average_gain=None)
    assert said.verdict == "too_high" and "not finite" in str(said)


@pytest.mark.parametrize("lost", [(), (10.0,), (1.0, 10.0), (0.1, 0.3, 1.0, 10.0)])
@pytest.mark.parametrize("tenth", [-0.5, 0.0, 0.05, 5.0])
@pytest.mark.parametrize("rate", [0.1, 3, 30])
def test_it_is_a_verdict_with_probabilities_whatever_the_branches(lost, tenth, rate):
    said = tried(falling(rate), gains=gains(tenth=tenth), lost=lost, average_gain=None)
    assert said.verdict == said.findings[0].kind and said.verdict in VERDICTS
    assert list(said.probabilities) == list(VERDICTS)
    assert sum(said.probabilities.values()) == pytest.approx(1)
    assert said.experiment_cost is None and str(said)


def asked(history, **numbers):
    calls = []
    said = ss.diagnose(history, what_if=lambda: calls.append(1) or Experiment(**numbers))
    return said, len(calls)


def test_a_function_is_asked_only_where_the_curves_leave_doubt():
    sure = falling(0.2, path=1e-5)
    assert ss.diagnose(sure).experiment_cost is None and asked(sure)[1] == 0
    doubtful = falling(30)
    told = ss.diagnose(doubtful)
    assert told.experiment_cost == cost_of(400)
    said, calls = asked(doubtful, gains=gains(tenth=0.05))
    assert calls == 1 and said.verdict == "plateau"
    for beyond in ({"loss": [1.0, np.nan] * 50}, {"loss": 2 + NOISE, "lr": np.zeros(400)}, [1.0]):
        assert asked(beyond)[1] == 0


def test_it_says_what_an_experiment_would_cost_where_it_would_tell():
    text = str(ss.diagnose(falling(30)))
    assert text.endswith(f"sure: what_if would tell, at the cost of {cost_of(400)} gradients.")


def test_a_function_may_decline_and_its_exception_passes():
    plain = ss.diagnose(falling(30))
    assert ss.diagnose(falling(30), what_if=lambda: None) == plain

    def broken():
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        ss.diagnose(falling(30), what_if=broken)


@pytest.mark.parametrize("wrong", [3, "x", {"branches": []}])
def test_what_is_no_experiment_is_refused_by_name(wrong):
    with pytest.raises(TypeError, match=r"what_if must be what ss\.what_if returned"):
        ss.diagnose(falling(30), what_if=wrong)
    with pytest.raises(TypeError, match=r"what_if must be what ss\.what_if returned"):
        ss.diagnose(falling(30), what_if=lambda: wrong)


def noisy(steps, rate=0.3, schedule=None):
    """Least squares with noisy targets, two rows at a time: at a constant rate its noise stays."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 4))
    y = x @ np.array([1.0, -2.0, 3.0, 0.5]) + 2 * rng.standard_normal(400)
    params = {"w": np.zeros(4)}

    def value_and_grad(p, batch):
        error = batch[0] @ p["w"] - batch[1]
        return float(error @ error) / len(error), {"w": 2 * batch[0].T @ error / len(error)}

    opt = ss.SGD(params, lr=rate if schedule is None else schedule)
    history = ss.fit(value_and_grad, params, opt, (x, y), steps=steps, batch_size=8, progress=False)
    whole = float(np.mean((x @ params["w"] - y) ** 2))
    return value_and_grad, params, opt, (x, y), history, whole


@pytest.mark.parametrize("steps", [21, 200, 999])
def test_the_cost_is_that_of_what_if_with_its_defaults(steps):
    value_and_grad, params, opt, data, history, _ = noisy(steps, 0.01)
    found = ss.what_if(value_and_grad, params, opt, data, history=history, progress=False)
    assert found.gradients == cost_of(steps)


def test_a_real_plateau_is_told_by_its_branches_and_left_by_the_fade():
    value_and_grad, params, opt, data, history, _ = noisy(1000, 0.2)
    found = ss.what_if(
        value_and_grad, params, opt, data, history=history, batch_size=8, progress=False
    )
    said = ss.diagnose(history, what_if=found)
    assert ss.diagnose(history).verdict != "plateau" and said.verdict == "plateau"
    before = ss.schedules.constant(0.2)
    fade = noisy(1400, schedule=before.then(ss.schedules.linear(0.2, 0, 400), at=1000))[-1]
    factor = noisy(1400, schedule=before.then(ss.schedules.constant(0.04), at=1000))[-1]
    assert fade < factor < noisy(1400, 0.2)[-1]


def test_what_is_likelier_takes_the_place_of_the_rule():
    rule, curves = (Finding(kind, "info", kind, "") for kind in ("converged", "healthy"))

    def told(healthy, converged, before=curves):
        shares = dict.fromkeys(VERDICTS, 0.0) | {"healthy": healthy, "converged": converged}
        return with_branches([rule], [before], shares, advice(Experiment()))

    assert told(0.58, 0.42) == [curves] and told(0.52, 0.48) == [rule]
    (new,) = told(0.65, 0.2, before=rule)
    assert new.kind == "healthy" and "healthy with 65%" in new.evidence
    shares = dict.fromkeys(VERDICTS, 0.0) | {"underfitting": 0.6, "converged": 0.3}
    assert with_branches([rule], [curves], shares, advice(Experiment())) == [rule]
    shares["converged"] = 0.1
    (new,) = with_branches([rule], [curves], shares, advice(Experiment()))
    assert new.kind == "underfitting"
    shares = dict.fromkeys(VERDICTS, 0.0) | {"overfitting": 0.9}
    assert with_branches([rule], [curves], shares, advice(Experiment())) == [rule]


def test_the_same_is_not_said_twice():
    rests, falls = falling(30, end=0.05), falling(3)
    assert ss.diagnose(rests).verdict == "converged" and ss.diagnose(falls).verdict == "healthy"
    for history, some in ((rests, gains()), (falls, gains(present=0.01))):
        text = str(tried(history, gains=some))
        assert text.count("in the last half") + text.count("over the last half") <= 1, text


def test_gains_in_proportion_to_the_rate_show_steps_too_short_to_be_seen():
    unseen = {"loss": 1 + 5000 * NOISE, "lr": np.full(400, 0.1)}
    small = gains(tenth=0.0012, third=0.0036, present=0.012, ten=0.12)
    said = tried(unseen, gains=small)
    assert said.verdict == "too_low" and said.probabilities["too_low"] >= 0.95
    assert tried(unseen, gains=small | {10.0: 0.04}).verdict != "too_low"


CONFIDENT = {**falling(1.5, end=0.0), "grad_norm": np.full(400, 1.0)}
WINS = gains(tenth=0.003, third=0.01, present=0.03, ten=0.3)


def rising():
    """A loss that ends above its start, as where batches come in the order of their targets."""
    return falling(3) | {"loss": 0.5 + 0.5 * T + NOISE, "update_ratio": np.full(400, np.nan)}


def swinging():
    return falling(30) | {"loss": 0.9 + 0.1 * np.exp(-30 * T) + 5 * NOISE * (T > 0.05)}


@pytest.mark.parametrize(
    ("history", "curves"),
    [(CONFIDENT, "healthy"), (rising(), "diverging"), (swinging(), "too_high")],
    ids=["healthy", "diverging", "too_high"],
)
def test_a_higher_rate_that_wins_by_much_decides_whatever_the_curves_say(history, curves):
    assert ss.diagnose(history).verdict == curves
    said = tried(history, gains=WINS)
    assert said.verdict == "too_low" and said.suggested_lr == pytest.approx(1.0)
    assert max(said.probabilities, key=said.probabilities.get) == "too_low"
    assert said.probabilities["too_low"] >= 0.95
    assert sum(said.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "some",
    [
        gains(tenth=0.04, third=0.01, present=0.03, ten=0.3),  # x0.1 gains too: noise is much of it
        gains(tenth=-0.03, third=-0.02, present=-0.01, ten=0.3),  # it does not fall as it is
    ],
)
def test_what_wins_out_of_order_or_by_little_overturns_nothing(some):
    for history in (CONFIDENT, rising()):
        assert tried(history, gains=some).verdict == ss.diagnose(history).verdict
    hardly = gains(tenth=0.003, third=0.01, present=0.03, ten=0.05)  # faster than the run was
    assert tried(CONFIDENT, gains=hardly).verdict == "healthy"


def test_neither_an_overshoot_nor_a_validation_that_turned_is_overturned():
    turned = falling(8) | {"val_loss": 0.5 + (T - 0.3) ** 2 + np.exp(-20 * T)}
    assert tried(turned, gains=WINS).verdict == "overfitting"
    thrown = 1 + 20 * np.exp(-(((T - 0.2) / 0.05) ** 2)) - 0.3 * T + 5 * NOISE
    assert ss.diagnose({"loss": thrown}).verdict == "too_high"
    assert tried({"loss": thrown}, gains=WINS).verdict == "too_high"


@pytest.mark.parametrize("memorised", [0.01, 0.95])
@pytest.mark.parametrize("lead", [0.0, 0.0005, 0.0015, 0.003, 0.01])
def test_that_no_branch_is_lower_is_said_only_where_none_is_by_two_errors(lead, memorised):
    said = tried(falling(30), gains=gains(tenth=lead), memorised=memorised)
    assert said.verdict in ("converged", "underfitting")
    text = str(said).lower()
    assert ("no branch ends" in text) == (lead <= 2 * 0.001)
    if lead > 2 * 0.001:
        assert f"x0.1 ends {lead:.2g} (+-0.001) below the present rate" in text
        assert "along its steps, where a plateau begins at 2%" in text

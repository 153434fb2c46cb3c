"""Diagnosis: what ended the run, rates far from any usual one, and a handful of losses."""

import re

import numpy as np
import pytest

import stepsize as ss

SAID = "val_accuracy has not improved on 0.971 since step 300"


def slow(n=400, stopped=None, best=0.971, rests=True, **more):
    """A loss that still falls smoothly, with an accuracy that rose and came to rest."""
    t = np.arange(n) / n
    checks = np.arange(n) % 20 == 19
    rise = np.minimum(t / 0.5, 1.0) if rests else t
    accuracy = np.where(checks, 0.5 + (best - 0.5) * rise, np.nan)
    rows = {"loss": 2.3 - 1.9 * t, "lr": np.full(n, 0.01), "val_accuracy": accuracy, **more}
    history = ss.History.from_arrays(**rows)
    history.stopped = stopped
    return history


def test_a_loss_that_falls_beside_a_metric_at_rest_is_no_rate_too_low():
    bare = ss.History.from_arrays(**{n: v for n, v in slow().items() if n in ("loss", "lr")})
    assert ss.diagnose(bare).verdict == "too_low"
    for history in (slow(), slow(stopped=SAID), slow(stopped=SAID, rests=False)):
        said = ss.diagnose(history)
        assert (said.verdict, said.suggested_lr) == ("converged", None)
        assert "validation accuracy rose from" in str(said)
        assert ("early stopping ended the run" in str(said)) == (history.stopped is not None)
        assert sum(said.probabilities.values()) == pytest.approx(1)
        assert said.probabilities["converged"] > 0.1


def test_what_early_stopping_said_is_told_where_the_rate_is_too_low_all_the_same():
    weak = slow(best=0.55, stopped=SAID.replace("0.971", "0.55"))
    said = ss.diagnose(weak)
    assert said.verdict == "too_low"
    assert "had not improved on 0.55 since step 300" in str(said)


def test_carry_on_is_no_advice_for_a_run_that_early_stopping_ended():
    rng = np.random.default_rng(0)
    loss = 0.9 + 1.4 * np.exp(-3 * np.arange(400) / 400) + 0.1 * rng.normal(size=400)
    history = slow(loss=loss, stopped=SAID, update_ratio=np.full(400, 0.01))
    said = ss.diagnose(history)
    assert said.verdict == "healthy" and "patience" in str(said) and "Carry on" not in str(said)


@pytest.mark.parametrize(("lr", "word"), [(1e9, "above"), (1e5, "above"), (1e-12, "below")])
def test_a_rate_far_from_any_usual_one_is_to_be_found_and_not_scaled(lr, word):
    def function(params, batch):
        return float(params["x"] @ params["x"]), {"x": 2 * params["x"]}

    params = {"x": np.ones(3)}
    with np.errstate(all="ignore"):
        history = ss.fit(function, params, ss.SGD(params, lr=lr), [0] * 60, epochs=1)
    said = ss.diagnose(history)
    assert said.verdict in ("diverging", "too_low") and said.suggested_lr is None
    assert f"far {word} the usual ones" in str(said) and "lr_find" in str(said)
    assert "Try lr=" not in str(said)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_handful_of_losses_is_told_as_it_is(count):
    for losses in ([1.0, 1 + 1e-12, 1 - 1e-12, 1.0], [2.0, 1.0, 0.5, 0.25], [3.0, 3.1, 3.2, 3.3]):
        said = str(ss.diagnose(losses[:count]))
        assert not re.search(r"\d[\d.]{6,}", said), said
        assert "settled" not in said and "converged" not in said and "falling" not in said

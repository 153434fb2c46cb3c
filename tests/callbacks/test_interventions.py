"""Callbacks that change a run: what they change, and that it survives a resume."""

import math

import numpy as np
import pytest

import stepsize as ss
from fitting import X, Y, bits, fit, make_params, value_and_grad


def spiky(at, size=1e3):
    """A gradient that is wrong at some calls."""
    calls = [0]

    def gradient(params, batch):
        loss, grads = value_and_grad(params, batch)
        calls[0] += 1
        if calls[0] in at:
            return loss * size, {name: leaf * leaf.dtype.type(size) for name, leaf in grads.items()}
        return loss, grads

    return gradient


def train(gradient, callbacks, **options):
    params = make_params()
    opt = ss.SGD(params, lr=0.02, **options.pop("optimizer", {}))
    options = {"steps": 60, "batch_size": 8, "progress": False} | options
    return params, opt, ss.fit(gradient, params, opt, (X, Y), callbacks=callbacks, **options)


@pytest.mark.parametrize("size", [1e3, math.nan])
def test_a_spike_is_rolled_back_and_the_rate_lowered(size):
    guard = ss.RollBackOnSpike(window=10, every=5)
    params, opt, history = train(spiky([41], size), [guard])
    assert list(np.flatnonzero(history["spike"] == 1)) == [40]
    # The state after step 35 was followed by five calm steps, so that is where it returns to.
    assert opt.step_count == 35 + 19
    assert opt.lr_scale == 0.5 and list(history["lr"][[39, 41]]) == [0.02, 0.01]
    assert history["loss"][41] < history["loss"][0] and np.isfinite(params["w"]).all()
    assert history.stopped == "finished 60 steps"
    np.testing.assert_array_equal(history["step"], np.arange(1, 61))


def test_the_state_returned_to_is_the_one_that_was():
    states = {}

    class Look:
        def on_step(self, run):
            states[run.step] = bits(run.params)

    train(spiky([41]), [ss.RollBackOnSpike(window=10, every=5, shrink=1.0), Look()])
    assert states[41] == states[35]


def test_what_was_kept_just_before_a_spike_is_not_trusted_later():
    _, opt, _ = train(spiky([41, 47]), [ss.RollBackOnSpike(window=10, every=5)])
    # Both times back to the state after step 35, and 13 steps from there to step 60.
    assert opt.step_count == 35 + 13


def test_spikes_can_be_recorded_alone():
    _, opt, history = train(spiky([41]), [ss.RollBackOnSpike(window=10, rollback=False)])
    assert history["spike"][40] == 1 and opt.lr_scale == 1 and opt.step_count == 60


def test_too_many_spikes_end_the_run():
    _, _, history = train(spiky(range(41, 60)), [ss.RollBackOnSpike(window=10, every=5, limit=3)])
    assert history.stopped == "another loss spike after 3 rollbacks, at step 44"


def test_nothing_leaps_in_a_calm_run():
    _, opt, history = train(value_and_grad, [ss.RollBackOnSpike(window=10, every=5)])
    assert "spike" not in history and opt.lr_scale == 1


def test_rolling_back_resumes_bit_for_bit(tmp_path):
    def run(name, *limits):
        for steps in limits:
            params, opt, history = train(
                lambda p, b: spiky([1])(p, b) if b[1][0] == Y[7] else value_and_grad(p, b),
                [ss.RollBackOnSpike(window=6, every=4)],
                steps=steps,
                checkpoint=ss.Checkpoint(tmp_path / name, every_epochs=None),
                resume=True,
            )
        return bits(params), repr(opt.state_dict()), history

    whole = run("whole", 60)
    assert np.nansum(whole[2]["spike"]) >= 1
    for step in range(1, 60, 5):
        assert run(f"{step}", step, 60) == whole


def test_the_batch_grows():
    _, _, history = train(
        value_and_grad, [ss.BatchSizeSchedule({0: 8, 1: 20, 2: 40})], steps=None, epochs=4
    )
    assert list(history["batch_size"]) == [8] * 5 + [20] * 2 + [40] * 2
    assert list(history["epoch"]) == [0] * 5 + [1] * 2 + [2, 3]


def test_the_batch_of_a_stream_cannot_grow():
    params = make_params()
    with pytest.raises(ValueError, match="train is an iterable of batches"):
        fit(params, train=[(X, Y)], callbacks=[ss.BatchSizeSchedule({0: 8})])


def test_frozen_parameters_and_their_state_rest():
    states = {}

    class Look:
        def on_step(self, run):
            states[run.step] = bits(run.params), repr(run.optimizer.state["b"])

    options = {"optimizer": {"momentum": 0.9, "weight_decay": 0.1}}
    train(value_and_grad, [ss.Freeze("b", until=10), Look()], **options)
    assert states[10][0]["b"] == bits(make_params())["b"] and states[10][1] == states[1][1]
    assert states[11][0]["b"] != states[10][0]["b"] and states[2][0]["w"] != states[1][0]["w"]


def test_rates_of_all_groups_are_recorded():
    params = make_params()
    opt = ss.SGD(params, lr=0.1, groups=ss.layer_groups(["w", "b"], lr=0.4, factor=4))
    history = fit(params, opt, callbacks=[ss.LRMonitor()])
    assert [history[f"lr/{i}"][0] for i in range(3)] == [0.1, 0.1, 0.4]
    assert set(history["lr_scale"]) == {1.0}


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (ss.DoG, ["lr_effective"]),
        (ss.LDoG, ["lr_effective/b", "lr_effective/w"]),
        (ss.Adam, []),
        (lambda params: ss.Centralize(ss.DoG(params)), ["lr_effective"]),
    ],
)
def test_rates_that_a_rule_finds_are_recorded(rule, names):
    params = make_params()
    opt = rule(params)
    history = fit(params, opt, callbacks=[ss.LRMonitor()])
    assert [name for name in history if name.startswith("lr_effective")] == names
    found = opt.lr_effective
    for name in names:
        expected = found[name[-1]] if isinstance(found, dict) else found
        assert history[name][-1] == expected > 0


def test_layer_groups_take_schedules():
    groups = ss.layer_groups(["w", "b"], lr=ss.schedules.linear(0.4, 0.0, 10), factor=2)
    opt = ss.SGD(make_params(), lr=1.0, groups=groups)
    assert opt.lr[1:] == (0.2, 0.4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ss.RollBackOnSpike(threshold=0), "threshold must be above 0 .* got 0"),
        (lambda: ss.RollBackOnSpike(shrink=2), r"shrink in \(0, 1\], got .* 2"),
        (lambda: ss.RollBackOnSpike(window=0), "window must be a whole number >= 1, got 0"),
        (lambda: ss.RollBackOnSpike(every=True), "every must be a whole number >= 1, got True"),
        (lambda: ss.RollBackOnSpike(limit=2.0), r"limit must be a whole number >= 1, got 2\.0"),
        (lambda: ss.BatchSizeSchedule({0: 0}), r"sizes\[0\] must be a whole number >= 1, got 0"),
        (lambda: ss.BatchSizeSchedule({0: True}), r"sizes\[0\] must be .* got True"),
        (lambda: ss.BatchSizeSchedule({False: 8}), "an epoch in sizes must be .* got False"),
        (lambda: ss.Freeze(), "at least one pattern"),
        (lambda: ss.Freeze("w", until=0), "until must be a whole number >= 1, got 0"),
        (lambda: ss.Freeze("w", until=True), "until must be a whole number >= 1, got True"),
        (
            lambda: ss.layer_groups(["w"], 0.1, factor=0),
            "factor must be a finite number > 0, got 0",
        ),
        (lambda: fit(make_params(), callbacks=[ss.Freeze("z")]), "'z' matches no parameter.* b, w"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_whole_numbers_may_be_those_of_numpy():
    two = np.int64(2)
    assert ss.Freeze("w", until=two).until == 2
    assert ss.BatchSizeSchedule({two: two}).sizes == {2: 2}
    ss.RollBackOnSpike(window=two, every=two, limit=two)

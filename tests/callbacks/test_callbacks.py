"""Callbacks: what each does, in which order, and that errors never tear a run."""

import math
import os

import numpy as np
import pytest

import stepsize as ss
from fitting import X, Y, bits, fit, make_params, value_and_grad


class Spy:
    def __init__(self, log, name=""):
        self.log, self.name = log, name

    def __getattr__(self, hook):
        if not hook.startswith("on_"):
            raise AttributeError(hook)
        return lambda run: self.log.append((self.name + hook, run.step))


def test_hooks_run_in_the_documented_order():
    log = []
    fit(
        make_params(),
        epochs=1,
        batch_size=20,
        callbacks=[Spy(log, "a."), Spy(log, "b.")],
        validation=(X, Y),
    )
    order = [("on_start", 0)]
    order += [("on_gradients", 0), ("on_step", 1), ("on_gradients", 1), ("on_step", 2)]
    order += [("on_validation", 2), ("on_epoch", 2), ("on_end", 2)]
    assert log == [(name + hook, step) for hook, step in order for name in ("a.", "b.")]


def test_a_checkpoint_comes_last_wherever_it_is_given(tmp_path):
    log = []

    class Saver(ss.Checkpoint):
        def on_epoch(self, run):
            log.append("saver")

    class Watcher:
        def on_epoch(self, run):
            log.append("watcher")

    fit(make_params(), epochs=1, callbacks=[Saver(tmp_path / "a"), Watcher()])
    assert log == ["watcher", "saver"]


def test_gradients_can_be_replaced():
    class Halve:
        def on_gradients(self, run):
            run.grads = {name: leaf / 2 for name, leaf in run.grads.items()}

    params, expected = make_params(), make_params()
    fit(params, ss.SGD(params, lr=0.1), callbacks=[Halve()])
    fit(expected, ss.SGD(expected, lr=0.05))
    assert bits(params) == bits(expected)


def scripted(values):
    """Validation that measures what the script says, one value per epoch."""
    values = iter(values)
    return {"validation": [(X, Y)], "evaluate": lambda params, batch: {"loss": next(values)}}


def test_early_stopping_counts_what_fails_to_be_better():
    stopper = ss.EarlyStopping(patience=2, min_delta=0.1)
    params, expected = make_params(), make_params()
    history = fit(params, epochs=9, callbacks=[stopper], **scripted([5, 4, 3.95, 3.92, 1, 1, 1]))
    assert history.stopped == "val_loss has not improved on 4 since step 10"
    assert history.steps == 20 and (stopper.best, stopper.best_step) == (4, 10)
    fit(expected, epochs=2)
    assert bits(params) == bits(expected)


def test_early_stopping_upwards_and_without_restoring():
    stopper = ss.EarlyStopping("val_loss", patience=0, mode="max", restore_best=False)
    params, expected = make_params(), make_params()
    history = fit(params, epochs=9, callbacks=[stopper], **scripted([1, 2, 1.5]))
    fit(expected, epochs=3)
    assert history.steps == 15 and bits(params) == bits(expected)


def test_early_stopping_without_patience_keeps_the_best():
    params, expected = make_params(), make_params()
    history = fit(
        params,
        epochs=4,
        callbacks=[ss.EarlyStopping(patience=None)],
        **scripted([3, 1, math.nan, 2]),
    )
    fit(expected, epochs=2)
    assert history.stopped == "finished 4 epochs" and bits(params) == bits(expected)


def test_early_stopping_on_the_training_loss():
    history = fit(make_params(), epochs=50, callbacks=[ss.EarlyStopping("loss", patience=3)])
    means = history["loss"].reshape(-1, 5).mean(axis=1)
    assert means.argmin() == len(means) - 4 and history.steps < 250


def test_early_stopping_can_be_used_again():
    stopper = ss.EarlyStopping(patience=0)
    for _ in range(2):
        history = fit(make_params(), epochs=9, callbacks=[stopper], **scripted([1, 2]))
        assert history.steps == 10


def test_the_rate_falls_on_a_plateau_below_any_schedule():
    params = make_params()
    opt = ss.SGD(params, lr=ss.schedules.linear(0.1, 0.05, 40))
    reduce = ss.ReduceOnPlateau(patience=0, factor=0.5)
    history = fit(params, opt, epochs=4, callbacks=[reduce], **scripted([3, 2, 2, 1]))
    scale = np.repeat([1, 1, 1, 0.5], 5)
    rates = ss.schedules.linear(0.1, 0.05, 40)(np.arange(20)) * scale
    np.testing.assert_array_equal(history["lr"], rates)


@pytest.mark.parametrize("monitor", ["val_loss", "accuracy"])
def test_a_missing_monitor_says_what_there_is(monitor):
    with pytest.raises(ValueError, match=f"no '{monitor}' to monitor; there are loss"):
        fit(make_params(), callbacks=[ss.EarlyStopping(monitor)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ss.EarlyStopping(mode="low"), "mode must be one of 'auto', .* got 'low'"),
        (lambda: ss.EarlyStopping(patience=-1), "patience must be .* got -1"),
        (lambda: ss.EarlyStopping(min_delta=math.nan), "min_delta must .* got nan"),
        (lambda: ss.StopOnDivergence(factor=1), "factor must be above 1, got 1"),
        (lambda: ss.StopOnDivergence(patience=0), "patience must be .* got 0"),
        (lambda: ss.Checkpoint("x", every_steps=0), "every_steps must be .* got 0"),
        (lambda: ss.Checkpoint("x", keep=0), "keep must be .* got 0"),
        (lambda: ss.JSONLogger("x", every=0), "every must be .* got 0"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_divergence_is_told_with_step_rate_and_leaf():
    params = make_params()
    history = fit(params, ss.SGD(params, lr=3.0), epochs=9, callbacks=[ss.StopOnDivergence()])
    step = history.steps
    assert history["loss"][-1] > 100 * history["loss"][0] >= history["loss"][-2]
    assert history.stopped.startswith(f"diverged at step {step} with lr 3: the loss ")
    assert "far above the first" in history.stopped
    assert "the largest gradient is that of " in history.stopped


def test_divergence_to_nan_is_told_where_the_optimizer_ignores_it():
    def broken(params, batch):
        grads = value_and_grad(params, batch)[1]
        return math.nan, {"w": grads["w"], "b": grads["b"] * math.nan}

    params = make_params()
    opt = ss.SGD(params, lr=0.1, on_nonfinite="ignore")
    stop = ss.StopOnDivergence(patience=3)
    history = ss.fit(broken, params, opt, (X, Y), epochs=3, callbacks=[stop], progress=False)
    assert history.stopped == (
        "diverged at step 3 with lr 0.1: the loss nan is not finite; "
        "the gradient of b is not finite"
    )


def test_checkpoints_are_written_when_asked(tmp_path):
    seen = []

    class Look:
        def on_gradients(self, run):
            if (tmp_path / "c").exists():
                seen.append(ss.History.load(tmp_path / "c").steps)

    fit(make_params(), callbacks=[Look()], checkpoint=ss.Checkpoint(tmp_path / "c", 2, None))
    assert seen == [2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14]
    assert ss.History.load(tmp_path / "c").steps == 15


def test_keep_keeps_the_newest(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(make_params(), checkpoint=ss.Checkpoint(path, every_steps=4, keep=3))
    assert sorted(os.listdir(tmp_path)) == [
        "run-10.safetensors",
        "run-12.safetensors",
        "run.safetensors",
    ]
    steps = [ss.History.load(tmp_path / name).steps for name in sorted(os.listdir(tmp_path))]
    assert steps == [10, 12, 15]


class Poison:
    def __init__(self, step):
        self.step = step

    def on_step(self, run):
        if run.step >= self.step:
            run.params["w"][0] = np.nan


def test_the_last_finite_checkpoint_is_never_deleted(tmp_path):
    params = make_params()
    opt = ss.SGD(params, lr=0.1, on_nonfinite="ignore")
    keeper = ss.Checkpoint(tmp_path / "run.st", every_steps=1, every_epochs=None)
    fit(params, opt, callbacks=[Poison(6)], checkpoint=keeper)
    assert sorted(os.listdir(tmp_path)) == ["run-5.st", "run.st"]
    assert ss.History.load(tmp_path / "run-5.st").steps == 5


def test_a_diverged_end_is_not_saved(tmp_path):
    def broken(params, batch):
        loss, grads = value_and_grad(params, batch)
        return (math.nan if params["w"].any() and loss < 1 else loss), grads

    params = make_params()
    history = ss.fit(
        broken,
        params,
        ss.Adam(params, lr=0.1),
        (X, Y),
        epochs=50,
        checkpoint=tmp_path / "c",
        progress=False,
    )
    assert history.stopped.startswith("diverged")
    saved = ss.History.load(tmp_path / "c").steps
    assert history.steps - 2 <= saved < history.steps and saved % 2 == 0


class Fail:
    def __init__(self, step, hook="on_step"):
        setattr(self, hook, self.fail)
        self.step = step

    def fail(self, run):
        if run.step == self.step:
            raise RuntimeError("broken callback")


@pytest.mark.parametrize("hook", ["on_step", "on_gradients", "on_epoch", "on_validation"])
def test_an_exception_in_a_callback_leaves_whole_steps_and_a_checkpoint(tmp_path, hook):
    params, expected = make_params(), make_params()
    opt = ss.Adam(params, lr=0.1)
    callbacks = [Fail(5, hook)]
    with pytest.raises(RuntimeError, match="broken callback") as caught:
        fit(params, opt, callbacks=callbacks, checkpoint=tmp_path / "c", validation=(X, Y))
    fit(expected, steps=5)
    assert bits(params) == bits(expected) and opt.step_count == 5
    assert caught.value.__notes__ == [
        f"step 5 is saved in {tmp_path / 'c'}; resume=True continues from it"
    ]
    callbacks[0].step = None
    history = fit(
        params,
        opt,
        callbacks=callbacks,
        checkpoint=tmp_path / "c",
        validation=(X, Y),
        resume=True,
    )
    fit(expected := make_params(), validation=(X, Y))
    assert bits(params) == bits(expected) and history.steps == 15


def test_an_exception_in_the_gradient_is_saved_too(tmp_path):
    def broken(params, batch):
        if params["w"].any():
            raise ZeroDivisionError
        return value_and_grad(params, batch)

    params = make_params()
    with pytest.raises(ZeroDivisionError) as caught:
        ss.fit(
            broken,
            params,
            ss.SGD(params, lr=0.1),
            (X, Y),
            epochs=1,
            checkpoint=tmp_path / "c",
            progress=False,
        )
    assert "step 1 is saved" in caught.value.__notes__[0]


def test_a_failing_checkpoint_is_told_and_nothing_is_torn(tmp_path):
    class InTheWay:
        def on_step(self, run):
            (tmp_path / "c").mkdir(exist_ok=True)

    with pytest.raises(OSError) as caught:
        fit(make_params(), checkpoint=tmp_path / "c", callbacks=[InTheWay()])
    assert "saving" in caught.value.__notes__[0] and "failed" in caught.value.__notes__[0]


def test_on_end_runs_after_errors_too():
    log = []
    with pytest.raises(RuntimeError):
        fit(make_params(), callbacks=[Spy(log), Fail(2)])
    assert log[-1] == ("on_end", 2)


def test_one_failing_end_does_not_keep_the_others_from_ending():
    log = []

    class Bad:
        def on_end(self, run):
            raise OSError("cannot close")

    with pytest.raises(OSError, match="cannot close"):
        fit(make_params(), callbacks=[Bad(), Spy(log)])
    assert log[-1] == ("on_end", 15)


STATEFUL = {
    "EarlyStopping": lambda: ss.EarlyStopping("loss", patience=1),
    "ReduceOnPlateau": lambda: ss.ReduceOnPlateau("loss", patience=0, factor=0.5),
    "ReduceOnStationarity": ss.ReduceOnStationarity,
    "StopOnDivergence": lambda: ss.StopOnDivergence(factor=3, patience=4),
    "RollBackOnSpike": lambda: ss.RollBackOnSpike(threshold=2, window=4, every=3),
    "NoiseScaleMonitor": lambda: ss.NoiseScaleMonitor(every=1),
    "BatchSizeSchedule": lambda: ss.BatchSizeSchedule({0: 4, 2: 8}),
    "Freeze": lambda: ss.Freeze("b", until=3),
    "LRMonitor": ss.LRMonitor,
    "SharpnessMonitor": lambda: ss.SharpnessMonitor(value_and_grad, every=2),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_a_callback_can_be_used_again(name):
    def run(callback):
        params = make_params()
        opt = ss.SGD(params, lr=0.4)
        history = fit(params, opt, epochs=5, batch_size=4, accumulate=2, callbacks=[callback])
        return bits(params), history.stopped, history

    callback = STATEFUL[name]()
    first = run(callback)
    assert run(callback) == first == run(STATEFUL[name]())


def test_a_checkpoint_can_be_used_again_and_be_given_as_a_callback(tmp_path):
    keeper = ss.Checkpoint(tmp_path / "c", keep=2)
    for _ in range(2):
        fit(make_params(), callbacks=[keeper])
    assert sorted(os.listdir(tmp_path)) == ["c", "c-10"]
    history = fit(make_params(), epochs=4, callbacks=[keeper], resume=True)
    assert history == fit(make_params(), epochs=4)

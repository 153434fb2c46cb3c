"""Public bug reports about finders, training loops, callbacks and checkpoints, each tried here."""

import csv
import math
import os

import numpy as np
import pytest

import stepsize as ss
from fitting import linear as value_and_grad
from reports import report

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=24)


def start():
    return {"w": np.zeros(3)}


def fit(params, opt=None, **keywords):
    opt = opt or ss.SGD(params, lr=0.05)
    options = {"epochs": 4, "batch_size": 8, "progress": False} | keywords
    return ss.fit(value_and_grad, params, opt, options.pop("train", (X, Y)), **options)


class Follow:
    """Keeps the weights at each validation."""

    def __init__(self):
        self.weights = []

    def on_validation(self, run):
        self.weights.append(run.params["w"].copy())


@report(
    "Lightning-AI/pytorch-lightning#6675",
    "the learning-rate finder leaves the parameters where its highest rate has moved them",
)
@report(
    "Lightning-AI/pytorch-lightning#12670",
    "training after the finder follows the finder's rising rate and diverges",
)
@report(
    "Lightning-AI/pytorch-lightning#9672",
    "the finder called twice starts the second time from what the first has changed",
)
def test_the_finder_changes_nothing_and_repeats_itself():
    params = start()
    opt = ss.SGD(params, lr=0.01)
    batches = [(X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)]
    one = ss.lr_find(value_and_grad, params, batches, optimizer=opt)
    two = ss.lr_find(value_and_grad, params, batches, optimizer=opt)
    assert one.suggestion == two.suggestion and (one.losses == two.losses).all()
    assert (params["w"] == 0).all() and opt.lr == 0.01 and opt.step_count == 0


@report(
    "Lightning-AI/pytorch-lightning#13844",
    "where the finder has no suggestion it sets the rate to None",
)
def test_a_finder_without_an_answer_says_so():
    def lost(params, batch):
        return math.nan, {"w": np.full(3, math.nan)}

    found = ss.lr_find(lost, start(), [(X, Y)])
    assert math.isnan(found.suggestion) and found.confidence == "none" and found.stopped


@report(
    "keras-team/keras#12511",
    "the best weights are restored only if training was stopped early, not at its regular end",
)
@report(
    "tensorflow/tensorflow#35634",
    "early stopping restores at the end of an epoch and not at the end of training",
)
@report(
    "keras-team/keras#20323",
    "the weights restored are those after the best epoch, one epoch late",
)
def test_the_best_weights_come_back_however_the_run_ends():
    params, follow = start(), Follow()
    rate = ss.schedules.piecewise_constant([6], [0.1, 1.5])  # learns, then blows up
    history = fit(
        params,
        ss.SGD(params, lr=rate),
        validation=(X, Y),
        callbacks=[follow, ss.EarlyStopping(patience=100)],
    )
    values = history["val_loss"][np.isfinite(history["val_loss"])]
    best = int(values.argmin())
    assert best < len(values) - 1
    assert (params["w"] == follow.weights[best]).all()
    assert value_and_grad(params, (X, Y))[0] == pytest.approx(values.min())


@report(
    "keras-team/keras#13658",
    "restoring the best weights fails with a raw TypeError when no value was ever a number",
)
def test_early_stopping_where_nothing_was_ever_best():
    params = start()
    history = fit(
        params,
        validation=(X, Y),
        evaluate=lambda params, batch: {"val_loss": math.nan},
        callbacks=[ss.EarlyStopping(monitor="val_loss", patience=2)],
    )
    assert np.isfinite(params["w"]).all() and (params["w"] != 0).any()
    assert "val_loss" in history.stopped


@report(
    "huggingface/transformers#38837",
    "the last, smaller group of accumulated batches is divided by the full number of batches",
)
def test_a_short_group_of_batches_is_averaged_over_itself():
    params, other = start(), start()
    batches = [(X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)]
    opt = ss.SGD(params, lr=0.1)
    fit(params, opt, train=batches, epochs=1, accumulate=2)
    by_hand = ss.SGD(other, lr=0.1)
    for part in (slice(0, 16), slice(16, 24)):
        by_hand.step(value_and_grad(other, (X[part], Y[part]))[1])
    assert opt.step_count == 2
    assert params["w"] == pytest.approx(other["w"], rel=1e-13)


@report(
    "allenai/allennlp#4706",
    "with accumulated gradients the loss reported is that of the last batch, divided",
)
def test_the_loss_of_accumulated_batches_is_their_mean():
    params = start()
    batches = [(X[i : i + 8], Y[i : i + 8]) for i in (0, 8)]
    history = fit(params, train=batches, epochs=1, accumulate=2)
    assert history["loss"][0] == pytest.approx(value_and_grad(start(), (X[:16], Y[:16]))[0])


@report(
    "Lightning-AI/pytorch-lightning#688",
    "a checkpoint is written in place: a job killed meanwhile leaves half a file",
)
@report(
    "Lightning-AI/pytorch-lightning#19970",
    "the same again, after the atomic writing was lost in a rewrite",
)
@report(
    "CanReader/FastNN#13",
    "saving truncates the old checkpoint first: a full disk leaves neither",
)
def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    params = start()
    opt = ss.Adam(params)
    opt.step({"w": np.ones(3)})
    path = tmp_path / "run.safetensors"
    ss.save(path, params, opt)
    before = path.read_bytes()
    opt.step({"w": np.ones(3)})
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(OSError, match="no space"):
        ss.save(path, params, opt)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["run.safetensors"]


@report(
    "zylo117/Yet-Another-EfficientDet-Pytorch#101",
    "Ctrl-C leaves a checkpoint that cannot be loaded",
)
def test_ctrl_c_leaves_a_checkpoint_that_goes_on(tmp_path):
    class Press:
        def on_step(self, run):
            if run.step == 5:
                raise KeyboardInterrupt

    path, params, whole = tmp_path / "run.safetensors", start(), start()
    with pytest.raises(KeyboardInterrupt):
        fit(params, callbacks=[Press()], checkpoint=path)
    fit(params := start(), checkpoint=path, resume=True)
    fit(whole)
    assert (params["w"] == whole["w"]).all()


@report(
    "Lightning-AI/pytorch-lightning#5173",
    "keeping the best k checkpoints deletes other files of the directory, or says that it will",
)
def test_keeping_a_few_checkpoints_touches_no_other_file(tmp_path):
    others = ["run.safetensors.txt", "notes.md", "other-000001.safetensors", "run"]
    for name in others:
        (tmp_path / name).write_text("mine")
    path = tmp_path / "run.safetensors"
    fit(start(), callbacks=[ss.Checkpoint(path, every_steps=1, keep=1)])
    assert all((tmp_path / name).read_text() == "mine" for name in others)


@report(
    "pytorch/torchtitan#2864",
    "after a resume in a later epoch the data come in another order than in an unbroken run",
)
@report(
    "huggingface/accelerate#4195",
    "a resumed loader skips its batches in the wrong permutation",
)
@report(
    "kyutai-labs/pocket-tts#287",
    "every restart replays the first epoch's order",
)
def test_a_resumed_run_sees_the_batches_of_an_unbroken_one(tmp_path):
    def seen(params, **keywords):
        rows = []

        def watch(params, batch):
            rows.append(batch[1].tolist())
            return value_and_grad(params, batch)

        opt = ss.Adam(params, lr=0.01)
        ss.fit(watch, params, opt, (X, Y), batch_size=7, progress=False, seed=3, **keywords)
        return rows

    path, one, two = tmp_path / "run.safetensors", start(), start()
    whole = seen(one, steps=14)
    parts = seen(two, steps=6, checkpoint=path) + seen(two, steps=14, checkpoint=path, resume=True)
    assert parts == whole and (one["w"] == two["w"]).all()
    assert whole[:4] != whole[4:8]  # another epoch, another order


@report(
    "Lightning-AI/pytorch-lightning#21724",
    "validation before the first update of an average is done with the untrained weights",
    "mended: SWA before its first point gave the weights of its construction",
)
@report(
    "PKU-YuanGroup/Open-Sora-Plan#186",
    "training goes on from the average after a validation that swapped it in",
)
@report(
    "ultralytics/yolov5#8979",
    "an average of the weights is suspected of being overwritten by the weights",
)
def test_validation_with_an_average_swaps_it_in_and_out():
    class Look:
        def __init__(self):
            self.inside, self.outside = [], []

        def on_validation(self, run):
            self.inside.append(run.params["w"].copy())

        def on_step(self, run):
            self.outside.append(run.params["w"].copy())

    params, look = start(), Look()
    opt = ss.EMA(ss.SGD(params, lr=0.05), decay=0.5)
    fit(params, opt, validation=(X, Y), callbacks=[look], epochs=3)
    plain = start()
    fit(plain, epochs=3)
    assert (params["w"] == plain["w"]).all()
    for epoch, inside in enumerate(look.inside):
        outside = look.outside[3 * epoch + 2]
        assert (inside != outside).any() and (inside != 0).any()
    swa = ss.SWA(ss.SGD(params := start(), lr=0.05), start=100)
    swa.step({"w": np.ones(3)})
    assert (swa.eval_params()["w"] == params["w"]).all()


@report(
    "keras-team/keras#21173",
    "a CSV log has val_ columns of nan although there is no validation",
)
@report(
    "keras-team/keras#4426",
    "a resumed CSV log has its header in the middle again",
)
@report(
    "PathmindAI/nativerl#92",
    "after a resume the CSV log has no header",
)
def test_a_csv_log_over_a_resume(tmp_path):
    path, log, params = tmp_path / "run.safetensors", tmp_path / "log.csv", start()
    for epochs in (2, 4):
        fit(params, callbacks=[ss.CSVLogger(log)], checkpoint=path, resume=True, epochs=epochs)
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    assert not any(name.startswith("val_") for name in rows[0])
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps)) and steps[-1] == 12


@report(
    "Lightning-AI/pytorch-lightning#19432",
    "a metric that first appears later ends the run: the CSV log does not know its column",
)
def test_a_csv_log_takes_a_late_metric(tmp_path):
    log = tmp_path / "log.csv"
    params = start()
    seen = []

    def evaluate(params, batch):
        seen.append(0)
        return {"val_loss": 1.0} if len(seen) <= 3 else {"val_loss": 1.0, "val_late": 2.0}

    fit(params, validation=(X, Y), evaluate=evaluate, callbacks=[ss.CSVLogger(log)])
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    assert None not in rows[-1] and float(rows[-1]["val_loss"]) == 1.0


@report(
    "optuna/optuna#2101",
    "asking for the best of a study in which every trial was pruned gives a confusing error",
    "mended: a search in which every trial was lost had a best one",
)
def test_a_search_in_which_nothing_ended_says_so():
    def objective(point, trial):
        trial.report(0, math.nan)
        return math.nan

    result = ss.tune(objective, {"lr": ss.LogUniform(1e-3, 1)}, trials=3, method="random")
    try:
        best = result.best
    except ValueError as error:
        assert str(error)
    else:
        assert not best


@report(
    "nodefluxio/vortex#70",
    "a resume with other arguments of the schedule silently goes on with the old ones",
    "mended: the given schedule is used, with a warning",
)
def test_a_resume_with_another_schedule_uses_or_refuses_it(tmp_path):
    path, params = tmp_path / "run.safetensors", start()
    fit(params, checkpoint=path, opt=ss.SGD(params, lr=ss.schedules.step_decay(0.1, 4, 0.5)))
    again = start()
    opt = ss.SGD(again, lr=ss.schedules.step_decay(0.1, 7, 0.5))
    with pytest.warns(UserWarning, match="lr"):
        fit(again, checkpoint=path, resume=True, opt=opt, epochs=6)
    assert opt.lr == ss.schedules.step_decay(0.1, 7, 0.5)(18)

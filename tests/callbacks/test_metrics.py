"""Metrics: which way is better, which were measured, and the best of them kept whole."""

import csv
import json
import os

import numpy as np
import pytest

import stepsize as ss
from fitting import X, Y, bits, fit, make_params

UP = """
    acc accuracy val_accuracy val_acc auc roc_auc f1 f1_score F1Score val_f1 r2 val_r2 score
    precision recall iou mean_iou top5_accuracy balanced_accuracy ndcg ndcg@10 map dice bleu
    log_likelihood neg_mean_squared_error valAccuracy recall@5,10
"""
DOWN = """
    loss val_loss error val_error mse val_mse mae rmse log_loss perplexity nll val_nll
    cross_entropy mape dice_loss accuracy_loss brier_score error_rate neg_log_likelihood valLoss
    max_error
"""
WATCHERS = {
    "EarlyStopping": ss.EarlyStopping,
    "ReduceOnPlateau": ss.ReduceOnPlateau,
    "Checkpoint": lambda name, **options: ss.Checkpoint("unused", monitor=name, **options),
}


@pytest.mark.parametrize("watcher", WATCHERS)
@pytest.mark.parametrize("name", [*UP.split(), *DOWN.split()])
def test_the_name_of_a_metric_tells_its_direction(watcher, name):
    make = WATCHERS[watcher]
    assert make(name).mode == ("max" if name in UP.split() else "min")
    assert make(name, mode="min").mode == "min" and make(name, mode="max").mode == "max"


@pytest.mark.parametrize("watcher", WATCHERS)
@pytest.mark.parametrize("name", ["val_thing", "x", "q7", "speed", "f1_error_score", ""])
def test_a_name_that_tells_nothing_is_asked_about(watcher, name):
    with pytest.raises(ValueError, match=r"give mode='min' or mode='max'"):
        WATCHERS[watcher](name)
    assert WATCHERS[watcher](name, mode="max").mode == "max"


def scripted(script):
    """An evaluate that measures what the script says, one dict per epoch."""
    entries = iter(script)
    return {
        "validation": [(X, Y)],
        "evaluate": lambda params, batch: next(entries),
        "epochs": len(script),
    }


def test_a_rising_accuracy_is_no_reason_to_stop_or_to_cut():
    params = make_params()
    opt = ss.Adam(params, lr=0.1)
    callbacks = [
        ss.EarlyStopping("val_accuracy", patience=1),
        ss.ReduceOnPlateau("val_accuracy", patience=0),
    ]
    history = fit(
        params, opt, callbacks=callbacks, **scripted([{"accuracy": x / 10} for x in range(6)])
    )
    assert history.stopped == "finished 6 epochs" and opt.lr_scale == 1


def test_patience_counts_measurements():
    script = [{"f1": 0.9, "loss": 1.0}, *[{"loss": 1.0}] * 5, {"f1": 0.8}, {"f1": 0.7}, {"f1": 1}]
    stopper = ss.EarlyStopping("val_f1", patience=2)
    history = fit(make_params(), callbacks=[stopper], **scripted(script))
    assert history.stopped == "val_f1 has not improved on 0.9 since step 5"
    assert history["epoch"][-1] == 7


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_metric_that_never_was_a_number_is_said(value):
    stopper = ss.EarlyStopping(patience=3)
    history = fit(make_params(), callbacks=[stopper], **scripted([{"loss": value}] * 9))
    assert history.stopped == f"val_loss was {value} at each of 3 measurements"


@pytest.mark.parametrize("monitor", ["val_loss", "loss"])
def test_the_first_epochs_can_be_left_out(monitor):
    seen = []

    class Stopper(ss.EarlyStopping):
        def on_value(self, run, value):
            super().on_value(run, value)
            seen.append(self.best_step)

    stopper = Stopper(monitor, start_from_epoch=2)
    fit(make_params(), epochs=4, validation=(X, Y), callbacks=[stopper])
    assert seen[:3] == [None, None, 15]


AVERAGING = {
    "EMA": lambda params: ss.EMA(ss.Adam(params, lr=0.3), decay=0.8),
    "schedule-free": lambda params: ss.ScheduleFreeAdamW(params, lr=0.3),
    "SWA": lambda params: ss.SWA(ss.Adam(params, lr=0.3)),
    "inside": lambda params: ss.Centralize(ss.ScheduleFreeSGD(params, lr=0.1)),
}


@pytest.mark.parametrize("name", AVERAGING)
@pytest.mark.parametrize("every", [None, 2])
def test_the_best_average_is_what_is_left(name, every):
    measured = []
    values = iter([0.5, 0.9, 0.6, *[0.4] * 50])

    def evaluate(params, batch):
        measured.append(bits(params))
        return {"accuracy": next(values)}

    params = make_params()
    opt = AVERAGING[name](params)
    stopper = ss.EarlyStopping("val_accuracy", patience=None)
    fit(
        params,
        opt,
        epochs=3,
        validation=[(X, Y)],
        evaluate=evaluate,
        validate_every=every,
        callbacks=[stopper],
    )
    assert bits(params) == measured[1] != measured[2]
    with opt.averaged():
        assert bits(params) == measured[1]


def test_the_best_checkpoint_stays_beside_the_latest(tmp_path):
    accuracy = [0.5, 0.9, 0.6, np.nan, 0.8]
    kept = []

    class Keep:
        def on_epoch(self, run):
            kept.append(bits(run.params))

    checkpoint = ss.Checkpoint(tmp_path / "c.run", monitor="val_accuracy")
    params = make_params()
    options = scripted([{"accuracy": x} for x in accuracy])
    fit(params, callbacks=[Keep(), checkpoint], **options)
    assert sorted(os.listdir(tmp_path)) == ["c-best.run", "c.run"]
    for path, epoch in ((checkpoint.best_path, 1), (tmp_path / "c.run", 4)):
        other = make_params()
        ss.load(path, other, ss.Adam(other, lr=0.1))
        assert bits(other) == kept[epoch]


def test_what_is_best_survives_a_resume(tmp_path):
    for epochs, values in ((2, [0.9, 0.7]), (4, [0.8, 0.95])):
        checkpoint = ss.Checkpoint(tmp_path / "c", monitor="val_accuracy")
        options = scripted([{"accuracy": x} for x in values]) | {"epochs": epochs}
        fit(make_params(), checkpoint=checkpoint, resume=True, **options)
        assert ss.History.load(checkpoint.best_path).steps == (5 if epochs == 2 else 20)


def test_a_monitor_that_is_not_measured_is_refused(tmp_path):
    checkpoint = ss.Checkpoint(tmp_path / "c", monitor="val_accuracy")
    with pytest.raises(ValueError, match="Checkpoint: there is no 'val_accuracy' to monitor"):
        fit(make_params(), checkpoint=checkpoint)
    with pytest.raises(ValueError, match="mode='max' needs monitor="):
        ss.Checkpoint(tmp_path / "c", mode="max")


def test_files_of_others_stay(tmp_path):
    (tmp_path / "run-5").write_text("mine")
    (tmp_path / "run-1").write_text("mine")
    fit(make_params(), checkpoint=ss.Checkpoint(tmp_path / "run", keep=2))
    assert (tmp_path / "run-5").read_text() == (tmp_path / "run-1").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["run", "run-1", "run-10", "run-5"]


@pytest.mark.parametrize("keep", [2, 3])
def test_older_checkpoints_need_no_hard_links(tmp_path, monkeypatch, keep):
    def link(*names):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", link)
    fit(make_params(), epochs=5, checkpoint=ss.Checkpoint(tmp_path / "run.c", keep=keep))
    found = {ss.History.load(path).steps for path in tmp_path.iterdir()}
    assert found == {25, 20, *([15] if keep == 3 else [])}


def test_loggers_tell_what_was_measured_in_the_epoch(tmp_path):
    script = [{"loss": 1.0, "recall@5,10": 0.5}, {"loss": 2.0}, {"recall@5,10": 0.25}]
    loggers = [ss.CSVLogger(tmp_path / "log.csv"), ss.JSONLogger(tmp_path / "log.json")]

    class Own:
        def on_validation(self, run):
            run.metrics["mine"] = np.float32(2.5)

    fit(make_params(), callbacks=[Own(), *loggers], **scripted(script))
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["val_loss"] for row in rows] == ["1.0", "2.0", ""]
    assert [row["val_recall@5,10"] for row in rows] == ["0.5", "", "0.25"]
    assert [row["mine"] for row in rows] == ["2.5"] * 3
    lines = [json.loads(line) for line in (tmp_path / "log.json").read_text().splitlines()]
    epochs = [line for line in lines if line["event"] == "epoch"]
    assert ["val_loss" in line for line in epochs] == [True, True, False]


def test_a_comma_in_a_name_shifts_no_column(tmp_path):
    history = ss.History.from_arrays(loss=[1.0, 2.0], **{"recall@5,10": [3.0, 4.0]})
    history.to_csv(tmp_path / "h.csv")
    with open(tmp_path / "h.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["recall@5,10"]) for row in rows] == [3.0, 4.0]


def test_an_average_longer_than_the_run_is_said():
    with pytest.warns(UserWarning, match=r"EMA\(decay=0.9999\) averages over about 10000 steps"):
        fit(params := make_params(), ss.EMA(ss.Adam(params)))


def owners(monitor, tmp_path):
    return [
        ss.EarlyStopping(monitor, mode="max"),
        ss.ReduceOnPlateau(monitor, mode="max"),
        ss.Checkpoint(tmp_path / "c", monitor=monitor, mode="max"),
    ]


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize(
    ("monitor", "given", "hint"),
    [
        ("accuracy", "both", "did you mean 'val_accuracy'?"),
        ("val_acuracy", "both", "did you mean 'val_accuracy'?"),
        ("Accuracy", "both", "did you mean 'val_accuracy'?"),
        (
            "accuracy",
            "validation",
            "evaluate=..., which returns it by its name, and is then called",
        ),
        ("val_accuracy", "validation", "'accuracy' is measured by evaluate=..., which returns it"),
        ("val_f1", "nothing", "both validation=... and evaluate=... are missing"),
        ("val_loss", "nothing", "it is measured with validation=..."),
        ("val_loss", "both", "'loss' is measured by evaluate=..."),
    ],
)
def test_a_metric_that_is_not_measured_is_asked_of_what_would_measure_it(
    which, monitor, given, hint, tmp_path
):
    options = {"validation": (X, Y)} if given != "nothing" else {}
    if given == "both":
        options["evaluate"] = lambda params, batch: {"accuracy": 0.5}
    params = make_params()
    with pytest.raises(ValueError) as refused:
        fit(params, callbacks=[owners(monitor, tmp_path)[which]], **options)
    text = str(refused.value)
    assert f"no {monitor!r} to monitor; there are " in text and hint in text, text
    assert (given == "nothing") == ("validation=" in text)

"""Public bug reports about resumed callbacks, schedules and tables, each tried here."""

import json
import warnings

import numpy as np
import pytest
from sklearn.ensemble import BaggingClassifier

import stepsize as ss
from fitting import linear as value_and_grad
from reports import report
from stepsize.cli import main
from stepsize.interop import sklearn as sk

rng = np.random.default_rng(0)
X = rng.normal(size=(64, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3 * rng.normal(size=64)


def start():
    return {"w": np.zeros(3)}


def run(path, values, epochs, callback, resume=False, rule=ss.SGD):
    """A run whose validations give these values, one for each epoch."""
    params, seen = start(), iter(values)
    optimizer = rule(params, lr=0.01)
    history = ss.fit(
        value_and_grad, params, optimizer, (X, Y), epochs=epochs, batch_size=32, seed=0,
        validation=[(X, Y)], evaluate=lambda p, b: {callback.monitor: next(seen)},
        callbacks=[callback], checkpoint=path, resume=resume, progress=False,
    )  # fmt: skip
    return history, optimizer


WORSE = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


@report(
    "huggingface/transformers#28544",
    "the patience of early stopping begins anew at every resume: a run in parts never stops",
)
def test_patience_goes_on_after_a_resume(tmp_path):
    for part in range(1, 4):
        values = WORSE[part - 1 :]
        callback = ss.EarlyStopping("val_loss", patience=4)
        history, _ = run(tmp_path / "run", values, part, callback, resume=True)
    callback = ss.EarlyStopping("val_loss", patience=4)
    history, _ = run(tmp_path / "run", WORSE[3:], 7, callback, resume=True)
    whole, _ = run(tmp_path / "whole", WORSE, 7, ss.EarlyStopping("val_loss", patience=4))
    assert history.stopped == whole.stopped and history.steps == whole.steps < 14


@report(
    "Lightning-AI/pytorch-lightning#1463",
    "the best value of early stopping is not saved: after a resume a worse one counts as the best",
)
def test_the_best_value_is_kept_over_a_resume(tmp_path):
    run(tmp_path / "run", [1.0], 1, ss.EarlyStopping("val_loss", patience=2))
    callback = ss.EarlyStopping("val_loss", patience=2)
    history, _ = run(tmp_path / "run", [5.0, 4.0, 3.0], 9, callback, resume=True)
    assert "epoch 3" in history.stopped or history.steps == 6


@report(
    "huggingface/pytorch-image-models#871",
    "a run whose rate is reduced on a plateau cannot be resumed: its state is not saved",
)
def test_a_reduction_on_a_plateau_is_resumed(tmp_path):
    def callback():
        return ss.ReduceOnPlateau("val_loss", patience=1, factor=0.5)

    run(tmp_path / "run", WORSE, 3, callback())
    _, resumed = run(tmp_path / "run", WORSE[3:], 6, callback(), resume=True)
    _, whole = run(tmp_path / "whole", WORSE, 6, callback())
    assert resumed.lr_scale == whole.lr_scale < 1


@report(
    "facebookresearch/fairseq#2205",
    "reducing on a plateau minimises a metric that is to be maximised: the rate falls as it rises",
)
@pytest.mark.parametrize("metric", ["val_accuracy", "val_bleu", "val_f1"])
def test_a_rising_score_is_no_plateau(metric, tmp_path):
    mode = {"mode": "max"} if metric == "val_bleu" else {}
    callback = ss.ReduceOnPlateau(metric, patience=1, **mode)
    _, optimizer = run(tmp_path / "run", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 6, callback)
    assert optimizer.lr_scale == 1


@report(
    "atomistic-machine-learning/schnetpack#239",
    "a run that had stopped early trains for some more epochs each time that it is restored",
    "as documented: a resume is asked to go on, and early stopping ends it at the next epoch",
)
def test_a_stopped_run_that_is_resumed_stops_again(tmp_path):
    first, _ = run(tmp_path / "run", WORSE, 7, ss.EarlyStopping("val_loss", patience=2))
    callback = ss.EarlyStopping("val_loss", patience=2)
    again, _ = run(tmp_path / "run", WORSE[3:], 7, callback, resume=True)
    assert again.steps <= first.steps + 2


@report(
    "huggingface/transformers#132",
    "a run longer than its linear schedule gets a negative rate",
)
def test_no_schedule_is_negative_beyond_its_end():
    made = ss.schedules
    found = [
        made.linear(0.1, 0.0, 100),
        made.cosine(0.1, 0.0, 100),
        made.polynomial(0.1, 0.0, 100, power=1.0),
        made.warmup_cosine(0.1, 10, 100),
        made.linear(0.0, 0.1, 10).then(made.linear(0.1, 0.0, 90), at=10),
    ]
    for schedule in found:
        values = schedule.values(300)
        assert (values >= 0).all() and (values[100:] == values[100]).all()


@report(
    "h2oai/h2o-llmstudio#663",
    "the schedule moves at every accumulated batch: with 10 of them it is at its end after a tenth",
)
@pytest.mark.parametrize("every", [2, 5, 10])
def test_the_schedule_counts_updates(every):
    params = start()
    optimizer = ss.SGD(params, lr=ss.schedules.linear(0.1, 0.0, 100))
    batches = [(X[:4], Y[:4])] * (20 * every)
    ss.fit(value_and_grad, params, optimizer, batches, epochs=1, accumulate=every, progress=False)
    assert optimizer.step_count == 20 and optimizer.lr == pytest.approx(0.08)


def train(table, capsys, *options):
    words = ["train", str(table), "--target", "y", "--hidden", "0", "--epochs", "40", "--json"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main([*words, *options])
    return code, capsys.readouterr()


@report(
    "aden-hive/hive#2153",
    "of two columns of one name in a CSV file the first is silently lost",
)
def test_two_columns_of_one_name_are_not_merged(tmp_path, capsys):
    rows = [f"{a:.4f},{b:.4f},{3 * a - b:.4f}" for a, b in rng.normal(size=(80, 2))]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["a,a,y", *rows]) + "\n")
    code, said = train(table, capsys)
    assert (code != 0 and "'a'" in said.err) or json.loads(said.out)["final"]["val_r2"] > 0.9


@report(
    "ayrna/skordinal#149",
    "the first row of a table without a header is read as one, and lost",
)
def test_a_table_without_a_header_loses_no_row(tmp_path, capsys):
    rows = [f"{a:.4f},{b:.4f},{3 * a - b:.4f}" for a, b in rng.normal(size=(80, 2))]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    code = main(["train", str(table), "--target", "y", "--epochs", "1"])
    assert code != 0 and "header" in capsys.readouterr().err


@report(
    "scikit-learn/scikit-learn#17229",
    "bagging gives many rows a weight of 0: early stopping on such rows alone divides by 0",
    "refused by name: sample_weight is 0 in all rows held out",
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_bagging_with_early_stopping():
    def bagged(rows):
        model = sk.LinearClassifier(early_stopping=True, max_iter=20, random_state=0)
        labels = np.arange(rows) % 2
        data = np.c_[X[:rows], labels]
        found = BaggingClassifier(model, n_estimators=10, random_state=0).fit(data, labels)
        return found.predict_proba(data)

    assert np.isfinite(bagged(60)).all()
    with pytest.raises(ValueError, match="sample_weight is 0 in all 2 rows held out"):
        bagged(20)

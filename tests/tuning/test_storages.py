"""What keeps the runs: files and Optuna's storages, whose pruners are taken too."""

from __future__ import annotations

import json
import math

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import stepsize as ss
from stepsize.tuning.pruning import Quantiles, place
from stepsize.tuning.trials import Outcome, TrialRecord

# One file goes from one function to another here, which a test of its own looks at.
pytestmark = pytest.mark.filterwarnings("ignore:.* was begun with (function|method)")

SPACE = {
    "lr": ss.LogUniform(1e-4, 1.0),
    "depth": range(3, 9, 2),
    "rule": ss.Choice("sgd", "adam", None),
    "shape": ss.Choice((1, 2), "flat"),
}


def curve(point, trial):
    value = math.log10(point["lr"] / 0.03) ** 2 + (point["rule"] == "sgd")
    for step in range(6):
        trial.report(step, value + 1 / (1 + step))
    return value if point["lr"] > 3e-4 else math.nan


def rising(point, trial):
    for step in range(3):
        trial.report(step, -(math.log10(point["lr"] / 0.03) ** 2))
    return -(math.log10(point["lr"] / 0.03) ** 2)


STORAGES = {
    "file": lambda folder: folder / "runs",
    "url": lambda folder: f"sqlite:///{folder / 'runs.db'}",
    "journal": lambda folder: JournalStorage(JournalFileBackend(str(folder / "log"))),
    "backend": lambda folder: JournalFileBackend(str(folder / "log")),
    "study": lambda folder: optuna.create_study(study_name="mine"),
}


@pytest.mark.parametrize("name", STORAGES)
@pytest.mark.parametrize("method", ["random", "tpe", "lr"])
def test_a_search_goes_on_in_every_storage(name, method, tmp_path):
    storage = STORAGES[name](tmp_path)

    def go(trials, **more):
        return ss.tune(curve, SPACE, trials=trials, method=method, **more)

    first, whole = go(5, storage=storage), go(9, storage=storage)
    assert whole.trials[:5] == first.trials and len(whole.trials) == 9
    assert go(9, storage=storage).trials == whole.trials
    if method != "tpe":  # whose model draws anew when a search is resumed
        assert [t.point for t in whole.trials] == [t.point for t in go(9).trials]


def test_runs_of_optuna_itself_are_taken():
    study = optuna.create_study(direction="maximize")

    def objective(trial):
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        if trial.number == 1:
            raise optuna.TrialPruned
        return -(math.log10(lr / 0.03) ** 2) - (
            trial.suggest_categorical("rule", ["a", "b"]) == "a"
        )

    study.optimize(objective, n_trials=1)
    space = {"lr": ss.LogUniform(1e-4, 1.0), "rule": ss.Choice("a", "b")}
    told = ss.tune(
        lambda p: -(math.log10(p["lr"] / 0.03) ** 2) - (p["rule"] == "a"),
        space,
        trials=4,
        method="random",
        storage=study,
        direction="maximize",
    )
    assert told.trials[0].value == study.trials[0].value
    assert told.trials[0].point == study.trials[0].params
    assert study.best_value == told.best_value and study.best_params == told.best
    assert len(study.trials) == 4


def test_another_study_is_refused_in_words(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    ss.tune(curve, SPACE, trials=2, method="random", storage=url)
    study = optuna.load_study(study_name="stepsize", storage=url)
    with pytest.raises(ValueError, match="direction='maximize', but the study 'stepsize' was made"):
        ss.tune(curve, SPACE, trials=3, storage=study, direction="maximize")
    other = {
        "holds rule as one of 'sgd', 'adam', None, which is not one": {
            **SPACE,
            "rule": ss.Choice("sgd", "lion"),
        },
        "holds a search of": {"lr": SPACE["lr"]},
        "which is not in": {**SPACE, "lr": ss.LogUniform(1e-9, 1e-8)},
    }
    for words, space in other.items():
        with pytest.raises(ValueError, match=words):
            ss.tune(curve, space, trials=3, method="random", storage=url)


@pytest.mark.parametrize("name", ["url", "journal", "study"])
def test_two_searches_on_one_study_are_told_and_each_run_counts_once(name, tmp_path):
    storage, calls = STORAGES[name](tmp_path), []
    go = {"storage": storage, "progress": False}

    def inner(point):
        calls.append(point["k"])
        return float(point["k"])

    def outer(point):
        if not calls:
            ss.sweep(inner, {"k": [1, 2, 3]}, **go)
        return inner(point)

    with pytest.warns(RuntimeWarning, match="another program adds runs to the study .* same runs"):
        told = ss.sweep(outer, {"k": [1, 2, 3]}, **go)
    assert [t.value for t in told.trials] == [1, 2, 3] and len(calls) == 6
    again = ss.sweep(inner, {"k": [1, 2, 3]}, **go)
    assert [(t.number, t.value) for t in again.trials] == [(0, 1), (1, 2), (2, 3)]
    assert len(calls) == 6


PRUNERS = {
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=2),
    "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(),
    "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1),
    "threshold": lambda: optuna.pruners.ThresholdPruner(upper=2.0),
}


@pytest.mark.parametrize("name", PRUNERS)
def test_pruners_of_optuna_decide_alike_here_and_in_a_process(name):
    def go(**more):
        return ss.tune(curve, SPACE, trials=14, method="random", pruner=PRUNERS[name](), **more)

    here, there = go(), go(executor=1)
    assert [t.state for t in here.trials] == [t.state for t in there.trials]
    assert [t.reports for t in here.trials] == [t.reports for t in there.trials]
    stopped = [t for t in here.trials if t.state == "stopped"]
    assert stopped and all("Pruner prunes" in t.reason for t in stopped)
    assert any(t.state == "done" for t in here.trials)


def test_a_pruner_knows_the_direction_and_the_runs_that_were_kept(tmp_path):
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3)
    space = {"lr": ss.LogUniform(1e-4, 1.0)}
    keywords = {"method": "random", "direction": "maximize", "storage": tmp_path / "runs"}
    ss.tune(rising, space, trials=4, pruner="off", **keywords)
    told = ss.tune(rising, space, trials=20, pruner=pruner, **keywords)
    states = [t.state for t in told.trials]
    assert states[:4] == ["done"] * 4 and "stopped" in states[4:]
    stopped = [t.reports[0][1] for t in told.trials if t.state == "stopped"]
    done = [t.value for t in told.trials if t.state == "done"]
    assert np.median(stopped) < np.median(done) and max(stopped) < max(done) == told.best_value
    first = next(t for t in told.trials[4:] if t.state == "stopped")
    known = [t.value for t in told.trials[: first.number] if t.state == "done"]
    assert first.reports[0][1] < np.median(known)


def test_off_stops_none_and_a_sweep_never_does():
    told = ss.tune(curve, SPACE, trials=20, method="random", pruner="off")
    assert {t.state for t in told.trials} == {"done", "diverged"}
    swept = ss.sweep(curve, {"lr": list(np.geomspace(1e-3, 1, 12)), "rule": ["sgd", "adam"]})
    assert {t.state for t in swept.trials} == {"done"} and len(swept.trials[-1].reports) == 6


def test_options_may_move_between_two_parts_of_a_sweep(tmp_path):
    kept, calls = tmp_path / "runs", []

    def value(point):
        calls.append(point)
        return {"sgd": 3.0, "adam": 1.0, "lion": 2.0}[point["rule"]]

    ss.sweep(value, {"rule": ["sgd", "adam"]}, storage=kept)
    told = ss.sweep(value, {"rule": ["lion", "adam", "sgd"]}, storage=kept)
    assert {t.point["rule"]: t.value for t in told.trials} == {"sgd": 3, "adam": 1, "lion": 2}
    assert len(calls) == 3
    space = {"rule": ss.Choice("lion", "sgd", "adam")}
    again = ss.tune(value, space, trials=3, method="grid", storage=kept)
    assert again.best == {"rule": "adam"} and len(calls) == 3
    with pytest.raises(ValueError, match=r"holds a search with rule='sgd', which is not in"):
        ss.sweep(value, {"rule": ["lion", "adam"]}, storage=kept)


def test_values_of_every_kind_are_kept(tmp_path):
    values = [1, True, 1.0, None, "1", (1, 2), np.float32(0.5), [3], np.arange(2), math.nan, print]
    grid = {"x": values}
    count = []

    def value(point):
        count.append(point)
        return float(len(count))

    told = ss.sweep(value, grid, storage=tmp_path / "runs")
    assert [type(t.point["x"]) for t in told.trials[:6]] == [
        int,
        bool,
        float,
        type(None),
        str,
        tuple,
    ]
    again = ss.sweep(value, grid, storage=tmp_path / "runs")
    assert [t.value for t in again.trials] == [t.value for t in told.trials]
    assert len(count) == len(values)


def test_files_of_before_are_read(tmp_path):
    kept = tmp_path / "runs"
    point = {"lr": 0.01, "depth": 5, "rule": 1, "shape": 0}
    line = {"point": point, "value": 2.0, "state": "done", "reports": [], "seconds": 0.1}
    lost = {**line, "value": math.inf, "state": "diverged"}
    kept.write_text(json.dumps(line) + "\n" + json.dumps(lost) + "\n")
    told = ss.tune(curve, SPACE, trials=3, method="random", storage=kept)
    assert [t.number for t in told.trials] == [0, 1, 2]
    assert told.trials[0].point == {"lr": 0.01, "depth": 5, "rule": "adam", "shape": (1, 2)}
    assert told.trials[1].state == "diverged" and told.trials[2].number == 2


def test_a_number_that_never_came_back_is_asked_for_again(tmp_path):
    kept = tmp_path / "runs"
    whole = ss.tune(curve, SPACE, trials=8, method="random", pruner="off", storage=kept)
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join(lines[:3] + lines[6:]))
    again = ss.tune(curve, SPACE, trials=8, method="random", pruner="off", storage=kept)
    assert [t.point for t in again.trials] == [t.point for t in whole.trials]
    assert [t.number for t in again.trials] == list(range(8))


def test_the_place_of_a_quantile_is_that_of_numpy():
    for share in (1 / 2, 1 / 3):
        for count in range(1, 400):
            values = np.arange(count)
            assert place(count, share) == np.quantile(values, share, method="higher")


@pytest.mark.parametrize("asha", [False, True])
def test_limits_that_grow_run_by_run_are_those_of_all_runs(asha, random):
    growing, records = Quantiles([], asha), []
    for number in range(40):
        values = random.normal(size=random.integers(0, 10))
        values[random.random(len(values)) < 0.1] = math.nan
        reports = tuple((int(step), float(v)) for step, v in enumerate(values))
        records.append(TrialRecord({}, 1.0, "done", reports, 0.0, number))
        growing.tell(Outcome(records[-1]))
        judge = growing.judge(number + 1)
        for step in range(10):
            seen = [dict(r.reports).get(step) for r in records]
            seen = [math.inf if math.isnan(v) else v for v in seen if v is not None]
            if asha and step not in (0, 2, 8):
                seen = []
            limit = math.inf
            if len(seen) >= (3 if asha else 4):
                limit = np.quantile(seen, 1 / 3 if asha else 1 / 2, method="higher")
            if math.isfinite(limit):
                assert not judge.stops(step, limit)
                assert judge.stops(step, np.nextafter(limit, math.inf))
            else:
                assert not judge.stops(step, 1e300)

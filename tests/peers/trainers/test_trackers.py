"""MLflow and Weights & Biases themselves, writing to a folder."""

import re
import struct
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
import wandb
from wandb.proto import wandb_internal_pb2

import stepsize as ss
from fitting import X, Y, bits, fit, make_params

# What the libraries themselves warn of.
pytestmark = pytest.mark.filterwarnings("ignore:::sqlalchemy", "ignore:::mlflow", "ignore:::wandb")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database of MLflow, which takes seconds to be made."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Both write into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "kept"))
    yield
    mlflow.set_tracking_uri(None)


class Fail:
    def on_step(self, run):
        if run.step == 9:
            raise RuntimeError("broken callback")


def trained(callback, lr=0.1, **options):
    params = make_params()
    callbacks = [callback, *options.pop("more", ())]
    return fit(params, ss.Adam(params, lr=lr), callbacks=callbacks, **options)


# MLflow.


def read(history, database):
    client = mlflow.MlflowClient(tracking_uri=database)
    run = client.get_run(history.meta["trackers"][-1][2])
    return client, run


def curve(client, run, name):
    return [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]


def test_mlflow_has_settings_curves_diagnosis_and_files(database, tmp_path):
    history = trained(ss.MLflow("all", uri=database, name="first"), validation=(X, Y), epochs=5)
    client, run = read(history, database)
    assert run.info.run_name == "first" and run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "all"
    assert run.data.params["rule"] == "Adam" and run.data.params["lr"] == "0.1"
    assert run.data.params["batch_size"] == "8" and run.data.params["betas"] == "[0.9, 0.999]"
    assert curve(client, run, "loss") == list(enumerate(history["loss"].tolist(), 1))
    assert curve(client, run, "val_loss")[-1] == (25, history.last("val_loss"))
    assert curve(client, run, "epoch/epoch") == [(5 * i, i) for i in range(1, 6)]
    judged = ss.diagnose(history)
    assert run.data.tags["diagnosis"] == judged.verdict
    assert run.data.tags["mlflow.note.content"] == str(judged)
    assert run.data.tags["stopped"] == "finished 5 epochs"
    files = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert files == {"history.safetensors", "history.csv", "report.html"}
    path = client.download_artifacts(run.info.run_id, "history.safetensors", str(tmp_path))
    assert ss.History.load(path) == history


def test_a_resumed_run_goes_on_in_mlflow(database, tmp_path):
    def mlflow_callback():
        return ss.MLflow("resumed", uri=database)

    keeper = ss.Checkpoint(tmp_path / "c", every_steps=7, every_epochs=None)
    with pytest.raises(RuntimeError):
        trained(mlflow_callback(), checkpoint=keeper, more=[Fail()])
    client = mlflow.MlflowClient(tracking_uri=database)
    (failed,) = client.search_runs([client.get_experiment_by_name("resumed").experiment_id])
    assert failed.info.status == "FAILED" and "broken" in failed.data.tags["stopped"]
    kept = (tmp_path / "c").read_bytes()
    history = trained(mlflow_callback(), checkpoint=keeper, resume=True)
    client, run = read(history, database)
    assert run.info.run_id == failed.info.run_id and run.info.status == "FINISHED"
    assert curve(client, run, "loss") == list(enumerate(history["loss"].tolist(), 1))
    assert "lr from step 9" not in run.data.tags
    # Once more from there, as if it had been killed, at another rate: what differs is told.
    (tmp_path / "c").write_bytes(kept)
    with pytest.warns(ss.training.resume.ResumeWarning):
        again = trained(mlflow_callback(), lr=0.2, checkpoint=keeper, resume=True)
    client, run = read(again, database)
    assert run.info.run_id == failed.info.run_id and run.data.tags["lr from step 9"] == "0.2"
    assert set(enumerate(again["loss"].tolist(), 1)) <= set(curve(client, run, "loss"))


def test_a_run_that_somebody_deleted_is_started_anew(database, tmp_path):
    first = trained(ss.MLflow(uri=database), checkpoint=tmp_path / "c")
    client, run = read(first, database)
    client.delete_run(run.info.run_id)
    second = trained(ss.MLflow(uri=database), checkpoint=tmp_path / "c", resume=True, epochs=4)
    client, other = read(second, database)
    assert other.info.run_id != run.info.run_id and other.info.status == "FINISHED"


def test_the_active_run_is_used_and_left_open(database):
    mlflow.set_tracking_uri(database)
    with mlflow.start_run() as active:
        history = trained(ss.MLflow())
        assert mlflow.active_run().info.run_id == active.info.run_id
        mlflow.log_metric("after", 1.0)
    _, run = read(history, database)
    assert run.info.run_id == active.info.run_id and run.data.metrics["after"] == 1
    assert "mlflow.note.content" not in run.data.tags and run.data.tags["diagnosis"]


def test_names_and_numbers_of_any_kind(database):
    values = {"f1@5": 0.5, "f1_5": 0.25, "größe": float("nan"), "top": float("inf"), "x" * 300: 1.0}

    class Odd:
        def on_epoch(self, run):
            for name, value in values.items():
                run.metrics[name] = value

    params = make_params()
    fit_options = {"callbacks": [Odd(), ss.MLflow("odd", uri=database)], "epochs": 1}
    history = fit(params, ss.SGD(params, lr=ss.schedules.constant(0.01) * 2), **fit_options)
    _, run = read(history, database)
    found = {name: value for name, value in run.data.metrics.items() if name.startswith("epoch/")}
    assert found["epoch/f1_5"] != found["epoch/f1_5_"] and len(found) == 3 + len(values)
    assert np.isnan(found["epoch/gr__e"])


def test_no_server(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    whole, params = make_params(), make_params()
    fit(whole)
    callback = ss.MLflow("none", uri="http://127.0.0.1:9")
    with pytest.warns(UserWarning) as told:
        history = fit(params, callbacks=[callback])
    assert "MLflow: logging failed at step 0" in str(told[0].message) and len(told) == 2
    assert bits(params) == bits(whole) and history.stopped == "finished 3 epochs"


# Weights & Biases.


def records(path):
    """What is in a file of wandb: the log of LevelDB, of records in protobuf's coding."""
    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        rest = 32768 - place % 32768
        if rest < 7:
            place += rest
            continue
        size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        if place + 7 + size > len(data):
            return  # its writer is at it
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def written(folder, name, ends=1):
    """Config, rows, summary and exit codes of the runs of a name, oldest first.

    A process of wandb writes them, the end of a run somewhat after it has ended here.
    """
    for _ in range(300):
        found = read_once(folder, name)
        if len(found[-1]) >= ends:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{found[-1]} ends of {name} among {sorted(folder.rglob('*.wandb'))}")


def read_once(folder, name):
    config, rows, summary, codes = {}, [], {}, []
    # Two runs of one second and name are told apart by a number at the end.
    for path in sorted(folder.glob(f"wandb/offline-run-*-{name}*/run-{name}.wandb")):
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "config":
                config |= {i.key: i.value_json for i in record.config.update}
            elif kind == "history":
                found = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
                rows.append({k: float(v) for k, v in found.items() if k[0] != "_"})
            elif kind == "summary":
                summary |= {i.key: i.value_json for i in record.summary.update}
            elif kind == "exit":
                codes.append(record.exit.exit_code)
    return config, rows, summary, codes


def of(rows, name):
    return [(row["step"], row[name]) for row in rows if name in row]


def test_wandb_has_settings_curves_diagnosis_and_files(tmp_path):
    callback = ss.WandB("all", folder=tmp_path, name="first")
    history = trained(callback, validation=(X, Y), epochs=5)
    name = history.meta["trackers"][0][2]
    config, rows, summary, codes = written(tmp_path, name)
    assert config["rule"] == '"Adam"' and config["lr"] == "0.1" and config["batch_size"] == "8"
    assert of(rows, "loss") == list(enumerate(history["loss"].tolist(), 1))
    assert of(rows, "val_loss")[-1] == (25, history.last("val_loss"))
    judged = ss.diagnose(history)
    assert summary["diagnosis"] == f'"{judged.verdict}"' and codes == [0]
    assert summary["stopped"] == '"finished 5 epochs"' and "diagnosis_text" in summary
    (folder,) = tmp_path.glob(f"wandb/offline-run-*-{name}/files")
    assert ss.History.load(folder / "history.safetensors") == history
    assert "</html>" in (folder / "report.html").read_text("utf-8")
    assert wandb.run is None


def test_a_resumed_run_goes_on_in_wandb(tmp_path):
    keeper = ss.Checkpoint(tmp_path / "c", every_steps=7, every_epochs=None)
    with pytest.raises(RuntimeError):
        trained(ss.WandB("p", folder=tmp_path), checkpoint=keeper, more=[Fail()])
    history = trained(ss.WandB("p", folder=tmp_path), checkpoint=keeper, resume=True)
    (name,) = {each[2] for each in history.meta["trackers"]}
    _, rows, _, codes = written(tmp_path, name, ends=2)
    assert codes == [1, 0]
    assert dict(of(rows, "loss")) == dict(enumerate(history["loss"].tolist(), 1))


def test_the_active_run_of_wandb_is_used_and_left_open(tmp_path):
    with wandb.init(project="mine", dir=tmp_path) as active:
        history = trained(ss.WandB())
        assert history.meta["trackers"][0][2] == active.id
        active.log({"after": 1.0})
    _, rows, _, codes = written(tmp_path, active.id)
    assert codes == [0] and any("after" in row for row in rows)


def test_wandb_that_cannot_start(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    whole, params = make_params(), make_params()
    fit(whole)
    with pytest.warns(UserWarning) as told:
        fit(params, callbacks=[ss.WandB("p", folder=tmp_path, mode="online")])
    assert "WandB: logging failed at step 0" in str(told[0].message) and len(told) == 2
    assert bits(params) == bits(whole)


def test_the_page_runs(database):
    wandb.teardown()  # it would stay in the folder of the first run of the process
    page = (Path(__file__).parents[3] / "docs" / "trackers.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scope = {"__name__": "page"}
    for block in blocks:
        exec(compile(block.replace("sqlite:///mlflow.db", database), "trackers.md", "exec"), scope)
    client = mlflow.MlflowClient(tracking_uri=database)
    found = client.search_runs([client.get_experiment_by_name("regression").experiment_id])
    assert len(found) == 2 and all(run.info.status == "FINISHED" for run in found)
    assert sorted(run.data.metrics["epoch/epoch"] for run in found) == [5, 10]
    assert all(run.data.params["lr"].startswith("one_cycle(0.05, 130") for run in found)
    assert client.get_run(scope["run"].info.run_id).data.metrics["after"] == 1
    assert len(list(Path("wandb").glob("offline-run-*"))) == 1

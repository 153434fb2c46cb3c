"""Runs in MLflow."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stepsize.callbacks.trackers import Row, Summary, TrackTo
from stepsize.validation import text_or_none, truth

__all__ = ["MLflow"]

AT_ONCE = 1000  # metrics that MLflow takes in one call; of parameters a tenth
LONGEST = 6000  # characters of a parameter


class MLflow(TrackTo):
    """Track the run in MLflow (needs mlflow).

    Written are the rule, the rate or its schedule, batch size and other settings as parameters;
    the curves; at the end the verdict of `diagnose` as the tag ``diagnosis``, the whole of it as
    the description of the run, why the run ended as the tag ``stopped``, and as artifacts
    ``history.safetensors``, ``history.csv`` and ``report.html``. A run that ends by an exception
    has the status FAILED. A resumed run goes on in its run of MLflow.

    What fails in MLflow is warned of once and does not end the training.

    Args:
        experiment: the experiment, made if there is none of that name; None is MLflow's default,
            or the run that is active where there is one, which is then neither described nor ended.
        uri: the tracking server or folder, as of ``mlflow.set_tracking_uri``; None takes what is
            set there.
        name: of the run; None leaves it to MLflow.
        every: log after every so many steps; None logs validations and epochs only.
        artifacts: whether to write history and report.
    """

    def __init__(
        self,
        experiment: str | None = None,
        *,
        uri: str | os.PathLike[str] | None = None,
        name: str | None = None,
        every: int | None = 1,
        artifacts: bool = True,
    ) -> None:
        experiment = text_or_none("MLflow: experiment", experiment)
        uri = os.fspath(uri) if isinstance(uri, os.PathLike) else uri
        tracker = _Run(
            experiment, text_or_none("MLflow: uri", uri), text_or_none("MLflow: name", name)
        )
        super().__init__(tracker, every, truth("MLflow: artifacts", artifacts))
        tracker.load()


class _Run:
    def __init__(self, experiment: str | None, uri: str | None, name: str | None) -> None:
        self._experiment = experiment
        self._uri = uri
        self._name = name
        self._client: Any = None
        self._id = ""
        self._owned = True
        self._names: dict[str, str] = {}
        self._there: dict[str, set[tuple[int, str]]] | None = None

    def load(self) -> None:
        try:
            import mlflow
        except ImportError:
            raise ImportError('MLflow needs mlflow: pip install "stepsize[mlflow]"') from None
        self._mlflow: Any = mlflow

    @property
    def place(self) -> str:
        return f"{self._uri or self._mlflow.get_tracking_uri()} {self._experiment or ''}".strip()

    def open(self, known: str | None, settings: Mapping[str, Any], step: int) -> str:
        self._client = self._mlflow.MlflowClient(tracking_uri=self._uri)
        active = self._mlflow.active_run()
        self._owned = active is None or (self._experiment or self._uri or self._name) is not None
        run = self._known(known) if self._owned else active
        self._there = None if run is None else {}
        if run is None:
            run = self._client.create_run(self._experiment_id(), run_name=self._name)
        elif self._owned:
            self._client.update_run(run.info.run_id, status="RUNNING")
        self._id = run.info.run_id
        self._describe(settings, run.data.params, step)
        return str(self._id)

    def _known(self, name: str | None) -> Any:
        """The run of before, None where somebody has deleted it."""
        if name is None:
            return None
        try:
            run = self._client.get_run(name)
        except self._mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def _experiment_id(self) -> str:
        name, client = self._experiment, self._client
        if name is None:  # "0" is the default one of every store
            own = self._uri is not None
            return "0" if own else str(self._mlflow.tracking.fluent._get_experiment_id())
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name))
            except self._mlflow.MlflowException:
                found = client.get_experiment_by_name(name)  # another process was faster
                if found is None:
                    raise
        return str(found.experiment_id)

    def _describe(self, settings: Mapping[str, Any], there: Mapping[str, str], step: int) -> None:
        """Write the settings; one that has changed since the run began is a tag that says where."""
        texts = {clean(name): str(value)[:LONGEST] for name, value in settings.items()}
        params = [(k, v) for k, v in texts.items() if k not in there]
        tags = {f"{k} from step {step}": v for k, v in texts.items() if there.get(k, v) != v}
        entities = self._mlflow.entities
        for i in range(0, len(params), AT_ONCE // 10):
            part = [entities.Param(k, v) for k, v in params[i : i + AT_ONCE // 10]]
            self._client.log_batch(self._id, params=part)
        for key, value in tags.items():
            self._client.set_tag(self._id, key, value)

    def write(self, rows: Sequence[Row]) -> None:
        metric = self._mlflow.entities.Metric
        metrics = [
            metric(name, value, int(row.seconds * 1000), row.step)
            for row in rows
            for name, value in self._named(row.values).items()
            if not self._is_there(name, value, row.step)
        ]
        try:
            for i in range(0, len(metrics), AT_ONCE):
                self._client.log_batch(self._id, metrics=metrics[i : i + AT_ONCE])
        except Exception:
            self._there = {}  # a server may have written what it did not answer
            raise

    def _named(self, values: Mapping[str, float]) -> dict[str, float]:
        """The values by names that MLflow takes, each its own."""
        for name in values:
            if name not in self._names:
                new = clean(name)
                while new in self._names.values():
                    new += "_"
                self._names[name] = new
        return {self._names[name]: value for name, value in values.items()}

    def _is_there(self, name: str, value: float, step: int) -> bool:
        """Whether a run that was cut off after its checkpoint wrote the same value already."""
        if self._there is None:
            return False
        if name not in self._there:
            written = self._client.get_metric_history(self._id, name)
            self._there[name] = {(each.step, repr(each.value)) for each in written}
        return (step, repr(float(value))) in self._there[name]

    def close(self, summary: Summary) -> None:
        for key, value in (("diagnosis", summary.verdict), ("stopped", summary.stopped)):
            self._client.set_tag(self._id, key, value[:LONGEST])
        for path in summary.files:
            self._client.log_artifact(self._id, path)
        if self._owned:
            self._client.set_tag(self._id, "mlflow.note.content", summary.diagnosis[:LONGEST])
            status = "FAILED" if summary.failed else "FINISHED"
            self._client.set_terminated(self._id, status=status)


def clean(name: str) -> str:
    """A name of letters, digits and what else MLflow allows in one."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)[:250]

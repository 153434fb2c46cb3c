"""Optuna's storages and pruners under a search: asked and told by the driver alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from stepsize.tuning.identity import exact
from stepsize.tuning.origin import Origin
from stepsize.tuning.pruning import Never, Pruning, Quantiles
from stepsize.tuning.space import Choice, LogUniform, Places, Space, described, shown
from stepsize.tuning.storage import JsonLines, Nowhere, Store, placed, worst
from stepsize.tuning.trials import Judge, Outcome, TrialRecord

NAME = "stepsize"  # of the study in a storage, and of what a trial keeps for us
PLAIN = (type(None), bool, int, float, str)  # options that Optuna keeps as they are


def _optuna(what: str, label: str = "tune") -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(f'{label}: {what} needs Optuna: pip install "stepsize[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def distribution(values: Any, options: bool = False) -> Any:
    """What Optuna calls a range or choice: a choice by indices, or by its `options` themselves."""
    from optuna import distributions

    if isinstance(values, Choice):
        if options and _are_plain(values):
            return distributions.CategoricalDistribution(values.options)
        return distributions.CategoricalDistribution(tuple(range(len(values.options))))
    log = isinstance(values, LogUniform)
    if values.whole:
        step = 1 if isinstance(values, LogUniform) else values.step
        last = int(values.nearest(values.high))
        return distributions.IntDistribution(int(values.low), last, log=log, step=step)
    return distributions.FloatDistribution(values.low, values.high, log=log)


def _are_plain(values: Choice) -> bool:
    return all(isinstance(option, PLAIN) for option in values.options)


def store_of(storage: Any, space: Space, origin: Origin) -> Store:
    """Where a search keeps its runs: nowhere, in a file, or in a study of Optuna."""
    if storage is None:
        return Nowhere()
    url = isinstance(storage, str) and "://" in storage
    if not url and not any(hasattr(storage, n) for n in ("create_new_study", "read_logs", "tell")):
        return JsonLines(storage, space, origin)
    optuna = _optuna("this storage", origin.label)
    if hasattr(storage, "tell"):
        return OptunaStore(storage, space, origin)
    if hasattr(storage, "read_logs"):
        storage = optuna.storages.JournalStorage(storage)
    try:
        study = optuna.create_study(
            storage=storage, study_name=NAME, direction=origin.direction, load_if_exists=True
        )
    except ImportError as error:  # of the driver of a database
        raise ImportError(f"{origin.label}: storage {storage!r:.80}: {error}") from error
    return OptunaStore(study, space, origin)


class OptunaStore:
    """A study of Optuna, in any storage of its own, that the runs of a search are added to."""

    def __init__(self, study: Any, space: Space, origin: Origin) -> None:
        self._study, self._space, self._origin = study, space, origin
        self._where = f"the study {study.study_name!r}"
        if study.direction.name.lower() != origin.direction:
            raise ValueError(
                f"{origin.label}: direction={origin.direction!r}, but {self._where} was made to "
                f"{study.direction.name.lower()}; give that direction or another study"
            )
        self._places = Places(space)
        self._places.check(origin.label)
        self._spans = {name: distribution(v, options=True) for name, v in space.items()}
        self._empty, self._count, self._said = False, 0, False

    def read(self) -> list[TrialRecord]:
        trials = self._study.get_trials()
        self._empty, self._count = not trials, len(trials)
        if trials:
            self._origin.check(self._study.user_attrs.get(NAME), self._where)
        return [self._record(t) for t in trials if t.state.is_finished()]

    def close(self) -> None:
        pass  # Optuna's storages are made for many writers

    def _record(self, trial: Any) -> TrialRecord:
        from optuna.distributions import check_distribution_compatibility

        for name in set(trial.distributions) & set(self._spans):
            try:
                check_distribution_compatibility(trial.distributions[name], self._spans[name])
            except ValueError as error:
                raise ValueError(
                    f"{self._origin.label}: {self._where} holds {name} as "
                    f"{_in_words(trial.distributions[name])}, which is not "
                    f"{described(self._space[name])}; give another study for this "
                    f"{self._origin.grid}"
                ) from error
        plain = dict(trial.params)
        kept = trial.user_attrs.get(NAME, {})
        options: dict[str, str] = dict(kept.get("options", {}))
        for name, values in self._space.items():
            if isinstance(values, Choice) and name in plain and _are_plain(values):
                options[name] = str(exact(plain[name]))
            elif isinstance(values, Choice) and name in plain and name not in options:
                options[name] = shown(values.options[plain[name]])  # of before: by its place
        point = placed(plain, options, self._space, self._places, self._where, self._origin)
        known = {"COMPLETE": "done", "PRUNED": "stopped", "FAIL": "failed"}[trial.state.name]
        state = kept.get("state", known)
        more = {n: kept[n] for n in ("number", "reason", "verdict") if n in kept}
        took = trial.duration.total_seconds() if trial.duration else 0.0
        return TrialRecord(
            point,
            trial.value if state == "done" else worst(self._origin.direction),
            state,
            tuple(sorted(trial.intermediate_values.items())),
            kept.get("seconds", took),
            **more,
        )

    def append(self, record: TrialRecord) -> None:
        point, coded = record.point, self._places.coded(record.point)
        as_it_is = {n: not isinstance(v, Choice) or _are_plain(v) for n, v in self._space.items()}
        params = {n: point[n] if plain else coded[n] for n, plain in as_it_is.items()}
        texts = self._places.options(point)
        kept = ("state", "seconds", "number", "reason", "verdict")
        if self._empty:
            self._study.set_user_attr(NAME, self._origin.kept())
            self._empty = False
        self._study.add_trial(
            _frozen(
                record,
                params=params,
                distributions=self._spans,
                user_attrs={NAME: {n: getattr(record, n) for n in kept} | {"options": texts}},
            )
        )
        self._count += 1
        self._look_for_others()

    def _look_for_others(self) -> None:
        """Warn, once, of runs that came from elsewhere: two searches do not share their work."""
        if self._said or len(self._study.get_trials(deepcopy=False)) <= self._count:
            return
        self._said = True
        warnings.warn(
            f"{self._origin.label}: another program adds runs to {self._where}; two searches on "
            "one storage make the same runs, each of which counts once, and share no work: give "
            "one of them all workers, or each a storage of its own",
            RuntimeWarning,
            stacklevel=7,
        )


def _in_words(span: Any) -> str:
    """A distribution of Optuna in words: a choice by its options."""
    options = getattr(span, "choices", None)
    return str(span) if options is None else described(Choice(*options))


def _frozen(record: TrialRecord, **more: Any) -> Any:
    """A record as a trial of Optuna that has ended."""
    import optuna

    states = optuna.trial.TrialState
    state = {"done": states.COMPLETE, "failed": states.FAIL, "killed": states.FAIL}
    return optuna.trial.create_trial(
        value=record.value if record.state == "done" else None,
        state=state.get(record.state, states.PRUNED),
        intermediate_values=dict(record.reports),
        **more,
    )


def pruning_of(pruner: Any, records: Sequence[TrialRecord], method: str, direction: str) -> Pruning:
    """What stops bad runs: quantiles of the others, nothing, or a pruner of Optuna."""
    sign = -1 if direction == "maximize" else 1
    if isinstance(pruner, str) and pruner == "off":
        return Never()
    if isinstance(pruner, str) and pruner == "auto":
        return Quantiles(records, method in ("halving", "lr"), sign)
    if not hasattr(pruner, "prune"):
        raise TypeError(
            f"tune: pruner must be 'auto', 'off' or a pruner of Optuna, got {pruner!r:.80}"
        )
    return OptunaPruning(pruner, records, direction)


class OptunaPruning:
    """A pruner of Optuna, with a study in memory that holds the runs which reported something."""

    def __init__(self, pruner: Any, records: Sequence[TrialRecord], direction: str) -> None:
        self._sign = -1 if direction == "maximize" else 1
        optuna = _optuna("pruner")
        self._study = optuna.create_study(study_name=NAME, pruner=pruner, direction=direction)
        self._judges: dict[int, OptunaJudge] = {}
        for record in records:
            if record.reports:
                self._study.add_trial(_frozen(record.times(self._sign)))

    def judge(self, number: int) -> Judge:
        self._judges[number] = judge = OptunaJudge(self._study)
        return judge

    def tell(self, outcome: Outcome) -> None:
        record = outcome.record.times(self._sign)
        trial = self._judges.pop(record.number).trial
        if trial is not None:  # it ran in this process, in this study
            done = record.state == "done"
            states = _optuna("pruner").trial.TrialState
            self._study.tell(trial, record.value if done else None, None if done else states.PRUNED)
        elif record.reports:
            self._study.add_trial(_frozen(record, system_attrs=dict(outcome.attributes or {})))


class OptunaJudge:
    """Asks a pruner; in another process with a copy of the study as the run was sent."""

    def __init__(self, study: Any) -> None:
        self._study = study
        self.trial: Any = None

    def __getstate__(self) -> dict[str, Any]:
        study = self._study
        return {
            "pruner": study.pruner,
            "direction": study.direction,
            "trials": [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        optuna = _optuna("pruner")
        self._study = optuna.create_study(
            study_name=NAME, pruner=state["pruner"], direction=state["direction"]
        )
        self._study.add_trials(state["trials"])
        self.trial = None

    def stops(self, step: int, value: float) -> str:
        if self.trial is None:
            self.trial = self._study.ask()
        self.trial.report(value, step)
        if not self.trial.should_prune():
            return ""
        return f"{value:.4g} at step {step}, which {type(self._study.pruner).__name__} prunes"

    def attributes(self) -> dict[str, Any]:
        if self.trial is None:
            return {}
        # What a pruner noted of a trial, only the frozen trial tells.
        return dict(self._study.get_trials(deepcopy=False)[self.trial.number].system_attrs)

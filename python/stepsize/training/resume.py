"""Resuming a run from its checkpoint: what must be alike, and what is used as it is given now."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from stepsize import arrays
from stepsize.rng import check_rng_states
from stepsize.serialization import nested, states
from stepsize.serialization.functions import without_address
from stepsize.training.batches import ArrayBatches
from stepsize.training.fingerprint import difference
from stepsize.training.given import differences
from stepsize.training.history import History
from stepsize.training.run import Run, stateful
from stepsize.training.saving import check_params
from stepsize.validation import counted, is_text, number, truth, whole

SETTINGS = ("batch_size", "accumulate", "drop_last")  # of fit, which a resumed run may change


class ResumeWarning(UserWarning):
    """A resumed run uses other arguments than the run that it continues."""


def load(run: Run, path: str | os.PathLike[str], epochs: float, steps: float) -> None:
    """Continue from a file that `Run.save` wrote; a file that does not fit changes nothing.

    Hyperparameters, options of the optimizer and its wrappers, batch size and accumulation that
    differ from those the run was started with are used as they are given now, and a `ResumeWarning`
    says so. Where no step is left up to so many epochs and steps nothing can be used: the run stays
    as it is, and the warning says that.
    """
    state = run.on_first("fit: resume", lambda: nested.load(path, "run"))
    given, current = run.history.meta, run.optimizer.state_dict()
    with nested.contents_of(path):
        state = _completed(state)
        check(run, state, current["rule"])
        started = dict(state["history"]["meta"])
        _check_told(started)
        changes = _changes(given, started)
        cursor = state["cursor"]
        others = differences(cursor.get("given"), run.given) if run.given else {}
        others = run.on_first("fit: resume", lambda: others)  # closures may hold a rank
        over = cursor["finished"] or cursor["epoch"] >= epochs or cursor["step"] >= steps
        if not over:
            state = _with_given(state, changes, current["groups"])
        run.load_state_dict(state)
    if over:
        names = [f"{where}{name}" for where, name, _, _ in changes]
        _nothing_left(run, path, [*names, *(name for name in others if name not in names)])
        return
    before = _parts(cursor.get("validation"))
    if before and before != run.validation:
        others.pop("evaluate", None)
        warnings.warn(
            f"the validation is not that of the run in {os.fspath(path)}: it was "
            f"{_validated(before)} and is {_validated(run.validation)}; what was best before, such "
            "as for early stopping, was measured otherwise than what follows",
            ResumeWarning,
            stacklevel=3,
        )
    other = difference(cursor.get("data"), run.data)
    if other:
        warnings.warn(
            f"the training data are not those of the run in {os.fspath(path)}: {other}; from step "
            f"{run.step} on it goes on with those given now, and its history is of both",
            ResumeWarning,
            stacklevel=3,
        )
    if any(name == "batch_size" for _, name, _, _ in changes):
        run.batch_size = given["batch_size"]
    meta = run.history.meta
    meta |= {name: given[name] for name in ("groups", "options", *SETTINGS)}
    meta["resumed"] = [*meta.get("resumed", ()), run.step]
    texts = [
        f"{where}{name}={new!r} instead of {old!r}"
        for where, name, old, new in changes
        if f"{where}{name}" not in others
    ] + list(others.values())
    if texts:
        meta["changed"] = [*meta.get("changed", ()), [run.step, texts]]
        warnings.warn(
            f"the resumed run differs from the one in {os.fspath(path)}; from step {run.step} on "
            f"it uses {', '.join(texts)}",
            ResumeWarning,
            stacklevel=3,
        )


def _parts(saved: Any) -> list[list[Any]]:
    """The fingerprint of a validation from a file; empty where there is none that can be read."""
    given = saved if isinstance(saved, list | tuple) else ()
    parts = [list(part) for part in given if isinstance(part, list | tuple) and len(part) == 3]
    return parts if len(parts) == len(given) > 1 else []


def _validated(parts: list[list[Any]] | None) -> str:
    """A fingerprint of a validation in words."""
    if not parts:
        return "none"
    (kind, name, _), (_, every, _), *data = parts
    how = f"{kind} {name}".rstrip()
    often = "each epoch" if every == "None" else f"every {every} steps"
    sums = ", ".join(f"{dtype}{shape} (checksum {crc})" for shape, dtype, crc in data)
    return f"{how} after {often} on {sums or 'a stream'}"


def _check_told(meta: Mapping[str, Any]) -> None:
    """Refuse what a file tells of the run before where a run that goes on cannot use it."""
    for name, check in _TOLD.items():
        if name in meta:
            try:
                check(f"meta: {name}", meta[name])
            except TypeError as error:
                raise ValueError(str(error)) from None
        elif name == "groups":
            raise ValueError("meta: groups is missing: it is no history that fit wrote")


def _seconds(label: str, value: Any) -> float:
    return number(label, value, 0.0)


def _group(label: str, value: Any) -> Any:
    if not isinstance(states.mapping(label, value).get("hyperparams"), Mapping):
        raise ValueError(f"{label} must hold a dict, hyperparams, got {value!r:.80}")
    return value


def _named(label: str, value: Any) -> Any:
    """The options of one wrapper or rule, by its name."""
    pair = isinstance(value, list | tuple) and len(value) == 2
    if not pair or not isinstance(value[0], str) or not isinstance(value[1], Mapping):
        raise ValueError(f"{label} must be a name and a dict of options, got {value!r:.80}")
    return value


def _change(label: str, value: Any) -> Any:
    """A step, and what changed there in words."""
    pair = isinstance(value, list | tuple) and len(value) == 2
    if not pair or not isinstance(value[1], list | tuple) or not all(map(is_text, value[1])):
        raise ValueError(f"{label} must be a step and a list of texts, got {value!r:.80}")
    states.count(f"{label}: its step", value[0])
    return value


def _tracked(label: str, value: Any) -> Any:
    """A tracker, where its runs go, and the name of this one there."""
    listed = isinstance(value, list | tuple)
    if not listed or len(value) != 3 or not all(map(is_text, value)):
        raise ValueError(f"{label} must be a list of three texts, got {value!r:.80}")
    return value


_TOLD: dict[str, states.Check] = {
    "groups": states.each(_group),
    "options": states.optional(states.each(_named)),
    "batch_size": states.optional(whole),
    "accumulate": whole,
    "drop_last": truth,
    "seconds": _seconds,
    "skipped": states.count,
    "resumed": states.each(states.count),
    "changed": states.each(_change),
    "trackers": states.each(_tracked),
}


def _nothing_left(run: Run, path: str | os.PathLike[str], changed: list[str]) -> None:
    """Say that what was given otherwise is not used, since no step was left to use it in."""
    if not changed:
        return
    move = "give resume=False to start from scratch"
    if not run.finished:
        move = f"give more epochs or steps to go on, or {move[5:]}"
    warnings.warn(
        f"nothing was left to do: the run in {os.fspath(path)} has made "
        f"{counted(run.step, 'step')} in {counted(run.epoch, 'epoch')} and is over; "
        f"{', '.join(changed)} as given now "
        f"{'is' if len(changed) == 1 else 'are'} not used; {move}",
        ResumeWarning,
        stacklevel=4,
    )


Change = tuple[str, str, Any, Any]  # where, name, old, new


def _changes(given: Mapping[str, Any], started: Mapping[str, Any]) -> list[Change]:
    """What is given otherwise than it was when the run was started; callbacks may have changed
    it since, which counts as part of the run."""
    changes: list[Change] = []
    if len(started["groups"]) != len(given["groups"]):
        return changes  # the optimizer says what differs
    pairs = zip(started["groups"], given["groups"], strict=True)
    for k, (old, new) in enumerate(pairs):
        where = f"group {k}: " if len(given["groups"]) > 1 else ""
        for name, value in new["hyperparams"].items():
            before = old["hyperparams"].get(name, value)
            if _addressless(before) != _addressless(value):
                changes.append((where, name, before, value))
    changes += _changed_options(started.get("options"), given["options"])
    for name in SETTINGS:
        before = started.get(name, given[name])
        if before != given[name]:
            changes.append(("", name, before, given[name]))
    return changes


def _changed_options(started: Any, given: list[Any]) -> list[Change]:
    """What no state holds: options of the rule and arguments of its wrappers."""
    if started is None or [name for name, _ in started] != [name for name, _ in given]:
        return []  # an older file, or one that the optimizer refuses
    changes: list[Change] = []
    for i, ((owner, old), (_, new)) in enumerate(zip(started, given, strict=True)):
        where = "" if i == len(given) - 1 else f"{owner}: "
        names = [n for n in new if _addressless(old.get(n, new[n])) != _addressless(new[n])]
        changes += [(where, name, old[name], new[name]) for name in names]
    return changes


def _addressless(value: Any) -> Any:
    """A value of a history without places in memory, which files of before may hold."""
    if isinstance(value, Mapping):
        return {name: _addressless(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_addressless(part) for part in value]
    return without_address(value) if isinstance(value, str) else value


def _with_given(state: dict[str, Any], changes: list[Change], current: list[Any]) -> dict[str, Any]:
    """The state with the hyperparameters that are given otherwise now."""
    if not changes:
        return state
    optimizer = dict(state["optimizer"])
    groups = []
    for k, (saved, here) in enumerate(zip(optimizer["groups"], current, strict=True)):
        prefix = f"group {k}: " if len(current) > 1 else ""
        changed = {name for where, name, _, _ in changes if where == prefix}
        own = {name: here["hyperparams"][name] for name in changed & set(here["hyperparams"])}
        groups.append({**saved, "hyperparams": {**saved["hyperparams"], **own}})
    return {**state, "optimizer": {**optimizer, "groups": groups}}


def check(run: Run, state: Mapping[str, Any], rule: str) -> None:
    """Refuse a state of another rule, other parameters, callbacks, seed or training data."""
    leaves, paths, _ = arrays.flatten(run.params)
    check_params(state["params"], leaves, paths)
    if state["optimizer"]["rule"] != rule:
        raise ValueError(
            f"it was written with the rule {state['optimizer']['rule']} and this run has {rule}: "
            "give an optimizer of that rule"
        )
    _check_cursor(run, state["cursor"], state["history"])
    for name in ("random", "epoch_random"):
        check_rng_states(state[name])
    names = [name for name, _ in state["callbacks"]]
    callbacks = [type(callback).__name__ for callback in stateful(run.callbacks)]
    if names != callbacks:
        raise ValueError(
            f"it was written with callbacks {', '.join(names) or 'none'} and this run has "
            f"{', '.join(callbacks) or 'none'}: give the same ones in the same order"
        )
    for callback, (name, saved) in zip(stateful(run.callbacks), state["callbacks"], strict=True):
        if type(callback).__module__.startswith("stepsize."):  # others check their own
            _check_callback(run, name, saved, callback.state_dict())


def _check_callback(run: Run, name: str, saved: Any, here: Mapping[str, Any]) -> None:
    """Refuse what no callback of ours has saved, before it is used at the end of the run."""
    _check_kind(f"the state of its {name}", saved, here)
    leaves = arrays.flatten(run.params)[0]
    for value in (saved, *(v for v in saved.values() if isinstance(v, Mapping))):
        kept = value.get("params")
        shapes = [getattr(a, "shape", None) for a in kept] if isinstance(kept, list) else None
        if kept is not None and shapes != [leaf.shape for leaf in leaves]:
            raise ValueError(f"the parameters kept by its {name} are not those of this model")
        if value.get("optimizer") is not None:
            where = f"the optimizer kept by its {name}"
            _check_kind(where, value["optimizer"], run.optimizer.state_dict(), deep=True)


def _check_kind(where: str, saved: Any, here: Any, deep: bool = False) -> None:
    """Refuse a value of another kind than the present one; None may stand for any."""
    if here is None or (saved is None and not deep):
        return
    counts = isinstance(here, int) and not isinstance(here, bool)
    kinds: dict[type, tuple[type, ...]] = {bool: (bool,), float: (float, int), str: (str,)}
    kinds |= {list: (list, tuple), tuple: (list, tuple), np.ndarray: (np.ndarray,), int: (int,)}
    kind = (Mapping,) if isinstance(here, Mapping) else kinds.get(type(here), (object,))
    fits = isinstance(saved, kind) and (isinstance(saved, bool) <= (bool in kind or object in kind))
    if not fits or (counts and here >= 0 > saved) or (type(saved) is float and saved != saved):
        raise ValueError(f"{where} holds {saved!r:.60} where {here!r:.60} stands in this run")
    if isinstance(here, Mapping):
        if set(here) - set(saved) and deep:
            raise ValueError(f"{where} lacks {', '.join(sorted(set(here) - set(saved)))}")
        for key in set(here) & set(saved):
            _check_kind(f"{where}: {key}", saved[key], here[key], deep)


def _check_cursor(run: Run, cursor: Mapping[str, Any], history: Mapping[str, Any]) -> None:
    seed = cursor["seed"]
    if seed != run.seed:
        raise ValueError(
            f"it was written with seed={seed} and this run has seed={run.seed}: "
            "give the same seed, or resume=False to start from scratch"
        )
    length = run.batches.length if isinstance(run.batches, ArrayBatches) else None
    if cursor["length"] != length:
        raise ValueError(
            f"it was written with {_samples(cursor['length'])} and this run has "
            f"{_samples(length)}: give the same training data"
        )
    rows = len(history["series"]["step"])
    whole("its number of steps", cursor["step"], max(rows - 1, 0), rows)
    whole("its number of epochs", cursor["epoch"], 0)
    whole("its offset in the epoch", cursor["offset"], 0, length)
    if length is not None:
        whole("its batch_size", cursor["batch_size"])
    for name in ("finished", "hooks_due"):
        truth(f"its {name}", cursor[name])
    for name, value in {**cursor["metrics"], "loss_sum": cursor["loss_sum"]}.items():
        if not isinstance(value, int | float):
            raise ValueError(f"its {name} must be a number, got {value!r}")
    if not 0 <= cursor["row_count"] < float("inf"):
        raise ValueError(f"its row_count must be a number >= 0, got {cursor['row_count']!r}")


def _samples(length: int | None) -> str:
    return "an iterable of batches" if length is None else f"{length} training samples"


def _completed(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of an earlier version with what has been added since."""
    cursor = dict(state["cursor"])
    if "row_count" not in cursor:
        history = History()
        history.load_state_dict(state["history"])
        row = whole("its epoch_row", cursor["epoch_row"], 0, history.steps)
        count = history.steps - row
        mean = history.mean_since("loss", row) if count else 0.0
        cursor |= {"row_count": float(count), "loss_sum": mean * count}
        cursor["measured"] = dict.fromkeys(cursor["metrics"], cursor["epoch"])
    return {**state, "cursor": cursor}

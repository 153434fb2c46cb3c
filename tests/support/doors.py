"""Entry points of the package with arguments that are right, each of which can be made wrong."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss
from cases import RULES

MOST_CALLS = 60  # of a function that a door asks; who goes on has accepted the value
FOLDER = Path(tempfile.mkdtemp(prefix="doors-"))


class Enough(BaseException):
    """The door works on with what it was given."""


@dataclass
class Door:
    """A callable, its right arguments, made anew, and the names of those that are walked."""

    name: str
    call: Callable[..., Any]
    good: Callable[[], dict[str, Any]]
    arguments: tuple[str, ...]
    text: bool = False  # whether it takes text alone, as a shell gives it

    def __str__(self) -> str:
        return self.name


def arguments_of(call: Callable[..., Any], *left_out: str) -> tuple[str, ...]:
    """The names in the signature, without those of *args and **kwargs."""
    found = inspect.signature(call).parameters.values()
    named = (p.name for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return tuple(name for name in named if name not in ("self", *left_out))


def door(
    label: str, call: Callable[..., Any], /, *left_out: str, more: tuple[str, ...] = (), **good: Any
) -> Door:
    """A door; a right argument that is a `Fresh` is made for each call."""
    names = (*arguments_of(call, *left_out), *more)
    return Door(label, call, lambda: {key: fresh(value) for key, value in good.items()}, names)


def signature_with(call: Callable[..., Any], *names: str) -> inspect.Signature:
    """The signature of a callable with more names."""
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    kept = [p for p in inspect.signature(call).parameters.values() if p.kind != p.VAR_KEYWORD]
    return inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in kept] + more)


class Fresh:
    """A right argument that is made for each call."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def fresh(value: Any) -> Any:
    return value.make() if isinstance(value, Fresh) else value


def make_params() -> dict[str, np.ndarray]:
    return {"w": np.full((3, 2), 0.25), "b": np.zeros(2)}


def make_batches() -> list[tuple[np.ndarray, np.ndarray]]:
    x = np.arange(24.0).reshape(8, 3) / 24
    return [(x[:4], x[:4, :2]), (x[4:], x[4:, :2])]


def counting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, for so many calls."""
    calls = 0

    def counted(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > MOST_CALLS:
            raise Enough
        return function(*given)

    return counted


def least_squares(params: Any, batch: Any = None) -> Any:
    x, y = make_batches()[0] if batch is None else batch
    error = x @ params["w"] + params["b"] - y
    grads = {"w": 2 * x.T @ error / error.size, "b": 2 * error.sum(axis=0) / error.size}
    return float((error**2).mean()), grads


def loss_alone(params: Any, batch: Any = None) -> float:
    return least_squares(params, batch)[0]


PARAMS = Fresh(make_params)
GRADS = Fresh(lambda: {name: np.full_like(leaf, 0.5) for name, leaf in make_params().items()})
FUNCTION = Fresh(lambda: counting(least_squares))
LOSS = Fresh(lambda: counting(loss_alone))
BATCHES = Fresh(make_batches)
BATCH = Fresh(lambda: make_batches()[0])
HISTORY = Fresh(
    lambda: ss.History.from_arrays(
        step=np.arange(1, 41), loss=np.linspace(2, 1, 40), lr=np.full(40, 0.1)
    )
)

GRADIENT_HISTORY = Fresh(
    lambda: ss.History.from_arrays(
        step=np.arange(1, 41),
        loss=np.linspace(2, 1, 40),
        lr=np.full(40, 0.1),
        grad_norm=np.linspace(1, 2, 40),
    )
)


def of_optimizer(method: str, make: Callable[[Any], Any] = ss.Adam) -> Callable[..., Any]:
    """A method of an optimizer, which is its first argument."""

    def call(optimizer: Any, **given: Any) -> Any:
        return getattr(optimizer, method)(**given)

    bound = getattr(make(make_params()), method)
    call.__signature__ = inspect.signature(bound)  # type: ignore[attr-defined]
    return call


OPTIMIZER = Fresh(lambda: ss.Adam(make_params()))


def rules() -> Iterator[Door]:
    """Every rule, its hyperparameters and common keywords."""
    common = {*arguments_of(ss.SGD)} - {*ss.SGD.fields, "params"}
    for cls in (*RULES, ss.LBFGS):
        # What all rules share, which is checked in one place, with a few of them.
        left_out = () if cls in (ss.SGD, ss.Muon, ss.FTRL) else common - {*cls.fields}
        yield door(f"rule {cls.__name__}", cls, *left_out, params=PARAMS)
    yield door("Optimizer.step", of_optimizer("step"), optimizer=OPTIMIZER, grads=GRADS)
    for name in ("load_state_dict", "save", "load", "bind", "clone"):
        yield door(f"Optimizer.{name}", of_optimizer(name), optimizer=OPTIMIZER)
    for name in ("lr", "lr_scale", "weight_decay", "betas", "eps"):
        yield door(f"Optimizer.{name}", setter(name), optimizer=OPTIMIZER)
    for cls in (
        ss.EMA,
        ss.SWA,
        ss.Lookahead,
        ss.OuterMomentum,
        ss.Accumulate,
    ):
        yield wrapper(cls)
    for cls in (ss.Centralize, ss.AdaptiveClip, ss.GradientNoise, ss.Mechanic, ss.SAM):
        yield wrapper(cls)
    yield wrapper(ss.Project, projections={"w": ss.projections.box(0, 1)})


def wrapper(cls: Any, **good: Any) -> Door:
    given = {"every": 2} if cls is ss.Accumulate else good
    return door(f"wrapper {cls.__name__}", cls, optimizer=OPTIMIZER, **given)


def setter(name: str) -> Callable[..., Any]:
    def call(optimizer: Any, value: Any) -> None:
        setattr(optimizer, name, value)

    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("value", inspect.Parameter.KEYWORD_ONLY)]
    )
    return call


def functions() -> Iterator[Door]:
    """The rules as functions."""
    for name in ss.functional.__all__:
        call = getattr(ss.functional, name)
        if name == "state":
            yield door("functional.state", call, rule="adam", params=PARAMS)
            continue
        rule = name.rstrip("_")
        found = ss.optimizers.registration.find_rule(rule, "doors")
        known = {*arguments_of(ss.SGD), *found.fields} - {"params"}
        left_out = () if name in ("adam_", "schedule_free_sgd_") else known
        names = arguments_of(call, *left_out)
        yield Door(f"functional {name}", call, lambda r=rule: functional_state(r), names)


def functional_state(rule: str) -> dict[str, Any]:
    params = np.full(5, 0.25)
    state = ss.functional.state(rule, params)
    return {"params": params, "grads": np.full(5, 0.5), "step": 1, **state}


S = ss.schedules
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {"value": 0.1},
    "cosine": {"init": 0.1, "end": 0.0, "steps": 50},
    "cosine_restarts": {"init": 0.1, "period": 20},
    "cyclic": {"low": 0.1, "high": 0.5, "up": 10},
    "cyclic_momentum": {"low": 0.1, "high": 0.5, "up": 10},
    "epochs": {"n": 2, "steps_per_epoch": 10},
    "exponential": {"init": 0.1, "rate": 0.9},
    "flat_cosine": {"peak": 0.1, "total_steps": 50},
    "from_function": {"f": "constant(0.1)"},
    "from_hf": {"name": "constant", "lr": 0.1},
    "from_keras": {"config": {}},
    "from_optax": {"name": "constant_schedule"},
    "inverse_sqrt": {"peak": 0.1, "warmup_steps": 5},
    "inverse_time": {"init": 0.1, "rate": 0.5},
    "linear": {"init": 0.1, "end": 0.0, "steps": 50},
    "multistep": {"init": 0.1, "milestones": [5, 9], "factor": 0.5},
    "noam": {"dim": 64, "warmup_steps": 5},
    "one_cycle": {"peak": 0.1, "total_steps": 50},
    "one_cycle_momentum": {"peak": 0.1, "total_steps": 50},
    "piecewise_constant": {"boundaries": [5], "values": [0.1, 0.2]},
    "piecewise_linear": {"points": [(0, 0.1), (9, 0.2)]},
    "polynomial": {"init": 0.1, "end": 0.0, "steps": 50},
    "refined": {"history": GRADIENT_HISTORY},
    "rex": {"peak": 0.1, "steps": 50},
    "step_decay": {"init": 0.1, "every": 5, "factor": 0.5},
    "table": {"values": [0.1, 0.2]},
    "tanh": {"init": 0.1, "end": 0.0, "steps": 50},
    "warmup_cosine": {"peak": 0.1, "warmup_steps": 5, "total_steps": 50},
    "warmup_linear": {"peak": 0.1, "warmup_steps": 5, "total_steps": 50},
    "wsd": {"peak": 0.1, "warmup_steps": 5, "stable_steps": 5, "decay_steps": 5},
    "layerwise_lr": {"params": PARAMS, "decay": 0.5},
    "check_run": {"schedule": S.cosine(0.1, 0.0, 50), "steps": 50},
    "Plateau": {"opt": OPTIMIZER},
    "Greedy": {"opt": OPTIMIZER},
}
METHODS: dict[str, dict[str, Any]] = {
    "by_epoch": {"steps_per_epoch": 5},
    "clip": {"low": 0.01, "high": 0.05},
    "integral": {"n": 9},
    "plot_text": {},
    "repeat": {"period": 9},
    "resume_at": {"step": 9, "new_end": 80},
    "shift": {"steps": 3},
    "stretch": {"total": 90},
    "table": {},
    "then": {"other": 0.1, "at": 20},
    "values": {"n": 9},
    "warmup": {"steps": 5},
    "__call__": {"step": 3},
}


def schedules() -> Iterator[Door]:
    for name, good in SCHEDULES.items():
        yield door(f"schedules.{name}", getattr(S, name), "trust", **good)
    base = S.cosine(0.1, 0.0, 50)
    for name, good in METHODS.items():
        yield door(f"Schedule.{name}", getattr(base, name), **good)
    yield door("Schedule.from_dict", ss.Schedule.from_dict, "trust", d=base.to_dict())
    for cls in (S.Plateau, S.Greedy):
        made = cls(ss.SGD(np.zeros(1)))
        yield door(f"{cls.__name__}.update", made.update, metric=1.0)
        yield door(f"{cls.__name__}.load_state_dict", made.load_state_dict, d=made.state_dict())

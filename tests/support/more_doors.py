"""Entry points that work for a while: searches, trainings, checks, files, the command line."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import stepsize as ss
from doors import (
    BATCH,
    BATCHES,
    FOLDER,
    FUNCTION,
    HISTORY,
    LOSS,
    OPTIMIZER,
    PARAMS,
    Door,
    Fresh,
    arguments_of,
    counting,
    door,
    make_params,
    signature_with,
)
from stepsize import problems
from stepsize.cli.main import main

QUIET = {"progress": False}
SMALL = {"value_and_grad": FUNCTION, "params": PARAMS}
OBJECTIVE = Fresh(lambda: counting(lambda point: float(point["lr"])))
SPACE = Fresh(lambda: {"lr": ss.LogUniform(1e-3, 1e-1)})


def square(x: Any) -> Any:
    return float((x * x).sum()), 2 * x


def over_params(label: str, call: Callable[..., Any], *left_out: str, **good: Any) -> Door:
    """A door whose optimizer is over its parameters."""
    found = door(label, call, *left_out, **good)
    without = found.good

    def make() -> dict[str, Any]:
        given = without()
        return {**given, "optimizer": ss.Adam(given["params"])}

    found.good = make
    return found


def searches() -> Iterator[Door]:
    step = {"batches": BATCHES, **SMALL, **QUIET}
    yield door("lr_find", ss.lr_find, "comm", **step, optimizer=ss.SGD, steps=20)
    yield over_params("what_if", ss.what_if, **step, steps=2, held=2)
    train = {"train": BATCHES, **SMALL, **QUIET}
    yield over_params("fit", ss.fit, "comm", steps=2, **train)
    yield door("autolr", ss.autolr, steps=20, **train)
    point = Fresh(lambda: counting(square))
    yield door(
        "minimize", ss.minimize, fun_and_grad=point, x0=Fresh(lambda: np.ones(2)), max_iter=5
    )
    yield door("check_gradients", ss.check_gradients, **SMALL, batch=BATCH)
    yield door("sharpness", ss.sharpness, **SMALL, batch=BATCH)
    yield door("diagnose", ss.diagnose, history=HISTORY)
    yield door(
        "tune",
        ss.tune,
        "checkpoints",
        "budget",
        objective=OBJECTIVE,
        space=SPACE,
        trials=2,
        method="random",
        **QUIET,
    )
    grid = Fresh(lambda: {"lr": [0.1, 0.2]})
    yield door("sweep", ss.sweep, fn=OBJECTIVE, grid=grid, **QUIET)
    settings = Fresh(lambda: {"lr": 0.1, "betas": (0.9, 0.99)})
    yield door("transfer", ss.transfer, settings=settings, batch=(32, 64), rule=ss.Adam)
    yield door("scale_lr", ss.scale_lr, lr=0.1, batch_from=32, batch_to=64)
    micro = Fresh(lambda: [{"w": np.ones(2) * k} for k in (1.0, 2.0, 3.0)])
    yield door("gradient_noise_scale", ss.gradient_noise_scale, micro_grads=micro, batch_size=4)
    for name in ("central", "forward", "complex_step", "spsa"):
        yield door(f"gradients.{name}", called(name), f=LOSS, params=PARAMS)
    for kind in (ss.LogUniform, ss.Uniform):
        yield door(kind.__name__, kind, low=0.1, high=0.5)


def called(name: str) -> Callable[..., Any]:
    """The gradient that a function makes of another one, evaluated."""
    make = getattr(ss.gradients, name)

    def call(params: Any, **given: Any) -> Any:
        return make(**given)(params)

    call.__signature__ = signature_with(make, "params")  # type: ignore[attr-defined]
    return call


def nests() -> Iterator[Door]:
    """What takes parameters or parts of them."""
    stacked = Fresh(lambda: ss.replicate(make_params(), 2))
    yield door("population", ss.population, rule="adam", params=stacked, lr=[0.1, 0.2])
    yield door("replicate", ss.replicate, params=PARAMS, count=2)
    yield door("pack", ss.pack, params=PARAMS)
    yield door("group", grouped, pattern="w", more=("lr", "weight_decay", "betas", "bounds"))
    yield door("layer_groups", ss.layer_groups, patterns=["w", "b"], lr=0.1)
    yield door("layerwise_lr", ss.layerwise_lr, params=PARAMS, decay=0.5)
    yield door("set_num_threads", threads_set, count=1)
    for name in ss.projections.__all__:
        if name != "Projection":
            yield door(f"projections.{name}", getattr(ss.projections, name))
            yield door(f"projections.{name} called", projected(name), array=np.eye(2))
    yield door("RowGradient", ss.RowGradient, rows=np.array([0]), values=np.ones((1, 2)))
    data = {"x": np.ones((8, 2)), "y": np.arange(8) % 2}
    for name, good in (
        *(("classifier", data), ("regressor", data), ("quadratic", {}), ("rosenbrock", {})),
        ("init_mlp", {"sizes": [2, 3]}),
    ):
        yield door(f"problems.{name}", getattr(problems, name), **good)
    yield door("Problem", ss.Problem, **SMALL, train=BATCHES)


def grouped(pattern: Any, **overrides: Any) -> Any:
    return ss.AdamW(make_params(), groups=[ss.group(pattern, **overrides)])


def threads_set(count: Any) -> None:
    try:
        ss.set_num_threads(count)
    finally:
        ss.set_num_threads(None)


def projected(name: str) -> Callable[..., Any]:
    def call(array: Any) -> Any:
        return getattr(ss.projections, name)()(array)

    return call


CALLBACKS: dict[str, dict[str, Any]] = {
    "Checkpoint": {"path": FOLDER / "run"},
    "CSVLogger": {"path": FOLDER / "run.csv"},
    "JSONLogger": {"path": FOLDER / "run.jsonl"},
    "EarlyStopping": {},
    "ReduceOnPlateau": {},
    "ReduceOnStationarity": {},
    "StopOnDivergence": {},
    "RollBackOnSpike": {},
    "DiagnosisMonitor": {},
    "NoiseScaleMonitor": {},
    "SharpnessMonitor": {"loss": LOSS},
    "BatchSizeSchedule": {"sizes": {0: 4}},
    "KeepGenerators": {},
    "LivePlot": {},
}


def callbacks_and_files() -> Iterator[Door]:
    for name, good in CALLBACKS.items():
        yield door(name, getattr(ss, name), **good)
    yield door("Freeze", functools.partial(ss.Freeze, "w"))
    ss.save(FOLDER / "kept.safetensors", make_params(), ss.Adam(make_params()))
    for name in ("save", "load"):
        path = FOLDER / ("kept.safetensors" if name == "load" else "new.safetensors")
        given = {"path": path, "params": PARAMS, "optimizer": OPTIMIZER}
        yield door(name, getattr(ss, name), **given)
    series = {"step": [1, 2], "loss": [2.0, 1.0], "lr": [0.1, 0.1]}
    names = ("step", "loss", "lr", "val_loss", "grad_norm")
    yield Door("History.from_arrays", ss.History.from_arrays, lambda: dict(series), names)
    yield door("History.load", ss.History.load)
    for name in ("save", "to_csv", "load_state_dict", "record", "last"):
        yield door(f"History.{name}", getattr(HISTORY.make(), name), **PARTS.get(name, {}))


PARTS = {"record": {"name": "val_loss", "value": 1.0}, "last": {"name": "loss"}}


CHECKED_THERE = ("random_state", "class_weight")  # by functions of scikit-learn


def adapters() -> Iterator[Door]:
    """SciPy's methods and scikit-learn's estimators."""
    from scipy.optimize import minimize

    from stepsize.interop import scipy as for_scipy
    from stepsize.interop import sklearn as for_sklearn

    point = Fresh(lambda: counting(square))

    def solve(**given: Any) -> Any:
        options = {key: given.pop(key) for key in tuple(given) if key not in ("fun", "x0", "jac")}
        return minimize(method=for_scipy.adam, options=options, **given)

    names = ("lr", "maxiter", "gtol", "ftol", "patience", "tol")
    good = {"fun": point, "x0": Fresh(lambda: np.ones(2)), "jac": True, "maxiter": 5}
    yield Door("scipy adam", solve, door("", square, **good).good, names)
    yield door("scipy.method", for_scipy.method, rule="adam")
    for name in ("LinearClassifier", "LinearRegressor", "MLPClassifier", "MLPRegressor"):
        estimator = getattr(for_sklearn, name)
        names = arguments_of(estimator, *CHECKED_THERE)
        yield Door(f"sklearn {name}", trained(estimator), dict, names)


def trained(estimator: Any) -> Callable[..., Any]:
    x = np.linspace(-1, 1, 80).reshape(40, 2)

    def call(**given: Any) -> Any:
        linear = "Linear" in estimator.__name__
        small = {"lr": 0.1} if linear else {"hidden_layer_sizes": (3,)}
        settings = {**small, "max_iter": 2, "solver": "sgd", "random_state": 0, **given}
        return estimator(**settings).fit(x, np.arange(40) % 2)

    return call


COMMANDS = {
    "schedule": (["schedule"], ("expressions",)),
    "schedule of": (["schedule", "cosine(1, 0, 9)"], ("--steps", "--plot")),
    "find": (["find"], ("problem",)),
    "find of": (
        ["find", "nothing.py:make"],
        ("--lr-min", "--lr-max", "--steps", "--repeats", "--seed"),
    ),
    "train": (
        ["train", "nothing.py:make"],
        ("--lr", "--epochs", "--steps", "--seed", "--optimizer"),
    ),
    "tune": (["tune", "nothing.py:make"], ("--trials", "--epochs", "--seed")),
}


class Refused(ValueError):
    """What the command line has written to its standard error."""


def commands() -> Iterator[Door]:
    """The flags of the command line, with text alone, as a shell gives it."""
    for name, (words, flags) in COMMANDS.items():
        yield Door(f"command {name}", command(words), dict, flags, text=True)


def command(start: list[str]) -> Callable[..., Any]:
    def call(**given: Any) -> None:
        ((flag, value),) = given.items()
        line = [*start, *([flag] if flag.startswith("--") else []), str(value)]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = main(line)
            except SystemExit as error:
                code = error.code
        words = said.getvalue().strip()
        if code and not words.endswith("no such file: nothing.py"):  # which is looked for last
            raise Refused(words.splitlines()[-1])

    return call

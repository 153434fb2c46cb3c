"""stepsize sets, schedules and applies the learning rate for gradients in NumPy arrays."""

import importlib as _importlib
import sys as _sys
from collections.abc import Iterator as _Iterator
from importlib.util import find_spec as _find_spec
from typing import Any as _Any


def _is_command() -> bool:
    """Whether this process is the `stepsize` command, or `python -m stepsize`."""
    first = (_sys.argv[:1] or [""])[0].replace("\\", "/").rpartition("/")[2].lower()
    if first != "-m":
        return first in ("stepsize", "stepsize.exe", "stepsize-script.py")
    words = _sys.orig_argv
    module = words[words.index("-m") + 1 :][:1] if "-m" in words else []
    return module == ["stepsize"] or "-mstepsize" in words


def _leave_when_interrupted() -> None:
    """End the process at Ctrl-C by one line; until `main` runs there is nothing to clean up."""
    import os
    import signal

    def leave(number: int, frame: object) -> None:
        os.write(2, b"stepsize: interrupted\n")
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


if _is_command():
    _leave_when_interrupted()

from stepsize import runtime as _runtime  # noqa: E402  it loads most of what a Ctrl-C may hit

# Where each public name comes from. Its module is imported when the name is first asked for, so
# that a program waits for what it uses only. `__init__.pyi` says the same to type checkers.
_HOMES = {
    "arrays": "pack",
    "automatic.pipeline": "autolr",
    "automatic.results": "Action AutoResult",
    "noise_scale": "NoiseScale gradient_noise_scale scale_lr",
    "curvature.measuring": "Sharpness sharpness",
    "diagnosis": "Diagnosis Finding diagnose",
    "errors": "CheckpointError NonFiniteGradientError",
    "experiments.branching": "what_if",
    "experiments.results": "Branch WhatIf",
    "finder.find": "lr_find",
    "finder.results": "LRFindResult ParameterResult",
    "gradients.checking": "check_gradients",
    "gradients.results": "GradientCheck LeafCheck",
    "training.history": "History",
    "minimization": "Result minimize",
    "optimizers": "MatrixGroups Partition RowGradient StepStats group layer_groups matrix_groups",
    "optimizers.population": "Population population replicate",
    "problems": "Problem",
    "runtime": "__version__ build_info set_num_threads",
    "training.saving": "load save",
    "scaling.results": "Move Transferred",
    "scaling.transferring": "transfer",
    "schedules": "Plateau Schedule layerwise_lr",
    "training.fitting": "fit",
    "tuning.results": "TuneResult",
    "tuning.search": "tune",
    "tuning.space": "Choice LogUniform Uniform",
    "tuning.sweeping": "sweep",
}
_MODULES = ("functional", "gradients", "optimizers", "problems", "projections", "schedules")
_EXTRAS = ("arrays", "interop", "plots")  # public as well, but `import *` leaves them out
# What other libraries, or habit, call what is here by another name.
_ELSEWHERE = {
    **dict.fromkeys(("find_lr", "lr_finder", "LRFinder", "range_test"), "lr_find"),
    **dict.fromkeys(("lr_scheduler", "scheduler", "schedule"), "schedules"),
    "optim": "optimizers",
    "train": "fit",
    "Trainer": "fit",
    **dict.fromkeys(("gradcheck", "check_grad", "check_grads"), "check_gradients"),
    "ReduceLROnPlateau": "ReduceOnPlateau",
    **dict.fromkeys(("ModelCheckpoint", "BackupAndRestore"), "Checkpoint"),
    **dict.fromkeys(("LearningRateMonitor", "LearningRateScheduler"), "LRMonitor"),
    **dict.fromkeys(("AveragedModel", "StochasticWeightAveraging"), "SWA"),
    "TerminateOnNaN": "StopOnDivergence",
    "LightningModule": "fit",
    "TensorBoardLogger": "TensorBoard",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
# Packages whose every name is public; their `__all__` is the list.
_CONTENTS = ("optimizers.rules", "optimizers.wrappers", "callbacks")

_runtime.refuse_other_build()
_runtime.use_environment()


def __getattr__(name: str) -> _Any:
    if name == "__all__":
        return sorted((*_HOME, *_MODULES, *(other for page in _pages() for other in page.__all__)))
    if name in (*_MODULES, *_EXTRAS):
        return _importlib.import_module(f"stepsize.{name}")
    found, other = None, _ELSEWHERE.get(name)
    if name in _HOME:
        found = getattr(_importlib.import_module(f"stepsize.{_HOME[name]}"), name)
    elif not name.startswith("_") and _find_spec(f"stepsize.{name}") is None:
        # A module is imported as one, not looked for among the names, which may need it themselves.
        found = next((getattr(page, name) for page in _pages() if name in page.__all__), None)
        other = other or (None if found else _alike(name))
    if found is None:
        raise AttributeError(
            f"module 'stepsize' has no attribute {name!r}"
            + (f"; it is stepsize.{other} here" if other else ""),
            name=name,
            obj=_sys.modules[__name__],
        )
    globals()[name] = found
    return found


def _alike(name: str) -> str | None:
    """The public name that differs in capitals and underscores alone, such as AdamW of adamw."""
    known = {other.lower().replace("_", ""): other for other in __getattr__("__all__")}
    return known.get(name.lower().replace("_", ""))


def _pages() -> _Iterator[_Any]:
    for page in _CONTENTS:  # one after another, for the first that has the name
        yield _importlib.import_module(f"stepsize.{page}")


def __dir__() -> list[str]:
    return sorted((*__getattr__("__all__"), *_EXTRAS))

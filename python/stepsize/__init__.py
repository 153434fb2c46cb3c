"""stepsize sets, schedules and applies the learning rate for gradients in NumPy arrays."""

import importlib as _importlib
from typing import Any as _Any

from stepsize import runtime as _runtime

# Where each public name comes from. Its module is imported when the name is first asked for, so
# that a program waits for what it uses only. `__init__.pyi` says the same to type checkers.
_HOMES = {
    "arrays": "pack",
    "automatic.pipeline": "Action AutoResult autolr",
    "noise_scale": "NoiseScale NoiseScaleMonitor gradient_noise_scale scale_lr",
    "callbacks.base": """
        Checkpoint EarlyStopping KeepGenerators ReduceOnPlateau StopOnDivergence
    """,
    "diagnosis": "Diagnosis Finding diagnose",
    "errors": "CheckpointError NonFiniteGradientError",
    "finder.find": "lr_find",
    "finder.results": "LRFindResult ParameterResult",
    "training.history": "History",
    "callbacks.interventions": "BatchSizeSchedule Freeze LRMonitor RollBackOnSpike layer_groups",
    "callbacks.loggers": "CSVLogger JSONLogger LogTo TensorBoard",
    "minimization": "Result minimize",
    "callbacks.diagnosis_monitor": "DiagnosisMonitor",
    "optimizers": """
        ADOPT ASGD COCOB EMA FTRL LAMB LARS LBFGS MADGRAD SAM SGD SM3 SOAP SWA Accumulate
        AdaBelief Adadelta Adafactor Adagrad Adam Adamax AdamW Adan AdaptiveClip AdEMAMix
        Centralize DAdaptAdam DAdaptSGD DoG DoWG GradientNoise Kron LaProp LDoG Lion Lookahead
        Mechanic MoMo MoMoAdam Muon NAdam NAdamW NovoGrad PolyakSGD Prodigy RAdam RMSprop
        RowGradient Rprop ScheduleFreeAdamW ScheduleFreeRAdam ScheduleFreeSGD Shampoo SignSGD
        Signum StepStats Yogi group
    """,
    "optimizers.population": "Population population replicate",
    "problems": "Problem",
    "runtime": "__version__ build_info set_num_threads",
    "training.saving": "load save",
    "schedules": "Plateau Schedule layerwise_lr",
    "training.fitting": "fit",
    "tuning.search": "Choice LogUniform TuneResult Uniform tune",
}
_MODULES = ("functional", "optimizers", "problems", "schedules")
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted((*_HOME, *_MODULES))

_runtime.use_environment()


def __getattr__(name: str) -> _Any:
    if name in _HOME:
        found = getattr(_importlib.import_module(f"stepsize.{_HOME[name]}"), name)
        globals()[name] = found
        return found
    missing = f"module 'stepsize' has no attribute {name!r}"
    if name.startswith("_"):
        raise AttributeError(missing)
    try:
        return _importlib.import_module(f"stepsize.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"stepsize.{name}":
            raise
        raise AttributeError(missing) from None


def __dir__() -> list[str]:
    return __all__

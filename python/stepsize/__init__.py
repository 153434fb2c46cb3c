"""stepsize sets, schedules and applies the learning rate for gradients in NumPy arrays."""

from stepsize import optimizers, problems, runtime, schedules
from stepsize.arrays import pack
from stepsize.autolr import Action, AutoResult, autolr
from stepsize.batchsize import NoiseScale, NoiseScaleMonitor, gradient_noise_scale, scale_lr
from stepsize.callbacks import (
    Checkpoint,
    EarlyStopping,
    KeepGenerators,
    ReduceOnPlateau,
    StopOnDivergence,
)
from stepsize.diagnosis import Diagnosis, Finding, diagnose
from stepsize.errors import CheckpointError, NonFiniteGradientError
from stepsize.finder import LRFindResult, lr_find
from stepsize.history import History
from stepsize.interventions import (
    BatchSizeSchedule,
    Freeze,
    LRMonitor,
    RollBackOnSpike,
    layer_groups,
)
from stepsize.loggers import CSVLogger, JSONLogger, LogTo, TensorBoard
from stepsize.monitoring import DiagnosisMonitor
from stepsize.optimizers import (
    ADOPT,
    ASGD,
    FTRL,
    MADGRAD,
    SGD,
    AdaBelief,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Adan,
    AdEMAMix,
    LaProp,
    Lion,
    NAdam,
    NAdamW,
    RAdam,
    RMSprop,
    Rprop,
    ScheduleFreeAdamW,
    ScheduleFreeRAdam,
    ScheduleFreeSGD,
    SignSGD,
    Signum,
    StepStats,
    Yogi,
    group,
)
from stepsize.problems import Problem
from stepsize.runtime import __version__, build_info, set_num_threads
from stepsize.saving import load, save
from stepsize.schedules import Plateau, Schedule, layerwise_lr
from stepsize.training import fit
from stepsize.tuning import Choice, LogUniform, TuneResult, Uniform, tune

runtime.use_environment()

__all__ = [
    "ADOPT",
    "ASGD",
    "FTRL",
    "MADGRAD",
    "SGD",
    "Action",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "AutoResult",
    "BatchSizeSchedule",
    "CSVLogger",
    "Checkpoint",
    "CheckpointError",
    "Choice",
    "Diagnosis",
    "DiagnosisMonitor",
    "EarlyStopping",
    "Finding",
    "Freeze",
    "History",
    "JSONLogger",
    "KeepGenerators",
    "LRFindResult",
    "LRMonitor",
    "LaProp",
    "Lion",
    "LogTo",
    "LogUniform",
    "NAdam",
    "NAdamW",
    "NoiseScale",
    "NoiseScaleMonitor",
    "NonFiniteGradientError",
    "Plateau",
    "Problem",
    "RAdam",
    "RMSprop",
    "ReduceOnPlateau",
    "RollBackOnSpike",
    "Rprop",
    "Schedule",
    "ScheduleFreeAdamW",
    "ScheduleFreeRAdam",
    "ScheduleFreeSGD",
    "SignSGD",
    "Signum",
    "StepStats",
    "StopOnDivergence",
    "TensorBoard",
    "TuneResult",
    "Uniform",
    "Yogi",
    "__version__",
    "autolr",
    "build_info",
    "diagnose",
    "fit",
    "gradient_noise_scale",
    "group",
    "layer_groups",
    "layerwise_lr",
    "load",
    "lr_find",
    "optimizers",
    "pack",
    "problems",
    "save",
    "scale_lr",
    "schedules",
    "set_num_threads",
    "tune",
]

"""stepsize sets, schedules and applies the learning rate for gradients in NumPy arrays."""

from stepsize import optimizers, problems, runtime, schedules
from stepsize.arrays import pack
from stepsize.callbacks import Checkpoint, EarlyStopping, StopOnDivergence
from stepsize.errors import CheckpointError, NonFiniteGradientError
from stepsize.history import History
from stepsize.loggers import CSVLogger, JSONLogger, LogTo, TensorBoard
from stepsize.optimizers import SGD, Adagrad, Adam, AdamW, Lion, RMSprop, StepStats, group
from stepsize.problems import Problem
from stepsize.runtime import __version__, build_info, set_num_threads
from stepsize.schedules import Schedule
from stepsize.training import fit

runtime.use_environment()

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CSVLogger",
    "Checkpoint",
    "CheckpointError",
    "EarlyStopping",
    "History",
    "JSONLogger",
    "Lion",
    "LogTo",
    "NonFiniteGradientError",
    "Problem",
    "RMSprop",
    "Schedule",
    "StepStats",
    "StopOnDivergence",
    "TensorBoard",
    "__version__",
    "build_info",
    "fit",
    "group",
    "optimizers",
    "pack",
    "problems",
    "schedules",
    "set_num_threads",
]

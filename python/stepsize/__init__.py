"""stepsize sets, schedules and applies the learning rate for gradients in NumPy arrays."""

from stepsize import optimizers, problems, runtime, schedules
from stepsize.arrays import pack
from stepsize.errors import CheckpointError, NonFiniteGradientError
from stepsize.optimizers import SGD, Adagrad, Adam, AdamW, Lion, RMSprop, StepStats, group
from stepsize.problems import Problem
from stepsize.runtime import __version__, build_info, set_num_threads
from stepsize.schedules import Schedule

runtime.use_environment()

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CheckpointError",
    "Lion",
    "NonFiniteGradientError",
    "Problem",
    "RMSprop",
    "Schedule",
    "StepStats",
    "__version__",
    "build_info",
    "group",
    "optimizers",
    "pack",
    "problems",
    "schedules",
    "set_num_threads",
]

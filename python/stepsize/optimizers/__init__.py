"""Optimizers: one class per rule, over any nest of NumPy arrays."""

from stepsize.optimizers.adam import Adam, AdamW
from stepsize.optimizers.adaptive import Adagrad, RMSprop
from stepsize.optimizers.base import Optimizer, StepStats, registry
from stepsize.optimizers.groups import group
from stepsize.optimizers.momentum import SGD, Lion

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lion",
    "Optimizer",
    "RMSprop",
    "StepStats",
    "group",
    "registry",
]

"""Optimizers: one class per rule, over any nest of NumPy arrays."""

from typing import TYPE_CHECKING

from stepsize.optimizers import rules, wrappers
from stepsize.optimizers.groups import group as group
from stepsize.optimizers.layer_groups import layer_groups as layer_groups
from stepsize.optimizers.matrix_groups import MatrixGroups as MatrixGroups
from stepsize.optimizers.matrix_groups import matrix_groups as matrix_groups
from stepsize.optimizers.optimizer import Optimizer as Optimizer
from stepsize.optimizers.optimizer import registry as registry
from stepsize.optimizers.partition import Partition as Partition
from stepsize.optimizers.rules import *
from stepsize.optimizers.sparse import RowGradient as RowGradient
from stepsize.optimizers.stats import StepStats as StepStats
from stepsize.optimizers.wrappers import *

if not TYPE_CHECKING:  # checkers know no computed list; they read the imports themselves
    __all__ = ["Optimizer", "Partition", "RowGradient", "StepStats", "group", "layer_groups"]
    __all__ += ["MatrixGroups", "matrix_groups", "registry"]
    __all__ = sorted([*__all__, *rules.__all__, *wrappers.__all__])

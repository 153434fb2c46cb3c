"""Wrappers around an optimizer: averages, gradient transformations, SAM, Mechanic."""

from typing import TYPE_CHECKING

from stepsize.optimizers.wrappers.averaging import *
from stepsize.optimizers.wrappers.gradients import *
from stepsize.optimizers.wrappers.mechanic import *
from stepsize.optimizers.wrappers.outer import *
from stepsize.optimizers.wrappers.projecting import *
from stepsize.optimizers.wrappers.sam import *

if not TYPE_CHECKING:  # type checkers ignore a computed list; they read the star imports
    __all__ = sorted(name for name, value in globals().items() if isinstance(value, type))

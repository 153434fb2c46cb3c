"""One module per family of rules, named like its C++ header; its `__all__` lists the rules."""

from typing import TYPE_CHECKING

from stepsize.optimizers.rules.adam import *
from stepsize.optimizers.rules.adam_momentum import *
from stepsize.optimizers.rules.adam_order import *
from stepsize.optimizers.rules.adam_scale import *
from stepsize.optimizers.rules.adaptive import *
from stepsize.optimizers.rules.averaging import *
from stepsize.optimizers.rules.dadapt import *
from stepsize.optimizers.rules.dual_averaging import *
from stepsize.optimizers.rules.factored import *
from stepsize.optimizers.rules.kron import *
from stepsize.optimizers.rules.layerwise import *
from stepsize.optimizers.rules.lbfgs import *
from stepsize.optimizers.rules.loss_based import *
from stepsize.optimizers.rules.matrix import *
from stepsize.optimizers.rules.momentum import *
from stepsize.optimizers.rules.muon import *
from stepsize.optimizers.rules.parameter_free import *
from stepsize.optimizers.rules.prodigy import *
from stepsize.optimizers.rules.schedule_free import *
from stepsize.optimizers.rules.sign import *

if not TYPE_CHECKING:  # type checkers ignore a computed list; they read the star imports
    __all__ = sorted(name for name, value in globals().items() if isinstance(value, type))

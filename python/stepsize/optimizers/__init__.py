"""Optimizers: one class per rule, over any nest of NumPy arrays."""

from stepsize.optimizers.groups import group
from stepsize.optimizers.optimizer import Optimizer, registry
from stepsize.optimizers.rules.adam import Adam, AdamW
from stepsize.optimizers.rules.adam_momentum import Adan, AdEMAMix, NAdam, NAdamW
from stepsize.optimizers.rules.adam_order import ADOPT, LaProp
from stepsize.optimizers.rules.adam_scale import AdaBelief, Adamax, RAdam, Yogi
from stepsize.optimizers.rules.adaptive import Adadelta, Adagrad, RMSprop
from stepsize.optimizers.rules.averaging import ASGD
from stepsize.optimizers.rules.dadapt import DAdaptAdam, DAdaptSGD
from stepsize.optimizers.rules.dual_averaging import FTRL, MADGRAD
from stepsize.optimizers.rules.factored import SM3, Adafactor
from stepsize.optimizers.rules.kron import Kron
from stepsize.optimizers.rules.layerwise import LAMB, LARS, NovoGrad
from stepsize.optimizers.rules.lbfgs import LBFGS
from stepsize.optimizers.rules.loss_based import MoMo, MoMoAdam, PolyakSGD
from stepsize.optimizers.rules.matrix import SOAP, Shampoo
from stepsize.optimizers.rules.momentum import SGD
from stepsize.optimizers.rules.muon import Muon
from stepsize.optimizers.rules.parameter_free import COCOB, DoG, DoWG, LDoG
from stepsize.optimizers.rules.prodigy import Prodigy
from stepsize.optimizers.rules.schedule_free import (
    ScheduleFreeAdamW,
    ScheduleFreeRAdam,
    ScheduleFreeSGD,
)
from stepsize.optimizers.rules.sign import Lion, Rprop, SignSGD, Signum
from stepsize.optimizers.sparse import RowGradient
from stepsize.optimizers.stats import StepStats
from stepsize.optimizers.wrappers.averaging import EMA, SWA, Lookahead
from stepsize.optimizers.wrappers.gradients import (
    Accumulate,
    AdaptiveClip,
    Centralize,
    GradientNoise,
)
from stepsize.optimizers.wrappers.mechanic import Mechanic
from stepsize.optimizers.wrappers.sam import SAM

__all__ = [
    "ADOPT",
    "ASGD",
    "COCOB",
    "EMA",
    "FTRL",
    "LAMB",
    "LARS",
    "LBFGS",
    "MADGRAD",
    "SAM",
    "SGD",
    "SM3",
    "SOAP",
    "SWA",
    "Accumulate",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "AdaptiveClip",
    "Centralize",
    "DAdaptAdam",
    "DAdaptSGD",
    "DoG",
    "DoWG",
    "GradientNoise",
    "Kron",
    "LDoG",
    "LaProp",
    "Lion",
    "Lookahead",
    "Mechanic",
    "MoMo",
    "MoMoAdam",
    "Muon",
    "NAdam",
    "NAdamW",
    "NovoGrad",
    "Optimizer",
    "PolyakSGD",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "RowGradient",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeRAdam",
    "ScheduleFreeSGD",
    "Shampoo",
    "SignSGD",
    "Signum",
    "StepStats",
    "Yogi",
    "group",
    "registry",
]

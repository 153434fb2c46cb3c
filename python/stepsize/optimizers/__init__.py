"""Optimizers: one class per rule, over any nest of NumPy arrays."""

from stepsize.optimizers.adam import Adam, AdamW
from stepsize.optimizers.adam_momentum import Adan, AdEMAMix, NAdam, NAdamW
from stepsize.optimizers.adam_order import ADOPT, LaProp
from stepsize.optimizers.adam_scale import AdaBelief, Adamax, RAdam, Yogi
from stepsize.optimizers.adaptive import Adadelta, Adagrad, RMSprop
from stepsize.optimizers.averages import EMA, SWA, Lookahead
from stepsize.optimizers.averaging import ASGD
from stepsize.optimizers.base import Optimizer, registry
from stepsize.optimizers.dadapt import DAdaptAdam, DAdaptSGD
from stepsize.optimizers.dual_averaging import FTRL, MADGRAD
from stepsize.optimizers.factored import SM3, Adafactor
from stepsize.optimizers.groups import group
from stepsize.optimizers.kron import Kron
from stepsize.optimizers.layerwise import LAMB, LARS, NovoGrad
from stepsize.optimizers.lbfgs import LBFGS
from stepsize.optimizers.loss_based import MoMo, MoMoAdam, PolyakSGD
from stepsize.optimizers.matrix import SOAP, Shampoo
from stepsize.optimizers.mechanic import Mechanic
from stepsize.optimizers.momentum import SGD
from stepsize.optimizers.muon import Muon
from stepsize.optimizers.parameter_free import COCOB, DoG, DoWG, LDoG
from stepsize.optimizers.prodigy import Prodigy
from stepsize.optimizers.rows import RowGradient
from stepsize.optimizers.sam import SAM
from stepsize.optimizers.schedule_free import ScheduleFreeAdamW, ScheduleFreeRAdam, ScheduleFreeSGD
from stepsize.optimizers.sign import Lion, Rprop, SignSGD, Signum
from stepsize.optimizers.stats import StepStats
from stepsize.optimizers.wrappers import Accumulate, AdaptiveClip, Centralize, GradientNoise

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

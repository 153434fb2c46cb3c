"""Optimizers: one class per rule, over any nest of NumPy arrays."""

from stepsize.optimizers.adam import Adam, AdamW
from stepsize.optimizers.adam_momentum import Adan, AdEMAMix, NAdam, NAdamW
from stepsize.optimizers.adam_order import ADOPT, LaProp
from stepsize.optimizers.adam_scale import AdaBelief, Adamax, RAdam, Yogi
from stepsize.optimizers.adaptive import Adadelta, Adagrad, RMSprop
from stepsize.optimizers.averaging import ASGD
from stepsize.optimizers.base import Optimizer, StepStats, registry
from stepsize.optimizers.dual_averaging import FTRL, MADGRAD
from stepsize.optimizers.groups import group
from stepsize.optimizers.momentum import SGD
from stepsize.optimizers.schedule_free import ScheduleFreeAdamW, ScheduleFreeRAdam, ScheduleFreeSGD
from stepsize.optimizers.sign import Lion, Rprop, SignSGD, Signum

__all__ = [
    "ADOPT",
    "ASGD",
    "FTRL",
    "MADGRAD",
from stepsize.optimizers.dadapt import DAdaptAdam, DAdaptSGD
from stepsize.optimizers.groups import group
from stepsize.optimizers.layerwise import LAMB, LARS, NovoGrad
from stepsize.optimizers.loss_based import MoMo, MoMoAdam, PolyakSGD
from stepsize.optimizers.momentum import SGD, Lion
from stepsize.optimizers.parameter_free import COCOB, DoG, DoWG, LDoG
from stepsize.optimizers.prodigy import Prodigy

__all__ = [
    "COCOB",
    "LAMB",
    "LARS",
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "LaProp",
    "Lion",
    "NAdam",
    "NAdamW",
    "Optimizer",
    "RAdam",
    "DAdaptAdam",
    "DAdaptSGD",
    "DoG",
    "DoWG",
    "LDoG",
    "Lion",
    "MoMo",
    "MoMoAdam",
    "NovoGrad",
    "Optimizer",
    "PolyakSGD",
    "Prodigy",
    "RMSprop",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeRAdam",
    "ScheduleFreeSGD",
    "SignSGD",
    "Signum",
    "StepStats",
    "Yogi",
    "group",
    "registry",
]

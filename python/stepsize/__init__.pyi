"""What the names are, for type checkers; `__init__.py` says where each comes from at run time."""

from stepsize import arrays as arrays
from stepsize import functional as functional
from stepsize import interop as interop
from stepsize import optimizers as optimizers
from stepsize import plots as plots
from stepsize import problems as problems
from stepsize import schedules as schedules
from stepsize.arrays import pack as pack
from stepsize.automatic.pipeline import autolr as autolr
from stepsize.automatic.results import Action as Action
from stepsize.automatic.results import AutoResult as AutoResult
from stepsize.callbacks import *
from stepsize.diagnosis import Diagnosis as Diagnosis
from stepsize.diagnosis import Finding as Finding
from stepsize.diagnosis import diagnose as diagnose
from stepsize.errors import CheckpointError as CheckpointError
from stepsize.errors import NonFiniteGradientError as NonFiniteGradientError
from stepsize.experiments.branching import what_if as what_if
from stepsize.experiments.results import Branch as Branch
from stepsize.experiments.results import WhatIf as WhatIf
from stepsize.finder.find import lr_find as lr_find
from stepsize.finder.results import LRFindResult as LRFindResult
from stepsize.finder.results import ParameterResult as ParameterResult
from stepsize.gradients.checking import check_gradients as check_gradients
from stepsize.gradients.results import GradientCheck as GradientCheck
from stepsize.gradients.results import LeafCheck as LeafCheck
from stepsize.minimization import Result as Result
from stepsize.minimization import minimize as minimize
from stepsize.noise_scale import NoiseScale as NoiseScale
from stepsize.noise_scale import gradient_noise_scale as gradient_noise_scale
from stepsize.noise_scale import scale_lr as scale_lr
from stepsize.optimizers import RowGradient as RowGradient
from stepsize.optimizers import StepStats as StepStats
from stepsize.optimizers import group as group
from stepsize.optimizers import layer_groups as layer_groups
from stepsize.optimizers.population import Population as Population
from stepsize.optimizers.population import population as population
from stepsize.optimizers.population import replicate as replicate
from stepsize.optimizers.rules import *
from stepsize.optimizers.wrappers import *
from stepsize.problems import Problem as Problem
from stepsize.runtime import __version__ as __version__
from stepsize.runtime import build_info as build_info
from stepsize.runtime import set_num_threads as set_num_threads
from stepsize.schedules import Plateau as Plateau
from stepsize.schedules import Schedule as Schedule
from stepsize.schedules import layerwise_lr as layerwise_lr
from stepsize.training.fitting import fit as fit
from stepsize.training.history import History as History
from stepsize.training.saving import load as load
from stepsize.training.saving import save as save
from stepsize.tuning.results import TuneResult as TuneResult
from stepsize.tuning.search import tune as tune
from stepsize.tuning.space import Choice as Choice
from stepsize.tuning.space import LogUniform as LogUniform
from stepsize.tuning.space import Uniform as Uniform

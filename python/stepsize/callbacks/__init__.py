"""Callbacks: one file each, and the contents of all of them."""

from stepsize.callbacks.batch_size import *
from stepsize.callbacks.checkpoint import *
from stepsize.callbacks.diagnosis_monitor import *
from stepsize.callbacks.divergence import *
from stepsize.callbacks.early_stopping import *
from stepsize.callbacks.freeze import *
from stepsize.callbacks.generators import *
from stepsize.callbacks.interventions import *
from stepsize.callbacks.loggers import *
from stepsize.callbacks.lr_monitor import *
from stepsize.callbacks.reduce_on_plateau import *

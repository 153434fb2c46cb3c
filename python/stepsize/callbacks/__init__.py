"""Callbacks: one file each, and the contents of all of them."""

from typing import TYPE_CHECKING

from stepsize.callbacks.batch_size import *
from stepsize.callbacks.checkpoint import *
from stepsize.callbacks.diagnosis_monitor import *
from stepsize.callbacks.divergence import *
from stepsize.callbacks.early_stopping import *
from stepsize.callbacks.freeze import *
from stepsize.callbacks.generators import *
from stepsize.callbacks.linear_saga import *
from stepsize.callbacks.live_plot import *
from stepsize.callbacks.loggers import *
from stepsize.callbacks.lr_monitor import *
from stepsize.callbacks.mlflow_tracker import *
from stepsize.callbacks.reduce_on_plateau import *
from stepsize.callbacks.reduce_on_stationarity import *
from stepsize.callbacks.sharpness_monitor import *
from stepsize.callbacks.variance_reduction import *
from stepsize.callbacks.wandb_tracker import *

if not TYPE_CHECKING:  # checkers know no computed list; they read the star imports themselves
    __all__ = sorted(
        name
        for name, value in globals().items()
        if getattr(value, "__module__", "").startswith("stepsize.callbacks.")
    )

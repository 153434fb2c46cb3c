"""Converters for schedules of other packages, which need not be installed."""

from stepsize.schedules.importers.huggingface import from_hf
from stepsize.schedules.importers.keras import from_keras
from stepsize.schedules.importers.optax import from_optax
from stepsize.schedules.importers.pytorch import from_torch
from stepsize.schedules.importers.timm import from_timm

__all__ = ["from_hf", "from_keras", "from_optax", "from_timm", "from_torch"]

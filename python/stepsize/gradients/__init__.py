"""Whether gradients fit the loss that they are said to belong to, and gradients by differences."""

from stepsize.gradients.black_box import central, complex_step, forward, spsa
from stepsize.gradients.checking import check_gradients
from stepsize.gradients.results import GradientCheck, LeafCheck

__all__ = [
    "GradientCheck",
    "LeafCheck",
    "central",
    "check_gradients",
    "complex_step",
    "forward",
    "spsa",
]

"""Whether gradients fit the loss that they are said to belong to."""

from stepsize.gradients.checking import check_gradients
from stepsize.gradients.results import GradientCheck, LeafCheck

__all__ = ["GradientCheck", "LeafCheck", "check_gradients"]

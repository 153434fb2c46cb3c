"""stepsize sets, schedules and applies the learning rate for gradients in NumPy arrays."""

from stepsize import problems
from stepsize.problems import Problem

__all__ = ["Problem", "problems"]

"""Minimising one function with any rule."""

from stepsize.minimization.calls import Calls, Limits
from stepsize.minimization.minimizing import minimize, run
from stepsize.minimization.results import Result

__all__ = ["Calls", "Limits", "Result", "minimize", "run"]

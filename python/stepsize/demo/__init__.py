"""The story of the learning rate, told with real data in under a minute."""

from stepsize.demo.report import run
from stepsize.demo.story import Settings, Story, TrainingRun

__all__ = ["Settings", "Story", "TrainingRun", "run"]

"""The story of the learning rate, told with real data in under a minute."""

from stepsize.demo.report import run
from stepsize.demo.story import Run, Settings, Story

__all__ = ["Run", "Settings", "Story", "run"]

"""The guide: every claim about the learning rate as an experiment with a verdict."""

from stepsize.guide.build import Result, build, pages
from stepsize.guide.claim import Claim, Judgement

__all__ = ["Claim", "Judgement", "Result", "build", "pages"]

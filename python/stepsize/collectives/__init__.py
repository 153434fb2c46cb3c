"""Work shared among ranks: communicators, meetings, sums in a fixed order, parts of leaves."""

from stepsize.collectives.averaging import GradientMean
from stepsize.collectives.communicator import Communicator, MPICommunicator
from stepsize.collectives.exchange import Exchange
from stepsize.collectives.layout import Layout, Part
from stepsize.collectives.local import LocalComm
from stepsize.collectives.sums import Share, mean_of, tree_sum
from stepsize.collectives.team import RankError, Team, team_of

__all__ = [
    "Communicator",
    "Exchange",
    "GradientMean",
    "Layout",
    "LocalComm",
    "MPICommunicator",
    "Part",
    "RankError",
    "Share",
    "Team",
    "mean_of",
    "team_of",
    "tree_sum",
]

"""Work shared among ranks: communicators, meetings, sums in a fixed order, parts of leaves."""

from stepsize.collectives.alike import (
    arguments_of,
    options_of,
    refuse_other_parameters,
    settings_of,
)
from stepsize.collectives.averaging import GradientMean
from stepsize.collectives.batches import own_rows
from stepsize.collectives.communicator import Communicator, MPICommunicator
from stepsize.collectives.digests import digest
from stepsize.collectives.exchange import Exchange
from stepsize.collectives.function import averaged, step_averaged
from stepsize.collectives.layout import Layout, Part
from stepsize.collectives.local import LocalComm
from stepsize.collectives.starting import same_parameters, same_start
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
    "arguments_of",
    "averaged",
    "digest",
    "mean_of",
    "options_of",
    "own_rows",
    "refuse_other_parameters",
    "same_parameters",
    "same_start",
    "settings_of",
    "step_averaged",
    "team_of",
    "tree_sum",
]

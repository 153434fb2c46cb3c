"""Ranks of MPI: data-parallel gradients, and optimizer state that each rank holds a part of.

Every name here also works without MPI, on the ranks of a `LocalComm`.
"""

from stepsize.collectives import LocalComm, RankError
from stepsize.interop.mpi.data_parallel import DataParallel
from stepsize.interop.mpi.in_parts import in_parts
from stepsize.interop.mpi.shards import load_shards, save_shards
from stepsize.interop.mpi.zero import Zero1

__all__ = [
    "DataParallel",
    "LocalComm",
    "RankError",
    "Zero1",
    "in_parts",
    "load_shards",
    "save_shards",
]

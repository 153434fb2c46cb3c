"""One page on this machine that follows a run through the file that it logs to."""

from stepsize.watching.server import WatchServer

__all__ = ["WatchServer"]

"""Mistakes in what was asked for on the command line."""

__all__ = ["CommandError"]


class CommandError(Exception):
    """A mistake in what was asked for; shown as one line."""

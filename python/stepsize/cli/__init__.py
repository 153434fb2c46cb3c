"""The `stepsize` command."""

from stepsize.cli.main import main

__all__ = ["main"]

"""Mistakes in what was asked for on the command line."""

__all__ = ["CommandError", "FileError"]


class CommandError(Exception):
    """A mistake in what was asked for; shown as one line."""

    exit_code = 1


class FileError(CommandError):
    """A file that is missing, empty, damaged, a folder, or that may not be read or written."""

    exit_code = 2

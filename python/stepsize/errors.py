"""The two exceptions of our own; everything else is a ValueError or a TypeError."""

from __future__ import annotations


class NonFiniteGradientError(FloatingPointError):
    """A gradient held NaN or infinity; the message names the leaf and the step."""


class CheckpointError(ValueError):
    """A saved file cannot be used; the message names the file and the reason."""

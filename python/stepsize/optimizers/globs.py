"""Globs of leaf paths."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

Glob = str | tuple[str, ...]  # a pattern of leaf paths, or several


def is_glob(pattern: object) -> bool:
    """Whether it is a pattern of leaf paths, or a tuple of them."""
    globs = pattern if isinstance(pattern, tuple) else (pattern,)
    return bool(globs) and all(isinstance(one, str) for one in globs)


def matching(paths: Sequence[str], pattern: Glob) -> list[int]:
    """The leaves whose path a glob matches, or one of several."""
    globs = (pattern,) if isinstance(pattern, str) else pattern
    return [i for i, p in enumerate(paths) if any(fnmatch.fnmatchcase(p, one) for one in globs)]


def few(paths: Sequence[str]) -> str:
    """The first of many leaves, for a message."""
    return ", ".join(paths[:8]) + (", ..." if len(paths) > 8 else "")

"""Parameters that do not move for a while."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

import optree

from stepsize import arrays
from stepsize.callbacks.base import count_or_none

if TYPE_CHECKING:
    from stepsize.training.run import Run


__all__ = ["Freeze"]


class Freeze:
    """Freeze parameters, and their optimizer state, for a while or for good.

    Args:
        patterns: globs of parameter names, such as ``"layers/0/*"``.
        until: the step at which they are unfrozen; None freezes them for good.
    """

    def __init__(self, *patterns: str, until: int | None = None):
        if not patterns:
            raise ValueError('Freeze: give at least one pattern, such as "layers/0/*"')
        if not all(isinstance(pattern, str) for pattern in patterns):
            raise TypeError(f"Freeze: patterns must be globs of leaf paths, got {patterns!r:.200}")
        self.patterns = patterns
        self.until = count_or_none("Freeze: until", until)

    def on_start(self, run: Run) -> None:
        """Find the parameters to freeze."""
        paths = arrays.flatten(run.params)[1]
        for pattern in self.patterns:
            if not fnmatch.filter(paths, pattern):
                raise ValueError(
                    f"Freeze: {pattern!r} matches no parameter; there are {', '.join(paths)}"
                )
        self._frozen = [any(fnmatch.fnmatchcase(p, q) for q in self.patterns) for p in paths]

    def on_gradients(self, run: Run) -> None:
        """Drop the gradients of the frozen parameters."""
        if self.until is None or run.step < self.until:
            leaves, spec = optree.tree_flatten(run.grads, none_is_leaf=True)
            kept = [None if f else leaf for leaf, f in zip(leaves, self._frozen, strict=True)]
            run.grads = optree.tree_unflatten(spec, kept)

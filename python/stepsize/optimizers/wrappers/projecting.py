"""Constraints: a wrapper that keeps parameters in a set."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stepsize._core import BOUND
from stepsize.arrays import Array, Nest
from stepsize.optimizers.half import to_float32
from stepsize.optimizers.transaction import Uninterrupted, assign
from stepsize.optimizers.wrappers.base import Wrapper

__all__ = ["Project"]

NEAR = 64  # units of rounding, of the largest number, that a start may lie outside


class Project(Wrapper):
    r"""Keep parameters in a set: project them onto it after each step of any optimizer.

    .. math::
        x \leftarrow P(\text{step of the optimizer inside})

    ``stats`` are those of the step before the projection. A start outside of the set is refused. No
    state of its own; rules whose answer is an average of points are refused, since only the points
    would be in the set.

    Args:
        optimizer: The optimizer whose steps are taken.
        projections: A projection for all leaves, such as ``ss.projections.nonnegative()``, or a
            dict of them by glob of leaf paths; the first that matches counts. Functions ``array ->
            array`` do as well.

    Source: projected gradient descent, Levitin & Polyak 1966.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 1.0])
        >>> opt = ss.Project(ss.SGD(x, lr=1.0), ss.projections.box(0.0, 2.0))
        >>> opt.step(np.array([5.0, -0.5]))
        >>> x
        array([0. , 1.5])
    """

    def __init__(self, optimizer: Any, projections: Any) -> None:
        super().__init__(optimizer)
        if hasattr(optimizer, "averaged"):
            raise TypeError(
                f"Project: the answer of {type(optimizer).__name__} is an average of points, which "
                "need not lie in the set; give another rule"
            )
        self._set(projections=projections, _places=self._matched(projections))
        for i, nearest in self._places:
            self._check_start(i, nearest)

    def _matched(self, given: Any) -> list[tuple[int, Callable[[Array], Array]]]:
        """The leaves that have a projection, by number."""
        table = given if isinstance(given, Mapping) else {"*": given}
        if not table or not all(map(callable, table.values())):
            raise TypeError(
                "Project: projections must be a projection such as ss.projections.nonnegative(), "
                f"or a dict of them by glob of leaf paths, got {given!r:.80}"
            )
        paths = self.paths
        for pattern in table:
            if not any(fnmatch.fnmatchcase(path, str(pattern)) for path in paths):
                raise ValueError(
                    f"Project: {pattern!r:.80} matches no leaf; the leaves are "
                    f"{', '.join(paths[:8])}{', ...' if len(paths) > 8 else ''}"
                )
        found = []
        for i, path in enumerate(paths):
            for pattern, nearest in table.items():
                if fnmatch.fnmatchcase(path, str(pattern)):
                    found.append((i, nearest))
                    break
        return found

    def _check_start(self, i: int, nearest: Callable[[Array], Array]) -> None:
        path, leaf = self.paths[i], to_float32(self._points[i])
        try:
            inside = np.asarray(nearest(leaf.copy()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"Project: {nearest!r:.80} does not fit {path}: {error}") from error
        if inside.shape != leaf.shape:
            raise ValueError(
                f"Project: {nearest!r:.80} made an array of shape {inside.shape} of {path}, whose "
                f"shape is {leaf.shape}"
            )
        unit = NEAR * float(np.finfo(self._points[i].dtype).eps if leaf.dtype.kind in "fc" else 0)
        outside = np.abs(inside - leaf) > unit * max(1.0, float(np.abs(leaf).max(initial=0.0)))
        if outside.any():
            place = tuple(int(k) for k in np.argwhere(outside)[0])
            raise ValueError(
                f"Project: {int(outside.sum())} of {leaf.size} elements of {path} start outside of "
                f"{nearest!r:.80}, the first {leaf[place]:g}; start inside, "
                f"{path}[...] = projection({path})"
            )

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """The inner optimizer's step, and the projection."""
        with Uninterrupted(), self.internals.engine:
            result = self.inner.step(grads, loss=loss, stats=stats)
            points = [self._points[i] for i, _ in self._places]
            pairs = zip(points, self._places, strict=True)
            try:
                inside = [nearest(to_float32(leaf)) for leaf, (_, nearest) in pairs]
                assign(points, inside)
            except BaseException as error:
                error.add_note("Project: the step was made, but its end is not projected")
                raise
        return result

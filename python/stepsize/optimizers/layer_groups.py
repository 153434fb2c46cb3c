"""Groups that train each layer slower than the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepsize.optimizers.groups import GroupSpec, group
from stepsize.schedules import Schedule
from stepsize.validation import number


def layer_groups(patterns: Sequence[str], lr: Any, factor: float = 2.6) -> list[GroupSpec]:
    """Groups for an optimizer that trains each layer slower than the next (discriminative rates).

    `stepsize.layerwise_lr` gives the factors alone, for layers read off the parameters.

    Args:
        patterns: Globs of parameter names, one for each layer, from the input to the output.
        lr: The rate of the last layer, a number or a schedule.
        factor: How much slower each layer is than the next.

    Source: Howard & Ruder 2018, arXiv:1801.06146, section 3.2.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = {"first": np.zeros(3), "second": np.zeros(3)}
        >>> groups = layer_groups(["first", "second"], lr=0.1, factor=2)
        >>> ss.SGD(params, lr=1.0, groups=groups).lr[1:]  # the group of the rest comes first
        (0.05, 0.1)
    """
    factor = number("layer_groups: factor", factor, 0.0, low_open=True)
    if not isinstance(patterns, list | tuple):
        raise TypeError(f"layer_groups: patterns must be a list of globs, got {patterns!r:.200}")
    if not isinstance(lr, Schedule):
        lr = number("layer_groups: lr", lr, 0.0)
    depth = len(patterns) - 1
    return [group(p, lr=lr * factor ** (i - depth)) for i, p in enumerate(patterns)]

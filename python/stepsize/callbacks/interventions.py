"""Groups by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepsize.optimizers import group

__all__ = ["layer_groups"]


def layer_groups(patterns: Sequence[str], lr: Any, factor: float = 2.6) -> list[Any]:
    """Groups for an optimizer that trains each layer slower than the one above it.

    Args:
        patterns: globs of parameter names, one for each layer, from the input to the output.
        lr: the rate of the last layer, a number or a schedule.
        factor: how much slower each layer is than the next.

    Source: Howard and Ruder 2018, arXiv:1801.06146, section 3.2 (discriminative fine-tuning).

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = {"first": np.zeros(3), "second": np.zeros(3)}
        >>> groups = layer_groups(["first", "second"], lr=0.1, factor=2)
        >>> ss.SGD(params, lr=1.0, groups=groups).lr[1:]  # the group of the rest comes first
        (0.05, 0.1)
    """
    if not factor > 0:
        raise ValueError(f"layer_groups: factor must be above 0, got {factor}")
    depth = len(patterns) - 1
    return [group(p, lr=lr * float(factor) ** (i - depth)) for i, p in enumerate(patterns)]

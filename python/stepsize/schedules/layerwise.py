"""Layer-wise learning rates (discriminative fine-tuning): earlier layers get smaller rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepsize.arrays import Nest
from stepsize.schedules.arguments import Share, check_for, fail


def layerwise_lr(params: Nest, decay: float) -> dict[str, float]:
    """Layer-wise decay: a factor for the rate of each layer, `decay**k` with k layers after it.

    The layers are the items of `params` in their own order; an item that is a list or tuple of
    nests counts as one layer for each of its items. The keys are patterns for `ss.group`.

    Howard and Ruder 2018, arXiv:1801.06146, section 3.2 (discriminative fine-tuning, where
    `decay = 1 / 2.6`).

    Args:
        params: The nest the optimizer gets.
        decay: In (0, 1].

    >>> import numpy as np, stepsize as ss
    >>> layer = {"w": np.zeros((2, 2)), "b": np.zeros(2)}
    >>> params = {"embed": np.zeros((9, 2)), "layers": [layer, layer], "head": np.zeros((2, 3))}
    >>> factors = ss.layerwise_lr(params, 0.5)
    >>> factors
    {'embed': 0.125, 'layers/0/*': 0.25, 'layers/1/*': 0.5, 'head': 1.0}
    >>> lr = ss.schedules.cosine(0.1, 0.0, 1000)
    >>> groups = [ss.group(pattern, lr=lr * factor) for pattern, factor in factors.items()]
    """
    factor: float = check_for(Share)("layerwise_lr", "decay", decay)
    patterns = [pattern for key, item in items_of(params) for pattern in layers_of(key, item)]
    if not patterns:
        raise fail("layerwise_lr", "params", "a dict, list or tuple of layers", type(params))
    last = len(patterns) - 1
    return {pattern: factor ** (last - i) for i, pattern in enumerate(patterns)}


def items_of(nest: Nest) -> list[tuple[str, Any]]:
    """The named items of a nest, in its own order."""
    if isinstance(nest, Mapping):
        return [(str(key), item) for key, item in nest.items()]
    if isinstance(nest, list | tuple):
        return [(str(i), item) for i, item in enumerate(nest)]
    return []


def layers_of(key: str, item: Any) -> list[str]:
    """The patterns of the layers in one item of the parameters."""
    if isinstance(item, list | tuple) and any(map(items_of, item)):
        return [p for i, inner in enumerate(item) for p in layers_of(f"{key}/{i}", inner)]
    return [f"{key}/*"] if items_of(item) else [key]

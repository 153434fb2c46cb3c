"""The kinds of leaves, by how they grow with the width of a model, and what muP does with each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepsize.arrays import Structure
from stepsize.optimizers.matrix_groups import KINDS
from stepsize.validation import choice, number, whole

SOURCE = "muP, Yang et al. 2022, table 3"


@dataclass(frozen=True)
class Leaf:
    """How a leaf, or the leaves of a glob, grows: its kind and by which factors.

    `ratio` is that of its inputs, or of what grows where those do not; `outputs` that of the
    outputs of a hidden leaf.
    """

    pattern: str
    kind: str
    ratio: float
    outputs: float

    def rate_factor(self, power: float) -> float:
        """On the rate, for rules whose steps scale with the gradient (power 1) or ignore it."""
        wide, narrow = self.ratio, 1 / self.ratio
        if power == 1:
            # Table 3 is for layers of one width; the authors' MuSGD divides fan-out by fan-in.
            hidden = self.outputs / self.ratio
            factors = {"input": wide, "vector": wide, "hidden": hidden, "output": narrow}
        else:
            factors = {"input": 1.0, "vector": 1.0, "hidden": narrow, "output": narrow}
        return factors[self.kind]

    @property
    def init_factor(self) -> float:
        """On initial values, beyond the usual ``1 / sqrt(fan_in)``: the output's are 1 / fan_in."""
        return self.ratio**-0.5 if self.kind == "output" else 1.0


def leaves_of(width: Any, kinds: Mapping[str, str] | None, fan_in: int) -> list[Leaf]:
    """The leaves that grow, from two nests of parameters, or from two widths and the kinds."""
    before, after = width
    if _is_number(before) and _is_number(after):
        return _by_name(before, after, kinds)
    if kinds is not None:
        raise ValueError(
            "transfer: kinds goes with two numbers as width; from two nests of parameters the "
            "kinds are read off the shapes"
        )
    return _by_shape(before, after, fan_in)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating)


def _by_name(before: Any, after: Any, kinds: Mapping[str, str] | None) -> list[Leaf]:
    low = number("transfer: width[0]", before, 0.0, low_open=True)
    high = number("transfer: width[1]", after, 0.0, low_open=True)
    if not isinstance(kinds, Mapping) or not kinds:
        raise TypeError(
            "transfer: with two numbers as width, kinds must say what the leaves are, such as "
            "{'first/w': 'input', 'middle/*': 'hidden', 'last/w': 'output', '*/b': 'vector'}, got "
            f"{kinds!r:.80}; or give the parameters of both models, width=(params_from, params_to)"
        )
    return [
        Leaf(pattern, choice(f"transfer: kinds[{pattern!r}]", kind, KINDS), high / low, high / low)
        for pattern, kind in kinds.items()
    ]


def _by_shape(before: Any, after: Any, fan_in: int) -> list[Leaf]:
    axis = whole("transfer: fan_in", fan_in, 0, 1)
    small, large = Structure(before), Structure(after)
    if tuple(small.paths) != tuple(large.paths):
        apart = sorted(set(small.paths) ^ set(large.paths))
        raise ValueError(
            "transfer: both models of width must have the same leaves; only one has "
            f"{', '.join(apart[:4]) or 'them in this order'}"
        )
    found = []
    for path, one, other in zip(small.paths, small.leaves, large.leaves, strict=True):
        leaf = _leaf(path, np.shape(one), np.shape(other), axis)
        found += [leaf] if leaf else []
    return found


def _leaf(path: str, one: tuple[int, ...], other: tuple[int, ...], axis: int) -> Leaf | None:
    if len(one) != len(other) or 0 in one + other:
        raise ValueError(
            f"transfer: {path} has the shapes {one} and {other} in the models of width; a wider "
            "leaf has as many axes, none of them empty"
        )
    ratios = [high / low for low, high in zip(one, other, strict=True)]
    if all(ratio == 1 for ratio in ratios):
        return None
    name = "".join(f"[{c}]" if c in "*?[" else c for c in path)  # a path as a glob of itself
    if len(one) == 1:
        return Leaf(name, "vector", ratios[0], ratios[0])
    others = math.prod(ratio for k, ratio in enumerate(ratios) if k != axis)
    if ratios[axis] == 1:
        return Leaf(name, "input", others, others)
    return Leaf(name, "output" if others == 1 else "hidden", ratios[axis], others)

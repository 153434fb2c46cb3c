"""What `check_gradients` found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepsize.arrays import Curve

NAMED = 6  # leaves of which the same is said


@dataclass(frozen=True, repr=False)
class LeafCheck:
    """Whether the gradient of one leaf fits the loss.

    Attributes:
        path, shape: the leaf.
        verdict: "fits", "wrong", "unused" (neither loss nor gradient depend on it), "unclear"
            (nothing speaks against it, but noise hides the answer, or the loss is flat here),
            "missing" (the gradient is None, and the loss depends on the leaf) or "skipped" (it is
            None, and the loss was not seen to depend on it).
        ratio: slope of the loss over what the gradient says, along the gradient: 1 where it fits,
            -1 where the sign is flipped, NaN where the gradient is 0.
        cosine: of the angle between the gradient and the right one, as far as the directions tell.
        error: the largest mismatch of slopes, as a share of the gradient.
        resolution: the mismatch that could have been seen, as a share of the gradient.
        cause: the likely cause by name, None where there is nothing to explain.
        factor: the number of the cause: what to multiply by, the strength of the decay, the shift.
        words: the cause and its evidence in words.
        kink: whether the loss has a kink at these parameters, where any slope between is right.
        slopes: a row for each direction: predicted by the gradient, measured, error bar.
        coordinates: where asked for, a row each: flat index, gradient, slope, error bar.
    """

    path: str
    shape: tuple[int, ...]
    verdict: str
    ratio: float = math.nan
    cosine: float = math.nan
    error: float = math.nan
    resolution: float = math.nan
    cause: str | None = None
    factor: float = math.nan
    words: str = ""
    kink: bool = False
    slopes: Curve | None = field(default=None, repr=False)
    coordinates: Curve | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against this leaf, and enough was seen, or no gradient is due."""
        return self.verdict in ("fits", "unused", "skipped")

    def __repr__(self) -> str:
        cause = f", {self.cause}" if self.cause else ""
        return f"<LeafCheck {self.path}: {self.verdict}{cause}, ratio={self.ratio:.4g}>"


@dataclass(frozen=True, repr=False)
class GradientCheck:
    """What `check_gradients` found; print it to read it.

    Attributes:
        leaves: a `LeafCheck` for each path.
        cause: the likely cause of what is wrong: "changes_batch", "changes_params" or that of the
            first wrong leaf; None where nothing is.
        notes: what else was seen, a sentence each.
        loss: the loss at the parameters.
        noise: its noise: the standard deviation of one evaluation, from rounding or chance.
        stochastic: whether the function draws random numbers.
        calls: how often the function was called.
    """

    leaves: dict[str, LeafCheck]
    cause: str | None
    notes: tuple[str, ...]
    loss: float
    noise: float
    stochastic: bool
    calls: int

    @property
    def ok(self) -> bool:
        """Whether every gradient fits, none is missing, and the function leaves what it is given.

        False for three reasons: something is wrong (`wrong` or `cause` say what), the gradient of a
        leaf is None on which the loss depends (`missing`), so that training would leave it as it
        is, or a leaf is "unclear" (`unclear`), of which nothing is wrong that could be seen. None
        for a leaf that the loss ignores is "skipped", and what the function does to such a leaf, as
        to a running mean, is its own.
        """
        return self.cause is None and all(leaf.ok for leaf in self.leaves.values())

    @property
    def wrong(self) -> list[str]:
        """The paths of the leaves whose gradient is wrong."""
        return [path for path, leaf in self.leaves.items() if leaf.verdict == "wrong"]

    @property
    def missing(self) -> list[str]:
        """The paths of the leaves on which the loss depends and whose gradient is None."""
        return [path for path, leaf in self.leaves.items() if leaf.verdict == "missing"]

    @property
    def unclear(self) -> list[str]:
        """The paths of the leaves of which nothing can be said; `words` of each say why."""
        return [path for path, leaf in self.leaves.items() if leaf.verdict == "unclear"]

    def plot(self, ax: Any = None) -> Any:
        """Draw measured against predicted slopes of every leaf; returns the matplotlib axes."""
        from stepsize.plots import gradient_check

        return gradient_check(self, ax)

    def __repr__(self) -> str:
        unclear = f"{', '.join(self.unclear)} unclear"
        if self.missing:
            unclear = f"{', '.join(self.missing)} missing"
        state = "ok" if self.ok else f"not ok: {', '.join(self.wrong) or self.cause or unclear}"
        return f"<GradientCheck {state}, {len(self.leaves)} leaves, {self.calls} calls>"

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

    def __str__(self) -> str:
        rows = [("leaf", "shape", "verdict", "ratio", "cosine", "error", "seen to")]
        for path, leaf in self.leaves.items():
            numbers = (_plain(leaf.ratio), _plain(leaf.cosine))
            shares = (_share(leaf.error), _share(leaf.resolution))
            shape = "x".join(map(str, leaf.shape)) or "number"
            rows.append((path, shape, leaf.verdict, *numbers, *shares))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [self._lead()]
        for row in rows:
            cells = [
                cell.ljust(width) if k < 3 else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        lines += in_words(self.leaves)
        lines += self.notes
        lines.append(f"{self.calls} calls on copies; parameters and batch are untouched")
        return "\n".join(lines)

    def _lead(self) -> str:
        if self.ok:
            none = sum(leaf.verdict == "skipped" for leaf in self.leaves.values())
            given = (
                f" that were given, {len(self.leaves) - none} of {len(self.leaves)},"
                if none
                else ""
            )
            return f"the gradients{given} fit the loss"
        wrong = self.wrong
        if wrong:
            return f"{len(wrong)} of {len(self.leaves)} gradients do not fit the loss"
        if self.cause is not None:
            return "the function changes what it is given"
        if self.missing:
            return (
                f"{len(self.missing)} of {len(self.leaves)} gradients are missing, and nothing is "
                "wrong in the others that could be seen"
            )
        return (
            f"nothing is wrong that could be seen, but {len(self.unclear)} of {len(self.leaves)} "
            "gradients cannot be compared with the loss"
        )


def in_words(leaves: Mapping[str, LeafCheck]) -> list[str]:
    """What there is to say of leaves, a line each; those of which the same is said share one."""
    paths: dict[str, list[str]] = {}
    for path, leaf in leaves.items():
        if leaf.words:
            paths.setdefault(leaf.words, []).append(path)
    lines = []
    for words, some in paths.items():
        more = f" and {len(some) - NAMED} more" if len(some) > NAMED else ""
        lines.append(f"{', '.join(some[:NAMED])}{more}: {words}")
    return lines


def _plain(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0e}"

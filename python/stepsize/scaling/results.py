"""What `transfer` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Move:
    """One hyperparameter, or that of a leaf: before, after, and the rule that moved or kept it."""

    name: str
    before: Any
    after: Any
    why: str


@dataclass(frozen=True, repr=False)
class Transferred:
    """What `transfer` makes of settings; print it to see which rule gave what.

    Attributes:
        settings: the keywords for the optimizer, ``ss.AdamW(params, **transferred.settings)``; with
            a width they hold ``groups`` for the leaves whose rate or decay is their own.
        moves: a `Move` for each hyperparameter, also for those that are kept.
        init: by leaf, a factor on initial values beyond that of ``1 / sqrt(fan_in)``; empty
            without a width.
    """

    settings: dict[str, Any]
    moves: tuple[Move, ...]
    init: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Move:
        for move in self.moves:
            if move.name == name:
                return move
        known = ", ".join(move.name for move in self.moves)
        raise KeyError(f"nothing is known of {name!r}; there are {known}")

    def table(self) -> str:
        """The moves as text: name, before, after, rule."""
        rows = [["", "before", "after", "rule"]]
        rows += [[m.name, _text(m.before), _text(m.after), m.why] for m in self.moves]
        rows += [
            [f"{leaf}, initial values", "", f"x{_text(factor)}", "muP, Yang et al. 2022, table 3"]
            for leaf, factor in self.init.items()
        ]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        return "\n".join(
            "  ".join([*(c.ljust(w) for c, w in zip(row[:3], widths, strict=True)), row[3]])
            for row in rows
        )

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        changed = [m for m in self.moves if m.before != m.after]
        words = ", ".join(f"{m.name}={_text(m.after)}" for m in changed[:4])
        return f"<Transferred {words or 'nothing changed'}{', ...' if len(changed) > 4 else ''}>"

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)


def _text(value: Any) -> str:
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return f"({', '.join(f'{v:.6g}' if isinstance(v, float) else str(v) for v in value)})"
    return str(value)

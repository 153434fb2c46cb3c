"""What `minimize` found."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepsize.arrays import Nest, flatten, map_leaves
from stepsize.finder.results import frame
from stepsize.training.history import History

SEARCHED = "while looking for the rate"  # in a message
PRINTED = 10  # numbers of an array that are printed whole
ROWS = 12  # of a table
SEARCHED = "while looking for the rate"


@dataclass(frozen=True, repr=False)
class Result:
    """What `minimize` found; print it to read it.

    `x` is the best point seen, in the search for the rate or in a step, nested as `x0` was. `fun`,
    `grad` and `grad_norm` (the largest component of the gradient) belong to it. `message` says why
    it ended. `nit` counts steps, `nfev` calls of the function in all, those of the search for the
    rate included. `lr` is the rate or schedule that was used, `history` has one row per step.
    `success`, `status`, `jac` and `njev` are SciPy's names for `converged`, 0 or 1, `grad`, `nfev`.
    """

    x: Nest
    fun: float
    grad: Nest = field(repr=False)
    grad_norm: float
    nit: int
    nfev: int
    converged: bool
    message: str
    rule: str
    lr: Any
    history: History = field(repr=False)

    @property
    def success(self) -> bool:
        """Whether it converged."""
        return self.converged

    @property
    def status(self) -> int:
        """0 where it converged, else 1."""
        return 0 if self.converged else 1

    @property
    def jac(self) -> Nest:
        """The gradient at `x`."""
        return self.grad

    @property
    def njev(self) -> int:
        """Calls of the gradient, which comes with the value, so as many as `nfev`."""
        return self.nfev

    def to_pandas(self) -> Any:
        """The history as a `pandas.DataFrame`, one row per step."""
        return frame({name: self.history[name] for name in self.history})

    def plot(self, ax: Any = None) -> Any:
        """Draw value and rate of each step; returns the matplotlib axes."""
        return self.history.plot(ax)

    def table(self) -> str:
        """Value, length of the gradient and rate of some steps, one a line."""
        history = self.history
        rows = np.unique(np.geomspace(1, max(1, self.nit), ROWS).round()).astype(int) - 1
        lines = [f"{'step':>8}  {'fun':>12}  {'|gradient|':>12}  {'lr':>12}"]
        for k in rows[: self.nit]:
            numbers_ = (history.at(name, int(k)) for name in ("loss", "grad_norm", "lr"))
            cells = "  ".join(f"{value:12.5g}" for value in numbers_)
            lines.append(f"{int(history.at('step', int(k))):8d}  {cells}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"<Result f={self.fun:.6g}, {'converged' if self.converged else 'not converged'}, "
            f"{self.rule}, {self._cost()}>"
        )

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

    def _cost(self, of: str = "") -> str:
        """Steps and calls; a search that met the answer needed no step."""
        calls = f"{self.nfev} call{'s' if self.nfev != 1 else ''}{of}"
        if self.nit:
            return f"{self.nit} step{'s' if self.nit != 1 else ''}, {calls}"
        if self.nfev > 1 and SEARCHED in self.message:
            return f"{calls}, all in the search for the rate"
        return f"{calls}, no step"

    def __str__(self) -> str:
        rate = f"{self.lr:.3g}" if isinstance(self.lr, numbers.Real) else str(self.lr)
        rows = {
            "success": self.converged,
            "fun": f"{self.fun:.6g}",
            "x": _short(self.x),
            "jac": _short(self.grad),
            "grad_norm": f"{self.grad_norm:.2e}",
            "nit": self.nit,
            "nfev": self.nfev,
            "rule": f"{self.rule}, lr {rate}: {self._cost(' of the function')}",
        }
        lead = f"{'converged' if self.converged else 'not converged'}: {self.message}"
        return "\n".join([lead, *(f"{name:>9}: {value}" for name, value in rows.items())])


def _short(nest: Nest) -> str:
    """A nest on one line; of longer arrays the first and last numbers."""
    if len(flatten(nest)[0]) > PRINTED:
        leaves = flatten(nest)[0]
        return f"{sum(leaf.size for leaf in leaves)} numbers in {len(leaves)} arrays"

    def one(leaf: Any) -> _Text:
        text = np.array2string(
            np.asarray(leaf), threshold=PRINTED, edgeitems=3, precision=4, max_line_width=10**6
        )
        return _Text(" ".join(text.split()))

    return str(map_leaves(one, nest))


class _Text(str):
    """A text that shows without quotes inside of a nest."""

    def __repr__(self) -> str:
        return str(self)

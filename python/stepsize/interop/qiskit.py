"""Every rule with the signature of Qiskit's optimizers: ``minimize(fun, x0, jac, bounds)``.

    from stepsize.interop.qiskit import RuleMinimizer

    vqe = VQE(estimator, ansatz, optimizer=RuleMinimizer("adam", lr=0.05, max_iter=200))

It is a callable with that signature as well (Qiskit's ``Minimizer`` protocol). Without ``jac`` the
gradient is made by differences, ``grad="central"``, or ``"spsa"`` for two evaluations a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepsize.minimization import Result, minimize

__all__ = ["RuleMinimizer"]


class RuleMinimizer:
    """`ss.minimize` with Qiskit's signature.

    Args:
        rule: the name of a rule, such as "adam" or "lbfgs", or an optimizer class.
        grad: the gradient where there is no ``jac``: "central", "forward", "complex_step", "spsa".
        options: further keywords of `ss.minimize` and of the rule, such as ``lr`` and ``tol``.
    """

    def __init__(self, rule: Any = "adam", *, grad: str = "central", **options: Any) -> None:
        self._rule, self._grad, self._options = rule, grad, options

    @property
    def settings(self) -> dict[str, Any]:
        """What makes another one like it."""
        return {"rule": self._rule, "grad": self._grad, **self._options}

    def minimize(
        self,
        fun: Any,
        x0: Any,
        jac: Any = None,
        bounds: Sequence[tuple[float | None, float | None]] | None = None,
    ) -> Result:
        """The minimum from `x0`: a `Result`, with ``x, fun, jac, nit, nfev, njev``."""

        def value(x: Any) -> float:
            return float(np.asarray(fun(x)).item())

        pairs = None if bounds is None else [(None, None) if p is None else p for p in bounds]
        ways: dict[str, Any] = {"grad": self._grad}
        if jac is not None:
            ways = {"jac": lambda x: np.asarray(jac(x), np.float64)}
        x = np.asarray(x0, np.float64)
        return minimize(value, x, self._rule, bounds=pairs, **ways, **self._options)

    __call__ = minimize

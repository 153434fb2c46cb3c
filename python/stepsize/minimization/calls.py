"""The function to minimize in the form it was given, and what ends a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepsize.arrays import Nest, check_function, copy
from stepsize.gradients import black_box
from stepsize.validation import choice, number, whole

DIFFERENCES = ("central", "forward", "complex_step", "spsa")


@dataclass(frozen=True)
class Limits:
    """What ends a run."""

    max_iter: int = 1000
    gtol: float = 1e-5
    ftol: float = 0.0
    patience: int = 50
    max_time: float | None = None

    def check(self) -> None:
        """Refuse what is out of range."""
        whole("minimize: max_iter", self.max_iter)
        whole("minimize: patience", self.patience)
        for name in ("gtol", "ftol", "max_time"):
            if name != "max_time" or self.max_time is not None:
                found = number(f"minimize: {name}", getattr(self, name), 0.0, high_open=False)
                object.__setattr__(self, name, found)


class Calls:
    """The user's function with its gradient, whatever form they came in, and how often called."""

    def __init__(self, function: Any, jac: Any = None, grad: str | None = None) -> None:
        result = "(value, gradient)" if (jac is None or jac is True) and grad is None else "value"
        check_function("minimize", function, "fun_and_grad", result, "x")
        self.extra = 0  # calls behind a gradient by differences, besides one each
        self._function, self._jac = function, None if jac is True else jac
        if jac is not None and grad is not None:
            raise ValueError(f"minimize: give jac or grad={grad!r:.80}, not both")
        if self._jac is not None:
            check_function("minimize", jac, "jac", "gradient, True or None", "x")
        self._made = None
        if grad is not None:
            choice("minimize: grad", grad, DIFFERENCES)
            self._make = getattr(black_box, grad)
            self._made = self._make(self._counted)

    def stay_inside(self, bounds: Any) -> None:
        """Have a gradient by differences call the function inside of the bounds alone."""
        if self._made is not None and self._make is not black_box.complex_step:
            self._made = self._make(self._counted, bounds=bounds)

    def _counted(self, x: Nest, batch: Any) -> Any:
        self.extra += 1
        return self._value(x)

    def _value(self, x: Nest) -> Any:
        value = self._function(x)
        if isinstance(value, tuple):
            raise TypeError(
                "minimize: with jac or grad the function returns its value alone, got a tuple of "
                f"{len(value)}; leave jac and grad out where it returns (value, gradient)"
            )
        return value

    def __call__(self, x: Nest) -> Any:
        if self._made is not None:
            self.extra -= 1
            return self._made(x, None)
        if self._jac is None:
            return self._function(x)
        return self._value(copy(x)), self._jac(x)

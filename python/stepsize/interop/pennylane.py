"""Every rule with the methods of PennyLane's optimizers.

    from stepsize.interop.pennylane import RuleOptimizer

    optimizer = RuleOptimizer("adam", lr=0.05)       # instead of qml.AdamOptimizer(0.05)
    weights, cost = optimizer.step_and_cost(circuit, weights)

``step`` and ``step_and_cost`` take an objective, its arguments and ``grad_fn``, and return new
arguments as PennyLane's do. Arguments whose ``requires_grad`` is False, and what holds no floating
point numbers, come back as they are. Without ``grad_fn`` autograd differentiates, which PennyLane
brings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepsize.optimizers import Optimizer
from stepsize.optimizers.registration import maker_of

__all__ = ["RuleOptimizer"]

OWNER = "RuleOptimizer"


class RuleOptimizer:
    """A rule with the methods ``step`` and ``step_and_cost`` of PennyLane's optimizers.

    Args:
        rule: the name of a rule, a class, or a function ``params -> optimizer``.
        options: ``lr`` and further keywords of the rule.

    Attributes:
        optimizer: the optimizer behind it, None before the first step.
    """

    def __init__(self, rule: Any = "adam", **options: Any) -> None:
        make = maker_of(rule, OWNER)
        if not callable(make):
            raise TypeError(f"{OWNER}: rule must be a name or class of a rule, got {rule!r:.80}")
        self._make: Callable[..., Any] = make
        self._options = options
        self._own: list[Any] = []
        self.optimizer: Optimizer | None = None

    def step(self, objective_fn: Any, *args: Any, grad_fn: Any = None, **kwargs: Any) -> Any:
        """New arguments after one step; a single one comes alone, several in a list."""
        return self._stepped(objective_fn, args, grad_fn, kwargs, cost=False)[0]

    def step_and_cost(
        self, objective_fn: Any, *args: Any, grad_fn: Any = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """New arguments after one step, and the value of the objective before it."""
        return self._stepped(objective_fn, args, grad_fn, kwargs, cost=True)

    def reset(self) -> None:
        """Forget the state of the rule."""
        self.optimizer, self._own = None, []

    def _stepped(
        self, objective: Any, args: tuple[Any, ...], grad_fn: Any, kwargs: Any, *, cost: bool
    ) -> tuple[Any, Any]:
        places = [k for k, arg in enumerate(args) if _trainable(arg)]
        if not places:
            raise ValueError(f"{OWNER}: no argument is trainable; give an array with requires_grad")
        value = None
        if grad_fn is None:
            value, grads = _differentiated(objective, places)(*args, **kwargs)
        else:
            grads = grad_fn(*args, **kwargs)
            value = objective(*args, **kwargs) if cost else None
            grads = (grads,) if len(places) == 1 and not isinstance(grads, tuple | list) else grads
        if len(grads) != len(places):
            raise ValueError(
                f"{OWNER}: grad_fn returned {len(grads)} gradients for {len(places)} trainable "
                "arguments; give one for each, in their order"
            )
        self._at([args[k] for k in places])
        own = self._own
        given = [np.asarray(g, x.dtype) for g, x in zip(grads, own, strict=True)]
        assert self.optimizer is not None
        self.optimizer.step(given, loss=None if value is None else float(value))
        new = list(args)
        for k, x in zip(places, own, strict=True):
            new[k] = _like(args[k], x)
        return new[0] if len(new) == 1 else new, value

    def _at(self, args: list[Any]) -> None:
        """Move the rule's own arrays to the arguments."""
        points = [np.asarray(arg) for arg in args]
        if self.optimizer is None:
            self._own = [np.array(p) for p in points]
            self.optimizer = self._make(self._own, **self._options)
        shapes = [p.shape for p in points], [x.shape for x in self._own]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{OWNER}: the trainable arguments have shapes {shapes[0]}, and had {shapes[1]} "
                "before; call reset() or make another one"
            )
        for x, p in zip(self._own, points, strict=True):
            x[...] = p


def _trainable(arg: Any) -> bool:
    floating = isinstance(arg, float) or getattr(arg, "dtype", np.dtype(int)).kind == "f"
    return floating and bool(getattr(arg, "requires_grad", True))


def _like(arg: Any, x: Any) -> Any:
    """A copy of the numbers as what the argument was, tensors with their attributes."""
    if isinstance(arg, float) and not isinstance(arg, np.ndarray):
        return float(x)
    new = np.array(arg, copy=True, subok=True)
    new[...] = x
    if hasattr(arg, "requires_grad"):
        new.requires_grad = arg.requires_grad  # type: ignore[attr-defined]
    return new


def _differentiated(objective: Any, places: list[int]) -> Any:
    try:
        from autograd import value_and_grad
    except ImportError as error:
        raise ImportError(
            f"{OWNER}: without grad_fn autograd is needed: pip install pennylane, or "
            '"stepsize[autograd]"'
        ) from error
    return value_and_grad(objective, argnum=tuple(places))

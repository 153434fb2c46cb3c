"""Every rule as a ``method`` of `scipy.optimize.minimize`.

    scipy.optimize.minimize(fun, x0, jac=True, method=stepsize.interop.scipy.adam)

One function for each rule, named as the rule is: ``adam``, ``adamw``, ``lbfgs``, ``sign_sgd`` ...
The gradient must be given, by ``jac=True`` or as a function. ``tol`` is ``gtol``. In ``options``:

* ``lr``: a number, a schedule, None for the default of the rule, or "auto" (the default): the rate
  that `ss.lr_find` suggests, lowered to 0 in the second half of ``maxiter``;
* ``maxiter``, ``gtol``, ``ftol``, ``patience``: as ``max_iter`` and so on of `ss.minimize`;
* ``disp``: print what was found;
* any keyword of the rule, such as ``betas`` or ``clip_norm``.

``bounds`` are pairs or a ``Bounds``, for every rule but L-BFGS; steps are projected. There are no
constraints, and no use for second derivatives: they are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    from scipy.optimize import OptimizeResult
except ImportError as error:
    raise ImportError(
        'stepsize.interop.scipy needs SciPy: pip install "stepsize[scipy]"'
    ) from error

from stepsize.minimization import Calls, Limits, Result, run
from stepsize.optimizers import Optimizer, registry
from stepsize.optimizers.registration import find_rule, snake_case


def method(rule: type[Optimizer] | str) -> Callable[..., OptimizeResult]:
    """The ``method`` of a rule, for one that is not in the registry when this is imported."""
    find_rule(rule, "method")

    def optimize(
        fun: Callable[..., Any],
        x0: Any,
        args: tuple[Any, ...] = (),
        *,
        jac: Any = None,
        hess: Any = None,
        hessp: Any = None,
        bounds: Any = None,
        constraints: Any = (),
        callback: Callable[..., Any] | None = None,
        lr: Any = "auto",
        maxiter: int = 1000,
        gtol: float = 1e-5,
        ftol: float = 0.0,
        patience: int = 50,
        tol: float | None = None,
        disp: bool = False,
        **options: Any,
    ) -> OptimizeResult:
        name = optimize.__name__
        _refuse(name, jac, hess=hess, hessp=hessp, constraints=constraints)
        pairs = list(bounds) if isinstance(bounds, tuple | list) else bounds

        def fun_and_grad(x: Any) -> tuple[float, Any]:
            # Each gets a copy of its own, which it may keep and change.
            value = _number(name, fun(x.copy(), *args))
            return value, _gradient(name, jac(x.copy(), *args), x)

        limits = Limits(maxiter, gtol if tol is None else tol, ftol, patience)
        told = None if callback is None else _told(callback)
        call = Calls(fun_and_grad)
        found = run(
            call, np.asarray(x0), rule, lr, limits, told, options, pairs or None, refuse=False
        )
        if disp:
            print(found)
        return _result(found)

    cls = rule if isinstance(rule, type) else None
    optimize.__name__ = optimize.__qualname__ = snake_case(cls) if cls else str(rule)
    first = (inspect.getdoc(cls) or "").split("\n", 1)[0] if cls else ""
    keywords = ", ".join(f"``{key}={field.default!r}``" for key, field in _fields(cls).items())
    optimize.__doc__ = f"""{first}

    A ``method`` of ``scipy.optimize.minimize``, with ``jac=True`` or a function.

    Options: ``lr="auto"``, ``maxiter=1000``, ``gtol=1e-5``, ``ftol=0``, ``patience=50``,
    ``disp=False``, and those of the rule: {keywords or "none"}.
    """
    return optimize


def _gradient(owner: str, given: Any, x: Any) -> Any:
    """What jac returned, in the shape of x."""
    if np.asarray(given).dtype.kind == "c" and x.dtype.kind != "c":
        raise ValueError(
            f"{owner}: jac returned complex numbers, and x has real ones; give its real part, or "
            "start from a complex x0"
        )
    kind = np.asarray(given).dtype.kind
    if kind in "fiu" and x.dtype.kind == "c":
        raise ValueError(
            f"{owner}: jac returned real numbers, and x has complex ones; give both parts, "
            f"dL/dx + 1j * dL/dy, as {x.dtype}"
        )
    try:
        found = None if given is None else np.asarray(given, x.dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or found.size != x.size:
        what = type(given).__name__ if found is None else f"an array of shape {found.shape}"
        raise ValueError(
            f"{owner}: jac must return the gradient, {x.size} numbers as x has, got {what}"
        )
    return found.reshape(x.shape)


def _fields(cls: Any) -> dict[str, Any]:
    return {key: field for key, field in getattr(cls, "fields", {}).items() if key != "lr"}


def _refuse(name: str, jac: Any, **others: Any) -> None:
    """Say what this method has no use for, instead of leaving it out."""
    if not callable(jac):
        raise ValueError(
            f"{name}: the gradient is needed, got jac={jac!r}; give jac=True where fun returns "
            "(value, gradient), or a function"
        )
    for key, value in others.items():
        if value is not None and not (isinstance(value, tuple | list) and not len(value)):
            uses = "'SLSQP' or 'trust-constr'" if key == "constraints" else "'trust-ncg'"
            raise ValueError(f"{name}: {key} is not supported; leave it out, or use method={uses}")


def _number(name: str, value: Any) -> float:
    """The value of an objective, which may be an array of one number."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiub":
        fix = "; give its real part, value.real" if array.dtype.kind == "c" else ""
        raise ValueError(
            f"{name}: fun must return one number, got {type(value).__name__} of shape "
            f"{array.shape}{fix}"
        )
    return float(array.item())


def _told(callback: Callable[..., Any]) -> Callable[[Result], bool]:
    """SciPy's callback, of a point or of a result, which ends the run by StopIteration."""
    whole = list(inspect.signature(callback).parameters) == ["intermediate_result"]

    def call(result: Result) -> bool:
        try:
            if whole:
                callback(intermediate_result=_result(result))
            else:
                callback(result.x)
        except StopIteration:
            return True
        return False

    return call


def _result(found: Result) -> OptimizeResult:
    return OptimizeResult(
        x=found.x,
        fun=found.fun,
        jac=found.grad,
        nit=found.nit,
        nfev=found.nfev,
        njev=found.nfev,
        success=found.converged,
        status=0 if found.converged else 1,
        message=found.message,
        lr=found.lr,
        history=found.history,
    )


for _rule in registry():
    globals()[snake_case(_rule)] = method(_rule)

__all__ = ["method", *map(snake_case, registry())]

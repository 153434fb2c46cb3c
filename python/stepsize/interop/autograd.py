"""Every rule with the signature of `autograd.misc.optimizers`, and its three with its numbers.

    from stepsize.interop.autograd import adam  # instead of autograd.misc.optimizers

``adam``, ``sgd`` and ``rmsprop`` have autograd's arguments and defaults and give its results up to
rounding. The other rules are here under their names in lower case, such as ``adamw``, ``lion`` or
``schedule_free_adamw``, with ``step_size=None`` for the default of the rule and further keywords of
it. ``step_size`` may be a schedule everywhere. Rules that need the value of the function, which
this signature does not have, are not here: see `ss.minimize`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    from autograd.misc import flatten
except ImportError as error:
    raise ImportError(
        'stepsize.interop.autograd needs autograd: pip install "stepsize[autograd]"'
    ) from error

from stepsize.arrays import COMPLEX, conversion
from stepsize.arrays import flatten as leaves_of
from stepsize.optimizers import SGD, Adam, Optimizer, RMSprop, registry
from stepsize.optimizers.registration import snake_case
from stepsize.schedules import Schedule, from_function

Gradient = Callable[[Any, int], Any]
Callback = Callable[[Any, int, Any], Any]


def _run(
    make: Callable[[Any], Optimizer],
    grad: Gradient,
    x0: Any,
    callback: Callback | None,
    num_iters: int,
) -> Any:
    flat, unflatten = flatten(x0)
    plain = isinstance(x0, np.ndarray)  # autograd's flatten takes longer than a step
    # What grad and callback get they may keep, so they get copies of what changes in place.
    x = np.array(flat, _dtype(flat, x0))
    optimizer = make(x)
    for i in range(num_iters):
        point = x.copy().reshape(x0.shape) if plain else unflatten(x.copy())
        found = grad(point, i)
        g = _ascent(np.ravel(found) if plain else flatten(found)[0], x)
        if callback:
            callback(unflatten(x.copy()), i, unflatten(g.conj() if x.dtype in COMPLEX else g))
        optimizer.step(g)
    if hasattr(optimizer, "averaged"):
        with optimizer.averaged():
            return unflatten(x.copy())
    return unflatten(x)


def _dtype(flat: Any, x0: Any) -> Any:
    """The dtype of the parameters, which are all real or all complex."""
    if flat.dtype.kind != "c":
        return np.float32 if flat.dtype == np.float32 else np.float64
    if any(np.asarray(leaf).dtype.kind != "c" for leaf in leaves_of(x0)[0]):
        raise TypeError(
            "x0 mixes real and complex arrays, which autograd joins to complex ones: the real ones "
            "would not stay real; make all complex, or take ss.minimize with gradients of your own"
        )
    return np.complex64 if flat.dtype == np.complex64 else np.complex128


def _ascent(found: Any, x: Any) -> Any:
    """The direction of steepest ascent; autograd's gradient in complex numbers is its conjugate."""
    g = np.asarray(found)
    if g.dtype.kind != "c":
        if x.dtype in COMPLEX:
            raise TypeError(
                f"the gradient is {g.dtype} and x is {x.dtype}; {conversion(g.dtype, x.dtype)}"
            )
        return np.asarray(g, x.dtype)
    if x.dtype not in COMPLEX:
        raise TypeError(
            f"the gradient is {g.dtype} and x is {x.dtype}; start from a complex x0, or give the "
            "real part of the gradient"
        )
    return np.asarray(g.conj(), x.dtype)


def sgd(
    grad: Gradient,
    x0: Any,
    callback: Callback | None = None,
    num_iters: int = 200,
    step_size: Any = 0.1,
    mass: Any = 0.9,
) -> Any:
    """As ``autograd.misc.optimizers.sgd``: momentum whose new gradient weighs ``1 - mass``.

    Args:
        grad: ``(x, i) -> gradient`` at iteration ``i``, nested as ``x``.
        x0: array, number, or a nest of them; it is left alone.
        callback: ``(x, i, gradient)``, before each step.
    """
    if callable(step_size) and not isinstance(step_size, Schedule):
        step_size = from_function(step_size)
    return _run(
        lambda x: SGD(x, step_size * (1.0 - mass), momentum=mass), grad, x0, callback, num_iters
    )


def rmsprop(
    grad: Gradient,
    x0: Any,
    callback: Callback | None = None,
    num_iters: int = 100,
    step_size: Any = 0.1,
    gamma: Any = 0.9,
    eps: Any = 10**-8,
) -> Any:
    """As ``autograd.misc.optimizers.rmsprop``, whose mean of squares begins at 1. See `sgd`."""

    def make(x: Any) -> Optimizer:
        optimizer = RMSprop(x, step_size, alpha=gamma, eps=eps)
        optimizer.state["params"]["square_avg"][...] = 1.0
        return optimizer

    return _run(make, grad, x0, callback, num_iters)


def adam(
    grad: Gradient,
    x0: Any,
    callback: Callback | None = None,
    num_iters: int = 100,
    step_size: Any = 0.001,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 10**-8,
) -> Any:
    """As ``autograd.misc.optimizers.adam``. See `sgd`."""
    return _run(
        lambda x: Adam(x, step_size, betas=(b1, b2), eps=eps), grad, x0, callback, num_iters
    )


def _of(cls: type[Optimizer]) -> Callable[..., Any]:
    def optimize(
        grad: Gradient,
        x0: Any,
        callback: Callback | None = None,
        num_iters: int = 100,
        step_size: Any = None,
        **hyperparameters: Any,
    ) -> Any:
        return _run(lambda x: cls(x, step_size, **hyperparameters), grad, x0, callback, num_iters)

    optimize.__name__ = optimize.__qualname__ = snake_case(cls)
    first = (inspect.getdoc(cls) or "").split("\n", 1)[0]
    also = f"Arguments as for `sgd`; ``step_size`` is the ``lr`` of `ss.{cls.__name__}`."
    optimize.__doc__ = f"{first}\n\n{also}"
    return optimize


_RULES = [cls for cls in registry() if not cls.needs_loss and not cls.needs_closure]

for _rule in _RULES:
    globals().setdefault(snake_case(_rule), _of(_rule))

__all__ = [snake_case(cls) for cls in _RULES]

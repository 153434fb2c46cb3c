"""Gradients from JAX, parameters in NumPy, and copies between them.

A JAX array never changes, and the optimizers change their parameters in place: so nothing here
shares memory, in either direction. Nests are of dict, list, tuple and named tuple.

float64 needs ``jax.config.update("jax_enable_x64", True)``; without it JAX would round the
parameters to float32 silently, which is refused. bfloat16 and float16 are formats to compute
gradients in: `to_numpy` widens them to float32, in which the optimizer keeps its parameters, and
``value_and_grad(loss, dtype=jnp.bfloat16)`` narrows them for the loss.

JAX's gradient of a real loss in a complex parameter z = x + iy is dL/dx - i dL/dy. Here it is the
direction of steepest ascent, dL/dx + i dL/dy, so what comes from JAX is conjugated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError('stepsize.interop.jax needs jax: pip install "stepsize[jax]"') from error

from stepsize.arrays import Nest, flatten
from stepsize.optimizers import Optimizer
from stepsize.optimizers.registration import find_rule
from stepsize.validation import as_loss


def to_numpy(nest: Nest) -> Nest:
    """Writable NumPy copies of arrays, in the same nest; bfloat16 and float16 become float32.

    Example:
        >>> import jax.numpy as jnp
        >>> to_numpy({"w": jnp.ones(2, jnp.bfloat16)})
        {'w': array([1., 1.], dtype=float32)}
    """

    def one(leaf: Any) -> Any:
        array = np.array(leaf)
        narrow = array.dtype.itemsize == 2 and jnp.issubdtype(array.dtype, jnp.floating)
        return array.astype(np.float32) if narrow else array

    return jax.tree.map(one, nest)


def gradient_to_numpy(grads: Nest) -> Nest:
    """JAX's gradients as `to_numpy` gives arrays, complex ones conjugated: steepest ascent.

    Example:
        >>> import jax.numpy as jnp
        >>> gradient_to_numpy(jnp.array([1 + 2j], jnp.complex64))
        array([1.-2.j], dtype=complex64)
    """
    return jax.tree.map(
        lambda leaf: leaf.conj() if np.iscomplexobj(leaf) else leaf, to_numpy(grads)
    )


def to_jax(nest: Nest, dtype: Any = None) -> Nest:
    """JAX copies of arrays, in the same nest, in a dtype or as they are.

    Raises:
        ValueError: an array is float64 or complex128, ``dtype`` is not given, and JAX is set to
            compute in float32.
    """
    if dtype is None:
        check_precision(nest)
    return jax.tree.map(lambda leaf: jnp.array(leaf, dtype, copy=True), nest)


def check_precision(nest: Nest) -> None:
    """Refuse float64 where JAX would make float32 of it, and complex128 likewise."""
    if jax.dtypes.canonicalize_dtype(np.float64) == np.float64:
        return
    leaves, paths, _ = flatten(nest)
    for leaf, path in zip(leaves, paths, strict=True):
        dtype = getattr(leaf, "dtype", None)
        if dtype in (np.float64, np.complex128):
            half = "float32" if dtype == np.float64 else "complex64"
            raise ValueError(
                f"{path} is {dtype}, of which JAX would make {half}; "
                f'call jax.config.update("jax_enable_x64", True) first, or give {half}'
            )


def value_and_grad(
    loss: Callable[..., Any], *, dtype: Any = None, jit: bool = True, has_aux: bool = False
) -> ValueAndGrad:
    """Value and gradients in the form that `ss.fit`, `ss.lr_find` and `ss.minimize` take.

    Args:
        loss: ``(params, batch) -> number``, or ``params -> number``, written for JAX. It gets JAX
            copies of the parameters.
        dtype: what the parameters are narrowed to for the loss; the gradients come in their own.
        jit: whether to compile it, once for each set of shapes.
        has_aux: whether the loss returns ``(number, aux)``, as for `jax.value_and_grad`. The nest
            of the last call is then the attribute ``aux`` of what this returns, in NumPy arrays.

    Example:
        >>> import jax.numpy as jnp, numpy as np, stepsize as ss
        >>> f = value_and_grad(lambda x: jnp.sum((x - 3.0) ** 2))
        >>> result = ss.minimize(f, np.zeros(2, np.float32), "lbfgs")
        >>> result.x
        array([3., 3.], dtype=float32)
    """

    def narrowed(leaf: Any) -> Any:
        if jnp.iscomplexobj(leaf) and not jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(
                f"value_and_grad: dtype={np.dtype(dtype)} would drop the imaginary part of a "
                "complex parameter; leave dtype out"
            )
        return leaf.astype(dtype)

    def cast(params: Nest, *data: Any) -> Any:
        if dtype is not None:
            params = jax.tree.map(narrowed, params)
        found = loss(params, *data)
        if has_aux and not (isinstance(found, tuple) and len(found) == 2):
            raise TypeError(
                "value_and_grad: has_aux=True needs a loss that returns (number, aux), got a "
                f"{type(found).__name__}"
            )
        if isinstance(found, tuple) and not has_aux:
            raise TypeError(
                "value_and_grad: the loss returns a tuple; with (number, aux), give has_aux=True"
            )
        return found

    differentiated = jax.value_and_grad(cast, has_aux=has_aux)
    return ValueAndGrad(jax.jit(differentiated) if jit else differentiated, has_aux)


class ValueAndGrad:
    """What `value_and_grad` makes.

    Attributes:
        aux: with ``has_aux=True``, what the loss of the last call returned beside its value.
    """

    aux: Nest = None

    def __init__(self, differentiated: Callable[..., Any], has_aux: bool) -> None:
        self._differentiated, self._has_aux = differentiated, has_aux

    def __call__(self, params: Nest, *data: Any) -> tuple[float, Nest]:
        value, grads = self._differentiated(to_jax(params), *data)
        if self._has_aux:
            value, aux = value
            self.aux = to_numpy(aux)
        return float(value), gradient_to_numpy(grads)


class JaxOptimizer:
    """An optimizer for loops whose parameters and gradients are JAX arrays.

        opt = ss.interop.jax.JaxOptimizer("adamw", params, lr=1e-3)
        value, grads = jax.value_and_grad(loss)(opt.params, batch)
        params = opt.step(grads)

    The parameters live in NumPy arrays, in float32 where they come in bfloat16 or float16; what is
    handed out are copies in the dtypes they came in.

    Args:
        rule: the name of a rule, or an optimizer class.
        params: a nest of JAX arrays.
        lr, options: as for the rule.

    Attributes:
        inner: the `ss.optimizers.Optimizer` over NumPy arrays.
    """

    def __init__(self, rule: Any, params: Nest, lr: Any = None, **options: Any) -> None:
        cls = find_rule(rule, "JaxOptimizer")
        if cls.needs_closure:
            raise ValueError(f"JaxOptimizer: {cls.__name__} steps with a function: ss.minimize")
        self._dtypes = jax.tree.map(lambda leaf: leaf.dtype, params)
        self.inner: Optimizer = cls(to_numpy(params), lr, **options)

    @property
    def params(self) -> Nest:
        """JAX copies of the parameters, in the dtypes they came in."""
        return jax.tree.map(
            lambda leaf, dtype: jnp.array(leaf, dtype, copy=True), self.inner.params, self._dtypes
        )

    def step(self, grads: Nest, *, loss: Any = None) -> Nest:
        """Update by JAX's gradients, in the nest of the parameters; the new parameters."""
        self.inner.step(gradient_to_numpy(grads), loss=None if loss is None else as_loss(loss))
        return self.params

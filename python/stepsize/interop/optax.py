"""optax transformations as stepsize optimizers, and schedules in both directions.

* `from_optax`: any ``GradientTransformation`` in `ss.fit`, `ss.lr_find` and so on. **Slow**: each
  step copies parameters and gradients to JAX and back. Where there is a rule of the same name,
  take the rule: `ss.AdamW` is 15 to 150 times faster than ``from_optax(optax.adamw(...))``.
* An optax schedule, like any function of the number of updates, is an ``lr`` as it is:
  ``ss.AdamW(params, lr=optax.cosine_decay_schedule(1e-3, 1000))``. `ss.schedules.from_optax`
  makes a compiled schedule of the same numbers, by name.
* A stepsize schedule is a plain function, which optax takes outside of ``jax.jit``; `to_optax`
  makes one that works inside too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, cast

import numpy as np

try:
    import jax
    import jax.numpy as jnp
    import optax
except ImportError as error:
    raise ImportError(
        'stepsize.interop.optax needs optax: pip install "stepsize[optax]"'
    ) from error

from stepsize._core import BOUND
from stepsize.arrays import Array, Nest, Structure, check_alike, sum_of_squares, unflatten
from stepsize.interop.jax import check_precision, to_jax
from stepsize.optimizers import Optimizer
from stepsize.optimizers.fields import nonnegative
from stepsize.optimizers.options import Options
from stepsize.optimizers.own_host import OptimizerHost
from stepsize.optimizers.stats import Sums, extremes
from stepsize.schedules import Schedule

_LONGEST = 1 << 20  # values in a table; what is longer is asked for one by one


def to_optax(schedule: Schedule) -> Callable[[Any], Any]:
    """A schedule of the same float32 values that optax can evaluate inside ``jax.jit``.

    One that ends becomes a table in the compiled program; any other is called back from it.

    Example:
        >>> import jax, stepsize as ss
        >>> rate = to_optax(ss.schedules.linear(1.0, 0.0, 4))
        >>> float(jax.jit(rate)(1)), float(jax.jit(rate)(100))
        (0.75, 0.0)
    """
    if schedule.length < _LONGEST:
        table = jnp.asarray(schedule.values(math.ceil(schedule.length) + 1), jnp.float32)
        return lambda count: table[jnp.clip(count, 0, len(table) - 1)]
    shape = jnp.float32(0)
    return lambda count: jax.pure_callback(lambda t: np.float32(schedule(int(t))), shape, count)


def from_optax(
    transformation: optax.GradientTransformation, params: Nest, lr: Any = 1.0, **options: Any
) -> Optax:
    """An optimizer that updates NumPy parameters in place by an optax transformation. Slow.

    Args:
        transformation: such as ``optax.adamw(1e-3)``, with its own rate. One that wants the value
            of the loss gets what `step` is given.
        params: a nest of float32 arrays, or float64 with ``jax_enable_x64``.
        lr: multiplies the update; a number or a schedule. So `ss.lr_find` finds a factor.
        options: as for every optimizer; groups may differ in ``lr``.

    Example:
        >>> import numpy as np, optax
        >>> x = np.ones(2, np.float32)
        >>> opt = from_optax(optax.sgd(0.25), x)
        >>> opt.step(np.ones(2, np.float32))
        >>> x
        array([0.75, 0.75], dtype=float32)
    """
    optimizer: Optax = object.__new__(Optax)
    optimizer._set_transformation(transformation)
    Optimizer.__init__(optimizer, params, lr, **options)
    return optimizer


class OptaxHost(OptimizerHost):
    """The host of such an optimizer: its steps are optax's."""

    def run_reference(self, grads: Sequence[Array | None], scale: float, stats: bool) -> Sums:
        optimizer: Any = self.optimizer
        found: Sums = optimizer._transform(grads, scale, stats)
        return found


class Optax(Optimizer, abstract=True):
    """What `from_optax` makes. Slow: every step goes through JAX."""

    lr = nonnegative(1.0)
    decay = "none"

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError("Optax: make one with from_optax(transformation, params)")

    def _set_transformation(self, transformation: Any) -> None:
        if not isinstance(transformation, optax.GradientTransformation):
            raise TypeError(
                "from_optax: expected an optax.GradientTransformation, such as optax.adam(1e-3), "
                f"got {type(transformation).__name__}"
            )
        self._transformation = optax.with_extra_args_support(transformation)
        self._update = jax.jit(self._transformation.update)
        self._loss: float | None = None

    def _setup(
        self,
        params: Nest,
        structure: Structure,
        assignment: list[int],
        tables: list[dict[str, Any]],
        options: Options,
        host: Any = None,
        variants: Any = None,
    ) -> None:
        check_precision(params)
        for leaf, path in zip(structure.leaves, structure.paths, strict=True):
            if np.iscomplexobj(leaf):
                raise TypeError(
                    f"from_optax: {path} has dtype {leaf.dtype}, and optax transformations are for "
                    "real parameters here; choose a rule of stepsize, or give a real view, "
                    "z.view(z.real.dtype)"
                )
        super()._setup(params, structure, assignment, tables, options, host or OptaxHost, variants)
        nest = self._nest(self.internals.leaves.contiguous)
        self._inside = self._transformation.init(nest)
        try:
            jax.eval_shape(self._transformation.update, nest, self._inside, nest, value=0.0)
        except TypeError as error:
            if "keyword-only argument" not in str(error):
                raise
            raise TypeError(
                "from_optax: the transformation evaluates the function at each step "
                f"({error}), such as optax.lbfgs(), and steps here have gradients alone; use "
                "ss.LBFGS or ss.minimize, or leave out its line search"
            ) from None

    def _nest(self, leaves: Sequence[Array]) -> Any:
        return to_jax(unflatten(self.internals.leaves.structure.spec, leaves))

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """As every optimizer's step; no gradient may be None."""
        self._loss = loss
        return super().step(grads, loss=loss, stats=stats)

    def _transform(self, grads: Sequence[Array | None], scale: float, stats: bool) -> Sums:
        whole = [g for g in grads if g is not None]
        if len(whole) < len(grads):
            raise ValueError("Optax: optax has no gradients that are None; give zeros")
        parts = self.internals
        limit = parts.options.clip_value or math.inf
        seen = [np.clip(g * g.dtype.type(scale), -limit, limit) for g in whole]
        extra = {} if self._loss is None else {"value": self._loss}
        updates, self._inside = self._update(
            self._nest(seen), self._inside, self._nest(parts.leaves.contiguous), **extra
        )
        t = self.step_count + 1
        sums = [0.0] * 9
        for x, g, u, group in zip(
            parts.leaves.contiguous,
            whole,
            jax.tree.leaves(updates),
            parts.groups.assignment,
            strict=True,
        ):
            rate = parts.groups.evaluate(group, t).lr
            moved = np.asarray(u, x.dtype) * x.dtype.type(rate)
            if stats:
                for k, values in enumerate((g, x, moved)):
                    plain = sum_of_squares(values)
                    terms = (plain, *extremes(plain, values))
                    for at, term in zip((k, 3 + k, 6 + k), terms, strict=True):
                        sums[at] += term
            x += moved
        return cast(Sums, tuple(sums))

    def clone(self, params: Nest) -> Self:
        """The same optimizer, state included, over other arrays of the same shapes."""
        structure = Structure(params)
        check_alike(self.internals.leaves.structure, structure, "Optax")
        copy: Self = object.__new__(type(self))
        copy._set_transformation(self._transformation)
        _, (assignment, tables, _), options = self.internals.recipe()
        copy._setup(params, structure, assignment, tables, options)
        copy.load_state_dict(self.state_dict())
        return copy

    def __reduce__(self) -> Any:
        raise TypeError("Optax: an optax transformation cannot be pickled; keep state_dict()")

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters, optax's state included, as numbers and copied arrays."""
        leaves = jax.tree.leaves(self._inside)
        inside = {str(i): np.array(_plain(leaf)) for i, leaf in enumerate(leaves)}
        return {**super().state_dict(), "optax": inside}

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """Take over a `state_dict` of the same transformation over the same shapes."""
        mine, spec = jax.tree.flatten(self._inside)
        if not isinstance(d, Mapping):
            raise ValueError(f"Optax: a state dict is a dict, got {type(d).__name__}")
        inside = d.get("optax")
        names = list(map(str, range(len(mine))))
        if not isinstance(inside, Mapping) or set(inside) != set(names):
            found = sorted(map(str, inside)) if isinstance(inside, Mapping) else inside
            raise ValueError(
                f"Optax: optax must hold the arrays {', '.join(names) or 'of no state'}, got "
                f"{found!r:.80}: the state is that of another transformation"
            )
        saved = [inside[name] for name in names]
        for name, old, new in zip(names, map(_plain, mine), saved, strict=True):
            if not isinstance(new, np.ndarray) or new.shape != old.shape or new.dtype != old.dtype:
                what = f"{new.dtype} {new.shape}" if isinstance(new, np.ndarray) else f"{new!r:.80}"
                raise ValueError(
                    f"Optax: optax: {name} must be an array {old.dtype} {old.shape}, got {what}: "
                    "the state is that of another transformation or other shapes"
                )
        super().load_state_dict({key: value for key, value in d.items() if key != "optax"})
        fresh = [_like(old, new) for old, new in zip(mine, saved, strict=True)]
        self._inside = jax.tree.unflatten(spec, fresh)


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key))


def _plain(leaf: Any) -> Any:
    """A leaf of optax's state as numbers; random keys are a dtype of their own."""
    return jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)


def _like(old: Any, saved: Array) -> Any:
    numbers = jnp.array(saved, _plain(old).dtype)
    return jax.random.wrap_key_data(numbers) if _is_key(old) else numbers

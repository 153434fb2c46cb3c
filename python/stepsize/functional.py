"""One function for each compiled rule, on arrays that the caller owns, including the state.

``adamw_(params, grads, exp_avg, exp_avg_sq, *, step, lr=...)`` makes the update of `AdamW`, with
bitwise the same result, and keeps nothing. Uses are engines that store state elsewhere and load
parts of it, updates of part of an array, and state in a memory-mapped file.

Rules whose update of one element depends on others have no function, since updating part of an
array would give another result; accessing such a name says which class to use.

Example:
    >>> import numpy as np, stepsize as ss
    >>> x, g = np.ones(4, np.float32), np.full(4, 2.0, np.float32)
    >>> m, v = np.zeros_like(x), np.zeros_like(x)
    >>> for part in (slice(0, 2), slice(2, 4)):
    ...     ss.functional.adamw_(x[part], g[part], m[part], v[part], step=1, lr=0.1)
    >>> y = np.ones(4, np.float32)
    >>> ss.AdamW(y, lr=0.1).step(g)
    >>> bool((x == y).all())
    True
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stepsize import _core
from stepsize.arrays import Array, conversion, refuse_complex
from stepsize.errors import NonFiniteGradientError
from stepsize.optimizers import loop
from stepsize.optimizers.constraints import for_numbers
from stepsize.optimizers.fields import Flag, Number, Part, Value
from stepsize.optimizers.gradients import refused
from stepsize.optimizers.groups import check_values
from stepsize.optimizers.optimizer import Optimizer, registry
from stepsize.optimizers.options import Options
from stepsize.optimizers.registration import find_rule, snake_case
from stepsize.optimizers.rule import COMPILED
from stepsize.validation import whole

Function = Callable[..., None]

_OPTIONS = ("maximize", "clip_value", "on_nonfinite", "bounds", "l1")
LAST_STEP = 2**53  # the last one whose successor is another number in double precision
_FACTOR = Part("grad_factor", "grad_factor", varies=False)


def state(rule: str | type[Optimizer], params: Any, **hyperparameters: Any) -> dict[str, Any]:
    """The initial state of a rule, as keyword arguments of its function.

    Args:
        rule: A rule's name or class.
        params: A float32 or float64 array or a list of them, which are only read.
        **hyperparameters: Those of the rule that determine its state arrays and their first values,
            such as ``momentum`` or ``initial_accumulator_value``.

    Returns:
        Arrays by name, in the form of ``params``; for rules that keep scalars also ``scalars``.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> ss.functional.state("adagrad", np.ones(2), initial_accumulator_value=0.5)
        {'sum': array([0.5, 0.5])}
    """
    cls = find_rule(rule, "state")
    if not _is_elementwise(cls):
        raise ValueError(f"state: {_why_not(cls)}")
    optimizer = cls(params, **loop.without_sums("state", cls, hyperparameters))
    arrays = [
        {name: np.array(slot) for name, slot in leaf.items()}
        for leaf in optimizer.internals.slots.arrays
    ]
    single = isinstance(params, np.ndarray)
    found: dict[str, Any] = {
        name: arrays[0][name] if single else [leaf[name] for leaf in arrays] for name in arrays[0]
    }
    if cls.scalars:
        found["scalars"] = np.array(list(cls.scalars.values()))
    return found


def _is_elementwise(cls: type[Optimizer]) -> bool:
    return cls.accelerated and cls.scope is None and not cls.shaped


def _why_not(cls: type[Optimizer]) -> str:
    reason = (
        "sums over whole arrays" if cls.scope is not None else "more than one element at a time"
    )
    return (
        f"{cls.__name__} has no function on arrays of the caller's: its update needs {reason}; "
        f"use the class, stepsize.{cls.__name__}"
    )


def _switched_on(cls: type[Optimizer], values: Mapping[str, Value]) -> dict[str, Value]:
    """The values with 1 in place of every 0, for which the rule needs all its state."""
    numbers = {name for name, field in cls.fields.items() if isinstance(field, Number)}
    return {name: 1.0 if name in numbers and not v else v for name, v in values.items()}


class _Form:
    """The arguments of a rule's function."""

    def __init__(self, cls: type[Optimizer]) -> None:
        self.cls = cls
        self.name = snake_case(cls) + "_"
        defaults = {name: field.default for name, field in cls.fields.items()}
        flags = {name: True for name, field in cls.fields.items() if isinstance(field, Flag)}
        needed = cls.variant(defaults)[1]
        slots = cls.variant(_switched_on(cls, {**defaults, **flags}))[1]
        self.slots = tuple(sorted(slots, key=lambda slot: slot not in needed))
        self.needed = len(needed)
        self.state = (*self.slots, *(["scalars"] if cls.scalars else []))
        self.fields = {
            name: field
            for name, field in cls.fields.items()
            if not getattr(field, "fixed", False) and name not in loop.OF_LEAVES
        }
        self.options = tuple(name for name in _OPTIONS if name not in cls.fields)
        self.defaults = defaults
        self.update = functools.lru_cache(maxsize=256, typed=True)(self.make_update)

    def signature(self) -> inspect.Signature:
        kinds, empty = inspect.Parameter, inspect.Parameter.empty
        listed = [kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in ("params", "grads")]
        for k, name in enumerate(self.state):
            # A parameter without a default may not follow one with a default.
            default = empty if k < self.needed or self.needed == len(self.slots) else None
            listed.append(kinds(name, kinds.POSITIONAL_OR_KEYWORD, default=default))
        listed.append(kinds("step", kinds.KEYWORD_ONLY))
        keywords = {name: field.default for name, field in self.fields.items()}
        keywords |= {name: Options.defaults()[name] for name in self.options}
        keywords["grad_factor"] = 1.0
        for name, default in keywords.items():
            listed.append(kinds(name, kinds.KEYWORD_ONLY, default=default))
        return inspect.Signature(listed)

    def make_update(self, given: tuple[bool, ...], **keywords: Any) -> Any:
        """The compiled update for these hyperparameters and these state arrays."""
        own = {k: v for k, v in keywords.items() if k in self.options}
        options, _ = Options.take(self.name, own)
        if options.on_nonfinite == "skip":
            raise ValueError(
                f"{self.name}: on_nonfinite must be 'raise' or 'ignore', got 'skip'; count the "
                "steps that raise NonFiniteGradientError as none"
            )
        rest = {k: v for k, v in keywords.items() if k not in self.options}
        rest = loop.without_sums(self.name, self.cls, rest)
        for name in rest.keys() & self.cls.fields.keys() - self.fields.keys():
            raise TypeError(f"{self.name}: {name} acts once, at the start: give it to state")
        also = (*self.state, "step", *self.options, "grad_factor")
        values = {**self.defaults, **check_values(self.fields, self.name, rest, also)}
        self._refuse_functions(values)
        try:
            loop.check(self.cls, values)
        except ValueError as error:
            raise ValueError(str(error).replace(self.cls.__name__, self.name, 1)) from None
        kernel = self._kernel(values, given)
        numbers = {
            part.name: float(number)
            for name, field in self.cls.fields.items()
            if values[name] is not None
            for part, number in zip(field.parts(), field.values(values[name]), strict=True)
        }
        decay, kind = numbers.get("weight_decay", 0.0), self.cls.decay_kind(values)
        return _core.Update(
            kernel,
            [numbers[name] for name in COMPILED[kernel][1:]],
            decay if kind == "coupled" else 0.0,
            decay if kind == "decoupled" else 0.0,
            numbers.get("decay_max_lr", 0.0),
            loop.caution(values),
            options.clip_value or math.inf,
            -1.0 if options.maximize else 1.0,
            options.on_nonfinite == "raise",
            len(self.cls.scalars),
            for_numbers(self.cls, self.name, options, values),
            float(options.l1),
        )

    def checked_rate(self, lr: Any) -> float:
        """The learning rate; None gives the default of the class."""
        field = self.fields["lr"]
        rate = field.default if lr is None else field.check(self.name, lr)
        self._refuse_functions({"lr": rate})
        return float(rate)

    def _refuse_functions(self, values: Mapping[str, Value]) -> None:
        for name, value in values.items():
            if any(callable(item) for item in (value if isinstance(value, tuple) else (value,))):
                raise TypeError(
                    f"{self.name}: {name} must be given as a number, got {value!r:.80}; call the "
                    f"schedule, {name}=schedule(step - 1)"
                )

    def _kernel(self, values: Mapping[str, Value], given: tuple[bool, ...]) -> str:
        """The variant of the rule that has exactly these state arrays.

        A number that is 0 now may be nonzero at other steps: if its state is given, it is kept.
        """
        have = [slot for slot, here in zip(self.slots, given, strict=False) if here]
        kernel, slots = self.cls.variant(values)
        if set(have) != set(slots):
            more = self.cls.variant(_switched_on(self.cls, values))
            kernel, slots = more if set(have) == set(more[1]) else (kernel, slots)
        for slot in slots:
            if slot not in have:
                raise TypeError(
                    f"{self.name}: {slot} is missing, which these hyperparameters need; "
                    f"functional.state makes its first value"
                )
        for slot in have:
            if slot not in slots:
                raise TypeError(
                    f"{self.name}: {slot} is given, but these hyperparameters do without it; "
                    "leave it out"
                )
        if self.cls.scalars and not given[-1]:
            raise TypeError(
                f"{self.name}: scalars is missing, an array of {', '.join(self.cls.scalars)}; "
                "functional.state makes its first value"
            )
        return kernel


def _refusal(
    form: _Form, arguments: Mapping[str, Any], step: int, misfit: tuple[str, int, int, int, int]
) -> Exception:
    """The error for arrays of a call that do not fit."""
    kind, argument, leaf, *other = misfit
    names = list(arguments)

    def place(argument: int, leaf: int) -> str:
        single = isinstance(arguments["params"], np.ndarray) or names[argument] == "scalars"
        return names[argument] if single else f"{names[argument]}[{leaf}]"

    owner, where = form.name, f"{form.name}: {place(argument, leaf)}"
    given, params = arguments[names[argument]], arguments["params"]
    single = isinstance(params, np.ndarray)
    if kind in ("kind", "length"):
        size = getattr(given, "__len__", None)
        found = f"a {type(given).__name__}" + (f" of {len(given)}" if size else "")
        expected = "an array, or a list or tuple of arrays"
        if argument:
            expected = "an array, as params is" if single else f"a list of {len(params)} arrays"
        return TypeError(f"{owner}: {names[argument]} is {found}, expected {expected}")
    if kind == "nonfinite":
        array = given if single else given[leaf]
        held = refused(bool(np.isfinite(array).all()), array.dtype)
        return NonFiniteGradientError(
            f"{where} holds {held} at step {step}; nothing was changed. Lower the rate, "
            'or choose on_nonfinite="ignore"'
        )
    if kind == "overlap":
        return ValueError(
            f"{where} shares memory with {place(other[0], other[1])}, which the update would "
            "change under it; pass a copy"
        )
    if kind == "scalars":
        count = len(form.cls.scalars)
        return ValueError(
            f"{owner}: scalars must be a writable float64 array of {count} ("
            f"{', '.join(form.cls.scalars)}), got {given!r}; functional.state makes its first value"
        )
    x = params if single else params[leaf]
    if kind == "dtype":
        cure = "give real views of complex arrays, z.view(z.real.dtype)"
        refuse_complex(owner, place(0, leaf), x.dtype, cure)
    return _array_refusal(kind, where, given if single else given[leaf], x, argument > 0)


def _array_refusal(kind: str, where: str, array: Any, x: Array, follows: bool) -> Exception:
    if kind == "array":
        return TypeError(
            f"{where} is a {type(array).__name__}, expected a NumPy array; pass a view of its "
            "memory, such as tensor.numpy()"
        )
    if kind == "mask":
        return TypeError(
            f"{where} is a masked array, whose mask an update would lose; fill it, .filled(0)"
        )
    if kind == "dtype":
        expected = f"{x.dtype}, that of its parameter" if follows else "float32 or float64"
        fix = conversion(array.dtype, x.dtype if follows else np.dtype(np.float32))
        return TypeError(f"{where} has dtype {array.dtype}, expected {expected}; {fix}")
    if kind == "shape":
        return ValueError(
            f"{where} has shape {array.shape}, expected {x.shape}, that of its "
            "parameter; reshape it"
        )
    if kind == "layout":
        return ValueError(
            f"{where} does not lie side by side in memory (strides {array.strides} for shape "
            f"{array.shape}); pass a C-contiguous, aligned array"
        )
    return ValueError(f"{where} is read-only, but it is updated in place; pass a copy")


def _checked_step(owner: str, step: Any) -> int:
    return whole(
        f"{owner}: step",
        step,
        most=LAST_STEP,
        move="it is the number of this update, the first is 1",
    )


def _documentation(form: _Form) -> str:
    cls = form.cls
    listed = [f"``{slot}``" for slot in form.slots[: form.needed]]
    listed += [
        f"``{slot}`` (if the hyperparameters ask for it)" for slot in form.slots[form.needed :]
    ]
    if cls.scalars:
        listed.append(f"``scalars``, a float64 array of {', '.join(cls.scalars)}")
    listed = listed or ["none"]
    return f"""Make one update of `{cls.__name__}` in place, on arrays that the caller owns.

    The result is bitwise that of the class, which documents equations, source and hyperparameters.
    A call that raises changes nothing.

    Args:
        params: A C-contiguous float32 or float64 array, or a list of them.
        grads: Gradients of the same shapes and dtypes; None in a list leaves its parameter alone.
        State, in the form of ``params`` and updated in place: {"; ".join(listed)}.
        step: The number of this update, from 1.
        maximize, clip_value, on_nonfinite: As in the class, without "skip".
        bounds, l1: As in the class; bounds are numbers or None.
        grad_factor: Multiplies the gradients first, as clipping by a norm over all parts does.

    Raises:
        ValueError, TypeError: For arguments that do not fit, by name and index.
        NonFiniteGradientError: For NaN or infinity in a gradient, with ``on_nonfinite="raise"``.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x, y, g = np.ones(2), np.ones(2), np.array([0.5, -2.0])
        >>> state = ss.functional.state("{snake_case(cls)}", x)
        >>> ss.{cls.__name__}(y).step(g)
        >>> ss.functional.{form.name}(x, g, **state, step=1)
        >>> bool((x == y).all())
        True
    """


def _make(cls: type[Optimizer]) -> Function:
    form = _Form(cls)
    names, needed, find = form.state, len(form.state), form.update

    def function(params: Any, grads: Any, *state: Any, step: int, **keywords: Any) -> None:
        if len(state) != needed:
            if len(state) > needed:
                raise TypeError(
                    f"{form.name}: {len(state)} state arguments are given, it takes "
                    f"{', '.join(names) or 'none'}"
                )
            state += tuple(keywords.pop(name, None) for name in names[len(state) :])
        lr, factor = keywords.pop("lr", None), keywords.pop("grad_factor", 1.0)
        if type(lr) is not float or not 0 < lr < math.inf:
            lr = form.checked_rate(lr)
        if type(factor) is not float or factor != 1.0:
            factor = _FACTOR.check(form.name, factor)
        if type(step) is not int or not 1 <= step <= LAST_STEP:
            step = _checked_step(form.name, step)
        given = tuple([item is not None for item in state])
        try:
            update = find(given, **keywords)
        except TypeError:  # an unhashable argument, such as a list, or an error
            update = form.make_update(given, **keywords)
        scalars = state[-1] if cls.scalars else None
        slots = tuple([item for item in state if item is not None and item is not scalars])
        misfit = update.apply(params, grads, slots, step, lr, factor, scalars)
        if misfit is not None:
            given_state = zip(names, state, strict=True)
            present = {name: item for name, item in given_state if item is not None}
            raise _refusal(form, {"params": params, "grads": grads, **present}, step, misfit)

    function.__name__ = function.__qualname__ = form.name
    function.__doc__ = _documentation(form)
    function.__signature__ = form.signature()  # type: ignore[attr-defined]
    return function


_functions = {snake_case(cls) + "_": _make(cls) for cls in registry() if _is_elementwise(cls)}
_left_out = {snake_case(cls) + "_": cls for cls in registry() if not _is_elementwise(cls)}
globals().update(_functions)

__all__ = ["state", *_functions]


def __getattr__(name: str) -> Function:
    if name in _left_out:
        raise AttributeError(f"functional.{name}: {_why_not(_left_out[name])}")
    raise AttributeError(f"module 'stepsize.functional' has no attribute {name!r}")

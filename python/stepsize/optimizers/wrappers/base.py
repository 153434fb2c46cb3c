"""The base of all wrappers, which behave like the inner optimizer and add their own state."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from stepsize._core import BOUND
from stepsize.arrays import Array, Nest, computed, unflatten
from stepsize.errors import NonFiniteGradientError
from stepsize.optimizers.arriving import Arriving
from stepsize.optimizers.gradients import gather
from stepsize.optimizers.half import to_float32
from stepsize.optimizers.internals import Internals
from stepsize.optimizers.state_dict import check_names, check_slots
from stepsize.optimizers.transaction import Uninterrupted, assignment
from stepsize.serialization import nested
from stepsize.validation import number, whole

if TYPE_CHECKING:  # for type checkers a wrapper is an optimizer with all its attributes
    from stepsize.optimizers.optimizer import Optimizer as _Base
else:
    _Base = object


class Wrapper(_Base):
    """Base of the wrappers: an optimizer that does something around each step of another one.

    All other attributes are the inner optimizer's: ``lr``, ``params``, ``step_count`` and so on.
    ``state_dict``, ``save``, ``load`` and ``clone`` include the wrapper's own state. Wrappers may
    be nested. A subclass keeps attributes of its own, where its class annotates them; what is set
    by any other name is the inner optimizer's.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> from stepsize.optimizers.wrappers.base import Wrapper
        >>> class Scaled(Wrapper):
        ...     factor: float
        ...
        ...     def __init__(self, optimizer, factor):
        ...         super().__init__(optimizer)
        ...         self.factor = factor
        ...
        ...     def step(self, grads, **options):
        ...         return self.inner.step(self.factor * grads, **options)
        >>> x = np.array([1.0])
        >>> Scaled(ss.SGD(x, lr=1.0), 0.5).step(np.array([0.5]))
        >>> x
        array([0.75])
    """

    needs_closure: ClassVar[bool] = False
    _made_with: ClassVar[frozenset[str]] = frozenset()  # beside the optimizer
    _annotated: ClassVar[frozenset[str]] = frozenset()  # in the body of a class
    _bound: Nest = None

    def __init__(self, optimizer: Any) -> None:
        if not hasattr(optimizer, "internals"):
            raise TypeError(
                f"{type(self).__name__}: optimizer must be an optimizer, got "
                f"{type(optimizer).__name__}; write {type(self).__name__}(ss.AdamW(params))"
            )
        if getattr(optimizer, "sharded", False):
            raise TypeError(
                f"{type(self).__name__}: {type(optimizer).__name__} holds parts of the leaves, and "
                "nothing can go around it; give DataParallel the optimizer with its wrappers"
            )
        if optimizer.needs_closure:
            owner, inner = type(self).__name__, type(optimizer).__name__
            raise TypeError(
                f"{owner}: {inner} takes the function value_and_grad, not gradients, so nothing "
                f"can go around it; "
                + (
                    f"put {inner} around {owner}"
                    if isinstance(optimizer, Wrapper)
                    else "give another rule"
                )
            )
        self._set(inner=optimizer, _numbers={}, _arrays={})

    def __getstate__(self) -> dict[str, Any]:
        """A copy steps with no copies of the gradients that are bound here."""
        return {**self.__dict__, "_bound": None}

    def _set(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "inner" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["inner"], name)

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        # Known with the class: controllers set the rate at every step.
        cls._made_with = frozenset(list(inspect.signature(cls.__init__).parameters)[2:])
        cls._annotated |= frozenset(inspect.get_annotations(cls))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._annotated:
            self.__dict__[name] = value
            return
        # The optimizer inside may have one of that name, which is not meant.
        if name in self._made_with:
            raise AttributeError(
                f"{type(self).__name__}: {name} is given when the wrapper is made; make another "
                f"one, or set {name} of the optimizer inside by opt.inner.{name} = ...; a class "
                f"that keeps {name} itself annotates it, {name}: ..., in its body"
            )
        setattr(self.inner, name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self.inner!r}>"

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

    @property
    def internals(self) -> Internals:
        """The internals of the innermost optimizer."""
        return self.inner.internals  # type: ignore[no-any-return]

    @property
    def _points(self) -> list[Array]:
        return list(self.internals.leaves.arrays)

    def _number(self, name: str, value: Any, low: float, high: float, *, open_low: bool) -> float:
        label = f"{type(self).__name__}: {name}"
        return number(label, value, low, high, low_open=open_low, high_open=high == math.inf)

    def _count(self, name: str, value: Any, low: int = 1, most: int | None = None) -> int:
        return whole(f"{type(self).__name__}: {name}", value, low, most)

    def _given(self, grads: Nest) -> Nest:
        """The gradients, or the bound ones."""
        if grads is not BOUND:
            return grads
        if self._bound is None:
            self.internals.host.fail("unbound")
        return self._bound

    def bind(self, grads: Nest) -> None:
        """As `Optimizer.bind`: ``step()`` reads its gradients from these arrays."""
        self.inner.bind(grads)
        self._set(_bound=grads)

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """The inner optimizer's step."""
        return self.inner.step(grads, loss=loss, stats=stats)

    def arriving(
        self, *, loss: float | None = None, norm: Any = "exact", nonfinite: Any = "exact"
    ) -> Arriving:
        """As `Optimizer.arriving`; what a wrapper does takes all gradients, so it waits."""
        return Arriving(self, False, loss, norm, nonfinite)

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizer's state, followed by that of this wrapper."""
        with self.internals.engine:  # steps of other threads wait
            inner, own = self.inner.state_dict(), self._own()
        return {**inner, "wrappers": [*inner.get("wrappers", []), own]}

    def _own(self) -> dict[str, Any]:
        """A copy of the wrapper's own state."""
        return {
            "name": type(self).__name__,
            "numbers": copy.deepcopy(self._numbers),
            "arrays": {
                name: dict(zip(self.paths, map(np.array, arrays), strict=True))
                for name, arrays in self._arrays.items()
            },
        }

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """Load a `state_dict`; ValueError names what does not fit, and nothing is changed."""
        owner = type(self).__name__
        if not isinstance(d, Mapping):
            raise ValueError(f"{owner}: a state dict is a dict, got {type(d).__name__}")
        given = d.get("wrappers") or []
        if not isinstance(given, list | tuple):
            raise ValueError(f"{owner}: wrappers must be a list of states, got {given!r:.80}")
        wrappers = list(given)
        if not wrappers:
            raise ValueError(
                f"{owner}: the state is that of {d.get('rule', 'an optimizer')!s:.80} without a "
                "wrapper; load it into the optimizer inside, .inner.load_state_dict(...)"
            )
        own: Any = wrappers.pop()
        if not isinstance(own, Mapping) or own.get("name") != owner:
            found = own.get("name") if isinstance(own, Mapping) else own
            raise ValueError(
                f"{owner}: the state is that of the wrapper {found!s:.80}; load it into such a one"
            )
        self._check_own(owner, own)
        rest = {key: value for key, value in d.items() if key != "wrappers"}
        inner = {**rest, "wrappers": wrappers} if wrappers else rest
        numbers = copy.deepcopy(own["numbers"])
        write = assignment(
            [array for arrays in self._arrays.values() for array in arrays],
            [own["arrays"][name][path] for name in self._arrays for path in self.paths],
        )
        with Uninterrupted(), self.internals.engine:
            self.inner.load_state_dict(inner)
            write()  # which cannot fail
            self._numbers.update(numbers)

    def _check_own(self, owner: str, own: Mapping[str, Any]) -> None:
        check_names(owner, "the wrapper's state", own, ("name", "numbers", "arrays"))
        check_names(owner, "the numbers", own["numbers"], tuple(self._numbers))
        for name, now in self._numbers.items():
            if not _alike(own["numbers"][name], now):
                raise ValueError(
                    f"{owner}: {name} must be like {now!r:.80}, got {own['numbers'][name]!r:.80}"
                )
        check_names(owner, "the arrays", own["arrays"], tuple(self._arrays))
        for name, arrays in self._arrays.items():
            check_names(owner, f"the arrays {name}", own["arrays"][name], self.paths)
            slots = dict(zip(self.paths, arrays, strict=True))
            for path, array in slots.items():
                check_slots(owner, path, {name: array}, {name: own["arrays"][name][path]})

    def save(self, path: nested.Path) -> None:
        """Write everything but the parameters to one file, atomically."""
        nested.dump(path, "optimizer", self.state_dict())

    def load(self, path: nested.Path) -> None:
        """Load what `save` wrote; CheckpointError names the file and what is wrong."""
        state = nested.load(path, "optimizer")
        with nested.contents_of(path):
            self.load_state_dict(state)

    def clone(self, params: Nest) -> Self:
        """The same wrapper and optimizer, state included, over other arrays of the same shapes."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._set(
            inner=self.inner.clone(params),
            _bound=None,
            _numbers=copy.deepcopy(self._numbers),
            _arrays={name: [np.array(a) for a in arrays] for name, arrays in self._arrays.items()},
        )
        return twin


def _alike(saved: Any, now: Any) -> bool:
    """Whether a saved number, or list of numbers, may replace this one."""
    if isinstance(now, list):
        return isinstance(saved, list) and len(saved) == len(now) and all(map(_alike, saved, now))
    return type(saved) is type(now) and (type(now) is not int or saved >= 0)


class GradientWrapper(Wrapper):
    """Base of the wrappers that pass changed gradients to the inner optimizer."""

    def change(self, g: Array, leaf: Array, i: int) -> Any:
        """The gradient that the inner optimizer gets for this leaf, number ``i``."""
        raise NotImplementedError

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """The inner optimizer's step with the changed gradients."""
        with self.internals.engine:  # what is read here is changed by steps of other threads
            given = self._given(grads)
            changed = self._changed(given, self.change)
            try:
                return self.inner.step(changed, loss=loss, stats=stats)
            except NonFiniteGradientError:
                self._own_up(given, changed)
                raise

    def _own_up(self, given: Nest, changed: Nest) -> None:
        """Raise for a gradient that is finite as it was given and not as it was changed."""
        flat = gather(self.internals, given), gather(self.internals, changed)
        for path, before, after in zip(self.paths, *flat, strict=True):
            if before is not None and np.isfinite(before).all() and not np.isfinite(after).all():
                raise NonFiniteGradientError(
                    f"{type(self).__name__}: the gradient of {path} is finite, but what becomes of "
                    f"it here leaves the range of {after.dtype} at step {self.step_count}; nothing "
                    "was changed. Scale the loss down, or clip the gradients before"
                ) from None

    def _changed(self, grads: Nest, change: Callable[[Array, Array, int], Any]) -> Nest:
        flat = gather(self.internals, grads)
        with np.errstate(all="ignore"):  # the inner optimizer refuses non-finite values
            changed = [
                None
                if g is None
                else np.asarray(change(to_float32(g), leaf, i), computed(leaf.dtype))
                for i, (g, leaf) in enumerate(zip(flat, self._points, strict=True))
            ]
        return unflatten(self.internals.leaves.structure.spec, changed)

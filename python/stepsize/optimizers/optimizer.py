"""The optimizer: what users call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from stepsize import _core
from stepsize._core import BOUND
from stepsize.arrays import Array, Nest, Structure, check_alike
from stepsize.optimizers import engine, gradients, loop, state_dict
from stepsize.optimizers.arriving import StepsByLeaf
from stepsize.optimizers.averages import SwapsAverage
from stepsize.optimizers.constraints import overrides_of, resolve
from stepsize.optimizers.fields import Part, Value
from stepsize.optimizers.groups import (
    ParameterGroups,
    assign_groups,
    check_grouped,
    check_values,
    hint,
    is_grouped,
    ungroup,
)
from stepsize.optimizers.host import StepHost
from stepsize.optimizers.internals import Internals
from stepsize.optimizers.leaves import Leaves, check_real
from stepsize.optimizers.options import Options
from stepsize.optimizers.own_host import OptimizerHost
from stepsize.optimizers.rule import Rule, Variant, is_settable, registered
from stepsize.optimizers.slots import Place, Slots
from stepsize.optimizers.stats import StepStats
from stepsize.serialization import nested

_SCALE = Part("lr_scale", "lr_scale", varies=False)


def registry() -> list[type[Optimizer]]:
    """The optimizer classes, in alphabetical order.

    Example:
        >>> import stepsize as ss
        >>> ss.AdamW in ss.optimizers.registry()
        True
    """
    return registered()


# The attributes that an optimizer is made of; all others are of the classes of users.
_PARTS = ("_engine", "_host", "_options", "_leaves", "_groups", "_slots", "_part_places")
MADE_OF = (*_PARTS, "_training")  # the last of those that `SwapsAverage`

# What is done elsewhere by a method or an attribute, and its place here.
_ELSEWHERE = {
    "zero_grad": "step(grads) takes the gradients and keeps none, so that there is none to clear",
    "param_groups": "hyperparams has what the next step will use, and opt.lr = 0.1 sets it",
    **dict.fromkeys(("apply_gradients", "update", "apply"), "it is step(grads) here"),
    "minimize": "it is stepsize.minimize(function, x) here",
    "learning_rate": "it is lr here",
}


class Optimizer(StepsByLeaf, Rule, abstract=True):
    """Base of all optimizers: a `Rule` over a nest of arrays, with its state.

    A subclass says what `Rule` lists; parameters, groups, state, copies and files are here.
    """

    lr: Any
    _part_places: Sequence[Place] | None = None  # where parts of other leaves lie in them

    # Construction.

    def __init__(self, params: Nest, lr: Value = None, *others: Any, **keywords: Any) -> None:
        structure, groups, options = self.settled(params, lr, others, keywords)
        self._setup(params, structure, *groups, options)

    @classmethod
    def settled(
        cls, params: Nest, lr: Value, others: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[Structure, tuple[list[int], list[dict[str, Any]]], Options]:
        """What a constructor is given, checked: the nest, groups and options that `over` takes."""
        owner = cls.__name__
        if others:
            name = next((name for name in cls.fields if name != "lr"), "groups")
            raise TypeError(
                f"{owner}: only params and lr go by position, got {others[0]!r:.80} as well; "
                "name it, "
                f"such as {name}={others[0]!r:.80}"
            )
        specs = keywords.pop("groups", None)
        specs = () if specs is None else specs
        options, rest = Options.take(owner, keywords, cls.fields)
        defaults = {name: field.default for name, field in cls.fields.items()}
        rest = rest if lr is None else {"lr": lr, **rest}
        given = check_values(cls.fields, owner, rest, Options.names())
        check_grouped(cls.fields, owner, params)
        structure = Structure(ungroup(params))
        groups = assign_groups(
            cls.fields, owner, {**defaults, **given}, structure.paths, params, specs
        )
        own = overrides_of(params, specs)
        return structure, groups, resolve(cls, owner, options, structure, own, groups)

    @classmethod
    def over(
        cls,
        params: Nest,
        paths: tuple[str, ...] | None,
        groups: tuple[Any, ...],
        options: Options,
        host: Callable[[Any], StepHost] | None = None,
        places: Sequence[Place] | None = None,
    ) -> Self:
        """An optimizer of values that are checked already: copies, and the adapters' own.

        Args:
            params: A nest of arrays.
            paths: The leaves' names, if not those of the nest.
            groups: The group of each leaf, the hyperparameters of each group, and for copies the
                variants of the original, see `ParameterGroups`.
            options: The keywords that all optimizers take.
            host: Makes the host of the optimizer's steps, if not an `OptimizerHost`.
            places: For leaves that are parts of other ones, where each lies.
        """
        structure = Structure(ungroup(params))
        structure.paths = structure.paths if paths is None else paths
        made = object.__new__(cls)
        made._part_places = places
        assignment, tables, *variants = groups
        made._setup(params, structure, assignment, tables, options, host, *variants)
        return made

    def _setup(
        self,
        params: Nest,
        structure: Structure,
        assignment: list[int],
        tables: list[dict[str, Any]],
        options: Options,
        host: Callable[[Any], StepHost] | None = None,
        variants: list[Variant] | None = None,
    ) -> None:
        for values in tables:
            loop.check(type(self), values)
        check_real(self, structure)
        several = len(tables) > 1 or is_grouped(params)
        owner, compiled = type(self).__name__, _core.Engine(structure.description())
        leaves = Leaves.of(owner, params, structure, options)
        rules = [type(self)] * len(tables)
        if variants is None:
            variants = [loop.layout(self, values) for values in tables]
        groups = ParameterGroups(owner, rules, assignment, tables, several, compiled, variants)
        slots = Slots.allocate(self, leaves, groups, options.state_dtype, self._part_places)
        made: StepHost = (host or OptimizerHost)(self)
        self.assemble(Internals(self, leaves, groups, slots, compiled, options, made))

    def assemble(self, parts: Internals) -> None:
        """Be made of these parts, and hand them to the compiled step."""
        self._engine, self._host, self._options = parts.engine, parts.host, parts.options
        self._leaves, self._groups, self._slots = parts.leaves, parts.groups, parts.slots
        engine.fill(parts)
        parts.options.apply(parts.engine)
        parts.host.attach(parts.leaves)

    @property
    def internals(self) -> Internals:
        """What the optimizer is made of, for modules of this package; it may change."""
        return Internals(
            self,
            self._leaves,
            self._groups,
            self._slots,
            self._engine,
            self._options,
            self._host,
        )

    # The step.

    @overload
    def step(
        self, grads: Nest = ..., *, loss: float | None = None, stats: Literal[False] = False
    ) -> None: ...

    @overload
    def step(
        self, grads: Nest = ..., *, loss: float | None = None, stats: Literal[True]
    ) -> StepStats: ...

    @overload
    def step(
        self, grads: Nest = ..., *, loss: float | None = None, stats: bool
    ) -> StepStats | None: ...

    def step(
        self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False
    ) -> StepStats | None:
        """Update the parameters in place by one step; one that raises has changed nothing.

        Args:
            grads: Gradients in the nesting of the parameters; None for a leaf leaves it and its
                state alone. They are only read. Left out: the arrays given to `bind`.
            loss: The loss at this point; rules that need it say so.
            stats: Whether to return norms, taken in the same pass over memory.

        Returns:
            None, or a `StepStats` with ``stats=True``.

        Raises:
            ValueError, TypeError: For gradients that do not fit, naming the leaf.
            NonFiniteGradientError: With ``on_nonfinite="raise"``, for NaN, infinity and numbers
                within a factor of 8 of it, naming leaf and step.
            RuntimeError: Inside a function that a run or step of this optimizer evaluates, and
                while `fit`, `lr_find`, `what_if` or `sharpness` in another thread works with it.
        """
        return self._engine.step(self._host, grads, loss, stats)  # type: ignore[no-any-return]

    def bind(self, grads: Nest) -> None:
        """Hold the arrays that every ``opt.step()`` without an argument reads its gradients from.

        Spares each step the walk through the nest, for models that write their gradients into the
        same arrays every time. ``opt.step(grads)`` still takes any others.

        Args:
            grads: C-contiguous arrays in the nesting of the parameters, or None for a leaf that
                is left alone.

        Raises:
            ValueError, TypeError: For gradients that do not fit or would have to be copied.

        Example:
            >>> import numpy as np, stepsize as ss
            >>> x, g = np.ones(2), np.ones(2)
            >>> opt = ss.SGD(x, lr=0.25)
            >>> opt.bind(g)
            >>> opt.step()
            >>> g[:] = [0.0, -1.0]
            >>> opt.step()
            >>> x
            array([0.75, 1.  ])
        """
        self._engine.bind(self._host, gradients.bindable(self.internals, grads))

    def _steps_plainly(self) -> bool:
        # Those of averages only refuse more.
        return type(self).step in (Optimizer.step, SwapsAverage.step)

    # Reading and setting.

    @property
    def params(self) -> Nest:
        """The nest of parameters, as given."""
        return self._leaves.params

    @property
    def paths(self) -> tuple[str, ...]:
        """The leaves' names, in the order of the leaves."""
        return self._leaves.paths

    @property
    def state(self) -> dict[str, dict[str, Array]]:
        """The state arrays by leaf and name, as views."""
        return {
            path: dict(slots) for path, slots in zip(self.paths, self._slots.arrays, strict=True)
        }

    @property
    def step_count(self) -> int:
        """Updates applied so far."""
        return int(self._engine.step_count)

    @property
    def lr_effective(self) -> Any:
        """The rate that multiplies the update, ``lr`` times what the rule made of it last.

        A float (a tuple with groups); for rules that set a rate for each leaf, a dict by path.
        """
        parts = self.internals
        numbers = [parts.groups.numbers(k) for k in range(len(parts.groups.tables))]
        if self.scope == "leaf":
            pairs = zip(self.paths, parts.groups.assignment, strict=True)
            return {
                path: self.effective(parts.scalars(i), numbers[group])
                for i, (path, group) in enumerate(pairs)
            }
        found = tuple(self.effective(parts.scalars(0), h) for h in numbers)
        return found if isinstance(self.lr, tuple) else found[0]

    @property
    def lr_scale(self) -> float:
        """Multiplies the rate or its schedule; controllers such as `Plateau` act on it."""
        return float(self._engine.lr_scale)

    @lr_scale.setter
    def lr_scale(self, value: float) -> None:
        self.internals.refuse_arriving("a new lr_scale")
        self._engine.lr_scale = _SCALE.check(type(self).__name__, value)

    @property
    def loss_scale(self) -> float:
        """What to multiply the loss with before its gradients are taken; the step divides by it.

        1.0 unless the optimizer was made with ``loss_scale``. ``"dynamic"`` starts at 65536, halves
        it at a step whose gradients are not finite, which is left out, and doubles it after 2,000
        steps without one.
        """
        return float(self._engine.loss_scale)

    @property
    def hyperparams(self) -> dict[str, Any]:
        """The values that the next step will use; with groups, tuples of one entry a group."""
        return {name: self._groups.read(field) for name, field in self.fields.items()}

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            move = f"; {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
            if name in loop.OPTIONS:
                move = f"; it is for {loop.OPTIONS[name].whom}"
            words = f"{type(self).__name__!r} object has no attribute {name!r}{move}"
            if "_engine" not in vars(self) and (name in MADE_OF or hasattr(type(self), name)):
                words = (
                    f"{type(self).__name__}: {name} is of an optimizer with leaves, which the rule "
                    "of a part is not; in rule, h has this step's hyperparameters and h.t the "
                    "number of the update, outside of it opt.parts[glob] has them"
                )
            raise AttributeError(words, name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        known = name in self.fields or name.startswith("_") or name in vars(self)
        if not known and not is_settable(type(self), name):
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}"
                f"{hint(name, [*self.fields, _SCALE.name])}; it has "
                f"{', '.join(self.fields)} and lr_scale to set"
            )
        object.__setattr__(self, name, value)

    def _of_its_own(self) -> dict[str, Any]:
        """The attributes that the class of a user has besides."""
        return {name: value for name, value in vars(self).items() if name not in MADE_OF}

    # Copies and files.

    def clone(self, params: Nest) -> Self:
        """The same optimizer, state included, over other arrays of the same shapes."""
        check_alike(self._leaves.structure, Structure(ungroup(params)), type(self).__name__)
        twin = type(self).over(params, *self.internals.recipe())
        twin.__setstate__((self.state_dict(), copy.deepcopy(self._of_its_own())))
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.state_dict(), self._of_its_own()
        return type(self).over, (self.params, *self.internals.recipe()), state

    def __setstate__(self, state: tuple[dict[str, Any], dict[str, Any]] | dict[str, Any]) -> None:
        own: dict[str, Any] = {}
        if isinstance(state, tuple):  # a dict in pickles of earlier editions
            state, own = state
        state_dict.load(self.internals, state)
        vars(self).update(own)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters, as a plain dict of numbers, strings and copied arrays."""
        return state_dict.save(self.internals)

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """Take over a `state_dict`; ValueError names what does not fit, and nothing has changed."""
        state_dict.load(self.internals, d)

    def save(self, path: nested.Path) -> None:
        """Write everything but the parameters to one file, whole or not at all."""
        nested.dump(path, "optimizer", self.state_dict())

    def load(self, path: nested.Path) -> None:
        """Take over what `save` wrote; CheckpointError names the file and what is wrong."""
        state = nested.load(path, "optimizer")
        with nested.contents_of(path):
            self.load_state_dict(state)

    def __repr__(self) -> str:
        fields = loop.shown(self.fields, self._groups.tables)
        values = ", ".join(f"{field.name}={self._groups.text(field)}" for field in fields)
        size = sum(leaf.size for leaf in self._leaves.arrays)
        return (
            f"<{type(self).__name__}({values}) over {len(self.paths)} arrays with {size:,} "
            f"parameters, {self.step_count} steps>"
        )

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

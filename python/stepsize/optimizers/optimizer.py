"""The optimizer: everything that is not the rule itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, Self

from stepsize import _core
from stepsize.arrays import Array, Nest, Structure, check_alike, check_parameters, is_narrow
from stepsize.optimizers import gradients, half, host, hyperparams, quantization, reference
from stepsize.optimizers import slots as states
from stepsize.optimizers.fields import Field, Part, Value
from stepsize.optimizers.groups import assign_groups, check_values, is_grouped, ungroup
from stepsize.optimizers.options import Options, signature
from stepsize.optimizers.sparse import Lent
from stepsize.optimizers.stats import StepStats
from stepsize.serialization import container

_registry: list[type[Optimizer]] = []
_SCALE = Part("lr_scale", "lr_scale", varies=False)


def registry() -> list[type[Optimizer]]:
    """The optimizer classes, in alphabetical order.

    Example:
        >>> import stepsize as ss
        >>> ss.AdamW in ss.optimizers.registry()
        True
    """
    return sorted(_registry, key=lambda cls: cls.__name__.lower())


class Optimizer:
    """Base of all optimizers; a subclass states its hyperparameters, its state and its rule.

    A subclass says, in this order: fields (``lr = nonnegative(1e-3)``), ``slots`` (names of state
    arrays), and ``rule``, the update in NumPy, which is the definition. A struct of the same name
    in cpp/rules and a line in rules.def make it fast.
    """

    fields: ClassVar[dict[str, Field]] = {}
    slots: ClassVar[tuple[str, ...]] = ()
    scalars: ClassVar[dict[str, float]] = {}  # numbers a rule keeps per leaf, with first values
    shaped: ClassVar[bool] = False  # the rule gets arrays in their shapes, not flat
    scope: ClassVar[str | None] = None  # two passes: what settles together, "leaf" or "all"
    by_row: ClassVar[bool] = False  # whether rows may be updated without the others
    adapts_lr: ClassVar[bool] = False  # learning-rate-free: `lr` only scales the rate it finds
    needs_loss: ClassVar[bool] = False
    needs_closure: ClassVar[bool] = False  # step takes value_and_grad instead of gradients
    decay: ClassVar[str] = "coupled"  # what weight_decay does: coupled, decoupled, or none of both
    accelerated: ClassVar[bool] = False

    lr: Any

    def __init_subclass__(cls, *, abstract: bool = False) -> None:
        super().__init_subclass__()
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        cls.fields = {**cls.fields, **own}
        if abstract:
            return
        defaults = {name: field.default for name, field in cls.fields.items()}
        cls.accelerated = cls.variant(defaults)[0] in states.COMPILED
        cls.__signature__ = signature(cls.fields)  # type: ignore[attr-defined]
        _registry.append(cls)

    # What a subclass may refine.

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        """Move ``x`` by one step: ``g`` gradient, ``s`` state, ``h`` hyperparameters."""
        raise NotImplementedError

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        """First pass of a two-pass rule: terms whose sums `settle` gets; it may move the state."""
        raise NotImplementedError

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        """Between the passes: set the scalars of ``s`` from the sums and, after them, the size."""
        raise NotImplementedError

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        """The rate that a rule makes of ``h.lr`` and the scalars it keeps."""
        return float(h.lr)

    @classmethod
    def variant(cls, values: Mapping[str, Value]) -> tuple[str, tuple[str, ...]]:
        """The compiled rule and the state arrays that these hyperparameters ask for."""
        return cls.__name__, cls.slots

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        """How weight decay acts under these hyperparameters."""
        return cls.decay

    def slot_shape(
        self, slot: str, leaf: Array, values: Mapping[str, Value]
    ) -> tuple[int, ...] | None:
        """The shape of a shaped rule's state array; None for a leaf that does without it."""
        return tuple(leaf.shape)

    def initial(self, slot: str, leaf: Array, values: Mapping[str, Value]) -> Any:
        """The first value of a state array, a number or an array."""
        return 0.0

    @classmethod
    def check_together(cls, values: Mapping[str, Value]) -> None:
        """Refuse hyperparameters that do not go together."""

    # Construction.

    def __init__(self, params: Nest, lr: Value = None, *others: Any, **keywords: Any) -> None:
        owner = type(self).__name__
        if others:
            name = next((name for name in self.fields if name != "lr"), "groups")
            raise TypeError(
                f"{owner}: only params and lr go by position, got {others[0]!r} as well; name it, "
                f"such as {name}={others[0]!r}"
            )
        specs = keywords.pop("groups", None) or ()
        options, rest = Options.take(owner, keywords)
        defaults = {name: field.default for name, field in self.fields.items()}
        given = check_values(self.fields, owner, {"lr": lr, **rest}, Options.names())
        structure = Structure(ungroup(params))
        assignment, tables = assign_groups(
            self.fields, owner, {**defaults, **given}, structure.paths, params, specs
        )
        self._setup(params, structure, assignment, tables, options)

    def _setup(
        self,
        params: Nest,
        structure: Structure,
        assignment: list[int],
        tables: list[dict[str, Any]],
        options: Options,
    ) -> None:
        owner = type(self).__name__
        check_parameters(structure.leaves, structure.paths, owner)
        for values in tables:
            self.check_together(values)
        self._params = params
        self._grouped = is_grouped(params)
        self._structure = structure
        self._assignment = assignment
        self._tables = tables
        self._options = options
        matrices = self.shaped and any(is_narrow(leaf.dtype) for leaf in structure.leaves)
        self._numpy = not self.accelerated or matrices  # of two bytes: NumPy alone has them
        self._engine = _core.Engine(structure.description())
        self._lent: dict[int, Lent] = {}
        self._strided: list[tuple[int, Array, Array]] = []
        self._contiguous = [self._whole(i, leaf) for i, leaf in enumerate(structure.leaves)]
        self._masters = [half.master(leaf, options.master_weights) for leaf in self._contiguous]
        quantization.check(self)
        self._state, self._scales = states.allocate(self)
        states.fill_engine(self)
        options.apply(self._engine)

    def _whole(self, i: int, leaf: Array) -> Array:
        """The leaf, or memory of its own for one whose elements do not lie side by side."""
        if leaf.flags.c_contiguous and leaf.flags.aligned:
            return leaf
        whole: Array = _core.allocate(leaf.nbytes).view(leaf.dtype).reshape(leaf.shape)
        self._strided.append((i, leaf, whole))
        return whole

    # The step.

    def step(
        self, grads: Nest = NotImplemented, *, loss: float | None = None, stats: bool = False
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
            NonFiniteGradientError: With ``on_nonfinite="raise"``, naming leaf and step.
        """
        return self._engine.step(self, grads, loss, stats)  # type: ignore[no-any-return]

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
        self._engine.bind(self, gradients.bindable(self, grads))

    def _gather(self, grads: Nest, lend: bool = False) -> list[Any]:
        """The gradients as a flat list of plain arrays, or an error that names the leaf.

        With ``lend``, rows come as (gradient, rows of the leaf, of its state), for one step.
        """
        if self._grouped:
            grads = ungroup(grads)
        return gradients.gather(self, self._structure.flatten(grads), lend)

    def _return_rows(self) -> None:
        for lent in self._lent.values():
            lent.give_back()
        self._lent = {}

    def _run_numpy(
        self, grads: Sequence[Array | None], scale: float, stats: bool
    ) -> tuple[float, float, float]:
        return reference.run(self, grads, scale, stats)

    def _read_strided(self) -> None:
        for i, leaf, whole in self._strided:
            if not leaf.flags.writeable or leaf.shape != whole.shape:
                self._refuse("parameter", i)
            whole[...] = leaf

    def _write_strided(self) -> None:
        for _, leaf, whole in self._strided:
            leaf[...] = whole

    def _stats(
        self, grad_norm: float, update_norm: float, param_norm: float, nonfinite: int
    ) -> StepStats:
        return StepStats.of(grad_norm, update_norm, param_norm, nonfinite)

    def _refuse(self, what: str, *details: Any) -> None:
        host.refuse(self, what, *details)

    # Reading and setting.

    @property
    def params(self) -> Nest:
        """The nest of parameters, as given."""
        return self._params

    @property
    def paths(self) -> tuple[str, ...]:
        """The leaves' names, in the order of the leaves."""
        return self._structure.paths

    @property
    def state(self) -> dict[str, dict[str, Array]]:
        """The state arrays by leaf and name, as views."""
        return {path: dict(slots) for path, slots in zip(self.paths, self._state, strict=True)}

    @property
    def step_count(self) -> int:
        """Updates applied so far."""
        return int(self._engine.step_count)

    @property
    def lr_effective(self) -> Any:
        """The rate that multiplies the update, ``lr`` times what the rule made of it last.

        A float (a tuple with groups); for rules that set a rate for each leaf, a dict by path.
        """
        numbers = [hyperparams.current(self, k) for k in range(len(self._tables))]
        if self.scope == "leaf":
            pairs = zip(self.paths, self._assignment, strict=True)
            return {
                path: self.effective(self._scalars(i), numbers[group])
                for i, (path, group) in enumerate(pairs)
            }
        found = tuple(self.effective(self._scalars(0), h) for h in numbers)
        return found if isinstance(self.lr, tuple) else found[0]

    def _scalars(self, leaf: int) -> SimpleNamespace:
        values = self._engine.memory(leaf)
        return SimpleNamespace(**dict(zip(self.scalars, values, strict=True)))

    @property
    def lr_scale(self) -> float:
        """Multiplies the rate or its schedule; controllers such as `Plateau` act on it."""
        return float(self._engine.lr_scale)

    @lr_scale.setter
    def lr_scale(self, value: float) -> None:
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
        return {name: self._read(field) for name, field in self.fields.items()}

    def _read(self, field: Field) -> Any:
        return hyperparams.read(self, field)

    def _write(self, field: Field, value: Value) -> None:
        hyperparams.write(self, field, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}; it has "
                f"{', '.join(self.fields)} and lr_scale to set"
            )
        object.__setattr__(self, name, value)

    # Copies and files.

    def clone(self, params: Nest) -> Self:
        """The same optimizer, state included, over other arrays of the same shapes."""
        check_alike(self._structure, Structure(ungroup(params)), type(self).__name__)
        copy: Self = _restore(type(self), params, *self._recipe())
        return copy

    def _recipe(self) -> tuple[Any, ...]:
        tables = [dict(table) for table in self._tables]
        return list(self._assignment), tables, self._options, self.state_dict()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._params, *self._recipe())

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters, as a plain dict of numbers, strings and copied arrays."""
        return states.state_dict(self)

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """Take over a `state_dict`; ValueError names what does not fit, and nothing has changed."""
        states.load_state_dict(self, d)

    def save(self, path: container.Path) -> None:
        """Write everything but the parameters to one file, whole or not at all."""
        container.dump(path, "optimizer", self.state_dict())

    def load(self, path: container.Path) -> None:
        """Take over what `save` wrote; CheckpointError or ValueError names what is wrong."""
        self.load_state_dict(container.load(path, "optimizer"))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.hyperparams.items())
        size = sum(leaf.size for leaf in self._structure.leaves)
        return (
            f"<{type(self).__name__}({values}) over {len(self.paths)} arrays with {size:,} "
            f"parameters, {self.step_count} steps>"
        )


def _restore(
    cls: type[Optimizer],
    params: Nest,
    assignment: list[int],
    tables: list[dict[str, Any]],
    options: Options,
    state: dict[str, Any],
) -> Any:
    optimizer = object.__new__(cls)
    optimizer._setup(params, Structure(ungroup(params)), assignment, tables, options)
    states.load_state_dict(optimizer, state)
    return optimizer

"""The rule: what an optimizer class declares."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

from stepsize import _core
from stepsize.arrays import Array
from stepsize.optimizers import loop
from stepsize.optimizers.fields import Field, Value
from stepsize.optimizers.options import CONSTRAINTS, Options, signature

# Names of the compiled rules, with their hyperparameters.
COMPILED: dict[str, tuple[str, ...]] = {
    name: tuple(numbers.split(", ")) for name, numbers, _ in _core.rules()
}

Variant = tuple[str, tuple[str, ...]]  # a compiled rule, and the state arrays that go with it

_registry: list[type[Rule]] = []


_HOME = "stepsize.optimizers.rules."
_COMPUTES = ("rule", "measure", "settle", "slot_shape", "variant", "decay_kind")
_DECLARES = ("slots", "scalars", "shaped", "by_matrix", "scope", "decay")
_OF_STEP = ("t", "loss")  # what a rule's ``h`` has besides hyperparameters


def registered() -> list[type[Any]]:
    """The optimizer classes of this package, in alphabetical order."""
    return sorted(_registry, key=lambda cls: cls.__name__.lower())


class Rule:
    """What a subclass of `Optimizer` says, and what it may refine.

    It says, in this order: fields (``lr = nonnegative(1e-3)``), ``slots`` (its state arrays:
    ``signed("exp_avg")``), and ``rule``, the update in NumPy, which is the definition. For a rule
    of this package a struct of the same name in cpp/rules and a line in rules.def make it fast. A
    class from elsewhere runs its own ``rule``, whatever its name; one that only sets other defaults
    (``lr = 0.1``, ``cautious = True``) runs the compiled rule of its base.
    """

    fields: ClassVar[dict[str, Field]] = {}
    slots: ClassVar[tuple[str, ...]] = ()
    scalars: ClassVar[dict[str, float]] = {}  # numbers a rule keeps per leaf, with first values
    shaped: ClassVar[bool] = False  # the rule gets arrays in their shapes, not flat
    # Of shaped rules: the loop takes leaves apart into matrices, as `stacked` and `flatten` say.
    by_matrix: ClassVar[bool] = False
    scope: ClassVar[str | None] = None  # two passes: what settles together, "leaf" or "all"
    by_row: ClassVar[bool] = False  # whether rows may be updated without the others
    adapts_lr: ClassVar[bool] = False  # learning-rate-free: `lr` only scales the rate it finds
    steady_lr: ClassVar[bool] = False  # a changing `lr` scales the whole solution, not the steps
    anchored: ClassVar[bool] = False  # the state says where the parameters are after the step
    second_moment: ClassVar[str] = ""  # the slot with an average of squares, by beta2 as Adam's
    needs_loss: ClassVar[bool] = False
    needs_closure: ClassVar[bool] = False  # step takes value_and_grad instead of gradients
    # Whether a soft threshold by lr * l1 is the step of an L1 penalty; None: if decay is decoupled.
    proximal: ClassVar[bool | None] = None
    later: ClassVar[tuple[str, ...]] = ()  # fields that older files lack
    decay: ClassVar[str] = "coupled"  # what weight_decay does: coupled, decoupled, or none of both
    accelerated: ClassVar[bool] = False
    reproducible: ClassVar[bool] = False  # whether its bits are the same on every processor
    kernel: ClassVar[str] = ""  # the compiled rule of the class, or of the one it is made from
    _made_of: ClassVar[tuple[Any, ...]] = ()

    def __init_subclass__(cls, *, abstract: bool = False) -> None:
        super().__init_subclass__()
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        inherited = {n: field for n, field in cls.fields.items() if n not in loop.LOOP}
        cls.fields = _with_defaults(cls, {**inherited, **own})
        if cls.__module__.startswith(_HOME):
            cls.kernel = cls.__name__
            cls.reproducible = vars(cls).get("reproducible", True)
        if abstract:
            return
        check_declaration(cls)
        options = _with_defaults(cls, loop.offered(cls))
        _refuse_defaults(cls, options)
        cls.fields = {**cls.fields, **options}
        if "reproducible" not in vars(cls):
            cls.reproducible = cls.reproducible and _is_as_declared(cls)
        defaults = {name: field.default for name, field in cls.fields.items()}
        cls.accelerated = _is_as_declared(cls) and cls.variant(defaults)[0] in COMPILED
        cls._made_of = _contents(cls)
        cls.__signature__ = signature(cls.fields)  # type: ignore[attr-defined]
        if cls.__module__.startswith(_HOME):
            _registry.append(cls)

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

    def rule_at(self, group: int) -> Rule:
        """The rule that the leaves of a group follow."""
        return self

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        """The rate that a rule makes of ``h.lr`` and the scalars it keeps."""
        return float(h.lr)

    @classmethod
    def variant(cls, values: Mapping[str, Value]) -> Variant:
        """The compiled rule and the state arrays that these hyperparameters ask for."""
        return cls.kernel, cls.slots

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


def _with_defaults(cls: type[Rule], fields: dict[str, Field]) -> dict[str, Field]:
    """The fields of a class, with its own defaults where it says a value: ``momentum = 0.9``."""
    for name, field in fields.items():
        said = inspect.getattr_static(cls, name, field)
        found = said if isinstance(said, Field) else field.with_default(cls.__name__, said)
        fields[name] = found
        setattr(cls, name, found)
    return fields


def _refuse_defaults(cls: type[Rule], options: dict[str, Field]) -> None:
    """Refuse defaults of options of the loop that a class lacks, and of the common keywords."""
    for name, option in loop.OPTIONS.items():
        said = inspect.getattr_static(cls, name, option.field)
        if name not in options and not isinstance(said, Field):
            raise ValueError(
                f"{cls.__name__}: {name} = {said!r:.80} is for {option.whom}, such as AdamW; leave "
                "it out"
            )
    for name in Options.names():
        if name in vars(cls) and name not in cls.fields:
            said = vars(cls)[name]
            raise ValueError(
                f"{cls.__name__}: {name} = {said!r:.80} in a class says nothing; it is given to "
                f"the constructor, {cls.__name__}(params, {name}=...)"
            )


def _contents(cls: type[Rule]) -> tuple[Any, ...]:
    return tuple(getattr(cls, name) for name in (*_COMPUTES, *_DECLARES))


def runs_compiled(cls: type[Rule]) -> bool:
    """Whether the compiled rule stands for a class, which it does not if a method was replaced."""
    return cls.accelerated and cls._made_of == _contents(cls)


@cache
def rebinds_parameter(rule: Any) -> bool:
    """Whether a method `rule` gives its x another array, as ``x = x - ...`` does."""
    code = getattr(rule, "__code__", None)
    if code is None or code.co_argcount < 2:
        return False
    x, before = code.co_varnames[1], ""
    for instruction in dis.get_instructions(code):
        stored = instruction.opname == "STORE_FAST" and instruction.argval == x
        if stored and before and not before.endswith("="):
            return True
        before = instruction.argrepr if instruction.opname == "BINARY_OP" else ""
    return False


def is_settable(cls: type[Rule], name: str) -> bool:
    """Whether an optimizer of the class may be given this attribute.

    It may if the attribute is a hyperparameter or a property with a setter, or if a class from
    elsewhere declares it or sets it in one of its methods. What the classes here declare says what
    the rule is, and an instance cannot change it.
    """
    found = inspect.getattr_static(cls, name, None)
    if isinstance(found, Field):
        return name in cls.fields
    if isinstance(found, property):
        return found.fset is not None
    if hasattr(type(found), "__set__"):
        return True
    ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "stepsize"]
    if any(name in vars(base) for base in ours):
        return False
    others = [base for base in cls.__mro__ if base not in ours and base is not object]
    return any(name in _names_of(base) for base in others)


def _names_of(cls: type) -> Iterator[str]:
    """The attributes that a class declares, and those that its methods set."""
    yield from vars(cls)
    yield from vars(cls).get("__annotations__", ())
    for method in filter(inspect.isfunction, vars(cls).values()):
        for instruction in dis.get_instructions(method):
            if instruction.opname == "STORE_ATTR":
                yield instruction.argval


def _is_as_declared(cls: type[Rule]) -> bool:
    """Whether all that a compiled rule does is as a class of this package says it."""
    for name in (*_COMPUTES, *_DECLARES):
        home = next(base for base in cls.__mro__ if name in vars(base))
        if home is not Rule and not home.__module__.startswith(_HOME):
            return False
    return bool(cls.kernel)


def check_declaration(cls: type[Rule]) -> None:
    """Refuse what a class forgets or writes in another way than it is read."""
    owner = cls.__name__
    _check_fields(cls)
    if not isinstance(cls.slots, tuple) or not all(isinstance(name, str) for name in cls.slots):
        raise TypeError(
            f"{owner}: slots must be a tuple of names, such as ('m',) with its comma, got "
            f"{cls.slots!r}"
        )
    if not isinstance(cls.scalars, dict):
        raise TypeError(
            f"{owner}: scalars must be a dict of names and first values, got {cls.scalars!r}"
        )
    if "lr" not in cls.fields:
        found = f", got {cls.lr!r}" if "lr" in vars(cls) else ""  # type: ignore[attr-defined]
        raise TypeError(
            f"{owner}: lr must be a field, such as lr = nonnegative(1e-3) of "
            f"stepsize.optimizers.fields{found}"
        )
    names = [*cls.slots, *cls.scalars]
    wrong = next((name for k, name in enumerate(names) if name in names[:k]), None)
    wrong = next((n for n in names if not n.isidentifier() or n == "master"), wrong)
    if wrong is not None:
        raise ValueError(
            f"{owner}: {wrong!r} cannot name a state array or scalar: a name is an identifier, "
            "stands once in slots and scalars together, and 'master' is that of master weights"
        )
    if cls.scope not in (None, "leaf", "all") or cls.decay not in ("coupled", "decoupled", "none"):
        raise ValueError(
            f"{owner}: scope must be None, 'leaf' or 'all', and decay 'coupled', 'decoupled' or "
            f"'none', got {cls.scope!r} and {cls.decay!r}"
        )
    needed = ("rule",) if cls.scope is None else ("rule", "measure", "settle")
    missing = [name for name in needed if getattr(cls, name) is getattr(Rule, name)]
    if missing and not cls.needs_closure:
        raise TypeError(
            f"{owner}: define {missing[0]}, as in def rule(self, x, g, s, h): x -= h.lr * g"
        )


def _check_fields(cls: type[Rule]) -> None:
    """Refuse fields that stand in the place of something else, here or in a rule's ``h``."""
    owner, numbers = cls.__name__, dict[str, str]()
    # A field with the name of a constraint is the rule's own.
    options = {*Options.names(), *loop.LOOP, *_OF_STEP} - set(CONSTRAINTS)
    ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "stepsize"]
    for name, field in cls.fields.items():
        others = [vars(base)[name] for base in ours if name in vars(base)]
        if name in options or not all(isinstance(other, Field) for other in others):
            raise ValueError(
                f"{owner}: {name} is taken by every optimizer; name the field otherwise"
            )
        for part in field.parts():
            if part.name in numbers:
                raise ValueError(
                    f"{owner}: {numbers[part.name]} and {name} would both be h.{part.name}; name "
                    "one of them otherwise"
                )
            numbers[part.name] = name

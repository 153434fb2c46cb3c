"""The rule: what an optimizer class declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

from stepsize import _core
from stepsize.arrays import Array
from stepsize.optimizers.fields import Field, Value
from stepsize.optimizers.options import signature

# Names of the compiled rules, with their hyperparameters.
COMPILED: dict[str, tuple[str, ...]] = {
    name: tuple(numbers.split(", ")) for name, numbers, _ in _core.rules()
}

_registry: list[type[Rule]] = []


def registered() -> list[type[Any]]:
    """The optimizer classes, in alphabetical order."""
    return sorted(_registry, key=lambda cls: cls.__name__.lower())


class Rule:
    """What a subclass of `Optimizer` says, and what it may refine.

    It says, in this order: fields (``lr = nonnegative(1e-3)``), ``slots`` (its state arrays:
    ``signed("exp_avg")``), and ``rule``, the update in NumPy, which is the definition. A struct of
    the same name in cpp/rules and a line in rules.def make it fast.
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

    def __init_subclass__(cls, *, abstract: bool = False) -> None:
        super().__init_subclass__()
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        cls.fields = {**cls.fields, **own}
        if abstract:
            return
        defaults = {name: field.default for name, field in cls.fields.items()}
        cls.accelerated = cls.variant(defaults)[0] in COMPILED
        cls.__signature__ = signature(cls.fields)  # type: ignore[attr-defined]
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

"""What an optimizer is made of, for the parts of the package that work on it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from stepsize.optimizers.fields import Field
from stepsize.optimizers.groups import ParameterGroups
from stepsize.optimizers.leaves import Leaves
from stepsize.optimizers.options import Options
from stepsize.optimizers.slots import Slots

if TYPE_CHECKING:
    from stepsize.optimizers.host import StepHost
    from stepsize.optimizers.rule import Rule


class Internals(NamedTuple):
    """The objects of one optimizer; each owns its data.

    Attributes:
        rule: The optimizer, as the rule that it follows; `rule_of` a leaf, where there are several.
        leaves: Parameters, contiguous copies, master weights.
        groups: Hyperparameters of every group, and the group of every leaf.
        slots: State arrays.
        engine: The compiled step, which keeps counters and scalars.
        options: The keywords that all optimizers take.
        host: What the compiled step calls.
    """

    rule: Rule
    leaves: Leaves
    groups: ParameterGroups
    slots: Slots
    engine: Any
    options: Options
    host: StepHost

    @property
    def owner(self) -> str:
        """The optimizer's name, for messages."""
        return type(self.rule).__name__

    def refuse_arriving(self, wanted: str) -> None:
        """Refuse what would see some leaves before a step and others after it."""
        self.engine.refuse_open(wanted, self.owner)

    @property
    def fields(self) -> dict[str, Field]:
        """The hyperparameters of all rules, by name."""
        return {name: f for cls in reversed(self.groups.rules) for name, f in cls.fields.items()}

    def rule_of(self, leaf: int) -> Rule:
        """The rule that a leaf follows."""
        return self.rule.rule_at(self.groups.assignment[leaf])

    def scalars(self, leaf: int) -> SimpleNamespace:
        """The numbers that the rule keeps for a leaf, by name."""
        values = self.engine.scalars(leaf)
        return SimpleNamespace(**dict(zip(self.rule_of(leaf).scalars, values, strict=True)))

    def set_scalars(self, leaf: int, s: SimpleNamespace) -> None:
        """Keep the numbers of a leaf."""
        names = self.rule_of(leaf).scalars
        self.engine.set_scalars(leaf, [float(getattr(s, name)) for name in names])

    def recipe(self) -> tuple[Any, ...]:
        """What `Optimizer.over` needs besides parameters."""
        return None, self.groups.copy_tables(), self.options

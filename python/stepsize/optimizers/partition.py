"""Several rules in one optimizer, each over the leaves whose paths match a glob."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

from stepsize import _core
from stepsize.arrays import Array, Nest, Structure, check_alike, check_parameters
from stepsize.optimizers import loop
from stepsize.optimizers.averages import SwapsAverage
from stepsize.optimizers.constraints import Constraints
from stepsize.optimizers.division import WHOLE, Maker, assigned, made_of, refuse_others
from stepsize.optimizers.fields import Value
from stepsize.optimizers.globs import Glob, few
from stepsize.optimizers.groups import ParameterGroups, hint, is_grouped
from stepsize.optimizers.internals import Internals
from stepsize.optimizers.leaves import Leaves
from stepsize.optimizers.optimizer import MADE_OF, Optimizer
from stepsize.optimizers.options import Options
from stepsize.optimizers.own_host import OptimizerHost
from stepsize.optimizers.rule import Rule, Variant
from stepsize.optimizers.rules.averaging import AveragingOptimizer, averages_of
from stepsize.optimizers.slots import Slots

__all__ = ["Partition", "PartitionPart"]

_OF_ANY = ("needs_loss", "adapts_lr", "steady_lr")


class _Member(NamedTuple):
    """A rule of a partition, with its leaves and groups."""

    pattern: Glob
    rule: Rule  # without leaves of its own
    leaves: Sequence[int]
    groups: range
    options: Options


class Partition(Optimizer, abstract=True):
    r"""Several rules in one optimizer: each leaf follows that of the first glob its path matches.

    .. math::
        x_i \leftarrow \text{rule}_{p(i)}(x_i, g_i), \quad p(i) = \min \{p : \text{path}_i
            \text{ matches glob } p\}

    Leaves move as under an optimizer for each rule, to the bit. One call makes the step, one norm
    of all gradients is clipped, one check for NaN and infinity lets all of them move or none, and
    there is one state dict. ``lr`` and what else all rules have are read as a tuple of one value a
    group, rule by rule, and set by one value for all or such a tuple; ``parts[glob]`` has all
    hyperparameters of one rule. Where a rule answers with an average of points, as schedule-free
    ones do, ``eval_params`` and ``averaged`` give it with the other leaves as they are. State: that
    of each rule.

    Args:
        rules: For each glob, or tuple of globs, a rule's name or class, or a function that makes
            an optimizer from its leaves, a dict by path: ``lambda leaves: ss.Muon(leaves,
            lr=0.02)``, or ``functools.partial(ss.Muon, lr=0.02)``. ``groups``, ``bounds``, ``l1``,
            ``state_dtype``, ``master_weights`` and ``param_rounding`` are given there. ``*`` also
            matches ``/``. See `matrix_groups`.
        params: A nest of arrays, updated in place.
        maximize: Climb instead of descend.
        clip_norm: Scale gradients down so that the norm over all leaves is at most this.
        clip_value: Clamp each element of the gradients to [-clip_value, clip_value].
        on_nonfinite: "raise", "skip" or "ignore" steps with NaN or infinite gradients.
        loss_scale: What the loss has been multiplied with, or "dynamic".

    Raises:
        ValueError, TypeError: For a leaf that no glob matches, a glob that gets no leaf, a rule
            that takes the function itself, and what a rule refuses.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = {"layer": {"w": np.eye(2), "b": np.zeros(2)}}
        >>> rules = {"*/w": lambda leaves: ss.Muon(leaves, lr=0.02), "*": "adamw"}
        >>> opt = ss.Partition(rules, params, clip_norm=1.0)
        >>> opt.step({"layer": {"w": np.ones((2, 2)), "b": np.ones(2)}})
        >>> opt.lr
        (0.02, 0.001)
        >>> opt.parts["*/w"].momentum
        0.95
    """

    _members: tuple[_Member, ...]

    def __init_subclass__(cls, *, abstract: bool = True) -> None:
        super().__init_subclass__(abstract=abstract)  # it is no rule, and declares nothing

    def __init__(
        self,
        rules: Mapping[Glob, Maker],
        params: Nest,
        *,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: str = "raise",
        loss_scale: float | str | None = None,
        **others: Any,
    ) -> None:
        owner = type(self).__name__
        refuse_others(owner, others)
        given = (maximize, clip_norm, clip_value, on_nonfinite, loss_scale)
        options, _ = Options.take(owner, dict(zip(WHOLE, given, strict=True)))
        if is_grouped(params):
            raise ValueError(
                f"{owner}: params cannot be a list of groups; give the nest, and groups to the "
                "rules, lambda leaves: ss.AdamW(leaves, groups=[ss.group(...)])"
            )
        structure = Structure(params)
        check_parameters(structure.leaves, structure.paths, owner)
        found = [
            (pattern, indices, made_of(owner, pattern, rules[pattern], _leaves(structure, indices)))
            for pattern, indices in assigned(owner, rules, structure.paths).items()
        ]
        self._compose(params, structure, found, options)

    @classmethod
    def again(cls, params: Nest, members: Sequence[tuple[Any, ...]], options: Options) -> Self:
        """A partition of values that are checked already, for copies: see `_recipe`."""
        structure = Structure(params)
        found = []
        for pattern, rule, indices, groups, own_options, own in members:
            one = rule.over(_leaves(structure, indices), None, groups, own_options)
            vars(one).update(own)
            found.append((pattern, indices, one))
        made = object.__new__(cls)
        made._compose(params, structure, found, options)
        return made

    def _compose(
        self,
        params: Nest,
        structure: Structure,
        found: Sequence[tuple[Glob, Sequence[int], Optimizer]],
        options: Options,
    ) -> None:
        """Take over leaves, groups and state of the optimizers that were made for the parts."""
        tables: list[dict[str, Any]] = []
        rules: list[type[Rule]] = []
        variants: list[Variant] = []
        members: list[_Member] = []
        assignment = [0] * len(structure.leaves)
        constraints: list[Any] = [None] * len(structure.leaves)
        for pattern, indices, one in found:
            parts, first = one.internals, len(tables)
            tables += parts.groups.tables
            rules += parts.groups.rules
            variants += parts.groups.variants
            groups = range(first, len(tables))
            members.append(_Member(pattern, _alone(one), indices, groups, parts.options))
            for j, i in enumerate(indices):
                assignment[i] = first + parts.groups.assignment[j]
                constraints[i] = parts.options.constraint(j)
        if any(isinstance(member.rule, AveragingOptimizer) for member in members):
            self._answer_with_averages()
        self._members = tuple(members)
        shared = [name for name in rules[0].fields if all(name in rule.fields for rule in rules)]
        vars(self).update({name: any(getattr(r, name) for r in rules) for name in _OF_ANY})
        vars(self)["fields"] = {name: rules[0].fields[name] for name in shared}
        engine, owner = _core.Engine(structure.description()), type(self).__name__
        leaves = [(one.internals.leaves, indices) for _, indices, one in found]
        slots = [(one.internals.slots, indices) for _, indices, one in found]
        self.assemble(
            Internals(
                self,
                Leaves.joined(params, structure, leaves),
                ParameterGroups(owner, rules, assignment, tables, True, engine, variants),
                Slots.joined(len(structure.leaves), slots),
                engine,
                replace(options, bounds=Constraints(constraints) if any(constraints) else None),
                OptimizerHost(self),
            )
        )

    def _answer_with_averages(self) -> None:
        """Become one of those that have `eval_params` and `averaged`, which others lack."""
        if isinstance(self, AveragingPartition):
            return
        if type(self) is not Partition:
            raise TypeError(
                f"{type(self).__name__}: a rule answers with an average of points; make "
                "stepsize.optimizers.partition.AveragingPartition the base of your class"
            )
        self.__class__ = AveragingPartition

    def rule_at(self, group: int) -> Rule:
        return next(member.rule for member in self._members if group in member.groups)

    # Reading and setting.

    @property
    def parts(self) -> dict[Glob, PartitionPart]:
        """The rule of each glob, with its leaves, and its hyperparameters to read and to set.

        Example:
            >>> import numpy as np, stepsize as ss
            >>> params = {"w": np.eye(2), "b": np.zeros(2)}
            >>> opt = ss.Partition({"w": ss.Muon, "*": ss.SGD}, params)
            >>> opt.parts["*"].weight_decay = 0.1
            >>> opt.parts["*"].rule, opt.parts["*"].paths, opt.weight_decay
            (<class 'stepsize.optimizers.rules.momentum.SGD'>, ('b',), (0.1, 0.1))
        """
        return {m.pattern: PartitionPart(self.internals, m) for m in self._members}

    def __getattr__(self, name: str) -> Any:
        field = vars(self).get("fields", {}).get(name)
        if field is not None:
            return self.internals.groups.read(field)
        raise AttributeError(self._unknown(name))

    def __setattr__(self, name: str, value: Any) -> None:
        field = vars(self).get("fields", {}).get(name)
        if field is not None:
            self.internals.groups.write(field, value)
        elif name in _known(vars(self).get("_members", ())):
            raise AttributeError(self._unknown(name))
        else:
            super().__setattr__(name, value)

    def _unknown(self, name: str) -> str:
        """Why the optimizer has no attribute of this name."""
        owner, members = type(self).__name__, vars(self).get("_members", ())
        having = [member for member in members if name in member.rule.fields]
        if having:
            words = " and ".join(f"opt.parts[{member.pattern!r}].{name}" for member in having)
            return f"{owner}: not every rule has {name}; it is {words}"
        known = [*vars(self).get("fields", {}), *_known(members)]
        return f"{owner!r} object has no attribute {name!r}{hint(name, known)}"

    @property
    def lr_effective(self) -> Any:
        """The rates that the rules make, a tuple by group; a dict by path where one has it so."""
        parts = self.internals
        rates = [
            self.rule_at(k).effective(parts.scalars(i), parts.groups.numbers(k))
            for i, k in enumerate(parts.groups.assignment)
        ]
        if any(member.rule.scope == "leaf" for member in self._members):
            return dict(zip(self.paths, rates, strict=True))
        by_group = dict(zip(parts.groups.assignment, rates, strict=True))
        numbers = parts.groups.values(self.fields["lr"], range(len(parts.groups.tables)))
        return tuple(by_group.get(k, float(numbers[k])) for k in range(len(numbers)))

    # Copies.

    def _recipe(self) -> tuple[list[tuple[Any, ...]], Options]:
        """What `again` needs besides parameters."""
        groups = self.internals.groups
        members = []
        for member in self._members:
            tables = [dict(groups.tables[k]) for k in member.groups]
            assignment = [groups.assignment[i] - member.groups.start for i in member.leaves]
            own = dict(vars(member.rule))
            kind, leaves = type(member.rule), list(member.leaves)
            variants = [groups.variants[k] for k in member.groups]
            made_of = assignment, tables, variants
            members.append((member.pattern, kind, leaves, made_of, member.options, own))
        return members, replace(self.internals.options, bounds=None)

    def clone(self, params: Nest) -> Self:
        """The same optimizer, state included, over other arrays of the same shapes."""
        check_alike(self.internals.leaves.structure, Structure(params), type(self).__name__)
        members, options = self._recipe()
        twin = self.again(params, [(*m[:-1], copy.deepcopy(m[-1])) for m in members], options)
        twin.__setstate__((self.state_dict(), copy.deepcopy(self._of_its_own())))
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.state_dict(), self._of_its_own()
        return type(self).again, (self.params, *self._recipe()), state

    def _of_its_own(self) -> dict[str, Any]:
        ours = {"fields", "_members", *_OF_ANY}
        return {name: v for name, v in super()._of_its_own().items() if name not in ours}

    def __repr__(self) -> str:
        size = sum(leaf.size for leaf in self.internals.leaves.arrays)
        rules = ", ".join(f"{pattern!r}: {part.text()}" for pattern, part in self.parts.items())
        return (
            f"<{type(self).__name__}({rules}) over {len(self.paths)} arrays with {size:,} "
            f"parameters, {self.step_count} steps>"
        )


class AveragingPartition(SwapsAverage, Partition):
    """A `Partition` with a rule that answers with an average of points; `Partition` makes it.

    `eval_params` and `averaged` give the average of the leaves of such rules, and the others as
    they are.
    """

    def _averages(self) -> list[Array]:
        return averages_of(self.internals, self._training)


class PartitionPart:
    """One rule of a `Partition`: its hyperparameters are attributes, as on an optimizer of it.

    Attributes:
        rule: The optimizer class.
        paths: The names of its leaves.
        options: The keywords that all optimizers take, as they were given to this one.
        hyperparams: The values that the next step will use, by name.
    """

    rule: type[Optimizer]
    paths: tuple[str, ...]
    options: Options

    def __init__(self, parts: Internals, member: _Member) -> None:
        paths = tuple(parts.leaves.paths[i] for i in member.leaves)
        vars(self).update(rule=type(member.rule), paths=paths, options=member.options)
        vars(self).update(_values=parts.groups, _among=member.groups)

    @property
    def hyperparams(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.rule.fields}

    def __getattr__(self, name: str) -> Any:
        field = vars(self)["rule"].fields.get(name) if "rule" in vars(self) else None
        if field is None:
            raise AttributeError(self._unknown(name))
        values = self._values.values(field, self._among)
        return values if len(self._among) > 1 else values[0]

    def __setattr__(self, name: str, value: Value) -> None:
        if name not in self.rule.fields:
            raise AttributeError(self._unknown(name))
        self._values.write(self.rule.fields[name], value, self._among)

    def _unknown(self, name: str) -> str:
        known = vars(self)["rule"].fields if "rule" in vars(self) else {}
        return (
            f"this part of a Partition has no attribute {name!r}{hint(name, list(known))}; it has "
            f"{', '.join(known)}"
        )

    def text(self) -> str:
        """The rule with its hyperparameters."""
        fields = loop.shown(self.rule.fields, [self._values.tables[k] for k in self._among])
        values = ", ".join(f"{f.name}={self._values.text(f, self._among)}" for f in fields)
        return f"{self.rule.__name__}({values})"

    def __repr__(self) -> str:
        return f"<{self.text()} over {few(self.paths)}>"


def _alone(optimizer: Optimizer) -> Rule:
    """The rule of an optimizer without its leaves, with what the class of a user keeps besides."""
    rule = object.__new__(type(optimizer))
    own = {name: value for name, value in vars(optimizer).items() if name not in MADE_OF}
    vars(rule).update(own)
    return rule


def _leaves(structure: Structure, indices: Sequence[int]) -> OrderedDict[str, Array]:
    """Some leaves by path, in their order, which a dict would not keep."""
    return OrderedDict((structure.paths[i], structure.leaves[i]) for i in indices)


def _known(members: Sequence[_Member]) -> list[str]:
    return [name for member in members for name in member.rule.fields]

"""Parameter groups: leaves that share their own values of some hyperparameters."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from stepsize.arrays import Nest
from stepsize.names import nearest
from stepsize.optimizers import loop
from stepsize.optimizers.fields import Choice, Count, Field, Flag, Value
from stepsize.optimizers.globs import Glob, few, is_glob, matching
from stepsize.optimizers.options import CONSTRAINTS
from stepsize.optimizers.scheduled import ScheduledNow, shown

if TYPE_CHECKING:
    from stepsize.optimizers.rule import Rule, Variant


@dataclass(frozen=True)
class GroupSpec:
    """A pattern of leaf names and the hyperparameters that differ there."""

    pattern: Glob
    overrides: Mapping[str, Any]


def group(pattern: Glob, **overrides: Any) -> GroupSpec:
    """Give the leaves whose path matches a glob their own hyperparameters.

    ``opt.lr = 0.1`` sets a hyperparameter in every group and a tuple in each; ``opt.lr_scale``
    multiplies all rates and keeps their ratios.

    Args:
        pattern: A shell-style pattern of leaf paths; ``*`` also matches ``/``, so ``"*/b"`` or
            ``"*b"`` finds every bias; or a tuple of patterns. The first group that matches a leaf
            takes it.
        **overrides: Hyperparameters of the optimizer, numbers or schedules; ``bounds`` and ``l1``.

    Raises:
        ValueError: By the optimizer, if the pattern matches no leaf, none that is free, or one
            from which an earlier group would take one of the overrides.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = {"w": np.ones(3), "b": np.ones(1)}
        >>> opt = ss.AdamW(params, lr=0.1, groups=[ss.group("b", weight_decay=0.0)])
        >>> opt.weight_decay
        (0.01, 0.0)
    """
    if not is_glob(pattern):
        raise TypeError(
            "group: pattern must be a glob of leaf paths such as '*/b', or a tuple of globs, got "
            f"{pattern!r:.80}"
        )
    return GroupSpec(pattern, overrides)


def is_grouped(params: Nest) -> bool:
    """Whether ``params`` is torch's form, a list of dicts with the key "params"."""
    return isinstance(params, list) and len(params) > 0 and all(map(_is_group, params))


def check_grouped(fields: Mapping[str, Field], owner: str, params: Nest) -> None:
    """Refuse a list of groups of which one has no parameters, before its rate is taken for one."""
    if not isinstance(params, list) or not any(_is_group(item) for item in params):
        return
    for i, item in enumerate(params):
        if isinstance(item, dict) and item and "params" not in item and set(item) <= set(fields):
            raise ValueError(
                f"{owner}: group {i} has no 'params' (it has {', '.join(item)}); give each group "
                f"as {{'params': ..., {next(iter(item))!r}: ...}}, or take it out"
            )


def _is_group(item: Any) -> bool:
    return isinstance(item, dict) and "params" in item


def ungroup(nests: Nest) -> Nest:
    """The list of the groups' nests, for a list of dicts or of nests."""
    return [item["params"] for item in nests] if is_grouped(nests) else nests


def hint(name: str, known: Sequence[str]) -> str:
    """The end of an error about a name that is none of these: the nearest one, if one is near."""
    return "".join(f"; did you mean {close}?" for close in nearest(name, known))


def check_values(
    fields: Mapping[str, Field], owner: str, given: Mapping[str, Any], also: Sequence[str] = ()
) -> dict[str, Any]:
    """The given hyperparameters, checked; TypeError for names that are not fields."""
    checked = {}
    for name, value in given.items():
        if name not in fields and name in loop.OPTIONS:
            raise TypeError(
                f"{owner}: {name} is for {loop.OPTIONS[name].whom}, such as AdamW; leave it out"
            )
        if name not in fields:
            names = list(dict.fromkeys((*fields, *also)))
            raise TypeError(
                f"{owner}: unknown argument {name!r:.80}{hint(name, names)} (it takes "
                f"{', '.join(names)})"
            )
        checked[name] = fields[name].check(owner, value)
    return checked


def assign_groups(
    fields: Mapping[str, Field],
    owner: str,
    values: dict[str, Any],
    paths: Sequence[str],
    params: Nest,
    specs: Sequence[GroupSpec],
) -> tuple[list[int], list[dict[str, Any]]]:
    """The group of each leaf, and each group's hyperparameters."""
    if not isinstance(specs, list | tuple):
        raise TypeError(
            f"{owner}: groups must be a list of ss.group(pattern, ...), got {specs!r:.80}"
        )
    if is_grouped(params):
        if specs:
            raise ValueError(f"{owner}: give groups either in params or by groups=, not both")
        tables = []
        for i, item in enumerate(params):
            overrides = _of_rule(fields, {k: v for k, v in item.items() if k != "params"})
            tables.append({**values, **check_values(fields, f"{owner}: group {i}", overrides)})
        return [int(path.split("/")[0]) for path in paths], tables

    tables = [values]
    assignment = [0] * len(paths)
    for number, spec in enumerate(specs, 1):
        if not isinstance(spec, GroupSpec):
            raise TypeError(
                f"{owner}: groups must be a list of ss.group(pattern, ...), got {spec!r:.80}"
            )
        matched = matching(paths, spec.pattern)
        if not matched:
            raise ValueError(
                f"{owner}: group {spec.pattern!r} matches no leaf; the leaves are {few(paths)}"
            )
        label = f"{owner}: group {spec.pattern!r}"
        tables.append({**values, **check_values(fields, label, _of_rule(fields, spec.overrides))})
        _check_overlap(owner, specs[:number], [(paths[i], assignment[i]) for i in matched])
        for i in matched:
            assignment[i] = assignment[i] or number
    return assignment, tables


def _of_rule(fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """A group's values without the bounds and the penalty, which are no fields of the rule."""
    return {k: v for k, v in given.items() if k in fields or k not in CONSTRAINTS}


def _check_overlap(
    owner: str, specs: Sequence[GroupSpec], matched: Sequence[tuple[str, int]]
) -> None:
    """Refuse a group of which earlier ones, who come first, would take something away unsaid."""
    *_, spec = specs
    if all(taker for _, taker in matched):
        path, taker = matched[0]
        raise ValueError(
            f"{owner}: every leaf of group {spec.pattern!r} is taken by an earlier one ({path} by "
            f"{specs[taker - 1].pattern!r}), and the first group that matches takes a leaf; put "
            "the narrower group first"
        )
    for path, taker in matched:
        first = specs[taker - 1]
        lost = [name for name in spec.overrides if name not in first.overrides] if taker else []
        if lost:
            words = ", ".join(
                f"{name}={v!r}" for name, v in {**spec.overrides, **first.overrides}.items()
            )
            raise ValueError(
                f"{owner}: {path} is in group {first.pattern!r} and in {spec.pattern!r}, whose "
                f"{lost[0]} would not act on it, since the first group that matches takes a leaf; "
                f"put ss.group({path!r}, {words}) first"
            )


@dataclass
class ParameterGroups:
    """The hyperparameters of every group, and the group of every leaf.

    Attributes:
        owner: The optimizer's name, for messages.
        rules: Of each group, the class whose fields they are.
        assignment: The group of each leaf.
        tables: Each group's hyperparameters by name, as given.
        several: Whether a hyperparameter is read as a tuple of one value a group.
        engine: The compiled step, which evaluates schedules.
        variants: Each group's compiled rule and state arrays, which are those of its construction:
            a momentum that is set to 0 later keeps its array, and may be set to another value.
    """

    owner: str
    rules: Sequence[type[Rule]]
    assignment: list[int]
    tables: list[dict[str, Any]]
    several: bool
    engine: Any
    variants: list[Variant]

    def copy_tables(self) -> tuple[list[int], list[dict[str, Any]], list[Variant]]:
        """Assignment, tables and variants, for another optimizer."""
        return list(self.assignment), [dict(table) for table in self.tables], list(self.variants)

    def table_of(self, leaf: int) -> dict[str, Any]:
        """The hyperparameters of a leaf, by its number."""
        return self.tables[self.assignment[leaf]]

    def lacks_state(self, group: int, values: Mapping[str, Any]) -> bool:
        """Whether hyperparameters ask for state arrays that the group was made without."""
        wanted = loop.layout(self.rules[group], values)[1]
        return not set(wanted) <= set(self.variants[group][1])

    def owner_of(self, group: int) -> str:
        """The optimizer's name, and that of a group's rule where it is another one."""
        rule = self.rules[group].__name__
        return self.owner if rule == self.owner else f"{self.owner}: {rule}"

    def having(self, field: Field) -> list[int]:
        """The groups whose rule has a hyperparameter of that name."""
        return [k for k, table in enumerate(self.tables) if field.name in table]

    def read(self, field: Field) -> Any:
        """The value that the next step will use; with groups, a tuple of one entry a group."""
        values = self.values(field, self.having(field))
        return values if self.several else values[0]

    def values(self, field: Field, among: Sequence[int]) -> tuple[Any, ...]:
        """The values that the next step will use in some of the groups."""
        return tuple(self._read(self.rules[k].fields[field.name], k) for k in among)

    def _read(self, field: Field, group: int) -> Any:
        value = self.tables[group][field.name]
        parts = field.parts()
        if not parts or isinstance(field, Flag) or value is None:
            return value
        numbers = [self.engine.number(group, part.name) for part in parts]
        pairs = zip(field.values(value), numbers, strict=True)
        found = tuple(ScheduledNow(now) if callable(item) else now for item, now in pairs)
        return found if isinstance(field.default, tuple) else found[0]

    def text(self, field: Field, among: Sequence[int] | None = None) -> str:
        """The value in a repr: once where all groups agree, a schedule with its present value."""
        some = self.having(field) if among is None else among
        words = [self._text(self.rules[k].fields[field.name], k) for k in some]
        return words[0] if len(set(words)) == 1 else f"({', '.join(words)})"

    def _text(self, field: Field, group: int) -> str:
        value, now = self.tables[group][field.name], self._read(field, group)
        if not isinstance(field.default, tuple):
            return shown(value, now)
        pairs = zip(field.values(value), now, strict=True)
        return f"({', '.join(shown(item, present) for item, present in pairs)})"

    def write(self, field: Field, value: Value, among: Sequence[int] | None = None) -> None:
        """Set a hyperparameter, in every group or (a tuple with one entry a group) in each.

        ``among`` are the groups that are meant, if not all.
        """
        self.engine.refuse_open(f"a new {field.name}", self.owner)
        some = range(len(self.tables)) if among is None else among
        fields = [self.rules[k].fields[field.name] for k in some]
        tables = [self.tables[k] for k in some]
        owner, count = self.owner, len(tables)
        several = isinstance(value, tuple | list)
        if several and any(isinstance(one.default, tuple) for one in fields):
            by_group = self.several if among is None else count > 1
            several = by_group and any(isinstance(item, tuple | list) for item in value)
        if several and len(value) != count:
            raise ValueError(
                f"{owner}: {field.name} has {len(value)} values for {count} "
                f"{'group' if count == 1 else 'groups'}; give one number for all, or one for each"
            )
        items = value if several else [value] * count
        triples = zip(some, fields, items, strict=True)
        values = [one.check(self.owner_of(k), item) for k, one, item in triples]
        given = zip(fields, tables, items, strict=True)
        if any(_ends_schedule(one, table[field.name], item) for one, table, item in given):
            scale = "; opt.lr_scale *= ... keeps it" if field.name == "lr" else ""
            warnings.warn(
                f"{owner}: {field.name} = {value!r}, worked out from the schedule's present value, "
                f"replaces the schedule by that constant{scale}",
                stacklevel=4,
            )
        for k, one, table, new in zip(some, fields, tables, values, strict=True):
            changed = {**table, field.name: new}
            old, rule, label = table[field.name], self.rules[k], self.owner_of(k)
            if not one.same_kind(old, new) or (old is None) != (new is None):
                raise ValueError(
                    f"{label}: {field.name} is settled when the optimizer is made (it is "
                    f"{old!r}); make a new one with {field.name}={new!r}"
                )
            loop.check(rule, changed)
            if self.lacks_state(k, changed):
                raise ValueError(
                    f"{label}: {field.name}={new!r} needs state that this optimizer was made "
                    f"without; make a new one with {field.name}={new!r}"
                )
        before = [table[field.name] for table in tables]
        if not several and any(old != before[0] for old in before):
            keep = "; opt.lr_scale *= ... keeps their ratio" if field.name == "lr" else ""
            warnings.warn(
                f"{owner}: one {field.name} for all groups replaces their own, "
                f"{', '.join(map(repr, before))}; give a tuple with one for each{keep}",
                stacklevel=4,
            )
        try:
            self._set_all(some, fields, values)
        except BaseException:
            self._set_all(some, fields, before)
            raise

    def _set_all(
        self, groups: Sequence[int], fields: Sequence[Field], values: Sequence[Value]
    ) -> None:
        for group, field, new in zip(groups, fields, values, strict=True):
            self.tables[group][field.name] = new
            if new is not None:
                self.pass_on(group, field)

    def set_tables(self, tables: Sequence[dict[str, Any]]) -> None:
        """Take over the hyperparameters of all groups, which are checked."""
        for k, table in enumerate(tables):
            self.tables[k] = table
            for field in self.rules[k].fields.values():
                if table[field.name] is not None:
                    self.pass_on(k, field)

    def pass_on(self, group: int, field: Field) -> None:
        """Tell the compiled step a changed hyperparameter."""
        for name, item in self.sources(group, field):
            self.engine.set_number(group, name, item)

    def sources(self, group: int, field: Field) -> list[tuple[str, Any]]:
        """What the engine evaluates for each part: a number, a compiled schedule, a function."""
        value = self.tables[group][field.name]
        found = []
        for k, (part, item) in enumerate(zip(field.parts(), field.values(value), strict=True)):
            source = getattr(item, "compiled", None)  # None for a schedule that holds functions
            if source is None:
                bound = callable(item)
                source = _Function(weakref.ref(self), group, field, k) if bound else item
            found.append((part.name, source))
        return found

    def evaluate(self, group: int, t: int) -> SimpleNamespace:
        """One step's hyperparameters as a rule reads them, with the update's number ``t``."""
        fields, found = self.rules[group].fields, dict(self.engine.values(group))
        for name, value in self.tables[group].items():
            if isinstance(fields[name], Choice | Count | Flag):
                found[name] = value
            elif value is None:  # what only a compiled rule is given a number for
                for part in fields[name].parts():
                    found.pop(part.name, None)
        return SimpleNamespace(**found, t=t)

    def numbers(self, group: int) -> SimpleNamespace:
        """The numbers that the next step will use, by name."""
        table = self.tables[group]
        known = self.rules[group].fields.items()
        fields = [field for name, field in known if table[name] is not None]
        names = [part.name for field in fields for part in field.parts()]
        return SimpleNamespace(**{name: self.engine.number(group, name) for name in names})


def _ends_schedule(field: Field, old: Value, new: Value) -> bool:
    """Whether a schedule's present value, or what is worked out of it, takes its place."""
    given = new if isinstance(new, tuple | list) else (new,)
    pairs = zip(given, () if old is None else field.values(old), strict=False)
    return any(isinstance(now, ScheduledNow) and callable(source) for now, source in pairs)


class _Function(NamedTuple):
    """Calls a function of the step that stands in a table.

    The table holds it, where the garbage collector sees it: a function may be a method of what owns
    the optimizer, and the compiled step shows the collector nothing.
    """

    groups: weakref.ref[ParameterGroups]
    group: int
    field: Field
    part: int

    def __call__(self, step: int) -> Any:
        groups = self.groups()
        assert groups is not None  # it steps
        return self.field.values(groups.tables[self.group][self.field.name])[self.part](step)

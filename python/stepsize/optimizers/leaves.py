"""The leaves of an optimizer: the parameters' arrays, and what they are computed with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from stepsize import _core
from stepsize.arrays import COMPLEX, Array, Nest, Structure, check_parameters, is_narrow
from stepsize.optimizers import half
from stepsize.optimizers.groups import is_grouped, ungroup
from stepsize.optimizers.options import STOCHASTIC, Options
from stepsize.optimizers.sparse import RowSlice
from stepsize.optimizers.transaction import assignment

if TYPE_CHECKING:
    from stepsize.optimizers.rule import Rule


def check_real(rule: Rule, structure: Structure) -> None:
    """Refuse complex leaves for rules that see a leaf as a matrix."""
    if not rule.shaped or rule.needs_closure:
        return
    for leaf, path in zip(structure.leaves, structure.paths, strict=True):
        if getattr(leaf, "dtype", None) in COMPLEX:
            owner = type(rule).__name__
            raise TypeError(
                f"{owner}: {path} has dtype {leaf.dtype}, but {owner} is made for real matrices; "
                "choose a rule that acts on each number, such as AdamW, for complex parameters"
            )


@dataclass
class Leaves:
    """Parameters, leaf by leaf.

    Attributes:
        params: The nest, as given.
        structure: Its leaves, their names and its nesting.
        contiguous: For each leaf, itself, or memory of its own where its elements do not lie side
            by side.
        masters: For each leaf, its master weights, float32 or the lower bits of such, or None.
        stochastic: For each leaf, whether it is rounded stochastically.
        strided: Index, leaf and contiguous memory of the leaves that are not contiguous.
        rows: By leaf, the rows that the present step has bound, where `reference` moves them.
    """

    params: Nest
    structure: Structure
    contiguous: list[Array]
    masters: list[Array | None]
    stochastic: list[bool]
    strided: list[tuple[int, Array, Array]]
    rows: dict[int, RowSlice] = field(default_factory=dict)

    @classmethod
    def of(cls, owner: str, params: Nest, structure: Structure, options: Options) -> Self:
        """The leaves of a checked nest; errors name the leaf that cannot be a parameter."""
        check_parameters(structure.leaves, structure.paths, owner)
        options.check_narrow(owner, structure)
        contiguous, strided = [], []
        for i, leaf in enumerate(structure.leaves):
            whole = leaf
            if not (leaf.flags.c_contiguous and leaf.flags.aligned):
                whole = _core.allocate(leaf.nbytes).view(leaf.dtype).reshape(leaf.shape)
                whole[...] = leaf
                strided.append((i, leaf, whole))
            contiguous.append(whole)
        masters = [half.make_master(leaf, options.master_weights) for leaf in contiguous]
        randomly = options.param_rounding == STOCHASTIC
        stochastic = [randomly and is_narrow(leaf.dtype) for leaf in contiguous]
        return cls(params, structure, contiguous, masters, stochastic, strided)

    @classmethod
    def joined(
        cls, params: Nest, structure: Structure, parts: Sequence[tuple[Leaves, Sequence[int]]]
    ) -> Self:
        """The leaves of a nest of which there are some for each of a few optimizers already."""
        contiguous, masters = list(structure.leaves), [None] * len(structure.leaves)
        made = cls(params, structure, contiguous, [*masters], [False] * len(masters), [])
        for own, indices in parts:
            columns = (indices, own.contiguous, own.masters, own.stochastic)
            for i, whole, master, randomly in zip(*columns, strict=True):
                made.contiguous[i], made.masters[i] = whole, master
                made.stochastic[i] = randomly
            made.strided += [(indices[j], leaf, whole) for j, leaf, whole in own.strided]
        return made

    @property
    def paths(self) -> tuple[str, ...]:
        """The leaves' names."""
        return self.structure.paths

    @property
    def arrays(self) -> list[Array]:
        """The leaves, as given."""
        return self.structure.leaves

    @property
    def grouped(self) -> bool:
        """Whether the parameters came as a list of groups."""
        return is_grouped(self.params)

    def flatten(self, nest: Nest) -> list[object]:
        """The leaves of a nest of the parameters' nesting, or an error that names the first."""
        return self.structure.flatten(ungroup(nest) if self.grouped else nest)

    def rows_written(self) -> Callable[[], Any]:
        """A call in C that puts the rows of this step, as they are then, into leaves and state."""
        written = [item for rows in self.rows.values() for item in rows.written()]
        targets, indices, values = zip(*written, strict=True)
        return assignment(targets, values, indices)

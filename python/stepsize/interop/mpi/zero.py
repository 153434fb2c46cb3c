"""ZeRO stage 1: each rank holds the optimizer state of its own part of the parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, NoReturn, Self

import numpy as np

from stepsize.arrays import Array, Nest, Structure, copy
from stepsize.collectives import (
    GradientMean,
    Layout,
    Part,
    RankError,
    Team,
    options_of,
    same_parameters,
    settings_of,
    team_of,
)
from stepsize.interop.mpi.arguments import Asked
from stepsize.interop.mpi.gathering import gathered, local_part
from stepsize.interop.mpi.host import ShardHost
from stepsize.interop.mpi.stepping import OnRanks
from stepsize.optimizers.constraints import Constraint, Constraints
from stepsize.optimizers.groups import ungroup
from stepsize.optimizers.loop import sees_leaves
from stepsize.optimizers.options import Options
from stepsize.optimizers.quantization import BLOCK_SIZE
from stepsize.optimizers.registration import find_rule
from stepsize.optimizers.slots import Place
from stepsize.optimizers.transaction import assign
from stepsize.serialization import nested

__all__ = ["Zero1"]

Groups = tuple[Any, ...]  # as `Optimizer.over` takes them


class Zero1(OnRanks):
    r"""An optimizer whose state is spread over the ranks: each holds 1/n of it.

    A step has three parts: the gradients go to the owners of their parts, which average them in a
    fixed order (reduce-scatter); each owner moves its part; the parameters go back to all
    (all-gather). Each rank sends and receives as many bytes as in `DataParallel`.

    .. math::
        \text{state a rank} = \frac{1}{n} \text{state of the rule}

    The numbers are those of one rank that is given the mean gradients, bit for bit. Compiled rules
    are cut at multiples of 16,384 numbers, of which their sums are made anyway: norms for clipping,
    trust ratios, distances and statistics are added up over all ranks in the order of the leaves.
    Rules that see matrices, and rules of your own, get whole leaves. Gradients of rows become whole
    arrays. Where one rank has a gradient that is not finite, all raise, or leave the step out.

    ``state_dict`` gathers the whole state on every rank, as the optimizer without ranks would save
    it, and ``load_state_dict`` takes its part of that: saved on n ranks, loaded on m, or on one.
    `save_shards` writes a file a rank instead. All ranks call all of these.

    Args:
        rule: an optimizer class or its name, "adamw".
        params: the whole nest of parameters, on every rank; those of rank 0 are sent to all.
        comm: a communicator of mpi4py, such as ``MPI.COMM_WORLD``, or one of a `LocalComm`.
        lr: the rate, None for the default of the rule.
        keywords: those of the rule: hyperparameters, ``clip_norm``, ``groups`` and so on.

    Raises:
        TypeError: a rule that takes a function, as L-BFGS does, or one of your own that takes sums
            over all leaves.
        RankError: another rank failed, or is somewhere else; the message says which.

    Source: Rajbhandari et al. 2020, arXiv:1910.02054, section 5.1 (P_os).

    Example:
        >>> import numpy as np, stepsize as ss
        >>> from stepsize.interop.mpi import LocalComm, Zero1
        >>> def program(comm):
        ...     params = {"w": np.zeros(40_000), "b": np.zeros(3)}
        ...     opt = Zero1("adamw", params, comm, lr=1e-3, clip_norm=1.0)
        ...     opt.step({"w": np.full(40_000, comm.rank + 1.0), "b": np.ones(3)})
        ...     return opt.state_bytes, float(params["w"][-1].round(5))
        >>> LocalComm.run(2, program)
        [(262192, -0.001), (377856, -0.001)]
    """

    sharded = True
    _owner = "Zero1"

    def __init__(self, rule: Any, params: Nest, comm: Any, lr: Any = None, **keywords: Any) -> None:
        team = team_of("Zero1", comm)
        with team.together("Zero1: arguments"):
            cls = find_rule(rule, "Zero1")
            _check_rule(cls)
            _, groups, options = cls.settled(params, lr, (), keywords)
        same_parameters("Zero1", team, ungroup(params))
        told = f"{cls.__name__}, {groups[0]}, {len(groups[1])} groups"
        team.agree("Zero1: rule", "the rule with its groups", told)
        team.alike("Zero1: options", options_of(options), ValueError)
        self._build(cls, params, team, groups, options)
        with team.together("Zero1: schedules"):
            here = settings_of(self.inner)
        team.alike("Zero1: hyperparameters", here, ValueError)

    def _build(self, cls: Any, params: Nest, team: Team, groups: Groups, options: Options) -> None:
        structure = Structure(ungroup(params))
        leaves, paths = structure.leaves, structure.paths
        cut = bool(cls.accelerated and not cls.shaped)
        layout = Layout(leaves, team.size, cut)
        # Every rank has an optimizer: one without a part, over an empty one.
        parts = layout.parts[team.rank] or [Part(0, 0, 0)]
        assignment = [groups[0][part.leaf] for part in parts]
        tables = [dict(table) for table in groups[1]]
        inner = cls.over(
            [_piece(leaves[part.leaf], part) for part in parts],
            tuple(_name(paths[part.leaf], part, leaves[part.leaf]) for part in parts),
            (assignment, tables, *groups[2:]),
            _options_of(options, leaves, parts),
            functools.partial(ShardHost, team=team, parts=parts, leaves=leaves, paths=paths),
            [Place(part.leaf, part.start * _real(leaves, part) // BLOCK_SIZE) for part in parts],
        )
        engine = inner.internals.engine
        engine.sharded = True
        engine.cut = cut and (cls.scope is not None or any(map(sees_leaves, tables)))
        super().__init__(inner)
        self._set(
            _team=team,
            _params=params,
            _structure=structure,
            _assignment=list(groups[0]),
            _made_of=(groups, options),
            _parts=parts,
            _layout=layout,
            _mean=GradientMean(
                team, ungroup(params), "Zero1", layout, settings=lambda: settings_of(inner)
            ),
            _torn="",
        )

    @property
    def params(self) -> Nest:
        """The whole nest of parameters, as given."""
        return self._params

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of all leaves."""
        return self._structure.paths  # type: ignore[no-any-return]

    @property
    def parts(self) -> tuple[Part, ...]:
        """What this rank owns: number of the leaf, first element, and the one after the last."""
        return tuple(self._layout.parts[self._team.rank])

    @property
    def state_bytes(self) -> int:
        """The bytes of the state arrays on this rank, with scales and master weights."""
        stored = self.internals.slots.stored(self.internals.leaves.masters)
        return sum(array.nbytes for slots in stored for array in slots.values())

    @property
    def lr_group(self) -> int:
        """The first group that has parameters, on any rank."""
        return int(min(self._assignment))

    def _make(self, given: Asked) -> Any:
        if self._torn:
            given = given._replace(error=self._cut_off())
        found, own = self._mean.scattered(*given, dense=True)
        # Norms are added up over all ranks, which all help if one asks for them.
        stats = self._moved(lambda: own, found.loss, found.stats)
        return stats if given.stats else None

    def step_averaged(self, grads: Nest, *, loss: float | None = None, stats: bool = False) -> Any:
        """A step with gradients that are the same on all ranks already, and need no sending.

        So is the loss; one rank may ask for statistics alone, as in `step`.
        """
        own: list[Any] = []
        error: Exception | None = None
        try:
            self._refuse_torn()
            own = self._mean.own_parts(grads)
        except Exception as refused:
            error = refused
        told = {"loss": loss}, "Zero1: step_averaged"
        words = self._team.meet_alike("Zero1: averaged", bool(stats), *told, error)
        found = self._moved(lambda: own, loss, any(words))
        return found if stats else None

    def step_alike(self, grads: Nest, *, loss: float | None = None, stats: bool = False) -> Any:
        """As `step_averaged`, where all ranks are sure to give the same, and nothing is asked."""
        return self._moved(lambda: self._mean.own_parts(grads), loss, stats)

    def _moved(self, own: Callable[[], list[Any]], loss: float | None, stats: bool) -> Any:
        leaves = self._structure.leaves
        try:
            with self._team.together("Zero1: step"):
                self._refuse_torn()
                pieces = [_shaped(mean, leaves, part) for mean, part in self._pairs(own())]
                result = self.inner.step(pieces, loss=loss, stats=stats)
            self._mean.exchange.all_gather(leaves)
        except RankError as error:
            self._set(_torn=str(error))
            raise
        return result

    def _pairs(self, own: list[Any]) -> list[tuple[Any, Part]]:
        empty = [None] * (len(self._parts) - len(own))
        return list(zip([*own, *empty], self._parts, strict=True))

    def _refuse_torn(self) -> None:
        if self._torn:
            raise self._cut_off()

    def _cut_off(self) -> RankError:
        return RankError(
            f"Zero1: a step was cut off ({self._torn}), and parameters and state on this rank "
            "are of two steps; load the last checkpoint"
        )

    def bind(self, grads: Nest) -> None:
        """Hold the arrays that every ``step()`` without an argument reads its gradients from."""
        self._mean.own_parts(grads)
        self._set(_bound=grads)

    # Averages, where the rule answers with one.

    @property
    def averaged(self) -> Callable[[], AbstractContextManager[Nest]]:
        """As that of the rule: all ranks hold the average in their parameters inside the block."""
        inner = self.inner.averaged  # AttributeError for a rule without one
        return functools.partial(self._averaged, inner)

    @contextmanager
    def _averaged(self, inner: Callable[[], AbstractContextManager[Nest]]) -> Iterator[Nest]:
        leaves = self._structure.leaves
        try:
            with inner():
                self._mean.exchange.all_gather(leaves)
                yield self.params
        finally:
            self._mean.exchange.all_gather(leaves)

    @property
    def eval_params(self) -> Callable[[], Nest]:
        """As that of the rule: the averaged parameters of all ranks, as new arrays."""
        _ = self.inner.eval_params  # AttributeError for a rule without one
        return self._eval_params

    def _eval_params(self) -> Nest:
        with self.averaged() as params:
            return copy(params)

    # State and files.

    @property
    def state(self) -> NoReturn:
        """Not here: no rank has all of it; see ``state_dict`` and ``inner.state``."""
        raise AttributeError(
            "Zero1: no rank has the state of all leaves; state_dict() gathers it, and inner.state "
            "is what this rank holds"
        )

    def state_dict(self) -> dict[str, Any]:
        """The whole state, gathered on every rank, as the rule without ranks would save it."""
        with self._team.together("Zero1: state_dict"):
            self._refuse_torn()
            here = self.inner.state_dict()
        return gathered(self._team, here, self._structure, self._layout, self._assignment)

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """Take this rank's part of a whole state; what does not fit changes nothing on any rank."""
        rule, parts, groups = type(self.inner), self._parts, self._assignment
        self._take(lambda now: local_part(d, now, self._structure, parts, groups, rule))

    def load_parts(self, state: Mapping[str, Any], values: Sequence[Array]) -> None:
        """Take the state of this rank's parts, and their parameters, which go to all ranks."""
        self._take(lambda now: state)
        assign(self.internals.leaves.arrays, values)
        self._mean.exchange.all_gather(self._structure.leaves)

    def _take(self, part_of: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        """Load the state that is made of the present one; where a rank refuses, no rank does."""
        before = self.inner.state_dict()
        try:
            with self._team.together("Zero1: load_state_dict"):
                self.inner.load_state_dict(part_of(before))
        except Exception:
            self.inner.load_state_dict(before)
            raise
        self._set(_torn="")

    def whole_leaf(self, i: int) -> Array:
        """A leaf of the parameters by its number."""
        found: Array = self._structure.leaves[i]
        return found

    def save(self, path: nested.Path) -> None:
        """Gather the state and write it on rank 0; all ranks call it."""
        state = self.state_dict()
        with self._team.together("Zero1: save"):
            if self._team.leads:
                nested.dump(path, "optimizer", state)

    def load(self, path: nested.Path) -> None:
        """Load what `save` or the optimizer without ranks wrote, read on rank 0."""
        state = self._team.from_first("Zero1: load", lambda: nested.load(path, "optimizer"))
        with nested.contents_of(path):
            self.load_state_dict(state)

    def clone(self, params: Nest) -> Self:
        """The same over other arrays of the same shapes, on the same ranks."""
        twin = object.__new__(type(self))
        groups = self._made_of[0][0], *self.internals.groups.copy_tables()[1:]
        twin._build(type(self.inner), params, self._team, groups, self._made_of[1])
        twin.inner.load_state_dict(self.inner.state_dict())
        return twin


Zero1._made_with = frozenset({"params", "comm"})  # the rest is the rule's to set


def _check_rule(cls: Any) -> None:
    """Refuse rules whose step no part of the leaves can make."""
    if cls.needs_closure:
        raise TypeError(
            f"Zero1: {cls.__name__} takes the function value_and_grad, and looks at all parameters "
            f"along a line; run it on every rank, DataParallel is not needed: "
            f"ss.fit(..., optimizer={cls.__name__}(params), comm=comm)"
        )
    if cls.scope == "all" and not cls.accelerated:
        raise TypeError(
            f"Zero1: {cls.__name__} takes sums over all leaves and has no compiled twin; give "
            f"DataParallel({cls.__name__}(params), comm)"
        )


def _real(leaves: list[Array], part: Part) -> int:
    """The real numbers of an element."""
    return 2 if leaves[part.leaf].dtype.kind == "c" else 1


def _name(path: str, part: Part, leaf: Array) -> str:
    """What the inner optimizer calls a part."""
    return path if part.size == leaf.size else f"{path}[{part.start}:{part.stop}]"


def _piece(array: Array, part: Part) -> Array:
    """The memory of a part: a leaf that is whole keeps its shape."""
    if part.size == array.size:
        return array
    return array.reshape(-1)[part.start : part.stop]


def _shaped(mean: Any, leaves: list[Array], part: Part) -> Any:
    """The gradient of a part in the shape that its owner sees."""
    leaf = leaves[part.leaf]
    return mean.reshape(leaf.shape) if mean is not None and part.size == leaf.size else mean


def _options_of(options: Options, leaves: list[Array], parts: list[Part]) -> Options:
    """The options with the bounds of the parts."""
    if options.bounds is None:
        return options
    found = []
    for part in parts:
        one = options.constraint(part.leaf)
        if one is not None:
            low, high = (
                _piece(np.ascontiguousarray(side), part) if side.ndim else side
                for side in (one.low, one.high)
            )
            one = Constraint(low, high, one.l1)
        found.append(one)
    return replace(options, bounds=Constraints(found))

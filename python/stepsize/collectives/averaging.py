"""The mean of loss and gradients over the ranks, on all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stepsize.arrays import Array, Nest, Structure, computed, unflatten
from stepsize.collectives.exchange import Exchange
from stepsize.collectives.layout import Layout
from stepsize.collectives.messages import dtype_of
from stepsize.collectives.sums import Share, mean_of
from stepsize.collectives.team import Team
from stepsize.optimizers import RowGradient
from stepsize.optimizers.gradients import plain

ROWS = "rows"  # the kind of a gradient of some rows alone


class Announced(NamedTuple):
    """What all ranks know before gradients travel.

    Attributes:
        share: how much each rank counts.
        kinds: for each leaf the dtype it travels in and which ranks have it; None for none.
        sparse: the leaves whose gradients are of some rows alone, on all ranks that have one.
        loss: the mean loss, None where no rank gave one.
        stats: whether a rank asked for statistics, which all then help to make.
    """

    share: Share
    kinds: list[tuple[Any, tuple[bool, ...]] | None]
    sparse: list[bool]
    loss: float | None
    stats: bool


class GradientMean:
    """Averages gradients over ranks.

    Args:
        team: the ranks.
        params: the nest that gradients are of.
        owner: who averages, in messages.
        layout: which rank adds up what; None cuts all leaves evenly.
        reuse: whether the result is in the same arrays each time, for one who uses it at once.
        settings: gives what must be the same on all ranks at each mean, by name, such as
            hyperparameters: a checksum travels along, and `RankError` names what differs.
        aside: gives a small value that travels along; ``said`` are those of all ranks then.

    Example:
        >>> import numpy as np
        >>> from stepsize.collectives import GradientMean, LocalComm, Team
        >>> def program(comm):
        ...     mean = GradientMean(Team(comm), np.zeros(2), "here")
        ...     return mean(np.full(2, float(comm.rank)), rows=8, loss=comm.rank + 1.0)[:2]
        >>> LocalComm.run(2, program)[0]
        (1.5, array([0.5, 0.5]))
    """

    def __init__(
        self,
        team: Team,
        params: Nest,
        owner: str,
        layout: Layout | None = None,
        reuse: bool = False,
        settings: Callable[[], Mapping[str, Any]] | None = None,
        aside: Callable[[], Any] | None = None,
    ) -> None:
        self._settings, self._aside = settings or dict, aside or (lambda: None)
        self.said: list[Any] = []
        self._team, self._owner, self._reuse = team, owner, reuse
        self.structure = Structure(params)
        # Gradients are contiguous whatever the parameters are.
        self._alike = [
            leaf if leaf.flags.c_contiguous else np.empty(leaf.shape, leaf.dtype)
            for leaf in self.structure.leaves
        ]
        self.layout = Layout(self._alike, team.size) if layout is None else layout
        self.exchange = Exchange(team, self._alike, self.layout)
        self._means: list[Any] = [None] * len(self._alike)

    def __call__(
        self,
        grads: Nest,
        rows: float,
        loss: float | None = None,
        error: BaseException | None = None,
    ) -> tuple[float | None, Nest]:
        """The mean loss and the nest of mean gradients, the same on all ranks.

        Args:
            grads: the gradients here; not looked at where ``rows`` is 0.
            rows: how many rows they are a mean over.
            loss: the loss here.
            error: why this rank has nothing; raised here, and told to the others.
        """
        found, own = self.scattered(grads, rows, loss, error)
        return found.loss, self.whole(found, own)

    def scattered(
        self,
        grads: Nest,
        rows: float,
        loss: float | None = None,
        error: BaseException | None = None,
        stats: bool = False,
        dense: bool = False,
    ) -> tuple[Announced, list[Any]]:
        """What was announced, and the means of the parts that are this rank's own.

        With ``dense``, gradients of some rows alone become whole arrays; ``stats`` is whether this
        rank asks for statistics.
        """
        flat: list[Any] = [None] * len(self._alike)
        if error is None and rows > 0:
            try:
                flat = self._gather(grads, dense)
            except Exception as refused:  # whatever it is: the others wait to hear of it
                error = refused
        self.last = found = self._announce(flat, rows, loss, error, stats)
        self._sparse = self._joined_rows(flat, found) if any(found.sparse) else {}
        flat = [
            None if alone else self._whole(i, value)
            for i, (value, alone) in enumerate(zip(flat, found.sparse, strict=True))
        ]
        kinds = self._dense_kinds(found)
        return found, self.exchange.reduce_scatter(flat, kinds, found.share)

    def whole(self, found: Announced, own: Sequence[Any]) -> Nest:
        """The nest of means, from the parts of all ranks."""
        kinds = self._dense_kinds(found)
        if not self._reuse:
            self._means = [None] * len(self._alike)
        for i, kind in enumerate(kinds):
            dtype = None if kind is None else np.dtype(computed(kind[0]))
            if dtype is not None and (self._means[i] is None or self._means[i].dtype != dtype):
                self._means[i] = np.empty(self._alike[i].shape, dtype)
        for part, mean in zip(self.layout.parts[self._team.rank], own, strict=True):
            if mean is not None:
                self._means[part.leaf].reshape(-1)[part.start : part.stop] = mean
        skip = [kind is None for kind in kinds]
        targets = [a if no else m for a, m, no in zip(self._alike, self._means, skip, strict=True)]
        self.exchange.all_gather(targets, skip)
        means = [None if no else mean for mean, no in zip(self._means, skip, strict=True)]
        for i, rows in self._sparse.items():
            means[i] = rows
        return unflatten(self.structure.spec, means)

    def own_parts(self, grads: Nest) -> list[Any]:
        """The parts that are this rank's own of gradients that are the same on all ranks."""
        flat = self._gather(grads, dense=True)
        own = self.layout.parts[self._team.rank]
        return [
            None if flat[part.leaf] is None else flat[part.leaf].reshape(-1)[part.start : part.stop]
            for part in own
        ]

    def _gather(self, grads: Nest, dense: bool) -> list[Any]:
        """The gradients here, leaf by leaf, as plain arrays, rows or None."""
        flat = self.structure.flatten(grads)
        found: list[Any] = []
        for i, (path, value) in enumerate(zip(self.structure.paths, flat, strict=True)):
            if isinstance(value, RowGradient):
                found.append(self._whole(i, value) if dense else value)
            else:
                found.append(plain(self._owner, path, self._alike[i], value))
        return found

    def _whole(self, i: int, value: Any) -> Array | None:
        if isinstance(value, RowGradient):
            return value.whole(self._owner, self.structure.paths[i], self._alike[i])
        found: Array | None = value
        return found

    def _announce(
        self,
        flat: Sequence[Any],
        rows: float,
        loss: float | None,
        error: BaseException | None,
        stats: bool,
    ) -> Announced:
        here = [_kind(value) for value in flat]
        settings: Mapping[str, Any] = {}
        try:
            settings = self._settings()
        except Exception as refused:  # by a schedule, perhaps
            error = error or refused
        word = (float(rows), loss, here, self._aside(), bool(stats))
        words = self._team.meet_alike(
            f"{self._owner}: gradients", word, settings, f"{self._owner}: hyperparameters", error
        )
        said = [tuple(rest) for *rest, _, _ in words]
        self.said = [word[-2] for word in words]
        asked = any(word[-1] for word in words)
        kinds: list[Any] = []
        sparse: list[bool] = []
        for i, leaf in enumerate(self._alike):
            names = [kinds_of[i] for _, _, kinds_of in said]
            given = {name for name in names if name is not None}
            sparse.append(given == {ROWS})
            dtype = np.dtype(computed(leaf.dtype))
            if len(given) == 1 and not sparse[i]:
                dtype = _dtype_of(given.pop(), leaf)
            kinds.append((dtype, tuple(n is not None for n in names)) if any(names) else None)
        share = Share.of([count for count, _, _ in said])
        losses = [value if count > 0 else None for count, value, _ in said]
        self._refuse_missing([value for count, value, _ in said if count > 0])
        return Announced(share, kinds, sparse, mean_of(losses, share), asked)

    def _refuse_missing(self, losses: Sequence[float | None]) -> None:
        """Refuse a loss that only some of the ranks with rows give: the mean would be wrong."""
        if None in losses and any(value is not None for value in losses):
            there = sum(value is not None for value in losses)
            raise ValueError(
                f"{self._owner}: {there} of {len(losses)} ranks with rows give a loss; give "
                "loss= on all of them, or on none"
            )

    def _dense_kinds(self, found: Announced) -> list[Any]:
        """The kinds of what travels as arrays."""
        return [None if no else kind for kind, no in zip(found.kinds, found.sparse, strict=True)]

    def _joined_rows(self, flat: Sequence[Any], found: Announced) -> dict[int, RowGradient]:
        """The gradients of some rows alone: those of all ranks, one after the other."""
        places = [i for i, alone in enumerate(found.sparse) if alone]
        here = [None if flat[i] is None else (flat[i].rows, flat[i].values) for i in places]
        given = self._team.meet(f"{self._owner}: rows of gradients", here)
        return {
            i: joined([None if one[k] is None else RowGradient(*one[k]) for one in given], found)
            for k, i in enumerate(places)
        }


def joined(parts: Sequence[RowGradient | None], found: Announced) -> RowGradient:
    """Rows of all ranks, each with its share of the mean."""
    pairs = zip(parts, found.share.weights, strict=True)
    there = [
        RowGradient(part.rows, _scaled(part.values, weight, found.share.factor))
        for part, weight in pairs
        if part is not None and weight
    ]
    return RowGradient(
        np.concatenate([part.rows for part in there]),
        np.concatenate([part.values for part in there]),
    )


def _scaled(values: Any, weight: float, factor: float) -> Array:
    numbers = np.asarray(values)
    found: Array = numbers * numbers.dtype.type(weight) * numbers.dtype.type(factor)
    return found


def _kind(value: Any) -> str | None:
    if isinstance(value, RowGradient):
        return ROWS
    return None if value is None else str(value.dtype.name)


def _dtype_of(name: str, leaf: Array) -> Any:
    """The dtype of that name, which a gradient of the leaf has on some rank."""
    if leaf.dtype.name == name:
        return leaf.dtype
    return dtype_of(name)

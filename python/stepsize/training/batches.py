"""Sources of batches: arrays cut up in a reproducible order, or an iterable of batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import numpy as np

from stepsize.arrays import RowCounter, data_set, listed, read_only, refuse_unpacked
from stepsize.validation import whole

Stream = Iterable[Any] | Callable[[], Iterable[Any]]
Count = Callable[[Any], float]  # batch -> its rows, the weight of its mean loss


def count_for(count: Count | None, name: str) -> Count:
    """What counts the rows of the batches of a data set: the function given, or a `RowCounter`."""
    return RowCounter(f"fit: {name}") if count is None else count


def begin_mean(count: Count) -> None:
    """Say that a mean over batches begins, whose rows will be counted."""
    if isinstance(count, RowCounter):
        count.begin()


def end_mean(count: Count) -> None:
    """Warn where batches of the mean could not be weighed."""
    if isinstance(count, RowCounter):
        count.tell()


class ArrayBatches:
    """Batches of a tuple of arrays; the offset in an epoch counts samples.

    So a resumed run continues where it stopped, whatever the batch size was before.
    """

    hint: str | None = None  # what to say where the first batch fails
    apart = True  # no batch is written over by the next one

    def __init__(
        self,
        arrays: tuple[Any, ...],
        batch_size: int,
        seed: int | None,
        name: str,
        drop_last: bool = False,
    ):
        for part in arrays:
            if hasattr(part, "iloc"):
                raise TypeError(
                    f"{name}: a {type(part).__name__} is not an array, give .to_numpy()"
                )
        lengths = [part.shape[0] if part.shape else None for part in arrays]
        if None in lengths or len(set(lengths)) != 1:
            shapes = ", ".join(str(tuple(part.shape)) for part in arrays)
            raise ValueError(f"{name}: the arrays must agree in their first axis, got {shapes}")
        if lengths[0] == 0:
            what = "validate on" if name == "validation" else "train on"
            raise ValueError(f"{name}: the arrays are empty, there is nothing to {what}")
        self.length = cast(int, lengths[0])
        self._arrays: tuple[Any, ...] = read_only(
            arrays
        )  # batches in the order of the arrays are views of them
        self._seed = seed
        self.drop_last = drop_last
        self.batch_size = batch_size

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The arrays, read-only."""
        return self._arrays

    @property
    def batch_size(self) -> int:
        """Samples per batch."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        size = whole("batch_size", value)
        if self.drop_last and size > self.length:
            raise ValueError(
                f"drop_last=True leaves no batch of batch_size={size} in {self.length} samples: "
                "give a smaller batch_size, or drop_last=False"
            )
        self._batch_size = size

    def epoch(self, number: int, offset: int) -> Iterator[tuple[Any, int]]:
        """The batches of one epoch, from sample ``offset`` of its order on, each with its end."""
        order = self.order(number)
        while not self.is_over(offset):
            end = min(offset + self.batch_size, self.length)
            chosen = slice(offset, end) if order is None else order[offset:end]
            offset = end
            yield tuple([part[chosen] for part in self._arrays]), end

    def order(self, number: int) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """The order of the samples in an epoch; None is that of the arrays."""
        return None if self._seed is None else shuffled(self.length, self._seed, number)

    def is_over(self, offset: int) -> bool:
        """Whether no batch is left in an epoch after so many samples."""
        return offset + (self.batch_size if self.drop_last else 1) > self.length

    def steps_per_epoch(self) -> int:
        """How many batches an epoch has at the current batch size."""
        if self.drop_last:
            return self.length // self.batch_size
        return math.ceil(self.length / self.batch_size)


def shuffled(length: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order of one epoch: a permutation that depends on seed and epoch only."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch))))
    return generator.permutation(length)


class StreamBatches:
    """Batches of an iterable, or of what a callable returns for each epoch; the offset counts them.

    ``set_epoch(number)`` of a loader that has it is called before each epoch, so that it can
    shuffle by it. To resume in mid-epoch, the first batches are drawn again and dropped.
    """

    batch_size = None
    drop_last = False
    hint: str | None = None

    def __init__(self, data: Stream, name: str):
        self._data = data
        self._name = name
        self._views = name == "validation"  # these batches are read again and again
        self.once = isinstance(data, Iterator)
        self.apart = isinstance(data, list | tuple)  # which hold all of their batches at once
        self.hint = listed(name, data)
        if self.steps_per_epoch() == 0:
            raise self._empty()

    @property
    def given(self) -> Stream:
        """The iterable or callable."""
        return self._data

    def epoch(
        self, number: int, offset: int, skipped: Callable[[], None] | None = None
    ) -> Iterator[tuple[Any, int]]:
        """The batches of one epoch from batch ``offset`` on; ``skipped`` is called when there."""
        set_epoch = getattr(self._data, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(number)
        stream = self._data if isinstance(self._data, Iterable) else self._data()
        if not isinstance(stream, Iterable):
            raise TypeError(
                f"{self._name}: the callable must return an iterable of batches, it returned "
                f"{stream!r:.80}"
            )
        stream = iter(stream)
        for _ in itertools.islice(stream, offset):
            pass
        if skipped is not None:
            skipped()
        index = offset
        for index, batch in enumerate(stream, offset + 1):
            yield read_only(batch) if self._views else batch, index
        if index == 0 and (number == 0 or not self.once):
            raise self._empty()

    def _empty(self) -> ValueError:
        return ValueError(f"{self._name}: there is no batch in it")

    def steps_per_epoch(self) -> int | None:
        """How many batches an epoch has, if the iterable has a length."""
        try:
            return len(self._data)  # type: ignore[arg-type]
        except TypeError:
            return None


Batches = ArrayBatches | StreamBatches


def batches(
    data: Any,
    batch_size: int,
    seed: int | None,
    name: str = "train",
    drop_last: bool = False,
) -> Batches:
    """Cut a tuple of arrays into batches, or take an iterable or callable of batches as is.

    Args:
        data: a tuple of arrays with the same first axis, lists of numbers among them, batches, or
            `ArrayBatches`, kept as is.
        batch_size: samples per batch of arrays; the last batch of an epoch may be smaller.
        seed: arrays are reshuffled in each epoch, in an order that depends on ``(seed, epoch)`` and
            on nothing else. None keeps their order.
        name: the name of the data in errors.
        drop_last: leave out the last batch of an epoch where it is smaller than ``batch_size``.
    """
    batch_size = whole("batch_size", batch_size)
    if isinstance(data, ArrayBatches):
        return data
    arrays = data_set(name, data)
    refuse_unpacked(name, data)
    if arrays is not None:
        return ArrayBatches(arrays, batch_size, seed, name, drop_last)
    if drop_last:
        raise ValueError(
            f"drop_last=True needs {name} as a tuple of arrays; an iterable decides itself which "
            "batches it gives"
        )
    # The letters of a text are no batches, though it can be iterated over.
    single = isinstance(data, str | bytes | dict) or getattr(data, "ndim", 1) == 0
    readable = isinstance(data, Iterable) and not single
    if callable(data) or readable:
        return StreamBatches(data, name)
    raise TypeError(
        f"{name}: expected a tuple of arrays, an iterable of batches or a callable that returns "
        f"one, got {type(data).__name__}"
    )

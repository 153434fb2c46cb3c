"""The history of a run: columns of numbers, one row per step."""

from __future__ import annotations

import csv
import io
import math
import os
from array import array
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stepsize.serialization import nested, states
from stepsize.serialization.atomic import replacing
from stepsize.validation import counted, is_text, real

_STEP = ("step", "epoch", "loss", "lr", "grad_norm", "update_ratio", "param_norm")
_COUNTS = ("step", "epoch", "batch_size")
_NAN = array("d", [math.nan])

Column = npt.NDArray[np.float64]


class History(Mapping[str, Column]):
    """The series of a run: one row per step, one column per quantity.

    It is a mapping of names to float64 arrays of equal length. Row *i* belongs to the *i*-th step
    of the run. `fit` fills ``step`` (1 for the first), ``epoch`` (0 for the first), ``loss`` and
    ``lr`` (both as used by that step), ``grad_norm`` (after accumulation, before clipping),
    ``update_ratio`` (norm of the update over norm of the parameters) and ``param_norm`` (of the
    parameters before the step) in every row. What is measured less often, such as ``val_loss``,
    stands in the row of the step after which it was measured and is NaN elsewhere.

    The arrays returned are read-only. Rows are appended in amortised constant time and take 8
    bytes per number, whatever the length of the run.

    Attributes:
        meta: what was run and where: rule, hyperparameters, schedule, seed, versions, machine,
            seconds; ``epoch_loss``, the mean loss over the rows of the last epoch that was
            completed, or of what was made of the first.
        stopped: why the run ended, in words, or None while it has not.

    Example:
        >>> h = History.from_arrays(loss=[1.0, 0.5, 0.25], val_loss=[np.nan, np.nan, 0.3])
        >>> h["step"], h.last("val_loss")
        (array([1., 2., 3.]), 0.3)
        >>> h
        History(3 steps, loss 1 -> 0.25, val_loss 0.3)
    """

    def __init__(self) -> None:
        self.meta: dict[str, Any] = {}
        self.stopped: str | None = None
        self._fill(0, {name: array("d") for name in _STEP})

    def _fill(self, rows: int, columns: dict[str, array[float]]) -> None:
        self._rows = rows
        self._columns = columns
        self._cache: dict[str, Column] = {}
        self._appends = tuple(columns[name].append for name in _STEP if name in columns)

    @classmethod
    def from_arrays(cls, **series: npt.ArrayLike) -> History:
        """Make a history from the numbers of another tool.

        Args:
            series: arrays of equal length by name, NaN where there is no value. ``step`` counts
                from 1 if it is not given.

        Raises:
            ValueError: a series is not a one-dimensional array of numbers as long as the first.
        """
        arrays = {}
        for name, values in series.items():
            try:
                if is_text(values):
                    raise TypeError
                if isinstance(values, np.ma.MaskedArray):  # NaN is what has no value here
                    values = np.ma.filled(values.astype(np.float64), np.nan)
                arrays[name] = np.asarray(values, np.float64)
            except (OverflowError, TypeError, ValueError):
                raise ValueError(
                    f"{name} must be an array of numbers, got {values!r:.80}"
                ) from None
        if not arrays:
            raise ValueError("from_arrays needs at least one series, such as loss=[...]")
        first, length = next((name, values.size) for name, values in arrays.items())
        for name, values in arrays.items():
            if values.shape != (length,):
                raise ValueError(
                    f"{name} has shape {values.shape}, expected ({length},) as {first}: "
                    "every series holds one number per step, NaN where there is none"
                )
        columns = {"step": array("d", range(1, length + 1))}
        columns |= {name: array("d", values.tobytes()) for name, values in arrays.items()}
        history = cls()
        history._fill(length, columns)
        return history

    def append(
        self,
        step: int,
        epoch: int,
        loss: float,
        lr: float,
        grad_norm: float = math.nan,
        update_ratio: float = math.nan,
        param_norm: float = math.nan,
    ) -> None:
        """Add one row."""
        # Unrolled because this runs once per step: a loop over the columns costs twice as much.
        try:
            to_step, to_epoch, to_loss, to_lr, to_norm, to_ratio, to_size = self._appends
        except ValueError:  # a checkpoint of before, which lacks a series
            self._complete()
            self.append(step, epoch, loss, lr, grad_norm, update_ratio, param_norm)
            return
        to_step(step)
        to_epoch(epoch)
        to_loss(loss)
        to_lr(lr)
        to_norm(grad_norm)
        to_ratio(update_ratio)
        to_size(param_norm)
        self._rows += 1
        if self._cache:
            self._cache.clear()

    def _complete(self) -> None:
        """Give every series that each step fills, NaN where it was not recorded."""
        missing = {name: _NAN * self._rows for name in _STEP if name not in self._columns}
        self._fill(self._rows, {**self._columns, **missing})

    def record(self, name: str, value: float) -> None:
        """Write a value into the last row."""
        if not isinstance(name, str):
            raise TypeError(f"History.record: name must be text, got {name!r:.80}")
        value = value if type(value) is float else real(f"History.record: {name}", value)
        column = self._columns.setdefault(name, array("d"))
        missing = self._rows - len(column)
        if missing > 0:
            column.extend(_NAN * missing)
        column[self._rows - 1] = value
        self._cache.pop(name, None)

    def __getitem__(self, name: str) -> Column:
        if name not in self._cache:
            try:
                column = self._columns[name]
            except KeyError:
                known = ", ".join(self._columns)
                raise KeyError(f"{name!r:.80} was not recorded; recorded are {known}") from None
            values = np.full(self._rows, np.nan)
            values[: len(column)] = column
            values.flags.writeable = False
            self._cache[name] = values
        return self._cache[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __eq__(self, other: object) -> bool:
        """Whether all series hold the same bits; ``meta`` and ``stopped`` do not count."""
        if not isinstance(other, History):
            return NotImplemented
        return self.keys() == other.keys() and all(
            self[name].tobytes() == other[name].tobytes() for name in self
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def steps(self) -> int:
        """The number of rows."""
        return self._rows

    def last(self, name: str, default: float = math.nan) -> float:
        """The latest value of a series that is not NaN."""
        if not isinstance(name, str):
            raise TypeError(f"History.last: name must be text, got {name!r:.80}")
        column = self._columns.get(name, ())
        return next((value for value in reversed(column) if value == value), default)

    def at(self, name: str, row: int) -> float:
        """One value of a series, without copying the series; rows count from -1 at the end too."""
        column = self._columns[name]
        row = range(self._rows)[row]
        return column[row] if row < len(column) else math.nan

    def mean_since(self, name: str, row: int) -> float:
        """The mean of a series from a row on, copying no more than those rows."""
        values = self._columns[name][row:]
        return math.fsum(values) / len(values) if values else math.nan

    def state_dict(self) -> dict[str, Any]:
        """The series, ``meta`` and ``stopped`` as plain values and arrays."""
        series = {name: self[name].copy() for name in self}
        return {"series": series, "meta": dict(self.meta), "stopped": self.stopped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        checks = {"series": states.mapping, "meta": states.mapping, "stopped": _reason}
        found = states.checked("History", state, checks)
        try:
            loaded = History.from_arrays(**found["series"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"History.load_state_dict: series: {error}") from None
        self._fill(loaded._rows, loaded._columns)
        self.meta, self.stopped = dict(found["meta"]), found["stopped"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the history to one file, whole or not at all."""
        nested.dump(path, "history", self.state_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read a history that `save` wrote, or the history in the checkpoint of a run.

        Raises:
            CheckpointError: the file is damaged or holds neither.
        """
        state = nested.load(path, "history", "run")
        history = cls()
        with nested.contents_of(path):
            history.load_state_dict(state.get("history", state))
        return history

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line per step, with a header; a missing value is an empty field.

        Numbers are written with all the digits needed to read the same bits back.
        """
        names = list(self)
        with replacing(path) as file:
            header = io.StringIO()
            csv.writer(header, lineterminator="\n").writerow(names)
            file.write(header.getvalue().encode())
            for row in zip(*(self[name].tolist() for name in names), strict=True):
                fields = (_field(name, value) for name, value in zip(names, row, strict=True))
                file.write((",".join(fields) + "\n").encode())

    def to_pandas(self) -> Any:
        """The series as a ``pandas.DataFrame`` indexed by step."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install pandas") from None
        return pandas.DataFrame(dict(self)).set_index("step")

    def plot(self, ax: Any = None) -> Any:
        """Draw loss, validation loss, the gap between them, other metrics and rate (matplotlib).

        ``plots.learning_curves({"one": h1, "two": h2})`` compares several runs.
        """
        from stepsize import plots

        return plots.run_curves(self, ax=ax)

    def plot_text(self) -> str:
        """The same curves as text, for a terminal."""
        from stepsize import plots

        return plots.text_learning_curves(self)

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """No series is an attribute; one that is asked for as such is told as it is read."""
            kept = name in self.__dict__.get("_columns", ())
            move = f"; the series is history[{name!r}]" if kept else ""
            raise AttributeError(f"'History' object has no attribute {name!r}{move}")

    def __repr__(self) -> str:
        parts = [counted(self._rows, "step")]
        if self._rows and "loss" in self._columns:
            parts.append(f"loss {self['loss'][0]:.4g} -> {self['loss'][-1]:.4g}")
            if isinstance(self.meta.get("epoch_loss"), float):  # a step sees one batch
                parts[-1] += f" ({self.meta['epoch_loss']:.4g} over the last epoch)"
        parts += [f"{name} {self.last(name):.4g}" for name in self if name.startswith("val_")]
        if self.stopped:
            parts.append(f"stopped: {self.stopped}")
        return f"History({', '.join(parts)})"

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)


def _field(name: str, value: float) -> str:
    if value != value:
        return ""
    return str(int(value)) if name in _COUNTS else repr(value)


def _reason(label: str, value: Any) -> str | None:
    """Why a run ended."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{label} must be text or None, got {value!r:.80}")
    return value

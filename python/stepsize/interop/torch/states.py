"""An optimizer's state as torch keeps it: a dict for each parameter, of tensors and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from stepsize.arrays import view_as_complex, view_as_real
from stepsize.interop.torch.places import Place
from stepsize.optimizers.optimizer import Optimizer as Rule
from stepsize.serialization import states
from stepsize.validation import as_float

Entry = dict[str, Any]
# The training point in the entry of a parameter that holds the average.
TRAINING = "training_point"


def _whole(value: Any) -> Any:
    """A count of torch's, a tensor or a number with no fraction, as an int; else as it is."""
    number = value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
    return int(number) if isinstance(number, float) and number.is_integer() else number


class Kept:
    """Values that `load_state_dict` of torch hands on as they are, in full precision."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)


class States:
    """The way between a compiled optimizer's state and the entries that torch's users see.

    Arrays are shared: an entry holds views. Counts and scalars are copied, out when the state is
    looked at and back before the next step.
    """

    def __init__(self, compiled: Rule, places: list[Place]) -> None:
        self._compiled = compiled
        self._places = places
        self._rule = type(compiled)
        self._name = self._rule.__name__
        self._views = [
            {name: place.shown(slot) for name, slot in slots.items()}
            for place, slots in zip(places, compiled.internals.slots.arrays, strict=True)
        ]

    def show(self, i: int, count: int) -> Entry:
        """The entry of a parameter after so many updates; empty before the first."""
        # torch.optim.Adagrad has its state from the start, and expects it of a state that it loads.
        if count == 0 and self._name != "Adagrad":
            return {}
        views = dict(self._views[i])
        if self._name == "SGD":
            return views
        scalars = self._scalars(i)
        if self._name == "NAdam":
            scalars = {k: torch.tensor(v, dtype=torch.float64) for k, v in scalars.items()}
        if self._name == "ASGD":
            scalars = self._rates(i, count)
        if self._name == "Adafactor":  # its rate is found anew at every step
            scalars = {}
        return {"step": torch.tensor(float(count)), **scalars, **views}

    def _scalars(self, i: int) -> Entry:
        found = dict(
            zip(self._rule.scalars, self._compiled.internals.engine.scalars(i), strict=True)
        )
        if self._rule.scope == "all":
            found["updates"] = self._compiled.step_count
        return found

    def _rates(self, i: int, count: int) -> Entry:
        h = self._compiled.internals.groups.table_of(i)
        eta = h["lr"] / (1 + h["lambd"] * h["lr"] * count) ** h["alpha"]
        return {"eta": torch.tensor(eta), "mu": torch.tensor(1 / max(1.0, count - h["t0"]))}

    def take(self, i: int, entry: Entry) -> int:
        """Take over a parameter's entry, the first values where it has none; how many updates."""
        count = self._count(i, entry)
        for name, view in self._views[i].items():
            value = entry.get(name) if count else None
            if value is view:
                continue
            if value is None:
                self._reset(i, name)
            else:
                view.copy_(value)
            if count:
                entry[name] = view
        self._take_scalars(i, entry if count else {})
        return count

    def _count(self, i: int, entry: Entry) -> int:
        # torch.optim.SGD and Muon do not count: an array is there, or the next step is the first.
        if "step" in entry:
            return states.count("step", _whole(entry["step"]))
        views = self._views[i]
        return int(bool(views) and all(entry.get(name) is not None for name in views))

    def _reset(self, i: int, name: str) -> None:
        compiled = self._compiled
        parts = compiled.internals
        values = parts.groups.table_of(i)
        leaf = view_as_real(parts.leaves.contiguous[i])
        first = compiled.initial(name, leaf, values)
        view = self._views[i][name]
        if not np.any(first):
            view.zero_()
            return
        slot = parts.slots.arrays[i][name]
        whole = np.empty(view_as_real(slot).shape, leaf.dtype)
        whole[...] = first
        view.copy_(self._places[i].shown(view_as_complex(whole, slot.dtype)))

    def _take_scalars(self, i: int, entry: Entry) -> None:
        scalars = self._rule.scalars
        if not scalars or (self._rule.scope == "all" and not entry):
            return  # others may have had updates of what all share
        values = [float(entry.get(name, first)) for name, first in scalars.items()]
        self._compiled.internals.engine.set_scalars(i, values)
        if "updates" in entry:
            self._compiled.internals.engine.step_count = int(entry["updates"])

    def check(self, i: int, entry: Entry) -> None:
        """Refuse a loaded entry of another rule or of another shape."""
        label = f"{self._name}: the loaded state of {self._places[i].label}"
        states.mapping(label, entry)
        try:
            count = self._count(i, entry)
            for name in {*self._rule.scalars, "updates"} & set(entry):
                states.finite(name, as_float(entry[name]))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{label}: {error}") from None
        if not count:
            foreign = [name for name in entry if entry[name] is not None and name != "step"]
            if foreign and not set(foreign) <= {*self._views[i], *self._rule.scalars}:
                self._refuse(label, i, entry)
            return
        views = dict(self._views[i])
        if TRAINING in entry and hasattr(self._rule, "averaged"):
            views[TRAINING] = self._places[i].tensor
        for name, view in views.items():
            if entry.get(name) is None:
                self._refuse(label, i, entry)
            if not isinstance(entry[name], torch.Tensor):
                raise ValueError(f"{label}: {name} must be a tensor, got {entry[name]!r:.80}")
            if entry[name].shape != view.shape:
                raise ValueError(
                    f"{label}: {name} has shape {tuple(entry[name].shape)}, expected "
                    f"{tuple(view.shape)}"
                )

    def _refuse(self, label: str, i: int, entry: Entry) -> None:
        raise ValueError(
            f"{label} has {', '.join(map(str, entry))}, expected {', '.join(self._views[i])}; "
            "load it into the class that it is of"
        )

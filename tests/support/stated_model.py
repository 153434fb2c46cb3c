"""A slow model of an optimizer: the NumPy statement of its rule, with plain Python around it.

The engine, the reference loop and the transactions of the package have no part in it: a leaf is a
copy of an array with a dict of state, and a step is a loop over leaves. What it takes from the
package is what a rule says (`Rule`), and the codes of `quantization`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from stepsize import _core
from stepsize.optimizers import quantization
from stepsize.optimizers.fields import Choice, Count, Flag
from stepsize.optimizers.primitives import power
from stepsize.schedules import Schedule

FIRST_SCALE, LEAST_TOTAL = 65536.0, 1e-280
LANES = 16


class NotFinite(Exception):
    """A gradient that the policy refuses."""


def real(array: np.ndarray) -> np.ndarray:
    """Complex numbers as pairs in a last axis, the same memory; others as they are."""
    if array.dtype.kind != "c":
        return array
    return array[..., None].view(array.real.dtype)


def is_half(dtype: Any) -> bool:
    return np.dtype(dtype).itemsize == 2


def widened(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if is_half(array.dtype) else array


def lane_sum(values: Any) -> float:
    """The sum in the fixed order: element i in lane i mod 16, lanes joined by halves."""
    flat = np.asarray(values, float).reshape(-1)
    total = 0.0
    for start in range(0, flat.size, _core.chunk_size):
        block = flat[start : start + _core.chunk_size]
        whole = np.zeros(-(-block.size // LANES) * LANES)
        whole[: block.size] = block
        lanes = np.zeros(LANES)
        for row in whole.reshape(-1, LANES):
            lanes = lanes + row
        while lanes.size > 1:
            lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
        total += float(lanes[0])
    return total


def sum_of_squares(arrays: Sequence[np.ndarray], unit: float = 1.0) -> float:
    total = 0.0
    with np.errstate(all="ignore"):
        for array in arrays:
            flat = widened(real(array)).astype(float).reshape(-1)
            for start in range(0, flat.size, _core.chunk_size):
                block = flat[start : start + _core.chunk_size] * unit
                total += lane_sum(block * block)
    return total


def norm(arrays: Sequence[np.ndarray], least: float) -> float:
    """The norm over all of them; where the plain sum is below `least` or infinite, to scale."""
    total = sum_of_squares(arrays)
    top = max((float(np.abs(real(a).astype(float)).max(initial=0)) for a in arrays), default=0.0)
    if (math.isfinite(total) and total >= least) or top == 0 or not math.isfinite(top):
        return math.sqrt(total)
    unit = math.ldexp(1.0, min(max(math.frexp(top)[1], -1020), 1020))
    return unit * math.sqrt(sum_of_squares(arrays, 1 / unit))


def clamped(a: np.ndarray, limit: float) -> np.ndarray:
    bound = a.dtype.type(limit)
    return np.where(a > bound, bound, np.where(a < -bound, -bound, a))


def plain_value(value: Any) -> Any:
    """A hyperparameter as a state dict has it."""
    if isinstance(value, tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, Schedule):
        return {"schedule": value.to_dict()}
    if callable(value):
        return {"function": getattr(value, "__qualname__", type(value).__qualname__)}
    return value


class Rows:
    """Rows of a gradient, each once."""

    def __init__(self, rows: np.ndarray, values: np.ndarray) -> None:
        self.rows, places = np.unique(rows, return_inverse=True)
        self.grad = np.zeros((len(self.rows), *values.shape[1:]), values.dtype)
        for place, value in zip(places, values, strict=True):
            self.grad[place] += value

    def whole(self, like: np.ndarray) -> np.ndarray:
        found = np.zeros(like.shape, like.dtype)
        found[self.rows] = self.grad
        return found


class Leaf:
    """A parameter with all that belongs to it."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x.copy()
        self.master: np.ndarray | None = None
        self.slots: dict[str, np.ndarray] = {}
        self.scales: dict[str, np.ndarray] = {}
        self.t = 0
        self.scalars: dict[str, float] = {}

    def computed(self) -> np.ndarray:
        """What a step computes with: a copy, in float32 for half precision."""
        seen = widened(real(self.x))
        if self.master is None:
            return np.array(seen)
        kept = self.master.astype(self.x.dtype).view(np.uint16) == self.x.view(np.uint16)
        return np.where(kept, self.master, seen)


class Model:
    """What an optimizer of class `cls` is due to be after each operation."""

    def __init__(
        self,
        cls: type,
        params: Sequence[np.ndarray],
        paths: Sequence[str],
        assignment: Sequence[int],
        tables: Sequence[dict[str, Any]],
        options: dict[str, Any],
    ) -> None:
        self.cls, self.paths, self.assignment = cls, tuple(paths), list(assignment)
        self.rule: Any = object.__new__(cls)
        self.tables = [dict(table) for table in tables]
        self.options = options
        self.step_count, self.good_steps, self.lr_scale = 0, 0, 1.0
        given = options.get("loss_scale")
        self.dynamic = given == "dynamic"
        self.loss_scale = FIRST_SCALE if self.dynamic else float(given or 1.0)
        self.leaves = [Leaf(x) for x in params]
        for i, leaf in enumerate(self.leaves):
            self._make_state(i, leaf)
        if cls.scope == "all":
            for leaf in self.leaves:
                leaf.scalars = self.leaves[0].scalars

    def _make_state(self, i: int, leaf: Leaf) -> None:
        values = self.tables[self.assignment[i]]
        seen, form = widened(real(leaf.x)), self.options.get("state_dtype")
        if is_half(leaf.x.dtype) and self.options.get("master_weights", True):
            leaf.master = seen.copy()
        leaf.scalars = dict(self.cls.scalars)
        corrects = values.get("mars_gamma") is not None
        for k, slot in enumerate((*self.cls.variant(values)[1], *["last_grad"] * corrects)):
            name = str(slot)
            shape = self.rule.slot_shape(slot, real(leaf.x), values)
            if shape is None:
                continue
            first = np.zeros(shape, seen.dtype)
            first[...] = self.rule.initial(slot, seen, values)
            if form is None or getattr(slot, "kind", "signed") == "exact":
                leaf.slots[name] = first
                continue
            squares = getattr(slot, "kind", "signed") == "squares"
            coded = np.uint8 if squares else np.int8
            leaf.slots[name] = np.zeros(shape, np.uint16 if form == "bfloat16" else coded)
            if form == "int8":
                leaf.scales[name] = np.zeros(-(-first.size // 256), np.float32)
            if np.any(first):
                self._encode(leaf, i, k, name, first)

    def _encode(self, leaf: Leaf, i: int, k: int, name: str, values: np.ndarray) -> None:
        key = quantization.rounding_key(leaf.t, i, k)
        flat = leaf.slots[name].reshape(-1)
        quantization.quantize(values.reshape(-1), flat, leaf.scales.get(name), key)

    # Hyperparameters.

    def number(self, value: Any) -> float:
        return float(value(self.step_count)) if callable(value) else float(value)

    def numbers(self, group: int, loss: float | None = None) -> dict[str, Any]:
        """What a rule reads as h, without the update's number."""
        found: dict[str, Any] = {}
        for name, field in self.cls.fields.items():
            value = self.tables[group][name]
            if isinstance(field, Choice | Count | Flag):
                found[name] = value
            elif value is not None:
                for part, item in zip(field.parts(), field.values(value), strict=True):
                    found[part.name] = self.number(item)
        found["lr"] *= self.lr_scale
        if self.cls.needs_loss:
            found["loss"] = loss
        return found

    def set(self, name: str, values: Sequence[Any]) -> None:
        field = self.cls.fields[name]
        for table, value in zip(self.tables, values, strict=True):
            table[name] = field.check("model", value)

    # The step.

    def step(self, grads: Sequence[Any], loss: float | None = None) -> bool:
        """Whether parameters moved; `NotFinite` where the policy refuses."""
        plain = [None if g is None else (g.grad if isinstance(g, Rows) else g) for g in grads]
        usable, clip = self.usable([g for g in plain if g is not None])
        if not usable:
            self.leave_out()
            return False
        self.advance(grads, clip, loss)
        return True

    def advance(self, grads: Sequence[Any], clip: float, loss: float | None) -> None:
        """The step by gradients that are taken."""
        scale = (-1.0 if self.options.get("maximize") else 1.0) / self.loss_scale
        hs = [self.numbers(k, loss) for k in range(len(self.tables))]
        self._move(grads, scale * clip, hs)
        for leaf, g in zip(self.leaves, grads, strict=True):
            leaf.t += g is not None
        self.step_count += 1
        self.good_steps += self.dynamic
        if self.good_steps == 2000:
            self.loss_scale, self.good_steps = min(self.loss_scale * 2, 2.0**120), 0

    def usable(self, grads: Sequence[np.ndarray]) -> tuple[bool, float]:
        """Whether the gradients are taken, and what clipping multiplies them with."""
        policy = self.options.get("on_nonfinite", "raise")
        most = self.options.get("clip_norm")
        matters = policy != "ignore" or self.dynamic
        ratio = 1.0
        if most:
            finite = all(np.isfinite(widened(real(g))).all() for g in grads)
            size = norm(grads, LEAST_TOTAL) / self.loss_scale
            ratio = most / (size + 1e-6)
            ratio = ratio if ratio < 1 else 1.0
        else:
            finite = all(map(self.small, grads))
        return finite or not matters, ratio

    def small(self, g: np.ndarray) -> bool:
        """Whether all numbers lie far enough below infinity to be added up."""
        limits = self.options.get("clip_value") or self.options.get("clip_norm")
        easy = limits or self.loss_scale >= 1 << _core.headroom
        octaves = 1 if easy else _core.headroom
        flat = widened(real(g))
        top = 1024 if flat.dtype == np.float64 else 128
        octaves = 1 if g.dtype == np.float16 else octaves
        with np.errstate(all="ignore"):
            return bool(np.all(np.abs(flat.astype(float)) < 2.0 ** (top - octaves) * 2.0))

    def leave_out(self) -> None:
        mended = self.dynamic and self.loss_scale > 1
        if mended:
            self.loss_scale = max(self.loss_scale / 2, 1.0)
        elif self.options.get("on_nonfinite", "raise") == "raise":
            raise NotFinite
        self.good_steps = 0

    def _move(self, grads: Sequence[Any], scale: float, hs: Sequence[dict[str, Any]]) -> None:
        works = []
        for i, (leaf, g) in enumerate(zip(self.leaves, grads, strict=True)):
            if g is not None and (g.grad if isinstance(g, Rows) else g).size:
                works.append(Work(self, i, leaf, g, scale, hs[self.assignment[i]]))
        with np.errstate(all="ignore"):
            if self.cls.scope is not None:
                self._measure(works, hs)
            for work in works:
                work.run()

    def _measure(self, works: Sequence[Work], hs: Sequence[dict[str, Any]]) -> None:
        totals: list[float] = []
        size = 0
        for work in works:
            work.s.__dict__.update(work.leaf.scalars)
            terms = self.rule.measure(work.x, work.gradient(), work.s, work.h)
            if self.cls.scope == "leaf" or not totals:
                totals, size = [0.0] * len(terms), 0
            totals = [a + lane_sum(b) for a, b in zip(totals, terms, strict=True)]
            size += work.x.size
            if self.cls.scope == "leaf":
                self._settle(work, work.h, [*totals, size])
        if self.cls.scope == "all" and works:
            self._settle(
                works[-1], SimpleNamespace(**hs[0], t=self.step_count + 1), [*totals, size]
            )

    def _settle(self, work: Work, h: SimpleNamespace, sums: Sequence[float]) -> None:
        scalars = work.leaf.scalars
        s = SimpleNamespace(**{name: np.float64(value) for name, value in scalars.items()})
        self.rule.settle(s, h, [np.float64(total) for total in sums])
        scalars.update({name: float(getattr(s, name)) for name in scalars})

    # What it is.

    def state_dict(self) -> dict[str, Any]:
        groups = []
        for k, table in enumerate(self.tables):
            paths = [p for p, g in zip(self.paths, self.assignment, strict=True) if g == k]
            hyperparams = {name: plain_value(value) for name, value in table.items()}
            groups.append({"leaves": paths, "hyperparams": hyperparams})
        by_path = dict(zip(self.paths, self.leaves, strict=True))
        return {
            "format": 1,
            "rule": self.cls.__name__,
            "step_count": self.step_count,
            "lr_scale": self.lr_scale,
            "loss_scale": [self.loss_scale, self.good_steps],
            "groups": groups,
            "steps": {path: leaf.t for path, leaf in by_path.items()},
            "scalars": {path: dict(leaf.scalars) for path, leaf in by_path.items()},
            "state": {path: self._stored(leaf) for path, leaf in by_path.items()},
        }

    @staticmethod
    def _stored(leaf: Leaf) -> dict[str, np.ndarray]:
        like = leaf.x.dtype if leaf.x.dtype.kind == "c" else None
        found = {
            name: slot.view(like)[..., 0] if like and slot.dtype.kind == "f" else slot
            for name, slot in leaf.slots.items()
        }
        found |= {f"{name}_scale": scale for name, scale in leaf.scales.items()}
        return found | ({} if leaf.master is None else {"master": leaf.master})

    def points(self) -> list[np.ndarray]:
        return [leaf.x for leaf in self.leaves]

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        made = copy.copy(self)
        for name in ("leaves", "tables"):
            setattr(made, name, copy.deepcopy(getattr(self, name), memo))
        return made

    def copy(self) -> Model:
        return copy.deepcopy(self)

    def wrappers(self) -> list[dict[str, Any]]:
        return []

    @property
    def innermost(self) -> Model:
        return self


class Work:
    """One leaf in one step."""

    def __init__(
        self, model: Model, i: int, leaf: Leaf, g: Any, scale: float, h: dict[str, Any]
    ) -> None:
        self.model, self.i, self.leaf, self.scale = model, i, leaf, scale
        self.h = SimpleNamespace(**h, t=leaf.t + 1)
        self.rows = g.rows if isinstance(g, Rows) else None
        raw = widened(real(g.grad if isinstance(g, Rows) else g))
        slots = {
            name: quantization.dequantize(
                slot.reshape(-1), leaf.scales.get(name), np.float32
            ).reshape(slot.shape)
            if slot.dtype.kind != "f"
            else slot
            for name, slot in leaf.slots.items()
        }
        self.x = leaf.computed()
        if self.rows is not None:
            self.x = self.x[self.rows]
            slots = {name: slot[self.rows] for name, slot in slots.items()}
        self.shapes = {name: slot.shape for name, slot in slots.items()}
        self.whole = self.x
        if not model.cls.shaped:
            self.x, raw = self.x.reshape(-1), raw.reshape(-1)
            slots = {name: slot.reshape(-1) for name, slot in slots.items()}
        if any(slot.dtype != self.x.dtype for slot in slots.values()):
            slots = {name: slot.astype(self.x.dtype) for name, slot in slots.items()}
        self.raw, self.s = raw, SimpleNamespace(**slots)
        table = model.tables[model.assignment[i]]
        self.kind = model.cls.decay_kind(table)
        self.decay = getattr(self.h, "weight_decay", 0.0)

    def gradient(self) -> np.ndarray:
        """What the rule sees: scaled, clamped, with coupled decay."""
        pull = self.x * (self.decay if self.kind == "coupled" else 0.0)
        limit = self.model.options.get("clip_value") or math.inf
        return np.asarray(clamped(self.raw * self.x.dtype.type(self.scale), limit) + pull)

    def run(self) -> None:
        model, x, h = self.model, self.x, self.h
        seen, lr = self._looked_at(self.gradient())
        share = h.lr * self.decay if self.kind == "decoupled" else 0.0
        most = getattr(h, "decay_max_lr", None)
        share = share if most is None else share * (h.lr / most)
        apart = getattr(h, "cautious_decay", False)
        x *= 1.0 if apart else 1 - share
        start = x.copy()
        self.s.__dict__.update(self.leaf.scalars)
        self._apply(seen, SimpleNamespace(**{**h.__dict__, "lr": lr}))
        if getattr(h, "cautious", False):
            against = ((x > start) & (seen >= 0)) | ((x < start) & (seen <= 0))
            x[...] = np.where(against, start, x)
        if apart:
            away = ((x > start) & (start > 0)) | ((x < start) & (start < 0))
            x[...] = np.where(away, x, x - x.dtype.type(share) * start)
        self._constrain(x)
        if model.cls.scope is None:
            self.leaf.scalars.update(
                {name: float(getattr(self.s, name)) for name in self.leaf.scalars}
            )
        self._store()

    def _looked_at(self, seen: np.ndarray) -> tuple[np.ndarray, float]:
        """The gradient as MARS corrects it, and the rate that the updates' size leaves."""
        h, lr, kind = self.h, self.h.lr, self.x.dtype.type
        gamma, clip = (getattr(h, name, None) for name in ("mars_gamma", "update_clip"))
        if gamma is not None:
            gain = gamma * (h.beta1 / (1 - h.beta1)) if h.t > 1 else 0.0
            given, last = seen, self.s.last_grad
            seen = (given + kind(gain) * (given - last)) * kind(1)
            size = np.sqrt(lane_sum(seen.astype(float) ** 2))
            last[...] = given
            seen = seen * kind(1 / size if size > 1 else 1.0)
        if clip is not None:
            second = getattr(self.s, self.model.cls.second_moment)
            after = h.beta2 * second + (1 - h.beta2) * seen * seen
            after = after * kind(1 / (1 - power(h.beta2, h.t)))
            least = kind(h.eps * h.eps)
            ratio = seen * seen / np.where(after > least, after, least)
            rms = np.sqrt(lane_sum(np.where(seen != 0, ratio, 0)) / seen.size)
            lr = float(lr * (clip / rms)) if rms > clip else lr
        return (seen if gamma is None else seen + self.x * kind(0)), lr

    def _apply(self, seen: np.ndarray, h: SimpleNamespace) -> None:
        """The rule on the leaf, or on each of its stacked matrices, flattened or not."""
        count = getattr(self.h, "stacked", None) or 0
        shape = self.x.shape[count:]
        flat = getattr(self.h, "flatten", False) and len(shape) > 2
        if not count and not flat:
            return self.model.rule.rule(self.x, seen, self.s, h)
        for index in np.ndindex(self.x.shape[:count]):
            arrays = {"x": self.x, **self.s.__dict__}
            pieces = {
                name: array[index].reshape(shape[0], -1).copy()
                if flat and array[index].shape == shape
                else array[index].copy()
                for name, array in arrays.items()
            }
            x = pieces.pop("x")
            s = SimpleNamespace(**pieces)
            g = seen[index].reshape(x.shape)
            self.model.rule.rule(x, g, s, h)
            for name, array in arrays.items():
                array[index] = (x if name == "x" else getattr(s, name)).reshape(array[index].shape)
        return None

    def _constrain(self, x: np.ndarray) -> None:
        """Soft threshold by lr * l1, then bounds; those here are numbers that a float16 holds."""
        threshold = x.dtype.type(self.h.lr * (self.model.options.get("l1") or 0.0))
        if threshold > 0:
            x[...] = x - clamped(x, threshold)
        low, high = self.model.options.get("bounds") or (None, None)
        if low is not None:
            x[...] = np.where(x.dtype.type(low) > x, x.dtype.type(low), x)
        if high is not None:
            x[...] = np.where(x.dtype.type(high) < x, x.dtype.type(high), x)

    def _store(self) -> None:
        leaf, x = self.leaf, self.whole
        place: Any = ... if self.rows is None else self.rows
        if leaf.master is not None:
            leaf.master[...] = x
        real(leaf.x)[place] = x.astype(leaf.x.dtype) if is_half(leaf.x.dtype) else x
        for k, (name, slot) in enumerate(leaf.slots.items()):
            new = getattr(self.s, name).reshape(self.shapes[name])
            if slot.dtype.kind == "f":
                slot[place] = new
                continue
            key = quantization.rounding_key(self.h.t, self.i, k)
            quantization.quantize(new.reshape(-1), slot.reshape(-1), leaf.scales.get(name), key)


def states(model: Any) -> dict[str, Any]:
    """The state dict that an optimizer with wrappers is due to give."""
    found = model.innermost.state_dict()
    own = model.wrappers()
    return {**found, "wrappers": own} if own else found

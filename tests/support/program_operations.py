"""The operations of `programs`: each acts on an optimizer, and on its model where it should act."""

from __future__ import annotations

import copy
import io
import os
import pickle
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import stepsize as ss
from program_forms import Forms
from program_functions import FAILURES, fused, interrupts
from programs import HOWS, Configuration, bits, differing, laid_out, numbers, value_for
from stated_model import NotFinite, Rows, norm, real, states, widened
from stepsize.optimizers.fields import Several
from stepsize.optimizers.groups import ungroup
from two_threads import in_two_threads

REFUSALS = (TypeError, ValueError, AttributeError)
WEIGHTS = {
    "step": 30,
    "step_bound": 8,
    "bind": 3,
    "not_finite": 5,
    "nothing": 2,
    "set_number": 8,
    "set_scale": 2,
    "freeze": 3,
    "write": 3,
    "clone": 2,
    "deepcopy": 2,
    "pickle": 2,
    "load": 3,
    "save": 2,
    "keep": 2,
    "go_back": 2,
    "average": 4,
    "fail": 6,
    "bad": 8,
    "spoil": 3,
    "resize": 2,
    "bad_loss": 1,
    "shared": 2,
    "threads": 2,
    "arrive": 8,
    "functional": 3,
    "population": 2,
    "partition": 2,
}


class Operations(Forms):
    """An optimizer, its model, and what has been kept of both."""

    def __init__(self, configuration: Configuration, optimizer: Any) -> None:
        self.configuration, self.optimizer = configuration, optimizer
        self.model = configuration.model(optimizer)
        self.cls = configuration.cls
        self.frozen: set[int] = set()
        self.bound: list[Any] | None = None
        self.kept: Any = None
        self.left: Any = None  # an optimizer that was copied, and what it was then
        self.now, self.done = "the start", 0
        self.sam = "SAM" in configuration.wrappers

    # What both are.

    def found(self) -> Any:
        leaves = self.optimizer.internals.leaves.arrays
        return bits({"params": list(leaves), "state": self.optimizer.state_dict()})

    def expected(self) -> Any:
        return bits({"params": self.model.points(), "state": states(self.model)})

    def compare(self) -> None:
        wrong = differing(self.found(), self.expected())
        assert not wrong, f"differs from the model: {', '.join(wrong[:8])}"
        core = self.model.innermost
        for k in range(len(core.tables)):
            due = core.numbers(k)
            for name in self.cls.fields:
                if name in due:
                    got = getattr(self.optimizer.internals.rule, name)
                    got = got[k] if self.optimizer.internals.groups.several else got
                    assert got == due[name], (name, got, due[name])

    def apply(self, name: str, rng: Any) -> None:
        before = self.done
        getattr(self, name)(rng)
        self.done = before + 1 if self.done == before else self.done

    def refused(self, call: Callable[[], Any], *errors: type[BaseException]) -> bool:
        """Whether a call raises one of these errors."""
        try:
            call()
        except errors:
            return True
        return False

    # Steps.

    def gradients(self, rng: Any, scale: float = 1.0, plain: bool = False) -> list[Any]:
        made: list[Any] = []
        for i, x in enumerate(self.model.points()):
            dtype = x.dtype
            if dtype.itemsize == 2 and rng.random() < 0.3:
                dtype = np.dtype(np.float32)
            g = numbers(rng, x.shape, dtype, scale)
            if i in self.frozen or rng.random() < 0.05:
                made.append(None)
            elif not plain and self.takes_rows(x) and rng.random() < 0.2:
                rows = rng.integers(0, len(x), rng.integers(0, 5))
                values = numbers(rng, (len(rows), *x.shape[1:]), dtype, scale)
                made.append((rows, values))
            else:
                made.append(g if plain else laid_out(rng, g))
        return made

    def takes_rows(self, x: np.ndarray) -> bool:
        plain = x.dtype.char in "fd" and x.ndim and len(x)
        return bool(self.cls.by_row and plain and not self.configuration.options.get("state_dtype"))

    def nest(self, flat: Sequence[Any]) -> Any:
        given = [ss.RowGradient(*g) if isinstance(g, tuple) else g for g in flat]
        return ss.arrays.unflatten(self.optimizer.internals.leaves.structure.spec, given)

    @staticmethod
    def for_model(flat: Sequence[Any]) -> list[Any]:
        return [
            Rows(*g) if isinstance(g, tuple) else None if g is None else np.array(g, order="C")
            for g in flat
        ]

    def loss(self) -> float | None:
        needed = self.cls.needs_loss or "Accumulate" in self.configuration.wrappers
        return 1.0 + 1.0 / (1 + self.model.innermost.step_count) if needed else None

    def closure(self, seed: int) -> Callable[[Any], Any]:
        """Loss and gradients of points, the same for optimizer and model."""

        def of_leaves(points: Sequence[np.ndarray]) -> Any:
            rng = np.random.default_rng(seed)
            grads = []
            for x in points:
                wide = widened(x)
                slope = numbers(rng, x.shape, wide.dtype)
                with np.errstate(all="ignore"):
                    grads.append(np.asarray(wide * wide.dtype.type(0.25) + slope))
            return 1.5, grads

        return of_leaves

    def step(self, rng: Any) -> None:
        if self.sam:
            function = self.closure(int(rng.integers(1 << 30)))
            self.ascend(function)
            return
        self.move(self.gradients(rng), stats=bool(rng.random() < 0.3))

    def ascend(self, function: Callable[[Any], Any]) -> None:
        due, got = None, None
        try:
            self.model.ascend(function)
        except NotFinite:
            due = ss.NonFiniteGradientError
        try:
            self.optimizer.step(lambda params: self.at(function, params))
        except ss.NonFiniteGradientError as error:
            got = type(error)
        assert got is due, (got, due)

    def move(
        self,
        flat: Sequence[Any],
        stats: bool = False,
        bound: bool = False,
        by: Callable[[float | None], None] | None = None,
    ) -> None:
        """A step of both, in which both refuse or none; `by` makes the optimizer's otherwise."""
        loss, given = self.loss(), self.for_model(flat)
        before = self.model.innermost.loss_scale
        due, got, told = None, None, None
        try:
            moved = self.model.step(given, loss)
        except NotFinite:
            due, moved = ss.NonFiniteGradientError, False
        args = () if bound else (self.nest(flat),)
        try:
            told = by(loss) if by else self.optimizer.step(*args, loss=loss, stats=stats)
        except ss.NonFiniteGradientError as error:
            got = type(error)
        assert got is due, (got, due)
        if stats and moved and not self.configuration.wrappers:
            grads = [g.grad if isinstance(g, Rows) else g for g in given if g is not None]
            with np.errstate(all="ignore"):
                length = norm(grads, 1e-280) / before
            if np.isfinite(length):
                assert np.isclose(told.grad_norm, length, rtol=1e-9, atol=0), (told, length)
                assert told.nonfinite == 0

    def not_finite(self, rng: Any) -> None:
        """A gradient with NaN, infinity or a number near it."""
        if self.sam:
            return
        flat = self.gradients(rng)
        places = [g for g in flat if isinstance(g, np.ndarray) and g.size]
        if places:
            g = places[rng.integers(len(places))]
            top = float(np.finfo(widened(real(g)).dtype).max)
            bad = [np.nan, np.inf, -np.inf, top, top / 16][rng.integers(5)]
            with np.errstate(all="ignore"):
                g[tuple(rng.integers(0, n) for n in g.shape)] = bad
        self.move(flat)

    def nothing(self, rng: Any) -> None:
        if not self.sam:
            self.move([None] * len(self.model.points()))

    def bind(self, rng: Any) -> None:
        if self.sam:
            return
        flat = [
            None if g is None else np.ascontiguousarray(g).reshape(g.shape)
            for g in self.gradients(rng, plain=True)
        ]
        try:
            self.optimizer.bind(self.nest(flat))
        except ValueError as error:  # half precision that no compiled rule reads
            assert "cannot be bound" in str(error), error
            return
        self.bound = flat

    def step_bound(self, rng: Any) -> None:
        """A step with bound gradients, changed in place; refused where none are bound."""
        if self.sam:
            return
        if self.bound is None:
            assert self.refused(lambda: self.optimizer.step(loss=self.loss()), ValueError)
            self.bind(rng)
        if self.bound is None:
            return
        for g in self.bound:
            if g is not None:
                g[...] = numbers(rng, g.shape, g.dtype)
        self.move(self.bound, bound=True)

    # Settings.

    def set_number(self, rng: Any) -> None:
        name = list(self.cls.fields)[rng.integers(len(self.cls.fields))]
        field = self.cls.fields[name]
        count = len(self.model.innermost.tables)
        several = count > 1 and not isinstance(field, Several) and rng.random() < 0.5
        how = [HOWS[rng.integers(len(HOWS))] for _ in range(count)]
        values = [value_for(rng, field, one) for one in how]
        values = values if several else [values[0]] * count
        given = tuple(values) if several else values[0]
        if not self.refused(lambda: setattr(self.optimizer, name, given), *REFUSALS):
            self.model.innermost.set(name, values)

    def set_scale(self, rng: Any) -> None:
        value = [0.0, 0.25, 1.0, 2.0][rng.integers(4)]
        self.optimizer.lr_scale = value
        self.model.innermost.lr_scale = value

    def freeze(self, rng: Any) -> None:
        """Leaves that get no gradients from now on, or get some again."""
        self.frozen ^= {int(rng.integers(len(self.model.points())))}

    def write(self, rng: Any) -> None:
        """Parameters set by somebody else."""
        leaves = self.optimizer.internals.leaves.arrays
        for x, mine in zip(leaves, self.model.points(), strict=True):
            if rng.random() < 0.6:
                new = numbers(rng, x.shape, x.dtype)
                new = new if x.dtype.kind == "c" else np.clip(widened(new), -1.5, 1.5)
                x[...] = new.astype(x.dtype)
                mine[...] = x

    # Copies and files.

    def replace(self, other: Any) -> None:
        """Go on with a copy; the one before stays what it is."""
        if self.left is not None:
            optimizer, was = self.left
            assert self.all_of(optimizer) == was, "a step of a copy moved what it was copied from"
        self.left = self.optimizer, self.all_of(self.optimizer)
        self.optimizer, self.bound = other, None

    @staticmethod
    def all_of(optimizer: Any) -> Any:
        return bits([*optimizer.internals.leaves.arrays, optimizer.state_dict()])

    def copies(self) -> list[np.ndarray]:
        return [x.copy(order="C") for x in self.model.points()]

    def clone(self, rng: Any) -> None:
        given = [laid_out(rng, x) for x in self.copies()]
        self.replace(self.optimizer.clone(self.configuration.nest(given)))

    def deepcopy(self, rng: Any) -> None:
        self.replace(copy.deepcopy(self.optimizer))

    def pickle(self, rng: Any) -> None:
        buffer = io.BytesIO()
        pickle.dump(self.optimizer, buffer)
        buffer.seek(0)
        self.replace(pickle.load(buffer))

    def load(self, rng: Any) -> None:
        self.renew(lambda other: other.load_state_dict(self.optimizer.state_dict()))

    def save(self, rng: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "optimizer")
            self.optimizer.save(path)
            self.renew(lambda other: other.load(path))

    def renew(self, fill: Callable[[Any], Any]) -> None:
        """A new optimizer with the state; what no file can hold, functions, is refused."""
        other = self.configuration.make([x.copy(order="C") for x in self.configuration.start])
        made_with = [dict(table) for table in other.internals.groups.tables]
        fresh = self.all_of(other)
        try:
            fill(other)
        except ValueError as error:
            assert "no file can hold" in str(error), error
            assert self.all_of(other) == fresh
            return
        for x, mine in zip(other.internals.leaves.arrays, self.model.points(), strict=True):
            x[...] = mine
        self.keep_functions(made_with)
        self.replace(other)

    def keep(self, rng: Any) -> None:
        leaves = [np.array(x) for x in self.optimizer.internals.leaves.arrays]
        self.kept = leaves, self.optimizer.state_dict(), self.model.copy()

    def go_back(self, rng: Any) -> None:
        if self.kept is None:
            return
        leaves, state, model = self.kept
        try:
            self.optimizer.load_state_dict(state)
        except ValueError as error:
            assert "no file can hold" in str(error), error
            return
        for x, value in zip(self.optimizer.internals.leaves.arrays, leaves, strict=True):
            x[...] = value
        tables = self.model.innermost.tables
        self.model = model.copy()
        self.keep_functions(tables)

    def keep_functions(self, there: Sequence[dict[str, Any]], model: Any = None) -> None:
        """Functions stay those of the optimizer that loads."""
        tables = (model or self.model).innermost.tables
        for mine, now in zip(tables, there, strict=True):
            for name, value in mine.items():
                mine[name] = _kept(value, now[name])

    # Averages.

    def average(self, rng: Any) -> None:
        """The average in the parameters for a while, in which nothing else is done."""
        if not hasattr(self.optimizer, "averaged"):
            return
        expected = self.optimizer.eval_params()
        fail = rng.random() < 0.3
        try:
            with self.optimizer.averaged() as params:
                pair = (ss.arrays.flatten(ungroup(nest))[0] for nest in (params, expected))
                for got, due in zip(*pair, strict=True):
                    assert bits(got) == bits(due.astype(got.dtype))
                for call in self.refusing(rng):
                    assert self.refused(call, RuntimeError)
                if fail:
                    raise OSError("inside")
        except OSError:
            assert fail

    def refusing(self, rng: Any) -> list[Callable[[], Any]]:
        """What needs the training point; where the average is of an inner one, not all sees it."""
        optimizer = self.optimizer
        nest = self.configuration.nest(self.copies())
        calls: list[Callable[[], Any]] = [optimizer.state_dict, lambda: optimizer.clone(nest)]
        if not self.sam and "averaged" in dir(type(optimizer)):
            grads = self.nest(self.gradients(rng, plain=True))
            calls.append(lambda: optimizer.step(grads, loss=self.loss()))
            calls.append(optimizer.averaged().__enter__)
        return calls

    # What fails, and changes nothing.

    def fail(self, rng: Any) -> None:
        """A rate that is interrupted, raises or answers nonsense."""
        count = len(self.model.innermost.tables)
        self.optimizer.lr = fused
        self.model.innermost.set("lr", [fused] * count)
        how = list(FAILURES)[rng.integers(len(FAILURES))]
        before, loss = self.found(), self.loss()
        flat = None if self.sam else self.gradients(rng)
        function = self.closure(1)
        fused.how = how
        try:
            if flat is None:
                self.optimizer.step(lambda params: self.at(function, params))
            else:
                self.optimizer.step(self.nest(flat), loss=loss)
            raised = False
        except FAILURES[how]:
            raised = True
        finally:
            fused.how = None
        # Accumulate may ask for no rate, and where a wrapper goes to its end Ctrl-C waits for it.
        waits = how is interrupts and bool(self.configuration.wrappers)
        assert raised or "Accumulate" in self.configuration.wrappers
        if raised and not (waits and self.found() != before):
            assert self.found() == before, "a step that failed changed something"
        elif flat is None:
            self.model.ascend(function)
        else:
            self.model.step(self.for_model(flat), loss)

    def at(self, function: Callable[[Any], Any], params: Any) -> Any:
        """Loss and gradients as nests."""
        loss, grads = function(ss.arrays.flatten(ungroup(params))[0])
        return loss, self.nest(grads)

    def bad(self, rng: Any) -> None:
        """Gradients that do not fit."""
        if self.sam:
            assert self.refused(lambda: self.optimizer.step(3.0), TypeError)
            return
        flat = self.gradients(rng, plain=True)
        i = int(rng.integers(len(flat)))
        x = self.model.points()[i]
        g = numbers(rng, x.shape, x.dtype)
        kinds: list[Any] = [
            np.zeros((*x.shape, 2), x.dtype),
            g.astype(np.int32) if x.dtype.kind != "c" else g.astype(np.float16),
            g.astype(np.float16) if x.dtype == np.float64 else g.astype(np.float64)
            if x.dtype.itemsize == 4 and x.dtype.kind == "f" else np.zeros(3, "S2"),
            g.tolist() if x.ndim else "text",
            np.ma.masked_array(widened(g), mask=True),
            object(),
        ]  # fmt: skip
        nest = self.nest([*flat[:i], kinds[rng.integers(len(kinds))], *flat[i + 1 :]])
        if rng.random() < 0.2:
            nest = [nest, nest, nest]
        call = lambda: self.optimizer.step(nest, loss=self.loss())  # noqa: E731
        assert self.refused(call, TypeError, ValueError), "a bad gradient was taken"

    def spoil(self, rng: Any) -> None:
        """A parameter that cannot be written, or has changed its shape, until it is as it was."""
        if self.sam:
            return
        leaves = self.optimizer.internals.leaves.arrays
        x = leaves[rng.integers(len(leaves))]
        flat = self.gradients(rng, plain=True)
        nest, loss, shape = self.nest(flat), self.loss(), x.shape
        if rng.random() < 0.5 and x.ndim > 1 and x.flags.c_contiguous:
            x.shape = (x.size,)
        elif not x.flags.owndata:
            return
        else:
            x.flags.writeable = False
        try:
            refused = self.refused(lambda: self.optimizer.step(nest, loss=loss), ValueError)
        finally:
            x.flags.writeable = True
            x.shape = shape
        assert refused or "Accumulate" in self.configuration.wrappers
        if not refused:
            self.model.step(self.for_model(flat), loss)

    def resize(self, rng: Any) -> None:
        """Bound gradients of another length, which move in memory, until they are as they were."""
        owned = [g for g in self.bound or () if g is not None and g.flags.owndata and g.size]
        if not owned:
            return
        g = owned[rng.integers(len(owned))]
        shape, loss = g.shape, self.loss()
        g.resize((g.size + 100,), refcheck=False)
        try:
            assert self.refused(lambda: self.optimizer.step(loss=loss), ValueError)
        finally:
            g.resize(shape, refcheck=False)
        self.step_bound(rng)

    def bad_loss(self, rng: Any) -> None:
        """A loss that is no number, for the rules that need one."""
        if not self.cls.needs_loss or self.sam:
            return
        grads = self.nest(self.gradients(rng, plain=True))
        loss = [None, "1", float("nan"), float("inf"), 1j][rng.integers(5)]
        call = lambda: self.optimizer.step(grads, loss=loss)  # noqa: E731
        assert self.refused(call, TypeError, ValueError), "a loss that is no number was taken"

    def shared(self, rng: Any) -> None:
        """Gradients that are parameters: as copies of them, or refused."""
        if self.sam:
            return
        leaves = self.optimizer.internals.leaves.arrays
        if any(not np.isfinite(real(widened(x))).all() for x in leaves):
            return
        alike = [(i, k) for i, a in enumerate(leaves) for k, b in enumerate(leaves)
                 if a.shape == b.shape and a.dtype == b.dtype]  # fmt: skip
        i, k = alike[rng.integers(len(alike))]
        flat = [None] * len(leaves)
        if (
            not np.isfinite(real(widened(leaves[k]))).all()
            or np.abs(leaves[k]).max(initial=0) > 1e3
        ):
            return
        flat[i] = leaves[k]
        given = self.for_model(flat)
        try:
            self.optimizer.step(self.nest(flat), loss=self.loss())
        except ValueError as error:
            assert "shares memory" in str(error), error
            return
        self.model.step(given, self.loss())

    def threads(self, rng: Any) -> None:
        """Two threads that take turns with the same gradients."""
        if self.sam:
            return
        flat = self.gradients(rng)
        nest, loss = self.nest(flat), self.loss()

        def work() -> None:
            for _ in range(2):
                self.optimizer.step(nest, loss=loss)

        errors = in_two_threads(work)
        for _ in range(4):
            self.model.step(self.for_model(flat), loss)
        assert not errors, errors


def _kept(saved: Any, now: Any) -> Any:
    """What is loaded for a hyperparameter: functions are those that are there."""
    if isinstance(saved, tuple):
        alike = isinstance(now, tuple) and len(now) == len(saved)
        pairs = zip(saved, now if alike else saved, strict=True)
        return tuple(_kept(old, new) for old, new in pairs)
    function = callable(saved) and not isinstance(saved, ss.Schedule)
    return now if function else saved

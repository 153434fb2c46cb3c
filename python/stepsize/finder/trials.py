"""Trial runs on copies of the parameters, batches that can be seen again, a budget of gradients."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType, GeneratorType, MethodType
from typing import Any

import numpy as np

from stepsize.arrays import copy, flatten, loss_and_grads
from stepsize.errors import NonFiniteGradientError
from stepsize.optimizers import Optimizer
from stepsize.optimizers.registration import maker_of

Nest = Any
ValueAndGrad = Callable[[Nest, Any], tuple[Any, Nest]]
Change = Callable[[Any, Nest], Any]


class RateStepper:
    """An optimizer over copies whose rate is an argument of each step."""

    def __init__(self, optimizer: Any, params: Nest) -> None:
        self._optimizer = optimizer
        self._leaves = flatten(params)[0]
        rates = optimizer.lr
        several = isinstance(rates, tuple) and len(set(rates)) > 1 and min(rates) > 0
        self._top = max(rates) if several else None

    def _set(self, lr: float) -> None:
        if self._top is not None:
            self._optimizer.lr_scale = lr / self._top
        else:
            self._optimizer.lr = lr

    def step(self, grads: Nest, lr: float, loss: float) -> None:
        """Step; groups with rates of their own keep the ratios of these, `lr` being the largest."""
        self._set(lr)
        if isinstance(self._optimizer, Optimizer):
            self._optimizer.step(grads, loss=loss)
        else:
            self._optimizer.step(grads)

    def step_length(self, grads: Nest, lr: float, loss: float) -> float:
        """Step, and return the Euclidean norm of the update."""
        if isinstance(self._optimizer, Optimizer):
            self._set(lr)
            stats = self._optimizer.step(grads, loss=loss, stats=True)
            return math.nan if stats is None else stats.update_norm
        before = [np.array(leaf, np.float64) for leaf in self._leaves]
        self.step(grads, lr, loss)
        moves = (after - leaf for after, leaf in zip(self._leaves, before, strict=True))
        return math.sqrt(sum(float(np.vdot(m, m)) for m in moves))


def _held(thing: object, depth: int = 3) -> Iterator[object]:
    """What a callable, a bound method or an object holds on to, a few levels deep."""
    yield thing
    if depth == 0 or isinstance(thing, type):
        return
    inner: list[object] = []
    if isinstance(thing, MethodType):
        inner += [thing.__self__, thing.__func__]
    elif isinstance(thing, FunctionType):
        cells = thing.__closure__ or ()
        inner += [c.cell_contents for c in cells if c != type(c)()]
        inner += [thing.__globals__.get(name) for name in thing.__code__.co_names]
        inner += list(thing.__defaults__ or ()) + list((thing.__kwdefaults__ or {}).values())
    elif isinstance(thing, GeneratorType) and thing.gi_frame is not None:
        inner += list(thing.gi_frame.f_locals.values())
    elif hasattr(thing, "__dict__") and not hasattr(thing, "__path__"):
        inner += list(vars(thing).values())
    for one in inner:
        yield from _held(one, depth - 1)


def _saver(thing: object) -> Callable[[], None] | None:
    """A function that puts a random generator back where it is now; None for anything else."""
    if isinstance(thing, np.random.Generator):
        bits, state = thing.bit_generator, thing.bit_generator.state
        return lambda: setattr(bits, "state", state)
    if isinstance(thing, np.random.RandomState):
        legacy = thing.get_state()
        return lambda: thing.set_state(legacy)
    if isinstance(thing, random.Random):
        memory = thing.getstate()
        return lambda: thing.setstate(memory)
    return None


@contextmanager
def randomness_kept(*holders: object) -> Iterator[None]:
    """Leave every random generator as it was: NumPy's, Python's, and those the holders hold."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    python_state = random.getstate()
    found = {id(t): t for holder in holders for t in _held(holder)}
    restore = [save for t in found.values() if (save := _saver(t)) is not None]
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        for put_back in restore:
            put_back()


class CachedBatches:
    """Batches by number; a short source is opened again at its end, or cycled if it cannot be."""

    def __init__(self, source: Iterable[Any] | Callable[[], Iterable[Any]]) -> None:
        self._source = source
        self._more = self._open()
        self._again = callable(source) or self._more is not source
        self._kept: dict[int, Any] = {}
        self._read = 0
        self._size: int | None = None

    def _open(self) -> Iterator[Any]:
        made = self._source() if callable(self._source) else self._source
        try:
            return iter(made)
        except TypeError:
            raise TypeError(
                "lr_find: batches must be an iterable of batches or a function without arguments "
                f"that returns one, got {type(made).__name__}; wrap a single batch as [batch]"
            ) from None

    def __getitem__(self, number: int) -> Any:
        while self._read <= number and self._size is None:
            for batch in self._more:
                self._kept[self._read] = batch
                self._read += 1
                break
            else:
                if not self._read:
                    raise ValueError("lr_find: batches is empty; give at least one batch")
                if self._again:
                    self._more = self._open()
                else:
                    self._size = self._read
        return self._kept[number if self._size is None else number % self._size]

    def forget(self, below: int) -> None:
        """Drop batches that are not asked for again."""
        if self._again:
            for number in [n for n in self._kept if n < below]:
                del self._kept[number]


class Trial:
    """One run on copies; it fails when loss or gradient stops being finite, or the loss explodes.

    `period` makes it cycle through the first few batches, so that losses of one batch can be
    compared.
    """

    def __init__(
        self, runner: TrialRunner, first_batch: int, period: int | None, change: Change | None
    ) -> None:
        self._runner = runner
        self._first = first_batch
        self._period = period
        self._params = copy(runner.params)
        self._stepper: RateStepper | None = runner.stepper(self._params, change)
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self.failure: str | None = None
        self.ceiling = math.inf

    def retire(self) -> None:
        """Free the copies: this run will not go on."""
        self._params = self._stepper = None

    @property
    def params(self) -> Nest:
        """The copies as they are now; None once the run has ended."""
        return self._params

    @property
    def rate(self) -> float:
        return self.lrs[-1] if self.lrs else math.nan

    def score(self) -> float:
        """The mean loss of the later half; infinite for a failed run."""
        if self.failure is not None or not self.losses:
            return math.inf
        return float(np.mean(self.losses[len(self.losses) // 2 :]))

    def step(self, lr: float) -> bool:
        """Evaluate one batch and step; False once the run has failed or the budget is spent."""
        done = len(self.losses)
        batch = self._first + (done % self._period if self._period else done)
        stepper = self._stepper
        if stepper is None or not self._runner.affords(batch, fresh=done == 0):
            return False
        self.lrs.append(lr)
        loss, grads = self._runner.evaluate(self._params, batch, fresh=done == 0)
        if not math.isfinite(loss):
            self.failure = f"the loss became {loss} at lr={lr:.2e}"
        else:
            self.losses.append(loss)
            if loss > self.ceiling:
                self.failure = f"the loss rose to {loss:.3g} at lr={lr:.2e}"
        if self.failure is None:
            try:
                stepper.step(grads, lr, loss)
            except NonFiniteGradientError:
                self.failure = f"a gradient was not finite at lr={lr:.2e}"
        if self.failure is not None:
            self.retire()
        return self.failure is None

    def extend(self, lr: float, until: int) -> Trial:
        """Go on at one rate until the run has `until` losses."""
        while len(self.losses) < until and self.step(lr):
            pass
        return self


class TrialRunner:
    """What all trials share: function, starting point, batches, and a budget of gradients."""

    def __init__(
        self,
        value_and_grad: ValueAndGrad,
        params: Nest,
        batches: CachedBatches,
        optimizer: Any,
        tick: Callable[[], object],
    ) -> None:
        self._value_and_grad = value_and_grad
        self.params = params
        self.batches = batches
        self._optimizer = maker_of(optimizer, "lr_find")
        self.budget = 0
        self.spent = 0
        self._tick = tick
        self._first: dict[int, tuple[float, Nest]] = {}

    def stepper(self, params: Nest, change: Change | None = None) -> RateStepper:
        """A new optimizer over the copies, or what `change` makes of it."""
        made = self.build(params)
        return RateStepper(made if change is None else change(made, params), params)

    def build(self, params: Nest) -> Any:
        """An optimizer over the copies: cloned with its state, or made by class or factory."""
        clone = getattr(self._optimizer, "clone", None)
        if clone is not None and not isinstance(self._optimizer, type):
            made = clone(params)
        elif callable(self._optimizer):
            made = self._optimizer(params)
        else:
            raise TypeError(
                "lr_find: optimizer must be an optimizer class, its name, a function params -> "
                f"optimizer, or an optimizer, got {type(self._optimizer).__name__}"
            )
        return made

    def grant(self, count: int) -> None:
        """Allow `count` gradients from here on; what was left of the last grant lapses."""
        self.budget = count

    def affords(self, batch: int, fresh: bool) -> bool:
        return self.budget > 0 or (fresh and batch in self._first)

    def evaluate(self, params: Nest, batch: int, fresh: bool) -> tuple[float, Nest]:
        """Loss and gradient; `fresh` parameters are the start, evaluated once per batch."""
        if fresh and batch in self._first:
            return self._first[batch]
        data = self.batches[batch]
        self.budget -= 1
        self.spent += 1
        self._tick()
        try:
            result = loss_and_grads(self._value_and_grad(params, data))
        except (FloatingPointError, OverflowError):
            if fresh:
                raise
            result = math.nan, None
        if fresh:
            self._first[batch] = (result[0], copy(result[1]))
        return result

    def trial(
        self, first_batch: int = 0, period: int | None = None, change: Change | None = None
    ) -> Trial:
        return Trial(self, first_batch, period, change)

    def at_start(self, batch: int = 0) -> tuple[float, Nest]:
        """Loss and gradient of a batch at the starting point."""
        return self._first[batch]


def ticker(
    progress_bar: bool | None, total: int, name: str = "lr_find"
) -> tuple[Callable[[], object], Any]:
    """A function to call at each gradient, and the bar to close."""
    shown = sys.stderr.isatty() if progress_bar is None else progress_bar
    if not shown:
        return (lambda: None), None
    from tqdm import tqdm

    bar = tqdm(total=total, desc=name, unit="gradient", leave=False)
    return bar.update, bar

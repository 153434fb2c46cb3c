"""Trial runs on copies of the parameters, batches that can be seen again, a budget of gradients."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from stepsize.arrays import (
    Nest,
    ValueAndGrad,
    as_numpy,
    copy,
    flatten,
    loss_and_grads,
    map_leaves,
    norm,
    not_finite,
    path_not_finite,
    refuse_writes,
    value_and_grad_of,
    view_as_real,
    where_not_finite,
)
from stepsize.bars import can_redraw, open_bar, written
from stepsize.collectives import step_averaged
from stepsize.errors import NonFiniteGradientError
from stepsize.finder.cached_batches import CachedBatches, hint
from stepsize.gradients.screen import wrong_gradients
from stepsize.gradients.silence import Silence
from stepsize.gradients.slopes import Move
from stepsize.optimizers import Optimizer, RowGradient
from stepsize.optimizers.ascent import refuse_ascent
from stepsize.optimizers.registration import maker_of, refuse_other_arrays
from stepsize.optimizers.scheduled import in_shares, shares_of
from stepsize.optimizers.wrappers.base import Wrapper
from stepsize.validation import truth_or_none

SUSPECTS = 3  # batches asked whether they are at fault, where trials were lost

Change = Callable[[Any, Nest], Any]


def changed(change: Callable[[Any], Any], gradient: Nest) -> Nest:
    """The gradient with a function of each array in it; rows of a leaf stay rows."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, RowGradient):
            return RowGradient(leaf.rows.copy(), change(leaf.values))
        return change(leaf)

    return map_leaves(one, gradient)


class RateStepper:
    """An optimizer over copies whose rate is an argument of each step."""

    def __init__(self, optimizer: Any, params: Nest) -> None:
        self._optimizer = optimizer
        self._leaves = flatten(params)[0]
        self.calls = 2 if getattr(optimizer, "needs_closure", False) else 1  # of the function
        if getattr(optimizer, "lr_scale", 1.0) != 1.0:
            optimizer.lr_scale = 1.0  # of the schedule before, and no part of the rate to find
        self._shares = shares_of(optimizer.lr)

    def _set(self, lr: float) -> None:
        self._optimizer.lr = in_shares(lr, self._shares)

    def step(
        self,
        grads: Nest,
        lr: float,
        loss: float,
        again: Callable[[Nest], tuple[float, Nest]] | None = None,
    ) -> None:
        """Step; groups with rates of their own keep the ratios of these, `lr` being the largest.

        `again` evaluates a second point, for an optimizer that asks for one (SAM).
        """
        self._set(lr)
        if self.calls > 1:
            known = itertools.chain([(loss, grads)], itertools.repeat(None))
            self._optimizer.step(lambda p: next(known) or (again(p) if again else (loss, grads)))
        elif isinstance(self._optimizer, Optimizer | Wrapper):
            step_averaged(self._optimizer)(grads, loss=loss)
        else:
            self._optimizer.step(grads)

    def step_length(self, grads: Nest, lr: float, loss: float) -> float:
        """Step, and return the Euclidean norm of the update."""
        if isinstance(self._optimizer, Optimizer | Wrapper) and self.calls == 1:
            self._set(lr)
            stats = step_averaged(self._optimizer)(grads, loss=loss, stats=True)
            return math.nan if stats is None else stats.update_norm
        leaves = [view_as_real(leaf) for leaf in self._leaves]
        before = [np.array(leaf, np.float64) for leaf in leaves]
        self.step(grads, lr, loss)
        moves = (after - leaf for after, leaf in zip(leaves, before, strict=True))
        return norm(moves)


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
        self._waiting: deque[tuple[Move, Nest, float]] = deque()

    def retire(self) -> None:
        """Free the copies: this run will not go on."""
        self._params = self._stepper = None
        self._waiting.clear()

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
        if stepper is None or not self._runner.affords(batch, done == 0, stepper.calls):
            return False
        self.lrs.append(lr)
        loss, grads = self._runner.evaluate(self._params, batch, fresh=done == 0)
        # The first loss and gradient are those of the start, whatever the rate.
        where = f"at lr={lr:.2e}" if done else "at the starting parameters"
        if not math.isfinite(loss):
            self.failure = f"the loss {'became' if done else 'was'} {loss} {where}"
            self._runner.suspect(batch, lr)
        else:
            self.losses.append(loss)
            if loss > self.ceiling:
                self.failure = f"the loss rose to {loss:.3g} at lr={lr:.2e}"
        if self.failure is None:
            if self._period:
                self._pair(loss, grads)
            try:
                stepper.step(grads, lr, loss, lambda p: self._runner.evaluate(p, batch, False))
            except NonFiniteGradientError:
                self.failure = f"{not_finite(grads)} was not finite {where}"
                self._runner.suspect(batch, lr)
        if self.failure is not None:
            self.retire()
        return self.failure is None

    def _pair(self, loss: float, grads: Nest) -> None:
        """Note what two gradients of one batch, a cycle apart, say of the change between."""
        if len(self._waiting) == self._period:
            move, first, before = self._waiting.popleft()
            move.made()
            self._runner.silence.look(grads, len(self._runner.pairs))
            slopes = move.along(first), move.along(grads)
            self._runner.pairs.append((*slopes, loss - before, before))
        move = Move(self._params)
        move.begin()
        self._waiting.append((move, changed(_copied, grads), loss))

    def extend(self, lr: float, until: int) -> Trial:
        """Go on at one rate until the run has `until` losses."""
        while len(self.losses) < until and self.step(lr):
            pass
        return self


class TrialRunner:
    """What all trials share: function, starting point, batches, and a budget of gradients.

    The function gets copies of the parameters and what it returns is copied where it is kept, so
    that it may fill the same gradient arrays at each call. One that writes into what it is given
    is told so: its loss belongs to no point that was asked for.
    """

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
        self._batch: Any = None  # the first, which may not be kept elsewhere
        self.checks = 0  # calls that checked gradients, beside the budget
        self._tick = tick
        self._first: dict[int, tuple[float, Nest]] = {}
        self.pairs: list[tuple[float, float, float, float]] = []  # of slopes, change and loss
        self.silence = Silence(params)
        self._suspects: dict[int, tuple[float, Any]] = {}  # lowest rate at which a batch was lost

    def stepper(self, params: Nest, change: Change | None = None) -> RateStepper:
        """A new optimizer over the copies, or what `change` makes of it."""
        made = self.build(params)
        if getattr(made, "needs_closure", False) and getattr(made, "adapts_lr", False):
            raise ValueError(
                f"lr_find: {type(made).__name__} finds the length of its steps by line search and "
                "needs no rate; leave its lr as it is by default"
            )
        refuse_ascent("lr_find", made)
        return RateStepper(made if change is None else change(made, params), params)

    def build(self, params: Nest) -> Any:
        """An optimizer over the copies: cloned with its state, or made by class or factory."""
        clone = getattr(self._optimizer, "clone", None)
        if clone is not None and not isinstance(self._optimizer, type):
            made = clone(params)
        elif callable(self._optimizer):
            made = self._optimizer(params)
            if not hasattr(made, "step") or not hasattr(made, "lr"):
                raise TypeError(
                    "lr_find: optimizer must make an optimizer over the parameters that it is "
                    f"given, it made {made!r:.80}"
                )
            refuse_other_arrays("lr_find", made, params)
        else:
            raise TypeError(
                "lr_find: optimizer must be an optimizer class, its name, a function params -> "
                f"optimizer, or an optimizer, got {type(self._optimizer).__name__}"
            )
        return made

    def grant(self, count: int) -> None:
        """Allow `count` gradients from here on; what was left of the last grant lapses."""
        self.budget = count

    def affords(self, batch: int, fresh: bool, calls: int = 1) -> bool:
        """Whether the budget covers the calls of one step."""
        return self.budget >= calls - (fresh and batch in self._first)

    def evaluate(self, params: Nest, batch: int, fresh: bool) -> tuple[float, Nest]:
        """Loss and gradient; `fresh` parameters are the start, evaluated once per batch."""
        if fresh and batch in self._first:
            return self._first[batch]
        data = self.batches[batch]
        if self.spent == 0:
            self._batch = data
        self.budget -= 1
        self.spent += 1
        self._tick()
        try:
            result = value_and_grad_of(
                self._value_and_grad,
                copy(params),
                data,
                owner="lr_find",
                state=True,
                kept=flatten(params)[0],
            )
        except (FloatingPointError, OverflowError):
            if fresh:
                raise
            result = math.nan, None
        except Exception as error:
            if self.spent == 1 and (advice := hint(self.batches.source)):
                error.add_note(advice)
            refuse_writes(error, self._value_and_grad, params, data, "lr_find", "value_and_grad")
            raise
        if fresh:
            self._first[batch] = (result[0], changed(_copied, result[1]))
        return result

    def repeatable(self, batch: int) -> bool:
        """Whether there is one batch alone, and the function of it has no noise of its own."""
        where = self.batches.where  # a list is opened again at its end, with other views
        if self.budget < 1 or any(where(batch + k) != where(batch) for k in (1, 2)):
            return False
        loss, gradient = self._first[batch]
        again, other = self.evaluate(self.params, batch, fresh=False)
        ours, theirs = flatten(gradient)[0], flatten(other)[0]
        size = max((_largest(one) for one in ours), default=0.0)
        return _same(np.asarray(loss), np.asarray(again), abs(loss)) and all(
            _same(one, two, size) for one, two in zip(ours, theirs, strict=True)
        )

    def suspect(self, batch: int, lr: float) -> None:
        """A trial ended at this batch, since loss or gradient was not finite."""
        known = self._suspects.get(batch, (math.inf, None))
        self._suspects[batch] = min(known, (lr, self.batches[batch]), key=lambda pair: pair[0])

    def unsound(self) -> str:
        """What is wrong with a batch that is not finite at the starting parameters either, or "".

        The batches at which the lowest rates were lost are asked, beside the budget. Nothing is
        said for an optimizer that is told to leave such steps out.
        """
        options = getattr(
            getattr(self.build(copy(self.params)), "internals", None), "options", None
        )
        if getattr(options, "on_nonfinite", "raise") != "raise":
            return ""
        lowest = sorted(self._suspects.items(), key=lambda pair: pair[1][0])[:SUSPECTS]
        for number, (_, data) in lowest:
            self.checks += 1
            try:
                loss, grads = loss_and_grads(self._value_and_grad(copy(self.params), data))
            except (FloatingPointError, OverflowError):
                loss, grads = math.nan, None
            what = f"the loss is {loss}" if not math.isfinite(loss) else ""
            if not what and path_not_finite(grads) is not None:
                what = f"{not_finite(grads)} is not finite"
            if what:
                words = where_not_finite(data)
                held = f"; it {words}" if words else ""
                return f"{what} at the starting parameters too for batch {number}{held}"
        return ""

    def doubts(self) -> str:
        """What speaks against the gradients at the start, by a few calls beside the budget."""
        optimizer = self.build(copy(self.params))
        words, calls = wrong_gradients(self._value_and_grad, self.params, self._batch, optimizer)
        self.checks += calls
        return words

    def trial(
        self, first_batch: int = 0, period: int | None = None, change: Change | None = None
    ) -> Trial:
        return Trial(self, first_batch, period, change)

    def at_start(self, batch: int = 0) -> tuple[float, Nest]:
        """Loss and gradient of a batch at the starting point."""
        return self._first[batch]


def _copied(array: Any) -> Any:
    try:
        return np.array(as_numpy(array), subok=True)
    except (TypeError, ValueError, RuntimeError):
        return array  # what is no gradient, as one with a mask, is refused by who steps


def _largest(one: Any) -> float:
    values = as_numpy(one.values if isinstance(one, RowGradient) else one)
    return float(np.abs(values).max(initial=0.0)) if values.dtype.kind in "fc" else 0.0


def _same(one: Any, other: Any, size: float) -> bool:
    """Whether they are equal but for rounding, which depends on where the user's arrays lie.

    It is in units of the whole gradient, whose `size` is the largest number: that of one leaf may
    be nothing but rounding.
    """
    if isinstance(one, RowGradient):
        return np.array_equal(one.rows, other.rows) and _same(one.values, other.values, size)
    ours, theirs = as_numpy(one), as_numpy(other)
    if np.array_equal(ours, theirs):
        return True
    if ours.dtype.kind not in "fc" or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    return bool(np.abs(ours - theirs).max() <= np.finfo(ours.dtype).eps ** 0.5 * size)


def ticker(
    progress_bar: bool | None, total: int, name: str = "lr_find"
) -> tuple[Callable[[], object], Any]:
    """A function to call at each gradient, and the bar to close."""
    shown = truth_or_none(f"{name}: progress", progress_bar)
    if not (can_redraw() if shown is None else shown):
        return (lambda: None), None
    bar = open_bar(total=total, desc=name, unit="gradient", leave=False)
    if bar is None:
        return (lambda: None), None
    return (lambda: written(bar.update)), bar

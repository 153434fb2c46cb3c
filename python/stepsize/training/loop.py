"""Steps, epochs and validation of one run, and whatever may end it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import optree

from stepsize import arrays
from stepsize.callbacks.base import Checkpoint
from stepsize.errors import NonFiniteGradientError
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.stats import StepStats
from stepsize.training.batches import ArrayBatches, Batches, count
from stepsize.training.interrupts import Interrupt
from stepsize.training.progress import Progress
from stepsize.training.run import Run

Evaluate = Callable[[Any, Any], dict[str, float]]
Gradient = Callable[[Any, Any], tuple[float, Any]]


class Interrupted(Exception):
    """Validation was cut short by Ctrl-C; the resumed run makes up for it."""


class Validation:
    """Means of what ``evaluate`` measures, weighted by batch size."""

    def __init__(self, source: Batches, evaluate: Evaluate):
        self._source = source
        self._evaluate = evaluate

    def __call__(self, run: Run, interrupt: Interrupt) -> None:
        """Measure, and put the results into metrics and history."""
        sums: dict[str, float] = {}
        total = 0
        for batch, _ in self._source.epoch(0, 0):
            if interrupt.pending:
                raise Interrupted
            size = count(batch)
            total += size
            measured = self._evaluate(run.params, batch)
            if not isinstance(measured, Mapping) or not all(isinstance(k, str) for k in measured):
                raise TypeError(
                    f"evaluate must return a dict of names and numbers, it returned {measured!r}"
                )
            for name, value in measured.items():
                sums[name] = sums.get(name, 0.0) + size * float(value)
        for name, value in sums.items():
            name = name if name.startswith("val_") else f"val_{name}"
            run.metrics[name] = value / total
            run.history.record(name, value / total)


class Loop:
    """One run from where it stands to its end."""

    validation: Validation | None = None
    validate_every: int | None = None

    def __init__(
        self,
        run: Run,
        value_and_grad: Gradient,
        epochs: int | None,
        steps: int | None,
        accumulate: int,
    ):
        self.run = run
        self.epochs = math.inf if epochs is None else epochs
        self.steps = math.inf if steps is None else steps
        self.accumulate = accumulate
        watched = any(getattr(c, "needs_micro_squares", False) for c in run.callbacks)
        squares = run.micro_squares if watched else None
        self.gradient = value_and_grad if accumulate == 1 else averaged(value_and_grad, squares)
        run.accumulate = accumulate
        self.strict = run.optimizer.internals.options.on_nonfinite == "raise"
        self.diverged = False
        self.exhausted = False
        self.interrupt = Interrupt()

    def execute(self, show: bool | None) -> None:
        """Run to the end, whatever the end is."""
        run = self.run
        first = run.step, run.epoch
        self.progress = Progress(show, self.total(), run.step)
        try:
            with self.interrupt:
                run.call("on_start")
                self.make_epochs()
                run.tick()
                if run.history.stopped is None:
                    run.history.stopped = self.reason()
                if first != (run.step, run.epoch) and not self.diverged:
                    for keeper in self.keepers():
                        keeper.save(run)
                self.validate_once_more()
        except BaseException as error:
            run.error = error
            if isinstance(error, Exception) and first != (run.step, run.epoch):
                self.rescue(error)
            raise
        finally:
            self.progress.close(run)
            run.end()

    def make_epochs(self) -> None:
        """Make epochs until something ends the run."""
        run = self.run
        try:
            while run.epoch < self.epochs:
                if run.hooks_due:
                    self.after_step()
                if not self.over():
                    self.make_steps()
                if self.diverged or not self.epoch_is_complete():
                    return
                if not run.offset:
                    run.history.stopped = f"train ran out of batches after step {run.step}"
                    return
                self.end_epoch()
        except Interrupted:
            return

    def make_steps(self) -> None:
        """Make steps to the end of the epoch, or to the end of the run if it comes first."""
        run, interrupt, steps, strict = self.run, self.interrupt, self.steps, self.strict
        gradient, params, rate = self.gradient, run.params, rate_of(run.optimizer)
        step = stepper_of(run, gradient)
        append, after = run.history.append, run.hooks("on_step")
        before, every, show = run.hooks("on_gradients"), self.validate_every, self.progress.on_step
        self.exhausted = False
        stream = run.stream()
        for batch, offset in stream if self.accumulate == 1 else grouped(stream, self.accumulate):
            run.batch = batch
            loss, run.grads = arrays.loss_and_grads(gradient(params, batch))
            for hook in before:
                hook(run)
            lr = rate()
            try:
                if strict and not math.isfinite(loss):
                    raise NonFiniteGradientError
                stats = step(run.grads, loss=loss, stats=True)
            except NonFiniteGradientError:
                if self.diverge(loss, lr, offset):
                    continue
                return
            run.step += 1
            run.offset = offset
            append(run.step, run.epoch, loss, lr, stats.grad_norm, stats.update_ratio)
            if every is not None and run.step % every == 0:
                self.after_step()
            else:
                for hook in after:
                    hook(run)
            show(run)
            if run.finished or interrupt.pending or run.step >= steps:
                return
        self.exhausted = True

    def after_step(self) -> None:
        """What follows a step, validation included; done later if Ctrl-C cuts the validation."""
        run = self.run
        run.hooks_due = True
        if self.validate_every is not None and run.step % self.validate_every == 0:
            self.validate()
        run.hooks_due = False
        run.call("on_step")

    def end_epoch(self) -> None:
        """What follows an epoch."""
        if self.validate_every is None:
            self.validate()
        self.run.end_epoch()
        self.exhausted = False
        self.run.call("on_epoch")

    def validate(self) -> None:
        """Measure on the validation data, if there are any, and tell the callbacks."""
        if self.validation is not None:
            with answer_of(self.run.optimizer):
                self.validation(self.run, self.interrupt)
                self.run.call("on_validation")

    def validate_once_more(self) -> None:
        """Measure where the run ended, if it was not done; resuming it does not see this."""
        run = self.run
        names = [name for name in run.history if name.startswith("val_")]
        measured = any(math.isfinite(run.history.at(name, -1)) for name in names)
        if self.validation and not (measured or self.diverged or self.interrupt.pending):
            with answer_of(run.optimizer):
                self.validation(run, self.interrupt)

    def over(self) -> bool:
        """Whether the next step shall not be made."""
        run = self.run
        return run.finished or self.diverged or self.interrupt.pending or run.step >= self.steps

    def epoch_is_complete(self) -> bool:
        """Whether no batch is left in this epoch, as far as that is known without looking."""
        run = self.run
        if isinstance(run.batches, ArrayBatches):
            return run.offset >= run.batches.length
        return self.exhausted or run.offset == run.batches.steps_per_epoch()

    def reason(self) -> str:
        """Why the run ended, where no callback said so."""
        if self.interrupt.pending:
            return f"interrupted after step {self.run.step}"
        if self.run.epoch >= self.epochs:
            return f"finished {self.run.epoch} epochs"
        return f"finished {self.run.step} steps"

    def diverge(self, loss: float, lr: float, offset: int) -> bool:
        """Give a step that cannot be made a row, and end the run unless a callback mends it."""
        run, step = self.run, self.run.step + 1
        run.history.append(step, run.epoch, loss, lr)
        mended = [hook(run) for hook in run.hooks("on_nonfinite")]
        if any(mended):
            run.step, run.offset = step, offset
            return not self.over()
        why = [] if math.isfinite(loss) else [f"the loss is {loss}"]
        why += [f"the gradient of {path} is not finite" for path in _culprits(run.grads)]
        run.history.stopped = f"diverged at step {step} with lr {lr:.3g}: {', '.join(why)}"
        self.diverged = True
        return False

    def total(self) -> int | None:
        """How many steps the run will have made at its end, if that can be known."""
        steps = self.run.batches.steps_per_epoch()
        if steps is None or math.isinf(self.epochs):
            return None if math.isinf(self.steps) else int(self.steps)
        return int(min(self.steps, self.epochs * -(-steps // self.accumulate)))

    def keepers(self) -> list[Checkpoint]:
        """The callbacks that write checkpoints."""
        return [c for c in self.run.callbacks if isinstance(c, Checkpoint)]

    def rescue(self, error: Exception) -> None:
        """Save what was reached before an error, and say so in the error."""
        for keeper in self.keepers():
            try:
                keeper.save(self.run)
            except Exception as failure:
                error.add_note(f"saving {keeper.path} failed: {failure}")
            else:
                error.add_note(
                    f"step {self.run.step} is saved in {keeper.path}; resume=True goes on from it"
                )


def rate_of(optimizer: Optimizer) -> Callable[[], float]:
    """What tells the rate of the next step, that of the first group with parameters."""
    # The property ``lr`` makes a tuple of all groups first, which costs as much as a small step.
    parts = optimizer.internals
    return functools.partial(parts.engine.number, min(parts.groups.assignment), "lr")


def stepper_of(run: Run, gradient: Gradient) -> Callable[..., StepStats]:
    """The optimizer's step; for one that takes the function, a step of it on the present batch."""
    if not getattr(run.optimizer, "needs_closure", False):
        return cast(Callable[..., StepStats], run.optimizer.step)
    closure_step = cast(Callable[[Any], float], run.optimizer.step)

    def step(grads: Any, *, loss: float, stats: bool) -> StepStats:
        leaves = arrays.flatten(run.params)[0]
        before = [np.array(leaf) for leaf in leaves]
        closure_step(lambda params: gradient(params, run.batch))
        moves = [leaf - old for leaf, old in zip(leaves, before, strict=True)]
        moved, size = _norm(moves), _norm(before)
        return StepStats(_norm(grads), moved, size, moved / size if size else math.inf, 0)

    return step


def answer_of(optimizer: Optimizer) -> AbstractContextManager[Any]:
    """Inside, the parameters are what the optimizer answers with: the average, if it makes one."""
    averaged = getattr(optimizer, "averaged", nullcontext)
    return averaged()


def grouped(stream: Iterator[tuple[Any, int]], size: int) -> Iterator[tuple[Any, int]]:
    """Lists of so many batches, each with the offset after the last."""
    group: list[Any] = []
    for batch, offset in stream:
        group.append(batch)
        if len(group) == size:
            yield group, offset
            group = []
    if group:
        yield group, offset


def averaged(value_and_grad: Gradient, squares: list[float] | None = None) -> Gradient:
    """Loss and gradients averaged over a list of batches, whose squared norms go to a list."""

    def mean(params: Any, group: list[Any]) -> tuple[float, Any]:
        total, spec = 0.0, cast(Any, None)
        sums: list[Any] = []
        if squares is not None:
            squares.clear()
        for batch in group:
            loss, grads = arrays.loss_and_grads(value_and_grad(params, batch))
            total += loss
            if squares is not None:
                squares.append(sum(map(arrays.sum_of_squares, arrays.flatten(grads)[0])))
            leaves, spec = optree.tree_flatten(grads, none_is_leaf=True)
            sums = [_add(a, b) for a, b in zip(sums, leaves, strict=True)] if sums else leaves
        share = 1 / len(group)
        means = [
            None if leaf is None else np.multiply(leaf, leaf.dtype.type(share)) for leaf in sums
        ]
        return total * share, optree.tree_unflatten(spec, means)

    return mean


def _add(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else np.add(a, b)


def _norm(nest: Any) -> float:
    return math.sqrt(sum(map(arrays.sum_of_squares, arrays.flatten(nest)[0])))


def _culprits(grads: Any) -> list[str]:
    """The first gradient that is not finite, if there is one."""
    leaves, paths, _ = arrays.flatten(grads)
    finite = (bool(np.isfinite(leaf).all()) for leaf in leaves)
    return [path for path, fine in zip(paths, finite, strict=True) if not fine][:1]

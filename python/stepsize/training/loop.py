"""The loop over epochs and steps of one run, and whatever may end it."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepsize import arrays
from stepsize.callbacks.checkpoint import Checkpoint
from stepsize.errors import NonFiniteGradientError
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.wrappers.gradients import pending
from stepsize.training.accumulation import Gradient, accumulated, grouped
from stepsize.training.batches import ArrayBatches, Count, begin_mean, end_mean
from stepsize.training.evaluation import Evaluation, EvaluationInterrupted, evaluation_params
from stepsize.training.interrupts import Interrupt
from stepsize.training.progress import Progress
from stepsize.training.ranks import Agreed, Ranks
from stepsize.training.run import Run
from stepsize.training.slopes import StepSlopes
from stepsize.training.stepping import rate_of, stepper_of
from stepsize.validation import counted

REBINDING = 100  # steps between two looks whether the parameters are the same arrays
WATCHED = 20  # first calls of a function that are watched for writes into the parameters, and
WATCHED_LATER = 97  # every how many after them: a prime meets what happens at each k-th call


@dataclass(frozen=True)
class Limits:
    """The ends of a run, in all: epochs and steps, infinite where none was given."""

    epochs: float = math.inf
    steps: float = math.inf


class FitLoop:
    """One run from where it stands to its end.

    Args:
        run: what is trained; ``run.accumulate`` batches make one step.
        value_and_grad: the function of one batch.
        limits: where the run ends.
        evaluation: what is measured on validation data, and when.
        checkpoints: those of the run's callbacks that save it.
        count: the rows of a batch.
        ranks: the part of several processes in the run, None for one.
    """

    def __init__(
        self,
        run: Run,
        value_and_grad: Gradient,
        limits: Limits,
        evaluation: Evaluation | None,
        checkpoints: Sequence[Checkpoint],
        count: Count,
        ranks: Ranks | None = None,
    ):
        self.run = run
        self.ranks = ranks
        self.limits = limits
        self.evaluation = evaluation
        run.validates = evaluation is not None
        self.every = None if evaluation is None else evaluation.every
        self.checkpoints = checkpoints
        counted = any(getattr(c, "needs_micro_squares", False) for c in run.callbacks)
        squares = run.micro_squares if counted else None
        several = run.accumulate > 1
        self.gradient = watched(value_and_grad, run.optimizer)
        if several:
            self.gradient = accumulated(self.gradient, run.optimizer, count, squares)
        if ranks is not None:
            self.gradient = ranks.averaged(self.gradient, several)
        self.count = count
        self.leaves = arrays.flatten(run.params)[0]
        self.strict = run.optimizer.internals.options.on_nonfinite == "raise"
        self.diverged = False
        self.exhausted = False
        self.signals = Interrupt(terminate=bool(checkpoints))
        self.interrupt: Interrupt | Agreed = self.signals
        if ranks is not None:
            ranks.signals, self.interrupt = self.signals, ranks.interrupt

    def execute(self, show: bool | None) -> None:
        """Run to the end, whatever the end is."""
        run = self.run
        first = run.step, run.epoch
        self.slopes = StepSlopes(run)
        self.progress = Progress(show, self.total(), run.step)
        try:
            with self.signals:
                with self.decided():
                    run.call("on_start")
                self.make_epochs()
                run.tick()
                if not run.epoch:
                    run.note_mean()
                if run.history.stopped is None:
                    run.history.stopped = self.reason()
                    warn_of_pending(run.optimizer, saved=bool(self.checkpoints))
                if first != (run.step, run.epoch) and not self.diverged:
                    for checkpoint in self.checkpoints:
                        checkpoint.save(run)
                self.evaluate_at_the_end()
        except BaseException as error:
            run.error = error
            if self.ranks is not None and isinstance(error, Exception):
                self.ranks.tell(error)
            if isinstance(error, Exception) and first != (run.step, run.epoch):
                self.rescue(error)
            raise
        finally:
            self.progress.close(run)
            try:
                run.end()
            finally:
                self.signals.deliver()

    def make_epochs(self) -> None:
        """Run epochs until something ends the run."""
        run = self.run
        try:
            while run.epoch < self.limits.epochs:
                if run.callbacks_due:
                    self.after_step()
                if not self.over():
                    begin_mean(self.count)
                    self.make_steps()
                if self.diverged or not self.epoch_is_complete():
                    return
                if not run.offset:
                    run.history.stopped = f"train ran out of batches after step {run.step}"
                    return
                self.end_epoch()
        except EvaluationInterrupted:
            return

    def make_steps(self) -> None:
        """Run steps to the end of the epoch, or to the end of the run if that comes first."""
        run, interrupt, steps, strict = self.run, self.interrupt, self.limits.steps, self.strict
        gradient, params, rate = self.gradient, run.params, rate_of(run.optimizer)
        step = stepper_of(run, gradient)
        append, after = run.history.append, run.hooks("on_step")
        before, every, show = run.hooks("on_gradients"), self.every, self.progress.on_step
        self.exhausted = False
        # The offset in arrays counts rows itself.
        known = isinstance(run.batches, ArrayBatches) and isinstance(self.count, arrays.RowCounter)
        stream, count = run.stream(), None if known else self.rows
        size, slopes, apart = run.accumulate, self.slopes, run.batches.apart
        stream = stream if size == 1 else grouped(stream, size, apart)
        for batch, offset in stream if self.ranks is None else self.ranks.stream(stream):
            run.batch = batch
            try:
                loss, run.grads = arrays.loss_and_grads(gradient(params, batch))
            except (TypeError, ValueError) as error:
                if run.step == 0 and run.batches.hint:
                    error.add_note(run.batches.hint)
                raise
            looking = run.step >= slopes.next
            if looking:
                slopes.gradient(run.grads)
            if before:
                self.before_step(before)
            lr = rate()
            try:
                if strict and not math.isfinite(loss):
                    raise NonFiniteGradientError
                stats = step(run.grads, loss=loss, stats=True)
            except NonFiniteGradientError:
                if self.diverge(loss, lr, offset):
                    continue
                return
            if looking:
                slopes.made()
            if stats.nonfinite:
                self.count_skipped()
            rows = offset - run.offset if count is None else count(batch)
            run.loss_sum += rows * loss
            run.row_count += rows
            run.step = made = run.step + 1
            run.offset = offset
            if made % REBINDING == 0 or made < 3:
                self.check_params()
            append(made, run.epoch, loss, lr, stats.grad_norm, stats.update_ratio, stats.param_norm)
            if (every is not None and run.step % every == 0) or (
                # Ranks hear of each other with the next gradients, if there are any.
                self.ranks is not None and (after or interrupt.pending or run.step >= steps)
            ):
                self.after_step()
            else:
                for hook in after:
                    hook(run)
            show(run)
            if run.finished or interrupt.pending or run.step >= steps:
                return
        self.exhausted = True

    def before_step(self, hooks: list[Callable[[Run], Any]]) -> None:
        """Run ``on_gradients``; what it changes must reach the step."""
        run = self.run
        own = getattr(run.optimizer, "needs_closure", False)
        kept = arrays.map_leaves(np.array, run.grads) if own else None
        with self.decided():
            for hook in hooks:
                hook(run)
        if own and not _same(kept, run.grads):
            rule = type(run.optimizer).__name__
            raise ValueError(
                f"a callback changed the gradients in on_gradients, but {rule} evaluates the "
                "function itself and does not see that: change value_and_grad instead"
            )

    def rows(self, batch: Any) -> float:
        """The rows of what one step was made of."""
        if self.ranks is not None:
            return self.ranks.rows
        return self.count(batch) if self.run.accumulate == 1 else sum(map(self.count, batch))

    def check_params(self) -> None:
        """Refuse parameters that were replaced by other arrays, which nothing here trains."""
        leaves, paths, _ = arrays.flatten(self.run.params)
        for leaf, path, trained in zip(leaves, paths, self.leaves, strict=False):
            if leaf is not trained:
                raise ValueError(
                    f"params: {path} was bound to another array while the run trained the one "
                    f"before; write into it, params[...] {path}[...] = ..., instead of replacing it"
                )

    def after_step(self) -> None:
        """What follows a step; if Ctrl-C cuts the evaluation off, a resumed run makes up for it."""
        run = self.run
        run.callbacks_due = True
        with self.decided():
            if self.every is not None and run.step % self.every == 0:
                self.evaluate()
            run.callbacks_due = False
            run.call("on_step")

    def decided(self) -> AbstractContextManager[None]:
        """A block of callbacks, after which all ranks go the same way."""
        return nullcontext() if self.ranks is None else self.ranks.together(self.run)

    def end_epoch(self) -> None:
        """What follows an epoch."""
        self.check_params()
        end_mean(self.count)
        self.run.refuse_apart()
        with self.decided():
            if self.every is None:
                self.evaluate()
            self.run.next_epoch()
            self.exhausted = False
            self.run.call("on_epoch")

    def evaluate(self) -> None:
        """Evaluate on the validation data, if there are any, and run the callbacks."""
        if self.evaluation is not None:
            with evaluation_params(self.run.optimizer):
                self.evaluation(self.run, self.interrupt)
                self.run.call("on_validation")

    def evaluate_at_the_end(self) -> None:
        """Evaluate where the run ended, if it never was; a resumed run does not see this."""
        run = self.run
        names = [name for name in run.history if name.startswith("val_")]
        measured = any(math.isfinite(run.history.at(name, -1)) for name in names)
        if self.evaluation and not (measured or self.diverged or self.interrupt.pending):
            with evaluation_params(run.optimizer):
                self.evaluation(run, self.interrupt)

    def over(self) -> bool:
        """Whether no further step is to be made."""
        run = self.run
        return (
            run.finished or self.diverged or self.interrupt.pending or run.step >= self.limits.steps
        )

    def epoch_is_complete(self) -> bool:
        """Whether no batch is left in this epoch, as far as is known without reading the data."""
        run = self.run
        if isinstance(run.batches, ArrayBatches):
            return run.batches.is_over(run.offset)
        return self.exhausted or run.offset == run.batches.steps_per_epoch()

    def reason(self) -> str:
        """Why the run ended, where no callback said so."""
        if self.interrupt.pending:
            how = "terminated by SIGTERM" if self.interrupt.terminated else "interrupted"
            return f"{how} after step {self.run.step}"
        made = counted(self.run.step, "step")
        if 0 < self.run.step <= self.run.history.meta.get("skipped", 0):
            return f"finished, but no gradient of {made} was finite, and all updates were skipped"
        if self.run.epoch >= self.limits.epochs:
            return f"finished {counted(self.run.epoch, 'epoch')}"
        return f"finished {made}"

    def count_skipped(self) -> None:
        """Count a step whose gradient was not finite, where the optimizer leaves such steps out."""
        if self.run.optimizer.internals.options.on_nonfinite == "skip":
            meta = self.run.history.meta
            meta["skipped"] = meta.get("skipped", 0) + 1

    def diverge(self, loss: float, lr: float, offset: int) -> bool:
        """Record a step that cannot be made, and end the run unless a callback recovers from it."""
        run, step = self.run, self.run.step + 1
        run.history.append(step, run.epoch, loss, lr)
        recovered = [hook(run) for hook in run.hooks("on_nonfinite")]
        if any(recovered):
            run.step, run.offset = step, offset
            return not self.over()
        held = arrays.path_not_finite(run.params)
        first = " before any step" if not run.optimizer.step_count else ""
        why = [] if held is None else [f"{held} holds NaN or infinity{first}"]
        why += [] if math.isfinite(loss) else [f"the loss is {loss}"]
        path = arrays.path_not_finite(run.grads)
        why += [] if path is None else [f"the gradient of {path} is not finite"]
        run.history.stopped = f"diverged at step {step} with lr {lr:.3g}: {', '.join(why)}"
        self.diverged = True
        return False

    def total(self) -> int | None:
        """How many steps the run will have made at its end, if that is known."""
        updates = self.updates_per_epoch()
        if updates is None or math.isinf(self.limits.epochs):
            return None if math.isinf(self.limits.steps) else int(self.limits.steps)
        return int(min(self.limits.steps, self.limits.epochs * updates))

    def updates_per_epoch(self) -> int | None:
        """How many steps of the optimizer an epoch has, if that is known."""
        batches = self.run.batches.steps_per_epoch()
        return None if batches is None else -(-batches // self.run.accumulate)

    def rescue(self, error: Exception) -> None:
        """Save what was reached before an error, and say so in the error."""
        for checkpoint in self.checkpoints:
            try:
                checkpoint.save(self.run)
            except Exception as failure:
                error.add_note(f"saving {checkpoint.path} failed: {failure}")
            else:
                error.add_note(
                    f"step {self.run.step} is saved in {checkpoint.path}; "
                    "resume=True continues from it"
                )


def watched(value_and_grad: Gradient, optimizer: Optimizer) -> Gradient:
    """The function, watched in some calls for writes into the parameters, in all for steps.

    It may change leaves that it gives no gradient for: they are its own state.
    """
    calls = itertools.count()
    called: Gradient = functools.partial(optimizer.internals.engine.evaluate, value_and_grad)

    def evaluate(params: Any, batch: Any) -> tuple[float, Any]:
        made = next(calls)
        try:
            if made < WATCHED or made % WATCHED_LATER == 0:
                return arrays.value_and_grad_of(called, params, batch, owner="fit", state=True)
            return called(params, batch)
        except (TypeError, ValueError) as error:
            arrays.refuse_writes(error, value_and_grad, params, batch, "fit", "value_and_grad")
            raise

    return evaluate


def warn_of_pending(optimizer: Optimizer, saved: bool) -> None:
    """Warn at the end of a run where `Accumulate` holds gradients that no update was made of."""
    held = [] if saved else pending(optimizer)
    if held:
        calls, every = held[0]
        warnings.warn(
            f"Accumulate holds the last {counted(calls, 'gradient')} of this run, of which no "
            f"update was made, since it waits for {every}: the next step adds to them; "
            "fit(accumulate=) makes an update of what is left at the end of an epoch",
            UserWarning,
            stacklevel=4,
        )


def _same(a: Any, b: Any) -> bool:
    """Whether two nests hold equal arrays."""
    (xs, ours, _), (ys, theirs, _) = arrays.flatten(a), arrays.flatten(b)
    pairs = zip(xs, ys, strict=False)
    return ours == theirs and all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)

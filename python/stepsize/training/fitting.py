"""fit: its arguments checked, a run made of them, and the loop."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from stepsize import arrays
from stepsize.callbacks.base import HOOKS, Callback
from stepsize.callbacks.checkpoint import Checkpoint
from stepsize.optimizers.optimizer import Optimizer
from stepsize.schedules import Schedule, check_run
from stepsize.training import resume as resuming
from stepsize.training.accumulation import Gradient
from stepsize.training.batches import batches
from stepsize.training.evaluation import Evaluate, Evaluation
from stepsize.training.history import History
from stepsize.training.loop import FitLoop, Limits
from stepsize.training.run import Run
from stepsize.validation import whole


def fit(
    value_and_grad: Gradient,
    params: Any,
    optimizer: Optimizer,
    train: Any,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 32,
    validation: Any = None,
    evaluate: Evaluate | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int | None = 0,
    progress: bool | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    resume: bool = False,
    accumulate: int = 1,
    validate_every: int | None = None,
) -> History:
    """Train parameters in place and return the history of the run.

    The run ends after ``epochs`` or ``steps`` in all, whichever comes first, when a callback stops
    it, or at Ctrl-C; ``history.stopped`` says why. A loss or gradient that is not finite ends it
    too, before the parameters are updated, and the last row of the history is then that of the
    step not made. With ``on_nonfinite="skip"`` or ``"ignore"`` in the optimizer it does not.

    The first Ctrl-C ends the run at the next step boundary and `fit` returns as usual; a second one
    raises ``KeyboardInterrupt`` at once. An exception anywhere leaves parameters and optimizer as
    the last whole step left them, saves the checkpoint if there is one, and is raised with a note
    that says where.

    After each step: validation if due, then the callbacks in the order given, then checkpoints. A
    resumed run continues bit for bit: parameters, optimizer, callbacks, the order of the data, the
    global random generators of Python and NumPy, and the history. It needs the same arguments as
    before; only ``epochs`` and ``steps`` may grow.

    Args:
        value_and_grad: ``(params, batch) -> (loss, grads)``, the loss a mean over the batch.
        params: the nest of arrays that ``optimizer`` updates.
        optimizer: one that takes a function, as L-BFGS does, gets that of each batch; give it all
            data in one batch.
        train: a tuple of arrays, cut along the first axis into batches (tuples), or an iterable of
            batches, or a callable that returns one for each epoch.
        validation: like ``train``; never shuffled. An optimizer that keeps an average of the
            parameters, as schedule-free ones do, is evaluated at the average.
        evaluate: ``(params, batch) -> {name: value}``, recorded as ``val_`` + name, means weighted
            by batch size. Without it ``val_loss`` is the loss of ``value_and_grad``.
        seed: shuffles the arrays in ``train``; the order of an epoch depends on seed and epoch
            only. None keeps their order.
        progress: None shows a bar in terminals and notebooks and, if the run takes long, lines
            elsewhere; True always shows one of them; False is silent.
        checkpoint: a path, written after each epoch and at the end, or an `ss.Checkpoint`.
        resume: continue from ``checkpoint`` if it exists, else start.
        accumulate: gradient accumulation: average the gradients of so many batches for one step.
        validate_every: validate after every so many steps; None validates after each epoch.

    Warns:
        ScheduleWarning: the run ends before the warm-up or the decay of the rate does.

    Raises:
        ValueError, TypeError: an argument is unusable; nothing has been trained.
        CheckpointError: the file to resume from is damaged or belongs to another run.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.linspace(-1, 1, 64)[:, None]
        >>> params = {"w": np.zeros(1)}
        >>> def value_and_grad(params, batch):
        ...     x, y = batch
        ...     error = x @ params["w"] - y
        ...     return np.mean(error**2), {"w": 2 * x.T @ error / len(y)}
        >>> opt = ss.SGD(params, lr=0.5)
        >>> history = ss.fit(value_and_grad, params, opt, (x, 3 * x[:, 0]), epochs=20)
        >>> history.stopped, bool(abs(params["w"][0] - 3) < 1e-3)
        ('finished 20 epochs', True)
    """
    _check(params, optimizer, epochs, steps)
    epochs = epochs if epochs is None else whole("epochs", epochs)
    steps = steps if steps is None else whole("steps", steps)
    seed = seed if seed is None else whole("seed", seed, 0)
    source = batches(train, batch_size, seed)
    if getattr(source, "once", False) and (epochs or 1) > 1:
        raise ValueError(
            f"train is an iterator, it can be read once and not for epochs={epochs}: "
            "give a list, or a callable that returns a fresh iterator"
        )
    evaluation = _evaluation(value_and_grad, validation, batch_size, evaluate, validate_every)
    callbacks, checkpoints = _split(callbacks, checkpoint)
    accumulate = whole("accumulate", accumulate)
    run = Run(params, optimizer, source, [*callbacks, *checkpoints], seed, accumulate)
    limits = Limits(epochs or math.inf, steps or math.inf)
    loop = FitLoop(run, value_and_grad, limits, evaluation, checkpoints)
    run.history.meta = run.describe()
    if resume:
        if not checkpoints:
            raise ValueError("resume=True needs checkpoint=..., the file to continue from")
        if os.path.exists(checkpoints[0].path):
            resuming.load(run, checkpoints[0].path)
    _check_schedules(optimizer, loop.total(), run.step)
    loop.execute(progress)
    return run.history


def _evaluation(
    value_and_grad: Gradient,
    validation: Any,
    batch_size: int,
    evaluate: Evaluate | None,
    every: int | None,
) -> Evaluation | None:
    """What is measured on the validation data; without these there is nothing to measure."""
    if validation is None:
        if every is not None:
            raise ValueError(
                f"validate_every={every!r} needs validation=..., the data to validate on"
            )
        return None
    held_out = batches(validation, batch_size, None, "validation")
    if getattr(held_out, "once", False):
        raise ValueError("validation is an iterator, it can be read once: give a list")
    every = every if every is None else whole("validate_every", every)
    return Evaluation(held_out, evaluate or _loss_of(value_and_grad), every)


def _check_schedules(optimizer: Optimizer, total: int | None, done: int) -> None:
    """Warn where a schedule of the rate does not fit the run."""
    if total is None or total <= done:
        return
    steps = optimizer.step_count + total - done
    for rate in {
        id(table["lr"]): table["lr"] for table in optimizer.internals.groups.tables
    }.values():
        if isinstance(rate, Schedule):
            check_run(rate, steps)


def _check(
    params: Any,
    optimizer: Optimizer,
    epochs: int | None,
    steps: int | None,
) -> None:
    if isinstance(optimizer, type):
        name = optimizer.__name__
        raise TypeError(f"optimizer is the class {name}, give an instance: {name}(params, lr=...)")
    if epochs is None and steps is None:
        raise ValueError("give epochs=... or steps=..., or both")
    ours, paths, _ = arrays.flatten(params)
    theirs = {id(leaf) for leaf in arrays.flatten(optimizer.params)[0]}
    for leaf, path in zip(ours, paths, strict=True):
        if id(leaf) not in theirs:
            raise ValueError(
                f"params: the array {path} is not one that the optimizer updates: "
                "give the same nest to the optimizer and to fit"
            )


def _split(
    callbacks: Sequence[Callback], checkpoint: Any
) -> tuple[list[Callback], list[Checkpoint]]:
    """Checkpoints apart: they come last, so that they hold what the others made of the step."""
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"callbacks must be a list of them, got {callbacks!r}")
    for i, callback in enumerate(callbacks):
        if isinstance(callback, type):
            name = callback.__name__
            raise TypeError(f"callbacks[{i}] is the class {name}, give an instance: {name}(...)")
        if not any(hasattr(callback, name) for name in (*HOOKS, "state_dict")):
            raise TypeError(
                f"callbacks[{i}] must have a method of {', '.join(HOOKS)}, got {callback!r}"
            )
    given = [c for c in callbacks if isinstance(c, Checkpoint)]
    if checkpoint is not None:
        given.append(checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint))
    return [c for c in callbacks if not isinstance(c, Checkpoint)], given


def _loss_of(value_and_grad: Gradient) -> Evaluate:
    return lambda params, batch: {"loss": float(value_and_grad(params, batch)[0])}

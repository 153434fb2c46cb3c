"""The training loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from stepsize import arrays
from stepsize.callbacks.base import Checkpoint
from stepsize.optimizers.optimizer import Optimizer
from stepsize.schedules import Schedule, check_run
from stepsize.training.batches import batches
from stepsize.training.history import History
from stepsize.training.loop import Evaluate, Loop, Validation
from stepsize.training.run import HOOKS, Run
from stepsize.validation import whole


def fit(
    value_and_grad: Callable[[Any, Any], tuple[float, Any]],
    params: Any,
    optimizer: Optimizer,
    train: Any,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 32,
    validation: Any = None,
    evaluate: Evaluate | None = None,
    callbacks: Sequence[Any] = (),
    seed: int | None = 0,
    progress: bool | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    resume: bool = False,
    accumulate: int = 1,
    validate_every: int | None = None,
) -> History:
    """Train parameters in place and tell what happened.

    The run ends after ``epochs`` or ``steps`` in all, whichever comes first, when a callback stops
    it, or at Ctrl-C; ``history.stopped`` says why. A loss or gradient that is not finite ends it
    too, before the parameters are touched, and the history then ends with a row for the step that
    was not made. With ``on_nonfinite="skip"`` or ``"ignore"`` in the optimizer it does not.

    The first Ctrl-C ends the run at the next step boundary and `fit` returns as always; a second
    one raises ``KeyboardInterrupt`` on the spot. An exception anywhere leaves parameters and
    optimizer as the last whole step left them, saves the checkpoint if there is one, and goes on
    its way with a note that says where.

    After each step: validation if it is due, then the callbacks in the order given, then
    checkpoints. A resumed run continues bit for bit: parameters, optimizer, callbacks, the order of
    the data, the global random generators of Python and NumPy, and the history. It needs the same
    arguments as before; only ``epochs`` and ``steps`` may grow.

    Args:
        value_and_grad: ``(params, batch) -> (loss, grads)``, the loss a mean over the batch.
        params: the nest of arrays that ``optimizer`` updates.
        optimizer: one that takes a function, as L-BFGS does, steps on each batch with it; give it
            all data in one.
        train: a tuple of arrays, cut along the first axis into batches (tuples), or an iterable of
            batches, or a callable that returns one for each epoch.
        validation: like ``train``; never shuffled. An optimizer that answers with an average, such
            as a schedule-free one, is measured there.
        evaluate: ``(params, batch) -> {name: value}``, recorded as ``val_`` + name, means weighted
            by batch size. Without it ``val_loss`` is the loss of ``value_and_grad``.
        seed: orders the arrays in ``train``; the order of an epoch depends on seed and epoch
            alone. None keeps them as they are.
        progress: None shows a bar in terminals and notebooks and, if the run takes long, lines
            elsewhere; True insists; False is silent.
        checkpoint: a path, written after each epoch and at the end, or an `ss.Checkpoint`.
        resume: go on from ``checkpoint`` if it exists, else start.
        accumulate: average the gradients of so many batches for one step.
        validate_every: validate after so many steps; None validates after each epoch.

    Warns:
        ScheduleWarning: where the run ends before the warm-up or the decay of the rate does.

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
    callbacks = _ordered(callbacks, checkpoint)
    run = Run(params, optimizer, source, callbacks, seed)
    loop = Loop(run, value_and_grad, epochs, steps, whole("accumulate", accumulate))
    if validate_every is not None:
        validate_every = whole("validate_every", validate_every)
    if validation is not None:
        held = batches(validation, batch_size, None, "validation")
        if getattr(held, "once", False):
            raise ValueError("validation is an iterator, it can be read once: give a list")
        loop.validation = Validation(held, evaluate or _loss_of(value_and_grad))
        loop.validate_every = validate_every
    run.history.meta = run.describe()
    if resume:
        _resume(run)
    _check_schedules(optimizer, loop.total(), run.step)
    loop.execute(progress)
    return run.history


def _check_schedules(optimizer: Optimizer, total: int | None, done: int) -> None:
    """Warn where a schedule of the rate does not fit the run."""
    if total is None or total <= done:
        return
    steps = optimizer.step_count + total - done
    for rate in {id(table["lr"]): table["lr"] for table in optimizer._tables}.values():
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


def _ordered(callbacks: Sequence[Any], checkpoint: Any) -> list[Any]:
    """Checkpoints come last, so that they hold what the others made of the step."""
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
    given = list(callbacks)
    if checkpoint is not None:
        given.append(checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint))
    return sorted(given, key=lambda callback: isinstance(callback, Checkpoint))


def _resume(run: Run) -> None:
    keeper = next((c for c in run.callbacks if isinstance(c, Checkpoint)), None)
    if keeper is None:
        raise ValueError("resume=True needs checkpoint=..., the file to go on from")
    if os.path.exists(keeper.path):
        run.load(keeper.path)


def _loss_of(value_and_grad: Callable[[Any, Any], tuple[float, Any]]) -> Evaluate:
    return lambda params, batch: {"loss": float(value_and_grad(params, batch)[0])}

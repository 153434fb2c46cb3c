"""fit: its arguments checked, a run made of them, and the loop."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NoReturn

import numpy as np

from stepsize.arrays import check_function
from stepsize.callbacks.base import Callback
from stepsize.callbacks.checkpoint import Checkpoint
from stepsize.names import closed, refuse_unknown
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.transaction import alone
from stepsize.training import arguments
from stepsize.training import resume as resuming
from stepsize.training.accumulation import Gradient
from stepsize.training.batches import Count, count_for
from stepsize.training.doubts import (
    kept_start,
    look_for_unsound_data,
    look_for_wrong_gradients,
)
from stepsize.training.evaluation import Evaluate
from stepsize.training.given import given
from stepsize.training.history import History
from stepsize.training.loop import FitLoop, Limits
from stepsize.training.ranks import ranks_of
from stepsize.training.run import Run
from stepsize.validation import owned, truth, truth_or_none, whole


@closed
def fit(
    value_and_grad: Gradient,
    params: Any,
    optimizer: Optimizer | str,
    train: Any,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 32,
    validation: Any = None,
    evaluate: Evaluate | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int | np.random.Generator | None = 0,
    progress: bool | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    resume: bool = False,
    accumulate: int = 1,
    validate_every: int | None = None,
    count: Count | None = None,
    drop_last: bool = False,
    comm: Any = None,
    **unknown: NoReturn,
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
    global random generators of Python and NumPy, and the history. ``epochs`` and ``steps`` are
    totals, and may grow. Hyperparameters, ``batch_size`` and ``accumulate`` that are given
    otherwise than when the run was started are used from there on, and a warning says so; another
    rule, seed, size of the data or list of callbacks is refused.

    SIGTERM, which schedulers of clusters send before they kill, ends a run that has a checkpoint
    at the next step boundary, saves it, and is then delivered again; a handler of yours is left
    alone.

    Args:
        value_and_grad: ``(params, batch) -> (loss, grads)``, the loss a mean over the batch.
        params: the nest of arrays that ``optimizer`` updates.
        optimizer: or the name of a rule, "adamw", at its default rate. One that takes a function,
            as L-BFGS does, gets that of each batch; give it all data in one batch.
        train: a tuple of arrays, cut along the first axis into batches (tuples), or an iterable of
            batches, or a callable that returns one for each epoch. A list of numbers beside an
            array in the tuple becomes an array. Batches in the arrays' own order are read-only.
        validation: like ``train``; never shuffled. An optimizer that keeps an average of the
            parameters, as schedule-free ones do, is evaluated at the average.
        evaluate: ``(params, batch) -> {name: value}``, recorded as ``val_`` + name, means weighted
            by batch size: right for a loss or an accuracy, not for R squared, AUC or F1, which ask
            for all rows in one batch. Without it ``val_loss`` is the loss of ``value_and_grad``.
        batch_size: rows per batch of the arrays in ``train`` and ``validation``.
        seed: shuffles the arrays in ``train``; the order of an epoch depends on seed and epoch
            only, so that another call repeats it. A NumPy Generator draws a new seed at each call;
            None keeps the order of the arrays.
        progress: None shows a bar in terminals and notebooks and, if the run takes long, lines
            elsewhere; True always shows one of them; False is silent.
        checkpoint: a path, written after each epoch and at the end, or an `ss.Checkpoint`.
        resume: continue from ``checkpoint`` if it exists, else start.
        accumulate: gradient accumulation: average the gradients of so many batches, each weighted
            by its rows, for one step.
        validate_every: validate after every so many steps; None validates after each epoch.
        count: ``batch -> rows``, by which means over batches are weighted. None counts the first
            axis of the first array in a batch, else the length of a list or of an object, else 1.
        drop_last: leave out the last batch of an epoch where it is smaller than ``batch_size``.
        comm: the ranks of a run on several processes: a communicator of mpi4py, or one of a
            ``LocalComm``; None stands for that of the optimizer, if it has one. All ranks call
            `fit` alike. Each takes its share of the rows of every batch where ``train`` is a tuple
            of arrays; an iterable gives each rank its own batches. Loss and gradients are means
            over all rows, decisions and history the same on all ranks, and rank 0 writes the files.

    Warns:
        ScheduleWarning: the run ends before the warm-up or the decay of the rate does.
        ResumeWarning: a resumed run uses other arguments or data than it was started with, or
            cannot, because no step is left.
        UserWarning: batches of a mean have no sure number of rows, or `Accumulate` holds gradients
            at the end.

    Raises:
        ValueError, TypeError: an argument is unusable; nothing has been trained.
        CheckpointError: the file to resume from is damaged or belongs to another run.
        RuntimeError: another thread is at work with this optimizer, or `fit` was called by a
            function that a run or step of this optimizer evaluates; nothing has been trained.

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
    refuse_unknown(fit, unknown)
    with owned("fit"):
        optimizer = arguments.optimizer_of(optimizer, params)
    team = arguments.team_of_run(comm, optimizer)
    with nullcontext() if team is None else team.together("fit: arguments"), owned("fit"):
        check_function("fit", value_and_grad)
        epochs, steps = arguments.ends_of(epochs, steps)
        seed, rows = arguments.seed_of(seed, resume, team), arguments.count_of(count)
        source = arguments.source_of(train, batch_size, seed, drop_last, epochs)
        evaluation = arguments.evaluation_of(
            value_and_grad, validation, batch_size, evaluate, rows, validate_every
        )
        others, checkpoints = arguments.callbacks_of(callbacks, checkpoint)
        arguments.check_directions([*others, *checkpoints], optimizer)
        if truth("resume", resume) and not checkpoints:
            raise ValueError("resume=True needs checkpoint=..., the file to continue from")
        accumulate, progress = whole("accumulate", accumulate), truth_or_none("progress", progress)
        run = Run(params, optimizer, source, [*others, *checkpoints], seed, accumulate, team)
        run.evaluation = evaluation
    limits = Limits(epochs or math.inf, steps or math.inf)
    counted = count_for(rows, "train")
    ranks = None if team is None else ranks_of(team, run, limits, counted, evaluation)
    loop = FitLoop(run, value_and_grad, limits, evaluation, checkpoints, counted, ranks)
    run.history.meta = run.describe()
    if checkpoints:
        functions = {"value_and_grad": value_and_grad, "train": train}
        run.given = given(run, functions | {"evaluate": evaluate, "count": count})
    with alone("fit", optimizer, idle=False):
        if resume and run.on_first("fit: resume", lambda: os.path.exists(checkpoints[0].path)):
            resuming.load(run, checkpoints[0].path, limits.epochs, limits.steps)
        arguments.check_length(optimizer, loop.total(), run.step, loop.updates_per_epoch())
        start = kept_start(params)
        loop.execute(progress if run.writes else False)
        if loop.diverged and team is None:
            look_for_unsound_data(run, value_and_grad)
        look_for_wrong_gradients(run, value_and_grad, start)
    return run.history

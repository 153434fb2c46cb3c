"""Everything about the rate in one call: found, scheduled, watched, corrected, reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from typing import Any, NoReturn

from stepsize.arrays import Nest, ValueAndGrad, check_function, copy
from stepsize.automatic.branching import looking
from stepsize.automatic.guard import Guard
from stepsize.automatic.plans import plan_of
from stepsize.automatic.rehearsal import length_of, rehearse
from stepsize.automatic.results import AutoResult
from stepsize.diagnosis import diagnose
from stepsize.finder.find import lr_find
from stepsize.finder.results import LRFindResult
from stepsize.finder.trials import ticker
from stepsize.names import closed, refuse_unknown
from stepsize.optimizers import AdamW
from stepsize.optimizers.registration import maker_of
from stepsize.optimizers.scheduled import in_shares, shares_of
from stepsize.schedules import Schedule
from stepsize.training.arguments import callbacks_of, seed_of
from stepsize.training.batches import ArrayBatches, StreamBatches
from stepsize.training.batches import batches as batches_of
from stepsize.training.fitting import fit
from stepsize.validation import owned, truth_or_none, whole


@closed
def autolr(
    value_and_grad: Callable[[Any, Any], tuple[float, Any]],
    params: Any,
    train: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    optimizer: str | Callable[[Any], Any] = AdamW,
    batch_size: int = 32,
    validation: Any = None,
    evaluate: Callable[[Any, Any], dict[str, float]] | None = None,
    callbacks: Sequence[Any] = (),
    rehearsals: int = 4,
    schedule: str | Schedule = "linear",
    seed: int = 0,
    progress: bool | None = None,
    **unknown: NoReturn,
) -> AutoResult:
    """Train with nothing but a budget given: find the rate, schedule it, watch it, correct it.

    A hundred gradients find the rate (`lr_find`). The schedule warms up over a twentieth of the run
    and falls to 0 along a line; rehearsals run all of it in half the steps, on copies and at
    peaks half a decade apart, to find how high its peak should be. A guard watches the run and
    corrects it; each correction is in `actions`. The budget is `steps`, or `epochs` of data whose
    length is known.

    This costs gradients besides the budget: a hundred, and up to ``rehearsals`` times half of the
    budget, at most 1000 steps each (usually three or four of them). A correction that raises the
    rate looks at branches first, for a twentieth of the budget or 31 gradients.

    Args:
        value_and_grad, params, train, batch_size, validation, evaluate, callbacks, seed, progress:
            as in `fit`; ``train`` must be readable more than once.
        steps, epochs: the budget, whichever ends first.
        optimizer: a class, its name, or a function ``params -> optimizer``.
        rehearsals: how many there may be; 0 trusts `lr_find` alone.
        schedule: what follows the warm-up: "linear" or "cosine", down to 0, or "cooldown", which
            stays at the peak for more than half of the run. Or a schedule, whose shape is stretched
            over the run at the peak found: ``ss.schedules.refined(history)`` of a first training.

    Raises:
        TypeError, ValueError: an argument does not fit, by name; no budget or one below 2 steps; no
            rate makes the loss fall; a rule that needs a constant rate (FTRL).

    Source: linear decay, Defazio et al. 2023, arXiv:2310.07831; "cooldown", Hägele et al. 2024,
    arXiv:2405.18392. How they compare is in bench/advice.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.linspace(-1, 1, 64)[:, None]
        >>> params = {"w": np.zeros(1)}
        >>> def value_and_grad(params, batch):
        ...     x, y = batch
        ...     error = x @ params["w"] - y
        ...     return np.mean(error**2), {"w": 2 * x.T @ error / len(y)}
        >>> result = ss.autolr(value_and_grad, params, (x, 3 * x[:, 0]), steps=200)
        >>> bool(abs(params["w"][0] - 3) < 0.1)
        True
    """
    refuse_unknown(autolr, unknown)
    build = _checked(value_and_grad, optimizer, validation, evaluate)
    with owned("autolr"):
        callbacks_of(callbacks, None)
        truth_or_none("progress", progress)
        source = _readable_again(batches_of(train, batch_size, seed_of(seed, False)))
        if validation is not None:
            batches_of(validation, batch_size, None, "validation")
    rehearsals = whole("autolr: rehearsals", rehearsals, 0)
    total = _budget(steps, epochs, source.steps_per_epoch())
    plan = plan_of(schedule, total)
    _refuse_steady(build(copy(params)))
    found = _found(value_and_grad, params, source, build, progress)
    tick, bar = ticker(progress, rehearsals * length_of(total), "rehearsals")
    with nullcontext() if bar is None else closing(bar):
        peak, rehearsed = rehearse(
            value_and_grad, params, source, build, plan, found.peak, total, rehearsals, tick
        )
    made = build(params)
    shares = shares_of(made.lr)
    rate = plan(peak, total)
    made.lr = in_shares(rate, shares)
    look = looking(value_and_grad, source, total)
    guard = Guard(total, rate, float(found.losses[:3].mean()), look, shares)
    history = fit(
        value_and_grad,
        params,
        made,
        train,
        steps=total,
        batch_size=batch_size,
        validation=validation,
        evaluate=evaluate,
        callbacks=(*callbacks, guard),
        seed=seed,
        progress=progress,
    )
    actions, said = tuple(guard.actions), diagnose(history)
    return AutoResult(history, made, rate, found, actions, said, rehearsed, guard.gradients)


def _found(
    value_and_grad: ValueAndGrad,
    params: Nest,
    source: ArrayBatches | StreamBatches,
    build: Any,
    progress: bool | None,
) -> LRFindResult:
    """What `lr_find` says of the first epoch; ValueError where that is no rate."""
    try:
        found = lr_find(
            value_and_grad,
            params,
            lambda: (batch for batch, _ in source.epoch(0, 0)),
            optimizer=build,
            progress=progress,
        )
    except Exception as error:
        if hint := getattr(source, "hint", None):
            error.add_note(hint)
        raise
    if not found.usable:
        raise ValueError(f"autolr: no usable rate, because {found.why}")
    return found


def _refuse_steady(optimizer: Any) -> None:
    if getattr(optimizer, "steady_lr", False):
        raise ValueError(
            f"autolr: under the changing rate of its schedule {type(optimizer).__name__} would "
            "lose what it learnt; find a rate with lr_find and train at it with fit"
        )


def _checked(value_and_grad: Any, optimizer: Any, validation: Any, evaluate: Any) -> Any:
    """Refuse what `fit` or `lr_find` would refuse later; the function that makes the optimizer."""
    check_function("autolr", value_and_grad)
    if evaluate is not None and validation is None:
        raise ValueError("autolr: evaluate=... is for validation data; give validation=... too")
    build = maker_of(optimizer, "autolr")
    if not callable(build):
        raise TypeError(
            "autolr: optimizer must be an optimizer class, its name, or a function params -> "
            f"optimizer, got {type(build).__name__}"
        )
    return build


def _readable_again(source: ArrayBatches | StreamBatches) -> ArrayBatches | StreamBatches:
    if getattr(source, "once", False):
        raise ValueError("autolr: train is read more than once; give arrays, a list or a callable")
    return source


def _budget(steps: int | None, epochs: int | None, per_epoch: int | None) -> int:
    """The number of steps of the run."""
    steps = steps if steps is None else whole("autolr: steps", steps, 0)
    if epochs is not None:
        epochs = whole("autolr: epochs", epochs)
        if per_epoch is not None:
            steps = min(steps or epochs * per_epoch, epochs * per_epoch)
        elif steps is not None:
            raise ValueError("autolr: the epochs of this data have no known length; give steps")
    if steps is None:
        raise ValueError("autolr: give steps, or epochs of data whose length is known")
    if steps < 2:
        raise ValueError(f"autolr: the budget must be at least 2 steps, got {steps}")
    return steps

"""The arguments of fit: each is checked by its name before anything is trained."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

import numpy as np

from stepsize import arrays
from stepsize.callbacks.base import HOOKS, Callback
from stepsize.callbacks.checkpoint import Checkpoint
from stepsize.collectives import Team, team_of
from stepsize.optimizers import EMA
from stepsize.optimizers.ascent import refuse_ascent
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.registration import find_rule
from stepsize.optimizers.wrappers.gradients import per_step
from stepsize.schedules import Schedule, check_run
from stepsize.training import batches
from stepsize.training.accumulation import Gradient
from stepsize.training.evaluation import Evaluate, Evaluation
from stepsize.validation import whole


def optimizer_of(optimizer: Any, params: Any) -> Optimizer:
    """The optimizer, checked to update these parameters; a name makes one at its default rate."""
    if isinstance(optimizer, str):
        return find_rule(optimizer, "fit", "optimizer")(params)
    if isinstance(optimizer, type):
        name = optimizer.__name__
        raise TypeError(f"optimizer is the class {name}, give an instance: {name}(params, lr=...)")
    if not all(hasattr(optimizer, name) for name in ("step", "params", "internals")):
        raise TypeError(
            "optimizer must be an optimizer, such as ss.AdamW(params, lr=1e-3), or the name of a "
            f"rule, such as 'adamw', got {optimizer!r:.80}; a rule of your own derives from "
            "ss.optimizers.Optimizer"
        )
    if callable(params):
        raise TypeError(
            "params is a function and comes second: "
            "fit(value_and_grad, params, optimizer, train, ...)"
        )
    leaves, paths, _ = arrays.flatten(params)
    updated = {id(leaf) for leaf in arrays.flatten(optimizer.params)[0]}
    for leaf, path in zip(leaves, paths, strict=True):
        if id(leaf) not in updated:
            raise ValueError(
                f"params: the array {path} is not one that the optimizer updates: "
                "give the same nest to the optimizer and to fit"
            )
    if not leaves:
        raise ValueError(f"params must hold at least one array, got {params!r:.80}")
    return optimizer  # type: ignore[no-any-return]


LONGEST = 2**53  # counts up to here are exact in double precision


def ends_of(epochs: Any, steps: Any) -> tuple[int | None, int | None]:
    """How long the run is."""
    if epochs is None and steps is None:
        raise ValueError("give epochs=... or steps=..., or both")
    return (
        None if epochs is None else whole("epochs", epochs, most=LONGEST),
        None if steps is None else whole("steps", steps, most=LONGEST),
    )


def team_of_run(comm: Any, optimizer: Any) -> Team | None:
    """The ranks of a run: those given, else those of the optimizer; None for one process."""
    known = getattr(optimizer, "comm", None)
    if comm is None:
        return known if isinstance(known, Team) else None
    team = team_of("fit", comm)
    if isinstance(known, Team) and (known.rank, known.size) != (team.rank, team.size):
        raise ValueError(
            f"fit: comm has rank {team.rank} of {team.size} here, and that of the optimizer rank "
            f"{known.rank} of {known.size}; leave comm out, or give the same"
        )
    return team


def seed_of(seed: Any, resume: bool, team: Team | None = None) -> int | None:
    """The seed; a generator draws one, on rank 0 for all ranks."""
    own = _seed_of(seed, resume)
    found: int | None = own if team is None else team.meet("fit: seed", own)[0]
    return found


def _seed_of(seed: Any, resume: bool) -> int | None:
    if not isinstance(seed, np.random.Generator):
        return None if seed is None else whole("seed", seed, 0)
    if resume:
        raise ValueError(
            "seed: a Generator draws another seed at each call, and a resumed run needs the same: "
            "give a whole number"
        )
    return int(seed.integers(2**63))


def count_of(count: Any) -> batches.Count | None:
    """The function that counts the rows of a batch, its answers checked; None where not given."""
    if count is None:
        return None
    arrays.check_function("fit", count, "count", "number of rows", "(batch)")

    def rows(batch: Any) -> float:
        found = count(batch)
        if isinstance(found, bool) or not isinstance(found, int | float | np.number):
            raise TypeError(
                f"count must return the number of rows of a batch, it returned {found!r:.80}"
            )
        if not 0 < found < math.inf:
            raise ValueError(f"count must return rows above 0, it returned {found!r:.80}")
        return float(found)

    return rows


def source_of(
    data: Any, batch_size: int, seed: int | None, drop_last: Any, epochs: int | None
) -> batches.Batches:
    """The training data."""
    if drop_last is not True and drop_last is not False:
        raise TypeError(f"drop_last must be True or False, got {drop_last!r:.80}")
    source = batches.batches(data, batch_size, seed, drop_last=drop_last)
    if getattr(source, "once", False) and (epochs or 1) > 1:
        raise ValueError(
            f"train is an iterator, it can be read once and not for epochs={epochs}: "
            "give a list, or a callable that returns a fresh iterator"
        )
    return source


def evaluation_of(
    value_and_grad: Gradient,
    validation: Any,
    batch_size: int,
    evaluate: Evaluate | None,
    count: batches.Count | None,
    every: int | None,
) -> Evaluation | None:
    """What is measured on the validation data; without these there is nothing to measure."""
    if evaluate is not None:
        arrays.check_function("fit", evaluate, "evaluate", "measurements by name")
    if validation is None:
        for name, given in (("validate_every", every), ("evaluate", evaluate)):
            if given is not None:
                raise ValueError(
                    f"{name}={given!r:.80} needs validation=..., the data to validate on"
                )
        return None
    held_out = batches.batches(validation, batch_size, None, "validation")
    if getattr(held_out, "once", False):
        raise ValueError("validation is an iterator, it can be read once: give a list")
    every = every if every is None else whole("validate_every", every)

    def loss(params: Any, batch: Any) -> dict[str, float]:
        return {"loss": arrays.loss_and_grads(value_and_grad(params, batch))[0]}

    rows = batches.count_for(count, "validation")
    return Evaluation(held_out, evaluate or loss, rows, every, evaluate is not None)


def callbacks_of(callbacks: Any, checkpoint: Any) -> tuple[list[Callback], list[Checkpoint]]:
    """Checkpoints apart: they come last, so that they hold what the others made of the step."""
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"callbacks must be a list of them, got {callbacks!r:.80}")
    for i, callback in enumerate(callbacks):
        if isinstance(callback, type):
            name = callback.__name__
            raise TypeError(f"callbacks[{i}] is the class {name}, give an instance: {name}(...)")
        if not any(hasattr(callback, name) for name in (*HOOKS, "state_dict")):
            raise TypeError(
                f"callbacks[{i}] must have a method of {', '.join(HOOKS)}, got {callback!r:.80}"
            )
    given = [c for c in callbacks if isinstance(c, Checkpoint)]
    if isinstance(checkpoint, Checkpoint):
        given.append(checkpoint)
    elif isinstance(checkpoint, str | os.PathLike):
        given.append(Checkpoint(checkpoint))
    elif checkpoint is not None:
        raise TypeError(f"checkpoint must be a path or an ss.Checkpoint, got {checkpoint!r:.80}")
    return [c for c in callbacks if not isinstance(c, Checkpoint)], given


def check_directions(callbacks: list[Any], optimizer: Optimizer) -> None:
    """Refuse what takes a falling loss for the better one beside an optimizer that climbs."""
    for callback in callbacks:
        if getattr(callback, "expects_descent", False):
            also = ", or give mode='max'" if hasattr(callback, "mode") else ""
            refuse_ascent(type(callback).__name__, optimizer, also)


def check_length(optimizer: Optimizer, total: int | None, done: int, per_epoch: int | None) -> None:
    """Warn where a schedule of the rate, or an average of the parameters, does not fit the run."""
    if total is None or total <= done:
        return
    calls = per_step(optimizer)  # which schedules and averages do not see
    if total - done < calls:
        warnings.warn(
            f"Accumulate makes an update of every {calls} batches and this run has "
            f"{total - done}: no update will be made; give every=1, or more epochs",
            UserWarning,
            stacklevel=3,
        )
    steps = max(1, optimizer.step_count + (total - done) // calls)
    per_epoch = None if per_epoch is None else max(1, per_epoch // calls)
    for rate in {
        id(table["lr"]): table["lr"] for table in optimizer.internals.groups.tables
    }.values():
        if isinstance(rate, Schedule):
            check_run(rate, steps, steps_per_epoch=per_epoch)
    wrapper: Any = optimizer
    while wrapper is not None:
        share = 1 - float(wrapper.decay) if isinstance(wrapper, EMA) else 1.0
        if share * steps < 1 and not wrapper.warmup:
            decay = max(0.5, 1 - 10 / steps)
            over = f"{1 / share:.0f}" if share else "infinitely many"
            warnings.warn(
                f"EMA(decay={wrapper.decay:g}) averages over about {over} "
                f"steps and this run has {steps}: the average stays near the initial parameters; "
                f"give decay={decay:.3g} or warmup=True",
                UserWarning,
                stacklevel=3,
            )
        wrapper = vars(wrapper).get("inner")

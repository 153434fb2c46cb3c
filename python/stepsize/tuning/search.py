"""Search hyperparameters by whole trainings: five methods behind one call."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from stepsize.finder.results import LRFindResult
from stepsize.names import closed, refuse_unknown
from stepsize.tuning.gathering import Plan, gather
from stepsize.tuning.halving import Halving, rungs
from stepsize.tuning.optuna_studies import pruning_of, store_of
from stepsize.tuning.origin import Origin, told_of
from stepsize.tuning.pruning import Never
from stepsize.tuning.results import TuneResult
from stepsize.tuning.space import Given, LogUniform, Space, checked
from stepsize.tuning.study import Study
from stepsize.validation import choice, file_path, truth, whole


def _check(space: Space, trials: int, method: str, seed: int) -> None:
    whole("tune: trials", trials)
    whole("tune: seed", seed, 0)
    choice("tune: method", method, ("tpe", "random", "grid", "halving", "lr"))
    if method == "lr" and not any(
        isinstance(v, LogUniform) and not v.whole for v in space.values()
    ):
        raise ValueError("tune: method 'lr' needs a LogUniform in the space; use 'tpe'")


@closed
def tune(
    objective: Callable[..., Any],
    space: Given,
    *,
    trials: int,
    method: str = "tpe",
    prior: LRFindResult | float | None = None,
    executor: Any = None,
    storage: str | Path | Any | None = None,
    retry_failed: bool = False,
    seed: int = 0,
    direction: str = "minimize",
    pruner: Any = "auto",
    budget: tuple[int, int] | None = None,
    checkpoints: str | Path | None = None,
    on_error: str = "record",
    retries: int = 2,
    threads: int | None = None,
    progress: bool | None = None,
    **unknown: NoReturn,
) -> TuneResult:
    """Find the point of `space` at which `objective(point)` is lowest, in `trials` runs.

    With ``direction="maximize"`` it is the highest, as for an accuracy. A space holds, by name,
    `LogUniform`, `Uniform` (of whole numbers with ``whole=True``), `Choice` or a `range`.

    An objective that takes a second argument gets a `Trial`; intermediate values,
    `trial.report(step, value)`, let bad runs stop early (pruning). It returns a number, or a number
    and the `History` of the run, whose diagnosis is kept. A value that is not finite, or a
    FloatingPointError, is a run that diverged; any other exception is a run that failed, which a
    warning tells the first time, and with ``on_error="raise"`` it ends the search.

    Methods: "tpe" models good and bad points (Bergstra et al. 2011), "random", "grid" takes equal
    steps in every direction and ends with its last point, which may be before `trials` runs,
    "halving" keeps the best third of random runs at each rung (Li et al. 2020, arXiv:1810.05934),
    "lr" brackets the first LogUniform of the space, its rate, and narrows the bracket by parabolas
    in the logarithm; it starts at `prior`, a rate or what `lr_find` returned. With other names in
    the space it takes the point of the largest expected improvement (Jones et al. 1998) under a
    Gaussian process; "batch" or "batch_size", "weight_decay" and "beta2" then move together with
    the rate, as in `transfer`. Only "tpe" needs Optuna, the extra "tune".

    `executor` runs trials elsewhere: a number of processes of this machine, any
    concurrent.futures.Executor, a Dask client, or a function that makes an executor, which is
    called again where it broke. A run whose worker died is sent again, `retries` times at most. A
    worker in another process uses so many `threads`, by default its share of this machine's, on
    another machine one. `storage` is the path of a file that keeps the runs, or a storage of Optuna
    or its URL; a search called again with it resumes, and with `retry_failed` makes the runs again
    that failed or were killed. The same `seed` gives the same runs, one
    after another without an executor; the points of "random" and "grid" with any.

    With a `budget`, the least and the most steps or epochs of a run, "halving" trains all runs to
    the least, the best third on to three times that, and so on to the most: an objective of two
    arguments trains until `trial.budget` and continues from `trial.checkpoint`, a path in the
    folder `checkpoints` (by default a temporary one of this machine), as ``fit(..., resume=True,
    steps=trial.budget, checkpoint=trial.checkpoint)`` does. Who goes on depends on no executor. The
    first run is at `prior`, if it is given.

    `pruner` is "auto", for the method's own, "off" or a pruner of Optuna. `progress` shows the best
    so far, see `fit`. Ctrl-C ends the search with what came back until then, a second one raises.

    >>> import stepsize as ss
    >>> result = ss.tune(lambda p: (p["lr"] - 0.1) ** 2, {"lr": ss.LogUniform(1e-3, 1)},
    ...                  trials=10, method="lr")
    >>> 0.05 < result.best["lr"] < 0.2
    True
    """
    refuse_unknown(tune, unknown)
    space = checked(space)
    _check(space, trials, method, seed)
    choice("tune: direction", direction, ("minimize", "maximize"))
    sign = -1 if direction == "maximize" else 1
    plan = Plan("tune", objective, trials, sign, executor, on_error, retries, threads, progress)
    truth("tune: retry_failed", retry_failed)
    plan.check(space)
    origin = Origin("tune", direction, method, seed, budget=budget, **told_of(objective))
    with (
        plan.delivers(),
        _folder(plan, method, pruner, budget, checkpoints) as folder,
        contextlib.closing(store_of(storage, space, origin)) as store,
    ):
        given = (space, trials, method, prior, store, seed, sign)
        if budget is None:
            study = Study(*given, retry=retry_failed)
            pruning = pruning_of(pruner, study.records, method, direction)
        else:
            study = Halving(
                *given, budgets=rungs(budget), folder=folder, trials=trials, retry=retry_failed
            )
            pruning = Never()
        stopped = gather(plan, study, pruning)
    return TuneResult(study.first(trials), direction, dict(space), stopped)


@contextlib.contextmanager
def _folder(plan: Plan, method: str, pruner: Any, budget: Any, checkpoints: Any) -> Iterator[Path]:
    """The folder of the checkpoints, after a look at what goes with a budget."""
    if budget is None:
        if checkpoints is not None:
            raise ValueError("tune: checkpoints are for runs with a budget=(least, most)")
        yield Path()
        return
    rungs(budget)
    if method != "halving" or pruner != "auto":
        raise ValueError(
            f'tune: budget goes with method="halving" and no pruner, got method={method!r}, '
            f"pruner={pruner!r:.80}"
        )
    if not plan.task.takes_trial:
        raise TypeError(
            "tune: with a budget the objective takes two arguments, objective(point, trial), and "
            "trains until trial.budget"
        )
    if checkpoints is not None:
        folder = Path(file_path("tune: checkpoints", checkpoints))
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="stepsize-") as made:
        yield Path(made)

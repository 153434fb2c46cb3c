"""Search hyperparameters by whole trainings: five methods behind one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from stepsize.finder.results import LRFindResult
from stepsize.tuning.pruning import limits
from stepsize.tuning.results import TuneResult
from stepsize.tuning.space import Given, LogUniform, Space, checked
from stepsize.tuning.study import Study
from stepsize.tuning.trials import TrialRecord, run
from stepsize.validation import choice, whole


def _check(
    objective: Any, space: Space, trials: int, method: str, seed: int, executor: Executor | None
) -> None:
    if not callable(objective):
        raise TypeError(
            f"tune: objective must be a function of a point, a dict, got {objective!r:.80}"
        )
    whole("tune: trials", trials)
    whole("tune: seed", seed, 0)
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(
            f"tune: executor must be a concurrent.futures.Executor or None, got {executor!r:.80}"
        )
    choice("tune: method", method, ("tpe", "random", "grid", "halving", "lr"))
    if method == "lr" and not any(
        isinstance(v, LogUniform) and not v.whole for v in space.values()
    ):
        raise ValueError("tune: method 'lr' needs a LogUniform in the space; use 'tpe'")


def _check_sendable(objective: Any, executor: Executor | None) -> None:
    """Refuse what cannot be sent to the processes of a pool, such as a lambda."""
    if not isinstance(executor, ProcessPoolExecutor):
        return
    try:
        ForkingPickler.dumps(objective)
    except Exception as error:
        raise TypeError(
            f"tune: objective {objective!r:.80} cannot be sent to another process ({error!s:.80}); "
            "define it "
            "with def at the top of a module, or take a ThreadPoolExecutor"
        ) from error


def tune(
    objective: Callable[..., float],
    space: Given,
    *,
    trials: int,
    method: str = "tpe",
    prior: LRFindResult | float | None = None,
    executor: Executor | None = None,
    storage: str | Path | None = None,
    seed: int = 0,
    direction: str = "minimize",
) -> TuneResult:
    """Find the point of `space` at which `objective(point)` is lowest, in `trials` runs.

    With ``direction="maximize"`` it is the highest, as for an accuracy. A space holds, by name,
    `LogUniform`, `Uniform` (of whole numbers with ``whole=True``), `Choice` or a `range`.

    An objective that takes a second argument gets a `Trial`; intermediate values,
    `trial.report(step, value)`, let bad runs stop early (pruning). A value that is not finite, or a
    FloatingPointError, is a run that diverged; any other exception ends the search.

    Methods: "tpe" models good and bad points (Bergstra et al. 2011), "random", "grid" takes equal
    steps in every direction and ends with its last point, which may be before `trials` runs,
    "halving" keeps the best third of random runs at each rung (Li et al. 2020, arXiv:1810.05934),
    "lr" brackets the first LogUniform of the space, its rate, and narrows the bracket by parabolas
    in the logarithm; it starts at `prior`, a rate or what `lr_find` returned. With other names in
    the space it takes the point of the largest expected improvement (Jones et al. 1998) under a
    Gaussian process; "batch" or "batch_size", "weight_decay" and "beta2" then move together with
    the rate, as in `transfer`. Only "tpe" needs Optuna, the extra "tune".

    `executor` runs trials elsewhere: any concurrent.futures.Executor. `storage` is the path of a
    file that keeps the runs; a search called again with it resumes. The same `seed`
    gives the same runs, one after another without an executor.

    >>> import stepsize as ss
    >>> result = ss.tune(lambda p: (p["lr"] - 0.1) ** 2, {"lr": ss.LogUniform(1e-3, 1)},
    ...                  trials=10, method="lr")
    >>> 0.05 < result.best["lr"] < 0.2
    True
    """
    space = checked(space)
    _check(objective, space, trials, method, seed, executor)
    _check_sendable(objective, executor)
    sign = -1 if choice("tune: direction", direction, ("minimize", "maximize")) == "maximize" else 1
    study = Study(space, trials, method, prior, storage, seed, sign)
    running: dict[Future[TrialRecord], int] = {}
    width = 1 if executor is None else getattr(executor, "_max_workers", os.cpu_count() or 1)
    try:
        while running or study.wants(trials):
            while len(running) < width and study.wants(trials - len(running)):
                number, point = study.ask()
                allowed = limits(study.records, asha=method in ("halving", "lr"))
                if executor is None:
                    study.tell(number, run(objective, point, allowed, sign))
                else:
                    running[executor.submit(run, objective, point, allowed, sign)] = number
            if running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    study.tell(running.pop(future), future.result())
    finally:
        for future in running:
            future.cancel()
    records = tuple(record.times(sign) for record in study.records[:trials])
    return TuneResult(records, direction, dict(space))

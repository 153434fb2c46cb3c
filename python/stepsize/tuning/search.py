"""Search hyperparameters by whole trainings: five methods behind one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path

from stepsize.finder.results import LRFindResult
from stepsize.tuning.pruning import limits
from stepsize.tuning.results import TuneResult
from stepsize.tuning.space import Choice, LogUniform, Space, Uniform
from stepsize.tuning.study import Study
from stepsize.tuning.trials import TrialRecord, run
from stepsize.validation import whole


def _check(space: Space, trials: int, method: str, seed: int, executor: Executor | None) -> None:
    if not isinstance(space, Mapping):
        raise TypeError(
            f'tune: space must be a dict of names, {{"lr": ss.LogUniform(1e-5, 1)}}, got {space!r}'
        )
    if not space:
        raise ValueError('tune: space is empty; name something, {"lr": ss.LogUniform(1e-5, 1)}')
    for name, values in space.items():
        if not isinstance(values, Uniform | LogUniform | Choice):
            raise TypeError(
                f"tune: space[{name!r}] must be Uniform, LogUniform or Choice, "
                f"got {type(values).__name__}; write ss.LogUniform(low, high) for a range of rates"
            )
    whole("tune: trials", trials)
    whole("tune: seed", seed, 0)
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(
            f"tune: executor must be a concurrent.futures.Executor or None, got {executor!r}"
        )
    methods = ("tpe", "random", "grid", "halving", "lr")
    if method not in methods:
        raise ValueError(f"tune: method must be one of {', '.join(methods)}, got {method!r}")
    if method == "lr" and not any(isinstance(v, LogUniform) for v in space.values()):
        raise ValueError("tune: method 'lr' needs a LogUniform in the space; use 'tpe'")


def tune(
    objective: Callable[..., float],
    space: Space,
    *,
    trials: int,
    method: str = "tpe",
    prior: LRFindResult | float | None = None,
    executor: Executor | None = None,
    storage: str | Path | None = None,
    seed: int = 0,
) -> TuneResult:
    """Find the point of `space` at which `objective(point)` is lowest, in `trials` runs.

    An objective that takes a second argument gets a `Trial`; intermediate values,
    `trial.report(step, value)`, let bad runs stop early (pruning). A value that is not finite, or a
    FloatingPointError, is a run that diverged; any other exception ends the search.

    Methods: "tpe" models good and bad points (Bergstra et al. 2011), "random", "grid" takes equal
    steps in every direction, "halving" keeps the best third of random runs at each rung (Li et al.
    2020, arXiv:1810.05934), "lr" brackets the first LogUniform of the space, its rate, and narrows
    the bracket by parabolas in the logarithm; it starts at `prior`, a rate or what `lr_find`
    returned. Only "tpe" needs Optuna, the extra "tune".

    `executor` runs trials elsewhere: any concurrent.futures.Executor. `storage` is the path of a
    file that keeps the runs; a search called again with it resumes. The same `seed`
    gives the same runs, one after another without an executor.

    >>> import stepsize as ss
    >>> result = ss.tune(lambda p: (p["lr"] - 0.1) ** 2, {"lr": ss.LogUniform(1e-3, 1)},
    ...                  trials=10, method="lr")
    >>> 0.05 < result.best["lr"] < 0.2
    True
    """
    _check(space, trials, method, seed, executor)
    study = Study(space, trials, method, prior, storage, seed)
    running: dict[Future[TrialRecord], int] = {}
    width = 1 if executor is None else getattr(executor, "_max_workers", os.cpu_count() or 1)
    try:
        while len(study.records) < trials:
            while len(running) < width and len(study.records) + len(running) < trials:
                number, point = study.ask()
                allowed = limits(study.records, asha=method in ("halving", "lr"))
                if executor is None:
                    study.tell(number, run(objective, point, allowed))
                else:
                    running[executor.submit(run, objective, point, allowed)] = number
            if running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    study.tell(running.pop(future), future.result())
    finally:
        for future in running:
            future.cancel()
    return TuneResult(tuple(study.records[:trials]), dict(space))

"""Everything about the rate in one call: find it, plan it, watch it, and tell what was done."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize import arrays
from stepsize.automatic.rehearsal import Rehearsals, length_of, rehearse
from stepsize.curves import difference_noise
from stepsize.diagnosis import Diagnosis, diagnose
from stepsize.finder.find import lr_find, ticker
from stepsize.finder.results import LRFindResult
from stepsize.optimizers import AdamW
from stepsize.optimizers.registration import maker_of
from stepsize.schedules import Schedule, warmup_cosine
from stepsize.training.batches import batches as batches_of
from stepsize.training.fitting import fit
from stepsize.training.history import History

if TYPE_CHECKING:
    from stepsize.training.run import Run

SHRINK, RAISE, LIMIT = 0.3, 3.0, 5

State = tuple[list[Any], dict[str, Any]]


@dataclass(frozen=True)
class Action:
    """Something that was done to a run: at which step, what, and why."""

    step: int
    what: str
    why: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.what}, because {self.why}"


@dataclass(frozen=True)
class AutoResult:
    """A training that looked after its own rate; print it to read what it did.

    `found` is what `lr_find` said, `rehearsals` are the shorter trainings that corrected its peak,
    as pairs of peak and losses, `schedule` came of both, `actions` are what had to be done then.
    """

    history: History
    optimizer: Any
    schedule: Schedule
    found: LRFindResult
    actions: tuple[Action, ...]
    diagnosis: Diagnosis
    rehearsals: Rehearsals = ()

    def __str__(self) -> str:
        losses = self.history["loss"]
        end = losses[-max(1, len(losses) // 20) :].mean()
        lines = [
            f"{self.found.gradients} gradients found the rate {self.found.peak:.1e} "
            f"({self.found.confidence} confidence: {self.found.why})",
            *self._rehearsed(),
            f"schedule: {self.schedule!r}",
            *map(str, self.actions or ["no correction was needed"]),
            f"the loss went from {losses[0]:.4g} to {end:.4g} in {len(losses)} steps",
            str(self.diagnosis),
        ]
        return "\n".join(lines)

    def _rehearsed(self) -> list[str]:
        if not self.rehearsals:
            return []
        peaks = ", ".join(f"{peak:.1e}" for peak, _ in self.rehearsals)
        steps = max(len(losses) for _, losses in self.rehearsals)
        return [f"rehearsals of {steps} steps tried the peaks {peaks}"]


class Guard:
    """A callback that mends a run: one correction for each trouble.

    * The loss is not finite, or rose above its start: back to the best state so far, at 0.3 of the
      rate; the run ends at the sixth time.
    * A quarter of the run is over and its steps are so short that all of them together will not
      change the weights by a third: three times the rate, once.
    * The loss has stayed a tenth of its gain, and more than its noise, above its best for a quarter
      of the run, the last third apart: back to the best state, at 0.3 of the rate, once.

    Args:
        total: steps of the run.
        schedule: its schedule, which keeps its end when the run goes back.
        start: what the loss is before the first step, where one batch is too few to say.
    """

    def __init__(
        self, total: int, schedule: Schedule | None = None, start: float = -math.inf
    ) -> None:
        self.actions: list[Action] = []
        self._total = total
        self._schedule = schedule
        self._every = max(5, total // 50)
        self._recent: deque[float] = deque(maxlen=self._every)
        self._start = start
        self._best = math.inf
        self._best_at = 0
        self._good: State | None = None
        self._fresh: State | None = None
        self._done: set[str] = set()

    def on_start(self, run: Run) -> None:
        """Keep the first state."""
        self._good = self._state(run)

    def on_step(self, run: Run) -> None:
        """Look at the run now and then."""
        loss = run.history.last("loss")
        if run.step == 1:
            self._start = self._best = max(self._start, loss)
        self._recent.append(loss)
        if self._fresh is not None:  # a state is as good as the loss that the next step finds there
            self._good, self._fresh = self._fresh, None
        if run.step % self._every or len(self._recent) < self._every:
            return
        level = float(np.median(self._recent))
        # A tenth of the start leaves room for noise before anything was gained.
        room = max(self._start - self._best, 0.1 * abs(self._start))
        if level < self._best:
            self._best, self._best_at = level, run.step
            self._fresh = self._state(run)
        elif min(self._recent) > self._start + room:
            self._back(run, f"the loss rose to {level:.3g}, above its start of {self._start:.3g}")
        self._pace(run, level)

    def on_nonfinite(self, run: Run) -> bool:
        """Take up a run whose loss or gradient is not finite."""
        return self._back(run, "the loss or a gradient was not finite")

    def _pace(self, run: Run, level: float) -> None:
        if run.step >= self._total // 4 and "raise" not in self._done:
            self._done.add("raise")
            ratios, norms = run.history["update_ratio"], run.history["grad_norm"]
            travel = float(np.nanmedian(ratios)) * self._total if np.isfinite(ratios).any() else 1.0
            # Steps are also short where nothing is left to learn; then the gradient is small too.
            steep = float(np.median(norms[-5:])) > 0.5 * float(np.median(norms[:5]))
            if travel < 0.3 and steep and not self.actions:
                self._done.add("raised")
                self._scale(run, RAISE, f"its steps will change the weights by only {travel:.0%}")
        waited = run.step - self._best_at
        margin = 0.1 * (self._start - self._best) + self._noise(run)
        above = level - self._best > margin
        if waited > self._total // 4 and above and run.step < 2 * self._total // 3:
            if not self._done & {"drop", "raised"}:
                self._back(run, f"the loss stayed above its best, of step {self._best_at}")
            self._done.add("drop")

    def _scale(self, run: Run, factor: float, why: str) -> None:
        run.optimizer.lr_scale *= factor
        self.actions.append(Action(run.step, f"rate times {factor:g}", why))

    def _noise(self, run: Run) -> float:
        """Four standard errors of a median over recent losses: the best is the luckiest of many."""
        deviation = difference_noise(run.history["loss"][self._best_at // 2 : self._best_at])
        return 4 * math.sqrt(math.pi / 2 / self._every) * deviation

    def _state(self, run: Run) -> State:
        leaves = [np.array(leaf) for leaf in arrays.flatten(run.params)[0]]
        return leaves, run.optimizer.state_dict()

    def _back(self, run: Run, why: str) -> bool:
        """Return to the best state at a lower rate; the schedule does not go back with it."""
        if self._good is None or len(self.actions) >= LIMIT:
            return False
        leaves, state = self._good
        scale = run.optimizer.lr_scale
        run.optimizer.load_state_dict(state)
        for leaf, saved in zip(arrays.flatten(run.params)[0], leaves, strict=True):
            leaf[...] = saved
        if self._schedule is not None:
            run.optimizer.lr = self._schedule.shift(state["step_count"] - run.step)
        run.optimizer.lr_scale = scale * SHRINK
        self._good = self._state(run)
        self._fresh = None
        self._recent.clear()
        what = f"back to step {state['step_count']}, rate times {SHRINK:g}"
        self.actions.append(Action(run.step, what, why))
        return True


def plan(peak: float, steps: int) -> Schedule:
    """Warm up over a twentieth of the run to the peak, then down to 0 along a cosine."""
    return warmup_cosine(peak, min(steps - 1, max(1, steps // 20)), steps)


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
    callbacks: Sequence[Any] = (),
    rehearsals: int = 4,
    seed: int = 0,
    progress: bool | None = None,
) -> AutoResult:
    """Train with nothing but a budget given: find the rate, schedule it, watch it, correct it.

    A hundred gradients find the rate (`lr_find`). The schedule warms up over a twentieth of the run
    and falls to 0 along a cosine; going through all of it in half the steps, on copies and at peaks
    half a decade apart, shows how high its peak should be. `Guard` watches the run and corrects it;
    each correction is in `actions`. The budget is `steps`, or `epochs` of data that can be counted.

    All of that costs gradients besides the budget: a hundred, and up to ``rehearsals`` times half
    of the budget, at most 1000 steps each (three or four of them are the rule).

    Args:
        value_and_grad, params, train, batch_size, validation, callbacks, seed, progress: as in
            `fit`; ``train`` must be readable more than once.
        optimizer: a class, its name, or a function ``params -> optimizer``.
        rehearsals: how many there may be; 0 trusts `lr_find` alone.

    Raises:
        ValueError: no budget or a budget below 2 steps, or no rate makes the loss fall.

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
    build = maker_of(optimizer, "autolr")
    source = batches_of(train, batch_size, seed)
    if getattr(source, "once", False):
        raise ValueError("autolr: train is read more than once; give arrays, a list or a callable")
    if rehearsals < 0:
        raise ValueError(f"autolr: rehearsals must be at least 0, got {rehearsals}")
    total = _budget(steps, epochs, source.steps_per_epoch())
    found = lr_find(
        value_and_grad,
        params,
        lambda: (batch for batch, _ in source.epoch(0, 0)),
        optimizer=build,
        progress=progress,
    )
    if not found.usable:
        raise ValueError(f"autolr: no usable rate, because {found.why}")
    tick, bar = ticker(progress, rehearsals * length_of(total), "rehearsals")
    try:
        peak, rehearsed = rehearse(
            value_and_grad, params, source, build, plan, found.peak, total, rehearsals, tick
        )
    finally:
        if bar is not None:
            bar.close()
    schedule = plan(peak, total)
    made = build(params)
    made.lr = schedule
    guard = Guard(total, schedule, float(found.losses[:3].mean()))
    history = fit(
        value_and_grad,
        params,
        made,
        train,
        steps=total,
        batch_size=batch_size,
        validation=validation,
        callbacks=(*callbacks, guard),
        seed=seed,
        progress=progress,
    )
    actions = tuple(guard.actions)
    return AutoResult(history, made, schedule, found, actions, diagnose(history), rehearsed)


def _budget(steps: int | None, epochs: int | None, per_epoch: int | None) -> int:
    """The number of steps of the run."""
    if steps is None and epochs is not None and per_epoch is not None:
        steps = epochs * per_epoch
    if steps is None:
        raise ValueError("autolr: give steps, or epochs of data whose length is known")
    if steps < 2:
        raise ValueError(f"autolr: the budget must be at least 2 steps, got {steps}")
    return steps

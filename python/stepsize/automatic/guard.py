"""The callback that corrects a run: back to a good state, or another rate."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from stepsize.automatic.branching import Look
from stepsize.automatic.results import Action
from stepsize.curves import difference_noise
from stepsize.optimizers.scheduled import in_shares
from stepsize.optimizers.snapshot import Snapshot
from stepsize.schedules import Schedule

if TYPE_CHECKING:
    from stepsize.training.run import Run

SHRINK, RAISE = 0.3, 3.0  # factors on the rate after a loss spike, and for updates too short
RAISES = (3.0, 10.0)  # those that branches try in place of `RAISE`
LIMIT = 5  # corrections, after which the run may end
CHECKS = 50  # looks at a run
FEWEST_LOSSES = 5  # losses in the median of a look
PACE_AT = 1 / 4  # share of the run after which the length of its updates is judged
LEAST_PATH = 0.3  # of the norm of the weights: a run whose updates add up to less is too slow
GRADIENT_LEFT = 0.5  # share of the first gradient norm above which there is something left to learn
NORMS = 5  # gradient norms in a median
PATIENCE = 1 / 4  # share of the run that the loss may stay above its best
LAST_RETURN = 2 / 3  # share of the run after which it is left to its end
ROOM = 0.1  # share of the decrease, or of the start, that the loss may lie above
ERRORS = 4  # standard errors of a median that are noise


class Guard:
    """A callback that corrects a run: one correction for each trouble.

    * The loss is not finite, or rose above its start: back to the best state so far, at 0.3 of the
      rate; the run ends at the sixth time.
    * A quarter of the run is over and its updates are so short that all of them together will not
      change the weights by a third: three or ten times the rate, whichever ends lower in branches
      of the run, or no more where neither does (three where no branches can be made), once.
    * For a quarter of the run, and before its last third, the loss has stayed above its best by a
      tenth of its decrease and by more than its noise: back to the best state, at 0.3 of the rate,
      once.

    Args:
        total: steps of the run.
        schedule: its schedule, which keeps its end when the run goes back.
        start: what the loss is before the first step, where one batch is too few to say.
        look: what tries factors by branches, see `looking`.
        shares: of each group, in the schedule, where they differ.
    """

    def __init__(
        self,
        total: int,
        schedule: Schedule | None = None,
        start: float = -math.inf,
        look: Look | None = None,
        shares: tuple[float, ...] = (),
    ) -> None:
        self.actions: list[Action] = []
        self.gradients = 0  # that branches cost
        self._look = look
        self._total = total
        self._schedule = schedule
        self._shares = shares
        self._every = max(FEWEST_LOSSES, total // CHECKS)
        self._recent: deque[float] = deque(maxlen=self._every)
        self._start = start
        self._best = math.inf
        self._best_at = 0
        self._good: Snapshot | None = None
        self._fresh: Snapshot | None = None
        self._done: set[str] = set()

    def on_start(self, run: Run) -> None:
        """Keep the first state."""
        self._good = Snapshot(run.params, run.optimizer)

    def on_step(self, run: Run) -> None:
        """Record the loss, and check the run every few steps."""
        loss = run.history.last("loss")
        if run.step == 1:
            self._start = self._best = max(self._start, loss)
        self._recent.append(loss)
        if self._fresh is not None:  # a state is as good as the loss that the next step finds there
            self._good, self._fresh = self._fresh, None
        if run.step % self._every or len(self._recent) < self._every:
            return
        level = float(np.median(self._recent))
        # A share of the start leaves room for noise before the loss has fallen.
        room = max(self._start - self._best, ROOM * abs(self._start))
        if level < self._best:
            self._best, self._best_at = level, run.step
            self._fresh = Snapshot(run.params, run.optimizer)
        elif min(self._recent) > self._start + room:
            self._back(run, f"the loss rose to {level:.3g}, above its start of {self._start:.3g}")
        self._pace(run, level)

    def on_nonfinite(self, run: Run) -> bool:
        """Go back when the loss or a gradient is not finite."""
        return self._back(run, "the loss or a gradient was not finite")

    def _pace(self, run: Run, level: float) -> None:
        if run.step >= int(PACE_AT * self._total) and "raise" not in self._done:
            self._done.add("raise")
            ratios, norms = run.history["update_ratio"], run.history["grad_norm"]
            path = float(np.nanmedian(ratios)) * self._total if np.isfinite(ratios).any() else 1.0
            # Updates are also short after convergence, where the gradient is small too.
            first, last = float(np.median(norms[:NORMS])), float(np.median(norms[-NORMS:]))
            steep = last > GRADIENT_LEFT * first
            if path < LEAST_PATH and steep and not self.actions:
                self._raise(run, f"its updates will change the weights by only {path:.0%}")
        waited = run.step - self._best_at
        margin = ROOM * (self._start - self._best) + self._noise(run)
        above = level - self._best > margin
        early = run.step < int(LAST_RETURN * self._total)
        if waited > int(PATIENCE * self._total) and above and early:
            if not self._done & {"drop", "raised"}:
                self._back(run, f"the loss stayed above its best, of step {self._best_at}")
            self._done.add("drop")

    def _raise(self, run: Run, why: str) -> None:
        found = None if self._look is None else self._look(run, RAISES)
        factor = RAISE
        if found is not None:
            factor, self.gradients = found.best, found.gradients
        if factor == 1:
            return
        self._done.add("raised")
        run.optimizer.lr_scale *= factor
        self.actions.append(Action(run.step, f"rate times {factor:g}", why))

    def _noise(self, run: Run) -> float:
        """Standard errors of a median: the minimum of many noisy levels is biased low."""
        deviation = difference_noise(run.history["loss"][self._best_at // 2 : self._best_at])
        return ERRORS * math.sqrt(math.pi / 2 / self._every) * deviation

    def _back(self, run: Run, why: str) -> bool:
        """Return to the best state at a lower rate; the schedule does not go back with it."""
        if self._good is None or len(self.actions) >= LIMIT:
            return False
        scale = run.optimizer.lr_scale
        self._good.restore()
        step = run.optimizer.step_count
        if self._schedule is not None:
            run.optimizer.lr = in_shares(self._schedule.shift(step - run.step), self._shares)
        run.optimizer.lr_scale = scale * SHRINK
        self._good = Snapshot(run.params, run.optimizer)
        self._fresh = None
        self._recent.clear()
        what = f"back to step {step}, rate times {SHRINK:g}"
        self.actions.append(Action(run.step, what, why))
        return True

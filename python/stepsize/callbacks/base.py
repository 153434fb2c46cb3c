"""What may watch a run, change it, stop it and save it.

A callback is any object with some of the methods below; each gets the `Run`.

* ``on_start(run)``: before the first step, and after loading when a run is resumed.
* ``on_gradients(run)``: ``run.grads`` are there and may be replaced; the step is not yet made.
* ``on_step(run)``: after each step, its row in ``run.history``.
* ``on_nonfinite(run)``: a loss or gradient is not finite and the run is to end; one that returns
  True has mended it, and the run goes on with the next batch.
* ``on_validation(run)``: after each validation, its values in ``run.metrics``, the parameters as
  they were measured.
* ``on_epoch(run)``: after each epoch and its validation.
* ``on_end(run)``: always, at the end; ``run.error`` is the exception if there was one.

They run in the order given, checkpoints last. One that has ``state_dict()`` and
``load_state_dict(d)`` is saved with the run and resumed with it.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize import arrays
from stepsize.schedules import Plateau
from stepsize.validation import whole

if TYPE_CHECKING:
    from stepsize.training.run import Run


class Checkpoint:
    """Save the run now and then.

    ``path`` always holds the newest state. With ``keep=n`` the n - 1 before it stay beside it, as
    ``name-STEP.ext``, and the last one whose parameters are finite stays whatever ``keep`` says.
    The end of a run and an exception are saved too, a diverged end is not.

    Args:
        path: where to write.
        every_steps: write after so many steps; None for not by steps.
        every_epochs: write after so many epochs; None for not by epochs.
        keep: how many states to keep.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every_steps: int | None = None,
        every_epochs: int | None = 1,
        keep: int = 1,
    ):
        self.path = os.fspath(path)
        self.every_steps = _positive("Checkpoint", "every_steps", every_steps)
        self.every_epochs = _positive("Checkpoint", "every_epochs", every_epochs)
        self.keep = _positive("Checkpoint", "keep", keep) or 1
        self._kept: list[list[Any]] = []

    def on_start(self, run: Run) -> None:
        """Forget the states of an earlier run; a folder that is missing is said now, not later."""
        folder = os.path.dirname(os.path.abspath(self.path))
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                errno.ENOENT, "the folder of the checkpoint is missing, make it first", folder
            )
        if run.step == 0:
            self._kept = []

    def on_step(self, run: Run) -> None:
        """Save if it is time to."""
        if self.every_steps is not None and run.step % self.every_steps == 0:
            self.save(run)

    def on_epoch(self, run: Run) -> None:
        """Save if it is time to."""
        if self.every_epochs is not None and run.epoch % self.every_epochs == 0:
            self.save(run)

    def save(self, run: Run) -> None:
        """Save now."""
        before = self._kept
        finite = all(np.isfinite(leaf).all() for leaf in arrays.flatten(run.params)[0])
        older = [entry for entry in before if entry[0] != run.step]
        last_finite = None if finite else next((e for e in reversed(older) if e[1]), None)
        recent = older[len(older) - self.keep + 1 :] if self.keep > 1 else []
        self._kept = [e for e in older if e in recent or e is last_finite] + [[run.step, finite]]
        try:
            if before and before[-1] in self._kept[:-1]:
                self._set_aside(before[-1][0])
            run.save(self.path)
        except BaseException:
            self._kept = before
            raise
        for entry in before:
            if entry not in self._kept and entry is not before[-1]:
                _remove(self.aside(entry[0]))

    def aside(self, step: int) -> str:
        """Where an older state is kept."""
        stem, extension = os.path.splitext(self.path)
        return f"{stem}-{step}{extension}"

    def _set_aside(self, step: int) -> None:
        """Give the present file a second name, so that there is a whole file at every moment."""
        _remove(self.aside(step))
        if os.path.exists(self.path):
            os.link(self.path, self.aside(step))

    def state_dict(self) -> dict[str, Any]:
        """Which states are kept."""
        return {"kept": [list(entry) for entry in self._kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Know the states that are kept."""
        self._kept = [list(entry) for entry in state["kept"]]


class KeepGenerators:
    """Save random generators of yours with the run, and resume them with it.

    `fit` itself does so with the global generators of Python and NumPy, and its own shuffling has
    no state. A generator that value_and_grad draws from, for dropout or noise, goes here.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> keeper = KeepGenerators(rng)
        >>> state = keeper.state_dict()
        >>> first = rng.random()
        >>> keeper.load_state_dict(state)
        >>> rng.random() == first
        True
    """

    def __init__(self, *generators: np.random.Generator):
        self.generators = generators

    def state_dict(self) -> dict[str, Any]:
        """The state of each generator."""
        return {"generators": [g.bit_generator.state for g in self.generators]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the generators where `state_dict` found them."""
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.bit_generator.state = saved


class _Monitor:
    """Watches one value and calls ``on_value`` with each new one."""

    mode: str

    def __init__(self, monitor: str, mode: str):
        if mode not in ("min", "max"):
            raise ValueError(f"{type(self).__name__}: mode must be 'min' or 'max', got {mode!r}")
        self.monitor = monitor
        self.mode = mode

    def on_validation(self, run: Run) -> None:
        """Look at a measured value."""
        if self.monitor.startswith("val_"):
            self.on_value(run, self._value(run))

    def on_epoch(self, run: Run) -> None:
        """Look at a value of the training."""
        if not self.monitor.startswith("val_"):
            self.on_value(run, self._value(run))
        elif self.monitor not in run.metrics:
            self._value(run)

    def on_value(self, run: Run, value: float) -> None:
        """What to do with a new value."""
        raise NotImplementedError

    def _value(self, run: Run) -> float:
        try:
            return run.metrics[self.monitor]
        except KeyError:
            raise ValueError(
                f"{type(self).__name__}: there is no {self.monitor!r} to monitor; there are "
                f"{', '.join(run.metrics)}. Give validation=..., or monitor one of these"
            ) from None


class EarlyStopping(_Monitor):
    """Stop when a value has not become better for a while.

    Args:
        monitor: ``loss`` (its mean over an epoch) or a name that validation measures.
        patience: stop when so many values in a row have not been better. None never stops, and
            only keeps the best parameters.
        min_delta: a value is better if it beats the best by more than this.
        mode: ``"min"`` if smaller is better, ``"max"`` if larger is.
        restore_best: put the best parameters back at the end of the run. They travel in the
            checkpoint, whose own parameters are the last ones, so that the run can go on.

    Attributes:
        best: the best value so far.
        best_step: the step at which it was measured, None before the first.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int | None = 10,
        min_delta: float = 0.0,
        mode: str = "min",
        restore_best: bool = True,
    ):
        super().__init__(monitor, mode)
        if patience is not None:
            patience = whole("EarlyStopping: patience", patience, 0)
        if not min_delta >= 0:
            raise ValueError(f"EarlyStopping: min_delta must not be negative, got {min_delta}")
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_step: int | None = None
        self._failures = 0
        self._params: list[Any] | None = None

    def on_start(self, run: Run) -> None:
        """Start anew, unless a run is being resumed."""
        if run.step == 0:
            self.reset()

    def on_value(self, run: Run, value: float) -> None:
        """Keep it if it is the best, stop if it has been too long since one was."""
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_step, self._failures = value, run.step, 0
            if self.restore_best:
                self._params = [np.array(leaf) for leaf in arrays.flatten(run.params)[0]]
            return
        self._failures += 1
        if self.patience is not None and self._failures >= self.patience:
            run.stop(
                f"{self.monitor} has not been better than {self.best:.4g} since step "
                f"{self.best_step}"
            )

    def on_end(self, run: Run) -> None:
        """Put the best parameters back."""
        if run.error is None and self.restore_best and self._params is not None:
            for leaf, best in zip(arrays.flatten(run.params)[0], self._params, strict=True):
                leaf[...] = best

    def state_dict(self) -> dict[str, Any]:
        """Best value and parameters, and how long ago that was."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "failures": self._failures,
            "params": self._params,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.best, self.best_step = state["best"], state["best_step"]
        self._failures, self._params = state["failures"], state["params"]


class ReduceOnPlateau(_Monitor):
    """Lower the rate when a value has not become better for a while.

    The rate falls through `Plateau`, which multiplies ``optimizer.lr_scale``, so any schedule stays
    in force below it.

    Args:
        monitor: ``loss`` (its mean over an epoch) or a name that validation measures.
        options: as for `Plateau`: ``mode``, ``factor``, ``patience`` and so on.
    """

    def __init__(self, monitor: str = "val_loss", **options: Any):
        super().__init__(monitor, options.get("mode", "min"))
        self._options = options
        self._plateau: Plateau | None = None
        self._loaded: Mapping[str, Any] | None = None

    def on_start(self, run: Run) -> None:
        """Take hold of the optimizer's rate."""
        self._plateau = Plateau(run.optimizer, **self._options)
        if self._loaded is not None:
            self._plateau.load_state_dict(self._loaded)
            self._loaded = None

    def on_value(self, run: Run, value: float) -> None:
        """Tell the plateau."""
        if self._plateau is not None:
            self._plateau.update(value)

    def state_dict(self) -> dict[str, Any]:
        """What the plateau remembers."""
        return dict(self._plateau.state_dict()) if self._plateau is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, once the run starts."""
        self._loaded = state or None


class StopOnDivergence:
    """Stop when the loss is not finite or far above where it started.

    The reason names the step, the rate and the parameter with the largest gradient, or the one
    whose gradient is not finite. `fit` itself stops at a loss that is not finite unless the
    optimizer was told to go on.

    Args:
        factor: how many times the first loss (or 1e-8, if that is more) is too much.
        patience: how many steps in a row must be too much.
    """

    def __init__(self, factor: float = 100.0, patience: int = 1):
        if not factor > 1:
            raise ValueError(f"StopOnDivergence: factor must be above 1, got {factor}")
        self.factor = factor
        self.patience = _positive("StopOnDivergence", "patience", patience) or 1
        self._failures = 0

    def on_start(self, run: Run) -> None:
        """Start anew, unless a run is being resumed."""
        if run.step == 0:
            self._failures = 0

    def on_step(self, run: Run) -> None:
        """Look at the loss of the step."""
        loss, first = run.history.at("loss", -1), run.history.at("loss", 0)
        if loss <= self.factor * max(abs(first), 1e-8):
            self._failures = 0
            return
        self._failures += 1
        if self._failures < self.patience:
            return
        what = (
            "is not finite" if not math.isfinite(loss) else f"is far above the first, {first:.4g}"
        )
        run.stop(
            f"diverged at step {run.step} with lr {run.history.last('lr'):.3g}: the loss "
            f"{loss:.4g} {what}; {_largest(run.grads)}"
        )

    def state_dict(self) -> dict[str, Any]:
        """How many steps in a row were too much."""
        return {"failures": self._failures}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._failures = state["failures"]


def _largest(grads: Any) -> str:
    """The leaf with the largest gradient, or the first that is not finite, in words."""
    leaves, paths, _ = arrays.flatten(grads)
    norms = {
        path: float(np.linalg.norm(np.asarray(leaf, np.float64)))
        for leaf, path in zip(leaves, paths, strict=True)
        if leaf is not None
    }
    for path, norm in norms.items():
        if not math.isfinite(norm):
            return f"the gradient of {path} is not finite"
    path = max(norms, key=lambda name: norms[name])
    return f"the largest gradient is that of {path} (norm {norms[path]:.3g})"


def _positive(owner: str, name: str, value: int | None) -> int | None:
    return value if value is None else whole(f"{owner}: {name}", value)


def _remove(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)

"""One run of an estimator: its optimizer, its rate, its stopping criterion."""

from __future__ import annotations

import inspect
import math
import numbers
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from stepsize.arrays import Array, flatten, map_leaves
from stepsize.finder.find import lr_find
from stepsize.finder.results import LRFindResult
from stepsize.interop.sklearn.drop_in import EpsilonHat, forget_curvature, scale_rate
from stepsize.optimizers import LBFGS, SGD, Adam
from stepsize.optimizers.registration import find_rule
from stepsize.schedules import Schedule
from stepsize.training.batches import batches
from stepsize.training.history import History
from stepsize.training.run import Run
from stepsize.validation import range_text, within

Ranges = dict[str, tuple[Callable[[Any], Any], str]]

MAX_FUN = "the function was called max_fun="
NOTHING_LEFT = "the loss is 0, and so is its gradient"
NO_LOWER = "the line search finds no lower point"
FLAT = 1e7 * float(np.finfo(np.float64).eps)  # a relative fall of the loss, as in SciPy's L-BFGS-B
FEWEST_STEPS = 30  # without improvement, before a rate that was found is lowered
LARGEST = sys.float_info.max
SMALLEST_SHARE = 1e-3  # of a rate that was found, below which a linear model is not trained on
SMALLEST_RATE = 1e-6  # "adaptive" stops here, as in scikit-learn


def maker(owner: Any) -> tuple[Any, dict[str, Any]]:
    """The class or function that makes the optimizer, and its keywords besides the rate."""
    name, solver = type(owner).__name__, owner.solver
    if not isinstance(owner.solver_options, Mapping | None):
        raise TypeError(
            f"{name}: solver_options must be a dict or None, got {owner.solver_options!r:.80}"
        )
    options = dict(owner.solver_options or {})
    if callable(solver) and not isinstance(solver, type):
        if options:
            raise ValueError(f"{name}: solver_options need a rule by name or class, not a function")
        return solver, {}
    rule = find_rule(solver, name, "solver")
    _refuse_twice(owner, rule, options)
    if rule is Adam and hasattr(owner, "beta_1"):
        betas = (owner.beta_1, owner.beta_2)
        hat = EpsilonHat(float(owner.epsilon), float(owner.beta_2))
        options = {"betas": betas, "eps": owner.epsilon if "betas" in options else hat, **options}
    if rule is SGD and hasattr(owner, "momentum"):
        nesterov = bool(owner.nesterovs_momentum) and owner.momentum > 0
        options = {"momentum": owner.momentum, "nesterov": nesterov, **options}
    if rule is LBFGS:
        # One iteration at a time, so that each has its row in the history.
        ours = {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 25}
        options = {**ours, "tolerance_grad": owner.tol, "history_size": 10, **options}
    return rule, options


TWICE = {
    (Adam, "betas"): ("beta_1", "beta_2"),
    (Adam, "eps"): ("epsilon",),
    (SGD, "momentum"): ("momentum",),
    (SGD, "nesterov"): ("nesterovs_momentum",),
}


def _refuse_twice(owner: Any, rule: Any, options: dict[str, Any]) -> None:
    """Refuse an option that is given by name, other than by default, and in solver_options."""
    name = type(owner).__name__
    if "lr" in options:
        raise ValueError(f"{name}: solver_options hold lr={options['lr']!r:.40}; give lr= instead")
    usual = inspect.signature(type(owner).__init__).parameters
    for (cls, option), arguments in TWICE.items():
        for argument in arguments if cls is rule and option in options else ():
            if argument in usual and getattr(owner, argument) != usual[argument].default:
                raise ValueError(
                    f"{name}: {argument}={getattr(owner, argument)!r:.40} is given, and "
                    f"{option}={options[option]!r:.40} in solver_options; leave one of them out"
                )


def steps_along_gradients(owner: Any) -> bool:
    """Whether the rule takes gradients, as `partial_fit` needs; others search with the function."""
    try:
        return not getattr(maker(owner)[0], "needs_closure", False)
    except (TypeError, ValueError):
        return True  # `fit` says what is wrong


def given_rate(owner: Any, make: Any) -> Any:
    """The rate asked for: a number, a schedule, "auto", or None for the rule's own default."""
    if isinstance(owner.lr, str) and getattr(make, "adapts_lr", False):
        return None
    if owner.lr is not None:
        return owner.lr
    first = getattr(owner, "learning_rate_init", None)
    if make in (Adam, SGD):
        return first
    if first in (None, 0.001):
        return None  # the default of scikit-learn is not one for every rule
    if make is LBFGS:
        warnings.warn(
            f"{type(owner).__name__}: learning_rate_init={first!r} is not used by 'lbfgs', which "
            "searches along each step for itself",
            UserWarning,
            stacklevel=5,
        )
        return None
    return first


def restart(optimizer: Any, rate: Any) -> None:
    """Start the rate anew, as each fit does; the state of the optimizer goes on."""
    optimizer.lr_scale = 1.0
    done = optimizer.step_count
    if isinstance(rate, Schedule):
        optimizer.lr = rate.shift(done)
    elif callable(rate):
        optimizer.lr = lambda step: rate(step - done)


def find_rate(
    network: Any, params: Any, data: tuple[Any, ...], size: int, make: Callable[..., Any], seed: int
) -> LRFindResult:
    """A range test on copies, over batches of the training data."""
    source = batches(data, size, seed)
    return lr_find(
        network,
        params,
        lambda: (batch for batch, _ in source.epoch(0, 0)),
        optimizer=make,
        progress=False,
    )


class Once:
    """A function that caches its last value.

    L-BFGS starts a step at the point where the step before ended.
    """

    def __init__(self, function: Callable[[Any, Any], tuple[float, Any]]) -> None:
        self._function = function
        self._at: list[Array] = []
        self._found: Any = None
        self.calls = 0

    def __call__(self, params: Any, batch: Any) -> tuple[float, Any]:
        leaves = flatten(params)[0]
        if self._found is None or not all(map(np.array_equal, leaves, self._at)):
            self._at = [leaf.copy() for leaf in leaves]
            self._found = self._function(params, batch)
            self.calls += 1
        return self._found  # type: ignore[no-any-return]


class Watch:
    """Stops as scikit-learn does, and changes the rate as ``learning_rate`` says."""

    def __init__(
        self, owner: Any, rows: int, early: bool, calls: Once | None, incremental: bool = False
    ) -> None:
        self.owner, self.rows, self.early, self.calls = owner, rows, early, calls
        self.incremental = incremental
        self.best: Any = None
        self.restarted_at = math.inf  # the loss where L-BFGS was last sent along the gradient

    def on_validation(self, run: Run) -> None:
        """Keep the best parameters."""
        if run.metrics["val_score"] > self.owner.best_validation_score_:
            self.best = map_leaves(np.array, run.params)

    def on_epoch(self, run: Run) -> None:
        """Record the epoch, and stop without improvement."""
        owner = self.owner
        owner.n_iter_ = run.epoch
        owner.t_ += self.rows
        owner.loss_ = run.metrics["loss"]
        owner.loss_curve_.append(owner.loss_)
        if self.calls is not None:
            self._closure(run, self.calls)
            return
        if not self.incremental and owner.loss_ == 0 and not run.history["grad_norm"][-1]:
            run.stop(NOTHING_LEFT)
            return
        what, better = self._compare(run)
        owner._failures = 0 if better else owner._failures + 1
        if owner.learning_rate == "invscaling":
            scale_rate(run.optimizer, (owner.t_ + 1.0) ** -owner.power_t)
        if owner._failures <= self._patience(run):
            return
        if self._may_fall(run):
            scale_rate(run.optimizer, run.optimizer.lr_scale / 5)
            owner._failures = 0
            return
        run.stop(
            f"{what} did not improve by more than tol={owner.tol:g} for "
            f"{owner.n_iter_no_change} epochs"
        )

    def _may_fall(self, run: Run) -> bool:
        """Whether the rate is to be lowered before the run is given up.

        One that was found is kept in a stream, which may drift and does not end.
        """
        if self.owner.learning_rate == "adaptive":
            return run.history.last("lr") > SMALLEST_RATE
        return self._decays() and not self.incremental and run.optimizer.lr_scale > SMALLEST_SHARE

    def _patience(self, run: Run) -> float:
        """Epochs without improvement; where these are of few steps, more for a rate that falls."""
        patience: float = self.owner.n_iter_no_change
        return max(patience, FEWEST_STEPS * run.epoch / run.step) if self._decays() else patience

    def _decays(self) -> bool:
        owner = self.owner
        return bool(owner._auto_decays and isinstance(owner.lr, str) and not owner._unfound)

    def _compare(self, run: Run) -> tuple[str, bool]:
        owner = self.owner
        if self.early:
            score, best = run.metrics["val_score"], owner.best_validation_score_
            owner.validation_scores_.append(score)
            owner.best_validation_score_ = max(best, score)
            return "the validation score", score >= best + owner.tol
        best = np.inf if owner.best_loss_ is None else owner.best_loss_
        owner.best_loss_ = min(best, owner.loss_)
        # A rate that was found for small targets makes small differences of the loss.
        tol = owner.tol * min(1.0, owner.loss_curve_[0]) if self._decays() else owner.tol
        return "the loss", owner.loss_ <= best - tol

    def _closure(self, run: Run, calls: Once) -> None:
        """Stop a run whose rule makes line searches."""
        owner = self.owner
        loss, grads = calls(run.params, run.batch)  # after the step; the run has that before it
        owner.loss_ = owner.loss_curve_[-1] = loss
        best = np.inf if owner.best_loss_ is None else owner.best_loss_
        owner.best_loss_ = min(best, loss)
        largest = max(float(np.abs(leaf).max(initial=0.0)) for leaf in flatten(grads)[0])
        if largest <= owner.tol:
            run.stop(f"every component of the gradient is at most tol={owner.tol:g}")
        elif run.history.last("update_ratio") == 0 and not self._starts_anew(run, loss):
            run.stop(NO_LOWER)
        elif calls.calls >= getattr(owner, "max_fun", math.inf):
            run.stop(f"{MAX_FUN}{owner.max_fun} times")

    def _starts_anew(self, run: Run, loss: float) -> bool:
        """Let a search that failed go on along the gradient, unless that has led nowhere."""
        fell = self.restarted_at - loss > FLAT * max(1.0, abs(loss))
        if fell:
            self.restarted_at = loss
            forget_curvature(run.optimizer)
        return fell


def check_end(owner: Any, stopped: str, has_best: bool) -> None:
    """Raise, as scikit-learn does, where the run diverged and no validated weights are left."""
    if stopped.startswith("diverged") and not has_best:
        raise ValueError(
            f"{type(owner).__name__}: {stopped}; scale the data, or give a smaller lr, or lr='auto'"
        )


def _never_fell(owner: Any, history: History) -> bool:
    """Whether the first line search of all failed, and so did every other."""
    return owner._optimizer.step_count == history.steps and not history["update_ratio"].any()


def warn_of_end(owner: Any, history: History, incremental: bool, hint: str) -> bool:
    """Warn of a run that did not converge, or could not; whether that was so."""
    name, stopped = type(owner).__name__, str(history.stopped)
    text = None
    if history.steps and not history["lr"].any() and not isinstance(owner.lr, int | float):
        text = f"the rate was 0 in all {history.steps} steps: its schedule has ended; give another"
    elif not incremental and stopped.startswith("finished"):
        text = f"not converged after max_iter={owner.max_iter} epochs{hint}"
    elif stopped.startswith(MAX_FUN):
        text = f"not converged: {stopped}; raise max_fun, or scale the data"
    elif stopped == NO_LOWER and _never_fell(owner, history):
        text = f"not converged: {stopped} than the start{hint or '; scale the data'}"
    elif stopped.startswith("diverged"):
        text = f"{stopped}; the weights are those of the best validation score"
    elif stopped.startswith(("interrupted", "terminated")):
        text = f"not converged: {stopped}"
    if text is not None:
        warnings.warn(f"{name}: {text}", ConvergenceWarning, stacklevel=6)
    return text is not None


def warn_of_blindness(owner: Any, hint: str) -> None:
    """Warn of a network that has come to rest without having learnt anything."""
    warnings.warn(
        f"{type(owner).__name__}: the loss is no lower than that of a constant prediction; "
        f"where there is something to learn, scale the data or give another learning rate{hint}",
        ConvergenceWarning,
        stacklevel=7,
    )


def check_settings(owner: Any, ranges: Ranges) -> None:
    """Refuse settings that are out of range, by name."""
    for name, (holds, what) in ranges.items():
        if not hasattr(owner, name):  # what some of the estimators have
            continue
        value = getattr(owner, name)
        try:
            fine = bool(holds(value))
        except (TypeError, ValueError, OverflowError):  # of NumPy for arrays
            fine = False
        if not fine:
            raise ValueError(f"{type(owner).__name__}: {name} must be {what}, got {value!r:.80}")


def check_made(owner: Any, optimizer: Any) -> None:
    """Refuse what a function of the user made instead of an optimizer."""
    if not hasattr(optimizer, "step"):
        raise TypeError(
            f"{type(owner).__name__}: solver must make an optimizer over the parameters that it is "
            f"given, it made {optimizer!r:.80}"
        )


def whole(low: int) -> Callable[[Any], Any]:
    """Whether a value is a whole number of at least ``low``, which a double may hold."""
    return lambda v: (
        isinstance(v, int | np.integer) and not isinstance(v, bool) and low <= v <= 2**53
    )


def between(low: float, high: float = math.inf, low_open: bool = False) -> tuple[Any, str]:
    """Whether a value is a number in a range, infinite at most where that has no end."""
    open_end = high < math.inf
    words = range_text(low, high, low_open, open_end)
    return (lambda v: is_real(v) and within(float(v), low, high, low_open, open_end)), words


def is_real(value: Any) -> bool:
    """Whether a value is a real number that a double may hold, of Python or NumPy."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and (abs(value) <= LARGEST or abs(value) == math.inf)


def is_truth_value(value: Any) -> bool:
    """Whether a value is True or False; scikit-learn takes the numbers 0 and 1, too."""
    return isinstance(value, bool | np.bool_) or (is_real(value) and value in (0, 1))


def one_of(*words: str) -> tuple[Callable[[Any], Any], str]:
    """Whether a value is one of some words."""
    return (lambda v: isinstance(v, str) and v in words), "one of " + ", ".join(map(repr, words))


def sizes_of(hidden: int | Sequence[int]) -> list[int]:
    """The sizes of hidden layers, given as one number or several."""
    return [int(n) for n in np.atleast_1d(np.asarray(hidden)).tolist()]

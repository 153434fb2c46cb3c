"""What the four estimators share: checks, initial weights, the run, and the fitted weights."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from stepsize.arrays import Array, flatten, map_leaves, refuse_masked
from stepsize.interop.sklearn.drop_in import ShuffledRows
from stepsize.interop.sklearn.network import Network, draw
from stepsize.interop.sklearn.scaling import relative, scaling_hint, warn_of_scales
from stepsize.interop.sklearn.streams import Stream
from stepsize.interop.sklearn.training import (
    Once,
    Ranges,
    Watch,
    between,
    check_end,
    check_made,
    check_settings,
    find_rate,
    given_rate,
    is_real,
    is_truth_value,
    maker,
    one_of,
    restart,
    warn_of_blindness,
    warn_of_end,
    whole,
)
from stepsize.schedules.run_length import ScheduleWarning
from stepsize.training.fitting import fit
from stepsize.training.history import History

Data = tuple[Any, ...]  # x, y and, where there are any, weights


def without_masks(estimator: Any, **given: Any) -> None:
    """Refuse a masked array, whose mask scikit-learn's checks would drop without a word."""
    for name, value in given.items():
        cure = f"leave out the rows that are masked, or fill them, {name}.filled(0)"
        refuse_masked(type(estimator).__name__, name, value, cure)


class Estimator(BaseEstimator):  # type: ignore[misc]
    """A network trained by any rule at any rate, with the methods of scikit-learn."""

    alpha: float
    batch_size: Any
    callbacks: Sequence[Any]
    early_stopping: bool
    lr: Any
    max_iter: int
    random_state: Any
    shuffle: bool
    validation_fraction: float
    verbose: Any
    warm_start: bool
    coefs_: list[Array]
    intercepts_: list[Array]
    history_: History
    _optimizer: Any
    _saved: Any  # the state of the optimizer, after unpickling
    _recipe: Any
    _rate: Any
    _stream: Stream | None  # the first rows of partial_fit, while a rate is sought in them
    _unfound: bool  # whether lr="auto" has found no rate
    _auto_decays: ClassVar[bool] = False  # whether lr="auto" falls where the loss rests

    ranges: ClassVar[Ranges] = {
        "alpha": (lambda v: is_real(v) and 0 <= v < np.inf, "a number >= 0"),
        "batch_size": (lambda v: v == "auto" or whole(1)(v), "'auto' or a whole number >= 1"),
        "learning_rate": one_of("constant", "invscaling", "adaptive"),
        "power_t": between(0),
        "max_iter": (whole(1), "a whole number >= 1"),
        "tol": between(0),
        "validation_fraction": between(0, 1),
        "n_iter_no_change": (lambda v: v == np.inf or whole(1)(v), "a whole number >= 1"),
        **dict.fromkeys(
            ("fit_intercept", "shuffle", "warm_start", "early_stopping", "nesterovs_momentum"),
            (is_truth_value, "True or False"),
        ),
        "verbose": (lambda v: is_truth_value(v) or whole(0)(v), "True or False"),
        "callbacks": (lambda v: isinstance(v, list | tuple), "a list of callbacks"),
        "lr": (lambda v: not isinstance(v, str) or v == "auto", "a number, a schedule or 'auto'"),
    }

    def _keep(self, arguments: dict[str, Any]) -> None:
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # What subclasses define.

    def _sizes(self) -> list[int]:
        """The sizes of the hidden layers."""
        raise NotImplementedError

    def _network(self, mass: float) -> Network:
        """The network; ``mass`` is the mean sample weight."""
        raise NotImplementedError

    def _take(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Array]:
        """The validated data, targets encoded for the loss."""
        raise NotImplementedError

    def _score(self, scores: Array, y: Array, weight: Array | None) -> float:
        """The score that early stopping monitors."""
        raise NotImplementedError

    def _mass(self, X: Any, y: Any, sample_weight: Any) -> Array | None:
        """The sample weights, or None if all are equal."""
        without_masks(self, sample_weight=sample_weight)
        return None if sample_weight is None else _check_sample_weight(sample_weight, X)

    # Fitting.

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Self:
        name = type(self).__name__
        check_settings(self, self.ranges)
        make, options = maker(self)
        if incremental and self.early_stopping:
            raise ValueError(f"{name}: partial_fit does not support early_stopping=True; fit does")
        if incremental and getattr(make, "needs_closure", False):
            raise ValueError(f"{name}: partial_fit needs a gradient rule, not {self.solver!r}")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        before = dict(self.__dict__)
        try:
            self._fit_checked(X, y, sample_weight, (make, options), first, incremental)
        except Exception:
            if first:  # what was fitted before stays so
                self.__dict__.clear()
                self.__dict__.update(before)
            raise
        return self

    def _fit_checked(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        recipe: tuple[Any, dict[str, Any]],
        first: bool,
        incremental: bool,
    ) -> None:
        labels = y
        X, y = self._take(X, y, first, incremental)
        weight = self._mass(X, labels, sample_weight)
        weight, mass = (None, 1.0) if weight is None else relative(weight, self)
        random = check_random_state(self.random_state)
        if first:
            self._start(X, y, weight, random)
        dtype = self.coefs_[0].dtype
        data: Data = (X.astype(dtype, copy=False), y if y.dtype.kind == "i" else y.astype(dtype))
        if weight is not None:
            data = (*data, np.asarray(weight, dtype))
        self._run(data, self._network(mass), recipe, random, incremental)

    def _start(self, X: Any, y: Array, weight: Array | None, random: Any) -> None:
        """Draw the initial weights and reset the counters."""
        sizes = [X.shape[1], *self._sizes(), self._outputs(y)]
        params = draw(sizes, getattr(self, "activation", "identity"), random, X.dtype)
        if len(sizes) == 2:
            # A linear model has one minimum; no random start is needed to find it.
            params = map_leaves(np.zeros_like, params)
            params["intercepts"][0][...] = self._first_intercept(y, weight)
        self.coefs_, self.intercepts_ = params["coefs"], params["intercepts"]
        self.n_outputs_, self.n_layers_ = sizes[-1], len(sizes)
        self.t_, self.best_loss_ = 0, None if self.early_stopping else np.inf
        self.loss_curve_: list[float] = []
        self.validation_scores_: Any = [] if self.early_stopping else None
        self.best_validation_score_: Any = -np.inf if self.early_stopping else None
        self._failures = 0
        self._optimizer = self._saved = self._recipe = self._rate = self._stream = None
        self._unfound = False

    def _outputs(self, y: Array) -> int:
        return int(y.shape[1])

    def _first_intercept(self, y: Array, weight: Array | None) -> Any:
        """The intercepts of a linear model before the first step."""
        return 0.0

    def _run(
        self,
        data: Data,
        network: Network,
        recipe: tuple[Any, dict[str, Any]],
        random: Any,
        incremental: bool,
    ) -> None:
        early = self.early_stopping and not getattr(recipe[0], "needs_closure", False)
        data, held_out = self._split(data, random) if early else (data, None)
        rows = data[0].shape[0]
        size = self._batch_rows(rows, getattr(recipe[0], "needs_closure", False))
        params = {"coefs": self.coefs_, "intercepts": self.intercepts_}
        optimizer = self._optimizer_over(params, recipe, network, data, size, random, incremental)
        calls = Once(network) if getattr(optimizer, "needs_closure", False) else None
        source: Any = data if calls is None else [data]
        if calls is None and self.shuffle:
            source = ShuffledRows(data, size, random)
        watch = Watch(self, rows, early, calls, incremental)
        with warnings.catch_warnings():
            if incremental:  # one epoch of many along a schedule
                warnings.simplefilter("ignore", ScheduleWarning)
            history = fit(
                calls or network,
                optimizer.params,
                optimizer,
                source,
                epochs=1 if incremental else self.max_iter,
                batch_size=size,
                validation=None if held_out is None else [held_out],
                evaluate=functools.partial(self._evaluate, network) if early else None,
                callbacks=[watch, *self.callbacks],
                seed=None,
                progress=bool(self.verbose),
            )
        check_end(self, str(history.stopped), watch.best is not None)
        self.history_ = history
        self._keep_result(optimizer, watch.best)
        if str(history.stopped).startswith("diverged"):
            self._optimizer = self._recipe = self._rate = None  # the state led here
        hint = scaling_hint(data[0])
        if not (warn_of_end(self, history, incremental, hint) or incremental):
            self._warn_of_result(network, data, hint)

    def _warn_of_result(self, network: Network, data: Data, hint: str) -> None:
        """Warn of a fit at rest that is no better than a constant, or worse than a linear one."""
        params = {"coefs": self.coefs_, "intercepts": self.intercepts_}
        if network.is_blind(params, data):
            warn_of_blindness(self, hint)
        elif hint:
            warn_of_scales(self, network.loss, functools.partial(network.predict, params), data)

    def _batch_rows(self, rows: int, whole_data: bool) -> int:
        """The rows of a batch, at most all there are."""
        if self.batch_size == "auto":
            return min(200, rows)
        if self.batch_size > rows and not whole_data:
            warnings.warn(
                f"{type(self).__name__}: batch_size={self.batch_size} is more than the {rows} rows "
                "to train on, which make one batch",
                UserWarning,
                stacklevel=6,
            )
        return int(min(self.batch_size, rows))

    def _optimizer_over(
        self,
        params: Any,
        recipe: tuple[Any, dict[str, Any]],
        network: Network,
        data: Data,
        size: int,
        random: Any,
        incremental: bool,
    ) -> Any:
        """The optimizer of the last call if it still applies, or a new one."""
        make, options = recipe
        make_one = functools.partial(make, **options)
        rate = given_rate(self, make)
        optimizer, state = self._optimizer, self._saved
        goes_on = self._recipe == recipe
        if goes_on and state is not None:
            training = params if state["params"] is None else state["params"]
            optimizer = make_one(map_leaves(np.array, training))
            optimizer.load_state_dict(state["optimizer"])
        elif not goes_on:
            optimizer = make_one(map_leaves(np.array, params))
            check_made(self, optimizer)
        known = goes_on and rate == self._rate
        if isinstance(rate, str) and (self._stream is not None or not known):
            seed = int(random.randint(2**31 - 1)) if self.shuffle and not known else 0
            self._search(network, optimizer, data, size, make_one, seed, incremental)
        elif not known:
            self._stream, self._unfound = None, False
            if goes_on or rate is not None:
                optimizer.lr = rate
        elif goes_on and not incremental:
            restart(optimizer, rate)
        self._saved = None
        self._optimizer, self._recipe, self._rate = optimizer, recipe, rate
        return optimizer

    def _search(
        self,
        network: Network,
        optimizer: Any,
        data: Data,
        size: int,
        make: Any,
        seed: int,
        incremental: bool,
    ) -> None:
        """Find the rate on these rows; where a stream begins with few, on more as they come."""
        stream = (self._stream or Stream()) if incremental else None
        if stream is not None:
            data = stream.take(data)
        self._stream, params = stream, optimizer.params
        if stream is not None and not stream.is_due:
            return
        if stream is not None and network(params, data)[0] == 0:
            self._unfound = not stream.found
            return stream.tell(type(self).__name__)
        found = self.lr_find_ = find_rate(network, params, data, size, make, seed)
        self._unfound = not found.usable and not (stream is not None and stream.found)
        if found.usable:
            optimizer.lr = found.suggestion
        if stream is not None:
            self._stream = stream.after(found.usable, type(self).__name__)

    def _keep_result(self, optimizer: Any, best: Any) -> None:
        """Keep the best parameters, or the average if the optimizer keeps one."""
        averages = hasattr(optimizer, "averaged")
        if best is None and averages:
            with optimizer.averaged() as params:
                best = map_leaves(np.array, params)
        elif best is not None and not averages:
            leaves = zip(flatten(optimizer.params)[0], flatten(best)[0], strict=True)
            for leaf, value in leaves:
                leaf[...] = value
            best = None
        answer = optimizer.params if best is None else best
        self.coefs_, self.intercepts_ = answer["coefs"], answer["intercepts"]

    def _split(self, data: Data, random: Any) -> tuple[Data, Data]:
        """Split off the validation rows."""
        y = data[1]
        if self.validation_fraction == 0:
            raise ValueError(
                f"{type(self).__name__}: early_stopping=True needs rows to validate on, got "
                "validation_fraction=0; give a share such as 0.1"
            )
        parts = train_test_split(
            *data,
            random_state=random,
            test_size=self.validation_fraction,
            stratify=self._strata(y),
        )
        if parts[1].shape[0] < 2:
            raise ValueError(
                f"{type(self).__name__}: {parts[1].shape[0]} rows are too few to validate on; "
                "raise validation_fraction"
            )
        sides = ("left to train on", "held out for early stopping")
        for weight, side in zip(parts[4:], sides, strict=False):
            if not weight.any():
                raise ValueError(
                    f"{type(self).__name__}: sample_weight is 0 in all {len(weight)} rows {side}; "
                    "leave rows of weight 0 out, or change validation_fraction or random_state"
                )
        return tuple(parts[::2]), tuple(parts[1::2])

    def _strata(self, y: Array) -> Array | None:
        return None

    def _evaluate(self, network: Network, params: Any, batch: Data) -> dict[str, float]:
        outputs = network.predict(params, batch[0])
        score = -np.inf
        if np.isfinite(outputs).all():
            with np.errstate(over="ignore", invalid="ignore"):
                score = self._score(outputs, batch[1], batch[2] if len(batch) > 2 else None)
        return {"loss": network(params, batch)[0], "score": score}

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        optimizer = state.get("_optimizer")
        if optimizer is not None:
            # An optimizer writes to its parameters; arrays that were unpickled may be read-only.
            params = optimizer.params if hasattr(optimizer, "averaged") else None
            state["_saved"] = {"params": params, "optimizer": optimizer.state_dict()}
            state["_optimizer"] = None
        return state

    def _predict(self, X: Any) -> Array:
        network, params, X = self._fitted(X)
        return network.predict(params, X)

    def _fitted(self, X: Any) -> tuple[Network, Any, Any]:
        """The network, its parameters, and the validated rows."""
        check_is_fitted(self)
        without_masks(self, X=X)
        X = validate_data(self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=False)
        return self._network(1.0), {"coefs": self.coefs_, "intercepts": self.intercepts_}, X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

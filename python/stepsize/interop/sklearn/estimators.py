"""The four estimators: parameters, documentation, penalty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from stepsize.arrays import Array
from stepsize.interop.sklearn.base import Estimator
from stepsize.interop.sklearn.kinds import Classifier, Regressor
from stepsize.interop.sklearn.network import ACTIVATIONS, ENDS, Network
from stepsize.interop.sklearn.training import between, is_real, one_of, sizes_of, whole

MOST_UNITS = 2**31 - 1  # of a layer


class _MLP(Estimator):
    """What the two networks share."""

    hidden_layer_sizes: Any
    activation: str

    ranges: ClassVar = {
        **Estimator.ranges,
        "hidden_layer_sizes": (
            lambda v: all(1 <= n <= MOST_UNITS for n in sizes_of(v)),
            "a whole number >= 1, or several",
        ),
        "activation": one_of(*ACTIVATIONS),
        "learning_rate_init": (
            lambda v: callable(v) or (is_real(v) and 0 < v < math.inf),
            "a number > 0",
        ),
        "momentum": (lambda v: is_real(v) and 0 <= v <= 1, "in [0, 1]"),
        "beta_1": between(0, 1),
        "beta_2": between(0, 1),
        "epsilon": (lambda v: is_real(v) and 0 < v < math.inf, "a number > 0"),
        "max_fun": (whole(1), "a whole number >= 1"),
    }

    def _sizes(self) -> list[int]:
        return sizes_of(self.hidden_layer_sizes)

    def _network(self, mass: float) -> Network:
        loss: str = getattr(self, "_loss", "") or getattr(self, "loss", "")
        return Network(self.activation, loss, lambda rows: self.alpha / (rows * mass))

    @property
    def out_activation_(self) -> str:
        """The output activation, by scikit-learn's name."""
        self.coefs_  # noqa: B018  raises AttributeError before fit
        return ENDS[self._network(1.0).loss]


class MLPClassifier(Classifier, _MLP):
    """A multi-layer perceptron for classification, trained by any rule at any rate.

    A drop-in for ``sklearn.neural_network.MLPClassifier``: parameters, defaults and stopping
    criterion are the same, and so are, from the same ``random_state``, the initial weights, the
    validation rows and the order of the rows, so that "adam" and "sgd" give the same numbers up to
    rounding. What is new: ``solver`` and ``lr``; ``learning_rate`` acts with every solver;
    ``warm_start`` continues with the state of the optimizer; ``class_weight``; ``callbacks``;
    ``history_``. float32 rows are trained in float32. Under a schedule momentum accumulates
    gradients, where scikit-learn accumulates steps.

    Args:
        solver: name of a rule, with or without capitals ("adamw", "lion", "lbfgs"), an optimizer
            class, or a function ``params -> optimizer``.
        lr: a number, a schedule (of steps, started anew by each `fit`), "auto" for `ss.lr_find`, or
            None: ``learning_rate_init`` if it is not at its default or the solver is "adam" or
            "sgd", else the default of the rule.
        solver_options: further hyperparameters of the rule, such as ``{"weight_decay": 0.01}``.
        class_weight: None, "balanced", or a dict from label to weight.
        callbacks: as for `ss.fit`.
        hidden_layer_sizes, activation, alpha, batch_size, learning_rate, learning_rate_init,
            power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, momentum,
            nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, epsilon,
            n_iter_no_change, max_fun: as in scikit-learn.

    Attributes:
        history_: the `ss.History` of the last call of `fit` or `partial_fit`.
        lr_find_: what `ss.lr_find` saw, with ``lr="auto"``.
        coefs_, intercepts_, classes_, loss_, best_loss_, loss_curve_, n_iter_, t_,
            validation_scores_, best_validation_score_, n_features_in_, n_outputs_, n_layers_,
            out_activation_: as in scikit-learn.

    Warns:
        ConvergenceWarning: the fit ended before it converged, or is no better than a constant.

    Raises:
        ValueError: a parameter is out of range, the data do not fit, or the training diverged.

    Example:
        >>> import numpy as np
        >>> from stepsize.interop.sklearn import MLPClassifier
        >>> X = np.random.default_rng(0).normal(size=(200, 2))
        >>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "different")
        >>> model = MLPClassifier((32,), solver="adamw", lr=0.01, random_state=0).fit(X, y)
        >>> bool(model.score(X, y) > 0.95), len(model.history_["loss"])
        (True, 200)
    """

    _one_class: ClassVar = True

    def _strata(self, y: Array) -> Array | None:
        # scikit-learn's network stratifies two classes and draws the rows of several at random.
        return super()._strata(y) if self._loss == "log_loss" else None

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        lr: Any = None,
        solver_options: dict[str, Any] | None = None,
        class_weight: Any = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self._keep(locals())


class MLPRegressor(Regressor, _MLP):
    """A multi-layer perceptron for regression, trained by any rule at any rate.

    A drop-in for ``sklearn.neural_network.MLPRegressor``, as `MLPClassifier` is for its
    counterpart. The loss of several outputs is the sum of theirs, which is what the gradients of
    scikit-learn say too; its ``loss_`` is their mean.

    Args:
        loss: "squared_error", or "poisson" for counts (log link).

    Example:
        >>> import numpy as np
        >>> from stepsize.interop.sklearn import MLPRegressor
        >>> X = np.linspace(-2, 2, 200)[:, None]
        >>> y = np.sin(2 * X[:, 0])
        >>> model = MLPRegressor(activation="tanh", solver="lbfgs", random_state=0)
        >>> bool(model.fit(X, y).score(X, y) > 0.99)
        True
    """

    ranges: ClassVar = {**_MLP.ranges, "loss": one_of("squared_error", "poisson")}

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        lr: Any = None,
        solver_options: dict[str, Any] | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self._keep(locals())


class _Linear(Estimator):
    """What the two linear models share."""

    fit_intercept: bool
    _auto_decays: ClassVar = True

    def _sizes(self) -> list[int]:
        return []

    def _network(self, mass: float) -> Network:
        loss: str = getattr(self, "_loss", "") or getattr(self, "loss", "")
        return Network("identity", loss, lambda rows: self.alpha, self.fit_intercept)

    @property
    def coef_(self) -> Any:
        """The weights, (outputs, features), in the shape that scikit-learn's linear models have."""
        coef = self.coefs_[0].T
        return coef[0] if isinstance(self, Regressor) and len(coef) == 1 else coef

    @property
    def intercept_(self) -> Any:
        """The intercepts, (outputs,)."""
        return self.intercepts_[0]


class LinearClassifier(Classifier, _Linear):
    """Logistic or softmax regression, trained by any rule at any rate.

    Parameters and defaults are those of ``sklearn.linear_model.SGDClassifier`` where it has them;
    the objective is the mean loss plus ``alpha * |coef|^2 / 2``. Several classes share one softmax.
    ``solver``, ``lr``, ``solver_options`` and ``callbacks`` are as for `MLPClassifier`, and so are
    the attributes; ``lr="auto"``, the default, finds the rate on the data, lowers it where the loss
    rests, as ``learning_rate="adaptive"`` does, and takes ``tol`` relative to the first loss where
    that is below 1.

    Attributes:
        coef_, intercept_: as in scikit-learn.

    Example:
        >>> import numpy as np
        >>> from stepsize.interop.sklearn import LinearClassifier
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> y = X @ [1.0, -2.0, 0.5] > 0
        >>> model = LinearClassifier(random_state=0).fit(X, y)
        >>> model.coef_.shape, bool(model.score(X, y) > 0.95)
        ((1, 3), True)
    """

    def __init__(
        self,
        *,
        solver: Any = "adam",
        lr: Any = "auto",
        alpha: float = 0.0001,
        fit_intercept: bool = True,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        power_t: float = 0.5,
        max_iter: int = 1000,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-3,
        verbose: Any = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 5,
        solver_options: dict[str, Any] | None = None,
        class_weight: Any = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self._keep(locals())

    def decision_function(self, X: Any) -> Any:
        """The score of each class, (rows, classes); of two, that of the second, (rows,)."""
        network, params, X = self._fitted(X)
        scores = network.forward(params, X)[-1]
        return scores[:, 0] if self._loss == "log_loss" and not self._multilabel else scores


class LinearRegressor(Regressor, _Linear):
    """Linear least squares or Poisson regression, trained by any rule at any rate.

    Parameters and defaults are those of ``sklearn.linear_model.SGDRegressor`` where it has them;
    the objective is the mean loss plus ``alpha * |coef|^2 / 2``. See `LinearClassifier`. The
    intercept starts at the weighted mean of ``y``.

    Example:
        >>> import numpy as np
        >>> from stepsize.interop.sklearn import LinearRegressor
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> model = LinearRegressor(solver="lbfgs", alpha=0.0, tol=1e-8)
        >>> model.fit(X, X @ [1.0, -2.0, 0.5] + 3.0).coef_.round(4)
        array([ 1. , -2. ,  0.5])
    """

    ranges: ClassVar = {**Estimator.ranges, "loss": one_of("squared_error", "poisson")}

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        solver: Any = "adam",
        lr: Any = "auto",
        alpha: float = 0.0001,
        fit_intercept: bool = True,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        power_t: float = 0.5,
        max_iter: int = 1000,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-3,
        verbose: Any = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 5,
        solver_options: dict[str, Any] | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self._keep(locals())

"""Classifiers and regressors: how targets are encoded, and outputs decoded."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import metaestimators
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import column_or_1d, validate_data

from stepsize.arrays import Array
from stepsize.interop.sklearn.base import Estimator, without_masks
from stepsize.interop.sklearn.training import steps_along_gradients


class Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """What classifiers share: labels in, labels and probabilities out."""

    class_weight: Any
    classes_: Array
    _loss: str
    _one_class: ClassVar[bool] = False  # whether y may hold one class only

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to rows of ``X`` and their labels; with ``warm_start`` continue from the last fit.

        Args:
            X: array or sparse matrix, (rows, features).
            y: labels, (rows,), or 0 and 1, (rows, labels), where a row may have several.
            sample_weight: the weight of each row, (rows,).
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @metaestimators.available_if(steps_along_gradients)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """One epoch over these rows; state and schedule of the optimizer continue.

        Args:
            X, y, sample_weight: as for `fit`.
            classes: all labels there will be; the first call needs them.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                f"{type(self).__name__}: class_weight='balanced' needs all rows at once; "
                "give partial_fit a dict of weights, or sample_weight"
            )
        _check_partial_fit_first_call(self, classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """The label of each row."""
        p = self._predict(X)
        if len(self.classes_) == 1 and not self._multilabel:
            return np.full(len(p), self.classes_[0], self.classes_.dtype)
        if self._loss == "cross_entropy":
            return np.asarray(self.classes_[p.argmax(axis=1)])
        if self._multilabel:
            return (p > 0.5).astype(int)
        return np.asarray(self.classes_[(p[:, 0] > 0.5).astype(int)])

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, (rows, classes), in the order of ``classes_``."""
        p = self._predict(X)
        if len(self.classes_) == 1 and not self._multilabel:
            return np.ones_like(p)
        if self._loss == "log_loss" and not self._multilabel:
            return np.hstack([1 - p, p])
        return p

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithm of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.predict_proba(X)))

    def _take(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Array]:
        without_masks(self, X=X, y=y)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            dtype=(np.float64, np.float32),
            reset=first,
        )
        y = y.toarray() if hasattr(y, "toarray") else y
        check_classification_targets(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        found = unique_labels(y)
        if first and not incremental:
            self.classes_ = found
        unknown = np.setdiff1d(found, self.classes_)
        if len(unknown):
            raise ValueError(
                f"{type(self).__name__}: y holds the classes {unknown.tolist()}, "
                f"which are not among those of the first call, {self.classes_.tolist()}"
            )
        if first:
            self._multilabel = type_of_target(y) == "multilabel-indicator"
            if len(self.classes_) < 2 and not self._multilabel and not self._one_class:
                raise ValueError(
                    f"{type(self).__name__}: y holds one class, {self.classes_.tolist()[0]!r}; "
                    "at least two are needed"
                )
            several = not self._multilabel and len(self.classes_) > 2
            self._loss = "cross_entropy" if several else "log_loss"
        if self._multilabel:
            return X, np.asarray(y, X.dtype)
        index = np.searchsorted(self.classes_, y)
        several = self._loss == "cross_entropy"
        return X, index.astype(np.int64) if several else index[:, None].astype(X.dtype)

    def _outputs(self, y: Array) -> int:
        return len(self.classes_) if self._loss == "cross_entropy" else y.shape[1]

    def _mass(self, X: Any, y: Any, sample_weight: Any) -> Array | None:
        weight = super()._mass(X, y, sample_weight)
        if self.class_weight is None:
            return weight
        by_class = compute_sample_weight(self.class_weight, np.asarray(y))
        with np.errstate(over="ignore"):  # infinite products are refused
            return np.asarray(by_class if weight is None else weight * by_class)

    def _strata(self, y: Array) -> Array | None:
        if self._multilabel:
            return None
        return np.asarray(self.classes_[y.astype(int).reshape(-1)])  # the labels, for its errors

    def _score(self, scores: Array, y: Array, weight: Array | None) -> float:
        if self._loss == "cross_entropy":
            return float(accuracy_score(y, scores.argmax(axis=1), sample_weight=weight))
        return float(accuracy_score(y > 0.5, scores > 0.5, sample_weight=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class Regressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """What regressors share: numbers in, numbers out."""

    loss: str
    _single: bool

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to rows of ``X`` and their values; with ``warm_start`` continue from the last fit.

        Args:
            X: array or sparse matrix, (rows, features).
            y: values, (rows,) or (rows, outputs).
            sample_weight: the weight of each row, (rows,).
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @metaestimators.available_if(steps_along_gradients)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch over these rows; state and schedule of the optimizer continue."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """The value of each row, (rows,) or (rows, outputs) as ``y`` was."""
        values = self._predict(X)
        return values[:, 0] if values.shape[1] == 1 else values

    def _take(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Array]:
        without_masks(self, X=X, y=y)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=True,
            dtype=(np.float64, np.float32),
            reset=first,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and not (y >= 0).all():
            raise ValueError(f"{type(self).__name__}: loss='poisson' needs values y >= 0")
        return X, np.asarray(y, X.dtype).reshape(len(y), -1)

    def _first_intercept(self, y: Array, weight: Array | None) -> Any:
        mean = np.average(y, axis=0, weights=weight)
        if not getattr(self, "fit_intercept", True):
            return 0.0
        return np.log(np.maximum(mean, np.finfo(y.dtype).tiny)) if self.loss == "poisson" else mean

    def _score(self, scores: Array, y: Array, weight: Array | None) -> float:
        return float(r2_score(y, scores, sample_weight=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

"""scikit-learn estimators trained with any rule and schedule, or with a rate that was found."""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        'stepsize.interop.sklearn needs scikit-learn: pip install "stepsize[sklearn]"'
    ) from error

from stepsize.interop.sklearn.estimators import (
    LinearClassifier,
    LinearRegressor,
    MLPClassifier,
    MLPRegressor,
)

__all__ = ["LinearClassifier", "LinearRegressor", "MLPClassifier", "MLPRegressor"]

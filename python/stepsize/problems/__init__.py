"""Test problems with hand-written gradients, to try learning rates on.

A `Problem` holds what a training run needs: parameters, a function that returns loss and gradients,
and data. `digits`, `classifier` and `regressor` build neural networks written in plain NumPy; the
test functions (`rosenbrock`, `beale`, `himmelblau`, `rastrigin`, `saddle`, `quadratic`) are loss
landscapes on which the path can be drawn.
"""

from stepsize.problems.landscapes import (
    Landscape,
    beale,
    himmelblau,
    quadratic,
    rastrigin,
    rosenbrock,
    saddle,
)
from stepsize.problems.networks import (
    classifier,
    cross_entropy,
    cross_entropy_loss,
    cross_entropy_scores,
    digits,
    init_mlp,
    mlp_backward,
    mlp_forward,
    regressor,
    squared_error,
    squared_error_loss,
    squared_error_scores,
)
from stepsize.problems.problem import Problem

__all__ = [
    "Landscape",
    "Problem",
    "beale",
    "classifier",
    "cross_entropy",
    "cross_entropy_loss",
    "cross_entropy_scores",
    "digits",
    "himmelblau",
    "init_mlp",
    "mlp_backward",
    "mlp_forward",
    "quadratic",
    "rastrigin",
    "regressor",
    "rosenbrock",
    "saddle",
    "squared_error",
    "squared_error_loss",
    "squared_error_scores",
]

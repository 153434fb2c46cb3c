"""Pictures of training runs, range tests and schedules, as figures or as text.

Each function returns matplotlib axes on a figure of its own (or draws on the `ax` given), made
without pyplot. `ax.figure` shows it in a notebook, `plots.save(ax, path)` writes it.
"""

from stepsize.plots.advice import diagnosed, range_test
from stepsize.plots.charts import comparison, curves, heatmap, landscape
from stepsize.plots.futures import futures
from stepsize.plots.runs import run_curves
from stepsize.plots.searches import parameter, tuning
from stepsize.plots.slopes import gradient_check
from stepsize.plots.style import png, save, svg
from stepsize.plots.text import (
    sparkline,
    text_curves,
    text_learning_curves,
    text_range_test,
    text_schedule,
)
from stepsize.plots.views import learning_curves, schedule

__all__ = [
    "comparison",
    "curves",
    "diagnosed",
    "futures",
    "gradient_check",
    "heatmap",
    "landscape",
    "learning_curves",
    "parameter",
    "png",
    "range_test",
    "run_curves",
    "save",
    "schedule",
    "sparkline",
    "svg",
    "text_curves",
    "text_learning_curves",
    "text_range_test",
    "text_schedule",
    "tuning",
]

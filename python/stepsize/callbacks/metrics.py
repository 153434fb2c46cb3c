"""The direction of a metric: whether lower or higher values of it are better."""

from __future__ import annotations

import re
from typing import Any

from stepsize.validation import choice

__all__: list[str] = []  # no callback in this file

HIGHER_IS_BETTER = """
    acc accuracy ap auc auprc auroc bert bleu concordance corr correlation dice elbo explained f1
    fbeta fscore gini hits iou jaccard kappa likelihood map mcc miou mrr ndcg pearson precision psnr
    r2 recall return returns reward rewards rouge sensitivity snr spearman specificity ssim
"""
LOWER_IS_BETTER = """
    bce brier ce cer cost crossentropy deviance dev distance divergence ece entropy err error errors
    fid hinge huber kl kld logloss loss losses mae mape mase mse msle nll nrmse objective perplexity
    ppl regret residual rmse rmsle smape wer
"""
RISING, FALLING = frozenset(HIGHER_IS_BETTER.split()), frozenset(LOWER_IS_BETTER.split())


def direction(owner: str, monitor: Any, mode: str = "auto") -> str:
    """Whether a metric should fall ("min") or rise ("max"); "auto" infers it from its name.

    Raises:
        ValueError: the name tells nothing, so it is asked for.

    Example:
        >>> [direction("EarlyStopping", m) for m in ("val_loss", "val_top5_accuracy", "r2")]
        ['min', 'max', 'max']
    """
    if not isinstance(monitor, str):
        raise TypeError(f"{owner}: monitor must be the name of a metric, got {monitor!r:.80}")
    if choice(f"{owner}: mode", mode, ("auto", "min", "max")) != "auto":
        return mode
    words = re.findall(r"[a-z]+\d*", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", monitor).lower())
    words = [word if word in RISING else word.rstrip("0123456789") for word in words]
    falls, rises = any(w in FALLING for w in words), any(w in RISING for w in words)
    if falls and rises and words[-1] in ("loss", "error"):
        rises = False
    if not falls and not rises:
        rises = "score" in words
    if falls == rises:
        raise ValueError(
            f"{owner}: whether a lower or a higher {monitor!r} is better cannot be told from its "
            "name: give mode='min' or mode='max'"
        )
    negated = any(word in ("neg", "negative") for word in words)
    return "max" if rises != negated else "min"

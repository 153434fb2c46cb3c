"""Names that are not known: the nearest one here, whatever habit or another library calls it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Taking = TypeVar("Taking", bound=Callable[..., Any])

# What other libraries call an argument, and its names here; the first that there is counts.
ELSEWHERE = {
    **dict.fromkeys(("learning_rate", "step_size", "stepsize", "eta", "alpha"), "lr"),
    **dict.fromkeys(("wd", "weight_decay_rate"), "weight_decay"),
    **dict.fromkeys(("beta1", "beta2", "beta_1", "beta_2", "b1", "b2"), "betas"),
    **dict.fromkeys(("epsilon", "eps_root"), "eps"),
    **dict.fromkeys(("clipnorm", "global_clipnorm", "max_norm", "max_grad_norm"), "clip_norm"),
    "clipvalue": "clip_value",
    "mu": "momentum",
    "use_nesterov": "nesterov",
    **dict.fromkeys(("maxiter", "niter", "max_iterations"), "max_iter steps"),
    **dict.fromkeys(("max_steps", "num_steps", "iterations", "num_iter"), "max_iter steps"),
    **dict.fromkeys(("num_training", "num_it", "steps_per_epoch"), "steps"),
    "method": "rule",
    "optimizer": "rule",
    **dict.fromkeys(("max_epochs", "nb_epoch", "n_epochs", "num_train_epochs"), "epochs"),
    **dict.fromkeys(("bs", "per_device_train_batch_size"), "batch_size"),
    **dict.fromkeys(("validation_data", "val_dataloaders", "val_loader"), "validation"),
    **dict.fromkeys(("eval_dataset", "eval_set", "valid_sets"), "validation"),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch"), "validate_every"),
    **dict.fromkeys(("validation_freq", "eval_steps"), "validate_every"),
    **dict.fromkeys(("train_dataloaders", "train_dataset", "train_loader"), "train batches"),
    **dict.fromkeys(("dataloader", "dataset", "data"), "train batches batch"),
    **dict.fromkeys(("accumulate_grad_batches", "gradient_accumulation_steps"), "accumulate"),
    **dict.fromkeys(("ckpt_path", "resume_from_checkpoint"), "resume"),
    **dict.fromkeys(("compute_metrics", "metrics"), "evaluate"),
    **dict.fromkeys(("verbose", "progress_bar", "enable_progress_bar", "disp"), "progress"),
    **dict.fromkeys(("random_state", "random_seed", "rng"), "seed"),
    **dict.fromkeys(("model", "loss_fn", "loss_function", "fun", "func"), "value_and_grad"),
    **dict.fromkeys(("start_lr", "min_lr"), "lr_min"),
    **dict.fromkeys(("end_lr", "max_lr"), "lr_max"),
    **dict.fromkeys(("early_stop_threshold", "diverge_th", "stop_div"), "stop_ratio"),
    **dict.fromkeys(("smooth_f", "smooth"), "smoothing"),
    **dict.fromkeys(("step_mode", "mode"), "spacing direction"),
    **dict.fromkeys(("n_trials", "max_trials", "num_samples", "n_iter"), "trials max_iter"),
    **dict.fromkeys(("param_space", "search_space", "param_distributions"), "space grid"),
    "param_grid": "grid space",
    **dict.fromkeys(("sampler", "algo", "search_alg"), "method"),
    **dict.fromkeys(("n_jobs", "max_concurrent_trials"), "executor"),
    "lr_scheduler": "schedule",
    "scheduler": "pruner schedule",
    "trainable": "objective fn",
}


def nearest(name: object, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names nearest to one, whatever the capitals, the nearest first.

    Example:
        >>> nearest("momentun", ["lr", "momentum"]), nearest("x", ["lr", "momentum"])
        (['momentum'], [])
    """
    by_lower = {word.lower(): word for word in known}
    for other in ELSEWHERE.get(str(name)[:60].lower(), "").split():
        if other in by_lower:
            return [by_lower[other]]
    close = difflib.get_close_matches(str(name)[:60].lower(), by_lower, n=most, cutoff=0.5)
    return [by_lower[word] for word in close]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name: the nearest one, else all of them.

    Example:
        >>> did_you_mean("momentun", ["lr", "momentum"]), did_you_mean("x", ["lr", "momentum"])
        ("did you mean 'momentum'?", 'there are: lr, momentum')
        >>> did_you_mean("ADAM", ["Adam", "SGD"])
        "did you mean 'Adam'?"
    """
    known = list(known)
    close = nearest(name, known)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(known)}" if known else "there are none"


def closed(function: Taking) -> Taking:
    """Show a function without its ``**unknown``, which it hands to `refuse_unknown`."""
    shown = inspect.signature(function)
    listed = [p for p in shown.parameters.values() if p.kind is not p.VAR_KEYWORD]
    function.__signature__ = shown.replace(parameters=listed)  # type: ignore[attr-defined]
    return function


def refuse_unknown(function: Callable[..., Any], unknown: Iterable[str]) -> None:
    """Refuse keywords that a `closed` function does not take, with their names here."""
    names = list(inspect.signature(function).parameters) if unknown else []
    for name in unknown:
        move = "".join(f"; did you mean {close}?" for close in nearest(name, names))
        raise TypeError(
            f"{function.__name__}: unknown argument {name!r:.80}{move} (it takes "
            f"{', '.join(names)})"
        )

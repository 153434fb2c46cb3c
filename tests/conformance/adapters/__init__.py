"""The libraries; each is imported when its adapter is asked for."""

import importlib

NAMES = (
    "stepsize",
    "torch",
    "optax",
    "keras",
    "timm",
    "pytorch_optimizer",
    "torch_optimizer",
    "schedulefree",
    "authors",
    "deepspeed",
    "bitsandbytes",
    "transformers",
)


def adapter(name):
    """The adapter of a library by its name."""
    return importlib.import_module(f".{name}", __package__).ADAPTER

"""The statements, by family; importing them registers them."""

from . import adagrad, adam, averaged, gradient, layers, matrices, more, rate_free

__all__ = ["adagrad", "adam", "averaged", "gradient", "layers", "matrices", "more", "rate_free"]

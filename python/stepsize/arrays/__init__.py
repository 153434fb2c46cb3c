"""Nests (pytrees) of arrays: their types, their leaves and names, their memory."""

from stepsize.arrays.data import data_set, listed
from stepsize.arrays.memory import (
    FLOATS,
    check_alike,
    check_apart,
    check_dtype,
    check_parameters,
    computed,
    is_narrow,
    pack,
    sum_of_squares,
)
from stepsize.arrays.tree import (
    Structure,
    assign,
    copy,
    explain_difference,
    flatten,
    loss_and_grads,
    map_leaves,
    unflatten,
)
from stepsize.arrays.types import Array, Curve, Nest, ValueAndGrad

__all__ = [
    "FLOATS",
    "Array",
    "Curve",
    "Nest",
    "Structure",
    "ValueAndGrad",
    "assign",
    "check_alike",
    "check_apart",
    "check_dtype",
    "check_parameters",
    "computed",
    "copy",
    "data_set",
    "explain_difference",
    "flatten",
    "is_narrow",
    "listed",
    "loss_and_grads",
    "map_leaves",
    "pack",
    "sum_of_squares",
    "unflatten",
]

"""Nests (pytrees) of arrays: their types, their leaves and names, their memory."""

from stepsize.arrays.data import data_set, listed, refuse_unpacked
from stepsize.arrays.memory import (
    FLOATS,
    LEAST_SUM,
    check_alike,
    check_apart,
    check_dtype,
    check_parameters,
    computed,
    is_narrow,
    norm,
    pack,
    sum_of_squares,
)
from stepsize.arrays.owned import owned
from stepsize.arrays.parts import (
    COMPLEX,
    conversion,
    refuse_complex,
    refuse_masked,
    view_as_complex,
    view_as_real,
)
from stepsize.arrays.rows import RowCounter, rows_of
from stepsize.arrays.tree import (
    Structure,
    assign,
    copy,
    explain_difference,
    flatten,
    loss_and_grads,
    map_leaves,
    not_finite,
    path_not_finite,
    unflatten,
    where_not_finite,
)
from stepsize.arrays.types import Array, Curve, Nest, ValueAndGrad
from stepsize.arrays.views import read_only, refuse_writes
from stepsize.arrays.watching import put_back, refuse_changes, value_and_grad_of

__all__ = [
    "COMPLEX",
    "FLOATS",
    "LEAST_SUM",
    "Array",
    "Curve",
    "Nest",
    "RowCounter",
    "Structure",
    "ValueAndGrad",
    "assign",
    "check_alike",
    "check_apart",
    "check_dtype",
    "check_parameters",
    "computed",
    "conversion",
    "copy",
    "data_set",
    "explain_difference",
    "flatten",
    "is_narrow",
    "listed",
    "loss_and_grads",
    "map_leaves",
    "norm",
    "not_finite",
    "owned",
    "pack",
    "path_not_finite",
    "put_back",
    "read_only",
    "refuse_changes",
    "refuse_complex",
    "refuse_masked",
    "refuse_unpacked",
    "refuse_writes",
    "rows_of",
    "sum_of_squares",
    "unflatten",
    "value_and_grad_of",
    "view_as_complex",
    "view_as_real",
    "where_not_finite",
]

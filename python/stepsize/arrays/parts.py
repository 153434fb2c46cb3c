"""Complex arrays as real ones of twice the numbers, as torch's functions of the same names do.

Arrays of other packages, and the arrays that are refused because one of their parts would be lost.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize.arrays.types import Array

COMPLEX = (np.dtype(np.complex64), np.dtype(np.complex128))
# The cure of masked parameters.
UNMASK = "give a plain one, parameter.filled(0), and gradients of 0 where it was masked"


def as_numpy(array: Any) -> Array:
    """The array, or what another package's array holds: of a tensor, without its graph.

    Example:
        >>> as_numpy(np.ones(2))
        array([1., 1.])
    """
    if isinstance(array, np.ndarray):
        return array
    detach = getattr(array, "detach", None)  # a tensor that requires a gradient gives no numbers
    found: Array = np.asarray(array if detach is None else detach())
    return found


def view_as_real(array: Array) -> Array:
    """The same memory with a last axis of real and imaginary part; a real array as it is.

    Example:
        >>> view_as_real(np.array([1 + 2j, 3j]))
        array([[1., 2.],
               [0., 3.]])
    """
    if array.dtype not in COMPLEX:
        return array
    # An axis of length 1 may be cut in two whatever the strides of the others.
    whole: Array = array[..., None].view(array.real.dtype)
    return whole


def view_as_complex(array: Array, like: Any) -> Array:
    """The same memory as complex numbers, where a dtype is complex; else as it is.

    Example:
        >>> view_as_complex(np.array([[1.0, 2.0], [0.0, 3.0]]), np.dtype(complex))
        array([1.+2.j, 0.+3.j])
    """
    if like not in COMPLEX:
        return array
    double = array.dtype == np.float64
    whole: Array = array.view(np.complex128 if double else np.complex64)
    return whole[..., 0]


def refuse_complex(owner: str, path: str, dtype: Any, cure: str) -> None:
    """Raise TypeError for a complex array where real ones are needed; `cure` says why and what now.

    Example:
        >>> refuse_complex("simplex", "w", np.dtype(complex), "shares are real; give the moduli")
        Traceback (most recent call last):
        ...
        TypeError: simplex: w is complex128; shares are real; give the moduli
    """
    if np.dtype(dtype).kind == "c":
        raise TypeError(f"{owner}: {path} is {dtype}; {cure}")


def refuse_masked(owner: str, name: str, value: Any, cure: str) -> None:
    """Raise TypeError for a masked array, of which only the numbers would be read.

    Example:
        >>> refuse_masked("SGD", "w", np.ma.masked_array([1.0, 2.0], [0, 1]), "give w.filled(0)")
        Traceback (most recent call last):
        ...
        TypeError: SGD: w is a masked array, whose mask would be lost; give w.filled(0)
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{owner}: {name} is a masked array, whose mask would be lost; {cure}")


def conversion(found: Any, wanted: Any) -> str:
    """How an array of one dtype becomes one of another, in words; none drops an imaginary part.

    Example:
        >>> conversion(np.dtype(float), np.dtype(np.float32))
        'convert it with .astype(np.float32)'
    """
    complex_found, complex_wanted = (np.dtype(dtype).kind == "c" for dtype in (found, wanted))
    if complex_found and not complex_wanted:
        return "the parameter is real, so give the real part, gradient.real"
    if complex_wanted and not complex_found:
        return (
            "the parameter is complex, so give both parts, dL/dx + 1j * dL/dy; where the second is "
            f"0, convert it with .astype(np.{wanted})"
        )
    return f"convert it with .astype(np.{wanted})"

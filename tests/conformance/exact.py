"""Arrays of arbitrary-precision numbers: NumPy arrays of objects over a context of 50 digits."""

import mpmath
import numpy as np

mp = mpmath.mp.clone()  # nobody else's precision is touched
mp.dps = 50

sqrt = np.frompyfunc(mp.sqrt, 1, 1)
cbrt = np.frompyfunc(mp.cbrt, 1, 1)
exp = np.frompyfunc(mp.exp, 1, 1)
sign = np.frompyfunc(mp.sign, 1, 1)
ratio = np.frompyfunc(lambda a, b: a / b if b else mp.zero, 2, 1)  # the papers' 0 / 0 = 0


def number(value):
    """A number as it is in binary; flags, names and whole numbers stay what they are."""
    return mp.mpf(value) if isinstance(value, float) else value


def array(values):
    """An array of exact numbers from nested lists or a NumPy array of floats."""
    return np.vectorize(mp.mpf, otypes=[object])(np.asarray(values))


def zeros(like):
    return np.full(np.shape(like), mp.zero, object)


def norm(x):
    return mp.sqrt(sum(v * v for v in np.ravel(x)))


def norm1(x):
    return sum(abs(v) for v in np.ravel(x))


def rms(x):
    return norm(x) / mp.sqrt(np.size(x))


def dot(a, b):
    return sum(u * v for u, v in zip(np.ravel(a), np.ravel(b), strict=True))


def eigenvectors(a):
    """The eigenvalues, from the smallest, and the eigenvectors of a symmetric matrix."""
    values, vectors = mp.eigsy(mp.matrix(a.tolist()))
    return np.array(list(values), object), np.array(vectors.tolist(), object)


def root(a, power):
    """A symmetric positive matrix to any power."""
    values, q = eigenvectors(a)
    return (q * np.array([mp.power(v, power) for v in values], object)) @ q.T


def orthogonal(a):
    """The factor Q of a QR decomposition."""
    q, _ = mp.qr(mp.matrix(a.tolist()))
    return np.array(q.tolist(), object)

"""Sums and means of squared gradients: Adagrad, RMSprop, Adadelta, FTRL, SM3, MADGRAD, COCOB."""

from itertools import count

import numpy as np

from ..exact import cbrt, mp, ratio, sign, sqrt, zeros
from ..registry import rule


@rule(
    "Adagrad",
    "Duchi, Hazan & Singer 2011, JMLR 12, Figure 1, diagonal",
    choices={"place of eps": ("outside the root", "inside the root")},
    lr=0.125,
    lr_decay=0.0,
    initial=0.0,
    eps=0.0078125,
    cases=({"lr_decay": 0.25}, {"initial": 0.25}),
)
def adagrad(x, h):
    s = zeros(x) + h.initial
    for t in count(1):
        x, g = yield x
        s = s + g * g
        root = sqrt(s) + h.eps if h["place of eps"] == "outside the root" else sqrt(s + h.eps)
        x = x - h.lr / (1 + (t - 1) * h.lr_decay) * g / root


@rule(
    "RMSprop",
    "Tieleman & Hinton 2012, lecture 6.5; centered, Graves 2013, arXiv:1308.0850, equations 38-41",
    choices={
        "place of eps": ("inside the root", "outside the root"),
        "rate": ("outside", "inside"),
    },
    lr=0.125,
    alpha=0.875,
    eps=0.0078125,
    momentum=0.0,
    centered=False,
    cases=({"centered": True}, {"momentum": 0.875}),
)
def rmsprop(x, h):
    n = a = b = zeros(x)
    while True:
        x, g = yield x
        n = h.alpha * n + (1 - h.alpha) * g * g
        a = h.alpha * a + (1 - h.alpha) * g
        variance = n - a * a if h.centered else n
        inside = h["place of eps"] == "inside the root"
        root = sqrt(variance + h.eps) if inside else sqrt(variance) + h.eps
        b = h.momentum * b + (h.lr if h.rate == "inside" else 1) * g / root
        x = x - (1 if h.rate == "inside" else h.lr) * b


@rule(
    "Adadelta",
    "Zeiler 2012, arXiv:1212.5701, Algorithm 1",
    lr=1.0,
    rho=0.875,
    eps=0.0078125,
)
def adadelta(x, h):
    n = d = zeros(x)
    while True:
        x, g = yield x
        n = h.rho * n + (1 - h.rho) * g * g
        u = sqrt(d + h.eps) / sqrt(n + h.eps) * g
        d = h.rho * d + (1 - h.rho) * u * u
        x = x - h.lr * u


@rule(
    "FTRL",
    "McMahan et al. 2013, KDD, Algorithm 1",
    decay=None,
    choices={"penalty": ("l2 / 2", "l2")},
    gradients=("plain", "zeros"),
    lr=0.5,
    beta=0.25,
    l1=0.0,
    l2=0.0,
    initial=0.0,
    cases=({"l1": 0.25}, {"l2": 0.125}, {"initial": 0.25, "beta": 0.0}),
)
def ftrl(x, h):
    z, n = zeros(x), zeros(x) + h.initial
    while True:
        x, g = yield x
        sigma = (sqrt(n + g * g) - sqrt(n)) / h.lr
        z, n = z + g - sigma * x, n + g * g
        w = -ratio(
            z - sign(z) * h.l1,
            (h.beta + sqrt(n)) / h.lr + (h.l2 if h.penalty == "l2 / 2" else 2 * h.l2),
        )
        x = np.where(abs(z) <= h.l1, mp.zero, w)


@rule(
    "SM3",
    "Anil et al. 2019, arXiv:1901.11150, Algorithm SM3-II; momentum, section 4",
    choices={"place of eps": ("none", "outside the root", "inside the root")},
    lr=0.125,
    momentum=0.875,
    eps=0.0,
    cases=({"momentum": 0.0},),
)
def sm3(x, h):
    mu = [np.full([n if k == axis else 1 for k in range(x.ndim)], mp.zero, object)
          for axis, n in enumerate(x.shape)]  # fmt: skip
    m = zeros(x)
    while True:
        x, g = yield x
        nu = zeros(x) + mu[0]
        for other in mu[1:]:
            nu = np.minimum(nu, zeros(x) + other)
        nu = nu + g * g
        axes = range(x.ndim)
        mu = [nu.max(axis=tuple(k for k in axes if k != a), keepdims=True) for a in axes]
        inside = h["place of eps"] == "inside the root"
        root = sqrt(nu + h.eps) if inside else sqrt(nu) + h.eps
        m = h.momentum * m + (1 - h.momentum) * ratio(g, root)
        x = x - h.lr * m


@rule(
    "MADGRAD",
    "Defazio & Jelassi 2021, arXiv:2101.11075, Algorithm 1",
    choices={"rate": ("as it is", "with eps")},
    lr=0.125,
    momentum=0.875,
    eps=0.0078125,
    cases=({"momentum": 0.0},),
)
def madgrad(x, h):
    x0, s, v = x, zeros(x), zeros(x)
    for k in count(1):
        x, g = yield x
        step = (h.lr + (h.eps if h.rate == "with eps" else 0)) * mp.sqrt(k)
        s, v = s + step * g, v + step * g * g
        z = x0 - s / (cbrt(v) + h.eps)
        x = h.momentum * x + (1 - h.momentum) * z


@rule(
    "COCOB",
    "Orabona & Tommasi 2017, arXiv:1705.07795, Algorithm 2",
    choices={"first scale": ("0", "eps")},
    decay=None,
    gradients=("plain", "zeros"),
    alpha=8.0,
    eps=0.0078125,
)
def cocob(x, h):
    start, total, reward, theta = x, zeros(x), zeros(x), zeros(x)
    scale = zeros(x) + (h.eps if h["first scale"] == "eps" else 0)
    while True:
        x, g = yield x
        scale = np.maximum(scale, abs(g))
        total = total + abs(g)
        reward = np.maximum(reward - (x - start) * g, 0)
        theta = theta - g
        bet = ratio(theta, scale * np.maximum(total + scale, h.alpha * scale))
        x = start + bet * (scale + reward)

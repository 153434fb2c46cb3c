"""Gradient descent: momentum, signs, clipped ratios, Polyak's step, quasi-Newton."""

from itertools import count

import numpy as np

from ..exact import dot, mp, norm, norm1, sign, zeros
from ..registry import rule

DECOUPLED = ("decoupled", "coupled")


@rule(
    "SGD",
    "Robbins & Monro 1951; momentum, Sutskever et al. 2013, section 2, with the rate outside",
    choices={
        "start": ("gradient", "zero"),  # of the momentum: matters with dampening
        "rate": ("outside", "inside"),  # of the momentum: matters if the rate changes
    },
    cases=(
        {"momentum": 0.875},
        {"momentum": 0.875, "nesterov": True},
        {"momentum": 0.875, "dampening": 0.25},
        {"momentum": 0.875, "weight_decay": 0.125},
    ),
    lr=0.125,
    momentum=0.0,
    dampening=0.0,
    nesterov=False,
)
def sgd(x, h):
    v = zeros(x)
    for t in count(1):
        x, g = yield x
        rate = h.lr if h.rate == "inside" else 1
        damped = 1 if t == 1 and h.start == "gradient" else 1 - h.dampening
        v = h.momentum * v + damped * rate * g
        d = rate * g + h.momentum * v if h.nesterov else v
        x = x - (1 if h.rate == "inside" else h.lr) * d


@rule(
    "QHM",
    "Ma & Yarats 2018, arXiv:1810.06801, equations 4 and 5",
    lr=0.125,
    momentum=0.875,
    nu=0.75,
)
def qhm(x, h):
    m = zeros(x)
    while True:
        x, g = yield x
        m = h.momentum * m + (1 - h.momentum) * g
        x = x - h.lr * ((1 - h.nu) * g + h.nu * m)


@rule(
    "AggMo",
    "Lucas et al. 2018, arXiv:1804.00325, equations 3 and 4",
    lr=0.125,
    betas=(0.0, 0.5, 0.875),
)
def aggmo(x, h):
    v = [zeros(x) for _ in h.betas]
    while True:
        x, g = yield x
        v = [mp.mpf(beta) * u - g for beta, u in zip(h.betas, v, strict=True)]
        x = x + h.lr / len(v) * sum(v)


@rule(
    "SignSGD",
    "Bernstein et al. 2018, arXiv:1802.04434, Algorithm 1",
    lr=0.125,
)
def signsgd(x, h):
    while True:
        x, g = yield x
        x = x - h.lr * sign(g)


@rule(
    "Signum",
    "Bernstein et al. 2018, arXiv:1802.04434, Algorithm 2",
    choices={"average": ("average", "sum")},
    decay=DECOUPLED,
    lr=0.125,
    momentum=0.875,
)
def signum(x, h):
    m = zeros(x)
    while True:
        x, g = yield x
        m = h.momentum * m + (1 - h.momentum if h.average == "average" else 1) * g
        x = x - h.lr * sign(m)


@rule(
    "Lion",
    "Chen et al. 2023, arXiv:2302.06675, Algorithm 2",
    choices={"sign of 0": ("0", "+1")},
    decay=DECOUPLED,
    lr=0.125,
    beta1=0.875,
    beta2=0.96875,
)
def lion(x, h):
    m = zeros(x)
    while True:
        x, g = yield x
        c = sign(h.beta1 * m + (1 - h.beta1) * g)
        if h["sign of 0"] == "+1":
            c = np.where(c == 0, mp.one, c)
        x = x - h.lr * c
        m = h.beta2 * m + (1 - h.beta2) * g


@rule(
    "Tiger",
    "Su 2023, Tiger (bojone/tiger): the sign of an average of gradients",
    decay=DECOUPLED,
    lr=0.125,
    beta=0.96875,
)
def tiger(x, h):
    m = zeros(x)
    while True:
        x, g = yield x
        m = h.beta * m + (1 - h.beta) * g
        x = x - h.lr * sign(m)


@rule(
    "Rprop",
    "Igel & Huesken 2000, NC, iRprop-; Riedmiller & Braun 1993, ICNN",
    decay=None,
    gradients=("plain", "zeros", "of one sign"),
    lr=0.125,
    shrink=0.5,
    grow=1.25,
    smallest=0.03125,
    largest=0.25,
)
def rprop(x, h):
    last, size = zeros(x), zeros(x) + h.lr
    while True:
        x, g = yield x
        turn = sign(g * last)
        grown, shrunk = (
            np.minimum(h.grow * size, h.largest),
            np.maximum(h.shrink * size, h.smallest),
        )
        size = np.where(turn > 0, grown, np.where(turn < 0, shrunk, size))
        last = np.where(turn < 0, mp.zero, g)
        x = x - sign(last) * size


@rule(
    "PolyakSGD",
    "Loizou et al. 2021, arXiv:2002.10542, equation 4 (SPS_max)",
    decay=None,
    choices={"scaling": ("of the ratio's divisor", "of the step")},
    whole=True,
    lr=0.25,
    scale=1.0,
    f_min=0.0,
    cases=({"scale": 0.5}, {"f_min": 0.5}),
)
def polyak(x, h):
    while True:
        x, g = yield x
        divides = h.scaling == "of the ratio's divisor"
        step = (h.loss - h.f_min) / (dot(g, g) * (h.scale if divides else 1))
        x = x - (1 if divides else h.scale) * min(step, h.lr) * g


@rule(
    "MoMo",
    "Schaipp et al. 2024, arXiv:2305.07583, Algorithm 1",
    decay=None,
    whole=True,
    lr=1.0,
    beta=0.875,
    weight_decay=0.0,
    lb=0.0,
    cases=({"weight_decay": 0.125}, {"lb": 0.5}),
)
def momo(x, h):
    for t in count(1):
        x, g = yield x
        b = h.beta if t > 1 else 0
        d = b * (d if t > 1 else 0) + (1 - b) * g  # noqa: F821
        f = b * (f if t > 1 else 0) + (1 - b) * h.loss  # noqa: F821
        gamma = b * (gamma if t > 1 else 0) + (1 - b) * dot(g, x)  # noqa: F821
        shrink = 1 + h.lr * h.weight_decay
        model = max(shrink * (f - gamma - h.lb) + dot(d, x), 0)
        x = (x - min(h.lr, model / dot(d, d)) * d) / shrink


@rule(
    "LBFGS",
    "Nocedal & Wright 2006, Algorithms 7.4 and 7.5, steps of the rate",
    choices={"first step": ("rate", "rate times min(1, 1 / |g|_1)")},
    decay=None,
    whole=True,
    gradients=("quadratic",),
    lr=0.5,
    history=2,
    cases=({"history": 8},),
)
def lbfgs(x, h):
    pairs, last = [], None
    for t in count(1):
        x, g = yield x
        if last is not None:
            s, y = x - last[0], g - last[1]
            pairs = [*pairs, (s, y)][-h.history :]
        last = x, g
        q, alphas = g, []
        for s, y in reversed(pairs):
            alphas.append(dot(s, q) / dot(s, y))
            q = q - alphas[-1] * y
        if pairs:
            q = q * (dot(*pairs[-1]) / dot(pairs[-1][1], pairs[-1][1]))
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q = q + s * (alpha - dot(y, q) / dot(s, y))
        first = min(1, 1 / norm1(g)) if t == 1 and h["first step"] != "rate" else 1
        x = x - h.lr * first * q


@rule(
    "Fromage",
    "Bernstein et al. 2020, arXiv:2002.03432, Algorithm 1",
    decay=None,
    lr=0.125,
)
def fromage(x, h):
    while True:
        x, g = yield x
        x = (x - h.lr * norm(x) / norm(g) * g) / mp.sqrt(1 + h.lr**2)

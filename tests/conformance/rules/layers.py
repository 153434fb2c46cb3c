"""Rules that measure a leaf: LARS, LAMB, NovoGrad, Adafactor."""

from itertools import count

import numpy as np

from ..exact import mp, norm, rms, sqrt, zeros
from ..registry import rule


@rule(
    "LARS",
    "You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1",
    decay=None,
    choices={
        "rate": ("inside the momentum", "outside the momentum"),
        "place of eps": ("none", "in the sum of norms"),
        "norm": ("gradient and decay apart", "gradient with decay"),
    },
    cases=({"weight_decay": 0.125}, {"nesterov": True}),
    lr=1.0,
    trust=0.125,
    momentum=0.875,
    weight_decay=0.0,
    eps=0.0078125,
    nesterov=False,
)
def lars(x, h):
    v = zeros(x)
    while True:
        x, g = yield x
        d = g + h.weight_decay * x
        size = norm(g) + h.weight_decay * norm(x)
        if h.norm != "gradient and decay apart":
            size = norm(d)
        trust = h.trust * norm(x) / (size + h.eps * (h["place of eps"] != "none"))
        inside = h.rate == "inside the momentum"
        u = (h.lr if inside else 1) * trust * d
        v = h.momentum * v + u
        x = x - (1 if inside else h.lr) * (u + h.momentum * v if h.nesterov else v)


@rule(
    "LAMB",
    "You et al. 2020, arXiv:1904.00962, Algorithm 2",
    decay=None,
    choices={
        "bias": ("corrected", "not corrected"),
        "place of eps": ("outside the root", "inside the root", "before the correction"),
        "decay": ("in the ratio", "after the ratio"),
    },
    cases=({"weight_decay": 0.125},),
    lr=0.125,
    beta1=0.875,
    beta2=0.96875,
    eps=0.0078125,
    weight_decay=0.0,
)
def lamb(x, h):
    m = v = zeros(x)
    for t in count(1):
        x, g = yield x
        m = h.beta1 * m + (1 - h.beta1) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        full = h.bias == "corrected"
        c1, c2 = (1 - h.beta1**t, 1 - h.beta2**t) if full else (mp.one, mp.one)
        place = h["place of eps"]
        root = sqrt(v / c2) + h.eps
        if place != "outside the root":
            root = sqrt(v / c2 + h.eps) if place == "inside the root" else sqrt(v) / mp.sqrt(c2)
            root = root if place == "inside the root" else root + h.eps / mp.sqrt(c2)
        r = m / c1 / root
        inside = h.decay == "in the ratio"
        u = r + h.weight_decay * x if inside else r
        ratio = norm(x) / norm(u)
        x = (x if inside else x * (1 - h.lr * h.weight_decay)) - h.lr * ratio * u


@rule(
    "NovoGrad",
    "Ginsburg et al. 2019, arXiv:1905.11286, Algorithm 1",
    decay=None,
    choices={
        "first step": ("no eps", "eps"),
        "average": ("sum", "average"),
        "place of eps": ("outside the root", "inside the root"),
    },
    gradients=("plain", "moving rate"),
    cases=({"weight_decay": 0.125},),
    lr=0.125,
    beta1=0.875,
    beta2=0.96875,
    eps=0.0078125,
    weight_decay=0.0,
)
def novograd(x, h):
    m, v = zeros(x), mp.zero
    for t in count(1):
        x, g = yield x
        v = h.beta2 * v + (1 - h.beta2) * norm(g) ** 2 if t > 1 else norm(g) ** 2
        eps = h.eps if t > 1 or h["first step"] == "eps" else 0
        inside = h["place of eps"] == "inside the root"
        u = g / (mp.sqrt(v + eps) if inside else mp.sqrt(v) + eps) + h.weight_decay * x
        m = h.beta1 * m + (1 if h.average == "sum" else 1 - h.beta1) * u
        x = x - h.lr * m


@rule(
    "Adafactor",
    "Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4 and 5",
    decay=None,
    choices={
        "decay": ("decoupled", "decoupled, before the size is taken", "coupled"),
        "eps1": ("added", "a bound of the mean", "none"),
        "rate": ("min(lr, 1 / sqrt(t))", "lr"),
    },
    gradients=("plain", "moving rate"),
    shapes=((2, 3), (3,)),
    cases=({"clip": 2.0}, {"weight_decay": 0.125}),
    lr=0.5,
    weight_decay=0.0,
    power=0.75,
    eps=0.0078125,
    eps2=0.0078125,
    clip=1.0,
)
def adafactor(x, h):
    matrix = x.ndim > 1
    v = rows = columns = mp.zero
    for t in count(1):
        x, g = yield x
        size = rms(x)
        if h.decay == "coupled":
            g = g + h.weight_decay * x
        else:
            x = x * (1 - h.lr * h.weight_decay)
            size = size if h.decay == "decoupled" else rms(x)
        beta = 1 - mp.power(t, -h.power)
        square = g * g + (h.eps if h.eps1 == "added" else 0)
        if matrix:
            rows = beta * rows + (1 - beta) * square.mean(1, keepdims=True)
            columns = beta * columns + (1 - beta) * square.mean(0, keepdims=True)
            mean = rows.mean()
            if h.eps1 == "a bound of the mean":
                mean = max(mean, h.eps)
            v = rows * columns / mean
        else:
            v = beta * v + (1 - beta) * square
        if h.eps1 == "a bound of the mean":
            v = np.maximum(v, h.eps * h.eps)
        u = g / sqrt(v)
        u = u / max(1, rms(u) / h.clip)
        rate = min(h.lr, 1 / mp.sqrt(t)) if h.rate != "lr" else h.lr
        x = x - max(h.eps2, size) * rate * u

"""Further relatives of Adam that libraries offer."""

from itertools import count

import numpy as np

from ..exact import exp, mp, sqrt, zeros
from ..registry import rule
from .adam import ADAM, BIAS, PLACES, corrected, denominator


@rule(
    "QHAdam",
    "Ma & Yarats 2018, arXiv:1810.06801, Algorithm 2",
    choices={"place of eps": PLACES[:2]} | BIAS,
    nu1=0.75,
    nu2=0.5,
    **ADAM,
)
def qhadam(x, h):
    m = v = zeros(x)
    for t in count(1):
        x, g = yield x
        m = h.beta1 * m + (1 - h.beta1) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        upper = (1 - h.nu1) * g + h.nu1 * corrected(m, h.beta1, t, h)
        lower = (1 - h.nu2) * g * g + h.nu2 * corrected(v, h.beta2, t, h)
        inside = h["place of eps"] == "inside the root"
        x = x - h.lr * upper / (sqrt(lower + h.eps) if inside else sqrt(lower) + h.eps)


@rule(
    "AdaBound",
    "Luo et al. 2019, arXiv:1902.09843, Algorithm 2; bounds, section 5",
    choices={"bias": ("not corrected", "corrected"), "place of eps": ("none", "in the root")},
    gradients=("plain", "moving rate"),
    final=0.25,
    gamma=0.25,
    **ADAM,
)
def adabound(x, h):
    m = v = zeros(x)
    first = None
    for t in count(1):
        x, g = yield x
        first = h.lr if first is None else first
        m = h.beta1 * m + (1 - h.beta1) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        final = h.final * h.lr / first
        low = final * (1 - 1 / (h.gamma * t + 1))
        high = final * (1 + 1 / (h.gamma * t))
        root = sqrt(v) + (h.eps if h["place of eps"] != "none" else 0)
        full = h.bias == "corrected"
        rate = h.lr * (mp.sqrt(1 - h.beta2**t) / (1 - h.beta1**t) if full else 1)
        x = x - np.minimum(np.maximum(rate / root, low), high) * m


@rule(
    "AdaMod",
    "Ding et al. 2019, arXiv:1910.12249, Algorithm 1",
    choices={"place of eps": (PLACES[0], PLACES[2])} | {"bias": ("corrected",)},
    beta3=0.984375,
    **ADAM,
)
def adamod(x, h):
    m = v = s = zeros(x)
    for t in count(1):
        x, g = yield x
        m = h.beta1 * m + (1 - h.beta1) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        eta = h.lr / denominator(v, h, t)
        s = h.beta3 * s + (1 - h.beta3) * eta
        x = x - np.minimum(eta, s) * m / (1 - h.beta1**t)


@rule(
    "DiffGrad",
    "Dubey et al. 2020, arXiv:1909.11015, equations 3 to 6",
    choices={"place of eps": (PLACES[0], PLACES[2]), "bias": ("corrected",)},
    **ADAM,
)
def diffgrad(x, h):
    m = v = last = zeros(x)
    for t in count(1):
        x, g = yield x
        m = h.beta1 * m + (1 - h.beta1) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        friction = 1 / (1 + exp(-abs(last - g)))
        last = g
        x = x - h.lr * friction * m / (1 - h.beta1**t) / denominator(v, h, t)


@rule(
    "Padam",
    "Chen & Gu 2018, arXiv:1806.06763, Algorithm 1, with the corrections of the authors' code",
    choices={
        "maximum": ("of v", "none"),
        "place of eps": ("none", "in the root", "in the corrected root"),
    },
    gradients=("plain", "moving rate"),
    partial=0.25,
    **ADAM,
)
def padam(x, h):
    m = v = top = zeros(x)
    for t in count(1):
        x, g = yield x
        m = h.beta1 * m + (1 - h.beta1) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        top = np.maximum(top, v) if h.maximum == "of v" else v
        c = mp.sqrt(1 - h.beta2**t)
        root = sqrt(top)
        if h["place of eps"] == "in the root":
            root = root + h.eps
        if h["place of eps"] == "in the corrected root":
            root = root / c + h.eps
        rate = h.lr / (1 - h.beta1**t)
        if h["place of eps"] != "in the corrected root":
            rate = rate * c
        x = x - rate * m / np.frompyfunc(lambda r: mp.power(r, 2 * h.partial), 1, 1)(root)

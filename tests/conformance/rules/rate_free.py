"""Rules that find their own rate: D-Adaptation, Prodigy, DoG, DoWG."""

from itertools import count

from ..exact import dot, mp, norm, norm1, sqrt, zeros
from ..registry import rule

ADAM = {"beta1": 0.875, "beta2": 0.96875, "eps": 0.0078125}
FIRST = 0.125  # a first estimate of the distance that can be seen to matter


@rule(
    "DAdaptSGD",
    "Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 4",
    decay=("coupled",),
    whole=True,
    lr=1.0,
    momentum=0.0,
    d0=FIRST,
    cases=({"momentum": 0.875},),
)
def dadapt_sgd(x, h):
    z, s, total, d = x, zeros(x), mp.zero, h.d0
    for k in count(0):
        x, g = yield x
        first = norm(g) if k == 0 else first  # noqa: F821
        rate = d * h.lr / first
        total = total + rate * dot(g, s)
        s = s + rate * g
        d = max(d, 2 * total / norm(s))
        z = z - rate * g
        x = h.momentum * x + (1 - h.momentum) * z


@rule(
    "DAdaptAdam",
    "Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 5",
    decay=("decoupled, times d", "decoupled", "coupled"),
    choices={"scale of r": ("of this step", "of the step before")},
    whole=True,
    lr=1.0,
    d0=FIRST,
    gradients=("plain", "moving rate"),
    **ADAM,
)
def dadapt_adam(x, h):
    m = v = s = zeros(x)
    r, d, beta, scale = mp.zero, h.d0, mp.sqrt(h.beta2), zeros(x) + h.eps
    while True:
        x, g = yield x
        rate = d * h.lr
        m = h.beta1 * m + (1 - h.beta1) * rate * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        before, scale = scale, sqrt(v) + h.eps
        by = scale if h["scale of r"] == "of this step" else before
        r = beta * r + (1 - beta) * rate * dot(g, s / by)
        s = beta * s + (1 - beta) * rate * g
        x = x - (d * h.lr * h.weight_decay * x if h.decay == "decoupled, times d" else 0)
        d = max(d, r / ((1 - beta) * norm1(s)))
        x = x - m / scale


@rule(
    "Prodigy",
    "Mishchenko & Defazio 2024, arXiv:2306.06101, Algorithm 4",
    decay=("decoupled, times d", "decoupled", "coupled"),
    choices={"d at eps": ("of this step", "of the next")},
    whole=True,
    lr=1.0,
    d0=FIRST,
    gradients=("plain", "moving rate"),
    **ADAM,
)
def prodigy(x, h):
    start, m, v, s = x, zeros(x), zeros(x), zeros(x)
    r, d, beta = mp.zero, h.d0, mp.sqrt(h.beta2)
    while True:
        x, g = yield x
        r = beta * r + (1 - beta) * h.lr * d**2 * dot(g, start - x)
        s = beta * s + (1 - beta) * h.lr * d**2 * g
        m = h.beta1 * m + (1 - h.beta1) * d * g
        v = h.beta2 * v + (1 - h.beta2) * d**2 * g * g
        new = max(d, r / norm1(s))
        eps = h.eps * (new if h["d at eps"] == "of the next" else d)
        x = x - (d * h.lr * h.weight_decay * x if h.decay == "decoupled, times d" else 0)
        x = x - h.lr * d * m / (sqrt(v) + eps)
        d = new


def dog(x, h):
    start, farthest, total = x, h.first * (1 + norm(x)), mp.zero
    while True:
        x, g = yield x
        farthest = max(farthest, norm(x - start))
        total = total + norm(g) ** 2
        x = x - h.lr * farthest / mp.sqrt(total + h.eps) * g


for name, whole in (("DoG", True), ("LDoG", False)):
    rule(
        name,
        f"Ivgi, Hinder & Carmon 2023, arXiv:2302.12022, section {3 if whole else 5}",
        whole=whole,
        lr=1.0,
        first=FIRST,
        eps=0.0078125,
    )(dog)


@rule(
    "DoWG",
    "Khaled, Mishchenko & Jin 2023, arXiv:2305.16284, Algorithm 1",
    choices={"place of eps": ("none", "outside the root, as the first squared distance")},
    decay=("coupled",),
    whole=True,
    gradients=("plain",),
    first=FIRST,
)
def dowg(x, h):
    start, farthest, total = x, h.first, mp.zero
    while True:
        x, g = yield x
        farthest = max(farthest, norm(x - start))
        total = total + farthest**2 * norm(g) ** 2
        eps = h.first**2 if h["place of eps"] != "none" else 0
        x = x - farthest**2 / (mp.sqrt(total) + eps) * g

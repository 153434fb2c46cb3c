"""Adam and what came of it, element by element."""

from itertools import count

import numpy as np

from ..exact import mp, sign, sqrt, zeros
from ..registry import rule

DECOUPLED = ("decoupled", "coupled")
ADAM = {"lr": 0.125, "beta1": 0.875, "beta2": 0.96875, "eps": 0.0078125}
PLACES = ("outside the root", "inside the root", "before the correction", "inside both")
BIAS = {"bias": ("corrected", "not corrected")}


def corrected(m, beta, t, h):
    return m / (1 - beta**t) if h.bias == "corrected" else m


def denominator(v, h, t):
    """The root of the second moment, with eps in the place that is chosen."""
    place, c = h["place of eps"], 1 - h.beta2**t if h.bias == "corrected" else mp.one
    if place == "inside the root":
        return sqrt(v / c + h.eps)
    if place == "before the correction":
        return (sqrt(v) + h.eps) / mp.sqrt(c)
    return sqrt(v / c) + h.eps


def adam(x, h):
    m = v = top = zeros(x)
    for t in count(1):
        x, g = yield x
        m = h.beta1 * m + (1 - h.beta1) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        top = np.maximum(top, v)
        m_hat = corrected(m, h.beta1, t, h)
        if h.amsgrad and h.maximum == "of the corrected":
            best = v / (1 - h.beta2**t)
            largest = best if t == 1 else np.maximum(largest, best)  # noqa: F821
            x = x - h.lr * m_hat / (sqrt(largest) + h.eps)
        else:
            x = x - h.lr * m_hat / denominator(top if h.amsgrad else v, h, t)


for name, source, kinds in (
    ("Adam", "Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1", ("coupled",)),
    ("AdamW", "Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2", DECOUPLED),
    ("AdamW, undone", "a step that is undone and made again is one step of AdamW", DECOUPLED),
):
    rule(
        name,
        f"{source}; AMSGrad, Reddi, Kale & Kumar 2018, arXiv:1904.09237",
        decay=kinds,
        choices={
            "place of eps": PLACES[:3],
            "maximum": ("of the moment", "of the corrected"),
        }
        | BIAS,
        cases=({"amsgrad": True},),
        amsgrad=False,
        **ADAM,
    )(adam)


@rule(
    "Adamax",
    "Kingma & Ba 2015, arXiv:1412.6980, Algorithm 2",
    choices={"place of eps": ("none", "in the maximum", "outside")} | BIAS,
    gradients=("plain", "moving rate"),
    **ADAM,
)
def adamax(x, h):
    m = u = zeros(x)
    for t in count(1):
        x, g = yield x
        m = h.beta1 * m + (1 - h.beta1) * g
        size = abs(g) + (h.eps if h["place of eps"] == "in the maximum" else 0)
        u = np.maximum(h.beta2 * u, size)
        below = u + (h.eps if h["place of eps"] == "outside" else 0)
        x = x - h.lr * corrected(m, h.beta1, t, h) / below


def nadam(x, h):
    m = v = zeros(x)
    product = mp.one

    def mu(t):
        if h.mu == "beta1":
            return h.beta1
        by = h.momentum_decay if h.mu == "from beta1 / 2 to beta1" else 1
        return h.beta1 * (1 - mp.mpf("0.5") * mp.power("0.96", t * by))

    for t in count(1):
        x, g = yield x
        product *= mu(t)
        beta = mu(t) if h.average == "by mu" else h.beta1
        m = beta * m + (1 - beta) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        ahead = product * mu(t + 1)
        m_hat = mu(t + 1) * m / (1 - ahead) + (1 - mu(t)) * g / (1 - product)
        v_hat = v / (1 - h.beta2**t)
        if h["second moment"] == "times beta2":
            v_hat = h.beta2 * v_hat
        x = x - h.lr * m_hat / (sqrt(v_hat) + h.eps)


for name, kinds in (("NAdam", ("coupled",)), ("NAdamW", DECOUPLED)):
    rule(
        name,
        "Dozat 2016, ICLR workshop, Algorithm 2",
        decay=kinds,
        choices={
            "average": ("by mu", "by beta1"),
            "mu": ("from beta1 / 2 to beta1", "the same with a decay of 1", "beta1"),
            "second moment": ("times beta2", "corrected"),
        },
        momentum_decay=0.25,
        cases=({"momentum_decay": 0.0},),
        **ADAM,
    )(nadam)


@rule(
    "RAdam",
    "Liu et al. 2020, arXiv:1908.03265, Algorithm 2",
    choices={
        "threshold": ("4", "5"),
        "place of eps": ("none", "before the correction", "outside the root"),
    },
    cases=({"beta2": 0.75},),
    gradients=("plain", "moving rate"),
    **ADAM,
)
def radam(x, h):
    m = v = zeros(x)
    top = 2 / (1 - h.beta2) - 1
    for t in count(1):
        x, g = yield x
        m = h.beta1 * m + (1 - h.beta1) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        m_hat = m / (1 - h.beta1**t)
        power = h.beta2**t
        length = top - 2 * t * power / (1 - power)
        if length > int(h.threshold):
            r = (length - 4) * (length - 2) * top / ((top - 4) * (top - 2) * length)
            eps = h.eps * (h["place of eps"] != "none")
            c = mp.sqrt(1 - power)
            inner = h["place of eps"] == "before the correction"
            root = (sqrt(v) + eps) / c if inner else sqrt(v) / c + eps
            x = x - h.lr * mp.sqrt(r) * m_hat / root
        else:
            x = x - h.lr * m_hat


@rule(
    "AdaBelief",
    "Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2",
    choices={"place of eps": ("in both", "in the root alone", "in the moment alone")} | BIAS,
    **ADAM,
)
def adabelief(x, h):
    m = s = zeros(x)
    for t in count(1):
        x, g = yield x
        m = h.beta1 * m + (1 - h.beta1) * g
        moment = h.eps * (h["place of eps"] != "in the root alone")
        s = h.beta2 * s + (1 - h.beta2) * (g - m) * (g - m) + moment
        root = sqrt(corrected(s, h.beta2, t, h)) + h.eps * (
            h["place of eps"] != "in the moment alone"
        )
        x = x - h.lr * corrected(m, h.beta1, t, h) / root


@rule(
    "Yogi",
    "Zaheer et al. 2018, NeurIPS, Algorithm 2",
    choices={
        "bias": ("not corrected", "corrected"),
        "start": ("of the second moment", "of both moments", "squared gradient"),
        "place of eps": PLACES[:1],
    },
    initial=0.25,
    **ADAM,
)
def yogi(x, h):
    v = zeros(x) + h.initial
    m = zeros(x) + (h.initial if h.start == "of both moments" else 0)
    for t in count(1):
        x, g = yield x
        if t == 1 and h.start == "squared gradient":
            v = g * g
        m = h.beta1 * m + (1 - h.beta1) * g
        v = v - (1 - h.beta2) * sign(v - g * g) * g * g
        x = x - h.lr * corrected(m, h.beta1, t, h) / denominator(v, h, t)


@rule(
    "Adan",
    "Xie et al. 2022, arXiv:2208.06677, Algorithm 1, each beta as what is kept",
    decay=None,
    choices={
        "bias": ("not corrected", "corrected"),
        "difference": ("times beta2", "times 1 - beta2"),
        "decay": ("proximal", "decoupled"),
    },
    cases=({"weight_decay": 0.125},),
    lr=0.125,
    beta1=0.96875,
    beta2=0.875,
    beta3=0.984375,
    eps=0.0078125,
    weight_decay=0.0,
)
def adan(x, h):
    m = d = n = last = zeros(x)
    for t in count(1):
        x, g = yield x
        change = g - last if t > 1 else zeros(x)
        last = g
        ahead = h.beta2 if h.difference == "times beta2" else 1 - h.beta2
        m = h.beta1 * m + (1 - h.beta1) * g
        d = h.beta2 * d + (1 - h.beta2) * change
        n = h.beta3 * n + (1 - h.beta3) * (g + ahead * change) ** 2
        u = corrected(m, h.beta1, t, h) + ahead * corrected(d, h.beta2, t, h)
        u = u / (sqrt(corrected(n, h.beta3, t, h)) + h.eps)
        if h.decay == "proximal":
            x = (x - h.lr * u) / (1 + h.lr * h.weight_decay)
        else:
            x = x * (1 - h.lr * h.weight_decay) - h.lr * u


@rule(
    "AdEMAMix",
    "Pagliardini, Ablin & Grangier 2024, arXiv:2409.03137, Algorithm 1",
    decay=DECOUPLED,
    beta3=0.984375,
    alpha=2.0,
    warmup=0,
    choices={"place of eps": PLACES[:3], "bias": ("corrected",)},
    cases=({"warmup": 8},),
    **ADAM,
)
def ademamix(x, h):
    m1 = m2 = v = zeros(x)
    for t in count(1):
        x, g = yield x
        alpha, beta3 = h.alpha, h.beta3
        if h.warmup:
            low, high, part = mp.log(h.beta1), mp.log(h.beta3), mp.mpf(t) / h.warmup
            if part < 1:
                beta3 = mp.exp(low * high / ((1 - part) * high + part * low))
            alpha = min(part * alpha, alpha)
        m1 = h.beta1 * m1 + (1 - h.beta1) * g
        m2 = beta3 * m2 + (1 - beta3) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        x = x - h.lr * (m1 / (1 - h.beta1**t) + alpha * m2) / denominator(v, h, t)


@rule(
    "ADOPT",
    "Taniguchi et al. 2024, arXiv:2411.02853, Algorithm 2; clipped to t ** 1/4, section 5",
    decay=None,
    choices={
        "decay": ("decoupled, from the second step", "decoupled", "coupled"),
        "place of eps": ("maximum", "outside"),
    },
    gradients=("plain", "moving rate"),
    clipped=True,
    weight_decay=0.0,
    cases=({"clipped": False}, {"weight_decay": 0.125}),
    **ADAM,
)
def adopt(x, h):
    m = v = zeros(x)
    for t in count(0):
        x, g = yield x
        if h.decay == "coupled":
            g = g + h.weight_decay * x
        elif t or h.decay == "decoupled":
            x = x * (1 - h.lr * h.weight_decay)
        if t:
            maximum = h["place of eps"] == "maximum"
            u = g / (np.maximum(sqrt(v), h.eps) if maximum else sqrt(v) + h.eps)
            if h.clipped:
                bound = mp.root(t, 4)
                u = np.maximum(np.minimum(u, bound), -bound)
            m = h.beta1 * m + (1 - h.beta1) * u
            x = x - h.lr * m
        v = h.beta2 * v + (1 - h.beta2) * g * g if t else g * g


@rule(
    "LaProp",
    "Ziyin, Wang & Ueda 2020, arXiv:2002.04839, Algorithm 1",
    choices={
        "place of eps": PLACES[:3],
        "rate": ("outside the average", "inside the average"),
        "bias": ("corrected", "corrected, m by the rates"),
    },
    **ADAM,
)
def laprop(x, h):
    m = n = zeros(x)
    rates = mp.zero
    for t in count(1):
        x, g = yield x
        inside = h.rate == "inside the average"
        n = h.beta2 * n + (1 - h.beta2) * g * g
        c = 1 - h.beta2**t
        place = h["place of eps"]
        root = sqrt(n / c) + h.eps
        if place == "inside the root":
            root = sqrt(n / c + h.eps)
        elif place == "before the correction":
            root = (sqrt(n) + h.eps) / mp.sqrt(c)
        m = h.beta1 * m + (1 - h.beta1) * (h.lr if inside else 1) * g / root
        rates = h.beta1 * rates + (1 - h.beta1) * h.lr
        by = 1 - h.beta1**t
        if inside and h.bias != "corrected":
            by = rates / h.lr
        x = x - (1 if inside else h.lr) * m / by


@rule(
    "MoMoAdam",
    "Schaipp et al. 2024, arXiv:2305.07583, Algorithm 2",
    decay=None,
    whole=True,
    weight_decay=0.0,
    lb=0.0,
    cases=({"weight_decay": 0.125}, {"lb": 0.5}),
    **ADAM,
)
def momo_adam(x, h):
    m = v = zeros(x)
    f = gamma = mp.zero
    for t in count(1):
        x, g = yield x
        m = h.beta1 * m + (1 - h.beta1) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        f = h.beta1 * f + (1 - h.beta1) * h.loss
        gamma = h.beta1 * gamma + (1 - h.beta1) * sum(g * x)
        scale = sqrt(v / (1 - h.beta2**t)) + h.eps
        rho, shrink = 1 - h.beta1**t, 1 + h.lr * h.weight_decay
        model = max(shrink * (f - gamma - rho * h.lb) + sum(m * x), 0)
        x = (x - min(h.lr / rho, model / sum(m * m / scale)) * m / scale) / shrink

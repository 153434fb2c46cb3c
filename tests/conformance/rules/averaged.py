"""Rules whose result is an average of their iterates."""

from itertools import count

from ..exact import mp, sqrt, zeros
from ..registry import rule


@rule(
    "ASGD",
    "Polyak & Juditsky 1992; rates of Bottou 2012, section 5: lr / (1 + lambda lr t) ** 3/4",
    choices={"rate": ("of this step", "of the step before")},
    cases=({"weight_decay": 0.125},),
    lr=0.125,
    lambd=0.25,
    alpha=0.75,
)
def asgd(x, h):
    before = h.lr
    for t in count(0):
        x, g = yield x
        lr = h.lr if h.rate == "of this step" else before
        before = h.lr
        x = x - lr / mp.power(1 + h.lambd * lr * t, h.alpha) * (g + h.lambd * x)


SCHEDULE_FREE = {
    "lr": 0.25,
    "beta1": 0.875,
    "weight_decay": 0.0,
    "warmup": 0,
    "power": 0.0,
}
FREE = {"decay": None, "cases": ({"weight_decay": 0.125}, {"warmup": 4}, {"power": 1.0})}


def free(x, h, direction):
    """Algorithm 1 around a direction `(g, t) -> (step, rate, rate that weighs)`: gives y on."""
    z = y = x
    largest = total = mp.zero
    for t in count(1):
        _, g = yield y
        u, rate, weighs = direction(g, t)
        largest = max(largest, weighs)
        weight = mp.power(t, h.power) * largest**2
        total += weight
        c = weight / total if total else mp.zero
        z = z - rate * (u + h.weight_decay * y)
        x = (1 - c) * x + c * z
        y = (1 - h.beta1) * z + h.beta1 * x


def warm(t, h):
    return h.lr * (min(mp.mpf(t) / h.warmup, 1) if h.warmup else 1)


@rule(
    "ScheduleFreeSGD", "Defazio et al. 2024, arXiv:2405.15682, Algorithm 1", **SCHEDULE_FREE, **FREE
)
def schedule_free_sgd(x, h):
    return free(x, h, lambda g, t: (g, warm(t, h), warm(t, h)))


@rule(
    "ScheduleFreeAdamW",
    "Defazio et al. 2024, arXiv:2405.15682, Algorithm 1 and section 4",
    choices={
        "bias": ("in the rate", "in the second moment", "none"),
        "weighs": ("the rate", "the rate without correction"),
    },
    beta2=0.96875,
    eps=0.0078125,
    **SCHEDULE_FREE,
    **FREE,
)
def schedule_free_adamw(x, h):
    state = {"v": zeros(x)}

    def direction(g, t):
        state["v"] = h.beta2 * state["v"] + (1 - h.beta2) * g * g
        c = 1 - h.beta2**t
        root, rate = sqrt(state["v"]) + h.eps, warm(t, h)
        if h.bias == "in the second moment":
            root = sqrt(state["v"] / c) + h.eps
        moved = rate * mp.sqrt(c) if h.bias == "in the rate" else rate
        return g / root, moved, moved if h.weighs == "the rate" else rate

    return free(x, h, direction)


@rule(
    "ScheduleFreeRAdam",
    "Defazio et al. 2024, facebookresearch/schedule_free, radam_schedulefree.py",
    decay=None,
    gradients=("plain", "moving rate"),
    silent=True,
    cases=({"weight_decay": 0.125}, {"silent": False}, {"power": 1.0}),
    beta2=0.75,
    eps=0.0078125,
    **SCHEDULE_FREE,
)
def schedule_free_radam(x, h):
    state = {"v": zeros(x)}
    top = 2 / (1 - h.beta2) - 1

    def direction(g, t):
        state["v"] = h.beta2 * state["v"] + (1 - h.beta2) * g * g
        power = h.beta2**t
        length = top - 2 * t * power / (1 - power)
        if length <= 4:
            rate = mp.zero if h.silent else h.lr
            return g, rate, rate
        r = (length - 4) * (length - 2) * top / ((top - 4) * (top - 2) * length)
        rate = h.lr * mp.sqrt(r)
        return g / (sqrt(state["v"] / (1 - power)) + h.eps), rate, rate

    return free(x, h, direction)


@rule(
    "ScheduleFreePlus",
    "Defazio 2026, arXiv:2605.19095; facebookresearch/schedule_free, "
    "adamc_schedulefree_plus_paper.py",
    decay=None,
    whole=True,
    lr=0.25,
    beta1=0.75,
    beta2=0.875,
    mu=0.875,
    eps=0.0078125,
    weight_decay=0.0,
    power=0.0,
    beta_norm=0.0,
    late=0,
    annealed=0,
    mu_end=0.96875,
    cases=(
        {"weight_decay": 0.125},
        {"power": 2.0},
        {"beta_norm": 0.75},
        {"late": 2},
        {"annealed": 4},
    ),
)
def schedule_free_plus(x, h):
    z, y, m, v = x, x, zeros(x), zeros(x)
    norm = largest = total = mp.zero
    for t in count(1):
        _, g = yield y
        along = min(mp.mpf(t - 1) / h.annealed, 1) if h.annealed else mp.zero
        mu = 1 - mp.power(1 - h.mu, 1 - along) * mp.power(1 - h.mu_end, along)
        size = sum(abs(k) for k in g) * mp.sqrt(mp.pi / 2)
        norm = h.beta_norm * norm + (1 - h.beta_norm) * size
        gap = max(h.loss + mu * sum(g * (z - x)), 0)
        rate = h.lr * gap / (norm / (1 - h.beta_norm**t)) if norm else mp.zero
        largest = max(largest, rate)
        c = mp.mpf(1)
        if t > h.late:
            weight = mp.power(t, h.power) * largest**2
            total += weight
            c = weight / total if total else mp.zero
        m = h.beta1 * m + (1 - h.beta1) * g
        v = h.beta2 * v + (1 - h.beta2) * g * g
        u = m / (1 - h.beta1**t) / (sqrt(v / (1 - h.beta2**t)) + h.eps)
        z = z - rate * (u + rate * h.weight_decay * y)
        x = (1 - c) * x + c * z
        y = (1 - mu) * z + mu * x

"""Rules as their authors' code states them: generators of (training point, evaluation point).

Each keeps the order and the quantities of the authors' repository, not ours.
"""

import math

import numpy as np

CASES = [
    ("AdaBelief", {"lr": 0.01, "weight_decay": 0.1}),
    ("Adan", {"lr": 0.01, "weight_decay": 0.1}),
    ("Adan", {"lr": 0.01, "weight_decay": 0.1, "no_prox": True}),
    ("AdEMAMix", {"lr": 0.001, "alpha": 2.0, "alpha_warmup": 60, "beta3_warmup": 80}),
    ("ADOPT", {"lr": 0.01, "weight_decay": 0.1}),
    ("ADOPT", {"lr": 0.01, "weight_decay": 0.1, "decouple": True}),
    ("FTRL", {"lr": 0.05, "l1": 0.1, "l2": 0.01, "beta": 0.5, "l2_shrinkage": 0.02}),
    ("LaProp", {"lr": 0.01}),
    ("MADGRAD", {"lr": 0.01, "weight_decay": 0.1}),
    ("MADGRAD", {"lr": 0.01, "weight_decay": 0.1, "decouple_decay": True}),
    ("Signum", {"lr": 0.01, "weight_decay": 0.1}),
    ("ScheduleFreeSGD", {"lr": 0.001, "weight_decay": 0.1, "warmup_steps": 20, "r": 0.5}),
    ("ScheduleFreeAdamW", {"lr": 0.01, "weight_decay": 0.1, "warmup_steps": 20}),
    ("ScheduleFreeAdamW", {"lr": 0.01, "r": 1.0, "weight_lr_power": 1.5}),
    ("ScheduleFreeRAdam", {"lr": 0.01, "weight_decay": 0.1}),
    ("ScheduleFreeRAdam", {"lr": 0.001, "silent_sgd_phase": False}),
    ("ScheduleFreeSGD", {"lr": 0.001, "decoupling": 40.0, "momentum": 0.95}),
    ("ScheduleFreeAdamW", {"lr": 0.01, "decoupling": 200.0, "warmup_steps": 20, "r": 0.5}),
    ("ScheduleFreeRAdam", {"lr": 0.01, "decoupling": 2.0, "weight_decay": 0.1}),
    ("ScheduleFreePlus", {"weight_decay": 3.0}),
    ("ScheduleFreePlus", {"lr": 0.5, "polyak_beta": 0.9, "c_warmup": 7, "r": 2.0}),
    (
        "ScheduleFreePlus",
        {"sf_beta1": 0.6, "sf_beta1_anneal_steps": 60, "weight_lr_power": 1.5, "f_min": -0.5},
    ),
]

# The losses that go with the gradients of a rule that needs them.
LOSSES = [2.0 + math.cos(k) for k in range(100)]


def AdaBelief(x, grads, lr, betas=(0.9, 0.999), eps=1e-16, weight_decay=0.0):
    """juntang-zhuang/Adabelief-Optimizer, weight_decouple=True, rectify=False."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(grads, 1):
        x = x * (1 - lr * weight_decay)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * (g - m) * (g - m) + eps
        denominator = np.sqrt(v) / math.sqrt(1 - betas[1] ** t) + eps
        x = x - lr / (1 - betas[0] ** t) * m / denominator
        yield x, None


def Adan(x, grads, lr, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0, no_prox=False):
    """sail-sg/Adan."""
    b1, b2, b3 = betas
    m, d, n = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    negative = -grads[0]
    for t, g in enumerate(grads, 1):
        negative = negative + g
        m = b1 * m + (1 - b1) * g
        d = b2 * d + (1 - b2) * negative
        ahead = negative * b2 + g
        n = b3 * n + (1 - b3) * ahead * ahead
        denominator = np.sqrt(n) / math.sqrt(1 - b3**t) + eps
        if no_prox:
            x = x * (1 - lr * weight_decay)
        x = x - lr / (1 - b1**t) * m / denominator
        x = x - lr * b2 / (1 - b2**t) * d / denominator
        if not no_prox:
            x = x / (1 + lr * weight_decay)
        negative = -g
        yield x, None


def AdEMAMix(x, grads, lr, alpha, alpha_warmup, beta3_warmup, betas=(0.9, 0.999, 0.9999), eps=1e-8):
    """apple/ml-ademamix, with the paper's schedule of beta3 (the code adds 1e-8 to each beta)."""
    b1, b2, b3 = betas
    m1, m2, v = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(grads, 1):
        mix = min(t / alpha_warmup, 1.0) * alpha
        share = t / beta3_warmup
        slow = math.exp(
            math.log(b1) * math.log(b3) / ((1 - share) * math.log(b3) + share * math.log(b1))
        )
        slow = min(slow, b3) if share < 1 else b3
        m1 = b1 * m1 + (1 - b1) * g
        m2 = slow * m2 + (1 - slow) * g
        v = b2 * v + (1 - b2) * g * g
        denominator = np.sqrt(v) / math.sqrt(1 - b2**t) + eps
        x = x - lr * (m1 / (1 - b1**t) + mix * m2) / denominator
        yield x, None


def ADOPT(x, grads, lr, betas=(0.9, 0.9999), eps=1e-6, weight_decay=0.0, decouple=False):
    """iShohei220/adopt."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for step, raw in enumerate(grads):
        g = raw if decouple else raw + weight_decay * x
        if step == 0:
            v = v + g * g
            yield x, None
            continue
        if decouple:
            x = x - lr * weight_decay * x
        normed = np.clip(g / np.maximum(np.sqrt(v), eps), -(step**0.25), step**0.25)
        m = m + (1 - betas[0]) * (normed - m)
        x = x - lr * m
        v = betas[1] * v + (1 - betas[1]) * g * g
        yield x, None


def FTRL(x, grads, lr, l1, l2, beta, l2_shrinkage):
    """keras.optimizers.Ftrl with learning_rate_power -0.5, initial_accumulator_value 0.1."""
    n, z = np.full_like(x, 0.1), np.zeros_like(x)
    for g in grads:
        shrunk = g + 2 * l2_shrinkage * x
        n_new = n + g * g
        z = z + shrunk - (np.sqrt(n_new) - np.sqrt(n)) / lr * x
        quadratic = np.sqrt(n_new) / lr + 2 * (l2 + beta / (2 * lr))
        x = (np.clip(z, -l1, l1) - z) / quadratic
        n = n_new
        yield x, None


def LaProp(x, grads, lr, betas=(0.9, 0.999), eps=1e-15):
    """Z-T-WANG/LaProp-Optimizer: the rate inside the average."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    lr_1 = lr_2 = 0.0
    for g in grads:
        v = betas[1] * v + (1 - betas[1]) * g * g
        lr_1 = lr_1 * betas[0] + (1 - betas[0]) * lr
        lr_2 = lr_2 * betas[1] + (1 - betas[1])
        m = betas[0] * m + (1 - betas[0]) * lr * g / (np.sqrt(v / lr_2) + eps)
        x = x - m / (lr_1 / lr)
        yield x, None


def MADGRAD(x, grads, lr, momentum=0.9, eps=1e-6, weight_decay=0.0, decouple_decay=False):
    """facebookresearch/madgrad."""
    x0, v, s = x.copy(), np.zeros_like(x), np.zeros_like(x)
    rate = lr + eps
    for k, raw in enumerate(grads):
        g = raw if decouple_decay else raw + weight_decay * x
        weight = rate * math.sqrt(k + 1)
        v = v + weight * g * g
        s = s + weight * g
        z = x0 - s / (np.cbrt(v) + eps)
        old = x
        x = momentum * x + (1 - momentum) * z
        if decouple_decay:
            x = x - rate * weight_decay * old
        yield x, None


def Signum(x, grads, lr, momentum=0.9, weight_decay=0.0):
    """Bernstein et al. 2018, Algorithm 2."""
    m = np.zeros_like(x)
    for g in grads:
        m = momentum * m + (1 - momentum) * g
        x = x * (1 - lr * weight_decay) - lr * np.sign(m)
        yield x, None


def _schedule_free(y, z, d, lr, beta, weight, total, C=None):
    c = weight / total if total else 0.0
    if C:  # Song et al. 2025, arXiv:2507.09846, the refined method
        c = min(c * (1 - beta) * C, 1.0)
    y = y + c * (z - y) + lr * (beta * (1 - c) - 1) * d
    return y, z - lr * d


def ScheduleFreeSGD(
    y, grads, lr, momentum=0.9, weight_decay=0.0, warmup_steps=0, r=0.0, decoupling=None
):
    """facebookresearch/schedule_free, SGDScheduleFree."""
    z, largest, total = y.copy(), -1.0, 0.0
    for k, g in enumerate(grads):
        rate = lr * (min((k + 1) / warmup_steps, 1.0) if warmup_steps else 1.0)
        largest = max(rate, largest)
        weight = (k + 1) ** r * largest**2
        total += weight
        d = g + weight_decay * y
        y, z = _schedule_free(y, z, d, rate, momentum, weight, total, decoupling)
        yield y, y + (1 - 1 / momentum) * (z - y)


def ScheduleFreeAdamW(
    y,
    grads,
    lr,
    betas=(0.9, 0.999),
    weight_decay=0.0,
    warmup_steps=0,
    r=0.0,
    weight_lr_power=2.0,
    decoupling=None,
):
    """facebookresearch/schedule_free, AdamWScheduleFree."""
    z, v, largest, total = y.copy(), np.zeros_like(y), -1.0, 0.0
    for k, g in enumerate(grads):
        rate = lr * (min((k + 1) / warmup_steps, 1.0) if warmup_steps else 1.0)
        largest = max(rate, largest)
        weight = (k + 1) ** r * largest**weight_lr_power
        total += weight
        v = betas[1] * v + (1 - betas[1]) * g * g
        normed = g / (np.sqrt(v / (1 - betas[1] ** (k + 1))) + 1e-8) + weight_decay * y
        y, z = _schedule_free(y, z, normed, rate, betas[0], weight, total, decoupling)
        yield y, y + (1 - 1 / betas[0]) * (z - y)


def ScheduleFreeRAdam(
    y,
    grads,
    lr,
    betas=(0.9, 0.999),
    weight_decay=0.0,
    silent_sgd_phase=True,
    decoupling=None,
):
    """facebookresearch/schedule_free, RAdamScheduleFree."""
    z, v, largest, total = y.copy(), np.zeros_like(y), -1.0, 0.0
    limit = 2 / (1 - betas[1]) - 1
    for step, g in enumerate(grads, 1):
        kept = betas[1] ** step
        rho = limit - 2 * step * kept / (1 - kept)
        rect = float(not silent_sgd_phase)
        if rho > 4:
            rect = math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
        rate = lr * rect
        largest = max(rate, largest)
        weight = largest**2
        total += weight
        v = betas[1] * v + (1 - betas[1]) * g * g
        normed = g / (np.sqrt(v / (1 - kept)) + 1e-8) if rho > 4 else g
        d = normed + weight_decay * y
        y, z = _schedule_free(y, z, d, rate, betas[0], weight, total, decoupling)
        yield y, y + (1 - 1 / betas[0]) * (z - y)


def ScheduleFreePlus(
    y,
    grads,
    lr=1.0,
    betas=(0.9, 0.95),
    sf_beta1=0.9,
    eps=1e-8,
    weight_decay=0.0,
    r=0.0,
    polyak_beta=0.0,
    c_warmup=0,
    sf_beta1_anneal_steps=0,
    sf_beta1_max=0.965,
    weight_lr_power=2.0,
    f_min=0.0,
):
    """facebookresearch/schedule_free, AdamCScheduleFreePlusPaper, with the three points stored."""
    x, z = y.copy(), y.copy()
    m, v = np.zeros_like(y), np.zeros_like(y)
    average, total, largest = 0.0, 0.0, eps
    for k, (g, loss) in enumerate(zip(grads, LOSSES, strict=False)):
        beta = sf_beta1
        if sf_beta1_anneal_steps:
            done = min(k / sf_beta1_anneal_steps, 1.0)
            beta = 1 - math.exp(
                math.log(1 - sf_beta1) * (1 - done) + math.log(1 - sf_beta1_max) * done
            )
        inner = beta * float((g.astype(float) * (z - x)).sum())
        norm = float(np.abs(g.astype(float)).sum()) * math.sqrt(math.pi / 2)
        average = polyak_beta * average + (1 - polyak_beta) * norm
        unbiased = average / (1 - polyak_beta ** (k + 1))
        rate = lr * max(0.0, loss - f_min + inner) / unbiased
        largest = max(rate, largest)
        c = 1.0
        if k >= c_warmup:
            weight = (k + 1) ** r * largest**weight_lr_power
            total += weight
            c = weight / total
        z = z - rate * rate * weight_decay * y
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        root = np.sqrt(v / (1 - betas[1] ** (k + 1))) + eps
        z = z - rate * (m / (1 - betas[0] ** (k + 1))) / root
        x = (1 - c) * x + c * z
        y = beta * x + (1 - beta) * z
        yield y, x

"""Rules of whole matrices: Muon, Shampoo, SOAP."""

from itertools import count

import numpy as np

from ..exact import eigenvectors, mp, norm, orthogonal, root, sqrt, zeros
from ..registry import rule

DECOUPLED = ("decoupled", "coupled")
NEWTON_SCHULZ = [mp.mpf(c) for c in (3.4445, -4.7750, 2.0315)]


def newton_schulz(g, h):
    """Five steps towards the nearest orthogonal matrix (the code beside the source)."""
    a, b, c = NEWTON_SCHULZ
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (norm(x) + h.small if h.eps == "added" else max(norm(x), h.small))
    for _ in range(h.steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x


@rule(
    "Muon",
    "Jordan et al. 2024, kellerjordan.github.io/posts/muon; scale, Liu et al. 2025, "
    "arXiv:2502.16982, section 2.2",
    decay=DECOUPLED,
    choices={
        "momentum": ("sum", "average", "corrected average"),
        "eps": ("added", "a bound of the norm"),
        "outputs": ("rows", "columns"),
    },
    shapes=((2, 3), (3, 2)),
    gradients=("plain", "moving rate"),
    lr=0.125,
    beta=0.875,
    nesterov=True,
    steps=5,
    small=2.0**-23,
    scale="original",
    cases=({"nesterov": False}, {"scale": "match_rms_adamw"}),
)
def muon(x, h):
    m = zeros(x)
    for t in count(1):
        x, g = yield x
        part = 1 if h.momentum == "sum" else 1 - h.beta
        m = h.beta * m + part * g
        now, ahead = 1, 1
        if h.momentum == "corrected average":  # as Dozat's NAdam looks ahead
            now, ahead = (1 - h.beta ** (t + k) for k in (0, 1))
        u = newton_schulz(part * g / now + h.beta * m / ahead if h.nesterov else m / now, h)
        rows, columns = x.shape if h.outputs == "rows" else x.shape[::-1]
        scale = mp.sqrt(max(1, mp.mpf(rows) / columns))
        if h.scale != "original":
            scale = mp.mpf(0.2) * mp.sqrt(max(rows, columns))
        x = x - h.lr * scale * u


@rule(
    "Shampoo",
    "Gupta, Koren & Singer 2018, arXiv:1802.09568, Algorithms 1 and 2",
    choices={"power": ("-1 / 2k", "-1 / k")},
    shapes=((2, 3), (3,)),
    gradients=("plain", "moving rate"),
    lr=0.25,
    eps=0.0625,
)
def shampoo(x, h):
    grams = [h.eps * np.array([[mp.mpf(i == j) for j in range(n)] for i in range(n)], object)
             for n in x.shape]  # fmt: skip
    while True:
        x, g = yield x
        u = g
        for axis, gram in enumerate(grams):
            rest = [k for k in range(x.ndim) if k != axis]
            gram += np.tensordot(g, g, (rest, rest))
            power = -mp.one / (2 * x.ndim if h.power == "-1 / 2k" else x.ndim)
            u = np.moveaxis(np.tensordot(root(gram, power), u, (1, axis)), 0, axis)
        x = x - h.lr * u


@rule(
    "SOAP",
    "Vyas et al. 2024, arXiv:2409.11321, Algorithms 3 and 4; first step, the authors' code",
    decay=None,
    choices={
        "decay": ("after the step", "before the step", "before each step, the first too"),
        "bias": ("not corrected", "corrected"),
        "place of eps": ("inside the root", "outside the root", "before the correction"),
        "first step": ("sets the bases alone", "moves too"),
        "order": ("as they come", "from the largest eigenvalue"),
    },
    shapes=((2, 3),),
    gradients=("plain", "moving rate"),
    lr=0.125,
    beta1=0.875,
    beta2=0.96875,
    eps=0.0078125,
    every=1,
    weight_decay=0.0,
    cases=({"weight_decay": 0.125},),
)
def soap(x, h):
    m = v = zeros(x)
    left = right = ql = qr = None
    for t in count(0):
        x, g = yield x
        moves = t or h["first step"] == "moves too"
        shrink = 1 - h.lr * h.weight_decay
        if h.decay != "after the step" and (moves or "too" in h.decay):
            x = x * shrink
        if ql is None:
            left, right = (1 - h.beta2) * g @ g.T, (1 - h.beta2) * g.T @ g
            ql, qr = first_basis(left), first_basis(right)
        if moves:
            k = t if h["first step"] != "moves too" else t + 1
            turned = ql.T @ g @ qr
            m = h.beta1 * m + (1 - h.beta1) * g
            v = h.beta2 * v + (1 - h.beta2) * turned * turned
            full = h.bias == "corrected"
            c1, c2 = (1 - h.beta1**k, 1 - h.beta2**k) if full else (mp.one, mp.one)
            below = sqrt(v / c2) + h.eps
            if h["place of eps"] == "inside the root":
                below = sqrt(v / c2 + h.eps)
            elif h["place of eps"] == "before the correction":
                below = (sqrt(v) + h.eps) / mp.sqrt(c2)
            x = x - h.lr * ql @ (ql.T @ m @ qr / c1 / below) @ qr.T
            x = x * shrink if h.decay == "after the step" else x
        if t:
            left = h.beta2 * left + (1 - h.beta2) * g @ g.T
            right = h.beta2 * right + (1 - h.beta2) * g.T @ g
            if t % h.every == 0:
                v, ql, qr = turned_bases(v, left, ql, right, qr, h)


def first_basis(gram):
    return eigenvectors(gram)[1][:, ::-1]


def turned_bases(v, left, ql, right, qr, h):
    """One power iteration and a QR decomposition of each basis."""
    if h.order != "as they come":
        i, j = by_size(left, ql), by_size(right, qr)
        v, ql, qr = v[i][:, j], ql[:, i], qr[:, j]
    return v, orthogonal(left @ ql), orthogonal(right @ qr)


def by_size(gram, q):
    return sorted(range(len(gram)), key=lambda k: -(q[:, k] @ gram @ q[:, k]))

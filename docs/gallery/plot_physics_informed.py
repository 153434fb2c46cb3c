"""
Physics instead of data
=======================

A weight on a spring was watched for the first third of the time, ten times, with an
inaccurate ruler. A small neural network that is fitted to these points has no idea how
things go on. It may, however, be told the law, u'' + c u' + k u = 0, with c and k
unknown: the loss then also counts how far the network is from obeying it, at moments
when nobody measured. Such a fit is called physics-informed, and it needs second
derivatives of a network; for one hidden layer they fit in a few lines.
"""

import matplotlib.pyplot as plt
import numpy as np

import stepsize as ss

DAMPING, STIFFNESS = 0.6, 16.0


def truth(t):
    w = np.sqrt(STIFFNESS - DAMPING**2 / 4)
    return np.exp(-DAMPING / 2 * t) * np.cos(w * t)


rng = np.random.default_rng(0)
times = np.linspace(0, 1.7, 10)
points = truth(times) + 0.02 * rng.normal(size=10)
moments = np.linspace(0, 5, 100)  # where the law is to hold

# %%
# The network is a sum of tanh waves, u(t) = sum of a tanh(w t + b). Each derivative in
# t is one more derivative of tanh and one more factor w; the gradient of the loss needs
# the third.


def start():
    rng = np.random.default_rng(1)
    w = rng.uniform(1, 4, 24) * rng.choice([-1, 1], 24)
    net = {"a": rng.normal(size=24) / 5, "w": w, "b": -w * rng.uniform(0, 5, 24)}
    return net | {"law": np.array([0.0, 5.0])}  # c and k


def waves(p, t):
    s = np.tanh(np.outer(t, p["w"]) + p["b"])
    first = 1 - s**2
    return s, first, -2 * s * first, first * (6 * s**2 - 2)


def value_and_grad(p, weight):
    a, w, (c, k) = p["a"], p["w"], p["law"]
    s, s1, _, _ = waves(p, times)
    miss = 2 * (s @ a - points) / len(times)
    loss = ((s @ a - points) ** 2).mean()
    grads = {"a": s.T @ miss, "w": a * ((miss * times) @ s1), "b": a * (miss @ s1)}

    t = moments
    s, s1, s2, s3 = waves(p, t)
    u, u1, u2 = s @ a, s1 @ (a * w), s2 @ (a * w**2)
    broken = u2 + c * u1 + k * u
    e = 2 * weight * broken / len(t)
    along = w**2 * s3 + c * w * s2 + k * s1  # of the law in w t + b
    grads["a"] += e @ (w**2 * s2 + c * w * s1 + k * s)
    grads["w"] += a * ((e * t) @ along + e @ (2 * w * s2 + c * s1))
    grads["b"] += a * (e @ along)
    grads["law"] = np.array([e @ u1, e @ u])
    return loss + weight * (broken**2).mean(), grads


assert ss.check_gradients(value_and_grad, start(), 1e-3).ok

# %%
# The same network from the same start, without the law and with it. The loss is smooth
# and without chance, which is what L-BFGS is for.

fits = {}
for name, weight in (("ten points alone", 0.0), ("ten points and the law", 1e-3)):
    fit = ss.minimize(
        lambda p, w=weight: value_and_grad(p, w), start(), "lbfgs", max_iter=500
    )
    fits[name] = fit.x
    print(
        f"{name}: loss {fit.fun:.1e} after {fit.nfev} calls; c and k:",
        fit.x["law"].round(2),
    )

# %%
# The points determine the curve where they are. The law carries it on, and reads the
# spring constants off.

t = np.linspace(0, 5, 400)
fig, ax = plt.subplots(figsize=(7, 3.8))
ax.plot(t, truth(t), color="#8a8f96", lw=5, alpha=0.5, label="the weight")
for (name, params), colour in zip(fits.items(), ("#0072b2", "#d55e00"), strict=True):
    ax.plot(t, waves(params, t)[0] @ params["a"], color=colour, label=name)
ax.plot(times, points, "o", color="#1f2328", ms=5, label="measured")
ax.axvspan(times[-1], 5, color="#e3e6e9", alpha=0.5, lw=0)
ax.set(
    ylim=(-1.3, 1.7),
    xlim=(0, 5),
    xlabel="time",
    ylabel="height",
    title="A spring, told its law",
)
ax.legend(ncols=2, loc="upper right")
plt.show()
law = fits["ten points and the law"]["law"]
assert abs(law[0] - DAMPING) < 0.2 and abs(law[1] - STIFFNESS) < 1

"""
A rule of one's own, in ten lines
=================================

Momentum is a ball that rolls downhill, and past the bottom. A recent idea is to be
cautious: where the ball moves against the present gradient, it does not move (Liang et
al. 2024, `arXiv:2411.16085 <https://arxiv.org/abs/2411.16085>`_). To try such an idea
one writes the update of one array in NumPy, and gets an optimizer with schedules,
groups, clipping, checkpoints, the finder and the training loop.
"""

import matplotlib.pyplot as plt
import numpy as np

import stepsize as ss
from stepsize.optimizers.fields import nonnegative, unit
from stepsize.optimizers.slots import signed


class Cautious(ss.optimizers.Optimizer):
    """Momentum that keeps still where it would climb."""

    lr = nonnegative(1e-2)  # a keyword, an attribute, and a range that is checked
    momentum = unit(0.9)
    slots = (signed("velocity"),)  # an array of the shape of each parameter

    def rule(self, x, g, s, h):
        s.velocity[...] = h.momentum * s.velocity + g
        downhill = s.velocity * g > 0
        x -= h.lr * s.velocity * downhill / max(downhill.mean(), 1e-3)


# %%
# In a long valley with steep walls, from the same start and at the same rate.

steep = np.array([1.0, 30.0])


def valley(x, batch=None):
    return 0.5 * float(steep @ x**2), steep * x


def walk(rule, lr=0.02, steps=60):
    x = np.array([-4.0, 1.0])
    opt, path = rule(x, lr=lr, momentum=0.9), [x.copy()]
    for _ in range(steps):
        opt.step(valley(x)[1])
        path.append(x.copy())
    return np.array(path)


paths = {"momentum": walk(ss.SGD), "cautious momentum": walk(Cautious)}

fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.6), width_ratios=(1.4, 1))
a, b = np.meshgrid(np.linspace(-4.5, 3, 200), np.linspace(-1.3, 1.3, 200))
level = 0.5 * (steep[0] * a**2 + steep[1] * b**2)
left.contour(a, b, level, np.geomspace(0.1, 30, 9), colors="#c9ced4", linewidths=0.7)
for name, path in paths.items():
    left.plot(*path.T, marker=".", ms=4, lw=1.2, label=name)
    right.plot([valley(x)[0] for x in path], label=name)
left.plot(0, 0, "x", color="#1f2328")
left.grid(visible=False)
left.set_title("From the left to the cross")
left.legend(loc="upper right", frameon=True)
right.set(yscale="log", xlabel="step", ylabel="loss", title="The same in numbers")
plt.show()

for name, path in paths.items():
    print(f"{name}: loss {valley(path[-1])[0]:.1e} after 60 steps")
assert valley(paths["cautious momentum"][-1])[0] < valley(paths["momentum"][-1])[0]

# %%
# Everything else takes the class as it takes those of the package. Here a regression
# with noise in its batches: each of the two rules gets its own rate.

rng = np.random.default_rng(0)
x = rng.normal(size=(2000, 30)) * np.geomspace(0.2, 2, 30)
y = x @ rng.normal(size=30) + 0.1 * rng.normal(size=2000)


def value_and_grad(w, batch):
    x, y = batch
    miss = x @ w - y
    return float((miss**2).mean()) / 2, x.T @ miss / len(y)


print(f"noise alone: loss {0.1**2 / 2:.4f}")
for rule in (ss.SGD, Cautious):
    w = np.zeros(30)
    found = ss.lr_find(
        value_and_grad, w, (x, y), optimizer=lambda p, r=rule: r(p, momentum=0.9)
    )
    opt = rule(w, lr=ss.schedules.cosine(found.suggestion, 0, 315), momentum=0.9)
    history = ss.fit(value_and_grad, w, opt, (x, y), epochs=5, progress=False)
    end = value_and_grad(w, (x, y))[0]
    print(f"{rule.__name__}: rate {found.suggestion:.2g}, loss {end:.4f}")

# %%
# What else a rule may declare, and how one becomes part of the package:
# :doc:`/adding-a-rule`.

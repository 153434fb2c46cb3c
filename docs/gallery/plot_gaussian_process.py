"""
How smooth is it? Tuning a Gaussian process
===========================================

A Gaussian process draws a curve through noisy points, with a band that says how sure
it is. How wiggly the curve may be, how high its waves are and how much of the scatter
is noise are three numbers, which the data themselves decide: those under which what
was seen is most likely. The likelihood and its gradient are ten lines of linear
algebra; the scales are positive, so their logarithms are fitted.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

import stepsize as ss

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(0, 10, 40))


def hidden(x):
    return np.sin(1.5 * x) + 0.4 * x - 2


y = hidden(x) + 0.3 * rng.normal(size=40)
square = (x[:, None] - x) ** 2


def value_and_grad(p):
    """Negative log likelihood of y, of log length, log height and log noise."""
    length, height, noise = np.exp(p)
    kernel = height**2 * np.exp(-square / (2 * length**2))
    factor = cho_factor(kernel + noise**2 * np.eye(len(x)), lower=True)
    weights = cho_solve(factor, y)
    loss = (
        0.5 * y @ weights
        + np.log(np.diag(factor[0])).sum()
        + 0.5 * len(x) * np.log(2 * np.pi)
    )
    inner = cho_solve(factor, np.eye(len(x))) - np.outer(weights, weights)
    parts = (kernel * square / length**2, 2 * kernel, 2 * noise**2 * np.eye(len(x)))
    return loss, np.array([0.5 * (inner * part).sum() for part in parts])


guess = np.log([0.3, 1.0, 1.0])
assert ss.check_gradients(lambda p, batch: value_and_grad(p), guess).ok
fits = {
    rule: ss.minimize(value_and_grad, guess, rule, max_iter=400)
    for rule in ("adam", "lbfgs")
}
for rule, fit in fits.items():
    print(f"{rule}: {fit.fun:.6f} after {fit.nfev} calls,", np.exp(fit.x).round(3))

# %%
# The three numbers are length, height and noise. scikit-learn has Gaussian processes of
# its own, and agrees.

kernel = ConstantKernel(1.0) * RBF(0.3) + WhiteKernel(1.0)
theirs = GaussianProcessRegressor(kernel).fit(x[:, None], y)
difference = fits["lbfgs"].fun + theirs.log_marginal_likelihood_value_
print(f"difference in log likelihood: {abs(difference):.0e}")

# %%
# Before the fit the curve runs after every point; after it, noise is called noise, and
# the band grows where no points are.


def predict(p, t):
    length, height, noise = np.exp(p)

    def cov(a, b):
        return height**2 * np.exp(-((a[:, None] - b) ** 2) / (2 * length**2))

    gain = np.linalg.solve(cov(x, x) + noise**2 * np.eye(len(x)), cov(x, t)).T
    return gain @ y, np.sqrt(height**2 - (gain * cov(t, x)).sum(axis=1))


t = np.linspace(-1, 13, 400)
fig, axes = plt.subplots(2, 1, figsize=(7, 5), sharex=True)
for ax, p, title in zip(
    axes,
    (np.log([0.3, 1.0, 0.1]), fits["adam"].x),
    ("A guess", "Most likely"),
    strict=True,
):
    mean, sure = predict(p, t)
    ax.fill_between(
        t, mean - 2 * sure, mean + 2 * sure, color="#56b4e9", alpha=0.3, lw=0
    )
    ax.plot(t, mean, color="#0072b2", label="Gaussian process")
    ax.plot(t, hidden(t), "--", color="#d55e00", lw=1.2, label="hidden curve")
    ax.plot(x, y, "o", color="#1f2328", ms=3, label="seen")
    ax.set(title=title, ylim=(-4.5, 5.5))
axes[0].legend(ncols=3, loc="upper left")
axes[1].set_xlabel("x")
plt.show()
assert abs(difference) < 1e-4 and abs(fits["adam"].fun - fits["lbfgs"].fun) < 1e-3

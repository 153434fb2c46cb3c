"""
What is in the mixture: a fit with bounds
=========================================

A spectrometer sees the sum of what all substances in a sample absorb. Given the
spectrum of each pure substance, how much of each is there? Least squares answers at
once, with less than nothing of some. No amount is negative: the bounds are knowledge,
and here they are what makes the answer useful.
"""

import matplotlib.pyplot as plt
import numpy as np

import stepsize as ss

rng = np.random.default_rng(4)
wavelength = np.linspace(400, 700, 200)
centres = np.linspace(430, 670, 9)
pure = np.exp(-(((wavelength[:, None] - centres) / 65) ** 2))  # one column a substance
pure += 0.4 * np.exp(-(((wavelength[:, None] - centres[::-1] - 12) / 50) ** 2))
amount = np.array([0, 0.8, 0, 0, 1.2, 0, 0.5, 0, 0])
measured = pure @ amount + 0.02 * rng.normal(size=len(wavelength))

# %%
# The loss is half the sum of squares. With ``bounds`` every step ends inside of them,
# and it has converged when no component of the gradient that could still move does.


def value_and_grad(x):
    residual = pure @ x - measured
    return 0.5 * residual @ residual, pure.T @ residual


free = np.linalg.lstsq(pure, measured)[0]
bounded = ss.minimize(
    value_and_grad, np.full(9, 0.3), "adam", bounds=(0, None), max_iter=4000, gtol=1e-6
)
print(bounded)

# %%
# SciPy has an exact solver for this one problem, which shows how near a general one
# comes.

from scipy.optimize import nnls

exact = nnls(pure, measured)[0]
print(f"largest difference from SciPy's nnls: {np.abs(bounded.x - exact).max():.0e}")
for name, x in (("least squares", free), ("with bounds", bounded.x)):
    print(f"{name}: largest error of an amount {np.abs(x - amount).max():.3f}")

# %%
# Both fit the measurement equally well. Only one of them can be believed.

fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.6), width_ratios=(1.1, 1))
left.plot(wavelength, measured, ".", color="#8a8f96", ms=3, label="measured")
left.plot(wavelength, pure @ free, lw=4, alpha=0.5, label="least squares")
left.plot(wavelength, pure @ bounded.x, color="#d55e00", lw=1.2, label="with bounds")
left.set(xlabel="wavelength in nm", ylabel="absorbance", title="The same curve")
left.legend()
place = np.arange(9)
right.bar(place - 0.2, free, 0.4, label="least squares")
right.bar(place + 0.2, bounded.x, 0.4, color="#d55e00", label="with bounds")
right.plot(place, amount, "k_", ms=22, mew=1.5, label="in the sample")
right.axhline(0, color="#1f2328", lw=0.8)
right.set(
    xlabel="substance", title="Two answers", xticks=place, xticklabels="ABCDEFGHI"
)
right.grid(axis="x", visible=False)
right.legend()
plt.show()
assert np.abs(bounded.x - exact).max() < 1e-3
assert free.min() < -0.05

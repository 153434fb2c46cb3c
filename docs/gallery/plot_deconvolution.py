"""
A sharp picture from a blurred one
==================================

A camera that is out of focus blurs, and its sensor adds noise. Both can be written
down: the blur is a linear operator A, and what was seen is A x plus noise. To find x
by gradient descent one needs A and its adjoint, two functions of one line each. No
matrix is ever built.

The photograph is one that scikit-learn brings along.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

import stepsize as ss

photo = load_sample_image("china.jpg")[60:252, 240:432].mean(axis=2) / 255
n = len(photo)
y, x = np.mgrid[:n, :n]
y, x = (y + n // 2) % n - n // 2, (x + n // 2) % n - n // 2
lens = (np.hypot(x, y) < 4.5).astype(float)  # a point becomes a disc
spectrum = np.fft.rfft2(lens / lens.sum())


def blur(image):
    return np.fft.irfft2(np.fft.rfft2(image) * spectrum, s=image.shape)


def adjoint(image):
    return np.fft.irfft2(np.fft.rfft2(image) * spectrum.conj(), s=image.shape)


rng = np.random.default_rng(0)
seen = blur(photo) + 0.004 * rng.normal(size=photo.shape)

# An adjoint is right when <A u, v> = <u, A* v> for any u and v.
u, v = rng.normal(size=(2, n, n))
print(f"dot test: {np.vdot(blur(u), v) / np.vdot(u, adjoint(v)) - 1:.0e}")

# %%
# On paper, dividing by the spectrum of the blur undoes it. But where the lens let
# nothing of a frequency through, only noise is left, which the division makes large.

divisor = np.where(np.abs(spectrum) > 1e-12, spectrum, 1)
naive = np.fft.irfft2(np.fft.rfft2(seen) / divisor, s=photo.shape)

# %%
# So the loss gets a second term: a picture is smooth except at edges (total variation,
# rounded off at 0 so that it has a gradient). And brightness lies between 0 and 1,
# which are bounds. The rate is found by ``ss.minimize`` itself.


def value_and_grad(image, weight=3e-4, corner=0.01):
    residual = blur(image) - seen
    dx, dy = np.roll(image, -1, 1) - image, np.roll(image, -1, 0) - image
    edge = np.sqrt(dx**2 + dy**2 + corner**2)
    gx, gy = weight * dx / edge, weight * dy / edge
    loss = 0.5 * (residual**2).sum() + weight * edge.sum()
    return loss, adjoint(residual) + np.roll(gx, 1, 1) - gx + np.roll(gy, 1, 0) - gy


assert ss.check_gradients(lambda image, batch: value_and_grad(image), seen).ok
start = np.clip(seen, 0, 1)
found = ss.minimize(
    value_and_grad, start, "adam", bounds=(0, 1), max_iter=300, ftol=1e-5
)
print(f"{found.message}: {found.nfev} calls")

# %%
# The error is the root mean square of the difference from the photograph, which only we
# know.


def error(image):
    return float(np.sqrt(((image - photo) ** 2).mean()))


fig, axes = plt.subplots(2, 2, figsize=(6.4, 6.6))
for ax, (name, image) in zip(
    axes.flat,
    {"photograph": photo, "seen": seen, "divided": naive, "found": found.x}.items(),
    strict=True,
):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.set_title(name if image is photo else f"{name}: error {error(image):.2g}")
    ax.set_axis_off()
plt.show()
assert error(found.x) < 0.7 * error(seen)

"""
Seeing through glass: phase retrieval
=====================================

Light through a thin transparent specimen is delayed where the specimen is thick, and
no detector sees a delay: it counts photons, that is, the squared modulus of a complex
field. At a distance, though, the delayed waves interfere, and the pattern depends on
the delay. Three detectors at three distances are enough to compute backwards what
stood in the light.

The unknown is an image of complex numbers: its modulus says what was absorbed, its
phase how thick the specimen is. NumPy holds it in one array of dtype complex128, and
so does the optimizer.
"""

import matplotlib.pyplot as plt
import numpy as np

import stepsize as ss

n = 64
y, x = np.mgrid[:n, :n] / n - 0.5
absorbed = 0.5 * (np.hypot(x + 0.2, y - 0.12) < 0.13)
thickness = 2 * np.exp(-((x - 0.13) ** 2 + (y + 0.1) ** 2) / 0.012)
thickness += 1.2 * (np.hypot(x - 0.22, y - 0.26) < 0.09)
specimen = (1 - absorbed) * np.exp(1j * thickness)

# %%
# Free space is a product with exp(-i pi d f^2) of the spectrum (Fresnel), which
# preserves energy; its adjoint is the product with the conjugate.

f = np.fft.fftfreq(n)
space = [np.exp(-1j * np.pi * d * (f[:, None] ** 2 + f**2)) for d in (20, 60, 200)]


def travel(field, kernel):
    return np.fft.ifft2(kernel * np.fft.fft2(field))


rng = np.random.default_rng(0)
seen = [
    np.abs(travel(specimen, kernel)) + 0.01 * rng.normal(size=(n, n))
    for kernel in space
]

# %%
# The loss compares moduli. Its gradient is the direction of steepest ascent in the
# complex plane, which is what PyTorch returns and the conjugate of what JAX and
# autograd do; :doc:`/complex` has the conventions. ``check_gradients`` knows them too.


def value_and_grad(z):
    loss, grad = 0.0, np.zeros_like(z)
    for kernel, modulus in zip(space, seen, strict=True):
        field = travel(z, kernel)
        size = np.maximum(np.abs(field), 1e-12)
        loss += float(np.sum((size - modulus) ** 2))
        grad += 2 * travel(field * (1 - modulus / size), kernel.conj())
    return loss, grad


def conjugated(z, batch=None):
    loss, grad = value_and_grad(z)
    return loss, grad.conj()


elsewhere = specimen + 0.1 * rng.normal(size=(n, n))
assert ss.check_gradients(lambda z, batch: value_and_grad(z), elsewhere).ok
print(ss.check_gradients(conjugated, elsewhere))

# %%
# Neither mistake below raises an error. With the conjugate, every step climbs in the
# imaginary parts; with real parts alone, which is what a cast to float leaves, no phase
# ever appears. The answer is known up to one phase for the whole image, which is taken
# from the specimen.


def real_parts(z):
    loss, grad = value_and_grad(z)
    return loss, grad.real + 0j


pictures = {
    "seen nearby": seen[0],
    "seen far off": seen[2],
    "true phase": np.angle(specimen),
}
errors = []
for name, function in (
    ("found", value_and_grad),
    ("conjugated", conjugated),
    ("real parts", real_parts),
):
    z = ss.minimize(function, np.ones((n, n), complex), "adam", lr=0.05, max_iter=300).x
    z *= np.exp(1j * np.angle(np.vdot(z, specimen)))
    errors.append(np.linalg.norm(z - specimen) / np.linalg.norm(specimen))
    pictures[f"{name}: {errors[-1]:.1%} off"] = np.angle(z)

fig, axes = plt.subplots(2, 3, figsize=(8.4, 5.2), layout="constrained")
for ax, (title, values) in zip(axes.flat, pictures.items(), strict=True):
    if title.startswith("seen"):
        ax.imshow(values, cmap="gray")
    else:
        phase = ax.imshow(values, vmin=-0.2, vmax=2)
    ax.set_title(title, fontsize=11)
    ax.set_axis_off()
fig.colorbar(phase, ax=axes, shrink=0.6, label="phase (radians)")
plt.show()
assert errors[0] < 0.05 < 0.15 < min(errors[1:])

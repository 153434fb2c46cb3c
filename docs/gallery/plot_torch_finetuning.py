"""
Fine-tuning a PyTorch model
===========================

A small network has learnt the digits of scikit-learn. Then the scanner is replaced,
and all new digits come turned by 25 degrees. Five of each are labelled by hand. Is it
better to start anew with these fifty, or to go on with what the network knows, and at
which rate?

The model is PyTorch's. Only the optimizer comes from ``stepsize``: the same class with
the same arguments, and a range test.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

import stepsize as ss
import stepsize.interop.torch as interop

torch.manual_seed(0)
torch.set_num_threads(1)
pixels, labels = load_digits(return_X_y=True)
images = pixels.reshape(-1, 8, 8) / 16
turned = rotate(images, 25, axes=(1, 2), reshape=False, order=1)
images, turned = (
    torch.tensor(a, dtype=torch.float32)[:, None] for a in (images, turned)
)
labels = torch.tensor(labels)
old_train, old_test = slice(0, 900), slice(900, 1100)
new_test = slice(1100, None)
few = torch.cat([torch.nonzero(labels[:900] == digit)[:5, 0] for digit in range(10)])

tiles = [torch.cat([a[i, 0] for i in few[::5]], 1) for a in (images, turned)]
fig, ax = plt.subplots(figsize=(6.8, 1.6))
ax.imshow(torch.cat(tiles), cmap="gray_r")
ax.set_title("Known digits, and the new ones")
ax.set_axis_off()
plt.show()


def network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 12, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(12, 24, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(24 * 16, 10),
    )  # fmt: skip


def loss_of(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])


@torch.no_grad()
def accuracy(model, x, y):
    return (model(x).argmax(1) == y).float().mean().item()


def train(model, x, y, peak, steps, size):
    """Train with AdamW; the accuracy on turned digits, every five steps."""
    schedule = ss.schedules.warmup_cosine(peak, steps // 10, steps)
    optimizer = interop.AdamW(model.parameters(), weight_decay=0.01)
    follow, seen = interop.ScheduleLR(optimizer, schedule), []
    order = torch.Generator().manual_seed(0)
    for step in range(steps + 1):
        if step % 5 == 0:
            seen.append(accuracy(model, turned[new_test], labels[new_test]))
        rows = torch.randperm(len(x), generator=order)[:size]
        optimizer.zero_grad()
        loss_of(model, (x[rows], y[rows])).backward()
        optimizer.step()
        follow.step()
    return seen


# %%
# The first training, at the rate that the range test finds; the test leaves model and
# generators as they were.

known = network()
batches = [(images[i : i + 60], labels[i : i + 60]) for i in range(0, 900, 60)]
found = interop.lr_find(known, loss_of, batches, optimizer=interop.AdamW)
print(found)
train(known, images[old_train], labels[old_train], found.peak, 150, 60)
print(
    f"upright digits: {accuracy(known, images[old_test], labels[old_test]):.1%} right"
)

# %%
# Now the fifty. At a high rate the network forgets, and is no better than a new one.

curves = {}
for name, model, peak in (
    ("from scratch", network(), 1e-2),
    ("fine-tuned, rate 0.003", known, 3e-3),
    ("fine-tuned, rate 0.1", known, 1e-1),
):
    tuned = copy.deepcopy(model)
    curves[name] = train(tuned, turned[few], labels[few], peak, 100, 25)
    kept = accuracy(tuned, images[old_test], labels[old_test])
    print(
        f"{name}: {curves[name][-1]:.1%} of turned digits, {kept:.1%} of upright ones"
    )

fig, ax = plt.subplots(figsize=(6.8, 3.8))
for name, seen in curves.items():
    ax.plot(np.arange(len(seen)) * 5, seen, label=f"{name}: {seen[-1]:.1%}")
ax.set(
    xlabel="step",
    ylabel="accuracy, turned digits",
    title="Five of each digit",
    ylim=(0, 1),
)
ax.legend(loc="lower right")
plt.show()
assert max(curves, key=lambda name: curves[name][-1]) == "fine-tuned, rate 0.003"

# sphinx_gallery_thumbnail_number = 2

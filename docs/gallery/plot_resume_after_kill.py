"""
Killed, and nothing lost
========================

A machine that is rented by the minute can be gone between two steps. What does it
cost? This story trains in a process of its own, kills that process in the middle of a
step with the signal that nobody can catch, and starts it again. Then it compares with
a run that nobody disturbed, bit by bit.

This is the whole training script. ``checkpoint`` and ``resume`` are the two words that
matter; the last argument, if there is one, is the step at which the process is to kill
itself.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import stepsize as ss

SCRIPT = """
import os
import signal
import sys

import numpy as np

import stepsize as ss

rng = np.random.default_rng(0)
x = rng.normal(size=(640, 20))
y = np.sin(x @ rng.normal(size=20)) + 0.1 * rng.normal(size=640)
params = {"w": rng.normal(size=(20, 30)) / 4, "v": rng.normal(size=30) / 5}


def value_and_grad(p, batch):
    x, y = batch
    x = x + 0.05 * np.random.normal(size=x.shape)  # chance, too, goes on where it was
    hidden = np.tanh(x @ p["w"])
    miss = (hidden @ p["v"] - y) / len(y)
    back = np.outer(miss, p["v"]) * (1 - hidden**2)
    return len(y) * float(miss @ miss), {"w": 2 * x.T @ back, "v": 2 * hidden.T @ miss}


class Kill:
    def on_gradients(self, run):
        if run.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)


np.random.seed(0)
lr = ss.schedules.warmup_cosine(0.01, 40, 400)
opt = ss.EMA(ss.AdamW(params, lr=lr, weight_decay=0.01), decay=0.975)
history = ss.fit(
    value_and_grad, params, opt, (x, y), epochs=20, progress=False,
    checkpoint=ss.Checkpoint(sys.argv[1] + "/run.safetensors", every_steps=50),
    resume=True,
    callbacks=[Kill()] if len(sys.argv) > 2 else [],
)
history.save(sys.argv[1] + "/run.history")
ss.save(sys.argv[1] + "/model.safetensors", params, opt)
"""


def run(folder, *kill):
    """Run the script in a process of its own; what it left, and how it ended."""
    call = [sys.executable, "-c", SCRIPT, str(folder), *map(str, kill)]
    return subprocess.run(call, check=False).returncode


# %%
# Once undisturbed. Then three times: killed in step 137, killed again in step 290, and
# to the end.

with tempfile.TemporaryDirectory() as calm, tempfile.TemporaryDirectory() as rough:
    assert run(calm) == 0
    ends = []
    for kill in ((137,), (290,), ()):
        ended = run(rough, *kill)
        ends.append(ended)
        print(f"ended with {ended}", "(killed)" if ended else "(complete)")
    folders = Path(calm), Path(rough)
    whole, pieced = (ss.History.load(folder / "run.history") for folder in folders)
    models = [(folder / "model.safetensors").read_bytes() for folder in folders]

# %%
# The files hold weights, the moments of Adam, the average of the weights and the place
# in the schedule. They are the same, byte for byte. What the kills cost is the steps
# since the last checkpoint.

print(f"{len(models[0])} bytes of model and optimizer, alike: {models[0] == models[1]}")
print("losses of all steps alike:", np.array_equal(whole["loss"], pieced["loss"]))
assert models[0] == models[1] and np.array_equal(whole["loss"], pieced["loss"])

fig, ax = plt.subplots(figsize=(7, 3.8))
ax.plot(
    whole["step"], whole["loss"], color="#8a8f96", lw=4, alpha=0.5, label="undisturbed"
)
for k, (first, last) in enumerate(((0, 137), (100, 290), (250, 400))):
    part = slice(first, last)
    ax.plot(pieced["step"][part], pieced["loss"][part], lw=1, label=f"process {k + 1}")
for k, (kill, back) in enumerate(((137, 100), (290, 250))):
    ax.axvline(kill, color="#1f2328", lw=1)
    ax.axvspan(
        back, kill, color="#e69f00", alpha=0.2, lw=0, label=None if k else "made twice"
    )
    ax.text(kill + 3, 0.02, "killed")
ax.set(xlabel="step", ylabel="loss", ylim=(0, None), title="One run in three processes")
ax.legend(ncols=2, loc="upper right")
plt.show()

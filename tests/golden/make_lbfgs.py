"""Writes lbfgs.npz: where torch's L-BFGS arrives on Rosenbrock's function in four dimensions.

Run from the root of the repository, with the packages of ``pip install "stepsize[peers]"``:
``python tests/golden/make_lbfgs.py``.
"""

import json
from pathlib import Path

import numpy as np
import torch

CASES = [
    {"line_search_fn": "strong_wolfe", "max_iter": 4},
    {"line_search_fn": "strong_wolfe", "max_iter": 3, "history_size": 2},
    {"lr": 0.1, "max_iter": 3},
]
STEPS = 6


def main():
    torch.set_default_dtype(torch.float64)
    arrays = {"x0": np.array([-1.2, 1.0, -0.5, 0.8])}
    for keywords in CASES:
        x = torch.from_numpy(arrays["x0"].copy()).requires_grad_()
        optimizer = torch.optim.LBFGS([x], **keywords)

        def closure(x=x, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
            loss.backward()
            return loss

        points = []
        for _ in range(STEPS):
            optimizer.step(closure)
            points.append(x.detach().numpy().copy())
        arrays[json.dumps(keywords)] = np.stack(points)
    np.savez_compressed(Path(__file__).parent / "lbfgs.npz", **arrays)


if __name__ == "__main__":
    main()

"""Writes what torch.optim computes: ``python tests/golden/make_torch.py`` with torch installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

import trajectories  # noqa: E402


def theirs(rule: str, keywords: dict[str, Any], kind: str, dtype: Any) -> np.ndarray:
    """The same run with the optimizer of torch, one tensor at a time."""
    x = trajectories.scatter(0, dtype)
    tensor = torch.from_numpy(x).requires_grad_()
    optimizer = getattr(torch.optim, rule)([tensor], foreach=False, **keywords)

    def step(gradient: np.ndarray) -> None:
        tensor.grad = torch.from_numpy(gradient)
        optimizer.step()

    return trajectories.run(step, x, kind, keywords)


def main() -> None:
    for rule in trajectories.OPTIONS:
        options = list(trajectories.combinations(rule))
        arrays: dict[str, Any] = {
            f"{kind}_{np.dtype(dtype)}": np.array(
                [theirs(rule, keywords, kind, dtype) for keywords in options]
            )
            for kind in trajectories.GRADIENTS
            for dtype in trajectories.DTYPES
        }
        arrays["options"] = np.array(json.dumps(options))
        arrays["torch"] = np.array(torch.__version__.partition("+")[0])
        np.savez_compressed(HERE / f"torch_{rule.lower()}.npz", **arrays)


if __name__ == "__main__":
    main()

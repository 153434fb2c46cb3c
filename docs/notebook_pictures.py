"""What docs/notebooks.md shows: cards, and a picture by ``python docs/notebook_pictures.py``.

The cards are made whenever the site is built. The picture needs Chromium, and is kept.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss
from stepsize.watching import WatchServer

HERE = Path(__file__).parent
STEPS = 1_200


def task() -> tuple[Any, Any, Any]:
    """Parameters, function and data of a small network that learns a wave with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1_500, 12))
    y = np.sin(x @ rng.normal(size=12) * 0.5) + 0.1 * rng.normal(size=1_500)
    params = {"hidden/w": 0.3 * rng.normal(size=(12, 24)), "out/w": np.zeros(24)}

    def value_and_grad(p: Any, batch: Any) -> tuple[float, Any]:
        rows, goal = batch
        hidden = np.tanh(rows @ p["hidden/w"])
        error = hidden @ p["out/w"] - goal
        back = 2 * error / len(goal)
        slope = np.outer(back, p["out/w"]) * (1 - hidden**2)
        return float(np.mean(error**2)), {"hidden/w": rows.T @ slope, "out/w": hidden.T @ back}

    return params, value_and_grad, (x, y)


def trained(*callbacks: Any) -> tuple[Any, Any]:
    """A run of the task, and its optimizer."""
    params, value_and_grad, (x, y) = task()
    optimizer = ss.AdamW(params, lr=ss.schedules.warmup_cosine(0.02, 60, STEPS))

    def evaluate(p: Any, batch: Any) -> dict[str, float]:
        loss = value_and_grad(p, batch)[0]
        return {"loss": loss, "r2": 1 - loss / float(np.var(batch[1]))}

    history = ss.fit(
        value_and_grad, params, optimizer, (x[:1_200], y[:1_200]), steps=STEPS, progress=False,
        validation=(x[1_200:], y[1_200:]), evaluate=evaluate, callbacks=callbacks,
    )  # fmt: skip
    return history, optimizer


def cards() -> dict[str, str]:
    """What the page shows, by the name of its file."""
    params, value_and_grad, data = task()
    found = ss.lr_find(
        value_and_grad, params, lambda: iter([data] * 100), optimizer=ss.AdamW, progress=False
    )
    history, optimizer = trained()
    return {
        "found": found._repr_html_(),
        "history": history._repr_html_(),
        "diagnosis": ss.diagnose(history)._repr_html_(),
        "optimizer": optimizer._repr_html_(),
    }


def watched(file: Path, browser: str, width: int = 1_180, height: int = 900) -> None:
    """Take a picture of the page of `stepsize watch`."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "run.jsonl"
        trained(ss.JSONLogger(log))
        with WatchServer(log) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            subprocess.run(
                [
                    browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                    f"--user-data-dir={folder}/browser", f"--window-size={width},{height}",
                    "--virtual-time-budget=4000", f"--screenshot={file}", server.url,
                ],
                check=True, capture_output=True, timeout=120,
            )  # fmt: skip
            server.shutdown()
    from PIL import Image

    Image.open(file).convert("RGB").quantize(64).save(file, optimize=True)


if __name__ == "__main__":
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        sys.exit("the picture needs Chromium")
    watched(HERE / "images" / "watch.png", found)

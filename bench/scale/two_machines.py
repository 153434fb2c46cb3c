"""A sweep through Dask between two network namespaces joined by a virtual cable, as two machines.

One holds the scheduler and the driver, the other two worker processes, one of which is killed on
the way. Every run must be reported once, with the bits of the same sweep in one process. Needs
Linux, root and `pip install "stepsize[dask]"`:

    python bench/scale/two_machines.py
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss

NEAR, FAR = "stepsize-near", "stepsize-far"
DRIVER, PORT = "10.77.0.1", 8786
GRID = {
    "lr": [float(lr) for lr in np.geomspace(1e-3, 1, 10)],
    "momentum": [0.0, 0.5, 0.9],
    "batch": [16, 32],
}
DEADLY = {"lr": GRID["lr"][5], "momentum": 0.5, "batch": 32}


def task(mark: str) -> Any:
    """A short training, sent by value; the first time at one point its process is killed."""

    def train(point: dict[str, Any]) -> float:
        died = Path(mark)
        if mark and point == DEADLY and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        rng = np.random.default_rng(point["batch"])
        weights = {"w": rng.normal(size=512).astype(np.float32)}
        opt = ss.SGD(weights, lr=point["lr"], momentum=point["momentum"])
        for _ in range(200):
            noise = rng.normal(size=512).astype(np.float32) / point["batch"]
            opt.step({"w": weights["w"] + noise})
        return float(weights["w"] @ weights["w"])

    return train


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def two_namespaces() -> Iterator[None]:
    """Two network namespaces with one cable between them, taken down at the end."""
    try:
        for name in (NEAR, FAR):
            ip("netns", "add", name)
        ip("link", "add", "ss-near", "netns", NEAR, "type", "veth", "peer", "ss-far", "netns", FAR)
        for name, end, address in ((NEAR, "ss-near", DRIVER), (FAR, "ss-far", "10.77.0.2")):
            ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            for link in (end, "lo"):
                ip("-n", name, "link", "set", link, "up")
        yield
    finally:
        for name in (NEAR, FAR):
            subprocess.run(["ip", "netns", "delete", name], check=False)


@contextlib.contextmanager
def started(name: str, *words: str) -> Iterator[None]:
    """A command of Dask in a namespace, ended with its children."""
    command = ["ip", "netns", "exec", name, sys.executable, "-m", "dask", *words, "--no-dashboard"]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def drive(folder: str) -> None:
    """The driver, in the near namespace."""
    from dask.distributed import Client

    here = ss.sweep(task(""), GRID)
    mark = Path(folder) / "died"
    with Client(f"tcp://{DRIVER}:{PORT}", timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        hosts = {worker["host"] for worker in client.scheduler_info()["workers"].values()}
        before = set(client.nthreads())
        began = time.perf_counter()
        there = ss.sweep(task(str(mark)), GRID, client, storage=Path(folder) / "runs")
        seconds = time.perf_counter() - began
        client.wait_for_workers(2, timeout=60)
        replaced = len(set(client.nthreads()) - before)
    assert hosts == {"10.77.0.2"} and mark.exists() and replaced == 1
    assert [t.number for t in there.trials] == list(range(len(here.trials)))
    assert [(t.point, t.value, t.state) for t in there.trials] == [
        (t.point, t.value, t.state) for t in here.trials
    ]
    assert there.best == here.best
    assert len((Path(folder) / "runs").read_text().splitlines()) == len(there.trials) + 1
    print(
        f"{len(there.trials)} runs on workers at {', '.join(hosts)}, {replaced} of them killed and "
        f"replaced: each reported once, bits and best as in one process; {seconds:.1f} s"
    )


def main() -> None:
    if len(sys.argv) > 1:
        return drive(sys.argv[1])
    address = f"tcp://{DRIVER}:{PORT}"
    with tempfile.TemporaryDirectory() as folder, two_namespaces():
        scheduler = started(NEAR, "scheduler", "--host", DRIVER, "--port", str(PORT))
        workers = ("worker", address, "--nthreads", "1", "--nworkers", "2")
        with scheduler, started(FAR, *workers, "--local-directory", folder):
            me = ["ip", "netns", "exec", NEAR, sys.executable, __file__, folder]
            subprocess.run(me, check=True, timeout=300)


if __name__ == "__main__":
    main()

"""A script as a user writes it: what a checker of types says of it, and the threads of torch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import stepsize as ss

SCRIPT = """
import numpy as np
import numpy.typing as npt
import stepsize as ss

Params = dict[str, npt.NDArray[np.float64]]
params: Params = {"w": np.zeros(3)}

def value_and_grad(p: Params, batch: object) -> tuple[float, Params]:
    return float((p["w"] ** 2).sum()), {"w": 2 * p["w"]}

lr: ss.Schedule = ss.schedules.warmup_cosine(3e-3, 10, 100)
inner = ss.AdamW(params, lr=lr, weight_decay=0.01, betas=(0.9, 0.99))
for optimizer in (ss.EMA(inner), ss.Lookahead(inner), ss.SAM(inner), ss.Accumulate(inner, every=2)):
    history: ss.History = ss.fit(
        value_and_grad, params, optimizer, [None], epochs=2, callbacks=[ss.StopOnDivergence()]
    )
    ss.save("model", params, optimizer)
stats = inner.step({"w": np.ones(3)}, stats=True)
if stats is not None:
    print(stats.grad_norm)
found: ss.LRFindResult = ss.lr_find(value_and_grad, params, [None], optimizer=ss.SGD)
rate: float | None = found.suggestion
verdict: str = ss.diagnose(history).verdict
ss.plots.run_curves(history)
"""
MISTAKES = ("ss.AdamW(params, lr=0.1, weight_deccay=0.1)", "ss.SGD(params, momentum='high')")


@pytest.mark.timeout(900)  # a checker without a cache, beside other tests
def test_a_checker_of_types_takes_a_users_script_and_finds_its_mistakes(tmp_path):
    pytest.importorskip("mypy")
    home = Path(ss.__file__).parents[1]
    path = {} if home.name == "site-packages" else {"MYPYPATH": str(home)}
    (tmp_path / "script.py").write_text(SCRIPT + "\n".join(MISTAKES) + "\n")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*mypy, "--follow-imports", "silent", "--config-file", "", "script.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **path},
    )
    first = SCRIPT.count("\n") + 1
    told = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [line.split(":")[1] for line in told] == [str(first), str(first + 1)], done.stdout


def test_the_number_of_threads_of_torch_is_followed_where_it_is_of_one_runtime():
    program = """
        import os, torch
        import stepsize as ss
        names = {line.split("/")[-1].strip() for line in open("/proc/self/maps") if "gomp" in line}
        before = ss.build_info()["threads"]
        torch.set_num_threads(1)
        print(len(names), before, ss.build_info()["threads"])
        """
    if not sys.platform.startswith("linux"):
        return
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    runtimes, before, after = map(int, done.stdout.split())
    assert after == (1 if runtimes <= 1 else before)

"""The page of `stepsize watch` in a real browser, where there is one."""

import json
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest

import stepsize as ss
from stepsize.watching import WatchServer
from stepsize.watching.server import page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = "</script><img src=x onerror=alert(1)>"


def log_of_a_run(path):
    """A run with hostile names, a hole in its losses, a broken line and a torn end."""
    params = np.ones(3)

    def value_and_grad(p, b):
        value_and_grad.calls += 1
        return (np.nan if 20 < value_and_grad.calls < 25 else float(p @ p)), 2 * p

    value_and_grad.calls = 0
    ss.fit(
        value_and_grad, params, ss.SGD(params, lr=0.01, on_nonfinite="ignore"), [None] * 60,
        epochs=2, validation=[None], callbacks=[ss.JSONLogger(path)], progress=False,
        evaluate=lambda p, b: {"loss": float(p @ p), HOSTILE: 1.0},
    )  # fmt: skip
    with open(path, "a") as file:
        file.write("<b>broken</b>\n" + json.dumps({"step": 121, "loss": 1.0})[:9])


def seen(path, folder, width=1300, dark=False):
    """The page as the browser has it after some seconds, and what its console said."""
    with WatchServer(path) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        command = [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={folder}", f"--window-size={width},1200",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--virtual-time-budget=4000", "--dump-dom", server.url,
        ]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        server.shutdown()
    assert run.returncode == 0, run.stderr
    return run.stdout, [line for line in run.stderr.splitlines() if "CONSOLE" in line]


if BROWSER:

    @pytest.mark.parametrize("width", [360, 760, 1300])
    def test_a_run_is_drawn_and_its_names_are_text(tmp_path, width):
        path = tmp_path / "run<i>.jsonl"
        log_of_a_run(path)
        dom, said = seen(path, tmp_path / "browser", width)
        assert not said, "the page breaks its own policy, or fails"
        assert "run&lt;i&gt;.jsonl" in dom and "1 line could not be read, the first is" in dom
        assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in dom and "<img" not in dom
        assert dom.count('<path d="M') >= 5 and "NaN" not in dom.partition("<script>")[0]
        assert re.search(r'id="state"[^>]*>ended<', dom) and "finished 2 epochs" in dom
        loss = re.search(r'<path d="([^"]+)"', dom)[1]
        assert loss.count("M") == 2, "losses that are not finite are a hole in the line"

    def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path):
        dom, said = seen(tmp_path / "later.jsonl", tmp_path / "browser", dark=True)
        assert not said and "the file is not there yet" in dom


def test_the_script_asks_for_nothing_that_the_page_lacks():
    text = page()[0].decode()
    named = set(re.findall(r'byId\("(\w+)"\)', text))
    assert named and named <= set(re.findall(r' id="(\w+)"', text))

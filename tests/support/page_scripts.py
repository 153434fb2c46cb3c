"""The scripts of a page, and the commands that it gives for them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import stepsize

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = Path(stepsize.__file__).parents[1]  # of the tree, or where it is installed


def write_scripts(page: str, folder: Path) -> list[str]:
    """Write each block of a page that begins with the name of a file into it; their names."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text_of(page), re.DOTALL)
    for name, code in blocks:
        (folder / name).write_text(code, "utf-8")
    return [name for name, _ in blocks]


def commands_of(page: str) -> list[str]:
    """The lines of the shell blocks of a page."""
    blocks = re.findall(r"```sh\n(.*?)```", text_of(page), re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]


def run(command: str, folder: Path, seconds: float = 120) -> str:
    """What a command of a page prints, in a folder, with the interpreter of the tests."""
    environment = {**os.environ, "RAY_DEDUP_LOGS": "0", "PYTHONWARNINGS": "default"}
    found = os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment["PYTHONPATH"] = found
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command.split(),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def text_of(page: str) -> str:
    return (DOCS / page).read_text("utf-8")

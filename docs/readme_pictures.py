"""Draws the pictures of README.md: ``python docs/readme_pictures.py``, which runs the demo."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
COPIED = {
    "accuracy_by_rate.png": "accuracy_by_rate.png",
    "three_rates.png": "three_rates.png",
    "low_rate.png": "diagnosis.png",
}
COMMAND = "stepsize demo"
WIDTH = 92  # characters
LINE, CHARACTER, MARGIN = 19, 7.85, 18  # pixels
STYLE = """\
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  fill: #d5dbe3; white-space: pre; }
.head { fill: #ffffff; font-weight: 600; }
.prompt, .yes { fill: #7ee0a8; }"""


def shown(told: str) -> list[str]:
    """The range test in words, the three rates with two diagnoses, and the end."""
    find, rates, rest = re.split(r"\n(?=[23]  )", told)
    heading, words = find.splitlines()[0], find.partition("suggested learning rate")[2]
    kept = [f"$ {COMMAND}", heading, "", *words.splitlines()[2:], ""]
    kept += [line for line in rates.splitlines() if not line.startswith("  suggested: ")] + [""]
    later = [line for line in rest.splitlines() if line[:1] in ("3", "4")]
    end = rest[rest.index("  yes  ") :].splitlines()
    kept += [line for heading in later for line in (heading, "  [...]", "")] + end
    return [
        part
        for line in kept
        for part in textwrap.wrap(line, WIDTH, subsequent_indent="    ") or [""]
    ]


def terminal(lines: list[str]) -> str:
    """A drawing of a terminal with these lines."""
    width, height = int(WIDTH * CHARACTER) + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{COMMAND} in a terminal">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#12171f"/>',
    ]
    for number, line in enumerate(lines):
        word = line.strip().partition(" ")[0]
        look = {"$": "prompt", "yes": "yes"}.get(word, "head" if re.match(r"\d  ", line) else "")
        parts.append(
            f'<text class="{look}" x="{MARGIN}" y="{MARGIN + (number + 0.75) * LINE:.0f}">'
            f"{html.escape(line)}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", *COMMAND.split()]
        environment = {**os.environ, "COLUMNS": str(WIDTH)}
        answer = subprocess.run(
            command, cwd=folder, env=environment, check=True, capture_output=True, text=True
        )
        for source, target in COPIED.items():
            shutil.copy(Path(folder) / "stepsize-report" / source, IMAGES / target)
    (IMAGES / "demo.svg").write_text(terminal(shown(answer.stdout)), encoding="utf-8")


if __name__ == "__main__":
    main()

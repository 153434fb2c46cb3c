"""What the README's table says of torch.optim, counted."""

import inspect
import re
from pathlib import Path

import torch

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def column(title):
    rows = [row.strip("|").split("|") for row in README.splitlines() if row.startswith("| ")]
    (at,) = (k for k, cell in enumerate(rows[0]) if cell.strip().startswith(title))
    return rows[0][at], {row[0].strip(): row[at].strip() for row in rows}


def classes(module, base):
    found = [getattr(module, name) for name in dir(module) if not name.startswith("_")]
    return {c for c in found if inspect.isclass(c) and issubclass(c, base)} - {base}


def test_the_rules_and_schedulers_of_torch():
    title, cells = column("torch.optim")
    assert torch.__version__.startswith(title.split()[-1])
    counted = {
        "update rules": classes(torch.optim, torch.optim.Optimizer),
        "schedules": classes(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler),
    }
    for row, found in counted.items():
        assert int(re.match(r"\d+", cells[row])[0]) == len(found), sorted(map(str, found))

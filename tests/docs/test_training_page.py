"""The page about training: its examples run, and its table names what there is."""

import re
from pathlib import Path

import stepsize as ss

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "docs/training.md", "exec"), scope)
    assert scope["history"].stopped and scope["history"].last("val_loss") < 0.02
    assert scope["same"] == scope["history"]
    judged = scope["judged"]
    assert judged.last("val_accuracy") > 0.9 and judged.last("val_loss") < 0.3
    assert "val_accuracy" in judged.stopped or judged.steps == 30 * 13


def test_the_table_names_every_callback():
    table = re.search(r"\| \|\n.*?\n\n", PAGE, re.DOTALL).group()
    listed = set(re.findall(r"`(\w+)`", table))
    hooks = {"on_gradients", "on_step", "on_epoch", "on_end", "load_state_dict"}
    there = {
        name
        for name in ss.__all__
        if isinstance(thing := getattr(ss, name), type)
        and thing.__module__.split(".")[1] == "callbacks"
        and hooks & set(dir(thing))
    }
    assert listed == there

"""Schedules written down: as Python, as JSON, and in the documentation."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import stepsize as ss
from stepsize.schedules.schedule import RECIPES, signature_text

S = ss.schedules


REPRS = [
    "linear(1.0, 0.0, 10)",
    "cosine(1.0, 0.0, 10, power=2.0)",
    "(linear(1.0, 0.0, 10) + constant(0.5)) * 2.0",
    "linear(1.0, 0.0, 10) * 2.0 + constant(0.5)",
    "linear(1.0, 0.0, 10) + (constant(0.5) + constant(0.25))",
    "linear(1.0, 0.0, 10) * (constant(0.5) * constant(0.25))",
    "(linear(1.0, 0.0, 10) * 2.0).clip(high=1.0)",
    "constant(1.0).then(linear(1.0, 0.0, 10), at=5).then(constant(0.0), at=20)",
    "multistep(1.0, [30, 80], 0.1).shift(-3).warmup(10, init=0.1)",
    "piecewise_linear([[0, 0.0], [10, 1.0]]).repeat(10.5)",
    "cyclic(0.0, 1.0, 10, down=5, mode='exp_range', gamma=0.9)",
    "warmup_cosine(0.003, 100, 2000).resume_at(500, 4000)",
]


@pytest.mark.parametrize("text", REPRS)
def test_repr_is_the_call_that_made_it(text):
    assert repr(eval(text, vars(S))) == text


def test_a_function_without_an_import_path_is_not_saved():
    s = S.from_function(lambda step: 0.1)
    with pytest.raises(ValueError, match=r"cannot be saved, no import path leads to it; define it"):
        s.to_dict()


def test_a_saved_schedule_imports_nothing():
    program = (
        "import sys, stepsize as ss\n"
        "try: ss.schedules.from_function('antigravity:fly')\n"
        "except ValueError: assert 'antigravity' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a dict made by Schedule.to_dict"),
        ({"version": 99}, "version 99 is not 1; upgrade stepsize to read it"),
        ({"name": "nothing"}, "'nothing' is not a schedule; known are by_epoch, clip, constant, "),
    ],
)
def test_from_dict_refuses_what_it_does_not_know(change, message):
    with pytest.raises(ValueError, match=message):
        ss.Schedule.from_dict({**S.linear(1, 0, 10).to_dict(), **change})


def test_the_documentation_lists_every_schedule():
    text = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
    for name in S.__all__:
        if name in RECIPES:
            made = getattr(S, name)
            first = inspect.getdoc(made).splitlines()[0]
            assert f"| `{name}{signature_text(made.signature)}` | {first} |" in text

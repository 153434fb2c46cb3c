"""Schedules written down: as Python, as JSON, and in the documentation."""

import inspect
import json
import math
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss
from stepsize.schedules.expression import FUNCTIONS, METHODS, parse
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


def named(path):
    call = {"name": "from_function", "arguments": {"f": path}}
    scaled = {"name": "scale", "arguments": {"schedule": call, "factor": 0.5}}
    return [{"format": "stepsize.schedule", "version": 1, **each} for each in (call, scaled)]


@pytest.mark.parametrize("path", ["posix:_exit", "os:getpid", "math:cos", "x", ""])
def test_what_a_string_names_is_not_called(path):
    for trust in ((), math.sqrt, [math.sqrt], S.from_function(math.sqrt)):
        with pytest.raises(ValueError, match="what a text names is not called"):
            S.from_function(path, trust=trust)


@pytest.mark.parametrize("trust", [(), [math.sqrt], S.from_function(math.sqrt)])
@pytest.mark.parametrize("path", ["posix:_exit", "os:getpid", "builtins:print", "x", 3, None])
def test_what_a_file_names_is_not_called(path, trust):
    for saved in named(path):
        with pytest.raises(ValueError, match=r"Schedule.from_dict: the schedule calls the Python"):
            ss.Schedule.from_dict(saved, trust=trust)


def test_an_optimizer_loads_the_functions_that_it_has(tmp_path):
    path = tmp_path / "opt.safetensors"
    ss.SGD(np.ones(2), lr=S.from_function(math.sqrt) * 0.5).save(path)
    for other in (0.1, S.constant(0.1), S.from_function(math.exp), lambda step: 0.1):
        opt = ss.SGD(np.ones(2), lr=other)
        before = repr(opt)
        with pytest.raises(ValueError, match=r"'math:sqrt', and what a file names is not called"):
            opt.load(path)
        assert repr(opt) == before
    for own in (
        S.from_function(math.sqrt),
        math.sqrt,
        S.constant(1.0) + S.from_function(math.sqrt),
    ):
        opt = ss.SGD(np.ones(2), lr=own)
        opt.load(path)
        assert opt.lr == 0.0


def variants(plain):
    """A saved schedule with one thing changed, at every place."""
    for key in list(plain):
        yield {k: v for k, v in plain.items() if k != key}
        for value in (None, "x", -1, math.nan, [], {}, {"name": "x"}, [[1]], 10**400, True, b"1"):
            if type(value) is not type(plain[key]) or value != plain[key]:
                yield {**plain, key: value}
        if isinstance(plain[key], dict):
            yield from ({**plain, key: inner} for inner in variants(plain[key]))
        if isinstance(plain[key], list):
            for i, item in enumerate(plain[key]):
                if isinstance(item, dict):
                    for inner in variants(item):
                        yield {**plain, key: [*plain[key][:i], inner, *plain[key][i + 1 :]]}
    yield {**plain, "more": 1}


def test_a_damaged_dict_is_a_value_error():
    """Refused by ValueError, or a schedule whose own dict it is."""
    curve = S.cosine(1.0, 0.0, 10).warmup(5).clip(high=0.5).then(S.multistep(1, [2, 9], 0.1), at=30)
    saved = json.loads(json.dumps((curve * 0.5 + S.cyclic(0.1, 1.0, 10)).to_dict()))
    refused = 0
    for damaged in variants(saved):
        try:
            made = ss.Schedule.from_dict(damaged)
        except ValueError as error:
            assert str(error).startswith("Schedule.from_dict: ")
            refused += 1
        else:
            assert ss.Schedule.from_dict(made.to_dict()) == made
    assert refused > 300


LONG = {
    "sum": "1" + "+1" * 400_000,
    "sum of schedules": "constant(1)" + "+constant(1)" * 80_000,
    "signs": "-" * 100_000 + "1",
    "methods": "constant(1)" + ".shift(1)" * 100_000,
    "digits": "9" * 100_000,
    "brackets": "[" * 100_000,
    "calls": "constant(" * 10_000 + "1" + ")" * 10_000,
    "a name": "x" * 900_000,
    "a name called": "x" * 900_000 + "()",
    "a method": f"constant(1).{'x' * 900_000}()",
    "text": f"'{'x' * 900_000}'",
    "too long": "1" * 1_000_001,
    "a zero": "\0",
    "half a character": "\udcff",
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_expression_is_refused_in_short_and_soon(name):
    start = time.process_time()
    with pytest.raises(ValueError) as caught:
        parse(LONG[name])
    assert time.process_time() - start < 5 and len(str(caught.value)) < 1000


def test_a_long_list_is_no_trouble():
    s = S.table([0.125] * 20_000)
    assert parse(repr(s)) == s


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *METHODS}))
def test_no_argument_of_any_call_names_a_function(name):
    """Every parameter of every call that text can make, given the path of a function."""
    call = getattr(S, name, None) or getattr(ss.Schedule, name)
    names = set(inspect.signature(call).parameters) | {"lr_lambda", "decay_fn", "f"}
    start = f"constant(1).{name}" if name in METHODS else name
    for parameter in names:
        for path in ("'posix:_exit'", "'os:abort'", "['posix:_exit']"):
            with pytest.raises(ValueError):
                parse(f"{start}({parameter}={path}).warmup(5)")
    for scheduler in ("LambdaLR", "MultiplicativeLR", "WSDLRScheduler"):
        with pytest.raises(ValueError):
            parse(f"{start}('{scheduler}', lr=1, lr_lambda='posix:_exit').warmup(5)")


def test_unknown_keys_are_refused():
    for saved in ({"extra": 1}, {"arguments": {"value": 0.1, "extra": 1}}):
        with pytest.raises(ValueError, match=r"Schedule.from_dict: .*'?extra'?"):
            ss.Schedule.from_dict({**S.constant(0.1).to_dict(), **saved})


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


def doubled(times):
    s = S.linear(1.0, 0.0, 10)
    for _ in range(times):
        s = s + s
    return s


def test_a_schedule_that_holds_itself_many_times_costs_no_more_than_its_own_parts():
    start = time.process_time()
    s, other = doubled(60), doubled(60)
    assert s == other and hash(s) == hash(other) and s != doubled(59) and s != S.constant(1.0)
    assert s(5) == 0.5 * 2.0**60
    assert repr(s) == "<a schedule of 2,305,843,009,213,693,951 parts>" and "parts" in s.svg()
    assert pickle.loads(pickle.dumps(s)) == s
    with pytest.raises(ValueError, match=r"parts, a file holds 10,000; ss.schedules.table"):
        s.to_dict()
    opt = ss.SGD(np.ones(1), lr=s * 1e-30)
    opt.load_state_dict(opt.state_dict())
    assert opt.lr > 0 and time.process_time() - start < 5
    small = doubled(10)
    assert parse(repr(small)) == small == ss.Schedule.from_dict(small.to_dict())


def test_a_schedule_nested_too_deeply_is_refused_with_the_way_out():
    s = S.linear(1.0, 0.0, 10)
    with pytest.raises(ValueError, match=r"nested 100 deep, got 101; ss.schedules.table"):
        for _ in range(200):
            s = s.shift(1)
    assert S.table(s.values(200))(50) == s(50)
    assert ss.Schedule.from_dict(json.loads(json.dumps(s.to_dict()))) == s == parse(repr(s))

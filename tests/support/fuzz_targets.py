"""What is fuzzed: readers of what others may have written, and two implementations of one rule.

A target has seeds, and a function of bytes that lets an error pass that is not one of those that
its reader is documented to raise, or a value that does not come back. tests/support/fuzz.py
steers them for long, tests/serialization/test_fuzz.py for a moment.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import re
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import cases
import stepsize as ss
from stepsize.cli.errors import CommandError
from stepsize.cli.tables import load_table
from stepsize.schedules import expression
from stepsize.serialization import container, nested

_folder = tempfile.TemporaryDirectory(prefix="fuzz-")
atexit.register(_folder.cleanup)
FOLDER = Path(_folder.name)
S = ss.schedules
SCHEDULES = [
    S.cosine(0.3, 1e-5, 2999).warmup(40),
    S.constant(0.1) + S.linear(0.3, 0.0, 777) * 0.5,
    S.cosine_restarts(1.0, 100, multiplier=1.5, decay=0.7, end=0.01).clip(0.02, 0.9),
    S.piecewise_linear([(3, 0.1), (100, 1.0)]).then(S.wsd(0.1, 10, 50, 70, shape="sqrt"), at=150),
    S.one_cycle(0.1, 2500, pct_start=0.27).stretch(300).repeat(200).shift(3),
    S.cyclic(0.1, 1.0, 77, mode="exp_range", gamma=0.999).by_epoch(10),
    S.multistep(1.0, [30, 80], 0.3) * S.table([0.1, 0.2]) + S.tanh(1.0, 0.1, 50),
]
STEPS = np.array([0.0, 1.0, 2.5, 99.0, 1e6, 2.0**53])


def check_schedule(schedule: Any) -> None:
    """It has values, and comes back from text and from a dict."""
    values = schedule(STEPS)
    assert np.isfinite(values).all(), values
    assert expression.parse(repr(schedule)) == schedule
    assert ss.Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


def from_dict(data: bytes) -> None:
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        schedule = ss.Schedule.from_dict(plain)
    except ValueError as error:
        assert str(error)
        return
    check_schedule(schedule)


def text(data: bytes) -> None:
    try:
        schedule = expression.parse(data.decode("utf-8", "ignore"))
    except (ValueError, TypeError) as error:
        assert str(error)
        return
    check_schedule(schedule)


GROUPS = [
    [["*/w", {"lr": 0.5, "weight_decay": 0.0}], ["b*", {"betas": [0.5, 0.9]}]],
    [["[bc]", {"eps": 1e-3, "cautious": True}], ["a/w", {"bounds": [-1, 1], "l1": 0.1}]],
    [["*", {"amsgrad": True, "decoupled_weight_decay": False}]],
    {"params": {"a": {"w": [1.0]}}, "lr": 0.25},
]


def groups(data: bytes) -> None:
    """Group specifications; refused ones leave no trace in the parameters."""
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return
    params = {"a": {"w": np.ones(3)}, "b": np.ones(2), "c": np.ones(1)}
    try:
        if isinstance(given, list):
            given = [ss.group(entry[0], **entry[1]) for entry in given]
    except (TypeError, KeyError, IndexError):
        return  # these are no arguments of ss.group
    try:
        optimizer = ss.AdamW(params, groups=given)
        optimizer.step({"a": {"w": np.ones(3)}, "b": np.ones(2), "c": np.ones(1)})
    except (ValueError, TypeError, FloatingPointError) as error:
        assert str(error)
        assert all((leaf == 1).all() for leaf in (params["a"]["w"], params["b"], params["c"]))
        return
    restored = ss.AdamW(params, groups=given)
    restored.load_state_dict(optimizer.state_dict())


TABLES = [
    b".csv:a,b,y\n" + b"".join(b"%d,%d.5,%d\n" % (i, i * i % 7, i % 2) for i in range(24)),
    b".tsv:a\tb c\ty\n1,5\tred\t0\n2,5\tblue\t1\n" * 9,
    b".json:" + json.dumps([{"a": i, "b": str(i % 3), "y": i / 2} for i in range(24)]).encode(),
    b".jsonl:" + b"\n".join(json.dumps({"a": i, "y": i % 2}).encode() for i in range(24)),
    b".csv:date;price;y\n" + b"2024-01-05;1.234,5;yes\n05.02.2024;$3;no\n" * 12,
]


def table(data: bytes) -> None:
    ending, _, content = data.partition(b":")
    if ending not in (b".csv", b".tsv", b".json", b".jsonl", b".txt"):
        ending = b".csv"
    path = FOLDER / f"table{ending.decode()}"
    path.write_bytes(content)
    try:
        load_table(path, "y", (), [], 0)
    except CommandError as error:
        assert str(error)


def saved() -> list[bytes]:
    params = {"w": np.ones((3, 4), np.float32), "b": np.ones(2)}
    path, found = FOLDER / "seed", []
    for make in (
        lambda: ss.AdamW(params, lr=SCHEDULES[0], groups=[ss.group("b", lr=0.5)]),
        lambda: ss.EMA(ss.Prodigy(params)),
        lambda: ss.AdamW({"w": params["w"]}, state_dtype="int8"),
    ):
        make().save(path)
        found.append(path.read_bytes())
    ss.save(path, params, ss.SGD(params))
    return [*found, path.read_bytes()]


def signed(data: bytes) -> bytes:
    """The file with the digest that its content asks for, so that a reader goes on."""
    found = re.search(rb'"sha256":\s*"([0-9a-f]{64})"', data)
    if not found:
        return data
    zeros = data[: found.start(1)] + b"0" * 64 + data[found.end(1) :]
    return zeros.replace(b"0" * 64, hashlib.sha256(zeros).hexdigest().encode(), 1)


def checkpoint(data: bytes) -> None:
    """Read as a container, as a nest and by an optimizer, whose state an error leaves alone."""
    path = FOLDER / "file.safetensors"
    path.write_bytes(signed(data))
    params = {"w": np.ones((3, 4), np.float32), "b": np.ones(2)}
    for make in (
        lambda: ss.AdamW(params, lr=SCHEDULES[0], groups=[ss.group("b", lr=0.5)]),
        lambda: ss.EMA(ss.Prodigy(params)),
    ):
        optimizer = make()
        before = repr(optimizer.state_dict())
        try:
            _, meta = container.read(path)
            nested.load(path, meta["kind"])
        except (ValueError, KeyError) as error:
            assert str(error)
        try:
            optimizer.load(path)
        except (ValueError, TypeError) as error:
            assert str(error)
            assert repr(optimizer.state_dict()) == before
    try:
        ss.load(path, params, ss.SGD(params))
    except (ValueError, TypeError) as error:
        assert str(error)


@cache
def rules() -> list[Any]:
    return cases.COMPILED


def compiled(data: bytes) -> None:
    """Two steps of a rule over these bytes as numbers are those that NumPy makes."""
    head = np.frombuffer(data[:4].ljust(4, b"\0"), np.uint8).astype(int)
    case = rules()[(head[0] * 256 + head[1]) % len(rules())]
    dtype = np.dtype((np.float32, np.float64)[head[2] % 2])
    body = data[4:] * (1 + head[3] % 40)
    numbers = np.frombuffer(body[: len(body) // dtype.itemsize * dtype.itemsize], dtype)
    length = numbers.size // 3
    results = []
    for native in (True, False):
        x, *grads = (numbers[k * length : (k + 1) * length].copy() for k in range(3))
        if native:
            optimizer = case.make(x, on_nonfinite="ignore")
        else:
            with cases.numpy_rule(case.cls):
                optimizer = case.make(x, on_nonfinite="ignore")
        for g in grads:
            cases.advance(optimizer, g)
        results.append(
            [x, *(slot for slots in optimizer.state.values() for slot in slots.values())]
        )
    for one, other in zip(*results, strict=True):
        assert cases.same_bits(np.asarray(one), np.asarray(other)), str(case)


def numbers() -> list[bytes]:
    random = np.random.default_rng(0)
    made = []
    for k, dtype in enumerate(cases.DTYPES * 3):
        values = random.standard_normal(60) * 10.0 ** random.uniform(-3, 3, 60)
        values[:7] = cases.extremes(dtype)[:7] if k > 3 else 0
        made.append(bytes([k, 91 * k % 256, k % 2, k]) + values.astype(dtype).tobytes())
    return made


def plain(values: list[Any]) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "from_dict": (from_dict, lambda: plain([s.to_dict() for s in SCHEDULES])),
    "text": (text, lambda: [repr(s).encode() for s in SCHEDULES]),
    "groups": (groups, lambda: plain(GROUPS)),
    "table": (table, lambda: TABLES),
    "checkpoint": (checkpoint, saved),
    "compiled": (compiled, numbers),
}


def attempt(name: str, data: bytes) -> None:
    """Let a target have these bytes; its warnings are not of interest."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        TARGETS[name][0](data)

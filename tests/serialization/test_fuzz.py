"""Damaged files, of every kind that is written: refused by an error that names the file, or read
as what was written; never a raw error, and nothing has changed."""

from __future__ import annotations

import random

import numpy as np
import pytest

import fuzz_targets
import stepsize as ss
from fitting import bits, fit, make_params
from fuzz import mutated
from stepsize.cli import main
from stepsize.serialization import container, nested

RATE = ss.schedules.cosine(0.1, 0.0, 50).warmup(3)


def optimizer(path):
    opt = ss.Adam(make_params(), lr=RATE)
    return (lambda: opt.save(path)), (lambda: opt.load(path)), (lambda: repr(opt.state_dict()))


def wrapped(path):
    opt = ss.EMA(ss.SGD(make_params(), lr=RATE))
    return (lambda: opt.save(path)), (lambda: opt.load(path)), (lambda: repr(opt.state_dict()))


def model(path):
    params = make_params()
    opt = ss.AdamW(params, lr=RATE)
    return (
        (lambda: ss.save(path, params, opt)),
        (lambda: ss.load(path, params, opt)),
        (lambda: (bits(params), repr(opt.state_dict()))),
    )


def history(path):
    found = ss.History.from_arrays(step=[1, 2, 3], loss=[3.0, 2.0, 1.0], lr=[0.1, 0.1, 0.1])
    return (lambda: found.save(path)), (lambda: ss.History.load(path)), (lambda: None)


def run(path):
    params = make_params()
    stop = ss.EarlyStopping("loss", patience=3)

    def write():
        fit(make_params(), checkpoint=path, epochs=2, callbacks=[ss.EarlyStopping("loss")])

    def read():
        fit(params, checkpoint=path, epochs=2, callbacks=[stop], resume=True)

    return write, read, (lambda: bits(params))


def population(path):
    stacked = ss.replicate(make_params(), 2)
    many = ss.population(ss.Adam, stacked, lr=[0.1, 0.2])
    return (lambda: many.save(path)), (lambda: many.load(path)), (lambda: repr(many.state_dict()))


KINDS = {f.__name__: f for f in (optimizer, wrapped, model, history, run, population)}
VALUES = (
    *(None, "x", "", -1, 0, 3, 2**63, 10**400, 1.5, True, [], [[]], {}, {"x": 1}, float("nan")),
    *(float("inf"), -float("inf"), np.zeros(3), np.zeros((0, 2))),
)


def places(nest, path=()):
    """Every place in nested dicts and lists."""
    items = nest.items() if isinstance(nest, dict) else enumerate(nest)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list | tuple):
            yield from places(value, (*path, key))


def replaced(nest, path, value):
    """The nest with another value at one place; without the place where the value is Ellipsis."""
    (key, *rest), kind = path, type(nest)
    if kind is dict:
        inner = {k: v for k, v in nest.items() if k != key or rest or value is not ...}
        if key in inner:
            inner[key] = replaced(nest[key], rest, value) if rest else value
        return inner
    items = list(nest)
    items[key : key + 1] = (
        [replaced(nest[key], rest, value)] if rest else [] if value is ... else [value]
    )
    return kind(items)


def outcome(read, state, path):
    """Whether a damaged file was refused; then by a named error, and nothing has changed."""
    before = state()
    try:
        read()
    except (ss.CheckpointError, ValueError, TypeError) as error:
        assert str(path.name) in str(error) or ":" in str(error), error
        assert state() == before, error
        return True
    return False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_flipped_and_cut_are_refused(kind, tmp_path):
    path = tmp_path / "file.safetensors"
    write, read, state = KINDS[kind](path)
    write()
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(60):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        assert outcome(read, state, path)
        path.write_bytes(whole[: rng.randrange(len(whole))])
        assert outcome(read, state, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_values_exchanged_under_a_right_digest_raise_nothing_raw(kind, tmp_path):
    path = tmp_path / "file.safetensors"
    write, _, _ = KINDS[kind](path)
    write()
    _, meta = container.read(path)
    saved = nested.load(path, meta["kind"])
    rng = random.Random(1)
    cases = [(place, value) for place in places(saved) for value in (*VALUES, ...)]
    refused = 0
    for place, value in rng.sample(cases, min(len(cases), 150)):
        nested.dump(path, meta["kind"], replaced(saved, place, value))
        _, read, state = KINDS[kind](path)  # anew: what could be read has been
        refused += outcome(read, state, path)
    assert refused > 30


@pytest.mark.parametrize("ending", ["npz", "parquet", "csv", "tsv"])
def test_damaged_tables_are_one_line(ending, tmp_path, capsys):
    path = tmp_path / f"t.{ending}"
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 2)), np.arange(24) % 2
    if ending == "npz":
        np.savez_compressed(path, x=x, y=y)
    elif ending == "parquet":
        pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
        pandas.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y}).to_parquet(path)
    else:
        sign = "," if ending == "csv" else "\t"
        rows = [sign.join(map(str, (*pair, k))) for pair, k in zip(x, y, strict=True)]
        path.write_text("\n".join([sign.join("aby"), *rows]))
    whole = path.read_bytes()
    draw = random.Random(0)
    words = ["train", str(path), "--target", "y", "--hidden", "0", "--epochs", "1", "--lr", "0.01"]
    for k in range(60):
        data = bytearray(whole)
        for _ in range(1 + k % 3):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data if k % 2 else data[: draw.randrange(len(data))])
        code = main([*words, "--json"])
        err = capsys.readouterr().err
        assert code in (0, 1, 2, 3)
        assert code != 1 or (err.splitlines()[-1].startswith("stepsize train: error: "))
        assert "Traceback" not in err


# How many mutations take about half a second; tests/support/fuzz.py makes them for hours.
MOMENTS = {"from_dict": 400, "text": 300, "groups": 300, "table": 12, "checkpoint": 25}
MOMENTS |= {"compiled": 60}


@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
def test_a_moment_of_fuzzing_finds_nothing(name):
    draw, seeds = random.Random(0), fuzz_targets.TARGETS[name][1]()
    for data in [*seeds, *(mutated(draw.choice(seeds), seeds, draw) for _ in range(MOMENTS[name]))]:
        fuzz_targets.attempt(name, data)

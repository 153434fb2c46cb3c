"""The edges of the file format and of what is told of functions, from both sides."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from stepsize.errors import CheckpointError
from stepsize.serialization import container, functions

START = b'{"__metadata__":{"sha256":"'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def refusal(path: Path, blob: bytes) -> str:
    path.write_bytes(blob)
    with pytest.raises(CheckpointError) as caught:
        container.read(path)
    return str(caught.value)


def forged(shape: list[object], size: int) -> bytes:
    """A file with a right digest that says this of the shape of its one array."""
    metadata = {"sha256": "0" * 64, "format": "stepsize", "schema": "1", "meta": "{}"}
    entry = {"dtype": "F8", "shape": shape, "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": metadata, "a": entry}, separators=(",", ":"))
    text = text.replace('"F8"', '"F64"')
    header = text.encode()
    blob = len(header).to_bytes(8, "little") + header
    digest = hashlib.sha256(blob + bytes(size)).hexdigest()
    return blob.replace(b"0" * 64, digest.encode(), 1) + bytes(size)


@pytest.mark.parametrize("length", range(9))
def test_data_begin_at_a_multiple_of_eight_bytes(path: Path, length: int) -> None:
    container.write(path, {"a" * (1 + length): np.zeros(1)}, {})
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_a_file_cut_within_its_first_bytes_is_called_cut(path: Path) -> None:
    container.write(path, {"a": np.zeros(3)}, {})
    blob = path.read_bytes()
    for size in range(8, 8 + len(START)):
        assert "too short for a checkpoint" in refusal(path, blob[:size])


def test_a_header_longer_than_the_file_is_told_by_its_length(path: Path) -> None:
    container.write(path, {"a": np.zeros(3)}, {})
    blob = path.read_bytes()
    for more in range(1, 18):
        length = len(blob) - 8 + more
        said = refusal(path, length.to_bytes(8, "little") + blob[8:])
        assert f"its header claims {length} bytes of a file of {len(blob)}" in said


@pytest.mark.parametrize(
    ("shape", "size"), [([2.0], 16), ([True], 8), ([-1], -8), ([0, 2**48], 0), (["1"], 8)]
)
def test_a_shape_is_of_counts_below_two_to_the_48(path: Path, shape: list[object], size: int):
    if size >= 0:
        assert "malformed shape" in refusal(path, forged(shape, size))


def test_the_largest_count_of_an_empty_array_comes_back(path: Path) -> None:
    path.write_bytes(forged([0, 2**48 - 1], 0))
    assert container.read(path)[0]["a"].shape == (0, 2**48 - 1)


def test_what_takes_the_place_of_a_file_is_private_until_it_has_its_mode(path, monkeypatch):
    container.write(path, {"a": np.zeros(3)}, {})
    modes, opened = [], os.open

    def spied(name, flags, mode=0o777, **more):
        if flags & os.O_CREAT:
            modes.append(mode)
        return opened(name, flags, mode, **more)

    monkeypatch.setattr(os, "open", spied)
    container.write(path, {"a": np.zeros(3)}, {})
    assert modes and not any(mode & 0o177 for mode in modes)


class Placed:
    """Equal by what it holds, but its text tells a place in memory."""

    def __init__(self, held: int) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Placed) and self.held == other.held

    def __hash__(self) -> int:
        return hash(self.held)

    def __repr__(self) -> str:
        return f"<Placed {self.held} at 0x{id(self):x}>"


def holding(helper, value):
    return lambda step: helper(step) + value


def elsewhere(source: str):
    space = {"__name__": "elsewhere"}
    exec(source, space)
    return space["helper"]


def test_a_text_with_a_place_in_memory_tells_nothing() -> None:
    known = functions.described(holding(Placed(1), Placed(2)))
    assert not any("Placed" in text for text in known["values"].values())


def test_a_function_of_another_module_in_a_closure_is_looked_into() -> None:
    one, other = (elsewhere(f"def helper(x): return x + {k} * x") for k in (2, 3))
    seen = {functions.described(holding(helper, 1.0))["code"] for helper in (one, other)}
    assert len(seen) == 2

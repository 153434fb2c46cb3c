"""Counters, nests and arrays at the ends of what numbers of 24, 31 and 53 bits can count."""

import sys

import numpy as np
import pytest

import stepsize as ss
from cases import RULES, advance, numpy_rule


def continued(cls, at, numpy):
    """The parameters after two steps that follow `at` of them, and the count."""
    x = {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}
    with numpy_rule(cls) if numpy else np.errstate():
        optimizer = cls(x)
    advance(optimizer, {"w": np.ones((3, 4), np.float32)})
    saved = optimizer.state_dict()
    optimizer.load_state_dict({**saved, "step_count": at, "steps": {"w": at}})
    for _ in range(2):
        advance(optimizer, {"w": np.full((3, 4), 0.5, np.float32)})
    return x["w"], optimizer.step_count


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("at", [2**24 - 1, 2**31 - 1, 2**32 - 1, 2**53 - 2])
def test_every_rule_counts_on(at):
    for cls in RULES:
        x, count = continued(cls, at, numpy=False)
        twin, _ = continued(cls, at, numpy=True)
        assert count == at + 2, cls
        assert np.isfinite(x).all(), cls
        assert x.tobytes() == twin.tobytes(), cls


def test_sixty_four_levels_are_one(tmp_path):
    def nest(leaf):
        for level in range(64):
            leaf = ({"a": leaf}, [leaf], (leaf,))[level % 3]
        return leaf

    found = []
    for wrap in (nest, lambda leaf: leaf):
        x, g = np.linspace(-1, 1, 9), np.ones(9)
        optimizer = ss.AdamW(wrap(x))
        optimizer.step(wrap(g))
        ss.save(tmp_path / "deep", wrap(x), optimizer)
        kept = np.zeros(9)
        again = ss.AdamW(wrap(kept))
        ss.load(tmp_path / "deep", wrap(kept), again)
        again.step(wrap(g))
        optimizer.step(wrap(g))
        assert kept.tobytes() == x.tobytes()
        found.append(x.tobytes())
    assert found[0] == found[1]


@pytest.mark.skipif(sys.platform == "win32", reason="a file with holes would take 8 GB there")
def test_rows_of_a_leaf_that_no_int32_can_count(tmp_path):
    count = 2**31 + 7
    with open(tmp_path / "holes", "wb") as file:
        file.truncate(4 * count)
    x = np.memmap(tmp_path / "holes", np.float32, "r+", shape=(count, 1))
    optimizer = ss.SGD({"x": x}, lr=1.0)
    rows = [0, 2**30, 2**31 - 1, 2**31, count - 1, count - 1]
    optimizer.step({"x": ss.RowGradient(rows, np.ones((6, 1), np.float32))})
    assert x[[*rows[:5], 1, 2**31 + 1], 0].tolist() == [-1, -1, -1, -1, -2, 0, 0]
    with pytest.raises(ValueError, match=rf"has row {count}, but the leaf has rows 0 to"):
        optimizer.step({"x": ss.RowGradient([count], np.ones((1, 1), np.float32))})


@pytest.mark.parametrize("cls", [ss.Muon, ss.SOAP, ss.Shampoo])
def test_a_leaf_of_more_axes_than_a_kernel_sees_is_stepped_as_stated(cls):
    def stepped():
        x = np.linspace(-1, 1, 2**9).reshape((2,) * 9)
        optimizer = cls(x, lr=0.1)
        for k in range(3):
            optimizer.step(np.cos(x + k))
        return x.tobytes()

    with numpy_rule(cls):
        expected = stepped()
    assert stepped() == expected

"""What the benchmarks stand on: bytes from streams, a triad that is one, and times in turns."""

import numpy as np
import pytest

import stepsize as ss
from stepsize import _core
from stepsize.benchmarking import Yardstick, bytes_per_element, entries, in_turns, medians, ratio

ENTRIES = {entry.name: entry for entry in entries()}


def test_every_compiled_rule_has_an_entry():
    rules = [cls for cls in ss.optimizers.registry() if cls.accelerated and not cls.needs_closure]
    assert {entry.cls for entry in ENTRIES.values()} == set(rules)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("SGD", 12),  # x read and written, g read
        ("SGD, momentum", 20),
        ("AdamW", 28),
        ("MADGRAD", 32),  # x0 is read only
        ("AdEMAMix", 36),
        ("DoG", 24),  # x0 is read only; x and g are read twice
    ],
)
def test_bytes_are_those_of_the_streams(name, count):
    assert bytes_per_element(ENTRIES[name]) == count
    assert bytes_per_element(ENTRIES[name], 8) == 2 * count


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 33, _core.chunk_size + 5, 9 * _core.chunk_size])
def test_the_triad_adds_half_of_what_was(size, ahead):
    random = np.random.default_rng(0)
    x, y = (random.standard_normal(size).astype(np.float32) for _ in range(2))
    expected = x * np.float32(0.5) + y
    _core.triad(x, y, ahead)
    np.testing.assert_array_equal(x, expected)


def test_the_triad_refuses_what_it_cannot_read():
    for x, y in [(np.ones(3), np.ones(3)), (np.ones(3, "f"), np.ones(4, "f"))]:
        with pytest.raises(TypeError, match="two contiguous float32 arrays of one size"):
            _core.triad(x, y, False)


def test_the_yardstick_runs_and_is_checked():
    yardstick = Yardstick(1000)
    yardstick.check()
    yardstick._x[3] = 5.0
    with pytest.raises(AssertionError, match="something else"):
        yardstick.check()


def test_steps_are_timed_in_turns():
    order = []
    steps = {name: lambda name=name: order.append(name) for name in "ab"}
    times = in_turns(steps, 0.001, least=5)
    assert len(times["a"]) == len(times["b"]) >= 5
    assert set(order) == {"a", "b"}
    assert medians({"a": [3.0, 1.0, 2.0]}) == {"a": 2.0}
    assert ratio({"a": [2.0, 9.0, 6.0], "b": [1.0, 3.0, 3.0]}, "a", "b") == 2.0

"""Some parameters of each test, for runs under which all of them would take too long.

As a plugin, `-p thinned`, it leaves what STEPSIZE_EACH says: 6 of each test without it.
"""

from __future__ import annotations

import os
import zlib
from collections import defaultdict

import pytest

__all__ = ["function_of", "thinned"]


def function_of(name: str) -> str:
    """The id of a test without its parameters."""
    return name.split("[")[0]


def thinned(items: list[pytest.Item], most: int) -> list[pytest.Item]:
    """At most so many of the parameters of a test: other ones of each, so that none is left out.

    All of those in tests/mutation, which are a rule each.
    """
    groups: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        groups[function_of(item.nodeid)].append(item)
    chosen = []
    for name, group in groups.items():
        if name.startswith("tests/mutation/"):
            chosen += group
            continue
        shift = zlib.crc32(name.encode())
        step = max(1, len(group) // most)
        chosen += [item for place, item in enumerate(group) if (place + shift) % step == 0][:most]
    return chosen


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = thinned(items, int(os.environ.get("STEPSIZE_EACH", "6")))

"""The step of each library that is installed, each on its own; ``peers.py`` compares them in turns.

pytest bench/bench_peers.py --benchmark-group-by=param:rule,param:size
"""

import pytest

import compare_peers as peers

CONTESTANTS = {"stepsize": peers.ours, **peers.PEERS}
NAMES = ["stepsize", *peers.installed()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", peers.SIZES)
@pytest.mark.parametrize("rule", peers.OURS)
def test_step(benchmark, rule, size, name):
    contestant = CONTESTANTS[name](rule, *peers.SIZES[size])
    if contestant is not None:
        benchmark(contestant.step)

"""Two threads that step one wrapped optimizer take turns, whatever a wrapper reads before."""

import numpy as np
import pytest

import stepsize as ss
from two_threads import in_two_threads

SIZE = 200_000  # a wrapper's own arithmetic lasts long enough for the other thread to begin
WRAPPERS = {
    "EMA": lambda opt: ss.EMA(opt, 0.9, warmup=True),
    "SWA": lambda opt: ss.SWA(opt, start=2, every=3),
    "Lookahead": lambda opt: ss.Lookahead(opt, k=3),
    "Accumulate": lambda opt: ss.Accumulate(opt, every=3),
    "Centralize": ss.Centralize,
    "GradientNoise": lambda opt: ss.GradientNoise(opt, seed=3),
    "AdaptiveClip": ss.AdaptiveClip,
    "Mechanic": ss.Mechanic,
    "Project": lambda opt: ss.Project(opt, ss.projections.box(-2.0, 2.0)),
    "EMA of AdaptiveClip": lambda opt: ss.EMA(ss.AdaptiveClip(opt), 0.9, warmup=True),
    "Lookahead of Mechanic": lambda opt: ss.Lookahead(ss.Mechanic(opt), k=3),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_steps_of_two_threads_are_steps_one_after_the_other(wrap):
    random = np.random.default_rng(0)
    start, grad = random.uniform(-1, 1, SIZE), random.standard_normal(SIZE)
    alone, shared = start.copy(), start.copy()
    expected, optimizer = (wrap(ss.SGD(x, lr=0.1, momentum=0.9)) for x in (alone, shared))
    for _ in range(12):
        expected.step(grad)

    def work():
        for _ in range(6):
            optimizer.step(grad)

    assert not in_two_threads(work)
    assert shared.tobytes() == alone.tobytes()
    assert repr(optimizer.state_dict()) == repr(expected.state_dict())

"""The plan on paper: its bytes are those of runs, and its page is up to date."""

import numpy as np
import pytest
from bench.scale import plan

import stepsize as ss
from cases import CHUNK
from stepsize.interop.mpi import DataParallel, LocalComm, Zero1

COUNT = 12 * CHUNK  # which 1 to 4 ranks share evenly


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_bytes_are_those_of_a_run(ranks):
    def program(comm):
        x = np.zeros(COUNT, np.float32)
        shared = Zero1("adam", x, comm)
        shared.step(np.ones(COUNT, np.float32))
        alike = DataParallel(ss.Adam(x), comm)
        alike.step(np.ones(COUNT, np.float32))
        return shared.bytes_sent, alike.bytes_sent, shared.state_bytes

    model = plan.Model(COUNT, parameter=4, gradient=4, state=8)
    held = plan.memory_of("ZeRO-1", model, ranks) - 8 * COUNT
    expected = (*(plan.sent(p, model, ranks) for p in ("ZeRO-1", "data parallel")), held)
    assert LocalComm.run(ranks, program) == [expected] * ranks


def test_the_page_is_made_from_the_model():
    assert plan.PAGE.read_text("utf-8") == plan.page(), "run: python bench/scale/plan.py"

"""What ranks are made of: turns, meetings, messages, sums and layouts."""

from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest

from cases import CHUNK
from ranks import differences
from stepsize.collectives import Layout, LocalComm, RankError, Share, Team, mean_of
from stepsize.collectives.messages import packed, unpacked


def test_a_layout_covers_every_element_once():
    random = np.random.default_rng(0)
    for _ in range(50):
        shapes = random.integers(0, 3 * CHUNK, random.integers(1, 6))
        leaves = [np.zeros(shape, random.choice([np.float32, np.complex128])) for shape in shapes]
        for cut in (True, False):
            size = int(random.integers(1, 7))
            parts = [part for own in Layout(leaves, size, cut).parts for part in own]
            for i, leaf in enumerate(leaves):
                ends = sorted((p.start, p.stop) for p in parts if p.leaf == i)
                assert ends[0][0] == 0
                assert ends[-1][1] == leaf.size
                assert all(a[1] == b[0] for a, b in pairwise(ends))


def test_the_tree_and_the_weights():
    a, b, c = (np.random.default_rng(k).standard_normal(9) for k in range(3))
    assert mean_of([a, b, c], Share.of([4, 4, 4])).tobytes() == (((a + b) + c) * (1 / 3)).tobytes()
    weighted = ((a * 1.0 + b * 2.0) + c * 5.0) * (1 / 8)
    assert mean_of([a, b, c], Share.of([1, 2, 5])).tobytes() == weighted.tobytes()
    assert mean_of([a, None, c], Share.of([3, 0, 3])).tobytes() == ((a + c) * 0.5).tobytes()


def test_a_rank_that_ends_early_does_not_leave_the_others_waiting():
    with pytest.raises(RuntimeError, match="rank 0 has ended while rank 1 waits"):
        LocalComm.run(2, lambda comm: comm.rank and comm.allgather(1))
    with pytest.raises(ZeroDivisionError):
        LocalComm.run(3, lambda comm: comm.allgather(1 / comm.rank))
    with pytest.raises(RankError, match="rank 0 at 'here', rank 1 at 'there'"):
        LocalComm.run(2, lambda c: Team(c).meet("there" if c.rank else "here"))


def test_messages_bring_back_every_value():
    value = {
        "numbers": [0, -(2**100), 0.1, float("inf"), float("nan"), True, None, "text"],
        "tuple": (1, (2.5, ["a"]), {}),
        "arrays": [
            np.arange(3),
            np.zeros((0, 2), np.float32),
            np.array(1.5),
            np.ones(2, np.complex64),
        ],
        "narrow": np.ones((2, 2), ml_dtypes.bfloat16),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "$array": "no tag",
    }
    assert differences(value, unpacked(packed(value))) == []
    assert type(unpacked(packed((1,)))) is tuple


def test_an_error_is_known_to_all_and_told_once():
    def program(comm):
        team = Team(comm)
        expected = ZeroDivisionError if comm.rank else RankError
        with pytest.raises(expected), team.together("a"), team.together("b"):
            1 // (1 - comm.rank)
        with pytest.raises(FloatingPointError):  # that of arithmetic may be divergence
            team.meet("c", error=FloatingPointError("overflow") if comm.rank else None)
        with pytest.raises(ValueError, match="size must be the same on all ranks"):
            team.agree("d", "size", comm.rank)
        return team.from_first("e", lambda: comm.rank)

    assert LocalComm.run(2, program) == [0, 0]

"""What ranks refuse, all of them, by name, and with nothing changed on any."""

import numpy as np
import pytest

import stepsize as ss
from cases import CHUNK
from ranks import differences
from stepsize.collectives import RankError
from stepsize.interop.mpi import LocalComm, Zero1, load_shards, save_shards
from stepsize.serialization import nested

OTHERS = {  # what a checkpoint of 40,000 float64 does not fit
    "fewer": {"a": np.zeros(100)},
    "another shape": {"a": np.zeros((200, 200))},
    "one less": {"a": np.zeros(39_999)},
    "one more": {"a": np.zeros(40_001)},
    "a block more": {"a": np.zeros(40_000 + CHUNK)},
    "another dtype": {"a": np.zeros(40_000, np.float32)},
    "a leaf more": {"a": np.zeros(40_000), "b": np.zeros(3)},
    "another leaf": {"c": np.zeros(40_000)},
}


def saved(path):
    def program(comm):
        optimizer = Zero1(ss.Adam, {"a": np.arange(40_000.0)}, comm)
        optimizer.step({"a": np.ones(40_000)})
        save_shards(f"{path}.index", optimizer)
        optimizer.save(f"{path}.whole")

    LocalComm.run(2, program)


def refused(load, size, other):
    """What is raised on each rank; nothing must have changed."""

    def program(comm):
        params = {name: leaf.copy() for name, leaf in OTHERS[other].items()}
        optimizer = Zero1(ss.Adam, params, comm)
        before = optimizer.state_dict()
        with pytest.raises((ss.CheckpointError, RankError)) as info:
            load(optimizer)
        assert differences(before, optimizer.state_dict()) == []
        assert not any(leaf.any() for leaf in params.values())
        return str(info.value)

    return LocalComm.run(size, program)


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_other_parameters_is_refused(tmp_path, other):
    saved(tmp_path / "run")
    path = str(tmp_path / "run")
    for size in (1, 2, 3):
        for told in refused(lambda opt: load_shards(f"{path}.index", opt), size, other):
            if "leaf" in other:
                assert "no b" in told or "elements of b" in told or "holds the parameter a" in told
                continue
            leaf = OTHERS[other]["a"]
            assert "run.index: the parameter a has shape (40000,) and dtype float64" in told
            assert f"expected {leaf.shape} and {leaf.dtype}" in told
        refused(lambda opt: opt.load(f"{path}.whole"), size, other)


@pytest.mark.parametrize("other", [name for name in OTHERS if name != "another shape"])
def test_an_older_index_without_shapes_is_measured_by_its_parts(tmp_path, other):
    path = str(tmp_path / "run")
    saved(path)
    index = nested.load(f"{path}.index", "index of shards")
    nested.dump(f"{path}.index", "index of shards", {"files": index["files"], "step_count": 1})
    for size in (1, 2, 3):
        refused(lambda opt: load_shards(f"{path}.index", opt), size, other)

    def fitting(comm):
        params = {"a": np.zeros(40_000)}
        load_shards(f"{path}.index", Zero1(ss.Adam, params, comm))
        return params["a"][-1].round(3)

    assert LocalComm.run(3, fitting) == [39_998.999] * 3

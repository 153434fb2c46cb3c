"""What seldom happens to a checkpoint: decisions that the usual tests of files never take."""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import re

import numpy as np
import pytest

from stepsize.errors import CheckpointError
from stepsize.serialization import atomic, container, nested

OTHER = 12345  # a user and a group that need not exist


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x"


def written(path, **arrays):
    container.write(path, arrays or {"w": np.arange(3.0)}, {})
    return path.read_bytes()


def forged(path, **metadata):
    """The file with other metadata under a right digest."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    blank = dict(header["__metadata__"], sha256="0" * 64) | metadata
    header["__metadata__"] = {name: value for name, value in blank.items() if value is not None}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    whole = len(text).to_bytes(8, "little") + text + data[8 + length :]
    digest = hashlib.sha256(whole).hexdigest().encode()
    path.write_bytes(whole.replace(b"0" * 64, digest, 1))


def test_a_name_that_is_taken_is_passed_over(path, monkeypatch):
    taken = path.with_name(f".x.stepsize-{os.getpid()}-0.tmp")
    taken.write_bytes(b"of another")
    monkeypatch.setattr(atomic, "_counter", itertools.count())
    with open(taken) as held:  # locked, so that it is not swept
        fcntl.flock(held, fcntl.LOCK_EX)
        written(path)
    assert container.read(path)[0]["w"].tolist() == [0, 1, 2]
    assert taken.read_bytes() == b"of another" and len(os.listdir(path.parent)) == 2


def test_a_temporary_file_that_was_swept_at_its_birth_is_made_again(path, monkeypatch):
    lock, swept = atomic._lock, []

    def sweep_first(descriptor, wait=True):
        if wait and not swept:
            swept.extend(path.parent.iterdir())
            swept[0].unlink()
        return lock(descriptor, wait)

    monkeypatch.setattr(atomic, "_lock", sweep_first)
    written(path)
    assert len(swept) == 1 and list(path.parent.iterdir()) == [path]
    assert container.read(path)[0]["w"].tolist() == [0, 1, 2]


def test_what_interrupts_the_birth_of_a_temporary_file_leaves_nothing(path, monkeypatch):
    good = written(path)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None

    def interrupt(descriptor, wait=True):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "_lock", interrupt)
    with pytest.raises(KeyboardInterrupt):
        written(path, w=np.zeros(9))
    assert path.read_bytes() == good and list(path.parent.iterdir()) == [path]
    assert before is None or len(os.listdir("/proc/self/fd")) == before


def test_the_owner_of_the_old_file_is_kept_where_that_may_be_done(path):
    written(path)
    with contextlib.suppress(PermissionError):  # it takes the rights of root
        os.chown(path, OTHER, OTHER)
    old = path.stat()
    written(path, w=np.zeros(9))
    assert (path.stat().st_uid, path.stat().st_gid) == (old.st_uid, old.st_gid)


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL])
def test_a_folder_that_fails_to_be_flushed_is_told_unless_it_never_can_be(path, monkeypatch, code):
    fsync, flushed = os.fsync, []

    def failing(descriptor):
        flushed.append(descriptor)
        if len(flushed) == 2:  # after the file, the folder
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    told = pytest.raises(OSError) if code == errno.EIO else contextlib.nullcontext()
    with told:
        written(path)
    assert len(flushed) == 2 and container.read(path)[0]["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("size", [1000, -1, 1])  # cut in the header, cut in the data, one more
def test_a_file_that_changes_while_it_is_read_is_refused(path, monkeypatch, size):
    # Larger than what a buffer reads ahead.
    container.write(path, {"w": np.zeros(1 << 17)}, {"text": "x" * (1 << 20)})
    take, full = container._take, path.stat().st_size

    def change(file, count):
        os.truncate(path, size if size > 1 else full + size)
        return take(file, count)

    monkeypatch.setattr(container, "_take", change)
    with pytest.raises(CheckpointError, match="x: it changed while it was read"):
        container.read(path)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"meta": None}, "its values are missing"),
        ({"complex": "["}, "its list of complex arrays is not valid JSON"),
        ({"complex": '{"w": 1}'}, "its list of complex arrays is malformed"),
        ({"complex": "[1]"}, "its list of complex arrays is malformed"),
        ({"complex": '["v"]'}, "its array 'v' cannot be complex"),
        ({"complex": '["w"]'}, "its array 'w' cannot be complex"),
    ],
)
def test_metadata_that_do_not_fit_are_refused_under_a_right_digest(path, metadata, reason):
    written(path)
    forged(path, **metadata)
    with pytest.raises(CheckpointError, match=re.escape(f"x: {reason}")):
        container.read(path)


def test_complex_arrays_come_back(path):
    array = np.array([[1 + 2j, np.nan * 1j], [-0.0, 3j]])
    written(path, z=array, w=np.ones(2))
    assert container.read(path)[0]["z"].tobytes() == array.tobytes()


def test_a_name_of_the_format_itself_is_no_name_of_an_array(path):
    with pytest.raises(ValueError, match="'__metadata__' is reserved"):
        container.write(path, {"__metadata__": np.ones(2)}, {})
    assert not path.exists()


def test_a_zip_archive_is_told_from_a_checkpoint(path):
    with open(path, "wb") as file:
        np.savez(file, w=np.ones(2))
    with pytest.raises(CheckpointError, match="it looks like a zip archive"):
        container.read(path)


def test_whose_file_it_is(path, monkeypatch):
    assert not container.is_ours(path)
    written(path)
    assert container.is_ours(path) and not container.is_ours(path.parent)

    def refuse(*args):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr("builtins.open", refuse)
    assert not container.is_ours(path)


def test_values_that_are_no_dict_are_refused(path):
    container.write(path, {}, {"kind": "history", "tree": [1, 2]})
    with pytest.raises(CheckpointError, match="x: its values are not a dict"):
        nested.load(path, "history")


def test_paths_that_two_nests_spell_alike_are_numbered(path):
    state = {"a": {"b": np.ones(2)}, "a.b": np.zeros(3), "a/b": np.zeros(4)}
    nested.dump(path, "history", state)
    found = nested.load(path, "history")
    assert all(found[name].tobytes() == state[name].tobytes() for name in ("a.b", "a/b"))
    assert found["a"]["b"].tobytes() == state["a"]["b"].tobytes()


def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_run(tmp_path, monkeypatch):
    from stepsize.serialization.replaceable import check_replaceable

    with pytest.raises(ValueError, match="checkpoint: a path must end in the name of a file"):
        check_replaceable("checkpoint", f"{tmp_path}/", "checkpoint of stepsize")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="checkpoint: the folder may not be written to"):
        check_replaceable("checkpoint", tmp_path / "c", "checkpoint of stepsize")

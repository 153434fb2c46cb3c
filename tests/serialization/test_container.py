"""The file format: what goes in comes out, and a file with one wrong bit is refused."""

import contextlib
import errno
import gc
import hashlib
import io
import json
import os
import socket
import stat
import subprocess
import sys
import time

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import stepsize as ss
from stepsize.errors import CheckpointError
from stepsize.serialization import atomic, container, nested

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape)
        assert a[name].tobytes() == b[name].tobytes()


def forge(entries, data=b"", **changes):
    """A file with a right digest around whatever entries are asked for: damage with intent."""
    metadata = {"sha256": "0" * 64, "format": "stepsize", "schema": "1", "meta": "{}"} | changes
    text = json.dumps({"__metadata__": metadata}, separators=(",", ":"))
    return sign(text[:-1] + "".join(f",{entry}" for entry in entries) + "}", data)


def sign(text, data=b""):
    header = text.encode()
    blob = len(header).to_bytes(8, "little") + header
    digest = hashlib.sha256(blob + data).hexdigest()
    return blob.replace(b"0" * 64, digest.encode(), 1) + data


def entry(name, dtype, shape, begin, end):
    fields = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    return f"{json.dumps(name)}:{json.dumps(fields)}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (5, 7)])
def test_arrays_come_back_bit_for_bit(path, dtype, shape):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    container.write(path, {"a": array}, {})
    tensors, meta = container.read(path)
    assert_same(tensors, {"a": array})
    assert meta == {} and tensors["a"].flags.writeable and tensors["a"].flags.aligned


@pytest.mark.parametrize(
    "view",
    [lambda a: a.T, lambda a: a[::2, ::-1], lambda a: a[:, 1], np.asfortranarray, lambda a: a[1:]],
)
def test_any_memory_layout_keeps_its_values(path, view):
    array = view(np.arange(42.0).reshape(6, 7))
    container.write(path, {"a": array}, {})
    np.testing.assert_array_equal(container.read(path)[0]["a"], array)


def test_bfloat16_keeps_its_bits_and_says_what_it_needs(path, monkeypatch):
    array = np.array([1.5, -0.0, np.nan], ml_dtypes.bfloat16)
    container.write(path, {"a": array}, {})
    assert_same(container.read(path)[0], {"a": array})
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match=r'pip install "stepsize\[bf16\]"'):
        container.read(path)


def test_big_endian_values_are_kept(path):
    container.write(path, {"a": np.arange(3, dtype=">f4")}, {})
    np.testing.assert_array_equal(container.read(path)[0]["a"], [0, 1, 2])


def test_special_floats_keep_their_bits(path):
    array = np.array([np.nan, -np.nan, np.inf, -0.0, 5e-324])
    container.write(path, {"a": array}, {})
    assert container.read(path)[0]["a"].tobytes() == array.tobytes()


def test_safetensors_itself_reads_the_file(path):
    arrays = {"w": np.arange(6.0).reshape(2, 3), "b": np.array(3, np.int8), "e": np.empty(0, "f4")}
    container.write(path, arrays, {"epoch": 1})
    assert_same(load_file(path), arrays)


def test_a_foreign_safetensors_file_is_refused(path):
    save_file({"w": np.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not written by stepsize"):
        container.read(path)


def test_equal_contents_give_equal_files(path):
    arrays = {"b": np.zeros(3, "f4"), "a": np.ones(2)}
    container.write(path, arrays, {"x": 1})
    first = path.read_bytes()
    container.write(path, dict(reversed(arrays.items())), {"x": 1})
    assert path.read_bytes() == first


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**130), 2**130)
    | st.floats().filter(lambda x: x == x)
    | st.just(float("nan"))
    | st.text()
    | st.builds(
        lambda n, t: np.arange(n, dtype=t), st.integers(0, 4), st.sampled_from(["f4", "i8"])
    )
)
keys = st.sampled_from(["a", "a/b", "b", "", "$array", "$tuple", "$dict", "$float", "~2", "0"])
nests = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


def same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, float):
        return isinstance(b, float) and np.array([a]).tobytes() == np.array([b]).tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(nests)
def test_unpack_is_the_inverse_of_pack(nest):
    tensors, tree = nested.pack(nest)
    assert same(nest, nested.unpack(tensors, json.loads(json.dumps(tree, allow_nan=False))))


def test_numpy_numbers_become_plain_ones(path):
    nested.dump(path, "x", {"a": np.float32(0.1), "b": np.int64(3), "c": np.True_})
    loaded = nested.load(path, "x")
    assert loaded == {"a": float(np.float32(0.1)), "b": 3, "c": True}
    assert [type(v) for v in loaded.values()] == [float, int, bool]


@pytest.mark.parametrize(
    ("nest", "message"),
    [
        ({"a": [object()]}, "a/0: cannot save a object"),
        ({"a": {1: 2}}, "a: keys must be strings, got 1"),
        ({"a": np.array([1j], np.clongdouble)}, "a: cannot save dtype complex256"),
        ({"a": np.array([None])}, "a: cannot save dtype object"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(path, nest, message):
    with pytest.raises(TypeError, match=message):
        nested.dump(path, "x", nest)
    assert os.listdir(path.parent) == []


def test_another_kind_is_refused(path):
    nested.dump(path, "history", {})
    with pytest.raises(
        CheckpointError, match=r"run.safetensors: it holds a 'history', expected run"
    ):
        nested.load(path, "run")


def test_values_that_do_not_fit_the_arrays_are_refused(path):
    container.write(path, {}, {"kind": "x", "tree": {"a": {"$array": "lost"}}})
    with pytest.raises(CheckpointError, match="its values do not unpack"):
        nested.load(path, "x")


def test_a_newer_schema_is_refused(path):
    path.write_bytes(forge([], schema="3"))
    with pytest.raises(CheckpointError, match=r"schema 3 .* reads up to 2: upgrade stepsize"):
        container.read(path)


def read_bytes(blob):
    try:
        container._read(io.BytesIO(blob), len(blob))
    except container._Refused:
        return False
    return True


@pytest.fixture
def blob(path):
    rng = np.random.default_rng(1)
    arrays = {"w": rng.normal(size=(60, 100)), "m": rng.normal(size=4000).astype("f4")}
    container.write(path, arrays, {"epoch": 3, "text": "a \\ / é"})
    blob = path.read_bytes()
    assert len(blob) > 64_000 and read_bytes(blob)
    return blob


def test_every_truncation_is_refused(blob):
    assert not any(read_bytes(blob[:n]) for n in range(len(blob)))
    assert not read_bytes(blob + b"\0")


def test_every_bit_flip_is_refused(blob):
    """All bits of the header, every 97th of the data; bench/soak flips each of them."""
    header = 8 * (8 + int.from_bytes(blob[:8], "little"))
    for bit in [*range(header), *range(header, 8 * len(blob), 97), 8 * len(blob) - 1]:
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not read_bytes(bytes(flipped)), f"bit {bit}"


HOSTILE = {
    "empty": b"",
    "short": b"\1",
    "huge header": (2**63).to_bytes(8, "little") + b" " * 100,
    "header to the last byte": (93).to_bytes(8, "little") + b" " * 92,
    "not json": sign('{"__metadata__":{"sha256":"' + "0" * 64 + '"'),
    "not utf-8": forge([]).replace(b"format", b"form\xff\xfe"),
    "deep": sign('{"__metadata__":{"sha256":"' + "0" * 64 + '"},"a":' + "[" * 100_000),
    "no metadata": forge([], format="other"),
    "long number": forge(['"a":' + "9" * 5000]),
    "schema in words": forge([], schema="one"),
    "schema without end": forge([], schema="9" * 5000),
    "meta not json": forge([], meta="{"),
    "meta with NaN": forge([], meta='{"a":NaN}'),
    "meta a list": forge([], meta="[]"),
    "twice the same name": forge([entry("a", "U8", [1], 0, 1), entry("a", "U8", [1], 0, 1)], b"a"),
    "overlap": forge([entry("a", "U8", [2], 0, 2), entry("b", "U8", [2], 1, 3)], b"abc"),
    "hole": forge([entry("a", "U8", [1], 0, 1), entry("b", "U8", [1], 2, 3)], b"abc"),
    "unclaimed": forge([entry("a", "U8", [1], 0, 1)], b"ab"),
    "beyond the end": forge([entry("a", "U8", [2**40], 0, 2**40)], b"ab"),
    "size against shape": forge([entry("a", "F64", [2], 0, 8)], b"12345678"),
    "negative shape": forge([entry("a", "U8", [-1, -1], 0, 1)], b"a"),
    "negative offset": forge([entry("a", "U8", [1], -1, 0)]),
    "boolean shape": forge([entry("a", "U8", [True], 0, 1)], b"a"),
    "fractional shape": forge([entry("a", "U8", [1.0], 0, 1)], b"a"),
    "empty but vast": forge([entry("a", "F64", [0, 2**47, 2**47], 0, 0)]),
    "many dimensions": forge([entry("a", "U8", [1] * 65, 0, 1)], b"a"),
    "unknown dtype": forge([entry("a", "F128", [1], 0, 16)], b"a" * 16),
    "dtype a list": forge([entry("a", ["U8"], [1], 0, 1)], b"a"),
    "many lists": forge(['"a":[' + "[]," * 2**21 + "[]]"]),
    "entry a number": forge(['"a":1']),
    "extra field": forge(['"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}']),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_quickly(path, name):
    path.write_bytes(HOSTILE[name])
    start = time.process_time()
    with pytest.raises(CheckpointError, match=r"run\.safetensors: "):
        container.read(path)
    assert time.process_time() - start < 1 and gc.isenabled()


def test_forged_files_are_refused_for_their_forgery_alone(path):
    path.write_bytes(forge([entry("a", "U8", [2], 0, 2)], b"ab"))
    np.testing.assert_array_equal(container.read(path)[0]["a"], np.frombuffer(b"ab", "u1"))


def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a regular file"):
        container.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        container.read(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        container.read(tmp_path / "missing")


def test_a_header_too_large_to_read_back_is_not_written(path, monkeypatch):
    monkeypatch.setattr(container, "MAX_HEADER", 200)
    with pytest.raises(ValueError, match="the limit is 200: keep large data in arrays"):
        container.write(path, {}, {"text": "x" * 300})


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.safetensors"
    link.symlink_to(tmp_path / "real" / "file.safetensors")
    container.write(link, {}, {"a": 1})
    assert link.is_symlink() and container.read(tmp_path / "real" / "file.safetensors")[1]["a"] == 1


def test_the_umask_decides_who_may_read(path):
    old = os.umask(0o027)
    try:
        container.write(path, {}, {})
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_an_error_while_writing_keeps_the_old_file_and_leaves_nothing(path):
    container.write(path, {}, {"a": 1})
    with pytest.raises(KeyboardInterrupt), atomic.replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert container.read(path)[1] == {"a": 1}
    assert os.listdir(path.parent) == [path.name]


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not(path):
    (path.parent / f".{path.name}.stepsize-1-0.tmp").write_bytes(b"half")
    with atomic.replacing(path) as outer:
        outer.write(b"outer")
        with atomic.replacing(path) as inner:
            inner.write(b"inner")
    assert path.read_bytes() == b"outer"
    assert os.listdir(path.parent) == [path.name]


def special_files(folder):
    """A pipe, a socket and a device, where this user may make one."""
    os.mkfifo(folder / "pipe")
    yield "pipe", folder / "pipe"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket"))
        yield "socket", folder / "socket"
    with contextlib.suppress(PermissionError):
        os.mknod(folder / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        yield "device", folder / "null"
    (folder / "sub").mkdir()
    yield "folder", folder / "sub"


def test_what_is_no_file_is_not_replaced(tmp_path):
    for kind, path in special_files(tmp_path):
        before = os.lstat(path)
        (tmp_path / f"{kind}.link").symlink_to(path)
        for way in (path, tmp_path / f"{kind}.link"):
            with pytest.raises(OSError, match=f"it is a {kind}, not a file; give the path"):
                container.write(way, {}, {})
        after = os.lstat(path)
        assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


@pytest.mark.parametrize("name", ["", "x/", ".", 3, None])
def test_a_path_that_names_no_file_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OSError, TypeError, ValueError), match=r"named by|name of a file|a folder"):
        ss.SGD(np.ones(2)).save(name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o400])
def test_permissions_are_kept(path, mode):
    container.write(path, {}, {"a": 1})
    path.chmod(mode)
    container.write(path, {}, {"a": 2})
    assert stat.S_IMODE(path.stat().st_mode) == mode and container.read(path)[1] == {"a": 2}


def test_files_of_others_stay(path):
    folder = path.parent
    others = [f".{path.name}.x.tmp", f".{path.name}.1-0.tmp", f".{path.name}.stepsize-x-0.tmp"]
    for name in others:
        (folder / name).write_bytes(b"not ours")
    os.mkfifo(folder / f".{path.name}.stepsize-1-0.tmp")
    (folder / f".{path.name}.stepsize-2-0.tmp").symlink_to(folder / others[0])
    (folder / f".{path.name}.stepsize-3-0.tmp").mkdir()
    before = sorted(os.listdir(folder))
    container.write(path, {}, {})
    assert sorted(os.listdir(folder)) == sorted([*before, path.name])


WRITER = """
import sys
from stepsize.serialization import container
for i in range(60):
    container.write(sys.argv[1], {}, {"text": sys.argv[2] * 1000})
"""


def test_savers_to_one_path_do_not_disturb_each_other(path):
    words = [sys.executable, "-c", WRITER, str(path)]
    savers = [subprocess.Popen([*words, name], stderr=subprocess.PIPE) for name in "abcd"]
    errors = [saver.communicate()[1] for saver in savers]
    assert errors == [b""] * 4
    assert container.read(path)[1]["text"] in {name * 1000 for name in "abcd"}
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_cannot_be_flushed_is_no_error(path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "not for folders")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    container.write(path, {}, {"a": 1})
    assert container.read(path)[1] == {"a": 1}


def test_a_very_long_file_name_works(tmp_path):
    for name in ("x" * 250, "é" * 127):
        container.write(tmp_path / name, {}, {})
        assert os.listdir(tmp_path) == [name]
        (tmp_path / name).unlink()

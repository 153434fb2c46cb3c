"""The file format: named arrays and plain values in one safetensors file, whole or not at all.

A file is what the `safetensors` format says (eight bytes of header length, a JSON header, the bytes
of the tensors), so any safetensors reader opens it. Three things are added to the format:

* a SHA-256 over every byte of the file but its own 64 digits, kept in ``__metadata__``, because
  safetensors itself does not notice a flipped bit;
* a schema version, so that a file from a newer stepsize is refused and not half understood;
* a writer that never leaves a half-written file where a whole one stood.

Reader and writer are ours because arrays then go from memory to disk and back without being copied,
every byte is checked before any of it is used, and each system call can fail safely.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from typing import Any, BinaryIO, NoReturn, TypeAlias

import numpy as np

from stepsize.arrays import COMPLEX, FLOATS, Array, view_as_complex, view_as_real
from stepsize.errors import CheckpointError
from stepsize.serialization.atomic import replacing
from stepsize.validation import file_path

SCHEMA = 2  # the newest that is read; complex arrays need it, and other files stay at 1
MAX_HEADER = 100_000_000  # as safetensors itself
_NO_DIGEST = "0" * 64
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES: dict[np.dtype[Any], str] = {dtype: code for code, dtype in _DTYPES.items()}

Path: TypeAlias = str | os.PathLike[str]


def write(path: Path, tensors: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
    """Write arrays and JSON values to one file, atomically.

    Whatever happens, ``path`` holds the old file or the new one, whole: see `atomic.replacing`. A
    failure raises the ``OSError`` of the system call that failed and leaves nothing behind.

    Args:
        path: where the file goes; a symbolic link is followed.
        tensors: names and arrays of any shape and memory layout. Nothing but a non-contiguous array
            is copied as a whole.
        meta: values that JSON can hold.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "x.safetensors")
        >>> write(path, {"w": np.arange(3.0)}, {"epoch": 2})
        >>> read(path)
        ({'w': array([0., 1., 2.])}, {'epoch': 2})
    """
    arrays = {name: _portable(name, array) for name, array in tensors.items()}
    # The format has no complex128: real and imaginary parts are a last axis of a real array.
    paired = [name for name, array in arrays.items() if array.dtype in COMPLEX]
    arrays |= {name: view_as_real(arrays[name]) for name in paired}
    ordered = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header = _header({name: arrays[name] for name in ordered}, meta, paired)
    with replacing(path) as file:
        digest = hashlib.sha256(header)
        file.write(header)
        for name in ordered:
            data = _raw(np.asarray(arrays[name], order="C"))
            for start in range(0, len(data), _PART):
                part = bytes(data[start : start + _PART])  # one copy: other threads may write to it
                digest.update(part)
                file.write(part)
        file.seek(8 + len(START))
        file.write(digest.hexdigest().encode())


def read(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read a file that `write` made, after checking every byte of it.

    A file that is cut short, has a flipped bit, overlapping or missing data, a name that occurs
    twice, sizes that do not add up or a newer schema raises `CheckpointError`, which names the file
    and the reason. Nothing larger than the file itself is allocated and nothing in it is executed.
    A file that is not there raises ``FileNotFoundError``, one that may not be read
    ``PermissionError``.

    Returns:
        The arrays by name, writable, and the JSON values.
    """
    name = file_path("path", path)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise CheckpointError(f"{name}: it is not a regular file")
    with open(path, "rb") as file:
        try:
            return _read(file, os.fstat(file.fileno()).st_size)
        except _Refused as refused:
            raise CheckpointError(f"{name}: {refused}") from None


# Writing


_PART = 1 << 24  # bytes that are copied, hashed and written at a time
START = b'{"__metadata__":{"sha256":"'


def _portable(name: str, array: Array) -> Array:
    array = np.asarray(array)
    if array.dtype.name == "bfloat16":
        return array
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype not in _CODES and array.dtype not in COMPLEX:
        allowed = ", ".join(dtype.name for dtype in (*_CODES, *COMPLEX))
        raise TypeError(f"{name}: cannot save dtype {array.dtype}; allowed are bfloat16, {allowed}")
    return array


def _raw(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _header(arrays: Mapping[str, Array], meta: Mapping[str, Any], paired: list[str]) -> bytes:
    """Length and JSON header, with zeros where the digest goes."""
    values = json.dumps(dict(meta), allow_nan=False, separators=(",", ":"))
    schema = "2" if paired else "1"
    metadata = {"sha256": _NO_DIGEST, "format": "stepsize", "schema": schema, "meta": values}
    if paired:
        metadata["complex"] = json.dumps(paired, separators=(",", ":"))
    entries: dict[str, Any] = {"__metadata__": metadata}
    begin = 0
    for name, array in arrays.items():
        if name == "__metadata__":
            raise ValueError("'__metadata__' is reserved by the file format, rename that array")
        code = _CODES.get(array.dtype, "BF16")
        end = begin + array.nbytes
        entries[name] = {"dtype": code, "shape": array.shape, "data_offsets": (begin, end)}
        begin = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER:
        raise ValueError(
            f"names and values take {len(header)} bytes, the limit is {MAX_HEADER}: "
            "keep large data in arrays"
        )
    return len(header).to_bytes(8, "little") + header


# Reading


class _Refused(Exception):
    """A reason, to which `read` adds the file's name."""


def is_ours(path: Path) -> bool:
    """Whether a file begins as those of stepsize do; a pipe is not read from."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(8 + len(START))[8:] == START
    except OSError:
        return False


def _check_kind(start: bytes) -> None:
    """Refuse what does not begin as our files do, with what it looks like."""
    if not start:
        raise _Refused("it is empty, not a checkpoint of stepsize")
    if len(start) >= 8 and start[8:] == START[: len(start) - 8]:
        return
    look = ", or its first bytes are damaged"
    if start.startswith(b"PK"):
        look = "; it looks like a zip archive, as numpy.savez and torch.save write it"
    elif start[8:10] == b'{"':
        look = "; it is a safetensors file not written by stepsize, or its start is damaged"
    elif start.isascii() and (text := " ".join(start.decode().split())).isprintable():
        look = f"; it begins with {text!r}"
    raise _Refused(f"it is not a checkpoint of stepsize{look}")


def _read(file: BinaryIO, size: int) -> tuple[dict[str, Array], dict[str, Any]]:
    start = file.read(8 + len(START))
    _check_kind(start)
    if size < 8 + len(START):
        raise _Refused(f"it is {size} bytes long, too short for a checkpoint: it was cut")
    length = int.from_bytes(start[:8], "little")
    if not len(START) <= length <= min(size - 8, MAX_HEADER):
        raise _Refused(f"its header claims {length} bytes of a file of {size}")
    header = start[8:] + _take(file, length - len(START))
    entries = _parse(header)
    metadata = entries.pop("__metadata__")
    _check_schema(metadata)
    layout = _layout(entries, size - 8 - length)
    data = np.empty(size - 8 - length, np.uint8)
    if file.readinto(data.data) != data.nbytes or file.read(1):  # type: ignore[attr-defined]
        raise _Refused("it changed while it was read")
    digits = slice(len(START), len(START) + len(_NO_DIGEST))
    blank = header[: digits.start] + _NO_DIGEST.encode() + header[digits.stop :]
    digest = hashlib.sha256(length.to_bytes(8, "little") + blank)
    digest.update(data.data)
    if digest.hexdigest().encode() != header[digits]:
        raise _Refused("its SHA-256 does not match, the file is damaged")
    arrays = {name: _view(data, *place) for name, place in layout.items()}
    for name in _paired(metadata):
        array = arrays.get(name)
        if array is None or array.dtype not in FLOATS or array.shape[-1:] != (2,):
            raise _Refused(f"its array {name[:80]!r} cannot be complex")
        arrays[name] = view_as_complex(array, COMPLEX[0])
    return arrays, _values(metadata)


def _paired(metadata: dict[str, Any]) -> set[str]:
    """The names of the arrays whose last axis holds real and imaginary part."""
    try:
        names = json.loads(metadata.get("complex", "[]"))
    except (TypeError, ValueError, RecursionError) as error:
        raise _Refused(f"its list of complex arrays is not valid JSON ({error})") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _Refused("its list of complex arrays is malformed")
    return set(names)


def _take(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise _Refused("it changed while it was read")
    return data


def _parse(text: bytes | str) -> dict[str, Any]:
    # Parsing makes no cycles, and looking for some in millions of new lists takes seconds.
    collecting = gc.isenabled()
    gc.disable()
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _Refused(f"its header is not valid JSON ({error})") from None
    finally:
        if collecting:
            gc.enable()
    if not isinstance(value, dict):
        raise _Refused("its header is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_schema(metadata: Any) -> None:
    if not isinstance(metadata, dict) or metadata.get("format") != "stepsize":
        raise _Refused("it was not written by stepsize")
    schema = str(metadata.get("schema"))
    if not schema.isdecimal() or len(schema) > 9:
        raise _Refused(f"its schema is {schema[:20]!r}, not a number")
    if int(schema) > SCHEMA:
        raise _Refused(
            f"it has schema {schema} and this stepsize reads up to {SCHEMA}: "
            "upgrade stepsize to load it"
        )


def _values(metadata: dict[str, Any]) -> dict[str, Any]:
    text = metadata.get("meta")
    if not isinstance(text, str):
        raise _Refused("its values are missing")
    return _parse(text)


def _layout(entries: dict[str, Any], available: int) -> dict[str, tuple[int, int, str, list[int]]]:
    """Where each array lies, once together they are known to cover the data exactly."""
    places = {name: _place(name, entry) for name, entry in entries.items()}
    position = 0
    for begin, end, _, _ in sorted(places.values(), key=lambda place: place[:2]):
        if begin != position:
            raise _Refused(f"its arrays overlap or leave a hole at byte {position}")
        position = end
    if position != available:
        raise _Refused(f"its arrays need {position} bytes of data and it holds {available}")
    return places


def _place(name: str, entry: Any) -> tuple[int, int, str, list[int]]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _Refused(f"its entry {name[:80]!r} is malformed")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if code != "BF16" and (not isinstance(code, str) or code not in _DTYPES):
        raise _Refused(f"its array {name[:80]!r} has an unknown dtype")
    if not _counts(shape) or len(shape) > 32 or not _counts(offsets) or len(offsets) != 2:
        raise _Refused(f"its array {name[:80]!r} has a malformed shape or place")
    size = 2 if code == "BF16" else _DTYPES[code].itemsize
    if math.prod(shape) * size != offsets[1] - offsets[0]:
        raise _Refused(f"its array {name[:80]!r} does not have the size of its shape")
    return offsets[0], offsets[1], code, shape


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**48 for n in value)


def _view(data: Array, begin: int, end: int, code: str, shape: list[int]) -> Array:
    dtype = _DTYPES.get(code) or _bfloat16()
    try:
        view: Array = data[begin:end].view(dtype).reshape(shape)
    except ValueError as error:
        raise _Refused(f"its shape {shape} cannot be made ({error})") from None
    return view


def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            'this checkpoint holds bfloat16 arrays: pip install "stepsize[bf16]"'
        ) from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype

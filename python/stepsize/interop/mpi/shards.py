"""Checkpoints of which each rank writes a part, read by any number of ranks."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.collectives import Part
from stepsize.interop.mpi.gathering import SCALE
from stepsize.interop.mpi.zero import Zero1
from stepsize.optimizers.quantization import BLOCK_SIZE
from stepsize.optimizers.state_dict import check_names
from stepsize.serialization import nested

__all__ = ["load_shards", "save_shards"]

INDEX, SHARD = "index of shards", "shard"


def save_shards(path: str | os.PathLike[str], optimizer: Zero1) -> None:
    """Write parameters and state as one file a rank, and an index of them at the path.

    No rank holds more than its part. The index is put in place when all parts are written, and the
    parts of the index before it are deleted then: whenever the job is killed, the path names whole
    parts of one step. All ranks call it, and see one file system.

    Args:
        path: of the index; the parts lie beside it, with names of their own.
        optimizer: its parameters go along.

    Raises:
        RankError: another rank could not write; the index is that of before.

    Example:
        >>> import os, tempfile, numpy as np, stepsize as ss
        >>> from stepsize.interop.mpi import LocalComm, Zero1, load_shards, save_shards
        >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
        >>> def train(comm):
        ...     opt = Zero1(ss.Adam, np.zeros(50_000), comm, lr=0.5)
        ...     opt.step(np.ones(50_000))
        ...     save_shards(path, opt)
        >>> def go_on(comm):
        ...     params = np.zeros(50_000)
        ...     opt = Zero1(ss.Adam, params, comm, lr=0.5)
        ...     load_shards(path, opt)
        ...     return float(params[0].round(6)), opt.step_count
        >>> LocalComm.run(2, train), LocalComm.run(3, go_on)
        ([None, None], [(-0.5, 1), (-0.5, 1), (-0.5, 1)])
    """
    team, path = optimizer.comm, os.fspath(path)
    token = team.from_first("save_shards", lambda: secrets.token_hex(4))
    names = [_name_of(path, token, rank, team.size) for rank in range(team.size)]
    with team.together("save_shards: parts"):
        state = optimizer.inner.state_dict()
        leaves, paths = optimizer.inner.internals.leaves.arrays, optimizer.paths
        parts = optimizer.parts
        pieces = dict(zip(state["steps"], leaves, strict=True))
        contents = {
            "parts": [[paths[part.leaf], part.start, part.stop] for part in parts],
            "params": [pieces[name] for name, _ in zip(pieces, parts, strict=False)],
            "optimizer": state,
        }
        nested.dump(_beside(path, names[team.rank]), SHARD, contents)
    with team.together("save_shards: index"):
        if team.leads:
            before = _files_of(path)
            index = {"files": names, "step_count": optimizer.step_count}
            nested.dump(path, INDEX, {**index, "leaves": _kinds_of(optimizer)})
            for name in before:
                with contextlib.suppress(OSError):  # what is left over harms nobody
                    os.unlink(_beside(path, name))


def load_shards(path: str | os.PathLike[str], optimizer: Zero1) -> None:
    """Load what `save_shards` wrote, on as many ranks or on others; all ranks call it.

    Args:
        path: of the index.
        optimizer: of the same rule, groups and options over parameters of the same names and
            shapes, which are loaded too.

    Raises:
        CheckpointError: a file is damaged, missing, or of other shapes or dtypes; nothing has
            changed on any rank.
    """
    team, path = optimizer.comm, os.fspath(path)
    with team.together("load_shards"):
        index = nested.load(path, INDEX)
        with nested.contents_of(path):
            _check_kinds(index.get("leaves", ()), optimizer)
        taken = _Taken(optimizer)
        for name in index["files"]:
            file = _beside(path, name)
            contents = nested.load(file, SHARD)
            with nested.contents_of(file):
                taken.take(contents)
        with nested.contents_of(path):
            taken.check()
    # All ranks have read what fits: from here on they send to each other.
    with nested.contents_of(path):
        optimizer.load_parts(taken.state, taken.params)


def _kinds_of(optimizer: Zero1) -> list[list[Any]]:
    """Name, shape and dtype of each parameter."""
    leaves = map(optimizer.whole_leaf, range(len(optimizer.paths)))
    return [
        [path, list(leaf.shape), leaf.dtype.name]
        for path, leaf in zip(optimizer.paths, leaves, strict=True)
    ]


def _check_kinds(saved: Any, optimizer: Zero1) -> None:
    """Refuse parameters of another shape or dtype; an older index does not tell them."""
    here = {path: (tuple(shape), dtype) for path, shape, dtype in _kinds_of(optimizer)}
    for path, shape, dtype in saved:
        _check_path(path, here)
        if (tuple(shape), dtype) != here[path]:
            raise ValueError(
                f"the parameter {path} has shape {tuple(shape)} and dtype {dtype}, expected "
                f"{here[path][0]} and {here[path][1]}; load it over parameters of the shapes and "
                "dtypes it was saved with"
            )


def _check_path(path: Any, here: Container[str]) -> None:
    if path not in here:
        raise ValueError(f"it holds the parameter {path}, which is not one of this model")


class _Taken:
    """What the parts of this rank find in the files."""

    def __init__(self, optimizer: Zero1) -> None:
        self._optimizer = optimizer
        self.state = optimizer.inner.state_dict()
        self.params = [np.array(leaf) for leaf in optimizer.inner.internals.leaves.arrays]
        self._names = list(self.state["steps"])
        self._found = [0] * len(optimizer.parts)
        self._ends: dict[int, int] = {}  # of each leaf
        self._head: Any = None

    def take(self, contents: Mapping[str, Any]) -> None:
        check_names("load_shards", "a shard", contents, ("parts", "params", "optimizer"))
        saved = contents["optimizer"]
        check_names("load_shards", "the optimizer", saved, tuple(self.state))
        head = {key: saved[key] for key in ("format", "rule", "step_count", "lr_scale")}
        hyper = [group["hyperparams"] for group in saved["groups"]]
        if self._head is None:
            self._head = head
            groups = zip(self.state["groups"], hyper, strict=True)
            self.state |= head | {"loss_scale": saved["loss_scale"]}
            self.state["groups"] = [{**group, "hyperparams": new} for group, new in groups]
        elif head != self._head:
            raise ValueError(f"it is of {head}, and the parts before it are of {self._head}")
        places = zip(contents["parts"], saved["steps"], contents["params"], strict=False)
        for (path, start, stop), name, values in places:
            _check_path(path, self._optimizer.paths)
            there = Part(self._optimizer.paths.index(path), start, stop)
            size = self._optimizer.whole_leaf(there.leaf).size
            if not 0 <= start <= stop <= size:
                raise ValueError(
                    f"it holds the elements {start} to {stop} of {path}, which has {size}; load it "
                    "over parameters of the shapes it was saved with"
                )
            self._ends[there.leaf] = max(self._ends.get(there.leaf, 0), stop)
            for k, own in enumerate(self._optimizer.parts):
                if own.leaf == there.leaf:
                    self._overlap(k, own, there, saved, name, values)

    def _overlap(
        self, k: int, own: Part, there: Part, saved: Any, name: str, values: Array
    ) -> None:
        first, last = max(own.start, there.start), min(own.stop, there.stop)
        if first >= last and own != there:  # a leaf without elements has a state too
            return
        leaf, here = self._optimizer.whole_leaf(own.leaf), self._names[k]
        _copy(self.params[k], values, own, there, leaf, "")
        mine = self.state["state"][here]
        check_names("load_shards", f"the state of {name}", saved["state"][name], tuple(mine))
        for slot, array in mine.items():
            _copy(array, saved["state"][name][slot], own, there, leaf, slot)
        self.state["steps"][here] = saved["steps"][name]
        self.state["scalars"][here] = saved["scalars"][name]
        self._found[k] += last - first

    def check(self) -> None:
        """Refuse files that leave a part of the parameters out, on this rank or on another."""
        for i, path in enumerate(self._optimizer.paths):
            size = self._optimizer.whole_leaf(i).size
            if self._ends.get(i, -1) != size:
                raise ValueError(
                    f"its parts hold {self._ends.get(i, 0)} of the {size} elements of {path}; load "
                    "it over parameters of the shapes it was saved with"
                )
        for own, found in zip(self._optimizer.parts, self._found, strict=True):
            if found != own.size:
                path = self._optimizer.paths[own.leaf]
                raise ValueError(
                    f"its parts hold {found} of the {own.size} elements of {path} from "
                    f"{own.start} on; load it over parameters of the shapes it was saved with"
                )


def _copy(target: Array, source: Array, own: Part, there: Part, leaf: Array, slot: str) -> None:
    """Copy what two parts of a leaf have in common."""
    if target.dtype != source.dtype:
        raise ValueError(f"its {slot or 'parameter'} is {source.dtype}, expected {target.dtype}")
    if own == there:
        if target.shape != source.shape:
            raise ValueError(f"its {slot or 'parameter'} is of {source.shape}, not {target.shape}")
        target[...] = source
        return
    real = 2 if leaf.dtype.kind == "c" else 1
    unit = BLOCK_SIZE // real if slot.endswith(SCALE) else 1  # elements of an entry
    first, last = max(own.start, there.start), min(own.stop, there.stop)
    count = -(-(last - first) // unit)
    into, out = (first - own.start) // unit, (first - there.start) // unit
    rows = target.reshape(-(-own.size // unit), -1), source.reshape(-(-there.size // unit), -1)
    rows[0][into : into + count] = rows[1][out : out + count]


def _name_of(path: str, token: str, rank: int, size: int) -> str:
    stem, extension = os.path.splitext(os.path.basename(path))
    return f"{stem}-{token}-{rank}-of-{size}{extension}"


def _beside(path: str, name: Any) -> str:
    if not isinstance(name, str) or os.path.basename(name) != name:
        raise ValueError(f"{path}: a part must be a file beside it, got {name!r:.80}")
    return os.path.join(os.path.dirname(path), name)


def _files_of(path: str) -> list[str]:
    """The parts that the index at the path names, if there is one."""
    if not os.path.exists(path):
        return []
    try:
        found = nested.load(path, INDEX)["files"]
        return [name for name in found if isinstance(name, str) and os.path.basename(name) == name]
    except (ValueError, KeyError):  # no index of ours: it is replaced, and nothing deleted
        return []

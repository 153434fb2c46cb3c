"""What holds on any ranks: for the threads of a LocalComm, and for processes under mpiexec."""

from typing import Any

import numpy as np

import stepsize as ss
from cases import CHUNK, RULES, advance
from stepsize.collectives import Share, mean_of
from stepsize.interop.mpi import DataParallel, Zero1, load_shards, save_shards

# Cut at several places, at one, nowhere; and what no rank but one has.
LONG = {"a": CHUNK + 77, "b": (3, 5), "c": (3, CHUNK // 2), "d": (0,)}
# Rules that see matrices are slow for long ones, and never cut.
SMALL = {"a": (12, 9), "b": (3, 5), "c": (40,), "d": (2, 3, 4)}
STEPS = 3


def shapes_of(cls: type) -> dict[str, Any]:
    """Leaves that show how a rule is cut."""
    return SMALL if cls.shaped else LONG


def numbers(cls: type, dtype: Any, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = shapes_of(cls).items()
    return {name: np.array(random.standard_normal(shape), dtype) for name, shape in shapes}


def gradients(cls: type, dtype: Any, step: int, rank: int) -> dict[str, Any]:
    """Those of a rank at a step; one leaf has none at the second step."""
    found: dict[str, Any] = numbers(cls, dtype, 1000 * step + rank + 1)
    return found | ({"b": None} if step == 1 else {})


def mean_gradients(cls: type, dtype: Any, step: int, size: int) -> dict[str, Any]:
    """The mean over the ranks, in their order."""
    given = [gradients(cls, dtype, step, rank) for rank in range(size)]
    share = Share.of([1.0] * size)
    means = {name: mean_of([one[name] for one in given], share) for name in given[0]}
    return {name: None if g is None else np.asarray(g) for name, g in means.items()}


def alone(cls: type, dtype: Any, size: int, steps: int = STEPS, **keywords: Any) -> Any:
    """Parameters, state and statistics after steps of one process with the mean gradients."""
    params = numbers(cls, dtype, 0)
    optimizer = cls(params, **keywords)
    stats = [
        advance(optimizer, mean_gradients(cls, dtype, step, size), stats=True)
        for step in range(steps)
    ]
    return params, optimizer.state_dict(), stats


def sharded(comm: Any, cls: type, dtype: Any, steps: int = STEPS, **keywords: Any) -> Any:
    """The same on ranks that share the state."""
    params = numbers(cls, dtype, 0)
    optimizer = Zero1(cls, params, comm, **keywords)
    stats = [step_of(optimizer, comm, cls, dtype, step) for step in range(steps)]
    return params, optimizer.state_dict(), stats


def step_of(optimizer: Any, comm: Any, cls: type, dtype: Any, step: int) -> Any:
    """One step with the gradients of this rank."""
    more = {"loss": 1.0 + 1.0 / (1 + step)} if cls.needs_loss else {}
    return optimizer.step(gradients(cls, dtype, step, rank_of(comm)), stats=True, **more)


def rank_of(comm: Any) -> int:
    return comm.rank


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two nests of numbers differ in a bit."""
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{path}: {sorted(one)} and {sorted(other)}"]
        return [d for key in one for d in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{path}: {len(one)} and {len(other)}"]
        pairs = enumerate(zip(one, other, strict=True))
        return [d for k, pair in pairs for d in differences(*pair, f"{path}/{k}")]
    if isinstance(one, np.ndarray):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return [] if alike and one.tobytes() == other.tobytes() else [path]
    return [] if one == other or (one != one and other != other) else [f"{path}: {one}, {other}"]


def check_rule(comm: Any, cls: type, dtype: Any, **keywords: Any) -> list[str]:
    """Where a rule on ranks is not what it is alone."""
    expected = alone(cls, dtype, comm.size, **keywords)
    return differences(expected, sharded(comm, cls, dtype, **keywords), cls.__name__)


def check_all_rules(comm: Any) -> list[str]:
    """The registry in both precisions, one of them with clipping."""
    found = []
    for cls in RULES:
        found += check_rule(comm, cls, np.float32)
        found += check_rule(comm, cls, np.float64, clip_norm=1.0)
    return found


def data_parallel(comm: Any) -> np.ndarray:
    """Parameters after steps with averaged gradients of ranks with different rows."""
    params = np.zeros(CHUNK + 3)
    optimizer = DataParallel(ss.Adam(params, lr=0.1), comm)
    for step in range(STEPS):
        optimizer.step(gradient_of(step, comm.rank), rows=2.0 + comm.rank)
    return params


def gradient_of(step: int, rank: int) -> np.ndarray:
    return np.random.default_rng(100 * step + rank).standard_normal(CHUNK + 3)


def saved(comm: Any, path: str, cls: type = ss.AdamW) -> None:
    """Some steps, and a checkpoint in both ways."""
    params = numbers(cls, np.float32, 0)
    optimizer = Zero1(cls, params, comm)
    for step in range(STEPS):
        optimizer.step_averaged(mean_gradients(cls, np.float32, step, 1))
    optimizer.save(f"{path}.whole")
    save_shards(f"{path}.index", optimizer)
    if comm.rank == 0:
        ss.save(f"{path}.params", params)


def continued(comm: Any, path: str, shards: bool, cls: type = ss.AdamW) -> Any:
    """More steps from the checkpoint, perhaps on other ranks: parameters and state."""
    params = {name: np.full_like(leaf, 7) for name, leaf in numbers(cls, np.float32, 0).items()}
    optimizer = Zero1(cls, params, comm)
    if shards:
        load_shards(f"{path}.index", optimizer)
    else:
        ss.load(f"{path}.params", params)
        optimizer.load(f"{path}.whole")
    for step in range(STEPS, 2 * STEPS):
        optimizer.step_averaged(mean_gradients(cls, np.float32, step, 1))
    return params, optimizer.state_dict()


def uninterrupted(cls: type = ss.AdamW) -> Any:
    """The same without ranks and without a checkpoint."""
    return alone(cls, np.float32, 1, steps=2 * STEPS)[:2]

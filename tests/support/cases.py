"""What the rule tests walk: every class of the registry under the options that its fields offer."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

import stepsize as ss
from stepsize import _core
from stepsize.optimizers import loop, rule
from stepsize.optimizers.fields import Choice, Count, Flag, Number, Several

RULES = [cls for cls in ss.optimizers.registry() if not cls.needs_closure]
DTYPES = (np.float32, np.float64)
CHUNK = _core.chunk_size
# Around the widths of vectors, tiles and chunks.
EDGES = (0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 255, 256, 257)
EDGES += (CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5)
# Of matrices besides: one unit of rows and several, many matrices, rows longer than a chunk.
SHAPES = ((1, 1), (1, 17), (17, 1), (0, 3), (33, 65), (3, 2, 5, 16), (40, 20, 3, 3), (2, 900, 50))
SHAPES += ((70, 1000), (2 * CHUNK + 3, 1), (10, CHUNK + 9))

# Every wrapper but SAM, which takes the function itself.
WRAPPERS = {
    "EMA": lambda opt: ss.EMA(opt, 0.9, warmup=True),
    "SWA": lambda opt: ss.SWA(opt, start=2, every=2),
    "Lookahead": lambda opt: ss.Lookahead(opt, k=3),
    "OuterMomentum": lambda opt: ss.OuterMomentum(opt, 2, form="ema"),
    "Accumulate": lambda opt: ss.Accumulate(opt, every=2),
    "Centralize": ss.Centralize,
    "GradientNoise": lambda opt: ss.GradientNoise(opt, seed=3),
    "AdaptiveClip": ss.AdaptiveClip,
    "Mechanic": ss.Mechanic,
    "Project": lambda opt: ss.Project(opt, ss.projections.box(-50.0, 50.0)),
    "EMA of Lookahead": lambda opt: ss.EMA(ss.Lookahead(opt, k=2), 0.5),
}


@dataclass(frozen=True)
class Case:
    """One rule under some hyperparameters and common keywords."""

    cls: type
    keywords: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        words = [f"{name}={value}" for name, value in self.keywords.items()]
        return "-".join([self.cls.__name__, *words])

    @property
    def values(self) -> dict[str, Any]:
        defaults = {name: known.default for name, known in self.cls.fields.items()}
        given = {name: value for name, value in self.keywords.items() if name in defaults}
        return {**defaults, **given}

    @property
    def compiled(self) -> bool:
        return self.cls.accelerated and self.cls.variant(self.values)[0] in rule.COMPILED

    @property
    def elementwise(self) -> bool:
        """Whether an element's update depends on that element alone."""
        alone = self.cls.scope is None and not self.cls.shaped
        return alone and not loop.sees_leaves(self.values)

    def make(self, params: Any, **more: Any) -> Any:
        return self.cls(params, **{**self.keywords, **more})


def other_value(known: Any) -> Any:
    """A value of the field that is not its default, or None."""
    if isinstance(known, Flag):
        return not known.default
    if isinstance(known, Choice):
        return known.words[1]
    if isinstance(known, Count) and known.default is not None:
        return 2 if known.default != 2 else 3
    if isinstance(known, Several):
        equal = len(set(known.default)) == 1  # two that stay equal could be swapped unnoticed
        return tuple(item / (2 + equal * k) for k, item in enumerate(known.default))
    if isinstance(known, Number) and known.default is not None:
        others = (known.default / 2 or 0.3, 1.5)
        return next(
            (v for v in others if v != known.default and known.parts()[0].holds(v)),
            None,
        )
    return None


def is_structural(known: Any) -> bool:
    """Whether a value other than the default switches something on."""
    return isinstance(known, Flag | Choice) or known.default == 0


def is_valid(cls: type, keywords: dict[str, Any]) -> bool:
    try:
        loop.check(cls, Case(cls, keywords).values)
    except ValueError:
        return False
    return True


# What the options of the loop are tried with, and what gives them something to do.
LOOP = {"cautious": True, "cautious_decay": True, "decay_max_lr": 0.01}
LOOP |= {"update_clip": 0.7, "mars_gamma": 0.1}
DECAYING = {"weight_decay": 0.3, "momentum": 0.9}
DECAYING |= dict.fromkeys(("decoupled_weight_decay", "decoupled", "no_prox"), True)
LOOP_ALONE = (ss.SGD, ss.AdamW, ss.Lion)  # each by itself; in all others together


def loop_cases(cls: type) -> Iterator[Case]:
    """The rule under the options of the loop that it has."""
    names = [name for name in LOOP if name in cls.fields]
    together = [names] if names else []
    for chosen in [[name] for name in names if cls in LOOP_ALONE] + together:
        given = {name: LOOP[name] for name in chosen}
        needed = {name: value for name, value in DECAYING.items() if name in cls.fields}
        keywords = given if is_valid(cls, given) and chosen == ["cautious"] else needed | given
        if is_valid(cls, keywords):
            yield Case(cls, keywords)


def cases_of(cls: type) -> Iterator[Case]:
    rule = {name: known for name, known in cls.fields.items() if name not in loop.LOOP}
    others = {name: other_value(known) for name, known in rule.items() if name != "lr"}
    others = {name: value for name, value in others.items() if value is not None}
    switches = [name for name in others if is_structural(cls.fields[name])]
    chosen = [(), *((name,) for name in others), *combinations(switches, 2), tuple(others)]
    for word in (w for known in cls.fields.values() for w in getattr(known, "words", ())[2:]):
        name = next(n for n, known in cls.fields.items() if word in getattr(known, "words", ()))
        yield Case(cls, {name: word})
    for names in dict.fromkeys(chosen):
        keywords = {name: others[name] for name in names}
        if is_valid(cls, keywords):
            yield Case(cls, keywords)
    yield from loop_cases(cls)
    yield Case(cls, {"maximize": True, "clip_value": 0.5})
    yield Case(cls, {"clip_norm": 1.0})


CASES = [case for cls in RULES for case in cases_of(cls)]
COMPILED = [case for case in CASES if case.compiled]
LOOP_CASES = [case for case in CASES if loop.LOOP.keys() & case.keywords.keys()]


def is_kind(case: Case) -> bool:
    """Whether a case has state or a path of its own: not another number, nor two switches at once.

    Two that go only together stay.
    """
    names = [name for name in case.keywords if name in case.cls.fields]
    if set(names) & set(loop.LOOP):
        return True
    if len(names) == 1:
        return is_structural(case.cls.fields[names[0]])
    alone = all(is_valid(case.cls, {name: case.keywords[name]}) for name in names)
    return len(names) != 2 or not alone


# Laws that the loop around the rules keeps, whatever their numbers, are tried with these.
KINDS = [case for case in CASES if is_kind(case)]


@contextmanager
def numpy_rule(cls: type) -> Iterator[None]:
    """Optimizers made inside run the rule as NumPy states it."""
    kept = cls.accelerated
    cls.accelerated = False
    try:
        yield
    finally:
        cls.accelerated = kept


def advance(optimizer: Any, grads: Any, **more: Any) -> Any:
    """A step, with a loss for the rules that want one."""
    if type(optimizer).needs_loss:
        more = {"loss": 1.0 + 1.0 / (1 + optimizer.step_count), **more}
    return optimizer.step(grads, **more)


def unaligned(array: np.ndarray) -> np.ndarray:
    """The same values one element past an aligned address."""
    view = np.empty(array.size + 1, array.dtype)[1:].reshape(array.shape)
    view[...] = array
    return view


def canonical(array: np.ndarray) -> bytes:
    """The bits, with one NaN for all: IEEE 754 leaves its sign and payload open."""
    return np.where(np.isnan(array), np.nan, array).astype(array.dtype).tobytes()


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and canonical(a) == canonical(b)


def random_nest(shapes: dict[str, Any], dtype: Any, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: np.array(random.standard_normal(shape), dtype) for name, shape in shapes.items()}


def random_grads(params: Any, seed: int, scale: float = 1.0) -> Any:
    """Gradients over six orders of magnitude, some of them exactly 0."""
    random = np.random.default_rng(seed)

    def draw(leaf: np.ndarray) -> np.ndarray:
        size = 10.0 ** random.uniform(-3, 3, leaf.shape) * scale
        kept = random.uniform(size=leaf.shape) > 0.05
        return np.array(random.standard_normal(leaf.shape) * size * kept, leaf.dtype)

    return ss.arrays.map_leaves(draw, params)


def extremes(dtype: Any) -> np.ndarray:
    """Values that meet every special case of the arithmetic, at every place in a vector."""
    info = np.finfo(dtype)
    words = [0.0, -0.0, info.smallest_subnormal, -info.tiny, info.max, -info.max, info.eps]
    words += [np.inf, -np.inf, np.nan, 1.0]
    return np.array([words[i % len(words)] for i in range(7 * len(words))], dtype)


@cache
def edge_run(
    dtype: Any, with_extremes: bool, shaped: bool = False, axis: int = 0
) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Parameters of every edge length, aligned and not, and the gradients of three steps.

    ``axis``: where eigenvectors make long axes slow, only axes up to that length.
    """
    edges = [n for n in EDGES if n <= (axis or n)]
    shapes: dict[str, Any] = {f"{place}{n}": n for n in edges for place in ("aligned", "unaligned")}
    if shaped:
        few = [shape for shape in SHAPES if max(shape) <= (axis or max(shape))]
        shapes |= {f"shape{shape}": shape for shape in few} | {"scalar": ()}
    if axis:
        shapes |= {f"shape{shape}": shape for shape in ((7, 300), (5, 2, 9), (129, 2))}
    params = random_nest(shapes, dtype)
    grads = [random_grads(params, seed) for seed in (1, 2, 3)]
    if with_extremes:
        params["extreme"] = np.roll(extremes(dtype), 5)
        for step, nest in enumerate(grads):
            nest["extreme"] = np.roll(extremes(dtype), step)
    if with_extremes and shaped:  # a few, or all that is joined is NaN
        for step, nest in enumerate(grads):
            nest["shape(33, 65)"][step * 7, 3:14] = extremes(dtype)[:11]
    for name in list(params)[::5]:
        grads[1][name] = None
    return params, grads


def run_edges(case: Case, dtype: Any, threads: int = 1) -> dict[str, np.ndarray]:
    """Every array that three steps over the edge lengths leave behind."""
    several = case.keywords and "ns_steps" in case.cls.fields  # one case shows it on long axes
    axis = 65 if several or "max_dim" in case.cls.fields else 0
    source, grads = edge_run(dtype, "clip_norm" not in case.keywords, case.cls.shaped, axis)
    params = {
        name: unaligned(leaf) if name.startswith("un") else leaf.copy()
        for name, leaf in source.items()
    }
    ss.set_num_threads(threads)
    try:
        optimizer = case.make(params, on_nonfinite="ignore")
        for nest in grads:
            advance(optimizer, nest)
    finally:
        ss.set_num_threads(None)
    arrays = dict(params)
    for path, slots in optimizer.state.items():
        arrays.update({f"{path}.{name}": slot for name, slot in slots.items()})
    scalars = [optimizer.internals.engine.scalars(i) for i in range(len(params))]
    return {
        **arrays,
        "scalars": np.array(scalars, float),
        "t": np.array(optimizer.internals.engine.times),
    }


def digest(arrays: dict[str, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name, array in arrays.items():
        found.update(name.encode())
        found.update(canonical(array) if array.dtype.kind == "f" else array.tobytes())
    return found.hexdigest()


def snapshot(optimizer: Any) -> dict[str, Any]:
    """Everything a step may change, copied."""
    saved = optimizer.state_dict()
    leaves, _, _ = ss.arrays.flatten(optimizer.params)
    return {"params": [leaf.tobytes() for leaf in leaves], "state": comparable(saved)}


def comparable(value: Any) -> Any:
    """A nested value with arrays as bytes and NaN equal to itself."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return "nan" if isinstance(value, float) and math.isnan(value) else value

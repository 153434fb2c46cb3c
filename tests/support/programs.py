"""Random programs of operations on an optimizer, compared after each with `model.Model`.

    PYTHONPATH=python:tests/support python tests/support/programs.py 100 300 [SEED]

runs so many programs of so many operations, from a seed on. A program is a configuration (rule,
wrappers, options, dtypes, layouts, groups) and a list of operations, all drawn from its seed. One
that fails is shortened, and printed as the call that runs it again.
"""

from __future__ import annotations

import math
import random
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import ml_dtypes
import numpy as np

import stated_wrappers as wrapped
import stepsize as ss
from cases import RULES, is_valid, numpy_rule, other_value, unaligned
from program_functions import falling, fused
from stated_model import Model
from stepsize.optimizers.fields import Choice, Count, Flag

Op = tuple[str, int]

PALETTES = {
    "float32": [np.float32],
    "float64": [np.float64],
    "mixed": [np.float32, np.float64],
    "half": [np.float16, ml_dtypes.bfloat16, np.float32],
    "complex": [np.complex64, np.complex128, np.float64],
}
SHAPES = [(4, 3), (5,), (), (0, 3), (2, 3, 2), (1, 7), (17,), (6, 2)]


def numbers(rng: Any, shape: tuple[int, ...], dtype: Any, scale: float = 1.0) -> np.ndarray:
    """Numbers over a few orders of magnitude, some of them 0."""
    found = rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 1, shape) * scale
    found = found * (rng.uniform(size=shape) > 0.05)
    if np.dtype(dtype).kind == "c":
        found = found + 1j * rng.standard_normal(shape) * scale
    return np.asarray(found).astype(dtype)


def laid_out(rng: Any, x: np.ndarray) -> np.ndarray:
    """The same numbers in one of the layouts that memory has."""
    how = rng.integers(5)
    if how == 1 and x.ndim > 1:
        return np.asfortranarray(x)
    if how == 2 and x.ndim > 0:
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if how == 3 and x.dtype != ml_dtypes.bfloat16:
        raw = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
        raw[...] = x
        return raw
    return unaligned(x) if how == 4 else x


def value_for(rng: Any, field: Any, how: str) -> Any:
    """Another value of a hyperparameter, as a number, schedule or function of the step."""
    value = other_value(field)
    if isinstance(field, Flag | Choice | Count) or value is None or how == "number":
        return value
    parts, others = field.parts(), field.values(value)
    firsts = field.values(field.default)
    if not all(0 <= float(item) < math.inf for item in (*others, *firsts)):
        return value
    if how == "low":
        made: list[Any] = [part.low for part in parts]
    elif how == "constant":
        made = [ss.schedules.constant(item) for item in others]
    elif how == "linear":
        made = [ss.schedules.linear(a, b, 7) for a, b in zip(others, firsts, strict=True)]
    elif field.name == "lr" and not field.fixed:
        made = [falling]
    else:
        made = list(firsts)
    return tuple(made) if isinstance(field.default, tuple) else made[0]


HOWS = ("number", "number", "low", "constant", "linear", "function", "default")
SWITCHES: dict[str, list[Any]] = {
    "maximize": [True],
    "clip_norm": [0.5, 20.0],
    "clip_value": [0.3],
    "on_nonfinite": ["skip", "ignore"],
    "state_dtype": ["bfloat16", "int8"],
    "master_weights": [False],
    "loss_scale": ["dynamic", 8.0],
    "bounds": [(-2.0, 2.0), (None, 1.75)],
    "l1": [0.03125],
}
WRAPPERS: dict[str, Any] = {
    "EMA": (lambda o: ss.EMA(o, 0.9), lambda m: wrapped.EMA(m, 0.9)),
    "EMA, warm": (lambda o: ss.EMA(o, 0.99, warmup=True), lambda m: wrapped.EMA(m, 0.99, True)),
    "SWA": (lambda o: ss.SWA(o, start=3, every=2), lambda m: wrapped.SWA(m, 3, 2)),
    "Lookahead": (lambda o: ss.Lookahead(o, k=3), lambda m: wrapped.Lookahead(m, 3)),
    **{
        f"OuterMomentum, {form}": (
            lambda o, f=form: ss.OuterMomentum(o, 2, 0.5, 0.75, form=f),
            lambda m, f=form: wrapped.OuterMomentum(m, f, 2, 0.5, 0.75),
        )
        for form in ("nesterov", "heavy_ball", "ema", "gpa")
    },
    "Accumulate": (lambda o: ss.Accumulate(o, every=3), lambda m: wrapped.Accumulate(m, 3)),
    "Centralize": (ss.Centralize, wrapped.Centralize),
    "GradientNoise": (
        lambda o: ss.GradientNoise(o, seed=3),
        lambda m: wrapped.GradientNoise(m, 3),
    ),
    "AdaptiveClip": (ss.AdaptiveClip, wrapped.AdaptiveClip),
    "Mechanic": (ss.Mechanic, wrapped.Mechanic),
    "Project": (
        lambda o: ss.Project(o, ss.projections.box(-2.0, 2.0)),
        lambda m: wrapped.Project(m, -2.0, 2.0),
    ),
    "SAM": (ss.SAM, wrapped.SAM),
}


class Configuration:
    """What a program works on: everything that is given when an optimizer is made."""

    def __init__(self, seed: int, cls: type | None = None, wrappers: Sequence[str] | None = None):
        rng, draw = np.random.default_rng(seed), random.Random(seed)
        self.cls: Any = cls or draw.choice(RULES)
        drawn = draw.sample(list(WRAPPERS), draw.choice([0, 0, 1, 1, 2]))
        self.wrappers = list(drawn if wrappers is None else wrappers)
        self.palette = draw.choice(list(PALETTES))
        self.by_numpy = draw.random() < 0.3
        self.grouped = draw.choice(["", "", "glob", "list"])
        self.fields: dict[str, Any] = {}
        for name, field in self.cls.fields.items():
            if draw.random() < 0.3:
                value = value_for(rng, field, draw.choice(HOWS))
                if value is not None and is_valid(self.cls, {**self.fields, name: value}):
                    self.fields[name] = value
        self.options = {
            name: draw.choice(values)
            for name, values in SWITCHES.items()
            if name not in self.cls.fields and draw.random() < 0.2
        }
        self.arrays = []
        for shape in draw.sample(SHAPES, draw.choice([1, 2, 3, 5])):
            x = numbers(rng, shape, draw.choice(PALETTES[self.palette]))
            x = np.clip(real_or(x), -1.5, 1.5).astype(x.dtype) if x.dtype.kind != "c" else x
            self.arrays.append(laid_out(rng, x) if draw.random() < 0.5 else x)
        if not self.cls.shaped and draw.random() < 0.2:
            dtype = PALETTES[self.palette][0]
            self.arrays.append((numbers(rng, (600,), dtype) / 8).astype(dtype))
        self.start = [x.copy() for x in self.arrays]

    def nest(self, arrays: Sequence[np.ndarray]) -> Any:
        named = {f"{i}{'wb'[i % 2]}": x for i, x in enumerate(arrays)}
        if self.grouped != "list" or len(arrays) < 2:
            return named
        names = list(named)
        first, rest = ({name: named[name] for name in part} for part in (names[:1], names[1:]))
        return [{"params": first, "lr": 0.05}, {"params": rest}]

    def make(self, arrays: Sequence[np.ndarray]) -> Any:
        """The optimizer over a nest of these arrays, or an error: not all goes together."""
        more = dict(self.fields)
        if self.grouped == "glob" and len(arrays) > 1:
            more["groups"] = [ss.group("*b", lr=0.02)]
        optimizer = self.cls(self.nest(arrays), **more, **self.options)
        for name in self.wrappers:
            optimizer = WRAPPERS[name][0](optimizer)
        return optimizer

    def model(self, optimizer: Any) -> Any:
        parts = optimizer.internals
        made: Any = Model(
            self.cls,
            parts.leaves.arrays,
            parts.leaves.paths,
            parts.groups.assignment,
            parts.groups.tables,
            self.options,
        )
        for name in self.wrappers:
            made = WRAPPERS[name][1](made)
        return made

    def __repr__(self) -> str:
        told = [self.cls.__name__, *self.wrappers, self.palette, self.grouped or "one group"]
        told += ["NumPy"] * self.by_numpy
        shapes = [f"{x.dtype}{x.shape}" for x in self.arrays]
        return f"{', '.join(told)}; {self.fields}; {self.options}; {' '.join(shapes)}"


def real_or(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def drawn(seed: int, cls: type | None = None, wrappers: Sequence[str] | None = None) -> Any:
    """The first configuration from this seed on whose parts go together, and its optimizer."""
    for turn in range(1000):
        found = Configuration(seed * 1000 + turn, cls, wrappers)
        context = numpy_rule(found.cls) if found.by_numpy else nullcontext()
        try:
            with context:
                return found, found.make(found.arrays)
        except (TypeError, ValueError):
            continue
    raise LookupError(f"{cls} does not go together with {wrappers}")


def bits(value: Any) -> Any:
    """A nested value with arrays as bytes, and one NaN for all."""
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "fcV":
            flat = np.ascontiguousarray(value).reshape(-1)
            flat = flat.view(flat.real.dtype)
            value = np.where(np.isnan(flat), flat.dtype.type(np.nan), flat)
        return value.dtype.name, value.tobytes()
    if isinstance(value, float):
        return "nan" if value != value else value
    return value


def differing(found: Any, expected: Any, path: str = "") -> list[str]:
    """The places of a nested value that differ."""
    if isinstance(found, dict) and isinstance(expected, dict):
        names = {**expected, **found}
        missing = object()
        return [
            place
            for name in names
            for place in differing(
                found.get(name, missing), expected.get(name, missing), f"{path}/{name}"
            )
        ]
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return [place for k, two in pairs for place in differing(*two, f"{path}/{k}")]
    return [] if found == expected else [path]


def operations(seed: int, count: int) -> list[Op]:
    from program_operations import WEIGHTS

    draw = random.Random(seed)
    names, weights = zip(*WEIGHTS.items(), strict=True)
    return [(name, draw.randrange(1 << 30)) for name in draw.choices(names, weights, k=count)]


def run(
    seed: int,
    ops: Sequence[Op],
    cls: type | None = None,
    wrappers: Sequence[str] | None = None,
    each: bool = True,
) -> int:
    """Run the operations on the configuration of a seed; how many of them did something."""
    from program_operations import Operations

    fused.how = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        configuration, optimizer = drawn(seed, cls, wrappers)
        work = Operations(configuration, optimizer)
        try:
            work.compare()
            for at, (name, own) in enumerate(ops):
                work.now = f"operation {at}, {name}"
                work.apply(name, np.random.default_rng(own))
                if each or at + 1 == len(ops):
                    work.compare()
        except BaseException as error:
            error.add_note(f"{configuration}\n{work.now}")
            raise
    return work.done


def fails(seed: int, ops: Sequence[Op], *which: Any) -> BaseException | None:
    try:
        run(seed, ops, *which)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error
    return None


def shortened(seed: int, ops: list[Op], *which: Any) -> list[Op]:
    """Without what the failure does not need."""
    size = max(1, len(ops) // 2)
    while True:
        at = 0
        while at < len(ops):
            less = ops[:at] + ops[at + size :]
            if fails(seed, less, *which):
                ops = less
            else:
                at += size
        if size == 1:
            return ops
        size = max(1, size // 2)


def main(programs: str = "100", length: str = "300", first: str = "0") -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background
    start, made, done, failed = time.monotonic(), 0, 0, 0
    kinds = [None, *([name] for name in WRAPPERS)]
    try:
        for seed in range(int(first), int(first) + int(programs)):
            # Every rule in turn, and in the end each in every wrapper.
            cls = RULES[seed % len(RULES)]
            which = (cls, kinds[(seed + seed // len(RULES)) % len(kinds)])
            ops = operations(seed, int(length))
            error = fails(seed, ops, *which)
            if isinstance(error, LookupError):  # a rule that averages, in a projection
                continue
            made += 1
            if error is None:
                done += len(ops)
                continue
            failed += 1
            few = shortened(seed, ops, *which)
            last = fails(seed, few, *which) or error
            told = "\n".join([f"{type(last).__name__}: {last}", *getattr(last, "__notes__", ())])
            print(f"run({seed}, {few}, ss.{cls.__name__}, {which[1]})\n{told}\n", flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    print(f"{made} programs of {length} operations, {failed} failed, {done} operations equal")
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

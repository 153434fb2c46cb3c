"""Writes digests.json: the SHA-256 of what rules, wrappers, schedules and runs compute.

Run from the root of the repository: ``PYTHONPATH=python:tests/support python
tests/golden/make_digests.py``. The same bits are due on every processor, compiler and NumPy, so
the file changes with a definition and with nothing else. ``--differ`` prints the names of what
differs from it, for a machine or a build that is to be compared.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import cases
import stepsize as ss
from stepsize.optimizers.quantization import FORMS

GOLDEN = Path(__file__).with_name("digests.json")
STEPS = 100
CASES = [case for case in cases.CASES if case.cls.reproducible]
PLAIN = {case.cls: case for case in CASES if not case.keywords}
SHAPES = {"w": (5, 7), "b": (20,), "s": ()}

Work = Callable[[], Any]
S = ss.schedules


def uniform(seed: int, count: int) -> np.ndarray:
    """Multiples of 2**-24 in [-0.5, 0.5), exact in float32, from the raw words of PCG64."""
    words = np.random.PCG64(seed).random_raw(count)
    return (words >> np.uint64(40)).astype(float) * 2.0**-24 - 0.5


def nest(seed: int, dtype: Any) -> dict[str, np.ndarray]:
    drawn = uniform(seed, sum(math.prod(shape) for shape in SHAPES.values()))
    found, start = {}, 0
    for name, shape in SHAPES.items():
        end = start + math.prod(shape)
        found[name] = drawn[start:end].reshape(shape).astype(dtype)
        start = end
    return found


DRAWN = {dtype: [nest(7 + t, dtype) for t in range(STEPS)] for dtype in cases.DTYPES}


def feed(found: Any, value: Any) -> None:
    """Add a value of any kind, numbers by their bits and with one NaN for all."""
    if isinstance(value, dict):
        for key in value:
            found.update(str(key).encode())
            feed(found, value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            feed(found, item)
    elif isinstance(value, np.ndarray):
        found.update(f"{value.dtype}{value.shape}".encode())
        found.update(cases.canonical(value) if value.dtype.kind == "f" else value.tobytes())
    else:
        found.update((value.hex() if isinstance(value, float) else repr(value)).encode())


def sha256(*values: Any) -> str:
    found = hashlib.sha256()
    feed(found, values)
    return found.hexdigest()


def trained(make: Callable[[Any], Any], dtype: Any) -> str:
    """The parameters and the state after a hundred steps."""
    params = nest(1, dtype)
    optimizer = make(params)
    wants_loss = getattr(type(optimizer), "needs_loss", False)
    for t, grads in enumerate(DRAWN.get(dtype) or DRAWN[np.float32]):
        given = grads if dtype in DRAWN else {k: g.astype(dtype) for k, g in grads.items()}
        more = {"loss": 1.0 + 1.0 / (1 + t)} if wants_loss else {}
        optimizer.step(given, **more)
    saved = optimizer.state_dict()
    return sha256(params, saved["state"], saved["scalars"], saved.get("wrappers"))


def rules() -> Iterator[tuple[str, Work]]:
    """Every rule under each of its options, in both dtypes."""
    for case in CASES:
        for dtype in cases.DTYPES:
            yield f"{case} {dtype.__name__}", lambda c=case, d=dtype: trained(c.make, d)


def quantizable(cls: type) -> bool:
    try:
        return bool(cls(np.zeros(1, np.float32), state_dtype="int8"))
    except ValueError:
        return False


def states() -> Iterator[tuple[str, Work]]:
    """Every rule with its state in each form, and parameters in half precision."""
    import ml_dtypes

    for cls in PLAIN:
        for form in FORMS[1:] if quantizable(cls) else ():
            yield (
                f"{cls.__name__} state_dtype={form}",
                lambda c=cls, f=form: trained(lambda p: c(p, state_dtype=f), np.float32),
            )
        for dtype in (np.float16, ml_dtypes.bfloat16):
            yield f"{cls.__name__} {dtype.__name__}", lambda c=cls, d=dtype: trained(c, d)


WRAPPERS = {
    "EMA": lambda o: ss.EMA(o, 0.9),
    "SWA": lambda o: ss.SWA(o, start=10, every=3),
    "Lookahead": lambda o: ss.Lookahead(o, 5),
    **{
        f"OuterMomentum {form}": lambda o, f=form: ss.OuterMomentum(o, 2, 0.5, 0.75, form=f)
        for form in ("nesterov", "heavy_ball", "ema", "gpa")
    },
    "Accumulate": lambda o: ss.Accumulate(o, 4),
    "Centralize": ss.Centralize,
    "AdaptiveClip": ss.AdaptiveClip,
    "EMA of Lookahead": lambda o: ss.EMA(ss.Lookahead(o, 3), 0.99, warmup=True),
}


def wrapped() -> Iterator[tuple[str, Work]]:
    for name, wrap in WRAPPERS.items():
        for cls in (ss.SGD, ss.AdamW, ss.Prodigy):
            for dtype in cases.DTYPES:
                yield (
                    f"{name} of {cls.__name__} {dtype.__name__}",
                    lambda w=wrap, c=cls, d=dtype: trained(lambda p: w(c(p)), d),
                )


SCHEDULES = [
    *(S.constant(0.1), S.linear(0.3, 0.0, 777), S.polynomial(1.0, 1e-3, 1234, power=2.7)),
    *(S.polynomial(1.0, 1e-3, 123, power=0.6, cycle=True), S.cosine(0.3, 1e-5, 2999)),
    *(S.cosine(0.3, 1e-5, 2999, power=1.7), S.exponential(0.7, 0.93, 3.3)),
    *(S.exponential(1e-7, 1.01), S.exponential(1.0, 0.5, 100, staircase=True)),
    *(S.inverse_time(0.1, 0.7, 9), S.inverse_time(0.1, 0.7, 9, True), S.inverse_sqrt(0.1, 100)),
    *(S.noam(512, 400), S.rex(1.0, 2500, end=0.1), S.step_decay(1.0, 30, 0.3)),
    *(S.multistep(1.0, [30, 80, 2000], 0.3), S.piecewise_constant([5, 100], [0.1, 0.2, 0.3])),
    *(S.piecewise_linear([(3, 0.1), (100, 1.0), (2000, 0.3)]), S.table([0.1, 0.3, 0.2])),
    *(S.cosine_restarts(1.0, 100, multiplier=1.5, decay=0.7, end=0.01),),
    *(S.cosine_restarts(1.0, 33.3, decay=0.9), S.cyclic(0.1, 1.0, 77, 33, mode="triangular2")),
    *(S.cyclic(0.1, 1.0, 77, mode="exp_range", gamma=0.999), S.tanh(1.0, 0.01, 2500)),
    *(S.one_cycle(0.1, 2500, pct_start=0.27), S.one_cycle(0.1, 900, shape="linear")),
    *(S.wsd(0.1, 100, 1500, 700, shape="sqrt"), S.wsd(0.1, 100, 500, 700, shape="linear")),
    *(S.warmup_linear(0.1, 50, 800), S.warmup_cosine(0.1, 50, 800), S.flat_cosine(0.1, 2000)),
]
CHANGES: dict[str, Callable[[Any], Any]] = {
    "alone": lambda s: s,
    "scaled": lambda s: s * 0.3,
    "warmed up": lambda s: s.warmup(40),
    "clipped": lambda s: s.clip(0.01, 0.2),
    "then": lambda s: s.then(S.linear(0.1, 0.0, 300), at=500),
    "shifted and stretched": lambda s: S.linear(0.2, 0.1, 900).shift(13).stretch(1777) * s,
}


def schedules() -> Iterator[tuple[str, Work]]:
    """Values at whole steps, between them and far beyond the end."""
    grid = np.concatenate([np.arange(1500.0), uniform(3, 500) * 2000 + 1000, [1e6, 2.0**53]])
    for schedule in SCHEDULES:
        for change, by in CHANGES.items():
            yield f"{schedule} {change}", lambda s=schedule, b=by: sha256(b(s)(grid))


def valley(params: dict[str, np.ndarray], batch: Any) -> tuple[float, dict[str, np.ndarray]]:
    """A loss whose sums do not depend on their order, and its gradient."""
    away = params["w"] - float(batch[0].flat[0] if batch is not None else 0.125)
    curved = away * np.array([1.0, 4.0, 9.0])
    return 0.5 * math.fsum(away * curved) + 1, {"w": curved}


def fitted(cls: type, lr: Any, **more: Any) -> str:
    params = {"w": np.array([3.0, -2.0, 1.0])}
    optimizer = cls(params) if lr is None else cls(params, lr=lr)
    data = (uniform(5, 40)[:, None],)
    history = ss.fit(valley, params, optimizer, data, batch_size=4, epochs=10, **more)
    return sha256(params, [float(loss) for loss in history["loss"]])


def runs() -> Iterator[tuple[str, Work]]:
    """Whole trainings and searches; of the latter, which take logarithms, nine digits or six."""
    falling = S.cosine(0.02, 0.0, 100).warmup(10)
    for cls in (*PLAIN, ss.LBFGS):
        name = cls.__name__
        yield f"fit {name}", lambda c=cls: fitted(c, None)
        yield f"fit accumulated {name}", lambda c=cls: fitted(c, None, accumulate=3)
        yield f"fit scheduled {name}", lambda c=cls: fitted(c, falling, seed=3)
    for rule in ("SGD", "Adam", "Lion"):
        yield f"lr_find {rule}", lambda r=rule: found_rate(r)


def found_rate(rule: str) -> str:
    result = ss.lr_find(valley, {"w": np.array([3.0, -2.0, 1.0])}, [None], optimizer=rule.lower())
    curve = [f"{rate:.9g} {loss:.6g}" for rate, loss in zip(result.lrs, result.losses, strict=True)]
    return sha256(f"{result.suggestion:.6g}", curve)


PARTS = {part.__name__: part for part in (rules, states, wrapped, schedules, runs)}


def digests(part: str) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: work() for name, work in PARTS[part]()}


def differing(part: str) -> list[str]:
    """The names of this part whose digest is not the one kept, or that one side lacks."""
    kept, found = json.loads(GOLDEN.read_text())[part], digests(part)
    return [name for name in {**kept, **found} if kept.get(name) != found.get(name)]


def main() -> int:
    if "--differ" in sys.argv:
        names = [f"{part}: {name}" for part in PARTS for name in differing(part)]
        print("\n".join(names) or "all digests agree")
        return int(bool(names))
    made = {part: digests(part) for part in PARTS}
    GOLDEN.write_text(json.dumps(made, indent=0) + "\n")
    print(f"{sum(map(len, made.values()))} digests: { {part: len(d) for part, d in made.items()} }")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The wrappers around `model.Model`, from their formulas."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stated_model import Model, NotFinite, Rows, norm, real, widened
from stepsize.arrays import LEAST_SUM


def towards(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """From `a` a share of the way to `b`, exact at both ends."""
    w = a.dtype.type(share)
    return a + w * (b - a) if w < 0.5 else b - (b - a) * (a.dtype.type(1) - w)


def whole(model: Any, grads: Sequence[Any]) -> list[Any]:
    """Gradients with rows as arrays of the leaf's shape."""
    points = model.points()
    return [g.whole(x) if isinstance(g, Rows) else g for g, x in zip(grads, points, strict=True)]


def like(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Pairs as complex numbers again where the dtype is complex."""
    if np.dtype(dtype).kind != "c":
        return np.asarray(values)
    kind = np.complex128 if values.dtype == np.float64 else np.complex64
    return np.ascontiguousarray(values).view(kind)[..., 0]


class Wrapped:
    """A wrapper around a model: arrays and numbers of its own."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.numbers: dict[str, Any] = {}
        self.arrays: dict[str, list[np.ndarray]] = {}

    @property
    def innermost(self) -> Model:
        return self.inner.innermost

    @property
    def step_count(self) -> int:
        return self.innermost.step_count

    def points(self) -> list[np.ndarray]:
        return self.innermost.points()

    def copy(self) -> Any:
        return copy.deepcopy(self)

    def wrappers(self) -> list[dict[str, Any]]:
        paths = self.innermost.paths
        arrays = {
            name: dict(zip(paths, values, strict=True)) for name, values in self.arrays.items()
        }
        own = {"name": type(self).__name__, "numbers": dict(self.numbers), "arrays": arrays}
        return [*self.inner.wrappers(), own]

    def step(self, grads: Sequence[Any], loss: float | None = None) -> bool:
        return self.inner.step(grads, loss)


class _Average(Wrapped):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.arrays = {"average": [np.array(widened(x)) for x in self.points()]}
        self.numbers = {"updates": 0}

    def share(self) -> float | None:
        raise NotImplementedError

    def averages(self) -> list[np.ndarray]:
        return self.arrays["average"]

    def step(self, grads: Sequence[Any], loss: float | None = None) -> bool:
        share, before = self.share(), self.step_count
        moved = self.inner.step(grads, loss)
        if self.step_count > before:
            if share is not None:
                for average, x in zip(self.arrays["average"], self.points(), strict=True):
                    pairs = real(average)
                    pairs[...] = towards(pairs, widened(real(x)), share)
            self.count(share)
        return moved

    def count(self, share: float | None) -> None:
        self.numbers["updates"] += 1


class EMA(_Average):
    def __init__(self, inner: Any, decay: float, warmup: bool = False) -> None:
        super().__init__(inner)
        self.decay, self.warmup = decay, warmup

    def share(self) -> float:
        n = self.numbers["updates"]
        decay = min(self.decay, 1.0 - (1.0 + n / 1.0) ** -(2 / 3)) if self.warmup else self.decay
        return 1.0 - decay


class SWA(_Average):
    def __init__(self, inner: Any, start: int, every: int) -> None:
        super().__init__(inner)
        self.numbers = {"updates": 0, "points": 0}
        self.start, self.every = start, every

    def share(self) -> float | None:
        after = self.numbers["updates"] - self.start
        due = after >= 0 and after % self.every == 0
        return 1.0 / (self.numbers["points"] + 1) if due else None

    def averages(self) -> list[np.ndarray]:
        if self.numbers["points"]:
            return self.arrays["average"]
        return [np.array(widened(x)) for x in self.points()]

    def count(self, share: float | None) -> None:
        self.numbers["points"] += share is not None
        self.numbers["updates"] += 1


class Lookahead(Wrapped):
    def __init__(self, inner: Any, k: int, alpha: float = 0.5) -> None:
        super().__init__(inner)
        self.k, self.alpha = k, alpha
        self.numbers = {"ahead": 0}
        self.arrays = {"slow": [np.array(widened(x)) for x in self.points()]}

    def step(self, grads: Sequence[Any], loss: float | None = None) -> bool:
        before = self.step_count
        moved = self.inner.step(grads, loss)
        self.numbers["ahead"] += self.step_count - before
        if self.numbers["ahead"] >= self.k:
            with np.errstate(all="ignore"):
                for slow, x in zip(self.arrays["slow"], self.points(), strict=True):
                    pairs = real(slow)
                    pairs[...] = towards(pairs, widened(real(x)), self.alpha)
                    x[...] = slow
            self.numbers["ahead"] = 0
        return moved


class OuterMomentum(Wrapped):
    def __init__(self, inner: Any, form: str, every: int, lr: float, momentum: float) -> None:
        super().__init__(inner)
        self.form, self.every, self.lr, self.momentum = form, every, lr, momentum
        self.numbers = {"ahead": 0}
        slow = [np.array(widened(x)) for x in self.points()]
        self.arrays = {"slow": slow, "velocity": [np.zeros_like(x) for x in slow]}

    def averages(self) -> list[np.ndarray]:
        return self.arrays["slow"]

    def step(self, grads: Sequence[Any], loss: float | None = None) -> bool:
        before = self.step_count
        moved = self.inner.step(grads, loss)
        self.numbers["ahead"] += self.step_count - before
        if self.numbers["ahead"] >= self.every:
            with np.errstate(all="ignore"):
                arrays = (self.points(), self.arrays["slow"], self.arrays["velocity"])
                for leaf, *own in zip(*arrays, strict=True):
                    leaf[...] = like(self.next(widened(real(leaf)), *map(real, own)), leaf.dtype)
            self.numbers["ahead"] = 0
        return moved

    def next(self, x: np.ndarray, slow: np.ndarray, v: np.ndarray) -> np.ndarray:
        lr, momentum = self.lr, self.momentum
        if self.form == "ema":
            v[...] = momentum * v + (1 - momentum) * (x - slow)
            slow[...] = x
            return slow + lr * v
        if self.form == "gpa":
            z = v + (x - (slow + (1 - momentum) * v))
            slow[...] = slow + lr * z
            v[...] = z * (1 - lr)
            return slow + (1 - momentum) * v
        way = slow - x
        v[...] = momentum * v + way
        slow[...] = slow - lr * (way + momentum * v if self.form == "nesterov" else v)
        return slow


class Accumulate(Wrapped):
    def __init__(self, inner: Any, every: int) -> None:
        super().__init__(inner)
        self.every = every
        self.numbers = {"calls": 0, "loss": 0.0}
        self.arrays = {"mean": [np.zeros_like(widened(x)) for x in self.points()]}

    def step(self, grads: Sequence[Any], loss: float | None = None) -> bool:
        core, n = self.innermost, self.numbers["calls"]
        flat = whole(self, grads)
        average = self.numbers["loss"]
        average += ((0.0 if loss is None else loss) - average) / (n + 1)
        means = []
        with np.errstate(all="ignore"):
            for mean, g in zip(self.arrays["mean"], flat, strict=True):
                pairs = real(mean)
                given = pairs.dtype.type(0) if g is None else widened(real(g))
                new = np.asarray(pairs + (given - pairs) / pairs.dtype.type(n + 1))
                means.append(like(new, mean.dtype))
        refuses = core.options.get("on_nonfinite", "raise") == "raise" and not core.dynamic
        if refuses and not all(core.small(mean) for mean in means):
            raise NotFinite
        moved, last = False, n + 1 >= self.every
        if last:
            moved = self.inner.step(means, None if loss is None else average)
        self.numbers = {"calls": 0 if last else n + 1, "loss": 0.0 if last else average}
        for mean, new in zip(self.arrays["mean"], means, strict=True):
            mean[...] = 0 if last else new
        return moved


class _Changing(Wrapped):
    def change(self, g: np.ndarray, x: np.ndarray, i: int) -> Any:
        raise NotImplementedError

    def step(self, grads: Sequence[Any], loss: float | None = None) -> bool:
        changed: list[Any] = []
        with np.errstate(all="ignore"):
            for i, (g, x) in enumerate(zip(whole(self, grads), self.points(), strict=True)):
                kind = widened(np.zeros(0, x.dtype)).dtype
                changed.append(
                    None if g is None else np.asarray(self.change(widened(g), x, i), kind)
                )
        return self.inner.step(changed, loss)


class Centralize(_Changing):
    def change(self, g: np.ndarray, x: np.ndarray, i: int) -> Any:
        if g.ndim < 2 or not g.size:
            return g
        axes = tuple(range(1, g.ndim))
        mean = g.mean(axis=axes, keepdims=True)
        if not np.isfinite(mean).all():
            mean = (g / g[0].size).sum(axis=axes, keepdims=True)
        return g - mean


class GradientNoise(_Changing):
    def __init__(self, inner: Any, seed: int) -> None:
        super().__init__(inner)
        self.seed = seed

    def change(self, g: np.ndarray, x: np.ndarray, i: int) -> Any:
        key = np.array([self.seed, self.step_count], np.uint64)
        random = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, i]))
        size = math.sqrt(0.01 / (1 + self.step_count) ** 0.55)
        return like(real(g) + size * random.standard_normal(real(g).shape), g.dtype)


class AdaptiveClip(_Changing):
    def change(self, g: np.ndarray, x: np.ndarray, i: int) -> Any:
        axes = tuple(range(1, g.ndim)) if g.ndim > 1 else None

        def sizes(a: np.ndarray) -> Any:
            a = np.abs(a) if a.dtype.kind == "c" else a
            total = np.square(a, dtype=float).sum(axis=axes, keepdims=True)
            if ((total >= LEAST_SUM) & (total < math.inf)).all():
                return np.sqrt(total)
            top = np.abs(a.astype(float)).max(axis=axes, keepdims=True, initial=0)
            unit = np.ldexp(1.0, np.clip(np.frexp(top)[1], -1020, 1020))
            return unit * np.sqrt(np.square(a / unit).sum(axis=axes, keepdims=True))

        limit, size = 0.01 * np.maximum(sizes(x), 1e-3), sizes(g)
        factor = np.where(size > limit, limit / np.maximum(size, 1e-6), 1.0)
        factor = factor[..., None] if g.dtype.kind == "c" else factor
        return like(real(g) * factor, g.dtype)


class Mechanic(Wrapped):
    """Algorithm 1 of arXiv:2306.00144."""

    eps, decay, first = 1e-8, 0.01, 1e-6

    def __init__(self, inner: Any, count: int = 6) -> None:
        super().__init__(inner)
        self.betas = 1.0 - 0.1 ** np.arange(1, count + 1)
        self.numbers = {**{name: [0.0] * count for name in "mvr"}, "s": [self.first] * count}
        self.numbers["steps"] = 0
        self.arrays = {"start": [np.array(x) for x in self.points()]}

    def step(self, grads: Sequence[Any], loss: float | None = None) -> bool:
        flat = [None if g is None else np.array(real(g)) for g in whole(self, grads)]
        before = [np.array(real(x)) for x in self.points()]
        count = self.step_count
        moved = self.inner.step(grads, loss)
        if self.step_count == count:
            return moved
        n = self.numbers
        if n["steps"] == 0:
            for start, x in zip(self.arrays["start"], before, strict=True):
                real(start)[...] = x
        n["steps"] += 1
        with np.errstate(all="ignore"):
            self.rescale(flat, before, sum(n["s"]))
        return moved

    def rescale(self, flat: Sequence[Any], before: Sequence[np.ndarray], old: float) -> None:
        used = [i for i, g in enumerate(flat) if g is not None]
        if not used:
            return
        starts = [real(start) for start in self.arrays["start"]]
        gs, xs = [flat[i] for i in used], [before[i] for i in used]
        ahead = [(starts[i].astype(float) - before[i]) / (old + self.eps) for i in used]
        way = -1 if self.innermost.options.get("maximize") else 1
        pull = way * self.decay * (old * norm(gs, LEAST_SUM) / (norm(xs, LEAST_SUM) + self.eps))
        slopes = [g.astype(float) + pull * x for g, x in zip(gs, xs, strict=True)]
        gain = sum(float(np.vdot(a, b)) for a, b in zip(slopes, ahead, strict=True))
        if not math.isfinite(gain):
            one, two = (max(float(np.abs(p).max(initial=0)) for p in c) for c in (slopes, ahead))
            shares = (float(np.vdot(a / one, b / two)) for a, b in zip(slopes, ahead, strict=True))
            gain = 1e150 * sum(shares)
        scale = self.learn(way * float(np.clip(gain, -1e150, 1e150)))
        for i, delta in zip(used, ahead, strict=True):
            x = real(self.points()[i])
            x[...] = starts[i] - scale * (delta - (x.astype(float) - before[i]))

    def learn(self, h: float) -> float:
        s, m, v, r = (np.array(self.numbers[name]) for name in "smvr")
        r = self.betas * r + np.clip(h, -m, m) * s
        m = np.maximum(self.betas * m, abs(h) + self.eps)
        v = self.betas**2 * v + h * h
        s = (self.first / len(m) * m + np.maximum(r, 0.0)) / (np.sqrt(v) + self.eps)
        self.numbers.update(s=s.tolist(), m=m.tolist(), v=v.tolist(), r=r.tolist())
        return float(s.sum())


class Project(Wrapped):
    """Onto a box."""

    def __init__(self, inner: Any, low: float, high: float) -> None:
        super().__init__(inner)
        self.low, self.high = low, high

    def step(self, grads: Sequence[Any], loss: float | None = None) -> bool:
        moved = self.inner.step(grads, loss)
        for x in self.points():
            x[...] = np.clip(widened(x), self.low, self.high)
        return moved


class SAM(Wrapped):
    """Takes a function of the points; see `model_step` of the programs."""

    rho = 0.05

    def ascend(self, function: Callable[[Sequence[np.ndarray]], Any]) -> bool:
        loss, grads = function(self.points())
        pairs = [(widened(real(g)), i) for i, g in enumerate(grads) if g is not None]
        if not all(np.isfinite(g).all() for g, _ in pairs):
            return self.inner.step(grads, loss)
        top = max((float(np.abs(g).max(initial=0)) for g, _ in pairs), default=0.0)
        ways = [np.ldexp(g, -math.frexp(top)[1]) for g, _ in pairs]
        size = norm(ways, LEAST_SUM)
        there = [np.array(x) for x in self.points()]
        for way, (_, i) in zip(ways, pairs, strict=True):
            x = real(there[i])
            x += ((self.rho / size if size else 0.0) * way).astype(x.dtype)
        return self.inner.step(function(there)[1], loss)

"""Slopes of the loss along directions, beside what the gradients on the way say they are.

Along a direction v, with x- = x - h v and x+ = x + h v::

    slope     = (L(x+) - L(x-)) / 2h
    predicted = (g(x-) + 4 g(x) + g(x+)) . v / 6

Simpson's rule over the function's own gradients takes away what central differences leave out, so
that h may be large where the loss is noisy or of low precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.gradients.audit import ROUNDED, Audit, Base, digit, norm, wide
from stepsize.gradients.calls import Answer, Calls

SIGMAS = 4.0  # of rounding noise that an error bar covers
SIGMAS_FEW = 6.0  # the same for noise estimated from `REPEATS` calls
REPEATS = 8  # calls at each point where the loss is noisy
POOLED = 24  # times that one direction is measured before its slope counts as hidden by noise
HOPEFUL = 4  # of them, after which it shows whether all would be enough
CURVE = 0.36  # of the second difference of slopes; a third of it is exact for a kink
LARGEST = 0.5  # step, in units of the leaf's scale, or of all leaves' where that is larger
JUMP = 2 / 3  # of a jump between two points, the most that Simpson's rule may be off by there
CLOSE = 32  # cells in which a step is cut before a mismatch counts: two kinks may lie side by side
LEVELS = (8.0, 1 / 8, 64.0, 1 / 64)  # other steps at which a mismatch must be there as well
FLOORS = {8: 1e-5, 4: 1e-3, 2: 5e-2}  # relative mismatch that passes, by bytes of a number
STARTS = {8: 1e-4, 4: 1e-2, 2: 0.2}  # first step in units of the leaf's scale

Look = Callable[[list[Array], Array, list[Array]], dict[str, Any]]


@dataclass(frozen=True)
class Probe:
    """One direction: the slope of the loss, that of the gradients, and what may part them."""

    base: str
    t: float
    h: float
    slope: float
    products: Any  # of gradient and direction, at x-, x, x+
    noise: float  # of slope and products, its error bar
    floor: float  # the mismatch that passes
    size: float  # what the mismatch is measured against
    features: dict[str, Any]
    finer: tuple[float, float] | None = None  # prediction and error by nine points on the way

    @property
    def predicted(self) -> float:
        if self.finer is not None:
            return self.finer[0]
        low, mid, high = self.products
        return float(low + 4 * mid + high) / 6

    @property
    def residual(self) -> float:
        return self.slope - self.predicted

    @property
    def curve(self) -> float:
        if self.finer is not None:
            return self.finer[1]
        return CURVE * abs(float(second(self.products)))

    @property
    def bar(self) -> float:
        return self.noise + self.curve + self.floor

    @property
    def off(self) -> bool:
        return abs(self.residual) > self.bar


def second(products: Any) -> Any:
    """The second difference of three values."""
    return products[0] - 2 * products[1] + products[2]


def mean_of(probes: Sequence[Probe]) -> Probe:
    """One probe of several with the same direction and step, of which chance is the difference."""
    n = len(probes)
    return replace(
        probes[0],
        slope=float(np.mean([p.slope for p in probes])),
        products=np.mean([p.products for p in probes], axis=0),
        noise=math.sqrt(sum(p.noise**2 for p in probes)) / n,
        size=float(np.mean([p.size for p in probes])),
        floor=float(np.mean([p.floor for p in probes])),
    )


def _simpson(products: list[float]) -> float:
    """The mean over an interval, from an odd number of points in equal distances."""
    weights = np.ones(len(products))
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return float(weights @ products / weights.sum())


class Prober:
    """Measures slopes of one function, with steps that fit noise and curvature."""

    def __init__(self, calls: Calls, audit: Audit, tolerance: float | None, seed: int) -> None:
        self.calls, self.audit = calls, audit
        self.rng = np.random.default_rng((seed, 1))
        self._tolerance = tolerance
        self._steps: dict[Any, float] = {}

    def floor(self, leaf: Array) -> float:
        return FLOORS[leaf.dtype.itemsize] if self._tolerance is None else self._tolerance

    def random(self, leaf: Array) -> Array:
        """A direction whose elements have the size 1 in the root mean square."""
        v = self.rng.standard_normal(leaf.shape)
        # Of few numbers all may be small by chance, and noise would hide the slope.
        return v * (math.sqrt(v.size) / (norm(v) or 1.0))

    def largest(self, i: int) -> float:
        """The longest step of a leaf: numbers near 0 may have the range of the others."""
        return LARGEST * max(1.0, self.audit.whole / self.audit.scales[i])

    def along(self, gradient: Array) -> Array | None:
        """The direction of a gradient, of that length; None where it has none."""
        g = wide(gradient)
        top = float(np.abs(g).max(initial=0.0))
        if not top:
            return None
        return g / top * (math.sqrt(g.size) / norm(g / top))

    def measure(
        self, base: Base, i: int, v: Array, t: float, look: Look | None = None
    ) -> Probe | None:
        """The probe with this step, or None where the function is not defined there."""
        leaf, h = base.point[i], t * self.audit.scales[i]
        up = (wide(leaf) + h * v).astype(leaf.dtype)
        down = (wide(leaf) - h * v).astype(leaf.dtype)
        moved = (wide(up) - wide(down)) / (2 * h)
        if not moved.any() or not np.isfinite(moved).all():
            return None
        repeats = REPEATS if self.audit.hidden else 1
        sums: list[Any] = [0.0, 0.0, 0.0]
        slopes, residuals = [], []
        step = base.step
        for _ in range(repeats):
            answers = self._three(base, i, down, up)
            if answers is None:
                return None
            grads = [wide(a.grads[i]) for a in answers]  # type: ignore[arg-type]
            slopes.append((answers[2].loss - answers[0].loss) / (2 * h))
            low, mid, high = (float(np.vdot(g, moved)) for g in grads)
            residuals.append(slopes[-1] - (low + 4 * mid + high) / 6)
            sums = [s + g for s, g in zip(sums, grads, strict=True)] if repeats > 1 else grads
            if base.step:
                furthest = max(abs(answers[0].loss), abs(answers[2].loss))
                step = max(step, digit(self.calls, furthest))
        nodes = [s / repeats for s in sums] if repeats > 1 else sums
        products = np.array([float(np.vdot(g, moved)) for g in nodes])
        if not np.isfinite(products).all() or not np.isfinite(slopes).all():
            return None
        share = norm(moved) / math.sqrt(moved.size)  # 1, or less where few elements move
        unseen = max(base.noise, ROUNDED * step)
        noise = SIGMAS * (unseen / (math.sqrt(2) * h) + base.grad_noise[i] * share)
        if repeats > 1:
            noise = SIGMAS_FEW * float(np.std(residuals, ddof=1)) / math.sqrt(repeats)
        size = max(norm(nodes[1]) * share, *map(abs, products))
        points = [wide(down), wide(leaf), wide(up)]
        features = look(nodes, moved, points) if look is not None else {}
        return Probe(
            base.name, t, h, float(np.mean(slopes)), products, noise,
            self.floor(leaf) * size, size, features,
        )  # fmt: skip

    def pooled(self, base: Base, i: int, v: Array, share: float) -> Probe | None:
        """One direction again and again, until its error bar is a share of the gradient, or never.

        Given up early where `POOLED` times would not do.
        """
        t = self._steps.get((base.name, i, "random"), self.largest(i))
        probes: list[Probe] = []
        whole: Probe | None = None
        while len(probes) < POOLED:
            one = self.measure(base, i, v, t)
            if one is None:
                return None
            probes.append(one)
            whole = mean_of(probes)
            excess = whole.bar / (share * max(whole.size, abs(whole.slope), 1e-300))
            if excess <= 1:
                break
            if len(probes) == HOPEFUL and excess**2 * HOPEFUL > 2 * POOLED:
                break
        if whole is None or not whole.off:
            return whole
        # Two kinks between three points of the way are no mismatch.
        return self.refined(base, i, v, whole)

    def _three(self, base: Base, i: int, down: Array, up: Array) -> list[Answer] | None:
        """The answers at both ends and in the middle."""
        ends: list[Answer] = []
        for end in (down, up):
            point = list(base.point)
            point[i] = end
            answer = self.calls.near(point)
            if answer is None:
                return None
            ends.append(answer)
        middle = self.calls.near(base.point) if self.audit.hidden else base.answer
        return None if middle is None else [ends[0], middle, ends[1]]

    def probe(
        self, base: Base, i: int, v: Array, kind: str = "random", look: Look | None = None
    ) -> Probe | None:
        """The probe with the step at which its error bar is smallest, or near it."""
        leaf = base.point[i]
        first = STARTS[leaf.dtype.itemsize]
        if self.audit.hidden:
            first = 0.2
        if kind == "gradient":
            # All elements act together there, and the loss changes by their number more.
            first = max(first / math.sqrt(leaf.size), first / 1000)
        t = self._steps.get((base.name, i, kind), first)
        best: Probe | None = None
        for _ in range(6):
            found = self.measure(base, i, v, t, look)
            if found is None:
                t /= 8
                continue
            if best is None or found.bar < best.bar:
                best = found
            noise, curve = found.noise, found.curve
            if max(noise, curve) <= 0.3 * found.floor:
                break
            wanted = t * float(np.clip((noise / max(curve, 1e-300)) ** (1 / 3), 1 / 30, 30))
            wanted = min(wanted, self.largest(i))
            if 0.25 < wanted / t < 4:
                break
            t = wanted
        if best is not None:
            self._steps[base.name, i, kind] = best.t
        return best

    def settled(self, base: Base, i: int, v: Array, kind: str = "random") -> Probe | None:
        """A probe whose mismatch, if there is one, is there with other steps too.

        A mismatch that grows as the step shrinks is noise that was not foreseen, as of single
        precision inside the function, and becomes part of the error bar.
        """
        found = self.probe(base, i, v, kind)
        for _ in range(4):
            if found is None or not found.off:
                return found
            found = self.refined(base, i, v, found) or found
            if not found.off:
                return found
            better = self._at_other_steps(base, i, v, found)
            if better is None:
                return self.refined(base, i, v, found, CLOSE) or found
            if not better.off:
                return better
            base.noise = max(base.noise, abs(found.residual) * found.h)
            self._steps.pop((base.name, i, kind), None)
            found = self.probe(base, i, v, kind)
        return (
            None if found is None else replace(found, noise=max(found.noise, abs(found.residual)))
        )

    def refined(self, base: Base, i: int, v: Array, found: Probe, cells: int = 8) -> Probe | None:
        """The same step with more points on the way: kinks between three may cancel by chance."""
        leaf = base.point[i]
        slopes, rules, lines = [], [], []
        repeats = REPEATS if self.audit.hidden and cells == 8 else 1
        for _ in range(repeats):
            products, losses = [], []
            for fraction in np.linspace(-1, 1, cells + 1):
                point = list(base.point)
                point[i] = (wide(leaf) + fraction * found.h * v).astype(leaf.dtype)
                answer = self.calls.near(point)
                if answer is None:
                    return None
                products.append(float(np.vdot(wide(answer.grads[i]), v)))  # type: ignore[arg-type]
                losses.append(answer.loss)
            slopes.append((losses[-1] - losses[0]) / (2 * found.h))
            rules.append([_simpson(products[::step]) for step in (1, 2, 4)])
            lines.append(products)
        fine, middle, coarse = np.mean(rules, axis=0)
        slope, noise = float(np.mean(slopes)), found.noise
        if repeats > 1:
            rests = np.array(slopes) - np.array(rules)[:, 0]
            noise = SIGMAS_FEW * float(np.std(rests, ddof=1)) / math.sqrt(REPEATS)
        elif self.audit.hidden:
            slope = found.slope  # the mean of more calls
        # Rules of fewer points may agree by chance; a jump between two points is not known better.
        jumps = norm(np.diff(np.mean(lines, axis=0), 2)) * JUMP / cells
        error = max(2 * abs(fine - middle) + abs(middle - coarse) / 4, jumps)
        return replace(found, slope=slope, noise=noise, finer=(float(fine), float(error)))

    def _at_other_steps(self, base: Base, i: int, v: Array, found: Probe) -> Probe | None:
        """A probe with another step at which most of the mismatch is gone, or None."""
        for factor in LEVELS:
            t = found.t * factor
            if t > self.largest(i):
                continue
            other = self.measure(base, i, v, t)
            if other is None or other.noise + other.curve > abs(found.residual) / 3:
                continue
            if abs(other.residual) < abs(found.residual) / 3:
                return other
        return None

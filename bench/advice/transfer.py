"""How good are settings that `transfer` moves to another batch size, length and width?

    python bench/advice/transfer.py [--seeds N]

Six networks, SGD with momentum and AdamW, rates that fall linearly to 0. The best rate of a grid at
the base (batch 16, 400 updates, 32 hidden units) is moved to each target by `transfer`, by
`scale_lr` alone, and not at all. Regret is (loss - best) / (start - best) after the training, with
best the lowest mean over the grid at the target and over all that was moved; 1 where it diverged.
Prints a row per target and rule: median and share of at most 0.05 of each, and the exponent of the
best rate, for one factor of change, that the grids have.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import models
import numpy as np
from tasks.data import bundled, standard

import stepsize as ss

BATCH, STEPS, WIDTH = 16, 400, 32
TARGETS = {  # (batch, steps, width) in multiples of the base
    "batch x1/4": (0.25, 4.0, 1),
    "batch x4": (4.0, 0.25, 1),
    "batch x16": (16.0, 0.0625, 1),
    "length x3": (1.0, 3.0, 1),
    "length x10": (1.0, 10.0, 1),
    "width x2": (1.0, 1.0, 2),
    "width x4": (1.0, 1.0, 4),
}
RULES = {
    "momentum": (ss.SGD, {"momentum": 0.9}, 0.05),
    "AdamW": (ss.AdamW, {"weight_decay": 0.1}, 0.01),
}
FACTORS = tuple(2.0**k for k in range(-4, 4))  # of the middle of the grid, for each rule

Data = tuple[np.ndarray, np.ndarray]


def tasks() -> dict[str, tuple[Data, Any]]:
    """Data, and the network of a width."""
    digits, cancer, diabetes = bundled("digits"), bundled("breast_cancer"), bundled("diabetes")
    x = standard(digits[0])
    rng = np.random.default_rng(7)
    points = rng.normal(size=(1000, 8)).astype(np.float32)
    waves = (np.sin(points[:, :3].sum(axis=1)) + 0.1 * rng.normal(size=1000)).astype(np.float32)
    target = ((diabetes[1] - diabetes[1].mean()) / diabetes[1].std()).astype(np.float32)
    few = (x[::4], digits[1][::4])
    soft, square = models.softmax_head, models.square_head
    return {
        "digits-tanh": ((x, digits[1]), lambda n: models.mlp([64, n, n, 10], soft)),
        "digits-relu": ((x, digits[1]), lambda n: models.mlp([64, n, n, 10], soft, "relu")),
        "digits-few": (few, lambda n: models.mlp([64, n, n, n, 10], soft, "relu")),
        "cancer": (
            (standard(cancer[0]), cancer[1]),
            lambda n: models.mlp([30, n, n, 1], models.logistic_head, "relu"),
        ),
        "diabetes": ((standard(diabetes[0]), target), lambda n: models.mlp([10, n, n, 1], square)),
        "waves": ((points, waves), lambda n: models.mlp([8, n, n, 1], square, "relu")),
    }


class Case:
    """A task and an optimizer at one target."""

    def __init__(self, data: Data, network: Any, rule: str, target: tuple[float, ...]) -> None:
        self.data, self.cls = data, RULES[rule][0]
        self.batch, self.steps = round(BATCH * target[0]), max(1, round(STEPS * target[1]))
        self.init, self.value_and_grad = network(round(WIDTH * target[2]))

    def start(self, seed: int) -> Any:
        return self.init(np.random.default_rng(seed))

    def loss(self, params: Any) -> float:
        return self.value_and_grad(params, self.data)[0]

    def end(self, settings: dict[str, Any], init: dict[str, float], seed: int) -> float:
        """The loss over all data after the training."""
        params = self.start(seed)
        for leaf, factor in init.items():
            params[leaf] *= np.float32(factor)
        optimizer = self.cls(params, **settings)
        rng, size = np.random.default_rng(1000 + seed), len(self.data[0])
        order = rng.permutation(size)
        with np.errstate(all="ignore"):
            for _ in range(self.steps):
                if len(order) < self.batch:
                    order = rng.permutation(size)
                rows, order = order[: self.batch], order[self.batch :]
                try:
                    grads = self.value_and_grad(params, tuple(a[rows] for a in self.data))[1]
                    optimizer.step(grads)
                except ss.NonFiniteGradientError:
                    return math.inf
            loss = self.loss(params)
        return loss if math.isfinite(loss) else math.inf

    def mean(self, settings: dict[str, Any], init: dict[str, float], seeds: int) -> float:
        return float(np.mean([self.end(settings, init, seed) for seed in range(seeds)]))

    def schedule(self, lr: float) -> ss.Schedule:
        return ss.schedules.linear(lr, 0.0, self.steps)

    def curve(self, rule: str, seeds: int) -> list[tuple[float, float]]:
        """Rates of the grid, and where they end."""
        _, others, middle = RULES[rule]
        rates = [middle * f for f in FACTORS]
        return [(r, self.mean({"lr": self.schedule(r), **others}, {}, seeds)) for r in rates]


def peak(curve: list[tuple[float, float]]) -> float:
    """The best rate, by a parabola through the lowest point of the grid and its neighbours."""
    k = min(range(len(curve)), key=lambda i: curve[i][1])
    rate = curve[k][0]
    if not 0 < k < len(curve) - 1 or not math.isfinite(curve[k + 1][1]):
        return rate
    left, low, right = (curve[i][1] for i in (k - 1, k, k + 1))
    bend = left - 2 * low + right
    return rate * 2 ** (0.5 * (left - right) / bend) if bend > 0 else rate


def moved(rule: str, case: Case, lr: float, target: tuple[float, ...], base: Any) -> dict[str, Any]:
    """Settings and factors on initial values, by way of moving."""
    cls, others, _ = RULES[rule]
    settings = {"lr": ss.schedules.linear(lr, 0.0, STEPS), **others}
    by_rate = ss.scale_lr(lr, 1, target[0], rule="linear" if cls is ss.SGD else "sqrt")
    whole = ss.transfer(
        settings,
        batch=(BATCH, case.batch),
        steps=(STEPS, case.steps),
        width=(base.start(0), case.start(0)),
        rule=cls,
    )
    kept = ss.transfer(
        settings,
        batch=(BATCH, case.batch),
        steps=(STEPS, case.steps),
        width=(base.start(0), case.start(0)),
        rule=cls,
        horizon=0.0,
    )
    return {
        "transfer": (whole.settings, whole.init),
        "horizon=0": (kept.settings, kept.init),
        "scale_lr": ({"lr": case.schedule(by_rate), **others}, {}),
        "nothing": ({"lr": case.schedule(lr), **others}, {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    seeds = parser.parse_args().seeds
    regrets: dict[tuple[str, str, str], list[float]] = {}
    exponents: dict[tuple[str, str], list[float]] = {}
    for name, (data, network) in tasks().items():
        for rule in RULES:
            base = Case(data, network, rule, (1.0, 1.0, 1))
            lr = peak(base.curve(rule, seeds))
            for label, target in TARGETS.items():
                case = Case(data, network, rule, target)
                curve = case.curve(rule, seeds)
                ends = {
                    way: case.mean(*pair, seeds)
                    for way, pair in moved(rule, case, lr, target, base).items()
                }
                best = min([loss for _, loss in curve] + list(ends.values()))
                start = float(np.mean([case.loss(case.start(seed)) for seed in range(seeds)]))
                for way, loss in ends.items():
                    regret = min(1.0, (loss - best) / (start - best))
                    regrets.setdefault((rule, label, way), []).append(regret)
                change = next(t for t in target if t != 1)
                found = math.log(peak(curve) / lr) / math.log(change)
                exponents.setdefault((rule, label), []).append(found)
                row = ", ".join(f"{w} {regrets[rule, label, w][-1]:.3f}" for w in ends)
                print(f"{name} {rule} {label}: exponent {found:+.2f}; {row}", flush=True)
    print()
    for (rule, label), found in exponents.items():
        row = [f"{rule}, {label}"]
        for way in ("transfer", "horizon=0", "scale_lr", "nothing"):
            values = np.array(regrets[rule, label, way])
            row.append(f"{np.median(values):.3f}, {(values <= 0.05).sum()} of {len(values)}")
        print(" | ".join([*row, f"{np.median(found):+.2f}"]))


if __name__ == "__main__":
    main()

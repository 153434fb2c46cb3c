"""Rules of two passes beside optax (jitted, donated), and elementwise ones beside a triad.

    python bench/compare_rules.py [--threads N] [--rules NAME ...]

At 10 million float32 elements. Times beside optax are medians of alternating runs, as in
compare_peers.py, and kept in bench/results/compare_rules.md. The share is that of the rule's bytes
a second in those of ``x -= s * g`` at neighbouring moments: parameter and state read and written,
the gradient and the starting point read.
"""

import argparse
import os
import statistics

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

import compare_peers as peers
import stepsize as ss

SIDE = 3162  # of the matrices for the rules that see matrices
READ_ONLY = {"x0", "start"}


def optax_rules() -> dict[str, object]:
    import optax

    return {
        "Adafactor": optax.adafactor(1e-2),
        "DoG": optax.contrib.dog(1.0),
        "DoWG": optax.contrib.dowg(1.0),
        "LAMB": optax.lamb(1e-3),
        "LARS": optax.lars(1e-3),
        "Prodigy": optax.contrib.prodigy(),
        "SM3": optax.sm3(1e-2),
    }


def arrays(cls: type) -> tuple[np.ndarray, np.ndarray]:
    shape = (SIDE, SIDE) if cls.shaped else (10_000_000,)
    random = np.random.default_rng(0)
    x, g = (random.standard_normal(shape, np.float32) for _ in range(2))
    return x, g * np.float32(0.1)


def ours(cls: type) -> peers.Contestant:
    x, g = arrays(cls)
    optimizer = cls(x, on_nonfinite="ignore")
    return peers.Contestant(lambda: optimizer.step(g), lambda: x)


def theirs(cls: type, rule: object) -> peers.Contestant:
    import jax
    import optax

    def update(x, state, g):
        change, state = rule.update(g, state, x)
        return optax.apply_updates(x, change), state

    jitted = jax.jit(update, donate_argnums=(0, 1))
    x, g = map(jax.numpy.asarray, arrays(cls))
    state = jax.jit(rule.init)(x)

    def step() -> None:
        nonlocal x, state
        x, state = jitted(x, state, g)
        jax.block_until_ready(x)

    return peers.Contestant(step, lambda: np.asarray(x))


def share_of_triad(cls: type, rounds: int = 9) -> tuple[float, float]:
    """Milliseconds of a step, and its share of the bandwidth of a triad."""
    x, g = arrays(cls)
    optimizer, triad = cls(x, on_nonfinite="ignore"), ss.SGD(x.copy(), on_nonfinite="ignore")
    slots = optimizer.state["params"]
    moved = 4 * (3 + sum(1 if name in READ_ONLY else 2 for name in slots))
    optimizer.step(g)
    times, shares = [], []
    for _ in range(rounds):
        times.append(peers.seconds(lambda: optimizer.step(g), 2))
        shares.append(moved / times[-1] / (12 / peers.seconds(lambda: triad.step(g), 2)))
    return statistics.median(times) * 1e3, statistics.median(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rules", nargs="+")
    args = parser.parse_args()
    ss.set_num_threads(args.threads)
    chosen = [c for c in ss.optimizers.registry() if not args.rules or c.__name__ in args.rules]
    print("| rule | stepsize | optax | ratio |\n|---|---|---|---|")
    for cls in chosen:
        rule = optax_rules().get(cls.__name__)
        if rule is not None:
            found = peers.compare(ours(cls), theirs(cls, rule), 0.1, 9)
            mine, other = (peers.readable(found[f"{side}_us"]) for side in ("ours", "theirs"))
            print(f"| {cls.__name__} | {mine} | {other} | {found['ratio']:.3g}x |", flush=True)
    print("\n| rule | step | share of triad |\n|---|---|---|")
    for cls in chosen:
        if cls.accelerated and cls.scope is None and not cls.shaped:
            step, share = share_of_triad(cls)
            print(f"| {cls.__name__} | {step:.3g} ms | {share:.2f} |", flush=True)


if __name__ == "__main__":
    main()

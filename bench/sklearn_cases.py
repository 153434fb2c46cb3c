"""MLPRegressor and MLPClassifier beside scikit-learn's, on random tables: rows, batch size, scale
and offset of the target, correlation of the features.

    python bench/sklearn_cases.py [cases] [--states N] [--same-order]

Both are trained with the same arguments at N random states (2). A fit is worse where its score on
the training rows is lower by more than 0.02; for each such pair it is told whether there was a
ConvergenceWarning. The lines at the end:

* the same random_state: both draw the same weights and the same order of the rows, so that a
  difference is one of the estimators;
* another random_state: a difference may be the luck of the draw. How much that is, the line of
  scikit-learn against itself says: it is the most that any other estimator can reach;
* means over N / 2 random states against those over the other N / 2, where N is at least 4: the same
  question with less luck in it.

`--same-order` trains with shuffle=False.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import stepsize.interop.sklearn as sk

MARGIN = 0.02
PAIRS = ((MLPRegressor, sk.MLPRegressor), (MLPClassifier, sk.MLPClassifier))


def case(seed: int) -> tuple[bool, dict[str, Any], Any, Any]:
    """Whether it is a classification, the arguments, and the table."""
    random = np.random.default_rng(seed)
    rows, features = int(random.integers(40, 600)), int(random.integers(1, 12))
    correlation = random.uniform(0, 0.95)
    shared = random.normal(size=(rows, 1))
    x = np.sqrt(1 - correlation) * random.normal(size=(rows, features))
    x += np.sqrt(correlation) * shared
    signal = np.tanh(x @ random.normal(size=features)) + 0.3 * random.normal(size=rows)
    classify = bool(seed % 2)
    if classify:
        cuts = np.quantile(signal, [0.3, 0.7] if seed % 4 == 3 else [0.5])
        y = np.digitize(signal, cuts)
    else:
        scale = 10 ** random.uniform(-1, 2)
        y = scale * signal + scale * random.choice([0.0, 1.0, 10.0]) * random.normal()
    arguments = {
        "hidden_layer_sizes": (int(random.choice([5, 10, 20])),),
        "solver": str(random.choice(["adam", "adam", "sgd", "lbfgs"])),
        "learning_rate_init": float(random.choice([1e-3, 1e-2])),
        "batch_size": min(rows, int(random.choice([8, 32, 64, 200]))),
        "early_stopping": bool(random.random() < 0.2),
        "max_iter": 150,
        "random_state": seed,
    }
    return classify, arguments, x, y


def fitted(cls: Any, arguments: dict[str, Any], x: Any, y: Any) -> tuple[float, bool, str]:
    """The score, whether it was warned, and what was raised."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            score = float(cls(**arguments).fit(x, y).score(x, y))
        except ValueError as error:
            return -np.inf, True, str(error)
    return score, any(issubclass(w.category, ConvergenceWarning) for w in caught), ""


def scores_of(cases: int, states: int, same_order: bool) -> tuple[Any, Any]:
    """Scores of scikit-learn and of ours, (2, cases, states), and whether each was warned."""
    scores, warned = np.empty((2, cases, states)), np.zeros((2, cases, states), bool)
    for seed in range(cases):
        classify, arguments, x, y = case(seed)
        if same_order:
            arguments["shuffle"] = False
        for k in range(states):
            arguments["random_state"] = seed + 1000 * k
            for side, cls in enumerate(PAIRS[classify]):
                scores[side, seed, k], warned[side, seed, k], _ = fitted(cls, arguments, x, y)
            theirs, ours = scores[:, seed, k]
            if worse(ours, theirs):
                shown = ", ".join(f"{name}={value}" for name, value in arguments.items())
                said = "warned" if warned[1, seed, k] else "SILENT"
                print(
                    f"{seed}: {len(y)} rows, {shown}: {ours:.3f}, theirs {theirs:.3f}, {said}",
                    flush=True,
                )
    return scores, warned


def worse(score: Any, reference: Any) -> Any:
    """Whether a score is lower by more than the margin."""
    return score < reference - MARGIN


def line(what: str, scores: Any, reference: Any, warned: Any = None) -> None:
    """One line of the summary."""
    lost = worse(scores, reference)
    silent = "" if warned is None else f", {(lost & ~warned).sum()} worse without a warning"
    share = 100 * (1 - lost.mean())
    print(f"{what}: {share:.1f}% of {lost.size} not worse by {MARGIN}{silent}")


def main(cases: int, states: int, same_order: bool) -> None:
    scores, warned = scores_of(cases, states, same_order)
    theirs, ours = scores
    line("the same random_state", ours, theirs, warned[1])
    if states > 1:
        others, said = np.roll(scores, 1, axis=2), np.roll(warned, 1, axis=2)
        line("another random_state", others[1], theirs, said[1])
        line("scikit-learn against itself", others[0], theirs, said[0])
    if states >= 4:
        half = states // 2
        reference = theirs[:, :half].mean(axis=1)
        other, itself = scores[::-1, :, half : 2 * half].mean(axis=2)
        line(f"means of {half} random states", other, reference)
        line(f"scikit-learn against itself, means of {half}", itself, reference)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="?", type=int, default=200)
    parser.add_argument("--states", type=int, default=2)
    parser.add_argument("--same-order", action="store_true")
    given = parser.parse_args()
    main(given.cases, given.states, given.same_order)

"""MLPRegressor and MLPClassifier beside scikit-learn's, on random tables: rows, batch size, scale
and offset of the target, correlation of the features.

    python bench/sklearn_cases.py [cases] [--same-order]

Both are trained with the same arguments; they differ in the order of the rows, unless it is the
same. A case is worse where the score on the training rows is lower by more than 0.02. For each such
case it is told whether there was a ConvergenceWarning. The last line has the share of cases that
are not worse, and, since orders are drawn at random, how often scikit-learn is the worse one.
"""

from __future__ import annotations

import sys
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


def main(cases: int, same_order: bool) -> None:
    worse = silent = better = 0
    for seed in range(cases):
        classify, arguments, x, y = case(seed)
        if same_order:
            arguments["shuffle"] = False
        theirs, ours = (fitted(cls, arguments, x, y) for cls in PAIRS[classify])
        better += ours[0] > theirs[0] + MARGIN
        if ours[0] >= theirs[0] - MARGIN:
            continue
        worse += 1
        silent += not ours[1]
        shown = ", ".join(f"{name}={value}" for name, value in arguments.items())
        said = "warned" if ours[1] else "SILENT"
        print(
            f"{seed}: {len(y)} rows, {shown}: {ours[0]:.3f}, theirs {theirs[0]:.3f}, {said}",
            flush=True,
        )
    print(
        f"{cases - worse} of {cases} not worse by {MARGIN}, {silent} worse without a warning; "
        f"scikit-learn worse in {better}"
    )


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--same-order"]
    main(int(words[0]) if words else 200, "--same-order" in sys.argv)

"""The estimators beside scikit-learn's MLP: what both reach with the same budget, and how fast.

``python bench/bench_sklearn.py``. Both get the same rows, parameters, initial weights and epochs,
in alternating runs. Scores are means over splits, times medians of ratios. "same loss" is the
time until the training loss first reaches the worse of the two final losses. The rate that is
found learns fast, so it is measured with early stopping, which scikit-learn then uses too.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from stepsize.interop import sklearn as ours

DATA = {
    "digits": (load_digits, MLPClassifier, ours.MLPClassifier, 40),
    "breast cancer": (load_breast_cancer, MLPClassifier, ours.MLPClassifier, 100),
    "diabetes": (load_diabetes, MLPRegressor, ours.MLPRegressor, 200),
}


def rows_of(load, seed):
    """Rows to train and to test on, scaled; values to mean 0 and deviation 1."""
    x, y = load(return_X_y=True)
    y = y if y.dtype.kind == "i" else (y - y.mean()) / y.std()
    x, held, y, y_held = train_test_split(x, y, random_state=seed, test_size=0.25)
    scaler = StandardScaler().fit(x)
    return (scaler.transform(x), y), (scaler.transform(held), y_held)


def timed(model, train):
    """The seconds of a fit, and the loss after each epoch."""
    start = time.perf_counter()
    model.fit(*train)
    return time.perf_counter() - start, np.array(model.loss_curve_)


def compare(name, repeats, stopping, **more):
    """One line of the table."""
    load, theirs, mine, epochs = DATA[name]
    scores, ratios, to_loss = [], [], []
    for seed in range(repeats):
        train, held = rows_of(load, seed)
        same = {"max_iter": epochs, "random_state": seed}
        same |= stopping or {"tol": 0.0, "n_iter_no_change": epochs}
        models = theirs(**same), mine(**same, **more)
        (a, curve_a), (b, curve_b) = (timed(model, train) for model in models)
        goal = max(curve_a[-1], curve_b[-1])
        reach = [
            seconds * (np.argmax(curve <= goal) + 1) / len(curve)
            for seconds, curve in ((a, curve_a), (b, curve_b))
        ]
        scores.append([model.score(*held) for model in models])
        ratios.append(a / b)
        to_loss.append(reach[0] / reach[1])
    return (*np.mean(scores, axis=0), statistics.median(ratios), statistics.median(to_loss))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    variants = {
        "same rule": ({}, {}),
        'lr="auto"': ({"early_stopping": True, "validation_fraction": 0.2}, {"lr": "auto"}),
    }
    print("| data | variant | scikit-learn | stepsize | same budget | same loss |")
    print("| --- | --- | --: | --: | --: | --: |")
    for name in DATA:
        for variant, (stopping, more) in variants.items():
            a, b, budget, loss = compare(name, arguments.repeats, stopping, **more)
            print(f"| {name} | {variant} | {a:.4f} | {b:.4f} | {budget:.2f}x | {loss:.2f}x |")


if __name__ == "__main__":
    main()

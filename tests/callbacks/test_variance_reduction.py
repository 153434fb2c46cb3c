"""Variance-reduced gradients arrive where SGD at the same rate stalls, and resume bit for bit."""

import copy
import random

import numpy as np
import pytest

import stepsize as ss

N, D, L2 = 24, 3, 0.3
RNG = np.random.default_rng(11)
X = RNG.normal(size=(N, D))
TARGET = X @ RNG.normal(size=D) + RNG.normal(size=N)
LABEL = np.where(TARGET > 0, 1.0, -1.0)
RATE = 1 / (3 * ((X**2).sum(axis=1).max() + L2))
EPOCHS = 250


def ridge(w, batch):
    rows, y = batch[:2]
    off = rows @ w - y
    return float((off**2).mean() / 2 + L2 * (w @ w) / 2), rows.T @ off / len(y) + L2 * w


def logistic(w, batch):
    rows, y = batch[:2]
    margin = y * (rows @ w)
    slope = -y / (1 + np.exp(margin))
    loss = np.log1p(np.exp(-margin)).mean() + L2 * (w @ w) / 2
    return float(loss), rows.T @ slope / len(y) + L2 * w


SLOPES = {ridge: lambda z, y: z - y, logistic: lambda z, y: -y / (1 + np.exp(y * z))}
LABELS = {ridge: TARGET, logistic: LABEL}


def solution(function):
    """By Newton's method."""
    w, y = np.zeros(D), LABELS[function]
    for _ in range(30):
        p = 1 / (1 + np.exp(-(X @ w)))
        curve = np.ones(N) if function is ridge else p * (1 - p)
        hessian = (X.T * curve) @ X / N + L2 * np.eye(D)
        w = w - np.linalg.solve(hessian, function(w, (X, y))[1])
    assert np.abs(function(w, (X, y))[1]).max() < 1e-13
    return w


def uneven(y, sizes=(1, 2, 3, 4)):
    """Batches of different sizes, in which rows of a kind stand together."""
    order, found, at = np.argsort(y), [], 0
    while at < N:
        size = sizes[len(found) % len(sizes)]
        rows = order[at : at + size]
        found.append((X[rows], y[rows]))
        at += size
    return found


def shuffled(batches):
    source = random.Random(5)
    return lambda: source.sample(batches, len(batches))


def run(function, kind, **more):
    y, w = LABELS[function], np.zeros(D)
    train, callbacks = (X, y, np.arange(N)), []
    if kind == "SVRG":
        callbacks = [ss.SVRG(function, (X, y), every=2 * N, batch_size=7)]
    elif kind == "LinearSAGA":
        callbacks = [ss.LinearSAGA(SLOPES[function], X, y, l2=L2)]
    elif kind == "SAGA":
        batches = uneven(y)
        train, callbacks = shuffled(batches), [ss.SAGA(function, batches)]
    epochs = EPOCHS * (2 if kind == "SAGA" else 1)
    keywords = {"epochs": epochs, "batch_size": 1, "callbacks": callbacks, **more}
    optimizer = ss.SGD(w, lr=RATE * (0.5 if kind == "SAGA" else 1))
    ss.fit(function, w, optimizer, train, progress=False, **keywords)
    return w


@pytest.mark.parametrize("function", [ridge, logistic])
def test_at_a_constant_rate_they_arrive_where_sgd_stalls(function):
    goal = solution(function)
    assert np.abs(run(function, "plain") - goal).max() > 1e-3
    for kind in ("SVRG", "SAGA", "LinearSAGA"):
        assert np.abs(run(function, kind) - goal).max() < 1e-12, kind


def test_any_batch_size_and_rule_will_do():
    goal = solution(ridge)
    w = run(ridge, "LinearSAGA", batch_size=7)
    assert np.abs(w - goal).max() < 1e-6  # the rate of one row, a seventh of the steps
    w = np.zeros(D)
    svrg = ss.SVRG(ridge, uneven(TARGET), every=N)
    optimizer = ss.Lookahead(ss.SGD(w, lr=RATE, momentum=0.5))
    ss.fit(ridge, w, optimizer, (X, TARGET), batch_size=4, epochs=1000, callbacks=[svrg])
    assert np.abs(w - goal).max() < 1e-12


def test_over_all_draws_the_mean_is_the_full_gradient():
    """Without bias, for batches of different sizes, wherever the table is from."""
    start, there = RNG.normal(size=D), RNG.normal(size=D)
    batches = uneven(TARGET)
    full = ridge(there, (X, TARGET))[1]
    svrg, saga = ss.SVRG(ridge, batches, every=10), ss.SAGA(ridge, batches)
    linear = ss.LinearSAGA(SLOPES[ridge], X, TARGET, l2=L2)
    _, first = svrg(start, batches[0])
    np.testing.assert_allclose(first, ridge(start, (X, TARGET))[1], rtol=1e-12)
    saga(start, batches[0])
    linear(start, np.arange(3))
    kept = saga.state_dict(), linear.state_dict()
    draws = []
    for batch in batches:
        saga.load_state_dict(kept[0])
        draws.append(saga(there, batch)[1])
    np.testing.assert_allclose(np.mean(draws, axis=0), full, rtol=1e-11)
    draws = []
    for row in range(N):
        linear.load_state_dict(kept[1])
        draws.append(linear(there, np.array([row])))
    np.testing.assert_allclose(np.mean(draws, axis=0), full, rtol=1e-11)
    draws = [svrg(there, (X[i : i + 1], TARGET[i : i + 1]))[1] for i in range(5)]
    assert all(np.abs(g - full).max() < np.abs(g).max() * 100 for g in draws)


@pytest.mark.parametrize("kind", ["SVRG", "LinearSAGA"])
def test_a_resumed_run_is_the_same(kind, tmp_path):
    whole = run(ridge, kind, epochs=7)
    place = tmp_path / "run"

    def part(epochs):
        y, w = TARGET, np.zeros(D)
        callback = ss.SVRG(ridge, (X, y), every=2 * N, batch_size=7)
        if kind == "LinearSAGA":
            callback = ss.LinearSAGA(SLOPES[ridge], X, y, l2=L2)
        ss.fit(
            ridge, w, ss.SGD(w, lr=RATE), (X, y, np.arange(N)), batch_size=1, epochs=epochs,
            callbacks=[callback], checkpoint=place, resume=True, progress=False,
        )  # fmt: skip
        return w

    part(3)
    assert np.array_equal(part(7), whole)


def test_validation_is_of_the_function_and_changes_nothing():
    plain = run(ridge, "SVRG", epochs=5)
    assert np.array_equal(run(ridge, "SVRG", epochs=5, validation=(X, TARGET)), plain)


def test_what_cannot_work_is_refused():
    w, batches = np.zeros(D), uneven(TARGET)
    with pytest.raises(ValueError, match="SVRG: a step must be of one batch, got accumulate=2"):
        run(ridge, "SVRG", accumulate=2)
    with pytest.raises(ValueError, match="SAGA: the batch is none of batches"):
        ss.SAGA(ridge, batches)(w, (X, TARGET))
    with pytest.raises(ValueError, match="one stands there twice"):
        ss.SAGA(ridge, [batches[0], batches[0]])
    with pytest.raises(TypeError, match="SVRG: data must be a tuple of arrays or a list of"):
        ss.SVRG(ridge, iter(batches), every=3)
    linear = ss.LinearSAGA(SLOPES[ridge], X, TARGET)
    with pytest.raises(TypeError, match="LinearSAGA: rows must be numbers of rows"):
        linear(w, TARGET[:3])
    for rows in ([0, 0], [-1], [N]):
        with pytest.raises(ValueError, match="LinearSAGA: rows must be different numbers from 0"):
            linear(w, np.array(rows))
    with pytest.raises(ValueError, match="LinearSAGA: params must be one array"):
        linear({"w": w, "b": np.zeros(1)}, np.array([0]))
    with pytest.raises(ValueError, match="SVRG: value_and_grad must give the gradient of every"):
        ss.SVRG(lambda p, b: (0.0, [None]), batches, every=3)([w], batches[0])


def test_a_function_that_fails_changes_nothing():
    calls = []

    def fails(w, batch):
        calls.append(1)
        if len(calls) == 9:
            raise RuntimeError("ninth call")
        return ridge(w, batch)

    svrg = ss.SVRG(fails, uneven(TARGET), every=4)
    with pytest.raises(RuntimeError, match="ninth"):
        svrg(np.ones(D), (X, TARGET))
    assert svrg.state_dict() == {"steps": 0, "snapshot": None, "mean": None}


def linear():
    draw = np.random.default_rng(0)
    X = draw.standard_normal((6, 2))
    return X, X @ np.array([1.0, -2.0])


def test_a_state_is_not_changed_by_later_steps():
    X, y = linear()
    saga, w = ss.LinearSAGA(lambda z, y: z - y, X, y), np.zeros(2)
    optimizer = ss.SGD(w, lr=0.05)
    optimizer.step(saga(w, np.array([0])))
    state = saga.state_dict()
    before = state["kept"].tobytes()
    for row in range(6):
        optimizer.step(saga(w, np.array([row])))
    assert state["kept"].tobytes() == before


def test_labels_are_not_taken_for_numbers_of_rows():
    X, _ = linear()
    labels = np.array([0, 1, 0, 1, 0, 1])
    saga, w = ss.LinearSAGA(lambda z, y: z - y, X, labels), np.zeros(2)
    batch = (X[2:3], labels[2:3])
    with pytest.raises(ValueError, match="the last array of a batch must be the numbers"):
        saga.corrected(w, batch, w)
    assert saga.corrected(w, (X[2:3], labels[2:3], np.array([2])), w).shape == (2,)


def test_complex_data_are_refused():
    X, y = linear()
    with pytest.raises(TypeError, match="X and y must be real"):
        ss.LinearSAGA(lambda z, y: z - y, X + 1j, y)


@pytest.mark.parametrize("name", ["SAGA", "SVRG", "LinearSAGA"])
def test_a_gradient_that_is_not_finite_is_forgotten(name):
    X, y = linear()
    batches = [(X[k : k + 2], y[k : k + 2]) for k in (0, 2, 4)]

    def value_and_grad(w, batch):
        rest = batch[0] @ w - batch[1]
        return float(rest @ rest) / 2, batch[0].T @ rest / len(rest)

    w, lost = np.zeros(2), np.full(2, np.nan)
    if name == "LinearSAGA":
        made = ss.LinearSAGA(lambda z, y: z - y, X, y)
        made(w, np.array([1]))
        assert np.isnan(made(lost, np.array([0]))).any()
        assert np.isfinite(made(w, np.array([2]))).all()
        return
    made = (
        ss.SAGA(value_and_grad, batches)
        if name == "SAGA"
        else ss.SVRG(value_and_grad, batches, every=2)
    )
    made(w, batches[0])
    made(w, batches[1])
    assert np.isnan(made(lost, batches[2])[1]).any()
    assert np.isfinite(made(w, batches[0])[1]).all()


def test_a_copy_knows_its_own_batches_alone():
    X, y = linear()
    batches = [(X[:3], y[:3]), (X[3:], y[3:])]
    saga = ss.SAGA(lambda w, b: (0.0, b[0].T @ (b[0] @ w - b[1])), batches)
    twin, own = copy.deepcopy((saga, batches))
    assert twin(np.zeros(2), own[0])[1].shape == (2,)
    with pytest.raises(ValueError, match="none of batches"):
        twin(np.zeros(2), batches[0])

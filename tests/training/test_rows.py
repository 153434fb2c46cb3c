"""Unequal parts: means over an epoch, over validation data and over accumulated batches are means
over rows, and no array of the user's is kept or written to."""

import numpy as np
import pytest

import stepsize as ss
from fitting import bits

RNG = np.random.default_rng(3)
X = RNG.normal(size=(23, 2))
Y = X @ np.array([1.0, -2.0]) + RNG.normal(size=23)
ENDS = [[10, 23], [4, 8, 10, 23], [1, 22, 23], [23], [7, 14, 21, 23]]


def value_and_grad(params, batch):
    x, y = batch
    error = x @ params["w"] + params["b"] - y
    grads = {"w": 2 * x.T @ error / len(y), "b": np.array([2 * error.mean()])}
    return np.mean(error**2), grads


def make_params():
    return {"w": np.array([0.5, -0.25]), "b": np.array([0.1])}


def cut(ends):
    starts = [0, *ends[:-1]]
    return [(X[a:b], Y[a:b]) for a, b in zip(starts, ends, strict=True)]


class Seen:
    def on_epoch(self, run):
        self.metrics = dict(run.metrics)


@pytest.mark.parametrize("ends", ENDS)
def test_means_over_streams_weigh_rows_alike(ends):
    params, seen = make_params(), Seen()
    expected = value_and_grad(params, (X, Y))[0]
    opt = ss.SGD(params, lr=0.0)
    ss.fit(value_and_grad, params, opt, cut(ends), epochs=1, validation=cut(ends), callbacks=[seen])
    assert seen.metrics["loss"] == pytest.approx(expected, rel=1e-12)
    assert seen.metrics["val_loss"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ends", ENDS)
def test_accumulated_batches_make_the_step_over_their_rows(ends):
    params, whole = make_params(), make_params()
    options = {"epochs": 1, "progress": False}
    opt = ss.SGD(params, lr=0.1)
    ss.fit(value_and_grad, params, opt, cut(ends), accumulate=len(ends) + 1, **options)
    ss.fit(value_and_grad, whole, ss.SGD(whole, lr=0.1), [(X, Y)], **options)
    for name in params:
        np.testing.assert_allclose(params[name], whole[name], rtol=1e-12)


def test_batches_say_their_rows_themselves():
    """A graph has its nodes on the first axis of no array."""
    batches = [{"edges": np.zeros((7, 2)), "part": part} for part in cut([4, 8, 23])]

    def of_a_graph(params, batch):
        return value_and_grad(params, batch["part"])

    params, seen = make_params(), Seen()
    expected = value_and_grad(params, (X, Y))[0]
    opt = ss.SGD(params, lr=0.0)
    ss.fit(
        of_a_graph,
        params,
        opt,
        batches,
        epochs=1,
        validation=batches,
        count=lambda batch: len(batch["part"][1]),
        callbacks=[seen],
    )
    assert seen.metrics["loss"] == pytest.approx(expected, rel=1e-12)
    assert seen.metrics["val_loss"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("answer", [0, -1, np.nan, "many", None])
def test_rows_that_are_none_are_refused(answer):
    params = make_params()
    with pytest.raises((TypeError, ValueError), match="count must return"):
        ss.fit(
            value_and_grad,
            params,
            ss.SGD(params),
            cut([23]),
            epochs=1,
            accumulate=2,
            count=lambda batch: answer,
        )
    assert bits(params) == bits(make_params())


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_the_mean_of_an_epoch_survives_a_resume(tmp_path, stop):
    def run(path, *limits):
        for steps in limits:
            params, seen = make_params(), Seen()
            ss.fit(
                value_and_grad,
                params,
                ss.Adam(params, lr=0.1),
                (X, Y),
                batch_size=4,
                steps=steps,
                callbacks=[seen],
                checkpoint=ss.Checkpoint(path, every_epochs=None),
                resume=True,
            )
        return seen.metrics

    assert run(tmp_path / "parts", stop, 6) == run(tmp_path / "whole", 6)


def rows(function):
    """The gradients of ``w`` as rows."""

    def made(params, batch):
        loss, grads = function(params, batch)
        kept = grads["w"][:, None]
        return loss, {**grads, "w": ss.RowGradient([1, 0], kept[::-1])}

    return made


@pytest.mark.parametrize("ends", ENDS)
def test_gradients_of_rows_are_accumulated(ends):
    def function(params, batch):
        return value_and_grad({**params, "w": params["w"][:, 0]}, batch)

    def start():
        return {"w": np.array([[0.5], [-0.25]]), "b": np.array([0.1])}

    mixed = iter(range(10**6))

    def sometimes(params, batch):
        loss, grads = rows(function)(params, batch)
        if next(mixed) % 2:
            grads["w"] = function(params, batch)[1]["w"][:, None]
        return loss, grads

    def dense(params, batch):
        loss, grads = function(params, batch)
        return loss, {**grads, "w": grads["w"][:, None]}

    results = []
    for each in (dense, rows(function), sometimes):
        params = start()
        ss.fit(each, params, ss.SGD(params, lr=0.1), cut(ends), epochs=2, accumulate=3)
        results.append(params)
    for other in results[1:]:
        for name in other:
            np.testing.assert_allclose(other[name], results[0][name], rtol=1e-12)


def test_the_last_small_batch_can_be_left_out():
    sizes = []

    def function(params, batch):
        sizes.append(len(batch[1]))
        return value_and_grad(params, batch)

    params = make_params()
    history = ss.fit(
        function, params, ss.SGD(params), (X, Y), epochs=2, batch_size=4, drop_last=True
    )
    assert sizes == [4] * 10 and history["epoch"].tolist() == [0] * 5 + [1] * 5
    with pytest.raises(ValueError, match="drop_last=True leaves no batch of batch_size=24 in 23"):
        ss.fit(function, params, ss.SGD(params), (X, Y), epochs=1, batch_size=24, drop_last=True)
    with pytest.raises(ValueError, match="drop_last=True needs train as a tuple of arrays"):
        ss.fit(function, params, ss.SGD(params), cut([4, 23]), epochs=1, drop_last=True)


def test_a_generator_orders_repeated_runs_anew():
    def order(seed):
        firsts = []

        def function(params, batch):
            firsts.append(batch[1].tobytes())
            return value_and_grad(params, batch)

        params = make_params()
        for _ in range(3):
            ss.fit(function, params, ss.SGD(params), (X, Y), epochs=1, seed=seed)
        return firsts

    assert len(set(order(np.random.default_rng(0)))) == 3
    assert order(np.random.default_rng(0)) == order(np.random.default_rng(0))
    assert len(set(order(0))) == 1

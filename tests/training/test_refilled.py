"""Loaders that fill the same arrays again, one set or several in turn, give what fresh ones do."""

import dataclasses

import numpy as np
import pytest

import stepsize as ss

ROWS, SIZE = 160, 8
random = np.random.default_rng(3)
X = random.normal(size=(ROWS, 4))
Y = X @ np.arange(4.0) + random.normal(size=ROWS)


@dataclasses.dataclass
class Pair:
    x: np.ndarray
    y: np.ndarray


class Samples(list):
    """A container of its own."""


FORMS = {
    "array": (lambda x, y: np.column_stack([x, y]), lambda b: (b[:, :4], b[:, 4])),
    "tuple": (lambda x, y: (x, y), lambda b: b),
    "dict": (lambda x, y: {"y": y, "x": x, "name": "part"}, lambda b: (b["x"], b["y"])),
    "list": (lambda x, y: [x, [y]], lambda b: (b[0], b[1][0])),
    "dataclass": (Pair, lambda b: (b.x, b.y)),
    "own container": (lambda x, y: Samples([x, y]), lambda b: tuple(b)),
}


def arrays_of(batch):
    if isinstance(batch, np.ndarray):
        return [batch]
    if isinstance(batch, Pair):
        return [batch.x, batch.y]
    parts = batch.values() if isinstance(batch, dict) else batch
    if isinstance(batch, list | tuple | dict):
        return [array for part in parts for array in arrays_of(part)]
    return []


def loaders(form, buffers):
    """A loader of fresh batches, and one that fills so many sets of arrays in turn."""
    make = FORMS[form][0]

    def fresh():
        for k in range(0, ROWS, SIZE):
            yield make(X[k : k + SIZE].copy(), Y[k : k + SIZE].copy())

    held = [make(np.zeros((SIZE, 4)), np.zeros(SIZE)) for _ in range(buffers)]

    def refilled():
        for k, batch in enumerate(fresh()):
            own = held[k % buffers]
            for into, values in zip(arrays_of(own), arrays_of(batch), strict=True):
                into[...] = values
            yield own

    return fresh, refilled


def function_of(form):
    parts = FORMS[form][1]

    def value_and_grad(params, batch):
        x, y = parts(batch)
        off = x @ params - y
        return float(off @ off) / len(y), 2 * x.T @ off / len(y)

    return value_and_grad


def both(form, buffers, run):
    fresh, refilled = loaders(form, buffers)
    return run(fresh, function_of(form)), run(refilled, function_of(form))


@pytest.mark.parametrize("rule", [ss.Adam, lambda p: ss.SAM(ss.SGD(p, lr=0.01))])
@pytest.mark.parametrize("form", FORMS)
def test_accumulation_takes_each_batch_as_it_came(form, rule):
    for accumulate in (1, 2, 3, 4):
        for buffers in (1, 3):

            def run(loader, function, accumulate=accumulate):
                params = np.zeros(4)
                monitor = ss.SharpnessMonitor(function, every=4) if rule is ss.Adam else None
                history = ss.fit(
                    function,
                    params,
                    rule(params),
                    loader,
                    epochs=1,
                    accumulate=accumulate,
                    callbacks=[monitor] if monitor else [],
                    count=lambda batch: SIZE,
                )
                return params, history

            (one, first), (other, second) = both(form, buffers, run)
            assert one.tobytes() == other.tobytes(), (accumulate, buffers)
            assert first == second, (accumulate, buffers)


@pytest.mark.parametrize("buffers", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_tools_that_keep_batches_keep_them_as_they_came(form, buffers):
    def what_if(loader, function):
        params = np.zeros(4)
        return ss.what_if(
            function, params, ss.Adam(params, lr=0.01), loader, steps=5, held=6, memorise=0.1
        )

    one, other = both(form, buffers, what_if)
    assert one.before.tobytes() == other.before.tobytes() and one.apart == other.apart
    assert one.memorised == other.memorised
    for a, b in zip(one.branches, other.branches, strict=True):
        assert a.losses.tobytes() == b.losses.tobytes()

    def find(loader, function):
        return ss.lr_find(function, np.zeros(4), loader, progress=False)

    one, other = both(form, buffers, find)
    assert repr(one) == repr(other) and one.suggestion == other.suggestion


@pytest.mark.parametrize("buffers", [1, 2])
def test_autolr_and_diagnose_keep_batches_as_they_came(buffers):
    def auto(loader, function):
        params = np.zeros(4)
        plan = ss.autolr(function, params, loader, steps=60)
        return params, plan.history["loss"].tobytes()

    one, other = both("tuple", buffers, auto)
    assert one[0].tobytes() == other[0].tobytes() and one[1] == other[1]

    def monitored(loader, function):
        params = np.zeros(4)
        opt = ss.SGD(params, lr=1e-4)
        asked = ss.diagnose(
            {"loss": 2 + 0.01 * np.sin(np.arange(60.0)), "lr": np.full(60, 1e-4)},
            what_if=lambda: ss.what_if(function, params, opt, loader, steps=10),
        )
        return str(asked)

    one, other = both("tuple", buffers, monitored)
    assert one == other


def test_a_batch_that_comes_again_is_held_once_and_known_as_trained_on():
    def cycled():
        while True:
            for k in range(0, 32, SIZE):
                yield X[k : k + SIZE], Y[k : k + SIZE]

    params = np.zeros(4)
    opt = ss.SGD(params, lr=0.01)
    result = ss.what_if(function_of("tuple"), params, opt, cycled, steps=6, held=4)
    assert not result.apart


@pytest.mark.parametrize("buffers", [1, 2])
def test_validation_and_branches_inside_a_run_take_batches_as_they_came(buffers):
    def validated(loader, function):
        params = np.zeros(4)
        history = ss.fit(
            function,
            params,
            ss.SGD(params, lr=0.01),
            (X, Y),
            validation=loader,
            evaluate=lambda p, b: {"score": function(p, b)[0]},
            epochs=1,
            batch_size=SIZE,
        )
        return params.tobytes(), history

    one, other = both("tuple", buffers, validated)
    assert one == other

    def monitored(loader, function):
        params, found = np.zeros(4), []

        class Look:
            def on_step(self, run):
                if run.step in (7, 25):  # amid the arrays that the run's own loader fills
                    found.append(
                        ss.what_if(function, params, run.optimizer, loader, steps=8, held=4)
                    )

        optimizer = ss.SGD(params, lr=0.01)
        ss.fit(function, params, optimizer, loader, epochs=2, callbacks=[Look()])
        return params.tobytes(), [str(result) for result in found]

    one, other = both("tuple", buffers, monitored)
    assert one == other and len(one[1]) == 2


def test_the_noise_scale_takes_gradients_as_they_came():
    _, refilled = loaders("tuple", 1)
    buffer = np.zeros(4)
    function = function_of("tuple")

    def gradients(out):
        for batch in refilled():
            out[...] = function(np.zeros(4), batch)[1]
            yield out

    copies = (g.copy() for g in gradients(buffer))
    assert ss.gradient_noise_scale(gradients(buffer), SIZE) == ss.gradient_noise_scale(copies, SIZE)

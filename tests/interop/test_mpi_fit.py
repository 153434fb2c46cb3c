"""fit and lr_find on ranks: the same history as one process, the same decisions on all."""

import os
import signal

import numpy as np
import pytest

import stepsize as ss
from stepsize.interop.mpi import DataParallel, LocalComm, RankError, Zero1, in_parts
from stepsize.training.resume import ResumeWarning

X = np.random.default_rng(0).standard_normal((101, 7))
Y = X @ np.arange(7.0) + 0.1 * np.random.default_rng(1).standard_normal(101)
OPTIMIZERS = {
    "plain": lambda params, comm: ss.AdamW(params, lr=0.05),
    "wrapped": lambda params, comm: ss.EMA(ss.AdamW(params, lr=0.05), decay=0.5),
    "DataParallel": lambda params, comm: DataParallel(ss.AdamW(params, lr=0.05), comm),
    "Zero1": lambda params, comm: Zero1("adamw", params, comm, lr=0.05),
    "averaging": lambda params, comm: Zero1(ss.ScheduleFreeAdamW, params, comm, lr=0.05),
    "line search": lambda params, comm: ss.LBFGS(params),
}
ALONE = {
    "averaging": lambda params, comm: ss.ScheduleFreeAdamW(params, lr=0.05),
    "line search": OPTIMIZERS["line search"],
    "wrapped": OPTIMIZERS["wrapped"],
}


def value_and_grad(params, batch):
    x, y = batch
    error = x @ params["w"] + params["b"] - y
    return float(np.mean(error**2)), {
        "w": 2 * x.T @ error / len(y),
        "b": np.array([2 * error.mean()]),
    }


def train(comm=None, function=value_and_grad, make=OPTIMIZERS["plain"], **more):
    params = {"w": np.zeros(7), "b": np.zeros(1)}
    settings = {"epochs": 3, "batch_size": 16, "progress": False, "comm": comm, **more}
    history = ss.fit(function, params, make(params, comm), (X, Y), **settings)
    return history, params


def series(history):
    return {name: history[name].tobytes() for name in history}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_history_is_that_of_one_process_that_adds_up_in_the_same_order(kind):
    measured = {
        "validation": (X[:50], Y[:50]),
        "evaluate": lambda params, batch: {"loss": value_and_grad(params, batch)[0]},
    }
    for size in (2, 3):
        alone = ALONE.get(kind, OPTIMIZERS["plain"])
        expected, params = train(None, in_parts(value_and_grad, size), alone, **measured)
        results = LocalComm.run(size, lambda comm: train(comm, make=OPTIMIZERS[kind], **measured))
        for history, found in results:
            assert series(history) == series(expected)
            assert history.stopped == expected.stopped
            assert all(found[name].tobytes() == leaf.tobytes() for name, leaf in params.items())


@pytest.mark.parametrize("rows", [31, 50, 2])
@pytest.mark.parametrize("every", [None, 2])
def test_the_loss_of_validation_has_the_bits_of_one_process(rows, every):
    """Also where the last batch has fewer rows than there are ranks, and ranks without a row."""
    settings = {"validation": (X[:rows], Y[:rows]), "validate_every": every, "batch_size": 16}
    for size in (2, 3, 5):
        expected = train(None, in_parts(value_and_grad, size), **settings)[0]
        for history, _ in LocalComm.run(size, lambda comm: train(comm, **settings)):
            assert series(history) == series(expected)


def test_half_batches_on_two_ranks_are_two_accumulated_batches():
    """Of whole halves: 96 rows in batches of 16, or twice 8 for one step."""
    data = (X[:96], Y[:96])

    def steps(comm=None, **more):
        params = {"w": np.zeros(7), "b": np.zeros(1)}
        optimizer = ss.AdamW(params, lr=0.05)
        return ss.fit(value_and_grad, params, optimizer, data, epochs=3, comm=comm, **more)

    expected = steps(batch_size=8, accumulate=2)
    for history in LocalComm.run(2, lambda comm: steps(comm, batch_size=16)):
        assert series(history) == series(expected)


def test_accumulation_on_ranks_is_the_mean_over_all_rows():
    expected = train(accumulate=3)[0]
    for history, _ in LocalComm.run(4, lambda comm: train(comm, accumulate=3)):
        np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-12)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_may_be_none_and_is_evaluated(accumulate):
    def program(comm):
        asked = []

        def function(params, batch):
            asked.append(batch)
            return float(params["w"] @ params["w"]), {"w": 2 * params["w"]}

        params = {"w": np.ones(3)}
        history = ss.fit(
            function,
            params,
            ss.SGD(params, lr=0.1),
            [None] * (2 + 2 * comm.rank),
            accumulate=accumulate,
            epochs=1,
            count=lambda batch: 1,
            comm=comm,
            progress=False,
            validation=[None],
        )
        return asked, history

    for rank, (asked, history) in enumerate(LocalComm.run(2, program)):
        assert asked.count(None) == len(asked) == 2 + 2 * rank + 1
        assert len(history["loss"]) == 4 // accumulate
        assert history["val_loss"].size


def test_batches_of_their_own_of_different_number_and_length():
    """The last rank runs out of batches first, and its rows weigh as any."""
    whole = [(X[k : k + 10], Y[k : k + 10]) for k in range(0, 100, 10)]
    own = {0: whole[:6], 1: [(x[:5], y[:5]) for x, y in whole[6:]]}

    def program(comm):
        params = {"w": np.zeros(7), "b": np.zeros(1)}
        optimizer = ss.SGD(params, lr=0.05)
        return ss.fit(value_and_grad, params, optimizer, own[comm.rank], epochs=2, comm=comm)

    joined = [
        tuple(np.concatenate([one[k] for one in pair]) for k in (0, 1))
        for pair in zip(own[0], own[1], strict=False)
    ] + own[0][4:]
    params = {"w": np.zeros(7), "b": np.zeros(1)}
    expected = ss.fit(value_and_grad, params, ss.SGD(params, lr=0.05), joined, epochs=2)
    for history in LocalComm.run(2, program):
        assert history["epoch"].tolist() == expected["epoch"].tolist()
        np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-12)


@pytest.mark.parametrize("kind", ["plain", "Zero1"])
def test_saved_on_two_ranks_resumed_on_three_and_without_ranks(tmp_path, kind):
    path = tmp_path / "run.safetensors"
    make = OPTIMIZERS[kind]
    expected = train(None, in_parts(value_and_grad, 4), epochs=4)[0]
    LocalComm.run(4, lambda comm: train(comm, make=make, epochs=2, checkpoint=path))
    assert sorted(os.listdir(tmp_path)) == ["run.safetensors"]
    whole = path.read_bytes()
    resumed = {"epochs": 4, "checkpoint": path, "resume": True}
    for history, _ in LocalComm.run(4, lambda comm: train(comm, make=make, **resumed)):
        assert series(history) == series(expected)
    for size in (3, 0):
        path.write_bytes(whole)
        if size:
            found = LocalComm.run(size, lambda comm: train(comm, make=make, **resumed))
        else:
            found = [train(**resumed)]
        for history, _ in found:
            assert history["loss"][:14].tobytes() == expected["loss"][:14].tobytes()
            np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-10)


@pytest.mark.parametrize("kind", ["plain", "Zero1"])
def test_a_rank_that_fails_ends_the_run_of_all_with_a_checkpoint(tmp_path, kind):
    path = tmp_path / "run.safetensors"

    def program(comm):
        calls = iter(range(100))

        def failing(params, batch):
            if comm.rank == 1 and next(calls) == 9:
                raise OSError("no such sample")
            return value_and_grad(params, batch)

        kind_of_error = OSError if comm.rank == 1 else RankError
        with pytest.raises(kind_of_error, match="no such sample") as info:
            train(comm, failing, OPTIMIZERS[kind], checkpoint=path)
        return str(info.value), info.value.__notes__

    for told, notes in LocalComm.run(3, program):
        assert "rank 1 of 3: OSError" in told or told == "no such sample"
        assert any("step 9 is saved in" in note for note in notes)
    resumed = {"checkpoint": path, "resume": True}
    expected = train(None, in_parts(value_and_grad, 3))[0]
    with pytest.warns(ResumeWarning, match=r"value_and_grad=.* instead of .*failing"):
        found = LocalComm.run(3, lambda comm: train(comm, make=OPTIMIZERS[kind], **resumed))
    for history, _ in found:
        assert series(history) == series(expected)


def test_a_callback_that_fails_on_one_rank_ends_the_run_of_all(tmp_path):
    class Failing:
        def __init__(self, rank, hook):
            setattr(self, hook, lambda run: self.fail(rank, run))

        def fail(self, rank, run):
            if rank == 0 and run.step >= 2:
                raise OSError("disk full")

    for hook in ("on_step", "on_epoch", "on_gradients", "on_validation"):

        def program(comm, hook=hook):
            with pytest.raises(OSError if comm.rank == 0 else RankError, match="disk full"):
                train(
                    comm,
                    callbacks=[Failing(comm.rank, hook)],
                    validation=(X, Y),
                    checkpoint=tmp_path / "run",
                )
            return True

        assert LocalComm.run(2, program) == [True, True]
        assert os.path.exists(tmp_path / "run")


def test_who_stops_stops_all_and_rank_0_writes_the_files(tmp_path):
    class Stop:
        def __init__(self, rank):
            self.rank = rank

        def on_step(self, run):
            if self.rank == 1 and run.step == 5:
                run.stop("rank 1 has seen enough")

    def program(comm):
        folder = tmp_path / str(comm.rank)
        folder.mkdir()
        callbacks = [Stop(comm.rank), ss.CSVLogger(folder / "log.csv")]
        checkpoint = ss.Checkpoint(folder / "run", every_steps=1, keep=3)
        history = train(comm, callbacks=callbacks, checkpoint=checkpoint)[0]
        return history.stopped, history.steps, sorted(os.listdir(folder))

    files = ["log.csv", "run", "run-3", "run-4"]
    expected = [("rank 1 has seen enough", 5, files), ("rank 1 has seen enough", 5, [])]
    assert LocalComm.run(2, program) == expected


def test_a_signal_to_one_rank_ends_all_at_the_same_step(monkeypatch):
    from stepsize.training import interrupts

    def program(comm):
        class Signals(interrupts.Interrupt):
            pass

        def interrupting(params, batch):
            if comm.rank == 1:
                held[1]._handle(signal.SIGINT, None)
            return value_and_grad(params, batch)

        history = train(comm, interrupting)[0]
        return history.stopped

    held = {}
    kept = interrupts.Interrupt.__enter__

    def entered(self):
        held[len(held)] = self
        return kept(self)

    monkeypatch.setattr(interrupts.Interrupt, "__enter__", entered)
    assert LocalComm.run(2, program) == ["interrupted after step 1"] * 2


def test_all_see_a_loss_that_is_not_finite_on_one():
    def program(comm):
        def odd(params, batch):
            loss, grads = value_and_grad(params, batch)
            return (np.nan if comm.rank == 1 else loss), grads

        return train(comm, odd)[0].stopped

    found = LocalComm.run(2, program)
    assert found == ["diverged at step 1 with lr 0.05: the loss is nan"] * 2


def test_ranks_have_to_be_called_alike():
    def refused(words, program):
        with pytest.raises(ValueError, match=words):
            LocalComm.run(2, program)

    refused("epochs and steps must be the same", lambda c: train(c, epochs=1 + c.rank))
    refused("batch_size must be the same", lambda c: train(c, batch_size=8 + c.rank))
    monitor = ss.NoiseScaleMonitor
    refused("NoiseScaleMonitor compares", lambda c: train(c, accumulate=2, callbacks=[monitor()]))
    with pytest.raises(TypeError, match="fit: comm must be a communicator"):
        train("world")


def test_the_seed_and_the_parameters_are_those_of_the_first_rank():
    def program(comm):
        params = {"w": np.full(7, float(comm.rank)), "b": np.zeros(1)}
        optimizer = ss.SGD(params, lr=0.05)
        seed = np.random.default_rng(comm.rank)
        return ss.fit(value_and_grad, params, optimizer, (X, Y), epochs=2, seed=seed, comm=comm)

    one, other = LocalComm.run(2, program)
    assert series(one) == series(other)


def find(comm=None, function=value_and_grad, **more):
    params = {"w": np.zeros(7), "b": np.zeros(1)}
    return ss.lr_find(function, params, (X, Y), batch_size=16, comm=comm, **more)


@pytest.mark.parametrize("kind", ["plain", "Zero1"])
def test_a_rate_is_found_as_in_one_process(kind):
    def factory(comm):
        return lambda params: OPTIMIZERS[kind](params, comm)

    for size in (2, 3):
        expected = find(function=in_parts(value_and_grad, size), optimizer=ss.AdamW)
        for found in LocalComm.run(size, lambda comm: find(comm, optimizer=factory(comm))):
            assert found.suggestion == expected.suggestion
            assert found.losses.tobytes() == expected.losses.tobytes()
            assert found.why == expected.why


def test_an_overflow_on_one_rank_is_divergence_on_all():
    def program(comm):
        def overflowing(params, batch):
            if comm.rank == 1 and abs(params["w"]).max() > 20:
                raise FloatingPointError("overflow")
            return value_and_grad(params, batch)

        return find(comm, overflowing).suggestion

    one, other = LocalComm.run(2, program)
    assert one == other
    assert 0 < one < 10

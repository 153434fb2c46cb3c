"""What ranks refuse, all of them, by name, and with nothing changed on any."""

import numpy as np
import pytest

import stepsize as ss
from cases import CHUNK
from ranks import differences
from stepsize.collectives import RankError
from stepsize.interop.mpi import DataParallel, LocalComm, Zero1, load_shards, save_shards
from stepsize.serialization import nested

OTHERS = {  # what a checkpoint of 40,000 float64 does not fit
    "fewer": {"a": np.zeros(100)},
    "another shape": {"a": np.zeros((200, 200))},
    "one less": {"a": np.zeros(39_999)},
    "one more": {"a": np.zeros(40_001)},
    "a block more": {"a": np.zeros(40_000 + CHUNK)},
    "another dtype": {"a": np.zeros(40_000, np.float32)},
    "a leaf more": {"a": np.zeros(40_000), "b": np.zeros(3)},
    "another leaf": {"c": np.zeros(40_000)},
}


def saved(path):
    def program(comm):
        optimizer = Zero1(ss.Adam, {"a": np.arange(40_000.0)}, comm)
        optimizer.step({"a": np.ones(40_000)})
        save_shards(f"{path}.index", optimizer)
        optimizer.save(f"{path}.whole")

    LocalComm.run(2, program)


def refused(load, size, other):
    """What is raised on each rank; nothing must have changed."""

    def program(comm):
        params = {name: leaf.copy() for name, leaf in OTHERS[other].items()}
        optimizer = Zero1(ss.Adam, params, comm)
        before = optimizer.state_dict()
        with pytest.raises((ss.CheckpointError, RankError)) as info:
            load(optimizer)
        assert differences(before, optimizer.state_dict()) == []
        assert not any(leaf.any() for leaf in params.values())
        return str(info.value)

    return LocalComm.run(size, program)


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_other_parameters_is_refused(tmp_path, other):
    saved(tmp_path / "run")
    path = str(tmp_path / "run")
    for size in (1, 2, 3):
        for told in refused(lambda opt: load_shards(f"{path}.index", opt), size, other):
            if "leaf" in other:
                assert "no b" in told or "elements of b" in told or "holds the parameter a" in told
                continue
            leaf = OTHERS[other]["a"]
            assert "run.index: the parameter a has shape (40000,) and dtype float64" in told
            assert f"expected {leaf.shape} and {leaf.dtype}" in told
        refused(lambda opt: opt.load(f"{path}.whole"), size, other)


@pytest.mark.parametrize("other", [name for name in OTHERS if name != "another shape"])
def test_an_older_index_without_shapes_is_measured_by_its_parts(tmp_path, other):
    path = str(tmp_path / "run")
    saved(path)
    index = nested.load(f"{path}.index", "index of shards")
    nested.dump(f"{path}.index", "index of shards", {"files": index["files"], "step_count": 1})
    for size in (1, 2, 3):
        refused(lambda opt: load_shards(f"{path}.index", opt), size, other)

    def fitting(comm):
        params = {"a": np.zeros(40_000)}
        load_shards(f"{path}.index", Zero1(ss.Adam, params, comm))
        return params["a"][-1].round(3)

    assert LocalComm.run(3, fitting) == [39_998.999] * 3


NAN = float("nan")
WRONG = {  # an argument of step, and what its refusal says
    "negative rows": ({"rows": -1}, "rows must be a finite number >= 0, got -1"),
    "rows of nan": ({"rows": NAN}, "rows must be"),
    "rows of inf": ({"rows": float("inf")}, "rows must be"),
    "rows in words": ({"rows": "many"}, "rows must be"),
    "no rows": ({"rows": None}, "rows must be"),
    "a loss in words": ({"loss": "small"}, "loss must be a number, got 'small'"),
    "a loss of two": ({"loss": np.ones(2)}, "loss must be a number"),
    "a loss on one rank": ({"loss": 1.0}, "1 of 2 ranks with rows give a loss"),
    "gradients in words": ({"grads": {"a": "none"}}, "the gradient of a"),
    "another shape": ({"grads": {"a": np.ones(4)}}, r"shape \(4,\)"),
    "another leaf": ({"grads": {"b": np.ones(3)}}, "a is missing"),
    "an object": ({"grads": object()}, "object"),
    "nothing bound": ({"grads": ss.optimizers.wrappers.base.BOUND}, "bind"),
}


def made(kind, x, comm):
    return Zero1("sgd", x, comm, lr=1.0) if kind == "Zero1" else DataParallel(ss.SGD(x, 1.0), comm)


@pytest.mark.parametrize("kind", ["DataParallel", "Zero1"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_one_rank_refuses_of_a_step_all_refuse(kind, wrong):
    arguments, words = WRONG[wrong]

    def program(comm):
        x = {"a": np.zeros(3)}
        optimizer = made(kind, x, comm)
        own = {"grads": {"a": np.ones(3)}, **(arguments if comm.rank else {})}
        with pytest.raises(Exception, match=words) as info:
            optimizer.step(**own)
        assert not x["a"].any()
        optimizer.step({"a": np.ones(3)})
        return type(info.value), str(info.value), x["a"].tolist()

    (first, told, x), (second, _, y) = LocalComm.run(2, program)
    assert x == y == [-1.0] * 3
    assert second in (TypeError, ValueError, RuntimeError)
    if wrong != "a loss on one rank":
        assert first is RankError
        assert "rank 1 of 2: " + second.__name__ in told


@pytest.mark.parametrize("kind", ["DataParallel", "Zero1"])
def test_an_optimizer_that_one_rank_refuses_all_refuse(kind):
    def program(comm):
        rule = "sgdd" if comm.rank else "sgd"
        with pytest.raises((TypeError, ValueError) if comm.rank else RankError):
            if kind == "Zero1":
                Zero1(rule, np.zeros(3), comm)
            else:
                DataParallel("sgd" if comm.rank else ss.SGD(np.zeros(3)), comm)
        return comm.allgather(comm.rank)

    assert LocalComm.run(2, program) == [[0, 1]] * 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"epochs": -1},
        {"accumulate": 0},
        {"callbacks": 3},
        {"seed": -1},
        {"validate_every": 1},
        {"resume": True},
        {"train": 3},
        {"value_and_grad": 3},
    ],
    ids=str,
)
def test_what_one_rank_refuses_of_fit_all_refuse(wrong):
    def program(comm):
        x = np.zeros(3)
        asked = {
            "value_and_grad": lambda x, batch: (float(x @ x), 2 * x),
            "train": (np.ones((8, 3)),),
            "epochs": 1,
            **(wrong if comm.rank else {}),
        }
        with pytest.raises((TypeError, ValueError) if comm.rank else RankError):
            ss.fit(params=x, optimizer=ss.SGD(x), comm=comm, progress=False, **asked)
        return comm.allgather(comm.rank)

    assert LocalComm.run(2, program) == [[0, 1]] * 2


def function(x, batch):
    return float(x["a"] @ x["a"]), {"a": 2 * x["a"]}


class OnOne:
    """Changes a run on rank 1 alone."""

    def __init__(self, comm, hook, change):
        setattr(self, hook, lambda run: comm.rank and run.step >= 2 and change(run))


def fitted(comm, path=None, callbacks=(), **keywords):
    x = {"a": np.ones(3)}
    optimizer = ss.SGD(x, lr=0.1, **keywords)
    data = (np.ones((8, 3)),)
    more = {"checkpoint": path, "callbacks": callbacks, "progress": False, "comm": comm}
    return ss.fit(function, x, optimizer, data, epochs=2, batch_size=2, **more)


@pytest.mark.parametrize("kind", ["DataParallel", "Zero1"])
@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay", "lr_scale"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_hyperparameter_set_on_one_rank_is_refused_at_the_next_step(kind, name, rank):
    def program(comm):
        x = {"a": np.zeros(3)}
        keywords = {"lr": 1.0, "momentum": 0.9, "weight_decay": 0.1}
        if kind == "Zero1":
            optimizer = Zero1("sgd", x, comm, **keywords)
        else:
            optimizer = DataParallel(ss.SGD(x, **keywords), comm)
        optimizer.step({"a": np.ones(3)})
        before = x["a"].copy()
        if comm.rank == rank:
            setattr(optimizer, name, 0.01)
        with pytest.raises(RankError, match=f"hyperparameters: {name} must be the same .* 0.01 on"):
            optimizer.step({"a": np.ones(3)})
        assert x["a"].tobytes() == before.tobytes()
        setattr(optimizer, name, 0.01)
        optimizer.step({"a": np.ones(3)})
        return x["a"].tolist()

    one, other = LocalComm.run(2, program)
    assert one == other


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "lr": (0.1, 0.2),
        "momentum": (0.9, 0.8),
        "clip_norm": (None, 0.1),
        "maximize": (False, True),
        "on_nonfinite": ("raise", "skip"),
        "bounds": ((0.0, 1.0), (0.0, 2.0)),
    }.items(),
)
def test_ranks_are_made_alike(name, values):
    def zero(comm):
        Zero1("sgd", {"a": np.zeros(3)}, comm, **{"momentum": 0.9, name: values[comm.rank]})

    with pytest.raises(ValueError, match=f"Zero1: .*{name} must be the same on all ranks"):
        LocalComm.run(2, zero)
    if name in ("lr", "momentum"):  # those of rank 0 are sent to all
        return
    with pytest.raises(ValueError, match=f"fit: .*{name} must be the same on all ranks"):
        LocalComm.run(2, lambda comm: fitted(comm, **{name: values[comm.rank]}))


CHANGES = {
    "lr": (lambda run: setattr(run.optimizer, "lr", 0.005), "lr must be the same"),
    "batch_size": (lambda run: setattr(run, "batch_size", 4), "batch_size must be the same"),
    "params": (lambda run: run.params["a"].fill(0), "parameters are not the same .*: a"),
}


@pytest.mark.parametrize("hook", ["on_step", "on_gradients"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("saved", [False, True])
def test_what_a_callback_changes_on_one_rank_ends_the_run_of_all(tmp_path, hook, change, saved):
    what, words = CHANGES[change]
    checkpoint = ss.Checkpoint(tmp_path / "run", every_steps=1) if saved else None

    def program(comm):
        with pytest.raises(RankError, match=words):
            fitted(comm, checkpoint, [OnOne(comm, hook, what)])
        return comm.allgather(comm.rank)

    assert LocalComm.run(2, program) == [[0, 1]] * 2


def test_a_leaf_without_a_gradient_may_differ():
    """It is a state of the function, which sees other rows on each rank."""

    def program(comm):
        x = {"a": np.ones(3), "seen": np.zeros(1)}

        def counting(x, batch):
            x["seen"] += comm.rank + 1
            return float(x["a"] @ x["a"]), {"a": 2 * x["a"], "seen": None}

        data = (np.ones((8, 3)),)
        ss.fit(counting, x, ss.SGD(x, lr=0.1), data, epochs=2, comm=comm, progress=False)
        return x["a"].tolist(), float(x["seen"][0])

    (one, seen), (other, more) = LocalComm.run(2, program)
    assert one == other
    assert more == 2 * seen > 0


def test_validation_on_one_rank_is_refused_by_name():
    def program(comm, mine, **more):
        x = {"a": np.ones(3)}
        data = (np.ones((8, 3)),)
        own = mine if comm.rank else {}
        ss.fit(function, x, ss.SGD(x, lr=0.1), data, epochs=1, comm=comm, **{**more, **own})

    held = {"validation": (np.ones((5, 3)),)}
    refusals = [
        (held, {}, "validation must be the same on all ranks, but is no data on rank 0 and 5 rows"),
        ({"validation": (np.ones((6, 3)),)}, held, "validation .* 5 rows .* 6 rows"),
        ({"evaluate": lambda x, batch: {"n": 1.0}}, held, "validation .* value_and_grad .* evalu"),
        ({"validate_every": 2}, held, "validate_every must be the same on all ranks"),
    ]
    for mine, more, words in refusals:
        with pytest.raises(ValueError, match=words):
            LocalComm.run(2, lambda comm, mine=mine, more=more: program(comm, mine, **more))

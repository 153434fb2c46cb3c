"""None, 0, False, "" and empty containers where a value of the user's stands: taken as what they
are, or refused by name; never for "not given"."""

import numpy as np
import pytest

import stepsize as ss
from cases import comparable
from hostile import X, Y, clean, make_params
from stepsize.interop.mpi import LocalComm
from together import alike, together

ROWS = (X, Y)
NO_ROWS = {"[]": [], "an empty array": np.zeros((0, 3))}
FALSY = {
    "None": None,
    "0": 0,
    "0.0": 0.0,
    "False": False,
    "''": "",
    "()": (),
    "{}": {},
    "(None, None)": (None, None),
    **NO_ROWS,
}


def full(params, batch):
    return clean(params, ROWS)


def trained(batches, **options):
    params = make_params()
    common = {"steps": 5, "count": lambda batch: 1, "progress": False}
    optimizer = ss.Adam(params, lr=0.01)
    history = ss.fit(full, params, optimizer, batches, **common | options)
    return params, {name: np.asarray(history[name]) for name in history}


def measured(params, batch):
    return {"m": float(abs(params["w"]).sum())}


def on_ranks(batch):
    def rank(comm):
        return comparable(trained([batch] * 3, comm=comm, validation=[batch], evaluate=measured))

    return LocalComm.run(2, rank)


def branched(batch):
    params = make_params()
    result = ss.what_if(full, params, ss.SGD(params, lr=0.01), [batch] * 4, steps=3, held=2)
    return str(result), [result.gain(factor) for factor in (0.3, 1)]


def automatic(batch):
    result = ss.autolr(full, make_params(), [batch] * 3, steps=20, progress=False)
    return result.schedule.values(20), result.history["loss"]


def found(batches, **options):
    result = ss.lr_find(full, make_params(), batches, steps=40, progress=False, **options)
    return result.suggestion, str(result)


DOORS = {
    "fit": lambda b: trained([b, b]),
    "fit, callable": lambda b: trained(lambda: iter([b, b])),
    "fit, iterator": lambda b: trained(b for _ in range(5)),
    "fit, accumulate": lambda b: trained([b] * 3, accumulate=2),
    "fit, validation": lambda b: trained([b], validation=[b, b]),
    "fit, evaluate": lambda b: trained([b], validation=[b, b], evaluate=measured),
    "fit, ranks": on_ranks,
    "lr_find": lambda b: found([b]),
    "lr_find, several": lambda b: found([b, b, b]),
    "lr_find, generator": lambda b: found(lambda: (b for _ in range(3))),
    "lr_find, momentum": lambda b: found([b, b], parameter="momentum", optimizer=ss.SGD),
    "what_if": branched,
    "autolr": automatic,
    "check_gradients": lambda b: str(ss.check_gradients(full, make_params(), b)),
    "sharpness": lambda b: str(ss.sharpness(full, make_params(), b)),
}
COUNTS_ROWS = ("what_if", "autolr")  # and have no count= of the user's


@together("value", FALSY, alike)
@pytest.mark.parametrize("door", DOORS)
def test_a_batch_may_be_anything(door, value):
    if door in COUNTS_ROWS and value in NO_ROWS:
        with pytest.raises(ValueError, match="a batch has no rows"):
            DOORS[door](FALSY[value])
        return
    assert comparable(DOORS[door](FALSY[value])) == comparable(DOORS[door]("a batch"))


def test_batches_of_the_same_arrays_under_other_names_are_others():
    rows = np.ones(4)

    def stream():
        for name in ("low", "high", "low", "high"):
            yield {name: rows}

    seen = []

    def function(params, batch):
        seen.append(next(iter(batch)))
        return full(params, batch)

    ss.lr_find(function, make_params(), stream, steps=20, progress=False)
    assert set(seen[:2]) == {"low", "high"}


@pytest.mark.parametrize("value", ["0", "0.0", "False", "''", "{}", "an empty array"])
def test_groups_are_a_list_or_none(value):
    for params in (make_params(), [{"params": make_params()}]):
        with pytest.raises(TypeError, match=r"groups must be a list of ss\.group"):
            ss.Adam(params, groups=FALSY[value])
    for none in (None, [], ()):
        ss.Adam(make_params(), groups=none)


@pytest.mark.parametrize("value", ["None", "()", "{}", "[]", "(None, None)"])
def test_no_gradients_have_no_noise_scale(value):
    with pytest.raises(ValueError, match="micro_grads hold no array"):
        ss.gradient_noise_scale([FALSY[value]] * 3, 8)


@pytest.mark.parametrize("value", [name for name in FALSY if name != "None"])
def test_what_is_no_optimizer_is_not_saved_as_one(value, tmp_path):
    path, params = tmp_path / "model", make_params()
    with pytest.raises(TypeError, match=r"^save: optimizer must be the optimizer"):
        ss.save(path, params, FALSY[value])
    assert not path.exists()
    ss.save(path, params)
    with pytest.raises(TypeError, match=r"^load: optimizer must be the optimizer"):
        ss.load(path, params, FALSY[value])


def test_parameters_of_none_are_not_saved(tmp_path):
    with pytest.raises(TypeError, match=r"^save: params is None"):
        ss.save(tmp_path / "model", None, ss.Adam(make_params()))
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_missing_is_not_averaged_as_0():
    params, losses = make_params(), iter([2.0, None, 2.0])
    optimizer = ss.Accumulate(ss.PolyakSGD(params), every=3)
    grads = clean(params, ROWS)[1]
    optimizer.step(grads, loss=next(losses))
    before = comparable(optimizer.state_dict())
    for wrong in (None, np.nan, np.inf):
        with pytest.raises((TypeError, ValueError), match=r"^PolyakSGD: loss is"):
            optimizer.step(grads, loss=wrong)
        assert comparable(optimizer.state_dict()) == before
    for _ in range(2):
        optimizer.step(grads, loss=2.0)
    other = make_params()
    ss.PolyakSGD(other).step(grads, loss=2.0)
    assert comparable(params) == comparable(other)


def test_a_callback_of_minimize_returns_whether_to_end():
    def bowl(x):
        return float(x @ x), 2 * x

    for answer in FALSY.values():
        if not isinstance(answer, np.ndarray):
            ends = bool(answer)
            found = ss.minimize(
                bowl, np.ones(2), lr=0.01, max_iter=3, callback=lambda _, a=answer: a
            )
            assert found.nit == (1 if ends else 3)
    with pytest.raises(TypeError, match=r"^minimize: callback must return whether to end"):
        ss.minimize(bowl, np.ones(2), lr=0.01, callback=lambda result: result.x)


def test_a_parameter_without_a_name_counts_in_a_joint_search():
    space = {"lr": ss.LogUniform(1e-3, 1), "": ss.Uniform(0.0, 1.0)}
    other = {"lr": ss.LogUniform(1e-3, 1), "x": ss.Uniform(0.0, 1.0)}

    def search(space, name):
        def objective(point):
            return (np.log10(point["lr"]) + 1) ** 2 + (point[name] - 0.7) ** 2

        result = ss.tune(objective, space, trials=12, method="lr", seed=1)
        return [(t.point["lr"], t.point[name]) for t in result.trials]

    assert search(space, "") == search(other, "x")


def test_leaves_of_one_name_are_refused_where_one_would_be_lost(tmp_path):
    twins = {"a/b": np.ones(2), "a": {"b": np.zeros(2)}}
    path = tmp_path / "model"

    def wrong(params, batch):
        return float((params["a/b"] ** 2).sum()), {"a/b": np.full(2, 7.0), "a": {"b": np.zeros(2)}}

    for call in (
        lambda: ss.save(path, twins),
        lambda: ss.load(path, twins),
        lambda: ss.check_gradients(wrong, twins, None),
    ):
        with pytest.raises(ValueError, match="two arrays are both named a/b"):
            call()
    assert not path.exists()


EMPTY = {"None": None, "{}": {}, "[]": [], "()": (), "no elements": np.zeros(0)}


def beside(value):
    return {"w": np.ones(3), "x": value.copy() if isinstance(value, np.ndarray) else value}


def least(grad):
    return lambda params, batch: (float(params["w"] @ params["w"]), {"w": 2 * params["w"], **grad})


PLACES = {
    "step": lambda f, p: ss.Adam(p, lr=0.1).step(f(p, 0)[1]),
    "clip": lambda f, p: ss.SGD(p, lr=0.1, clip_norm=1.0).step(f(p, 0)[1]),
    "EMA": lambda f, p: ss.EMA(ss.SGD(p, lr=0.1), 0.5).step(f(p, 0)[1]),
    "Accumulate": lambda f, p: ss.Accumulate(ss.SGD(p, lr=0.1), 1).step(f(p, 0)[1]),
    "SAM": lambda f, p: ss.SAM(ss.SGD(p, lr=0.1)).step(lambda q: f(q, 0)),
    "LBFGS": lambda f, p: ss.LBFGS(p).step(lambda q: f(q, 0)),
    "fit": lambda f, p: ss.fit(f, p, "adam", [0], steps=3, progress=False).last("loss"),
    "fit, accumulate": lambda f, p: ss.fit(
        f, p, "adam", [0, 0], steps=3, accumulate=2, progress=False
    ).last("loss"),
    "lr_find": lambda f, p: ss.lr_find(f, p, [0], steps=20).suggestion,
    "what_if": lambda f, p: ss.what_if(f, p, ss.SGD(p, lr=0.1), [0], steps=3, held=2).best,
    "autolr": lambda f, p: ss.autolr(f, p, [0], steps=10, progress=False).history["loss"],
    "minimize": lambda f, p: ss.minimize(lambda x: f(x, 0), p).fun,
    "check_gradients": lambda f, p: ss.check_gradients(f, p, 0).ok,
    "sharpness": lambda f, p: str(ss.sharpness(f, p, 0)),
}


@together("value", EMPTY, alike)
@pytest.mark.parametrize("door", PLACES)
def test_a_place_without_numbers_among_the_parameters_is_of_no_consequence(door, value):
    params, plain = beside(EMPTY[value]), {"w": np.ones(3)}
    found = PLACES[door](least({"x": EMPTY[value]}), params)
    assert comparable(found) == comparable(PLACES[door](least({}), plain))
    assert comparable(params["w"]) == comparable(plain["w"])


@pytest.mark.parametrize("door", PLACES)
def test_a_gradient_where_the_parameters_hold_none_is_named(door):
    params = beside(None)
    with pytest.raises(ValueError, match="grads: x is a ndarray, but params hold None there"):
        PLACES[door](least({"x": np.ones(2)}), params)
    assert (params["w"] == 1).all()

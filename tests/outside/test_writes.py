"""A function that writes into the parameters it is given: noticed wherever they are trained."""

import numpy as np
import pytest

import stepsize as ss
from hostile import BY_HAND, ENTRIES, OfTheUser, X, Y, clean, make_params, outcome

COPIES = [entry for entry in ENTRIES if entry.startswith("minimize")]  # it gets copies, by contract
REPORTED = ["check_gradients"]  # it gets copies too, and the report names the leaf
WATCHED = [entry for entry in ENTRIES if entry not in (*BY_HAND, *COPIES, *REPORTED)]


def all_of_w(params):
    params["w"] -= 1


def one_number(params):
    params["w"][1, 1] = 7.0


def not_a_number(params):
    params["w"][0, 1] = np.nan


def every_other_column(params):
    params["w"][:, ::2] *= -1


WRITES = [all_of_w, one_number, not_a_number, every_other_column]


def before(write):
    def function(params, batch):
        write(params)
        return clean(params, batch)

    return function


def after(write):
    def function(params, batch):
        found = clean(params, batch)
        write(params)
        return found

    return function


def unchanged(params):
    return all(np.array_equal(params[name], leaf) for name, leaf in make_params().items())


@pytest.mark.parametrize("when", [before, after])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("entry", WATCHED)
def test_a_write_into_the_parameters_is_refused_by_name(entry, write, when):
    params = make_params()
    with pytest.raises(ValueError, match=r"value_and_grad wrote into the parameters: w is"):
        ENTRIES[entry](when(write), params)
    assert unchanged(params)


@pytest.mark.parametrize("entry", WATCHED)
def test_what_was_written_before_an_error_is_put_back(entry):
    def function(params, batch):
        all_of_w(params)
        raise OfTheUser

    params = make_params()
    with pytest.raises(OfTheUser):
        ENTRIES[entry](function, params)
    assert unchanged(params)


@pytest.mark.parametrize("entry", COPIES)
def test_minimize_gives_copies(entry):
    def shifted(params, batch):
        return clean({"w": params["w"] - 1, "b": params["b"]}, batch)

    expected = outcome(entry, shifted, make_params())
    assert outcome(entry, before(all_of_w), make_params()) == expected


@pytest.mark.parametrize("entry", [*WATCHED, *COPIES])
def test_finite_differences_in_place_are_no_write(entry):
    def function(params, batch):
        loss, grads = clean(params, batch)
        for name, leaf in params.items():
            for place in np.ndindex(leaf.shape):
                leaf[place] += 1e-3
                above = clean(params, batch)[0]
                leaf[place] -= 2e-3
                grads[name][place] = (above - clean(params, batch)[0]) / 2e-3
                leaf[place] += 1e-3
        return loss, grads

    ENTRIES[entry](function, make_params())


def fit(function, params, **options):
    optimizer = ss.SGD(params, lr=1e-3)
    common = {"steps": 200, "batch_size": 20, "progress": False}
    return ss.fit(function, params, optimizer, (X, Y), **common | options)


def test_a_leaf_without_gradient_is_the_functions_own():
    params = make_params() | {"mean": np.zeros(3)}

    def function(params, batch):
        loss, grads = clean(params, batch)
        params["mean"] += 1
        return loss, grads | {"mean": None}

    fit(function, params, steps=30)
    assert params["mean"].tolist() == [30.0] * 3


@pytest.mark.parametrize("period", [2, 3, 7, 10, 50, 100])
def test_a_write_at_each_kth_call_is_found(period):
    calls = []

    def function(params, batch):
        calls.append(1)
        if len(calls) % period == 0:
            all_of_w(params)
        return clean(params, batch)

    with pytest.raises(ValueError, match="wrote into the parameters: w"):
        fit(function, make_params(), steps=97 * period + 20)


def test_evaluate_must_not_write():
    def evaluate(params, batch):
        all_of_w(params)
        return {"loss": 1.0}

    params = make_params()
    with pytest.raises(ValueError, match="evaluate wrote into the parameters: w"):
        fit(clean, params, epochs=1, steps=None, validation=(X, Y), evaluate=evaluate)
    assert abs(params["w"]).max() < 0.5


def laid_out(kind, tmp_path):
    if kind == "packed":
        return ss.pack(make_params())
    params = make_params()
    if kind == "strided":
        params["w"] = np.repeat(params["w"], 2, axis=1)[:, ::2]
    if kind == "Fortran":
        params["w"] = np.asfortranarray(params["w"])
    if kind == "memmap":
        params["w"] = np.memmap(tmp_path / "w", np.float64, "w+", shape=(3, 2))
    if kind == "view":  # of memory that the user may write through another array
        params["w"] = np.zeros((5, 2))[1:4]
    return params


@pytest.mark.parametrize("kind", ["packed", "strided", "Fortran", "memmap", "view"])
def test_however_the_parameters_lie(kind, tmp_path):
    params = laid_out(kind, tmp_path)
    kept = params["w"].copy()
    for entry in ("fit", "lr_find", "fit, SAM", "fit, LBFGS"):
        if entry == "fit, LBFGS" and kind == "memmap":
            params["w"].flush()
        with pytest.raises(ValueError, match="wrote into the parameters: w"):
            ENTRIES[entry](after(all_of_w), params)
        assert np.array_equal(params["w"], kept)
        assert params["w"].flags.writeable


def test_numbers_of_no_axes():
    params = {"a": np.array(2.0)}

    def function(params, batch):
        params["a"] -= 1
        return float(params["a"]) ** 2, {"a": 2 * params["a"]}

    with pytest.raises(ValueError, match=r"wrote into the parameters: a is 1\.0"):
        ss.fit(function, params, ss.SGD(params), [None], epochs=1, progress=False)
    assert params["a"] == 2

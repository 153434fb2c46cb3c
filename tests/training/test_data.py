"""Data sets as people have them: lists of numbers beside arrays are arrays, or refused by name."""

import pytest

import stepsize as ss
from fitting import X, Y, bits, fit, make_params, value_and_grad

LISTS = {
    "a list": (X, Y.tolist()),
    "a tuple": (X, tuple(Y.tolist())),
    "rows": (X.tolist(), Y),
    "numbers of NumPy": (X, list(Y)),
}


def found(data):
    params = make_params()
    return ss.lr_find(value_and_grad, params, data, steps=20, progress=False)


def trained(data):
    params = make_params()
    history = fit(params, train=data, validation=data)
    return bits(params), history


def automatic(data):
    params = make_params()
    result = ss.autolr(
        value_and_grad, params, data, steps=20, validation=data, rehearsals=0, progress=False
    )
    return bits(params), result.history


def cut(data):
    return [
        tuple(part.tolist() for part in batch)
        for batch in ss.Problem(make_params(), value_and_grad, data).batches(8)
    ]


def suggested(data):
    return found(data).suggestion


DOORS = [trained, suggested, automatic, cut]


@pytest.mark.parametrize("door", DOORS)
def test_lists_of_numbers_beside_an_array_are_arrays(door):
    wanted = door((X, Y))
    for data in LISTS.values():
        assert door(data) == wanted


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "odd", [["a"] * 40, None, 3, {"y": Y}, [[1], [1, 2]] * 20, iter(Y), "text", [{}] * 40]
)
def test_what_is_no_array_beside_one_is_refused_by_its_place(door, odd):
    with pytest.raises((TypeError, ValueError), match=r"(train|batches)\[1\] is a ") as refused:
        door((X, odd))
    assert len(str(refused.value)) < 300


def test_validation_data_are_refused_by_their_name():
    with pytest.raises(TypeError, match=r"validation\[1\] is a list of <U1, expected an array"):
        fit(make_params(), validation=(X, ["a"] * 40))
    with pytest.raises(ValueError, match="first axis"):
        fit(make_params(), validation=(X, Y.tolist()[:3]))


@pytest.mark.parametrize(
    "data", [[X[:, :2], Y.tolist()[:-1]], [X.tolist(), Y.tolist()], (X.tolist(), Y.tolist())]
)
def test_lists_that_are_taken_as_batches_are_explained_where_they_fail(data):
    for door, name in (
        (lambda: fit(make_params(), train=data), "train"),
        (lambda: fit(make_params(), validation=data), "validation"),
        (lambda: found(data), "batches"),
    ):
        with pytest.raises((TypeError, ValueError)) as failed:
            door()
        (note,) = failed.value.__notes__
        assert f"{name} is a {type(data).__name__} of 2 arrays" in note
        assert "give a tuple of arrays (x, y)" in note

"""What loops do with batches: rows that cannot be counted, functions that write into them, lists of
arrays that were meant as one data set, truth for a loss, other data at a resume."""

import warnings

import numpy as np
import pytest

import stepsize as ss
from fitting import linear as value_and_grad
from stepsize.serialization import nested
from stepsize.training.resume import ResumeWarning

X = np.random.default_rng(0).normal(size=(23, 3))
Y = X @ [1.0, -2.0, 3.0]


def start():
    return {"w": np.full(3, 0.1)}


def fit(function=value_and_grad, train=(X, Y), **options):
    params = start()
    options = {"epochs": 2, "progress": False, "batch_size": 8} | options
    return ss.fit(function, params, ss.SGD(params, lr=0.01), train, **options)


# Rows.


class Bag:
    """A batch of a class of the user's, without a length."""

    def __init__(self, rows):
        self.rows = list(rows)


class Counted(Bag):
    def __len__(self):
        return len(self.rows)


def of_rows(rows):
    return X[list(rows)], Y[list(rows)]


def by_rows(make):
    """A function of batches that hold whole numbers, the rows."""

    def function(params, batch):
        found = (
            batch.rows if isinstance(batch, Bag) else batch["rows"] if make is as_dict else batch
        )
        return value_and_grad(params, of_rows(found[1] if make is late else found))

    return function


def as_dict(rows):
    return {"name": "of text", "rows": np.array(rows)}


def late(rows):
    return np.array(0.5), np.array(rows)  # a number of no axes comes first


CUT = [range(10), range(10, 20), range(20, 23)]
KNOWN = {"a range": range, "a dict": as_dict, "late": late, "a list": list, "an own class": Counted}


def measured(make, **options):
    """The loss at which an epoch, a validation, and an accumulated step stand."""
    batches = [make(rows) if make is not range else rows for rows in CUT]
    seen = {}

    class Metrics:
        def on_epoch(self, run):
            seen.update(run.metrics)

    params = start()
    optimizer = ss.SGD(params, lr=0.0)
    common = {"epochs": 1, "progress": False, "validation": batches, "callbacks": [Metrics()]}
    history = ss.fit(by_rows(make), params, optimizer, batches, **common | options)
    return [seen["loss"], seen["val_loss"], history["loss"][-1]]


@pytest.mark.parametrize("make", KNOWN.values(), ids=KNOWN)
def test_rows_that_can_be_counted_weigh(make):
    whole = value_and_grad(start(), (X, Y))[0]
    np.testing.assert_allclose(measured(make, accumulate=3), whole, rtol=1e-12)


def apart(rows):
    """Arrays that disagree in their first axis."""
    return {"edges": np.zeros((2 * len(rows), 2)), "rows": np.array(rows)}


UNSURE = {
    "an own class": (Bag, Bag, "of type Bag, in which no rows can be counted"),
    "arrays that disagree": (apart, as_dict, r"the arrays disagree in their first axes"),
}


@pytest.mark.parametrize("what", UNSURE)
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}])
def test_rows_that_are_not_sure_are_told_of_once_for_each_data_set(what, options):
    make, kind, words = UNSURE[what]
    batches = [make(rows) for rows in CUT]
    function = by_rows(kind)
    with pytest.warns(UserWarning, match=words) as caught:
        fit(function, batches, validation=batches, **options)
    assert len(caught) == 2
    assert "fit: train: " in str(caught[0].message) and "fit: validation" in str(caught[1].message)
    assert all("give count=lambda batch: ..." in str(one.message) for one in caught)
    fit(function, batches, validation=batches, count=lambda batch: 1, **options)


def test_batches_that_are_alike_or_alone_need_no_word():
    same = Bag(range(23))
    for batches in ([same] * 3, [apart(range(8)), apart(range(8, 16))]):
        fit(by_rows(as_dict), batches, validation=batches, accumulate=2)
    fit(by_rows(Bag), lambda: [Bag(range(23))], epochs=3)  # a mean of one
    fit(by_rows(Bag), [Bag(rows) for rows in CUT], epochs=None, steps=2)  # no mean yet


def test_a_list_of_samples_is_no_list_of_parts():
    parts = [list(of_rows(rows)) for rows in CUT]
    fit(train=parts, validation=parts, accumulate=2)
    samples = [[X[k] for k in rows] for rows in CUT]  # three rows of numbers, or 10 samples of 3

    def function(params, batch):
        return value_and_grad(params, (np.stack(batch), np.ones(len(batch))))

    with pytest.warns(UserWarning, match="whether these are samples or parts cannot be told"):
        fit(function, samples)
    fit(function, samples, count=len)


def test_what_if_counts_batches_of_one_size():
    params = start()
    opt = ss.SGD(params, lr=0.01)
    common = {"steps": 10, "held": 3, "memorise": False, "progress": False}
    sizes = []

    def function(params, batch):
        sizes.append(len(batch[1]))
        return value_and_grad(params, batch)

    ss.what_if(function, params, opt, (X, Y), batch_size=8, **common)
    assert set(sizes) == {8}
    batches = [of_rows(rows) for rows in CUT]
    with pytest.warns(UserWarning, match="held batches have from 3 to 10 rows"):
        ss.what_if(value_and_grad, params, opt, batches, **common)


# Writes.


def centred(params, batch):
    x, y = batch
    y -= 1
    return value_and_grad(params, (x, y))


def evaluate(params, batch):
    return {"a": centred(params, batch)[0]}


def what_if(data, **options):
    params = start()
    common = {"steps": 10, "held": 2, "memorise": False, "progress": False}
    function = options.pop("function", centred)
    return ss.what_if(function, params, ss.SGD(params, lr=0.01), data, **common | options)


def only_loss(params, batch):
    return centred(params, batch)[0]


LIST = [(X[:8], Y[:8]), (X[8:16], Y[8:16])]
WRITERS = {
    "fit, in order": lambda: fit(centred, seed=None),
    "fit, accumulated": lambda: fit(centred, seed=None, accumulate=2),
    "fit, L-BFGS": lambda: fit_lbfgs(centred),
    "validation": lambda: fit(validation=(X, Y), evaluate=evaluate),
    "validation, batches": lambda: fit(validation=LIST, evaluate=evaluate),
    "validation, no evaluate": lambda: fit(sometimes, validation=(X[:5], Y[:5])),
    "lr_find": lambda: ss.lr_find(centred, start(), LIST, progress=False),
    "lr_find, arrays": lambda: ss.lr_find(centred, start(), (X, Y), progress=False, batch_size=32),
    "what_if": lambda: what_if(LIST),
    "what_if, loss": lambda: what_if(LIST, function=value_and_grad, loss=only_loss),
    "autolr": lambda: ss.autolr(centred, start(), (X, Y), steps=20, progress=False),
}


def fit_lbfgs(function):
    params = start()
    return ss.fit(function, params, ss.LBFGS(params), (X, Y), epochs=1, batch_size=23, seed=None)


def sometimes(params, batch):
    """Writes into the validation data alone, which are not shuffled."""
    return centred(params, batch) if len(batch[1]) == 5 else value_and_grad(params, batch)


@pytest.mark.parametrize("door", WRITERS)
def test_a_write_into_the_users_data_is_refused_by_name(door):
    kept = X.tobytes(), Y.tobytes()
    with pytest.raises(ValueError, match=r"writes into batch 1\b.*x = x.copy\(\)"):
        WRITERS[door]()
    assert (X.tobytes(), Y.tobytes()) == kept


def test_a_function_that_only_asks_for_writable_arrays_is_told_so():
    def function(params, batch):
        if not batch[0].flags.writeable:
            raise ValueError("buffer source array is read-only")  # as Cython says it
        return value_and_grad(params, batch)

    with pytest.raises(ValueError, match="asks for arrays that it may write into"):
        fit(function, seed=None)

    mine = X.copy()
    mine.flags.writeable = False

    def other(params, batch):
        mine[0] = 1
        return value_and_grad(params, batch)

    with pytest.raises(ValueError, match=r"^assignment destination is read-only"):
        fit(other, seed=None)


def test_batches_of_an_iterable_are_the_users_own():
    batches = [(x.copy(), y.copy()) for x, y in LIST]
    fit(centred, batches, epochs=1)
    assert np.array_equal(batches[0][1], Y[:8] - 1)


def test_the_users_arrays_stay_writable():
    x, y = X.copy(), Y.copy()
    fit(train=(x, y), validation=(x, y))
    assert x.flags.writeable and y.flags.writeable


# A list that was meant as one data set.

PAIR = [X[:2], Y[:2]]  # of two rows: `x, y = batch` takes each apart in silence
DOORS = {
    "train": lambda data: fit(train=data),
    "validation": lambda data: fit(validation=data),
    "lr_find: batches": lambda data: ss.lr_find(value_and_grad, start(), data, progress=False),
    "what_if: batches": lambda data: what_if(data),
    "train of autolr": lambda data: ss.autolr(value_and_grad, start(), data, steps=20),
}


@pytest.mark.parametrize("data", [[X, Y], PAIR, [X, Y, Y], [X, Y.tolist()]])
@pytest.mark.parametrize("door", DOORS)
def test_a_list_of_x_and_y_is_refused_with_the_cure(door, data):
    with pytest.raises(TypeError, match=r"is a list of .* give a tuple, \(x, y\)") as refused:
        DOORS[door](data)
    assert door.split(" of ")[0].split(": ")[-1] in str(refused.value).split()[:3]


def test_two_rows_of_numbers_may_be_either():
    def function(params, batch):
        return float(batch @ batch), {"w": np.zeros(3)}

    with pytest.warns(UserWarning, match="taken as 2 batches; for one data set give a tuple"):
        fit(function, [Y, Y + 1])
    fit(function, lambda: [Y, Y + 1])
    fit(lambda params, batch: (1.0, start()), [X, X])


# Truth is no loss, weights are not negative, empty data have their own name.


@pytest.mark.parametrize("loss", [True, np.True_, np.array(False)])
def test_truth_is_no_loss(loss):
    def function(params, batch=None):
        return loss, {"w": np.ones(3)}

    doors = [
        lambda: fit(function),
        lambda: fit(function, accumulate=2),
        lambda: ss.lr_find(function, start(), LIST),
        lambda: ss.minimize(function, start()),
        lambda: ss.check_gradients(function, start()),
        lambda: ss.LBFGS(start()).step(function),
        lambda: ss.SAM(ss.SGD(start(), lr=0.1)).step(function),
        lambda: ss.tune(
            lambda point: loss, {"lr": ss.LogUniform(1e-3, 1)}, trials=1, on_error="raise"
        ),
        lambda: what_if(LIST, function=value_and_grad, loss=function),
    ]
    for door in doors:
        with pytest.raises(TypeError, match=r"one number"):
            door()


def test_negative_weights_are_refused():
    sklearn = pytest.importorskip("stepsize.interop.sklearn")
    weight = np.ones(23)
    weight[4] = -0.5
    refused = r"sample_weight must be finite and >= 0, .* got -0\.5 in row 4"
    with pytest.raises(ValueError, match=refused):
        sklearn.MLPRegressor().fit(X, Y, sample_weight=weight)
    with pytest.raises(ValueError, match=r"class_weight, got -1"):
        sklearn.MLPClassifier(class_weight={0: 1, 1: -1}).fit(X, Y > 0)


def test_an_option_given_twice_is_refused():
    sklearn = pytest.importorskip("stepsize.interop.sklearn")
    twice = {"beta_1": 0.8, "solver_options": {"betas": (0.7, 0.99)}}
    with pytest.raises(ValueError, match=r"beta_1=0.8 is given, and betas=\(0.7, 0.99\) in solver"):
        sklearn.MLPRegressor(**twice).fit(X, Y)
    with pytest.raises(ValueError, match=r"solver_options hold lr=0.1; give lr= instead"):
        sklearn.MLPRegressor(solver_options={"lr": 0.1}).fit(X, Y)


def test_empty_validation_data_are_named():
    with pytest.raises(ValueError, match=r"validation: .* nothing to validate on"):
        fit(validation=(X[:0], Y[:0]))


# Other data at a resume.


def of_lists(x, y):
    return [(x[k : k + 8], y[k : k + 8]) for k in (0, 8, 16)]


def of_arrays(x, y):
    return x, y


@pytest.mark.parametrize("form", [of_lists, of_arrays])
def test_a_resume_tells_of_other_data(form, tmp_path):
    path = tmp_path / "run"

    def run(data, epochs):
        return fit(train=data, epochs=epochs, checkpoint=path, resume=True)

    run(form(X, Y), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(form(X.copy(), Y.copy()), 2)
    with pytest.warns(UserWarning, match="data are not those of the run in .* holds other values"):
        run(form(X, Y + 1), 3)
    with pytest.warns(UserWarning, match=r"data are not those .* float32\[\d+, 3\] instead of flo"):
        run(form(X.astype(np.float32), Y + 1), 4)
    run(form(X.astype(np.float32), Y + 1), 5)


def test_a_file_without_a_checksum_loads_as_before(tmp_path):
    path = tmp_path / "run"
    fit(epochs=1, checkpoint=path)
    state = nested.load(path, "run")
    del state["cursor"]["data"]
    nested.dump(path, "run", state)
    assert fit(train=(X, Y + 1), epochs=2, checkpoint=path, resume=True).steps == 6


@pytest.mark.parametrize("data", [3, "x", [1, 2], [[1], [2]], [[None] * 3, ["a", {}, 1]], {}])
def test_a_checksum_that_is_none_does_no_harm(data, tmp_path):
    path = tmp_path / "run"
    fit(epochs=1, checkpoint=path)
    state = nested.load(path, "run")
    state["cursor"]["data"] = data
    nested.dump(path, "run", state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResumeWarning)
        assert fit(epochs=2, checkpoint=path, resume=True).steps == 6


def test_a_count_of_skipped_steps_that_is_none_is_refused(tmp_path):
    path = tmp_path / "run"
    fit(epochs=1, checkpoint=path)
    state = nested.load(path, "run")
    state["history"]["meta"]["skipped"] = "many"
    nested.dump(path, "run", state)
    with pytest.raises(ss.CheckpointError, match="meta: skipped must be a whole number"):
        fit(epochs=2, checkpoint=path, resume=True)


def test_a_measure_of_some_batches_alone_is_told_once():
    x, calls = np.ones(3), []

    def evaluate(params, batch):
        calls.append(1)
        return {"a": 1.0} | ({"b": 2.0} if len(calls) % 2 else {})

    with pytest.warns(UserWarning, match=r"evaluate returned 'b' for 1 of 2 batches") as caught:
        history = ss.fit(
            lambda p, b: (float(p @ p), 2 * p), x, ss.SGD(x, lr=0.1), [1], epochs=3,
            validation=[1, 2], evaluate=evaluate, count=lambda b: 1, progress=False,
        )  # fmt: skip
    assert len([w for w in caught if "batches" in str(w.message)]) == 1
    assert history.last("val_b") == 2.0

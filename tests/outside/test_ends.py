"""The end of a run says what was done: nothing, part of it, or something that is no minimum."""

import numpy as np
import pytest

import stepsize as ss
from fitting import linear as value_and_grad

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X @ np.ones(3)


def start():
    return {"w": np.zeros(3)}


def lost(params, batch):
    loss, grads = value_and_grad(params, batch)
    return loss, {"w": grads["w"] * np.nan}


WRAPPERS = {"no": lambda opt: opt, "EMA": ss.EMA, "Lookahead": ss.Lookahead}


def fit(function, wrap=WRAPPERS["no"], **options):
    params = start()
    options = {"epochs": 20, "progress": False, "batch_size": 20} | options
    return ss.fit(function, params, wrap(ss.SGD(params, on_nonfinite="skip")), (X, Y), **options)


@pytest.mark.parametrize("size", [20, 60])
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_run_whose_steps_were_all_skipped_says_so(wrap, size):
    history = fit(lost, wrap, batch_size=size)
    assert history.stopped.startswith("finished, but no gradient of")
    assert "all updates were skipped" in history.stopped
    assert ss.diagnose(history).verdict == "diverging"


def test_a_run_with_some_steps_skipped_is_a_run():
    calls = iter(range(10**6))
    history = fit(lambda p, b: (lost if next(calls) < 20 else value_and_grad)(p, b))
    assert history.stopped == "finished 20 epochs" and history.meta["skipped"] == 20
    assert ss.diagnose(history).verdict != "diverging"


def test_gradients_that_wait_for_an_update_are_told_of(tmp_path):
    def accumulate(every, **options):
        fit(value_and_grad, lambda opt: ss.Accumulate(opt, every), epochs=2, **options)

    with pytest.warns(UserWarning, match="holds the last 2 gradients .* since it waits for 4"):
        accumulate(4)
    with pytest.warns(UserWarning, match="holds the last 1 gradient "):
        fit(value_and_grad, lambda opt: ss.EMA(ss.Accumulate(opt, 5), 0.5), epochs=2)
    accumulate(3)
    accumulate(4, checkpoint=tmp_path / "run")  # which holds them too


def test_a_budget_that_makes_no_updates_is_refused():
    def find(every, **options):
        optimizer = lambda p: ss.Accumulate(ss.SGD(p), every)  # noqa: E731
        return ss.lr_find(
            value_and_grad, start(), (X, Y), optimizer=optimizer, progress=False, **options
        )

    with pytest.raises(ValueError, match=r"Accumulate\(every=10\) steps=100 .* give steps=200"):
        find(10)
    assert find(10, steps=200).usable


@pytest.mark.parametrize("empty", [[], (), np.zeros(0), {"a": np.zeros(0), "b": np.zeros((0, 3))}])
def test_nothing_to_minimize_is_refused(empty):
    with pytest.raises(ValueError, match="minimize: x0 holds no number"):
        ss.minimize(lambda x: (0.0, x), empty)


STILL = {
    "a gradient never filled": lambda x: (float(x @ x), np.zeros(2)),
    "a maximum": lambda x: (-float((x - [3, 2]) @ (x - [3, 2])), -2 * (x - [3, 2])),
    "a saddle": lambda x: (
        float((x - [3, 2]) ** 2 @ [1, -50.0]),
        2 * (x - [3, 2]) * np.array([1, -50.0]),
    ),
}


@pytest.mark.parametrize("rule", ["adam", "lbfgs"])
@pytest.mark.parametrize("function", STILL.values(), ids=STILL)
def test_a_start_without_a_gradient_that_is_no_minimum_has_not_converged(function, rule):
    result = ss.minimize(function, [3.0, 2.0], rule)
    assert not result.converged and "the gradient at x0 is 0, and yet" in result.message
    assert result.nit == 0 and result.nfev <= 3 and result.x.tolist() == [3.0, 2.0]


def test_a_start_at_the_minimum_or_on_a_plain_has_converged():
    for function in (lambda x: (float(x @ x), 2 * x), lambda x: (7.0, 0 * x)):
        result = ss.minimize(function, [0.0, 0.0])
        assert result.converged and result.nfev == 3 and "looking" not in str(result)


def test_a_leaf_that_was_not_checked_is_named():
    def function(params, batch):
        w, c = params["w"], params["c"]
        return float(w @ w + c @ c), {"w": 2 * w, "c": None}

    check = ss.check_gradients(function, {"w": np.ones(3), "c": np.ones(2)})
    assert not check.ok and check.missing == ["c"] and not check.wrong


@pytest.mark.filterwarnings("ignore:the rate is 0 from step")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [8, 32])
def test_a_schedule_meant_in_epochs_is_no_divergence(seed, size):
    """The rate is 0 after ten of hundreds of steps: noise of the batches is all that follows."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(640, 8))
    y = 0.3 * x @ random.normal(size=8) + 2 * random.normal(size=640)
    params = {"w": np.zeros(8)}
    optimizer = ss.Adam(params, lr=ss.schedules.warmup_cosine(0.01, 1, 10))
    common = {"epochs": 10, "batch_size": size, "progress": False}
    history = ss.fit(value_and_grad, params, optimizer, (x, y), **common)
    diagnosis = ss.diagnose(history)
    assert diagnosis.verdict == "too_low" and "rate was 0 in" in str(diagnosis)


@pytest.mark.filterwarnings("ignore:the rate is 0 from step")
def test_a_rate_that_blew_up_before_it_fell_to_0_is_a_divergence():
    params = {"w": np.zeros(3)}
    lr = ss.schedules.linear(3.0, 0.0, 12)
    history = ss.fit(
        value_and_grad, params, ss.SGD(params, lr=lr), (X, Y), epochs=40, progress=False
    )
    assert ss.diagnose(history).verdict == "diverging"

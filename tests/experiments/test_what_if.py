"""`what_if`: branches at other rates, on copies."""

import math
import warnings

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from hostile import X, Y, clean, make_params
from stepsize.experiments.results import Branch, WhatIf

DATA = [(X[i : i + 6], Y[i : i + 6]) for i in range(0, 60, 6)]
WRAPPERS = {
    "EMA": lambda opt: ss.EMA(opt, decay=0.9),
    "SWA": lambda opt: ss.SWA(opt, start=1),
    "Lookahead": lambda opt: ss.Lookahead(opt, k=3),
    "Centralize": ss.Centralize,
    "AdaptiveClip": ss.AdaptiveClip,
    "SAM": ss.SAM,
    "Mechanic": ss.Mechanic,
    "Project": lambda opt: ss.Project(opt, ss.projections.ball(1e3)),
}


def state_of(optimizer):
    found = []

    def look(value):
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                found.append(str(key))
                look(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                look(item)
        elif isinstance(value, np.ndarray):
            found.append(value.tobytes())
        else:
            found.append(repr(value))

    look(optimizer.state_dict())
    return found


def trained(make, steps=5):
    """Parameters and an optimizer some steps into a run."""
    params = make_params()
    optimizer = make(params)
    for batch in DATA[:steps]:
        if getattr(optimizer, "needs_closure", False):
            optimizer.step(lambda p, batch=batch: clean(p, batch))
        else:
            loss, grads = clean(params, batch)
            optimizer.step(grads, loss=loss)
    return params, optimizer


def unchanged(params, optimizer, run):
    before, state = {k: v.tobytes() for k, v in params.items()}, state_of(optimizer)
    numpy_state, rate = np.random.get_state()[1].tobytes(), optimizer.hyperparams  # noqa: NPY002
    found = run()
    assert {k: v.tobytes() for k, v in params.items()} == before
    assert state_of(optimizer) == state and optimizer.hyperparams == rate
    assert np.random.get_state()[1].tobytes() == numpy_state  # noqa: NPY002
    return found


def noisy(params, batch):
    """Least squares with noise of NumPy's global generator."""
    loss, grads = clean(params, batch)
    return loss + 0.01 * np.random.random(), grads  # noqa: NPY002


@pytest.mark.parametrize("cls", [c for c in RULES if not c.needs_closure], ids=lambda c: c.__name__)
def test_nothing_is_changed_with_any_rule(cls):
    params, optimizer = trained(cls)
    found = unchanged(
        params, optimizer, lambda: ss.what_if(noisy, params, optimizer, DATA, steps=4, held=3)
    )
    assert [branch.factor for branch in found.branches] == [0.1, 0.3, 1.0, 10.0]


@pytest.mark.parametrize("name", WRAPPERS)
def test_nothing_is_changed_with_any_wrapper(name):
    params, optimizer = trained(lambda p: WRAPPERS[name](ss.AdamW(p, lr=0.01)))
    found = unchanged(
        params, optimizer, lambda: ss.what_if(noisy, params, optimizer, DATA, steps=4, held=3)
    )
    assert all(len(branch.losses) == 4 for branch in found.branches)


@pytest.mark.parametrize("after", [0, 3, 9, 17, 30])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_changed_when_the_function_raises(after, error):
    params, optimizer = trained(lambda p: ss.AdamW(p, lr=0.01))
    calls = iter(range(10_000))

    def function(p, batch):
        if next(calls) == after:
            raise error("stop")
        return noisy(p, batch)

    def run():
        try:
            return ss.what_if(function, params, optimizer, DATA, steps=4, held=3)
        except error as raised:
            return raised

    found = unchanged(params, optimizer, run)
    # Once a branch is known, Ctrl-C keeps it.
    keeps = error is KeyboardInterrupt and after > 3 + 4 + 3 + 3
    assert isinstance(found, ss.WhatIf if keeps else error)
    if keeps:
        assert found.interrupted and "interrupted" in str(found) and found.branches


@pytest.mark.parametrize("make", [ss.SGD, ss.AdamW, lambda p: ss.Lookahead(ss.SGD(p, lr=0.1), k=2)])
def test_the_branch_at_the_present_rate_is_the_run_itself(make):
    params, optimizer = trained(make)
    found = ss.what_if(clean, params, optimizer, DATA, steps=5, held=4)
    before = [clean(params, DATA[k])[0] for k in range(5, 9)]
    losses = []
    for batch in DATA[:5]:
        loss, grads = clean(params, batch)
        losses.append(loss)
        optimizer.step(grads, loss=loss)
    after = [clean(params, DATA[k])[0] for k in range(5, 9)]
    assert found[1].losses.tolist() == losses
    assert found.before.tolist() == before and found[1].held.tolist() == after
    assert found.gain(1)[0] == pytest.approx(np.mean(before) - np.mean(after))
    assert found.advantage(1) == (0.0, 0.0)


def test_a_branch_follows_the_schedule_at_a_multiple():
    schedule = ss.schedules.cosine(0.1, 0.0, 40)
    params, optimizer = trained(lambda p: ss.SGD(p, lr=schedule))
    found = ss.what_if(clean, params, optimizer, DATA, steps=6, held=2, factors=(0.5,))
    other = {k: v.copy() for k, v in params.items()}
    twin = optimizer.clone(other)
    twin.lr = schedule * 0.5
    for batch in DATA[:6]:
        twin.step(clean(other, batch)[1])
    assert found[0.5].held.tolist() == [clean(other, DATA[k])[0] for k in (6, 7)]


def test_gains_are_paired_over_the_held_batches():
    params, optimizer = trained(lambda p: ss.SGD(p, lr=0.01))
    found = ss.what_if(clean, params, optimizer, DATA, steps=3, held=5)
    for factor in (0.1, 0.3, 1, 10):
        differences = found.before - found[factor].held
        gained, error = found.gain(factor)
        assert gained == pytest.approx(differences.mean())
        assert error == pytest.approx(differences.std(ddof=1) / math.sqrt(5))


def test_a_branch_that_blows_up_is_evidence():
    params, optimizer = trained(lambda p: ss.SGD(p, lr=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ss.what_if(
            clean, params, optimizer, DATA, steps=400, held=4, factors=(1, 1000), memorise=False
        )
    assert found[1000].diverged and "the loss" in found[1000].failure
    assert found.gain(1000)[0] == -math.inf and found.advantage(1000)[0] == -math.inf
    assert found.best == 1.0 and "x1000 diverges" in str(found)
    assert "diverges" in found.table() and found.to_pandas()["diverged"].tolist() == [False, True]


def test_too_low_a_rate_is_seen():
    params, optimizer = trained(lambda p: ss.SGD(p, lr=1e-4))
    found = ss.what_if(clean, params, optimizer, DATA, steps=10, held=8)
    assert found.best == 10.0 and found.advantage(10)[0] > 4 * found.advantage(10)[1] > 0


def test_noise_shows_in_the_average_and_in_lower_rates():
    random = np.random.default_rng(1)
    batches = [random.normal(size=2) for _ in range(400)]

    def function(p, batch):
        return float(((p - batch) ** 2).sum() / 2), p - batch

    params = np.zeros(2)
    optimizer = ss.SGD(params, lr=0.5)
    for batch in batches[:200]:
        optimizer.step(function(params, batch)[1])
    found = ss.what_if(
        function, params, optimizer, batches[200:], steps=60, held=100, memorise=False
    )
    assert found.best < 1 and found.average_gain[0] > 0
    assert found.advantage(0.1)[0] > 2 * found.advantage(0.1)[1]


def test_one_batch_can_be_learnt_by_heart_or_not():
    params, optimizer = trained(lambda p: ss.SGD(p, lr=0.3))
    history = ss.History.from_arrays(loss=np.linspace(1, 0.1, 400), lr=np.full(400, 0.3))
    found = ss.what_if(clean, params, optimizer, DATA, history=history, held=2, memorise=1.0)
    assert found.memorised_steps == 400 and found.memorised < 0.9
    constant = ss.what_if(
        lambda p, b: (1.0, {"w": np.zeros((3, 2)), "b": np.zeros(2)}),
        params, optimizer, DATA, history=history, held=2,
    )  # fmt: skip
    assert constant.memorised == 1.0


def test_what_it_costs_is_counted_and_said():
    params, optimizer = trained(lambda p: ss.SGD(p, lr=0.01))
    calls = []

    def function(p, batch):
        calls.append(0)
        return clean(p, batch)

    values = []

    def value(p, batch):
        values.append(0)
        return clean(p, batch)[0]

    found = ss.what_if(function, params, optimizer, DATA, steps=3, held=4, memorise=0.5)
    assert found.gradients == len(calls) and f"{len(calls)} gradients" in str(found)
    calls.clear()
    again = ss.what_if(function, params, optimizer, DATA, steps=3, held=4, loss=value)
    assert (again.gradients, again.values) == (len(calls), len(values))
    assert again[1].held.tolist() == found[1].held.tolist()
    assert f"{len(values)} losses" in str(again) and len(str(again).splitlines()) == 3


def test_held_batches_that_were_trained_on_are_said():
    params, optimizer = trained(lambda p: ss.SGD(p, lr=0.01))
    found = ss.what_if(clean, params, optimizer, DATA[:3], steps=4, held=2)
    assert not found.apart and "trained on" in str(found)
    found = ss.what_if(clean, params, optimizer, (X, Y), batch_size=6, steps=4, held=2)
    assert found.apart and "trained on" not in str(found)


def test_the_order_of_the_data_is_not_changed():
    random = np.random.default_rng(3)

    def batches():
        for k in random.permutation(len(DATA)):
            yield DATA[k]

    params, optimizer = trained(lambda p: ss.SGD(p, lr=0.01))
    before = random.bit_generator.state
    ss.what_if(clean, params, optimizer, batches, steps=4, held=2)
    assert random.bit_generator.state == before
    with pytest.raises(TypeError, match="what_if: batches is an iterator"):
        ss.what_if(clean, params, optimizer, iter(DATA), steps=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factors": ()}, "factors must be positive numbers"),
        ({"factors": (0.1, -1)}, "factors must be positive numbers"),
        ({"factors": "x"}, "factors must be positive numbers"),
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"steps": None}, "the optimizer has made no step"),
        ({"held": 1}, "held must be at least 2, got 1"),
        ({"memorise": 2}, "memorise must be a share of the run"),
        ({"memorise": True}, "memorise must be a share of the run"),
        ({"loss": 3}, "loss must be a function"),
        ({"loss": lambda p, b: None}, "loss must return one number, it returned NoneType"),
        ({"loss": lambda p, b: "1"}, "loss must return one number, it returned str"),
        ({"history": [1.0]}, "history must be a History"),
        ({"optimizer": ss.SGD}, "optimizer must be the optimizer of the run"),
        ({"optimizer": "adam"}, "optimizer must be the optimizer of the run"),
        ({"value_and_grad": None}, "value_and_grad must be a function"),
        ({"value_and_grad": lambda p, b: (math.nan, p)}, "the loss is nan at the present"),
        ({"batches": []}, "what_if: batches is empty"),
        ({"batches": 3}, "what_if: batches must be an iterable"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    params = make_params()
    given = {
        "value_and_grad": clean, "params": params, "optimizer": ss.SGD(params, lr=0.1),
        "batches": DATA, "steps": 4, **change,
    }  # fmt: skip
    positional = [given.pop(k) for k in ("value_and_grad", "params", "optimizer", "batches")]
    with pytest.raises((ValueError, TypeError), match=message):
        ss.what_if(*positional, **given)


def test_rules_without_a_rate_are_refused():
    params = make_params()
    with pytest.raises(ValueError, match="LBFGS finds the length of its steps by line search"):
        ss.what_if(clean, params, ss.LBFGS(params), DATA, steps=4)


def test_low_precision_and_groups():
    params = {k: v.astype(np.float16) for k, v in make_params().items()}
    optimizer = ss.AdamW(params, lr=0.01, groups=[ss.group("b", lr=0.1)], state_dtype="int8")

    def function(p, batch):
        loss, grads = clean({k: v.astype(np.float64) for k, v in p.items()}, batch)
        return loss, {k: g.astype(np.float16) for k, g in grads.items()}

    found = ss.what_if(function, params, optimizer, DATA, steps=4, held=3)
    assert found.lr == pytest.approx(0.1) and found.averaged.shape == (3,)


def test_the_picture_shows_every_branch():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    params = make_params()
    optimizer = ss.SGD(params, lr=0.01)
    history = ss.fit(clean, params, optimizer, DATA, epochs=4)
    found = ss.what_if(
        clean, params, optimizer, DATA, history=history, steps=200, factors=(0.1, 1, 1e4)
    )
    ax = found.plot()
    names = [text.get_text().split()[0] for text in ax.texts if text.get_text()]
    assert sorted(names) == ["x0.1", "x1", "x10000"]
    assert any("diverges" in text.get_text() for text in ax.texts)
    pyplot.close(ax.figure)
    with pytest.raises(KeyError, match=r"no branch at factor 5; there are 0\.1, 1, 10000"):
        found[5]


def test_words_and_table_agree_on_what_ends_lower():
    def found(lead):
        spread = 0.01 * np.array([1.0, -1.0] * 8)
        held = {0.1: 1.0 - lead + spread, 1.0: np.ones(16), 10.0: np.full(16, 2.0)}
        branches = tuple(Branch(k, np.full(10, k), v) for k, v in held.items())
        return WhatIf(branches, 0.1, 10, 100, np.ones(16), averaged=0.9 + spread)

    for lead in (-0.1, 0.001, 0.003, 0.006, 0.1):
        text, (_, error) = str(found(lead)), found(lead).advantage(0.1)
        clear = lead > 2 * error
        assert ("lowest is x0.1" in text) == clear
        assert ("no factor ends lower than the present rate by 2 standard errors" in text) != clear
        assert (f"(x0.1 ends {lead:.2g} (+-{error:.1g}) lower)" in text) == (lead > 0 and not clear)
        assert f"change the end by -0.1 (+-{error:.1g})" in text


def test_a_loss_below_0_has_no_share_that_is_left():
    x = np.array([3.0, 1.0])
    found = ss.what_if(
        lambda x, b: (float(x @ x) - 50, 2 * x), x, ss.SGD(x, lr=0.1), [None] * 4, steps=20
    )
    assert math.isnan(found.memorised) and "nan" not in str(found)
    assert "its loss is not above 0" in str(found)

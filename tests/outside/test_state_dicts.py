"""State dicts of everything that has one: what does not fit is refused by its key, and nothing has
changed; what is taken is held as it was given."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepsize as ss
from fitting import linear as value_and_grad

rng = np.random.default_rng(2)
X, Y = rng.normal(size=(40, 3)), rng.normal(size=40)


def trained(callback, **options):
    """The callback after a run that it was part of."""
    params = {"w": np.zeros(3)}
    opt = options.pop("opt", ss.Adam)(params)
    ss.fit(
        value_and_grad, params, opt, (X, Y), epochs=3, batch_size=8, validation=(X, Y),
        callbacks=[callback], progress=False, **options,
    )  # fmt: skip
    return callback


def history():
    params = {"w": np.zeros(3)}
    return ss.fit(value_and_grad, params, ss.SGD(params), (X, Y), epochs=1, progress=False)


def controlled(make, **options):
    controller = make(stepped(ss.SGD), **options)
    for metric in (3.0, 2.0, 2.5):
        controller.update(metric)
    return controller


def stepped(make):
    params = {"w": np.ones(3)}
    optimizer = make(params)
    for _ in range(3):
        optimizer.step({"w": np.full(3, 0.5)})
    return optimizer


def population():
    params = {"w": np.ones((2, 3))}
    made = ss.population(ss.Adam, params, lr=[0.1, 0.2])
    made.step({"w": np.ones((2, 3))})
    return made


def scheduler():
    torch = pytest.importorskip("torch")
    from stepsize.interop.torch import ScheduleLR

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    made = ScheduleLR(optimizer, ss.schedules.linear(1.0, 0.0, 10))
    optimizer.step()
    made.step()
    return made


def torch_adam():
    torch = pytest.importorskip("torch")
    from stepsize.interop.torch import Adam

    x = torch.nn.Parameter(torch.ones(2))
    made = Adam([x], lr=0.1)
    x.grad = torch.ones(2)
    made.step()
    return made


def optax_adam():
    optax = pytest.importorskip("optax")
    from stepsize.interop.optax import from_optax

    params = {"w": np.ones(3, np.float32)}
    made = from_optax(optax.adam(0.1), params)
    made.step({"w": np.ones(3, np.float32)})
    return made


OWNERS = {
    "EarlyStopping": lambda: trained(ss.EarlyStopping(), opt=lambda p: ss.EMA(ss.Adam(p), 0.5)),
    "EarlyStopping, unused": ss.EarlyStopping,
    "ReduceOnPlateau": lambda: trained(ss.ReduceOnPlateau(restore_best=True)),
    "ReduceOnStationarity": lambda: trained(ss.ReduceOnStationarity()),
    "StopOnDivergence": lambda: trained(ss.StopOnDivergence()),
    "RollBackOnSpike": lambda: trained(ss.RollBackOnSpike(every=4)),
    "NoiseScaleMonitor": lambda: trained(ss.NoiseScaleMonitor(), accumulate=2),
    "KeepGenerators": lambda: ss.KeepGenerators(
        np.random.default_rng(1), np.random.Generator(np.random.Philox(3))
    ),
    "Checkpoint": lambda: ss.Checkpoint("model.safetensors", keep=2),
    "Plateau": lambda: controlled(ss.Plateau, restore_best=True),
    "Greedy": lambda: controlled(ss.schedules.Greedy, window=3),
    "History": history,
    "Adam": lambda: stepped(ss.Adam),
    "LBFGS": lambda: ss.LBFGS({"w": np.ones(3)}),
    "EMA": lambda: stepped(lambda p: ss.EMA(ss.Adam(p), 0.5)),
    "SWA": lambda: stepped(lambda p: ss.SWA(ss.Adam(p), start=1)),
    "Lookahead": lambda: stepped(lambda p: ss.Lookahead(ss.Adam(p), k=2)),
    "Accumulate": lambda: stepped(lambda p: ss.Accumulate(ss.Adam(p), every=2)),
    "Mechanic": lambda: stepped(lambda p: ss.Mechanic(ss.Adam(p))),
    "AdaptiveClip": lambda: stepped(lambda p: ss.AdaptiveClip(ss.Adam(p))),
    "schedule-free": lambda: stepped(ss.ScheduleFreeAdamW),
    "population": population,
    "optax": optax_adam,
    "ScheduleLR": scheduler,
    "torch Adam": torch_adam,
}
NO_DICTS = (None, [], "x", 3, math.nan, {"best"})
WRONG = {
    "None": None, "text": "x", "NaN": math.nan, "huge": 10**400, "negative": -1, "fraction": 1.5,
    "truth": True, "list": [1], "dict": {"?": 1}, "object": object(), "bytes": b"x", "complex": 1j,
}  # fmt: skip
# Whatever NumPy, torch and the user's own notes hold is theirs to judge; a loss scale that is not
# dynamic is what the optimizer was made with.
FREE = (
    "meta",
    "loss_scale",
    "schedule",
    "generators",
    "_step_count",
    "_get_lr",
    "_last_lr",
    "_is_initial",
)


def shown(value: Any) -> Any:
    """A state for comparison: types and bits."""
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    if hasattr(value, "detach"):
        return shown(value.detach().numpy())
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return type(value).__name__, repr(value)


def places(state: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value."""
    if isinstance(state, dict | list) and (not above or above[-1] not in FREE):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield (*above, key)
            yield from places(value, (*above, key))


def changed(state: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value there."""
    owner = copy.deepcopy(state)
    inner = owner
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return owner


def without(state: Any, key: Any) -> Any:
    return {name: copy.deepcopy(value) for name, value in state.items() if name != key}


@pytest.fixture(params=OWNERS)
def owner(request):
    return OWNERS[request.param]()


def refuse(owner, state, key=""):
    """Loading must fail by a ValueError that names the key, and leave everything as it was."""
    before = shown(owner.state_dict())
    with pytest.raises(ValueError, match=r"\w") as error:
        owner.load_state_dict(state)
    assert type(error.value) is ValueError and key in str(error.value)
    assert shown(owner.state_dict()) == before


def test_what_is_no_dict_is_refused(owner):
    for state in NO_DICTS:
        before = shown(owner.state_dict())
        with pytest.raises(ValueError, match="dict"):
            owner.load_state_dict(state)
        assert shown(owner.state_dict()) == before


def test_a_missing_or_foreign_key_is_named(owner):
    state = owner.state_dict()
    for key in state:
        optional = {"values", "optimizer", "kept", "best", "wrappers", "replicas", "factors"}
        if key in optional or key[0] == "_":
            continue  # absent from states of earlier versions, or named in other words
        refuse(owner, without(state, key), str(key))
    if "param_groups" not in state:  # torch ignores what it does not know
        refuse(owner, {**state, "foreign": 1}, "foreign")


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.filterwarnings("ignore:ScheduleLR. the state has the schedule")
def test_a_wrong_value_anywhere_is_refused_or_held_as_given(owner, wrong):
    state = owner.state_dict()
    fresh = copy.deepcopy(state)
    for place in places(state):
        if place[-1] in FREE or str(place[0]) in FREE or "param_groups" in place:
            continue
        given = changed(state, place, wrong)
        before = shown(owner.state_dict())
        try:
            owner.load_state_dict(given)
        except (TypeError, ValueError) as error:
            assert shown(owner.state_dict()) == before, place
            assert ": " in str(error) and len(str(error)) < 900, (place, str(error))
        else:
            held = shown(owner.state_dict())
            # A default may stand for None, and a float for a whole number.
            assert wrong is None or alike(held, shown(given)), place
            owner.load_state_dict(fresh)


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        follows = {"_last_lr"}  # from the step and the factors
        return set(one) == set(other) and all(
            alike(one[key], other[key]) for key in set(one) - follows
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    numbers = {"int", "float"}
    if one[0] in numbers and other[0] in numbers:
        return float(one[1]) == float(other[1]) or one[1] == other[1]
    return one == other

"""An optimizer's state as a dict and as a file: copied, strict, and nothing changed on refusal."""

import copy
import json
import time

import numpy as np
import pytest

import stepsize as ss
from cases import CASES, RULES, advance, random_grads, random_nest, snapshot
from stepsize.optimizers import loop

SHAPES = {"w": (3, 4), "b": (4,), "s": ()}


def trained(cls=ss.Adam, steps=3, **keywords):
    params = random_nest(SHAPES, np.float32)
    optimizer = cls(params, **keywords)
    for seed in range(steps):
        advance(optimizer, random_grads(params, seed))
    return optimizer


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in CASES])
def test_a_state_dict_is_plain_and_copied_both_ways(case):
    params = random_nest(SHAPES, np.float32)
    optimizer = case.make(params)
    advance(optimizer, random_grads(params, 0))
    saved = optimizer.state_dict()
    assert type(saved["step_count"]) is int and saved["rule"] == case.cls.__name__
    kept = copy.deepcopy(saved)
    check_plain(saved)
    before = snapshot(optimizer)
    for slots in saved["state"].values():
        for array in slots.values():
            array[...] = 77
    assert snapshot(optimizer) == before
    fresh = case.make(ss.arrays.copy(params))
    fresh.load_state_dict(kept)
    advance(fresh, random_grads(params, 1))
    for path, slots in optimizer.state_dict()["state"].items():
        for name, array in slots.items():
            assert np.array_equal(kept["state"][path][name], array)


def check_plain(value):
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        for item in value.values():
            check_plain(item)
    elif isinstance(value, list):
        for item in value:
            check_plain(item)
    else:
        assert type(value) in (int, float, str, bool, type(None), np.ndarray)


def test_loading_takes_over_hyperparameters_and_schedule():
    schedule = ss.schedules.cosine(0.1, 0.0, 20)
    first = trained(ss.AdamW, lr=schedule, weight_decay=0.5)
    first.lr_scale = 0.25
    second = ss.AdamW(random_nest(SHAPES, np.float32), lr=9.0)
    second.load_state_dict(first.state_dict())
    assert second.lr == first.lr == schedule(3) * 0.25
    assert second.hyperparams == first.hyperparams and second.step_count == 3


def test_no_schedule_stands_in_for_a_function_that_was_saved():
    optimizer = ss.SGD(np.ones(3), lr=lambda t: 0.1)
    scheduled = ss.SGD(np.ones(3), lr=ss.schedules.constant(0.1))
    with pytest.raises(ValueError, match=r"lr was the function .*, which no file can hold"):
        scheduled.load_state_dict(optimizer.state_dict())


def test_a_function_cannot_be_saved_but_kept():
    first = trained(lr=lambda step: 0.1)
    second = ss.Adam(random_nest(SHAPES, np.float32), lr=lambda step: 0.2)
    second.load_state_dict(first.state_dict())
    assert second.lr == 0.2
    third = ss.Adam(random_nest(SHAPES, np.float32))
    before = snapshot(third)
    with pytest.raises(ValueError) as caught:
        third.load_state_dict(first.state_dict())
    assert "Adam: lr was the function" in str(caught.value)
    assert "make the optimizer with lr= that function, then load" in str(caught.value)
    assert snapshot(third) == before


def damage(**changes):
    def act(d):
        for place, value in changes.items():
            *keys, last = place.split("__")
            inner = d
            for key in keys:
                inner = inner[int(key) if key.isdigit() else key]
            if value is KeyError:
                del inner[last]
            else:
                inner[last] = value
        return d

    return act


KEYS = "format, rule, step_count, lr_scale, loss_scale, groups, steps, scalars, state"
BAD_STATES = [
    (lambda d: None, "Adam: a state dict must be a dict, got NoneType"),
    (lambda d: {}, f"Adam: a state dict must have {KEYS}; found no {KEYS.replace(', ', ', no ')}"),
    (damage(rule=KeyError), f"Adam: a state dict must have {KEYS}; found no rule"),
    (damage(more=1), f"Adam: a state dict must have {KEYS}; found an unknown more"),
    (
        damage(format=99),
        "Adam: the state has format 99, this stepsize reads 1; load it with the version that "
        "wrote it",
    ),
    (damage(rule="SGD"), "Adam: the state is one of SGD; load it into that class"),
    (damage(state__w=KeyError), "Adam: the state must have b, s, w; found no w"),
    (damage(state__x={}), "Adam: the state must have b, s, w; found an unknown x"),
    (
        damage(groups__0__leaves=["b", "s", "w", "x"]),
        "Adam: the state's groups are [['b', 's', 'w', 'x']], here they are [['b', 's', 'w']]",
    ),
    (
        damage(groups__0__hyperparams__eps=KeyError),
        "Adam: the hyperparameters must have lr, betas, eps, weight_decay, amsgrad, "
        "decoupled_weight_decay, cautious, cautious_decay, decay_max_lr, update_clip, mars_gamma; "
        "found no eps",
    ),
    (
        damage(groups__0__hyperparams__lr=-1.0),
        "Adam: lr must be a finite number >= 0, got -1.0",
    ),
    (
        damage(groups__0__hyperparams__amsgrad=True),
        "Adam: the saved amsgrad is True, here it is False; make the optimizer with "
        "amsgrad=True, then load",
    ),
    (
        damage(state__w__exp_avg=KeyError),
        "Adam: the state of w must have exp_avg, exp_avg_sq; found no exp_avg",
    ),
    (
        damage(state__w__more=np.zeros(3)),
        "Adam: the state of w must have exp_avg, exp_avg_sq; found an unknown more",
    ),
    (
        damage(state__w__exp_avg=np.zeros((4, 3), np.float32)),
        "Adam: the state exp_avg of w has shape (4, 3), expected (3, 4)",
    ),
    (
        damage(state__w__exp_avg=np.zeros((3, 4))),
        "Adam: the state exp_avg of w has dtype float64, expected float32",
    ),
    (
        damage(state__w__exp_avg=[0.0]),
        "Adam: the state exp_avg of w has shape list, expected (3, 4)",
    ),
    (
        damage(step_count=-1),
        "Adam: step_count must be a whole number in [0, 4611686018427387904], got -1",
    ),
    (
        damage(step_count="many"),
        "Adam: step_count must be a whole number in [0, 4611686018427387904], got 'many'",
    ),
    (
        damage(steps__w=2.5),
        "Adam: the steps of w must be a whole number in [0, 4611686018427387904], got 2.5",
    ),
    (damage(steps__w=KeyError), "Adam: the steps must have b, s, w; found no w"),
    (damage(scalars__w=KeyError), "Adam: the scalars must have b, s, w; found no w"),
    (
        damage(lr_scale=float("nan")),
        "Adam: lr_scale must be a finite number >= 0, got nan",
    ),
]


@pytest.mark.parametrize(("act", "message"), BAD_STATES)
def test_bad_state_dicts(act, message):
    optimizer = trained()
    before = snapshot(optimizer)
    other = trained(steps=5).state_dict()
    with pytest.raises(ValueError) as caught:
        optimizer.load_state_dict(act(other))
    assert str(caught.value) == message
    assert snapshot(optimizer) == before


def test_groups_must_be_the_same():
    saved = trained(groups=[ss.group("b", lr=0.5)]).state_dict()
    with pytest.raises(ValueError) as caught:
        trained().load_state_dict(saved)
    assert str(caught.value) == (
        "Adam: the state's groups are [['s', 'w'], ['b']], here they are [['b', 's', 'w']]"
    )


# Files.


@pytest.mark.parametrize("cls", RULES)
def test_a_file_holds_everything_but_the_parameters(cls, tmp_path):
    first = trained(cls)
    first.save(tmp_path / "state")
    second = cls(random_nest(SHAPES, np.float32), lr=0.75)
    second.load(tmp_path / "state")
    assert snapshot(second)["state"] == snapshot(first)["state"]


OPTIMIZERS = {
    "groups": lambda: trained(groups=[ss.group("b", lr=ss.schedules.constant(0.5))]),
    "scalars": lambda: trained(ss.Prodigy),
    "int8": lambda: trained(state_dtype="int8"),
    "wrappers": lambda: ss.EMA(ss.Mechanic(trained())),
}


def places(d, above=()):
    """The keys on the way to every value of a nest."""
    for key, value in d.items() if isinstance(d, dict) else enumerate(d):
        yield (*above, key)
        if isinstance(value, dict | list) and key != "schedule":
            yield from places(value, (*above, key))


def spoilt(state, place, how):
    """A copy of the state, spoilt in one place; None where that cannot be."""
    *above, last = place
    owner = copy.deepcopy(state)
    inner = owner
    for key in above:
        inner = inner[key]
    value = inner[last]
    if how == "gone":
        del inner[last]
    elif how == "another name" and isinstance(inner, dict):
        inner[f"{last}?"] = inner.pop(last)
    elif how == "one more" and isinstance(value, dict) and last != "schedule":
        value["?"] = 1
    elif how == "nothing" and value is not None:
        inner[last] = None
    elif how == "a word":
        inner[last] = "?"
    elif how == "shape" and isinstance(value, np.ndarray):
        inner[last] = np.zeros(value.size + 1, value.dtype)
    else:
        return None
    return owner


@pytest.mark.parametrize("how", ["gone", "another name", "one more", "nothing", "a word", "shape"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_state_spoilt_in_any_place_is_refused_in_words_and_changes_nothing(kind, how):
    optimizer, found = OPTIMIZERS[kind](), 0
    state = optimizer.state_dict()
    grown = ss.arrays.copy(optimizer.params)
    optimizer.step(random_grads(grown, 9))
    before = snapshot(optimizer)
    later = {*type(optimizer.internals.rule).later, *loop.LOOP}
    for place in places(state):
        bad = spoilt(state, place, how)
        if bad is None or (how == "gone" and place[-1] in later):
            continue  # files may be older than a hyperparameter
        found += 1
        with pytest.raises((TypeError, ValueError), match=r"\w+: .*\w"):
            optimizer.load_state_dict(bad)
        assert snapshot(optimizer) == before, place
    assert found


@pytest.mark.parametrize("bad", [None, [], "?", 3])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_is_no_dict_is_no_state(kind, bad):
    with pytest.raises(ValueError, match="a state dict"):
        OPTIMIZERS[kind]().load_state_dict(bad)


def test_the_time_to_load_grows_with_the_number_of_leaves_and_no_faster():
    optimizer = ss.SGD({f"{i}": np.zeros(1) for i in range(15_000)}, momentum=0.9)
    start = time.perf_counter()
    state = optimizer.state_dict()
    between = time.perf_counter()
    optimizer.load_state_dict(state)
    assert time.perf_counter() - between < 20 * (between - start)


def test_a_file_in_other_hands(tmp_path):
    optimizer, path = trained(), tmp_path / "state"
    before = snapshot(optimizer)
    with pytest.raises(FileNotFoundError, match="state"):
        optimizer.load(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ss.CheckpointError, match="state"):
        optimizer.load(path)
    trained(ss.SGD, momentum=0.9).save(path)
    with pytest.raises(ValueError, match="Adam: the state is one of SGD"):
        optimizer.load(path)
    assert snapshot(optimizer) == before


def test_every_flipped_bit_is_noticed(tmp_path):
    optimizer, path = trained(), tmp_path / "state"
    optimizer.save(path)
    good = path.read_bytes()
    before = snapshot(optimizer)
    for place in range(0, len(good), 37):
        bad = bytearray(good)
        bad[place] ^= 4
        path.write_bytes(bad)
        with pytest.raises(ss.CheckpointError):
            optimizer.load(path)
    assert snapshot(optimizer) == before


def test_a_file_is_safetensors_with_json(tmp_path):
    from safetensors import safe_open

    path = tmp_path / "state"
    trained().save(path)
    with safe_open(path, framework="numpy") as file:
        assert len(list(file.keys())) == 6
        json.loads(file.metadata()["meta"])


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state"
    trained().save(path)
    good = path.read_bytes()
    with pytest.raises(OSError):
        trained(steps=4).save(tmp_path / "missing" / "state")
    assert path.read_bytes() == good and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("count", [2**62 + 1, 2**63 - 1, 2**63, 10**400])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_counter_that_would_run_over_is_refused_before_anything_is_written(kind, count):
    optimizer = OPTIMIZERS[kind]()
    before = snapshot(optimizer)
    for place in (("step_count",), ("steps", optimizer.paths[-1]), ("loss_scale", 1)):
        bad = copy.deepcopy(optimizer.state_dict())
        inner = bad
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = count
        with pytest.raises(ValueError):
            optimizer.load_state_dict(bad)
        assert snapshot(optimizer) == before


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_numbers_that_no_float_holds_are_refused(value):
    optimizer = ss.NAdam([np.ones(2)])
    before = snapshot(optimizer)
    for name, key in (("scalars", "mu_product"), (None, "lr_scale")):
        bad = copy.deepcopy(optimizer.state_dict())
        (bad[name]["0"] if name else bad)[key] = value
        with pytest.raises(ValueError):
            optimizer.load_state_dict(bad)
        assert snapshot(optimizer) == before


def test_a_state_from_before_a_hyperparameter_was_there_is_taken():
    one, two = (ss.Adam([np.ones(2)], lr=0.1) for _ in range(2))
    one.step([np.ones(2)])
    state = one.state_dict()
    del state["groups"][0]["hyperparams"]["decoupled_weight_decay"]
    two.load_state_dict(state)
    assert two.step_count == 1


def test_a_state_without_its_wrapper_says_where_it_belongs():
    plain = ss.Adam(np.ones(2))
    wrapped = ss.EMA(ss.Adam(np.ones(2)))
    with pytest.raises(
        ValueError, match=r"EMA: the state is that of Adam without a wrapper; .*inner"
    ):
        wrapped.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="SWA: the state is that of the wrapper EMA; load it into"):
        ss.SWA(ss.Adam(np.ones(2))).load_state_dict(wrapped.state_dict())
    wrapped.inner.load_state_dict(plain.state_dict())

"""The options of the loop: the formulas of the papers, every storage, and refusals by name."""

from contextlib import nullcontext

import numpy as np
import pytest

import stepsize as ss
from cases import LOOP, LOOP_CASES, RULES, advance, numpy_rule, random_grads, same_bits, snapshot
from stepsize.optimizers import loop, slots
from together import alike, together

STEPS = 100
SHAPES = {"w": (7, 5), "b": (300,)}


def drawn(seed, dtype=float):
    random = np.random.default_rng(seed)
    return {k: np.array(random.standard_normal(shape), dtype) for k, shape in SHAPES.items()}


def trained(make, weight=0.3):
    """The parameters after a hundred steps whose gradients change slowly and are noisy."""
    params = drawn(0)
    optimizer = make(params)
    for t in range(STEPS):
        noise = drawn(t + 1)
        optimizer.step({k: weight * x + noise[k] for k, x in params.items()})
    return params


def by_hand(update, weight=0.3):
    """The same by a formula: ``update(x, g, state, t)`` returns the next point."""
    params, state = drawn(0), {k: {} for k in SHAPES}
    for t in range(STEPS):
        noise = drawn(t + 1)
        params = {k: update(x, weight * x + noise[k], state[k], t + 1) for k, x in params.items()}
    return params


def assert_near(found, expected):
    for key, x in expected.items():
        np.testing.assert_allclose(found[key], x, rtol=1e-9, atol=1e-12)


def adam(g, s, t, betas=(0.9, 0.999), eps=1e-8):
    """Adam's direction, Kingma & Ba 2015, Algorithm 1."""
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    return s["m"] / (1 - betas[0] ** t) / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps)


def test_cautious_decay_is_algorithm_1_of_its_paper():
    lr, decay = 0.05, 0.4

    def adamw(x, g, s, t):
        u = adam(g, s, t)
        return x - lr * (u + decay * (u * x >= 0) * x)

    made = trained(lambda p: ss.AdamW(p, lr=lr, weight_decay=decay, cautious_decay=True))
    assert_near(made, by_hand(adamw))

    def lion(x, g, s, t):
        m = s.get("m", 0)
        u, s["m"] = np.sign(0.9 * m + 0.1 * g), 0.99 * m + 0.01 * g
        return x - lr * (u + decay * (u * x >= 0) * x)

    made = trained(lambda p: ss.Lion(p, lr=lr, weight_decay=decay, cautious_decay=True))
    assert_near(made, by_hand(lion))
    plain = trained(lambda p: ss.Lion(p, lr=lr, weight_decay=decay))
    assert not np.allclose(made["b"], plain["b"])


def test_cautious_moves_count_as_none_for_cautious_decay():
    lr, decay = 0.05, 0.4

    def adamw(x, g, s, t):
        u = adam(g, s, t)
        u = u * (u * g > 0)
        return x - lr * (u + decay * (u * x >= 0) * x)

    made = trained(
        lambda p: ss.AdamW(p, lr=lr, weight_decay=decay, cautious=True, cautious_decay=True)
    )
    assert_near(made, by_hand(adamw))


def test_corrected_decay_is_that_of_adamc():
    rate, decay = ss.schedules.cosine(0.05, 0.001, STEPS).warmup(10), 0.4

    def adamc(x, g, s, t):
        lr = rate(t - 1)
        return x - lr * adam(g, s, t) - lr**2 / 0.05 * decay * x

    made = trained(lambda p: ss.AdamW(p, lr=rate, weight_decay=decay, decay_max_lr=0.05))
    assert_near(made, by_hand(adamc))

    def both(x, g, s, t):
        lr, u = rate(t - 1), adam(g, s, t)
        return x - lr * u - lr**2 / 0.05 * decay * (u * x >= 0) * x

    made = trained(
        lambda p: ss.AdamW(p, lr=rate, weight_decay=decay, decay_max_lr=0.05, cautious_decay=True)
    )
    assert_near(made, by_hand(both))


@pytest.mark.parametrize("clip", [0.8, 1.0])
def test_update_clip_is_that_of_stable_adamw(clip):
    lr, decay, betas, eps = 0.05, 0.4, (0.9, 0.95), 1e-6
    rates = []

    def stable(x, g, s, t):
        u = adam(g, s, t, betas, eps)
        second = s["v"] / (1 - betas[1] ** t)
        rms = np.sqrt(np.mean(g**2 / np.maximum(second, eps**2)))
        rates.append(1 / max(1, rms / clip))
        return x - lr * rates[-1] * u - lr * decay * x

    made = trained(
        lambda p: ss.AdamW(p, lr=lr, betas=betas, eps=eps, weight_decay=decay, update_clip=clip)
    )
    assert_near(made, by_hand(stable))
    assert min(rates) < 0.95


@pytest.mark.parametrize("weight", [0.3, 0.01])
def test_mars_is_that_of_its_paper(weight):
    lr, decay, betas, gamma = 0.05, 0.4, (0.95, 0.99), 0.025
    norms = []

    def mars(x, g, s, t):
        c = g + gamma * betas[0] / (1 - betas[0]) * (g - s.get("last", g))
        s["last"] = g
        norms.append(np.linalg.norm(c))
        c = c / norms[-1] if norms[-1] > 1 else c
        return x - lr * (adam(c, s, t, betas) + decay * x)

    made = trained(
        lambda p: ss.AdamW(p, lr=lr, betas=betas, weight_decay=decay, mars_gamma=gamma), weight
    )
    assert_near(made, by_hand(mars, weight))
    assert max(norms) > 1


@together("compiled", [True, False], alike)
def test_mars_takes_gradients_whose_squares_are_beyond_all_numbers(compiled):
    found = []
    for factor in (2.0**20, 2.0**1000):  # both far above norm 1
        params = drawn(0)
        with nullcontext() if compiled else numpy_rule(ss.AdamW):
            optimizer = ss.AdamW(params, lr=0.1, mars_gamma=0.1)
        for t in range(3):
            optimizer.step({k: g * factor for k, g in drawn(t + 1).items()})
        found.append(params)
    assert all(same_bits(found[0][k], found[1][k]) for k in SHAPES)
    assert not any(same_bits(found[0][k], x) for k, x in drawn(0).items())


@pytest.mark.parametrize("storage", ["bfloat16", "int8", "float16", "masters", "complex", "bounds"])
@together("case", LOOP_CASES, alike)
def test_compiled_is_numpy_in_every_storage(storage, case, monkeypatch):
    dtype = {"float16": np.float16, "masters": np.float16, "complex": np.complex64}.get(
        storage, np.float32
    )
    more = {"master_weights": storage == "masters"}
    if storage in ("bfloat16", "int8"):
        if not {slot.kind for slot in case.cls.slots} - {"exact"}:
            return
        more["state_dtype"] = storage
        monkeypatch.setattr(slots, "check_quantizable", lambda *parts: None)
    if storage == "bounds":
        more["bounds"] = (-1.5, 1.5)
    found = []
    for compiled in (True, False):
        params = {k: x.astype(dtype) for k, x in drawn(0).items()}
        if storage == "bounds":
            params = {k: np.clip(x, -1.5, 1.5) for k, x in params.items()}
        if storage == "complex":
            params = {k: x + 1j * drawn(9)[k].astype(np.float32) for k, x in params.items()}
        with nullcontext() if compiled else numpy_rule(case.cls):
            optimizer = case.make(params, **more)
        for t in range(4):
            grads = {k: x.astype(dtype) for k, x in drawn(t + 1).items()}
            if storage == "complex":
                grads = {k: g - 0.5j * g[::-1] for k, g in grads.items()}
            optimizer.step(grads)
        found.append(snapshot(optimizer))
    assert found[0] == found[1]


@together("case", LOOP_CASES, alike)
def test_a_saved_run_a_population_and_statistics_go_on_alike(case, tmp_path):
    params = {k: x.astype(np.float32) for k, x in drawn(0).items()}
    optimizer = case.make(params)
    stacked = {k: np.stack([x, x]) for k, x in params.items()}
    population = ss.population(case.cls, stacked, **case.keywords)
    for t in range(3):
        advance(optimizer, random_grads(params, t))
        grads = random_grads(params, t)
        population.step({k: np.stack([g, g]) for k, g in grads.items()})
    optimizer.save(tmp_path / "saved")
    other = {k: x.copy() for k, x in params.items()}
    resumed = case.make(other)
    resumed.load(tmp_path / "saved")
    grads = random_grads(params, 9)
    advance(optimizer, grads)
    advance(resumed, grads, stats=True)
    population.step({k: np.stack([g, g]) for k, g in grads.items()})
    assert snapshot(optimizer) == snapshot(resumed)
    for key, x in params.items():
        assert same_bits(x, stacked[key][0]) and same_bits(x, stacked[key][1])


def test_every_rule_takes_an_option_or_says_whom_it_is_for():
    for cls in RULES:
        for name, value in LOOP.items():
            if name in cls.fields:
                assert getattr(cls, name) is loop.LOOP[name]
                continue
            with pytest.raises(TypeError, match=f"{cls.__name__}: {name} is for rules .*AdamW"):
                cls(np.ones(2), **{name: value})
    for name in ("cautious_decay", "decay_max_lr"):
        with pytest.raises(ValueError, match=f"Adam: {name}=.* give decoupled_weight_decay=True"):
            ss.Adam(np.ones(2), **{name: LOOP[name]})
    with pytest.raises(ValueError, match=r"update_clip=1\.0 is for .*; leave out amsgrad"):
        ss.AdamW(np.ones(2), update_clip=1.0, amsgrad=True)
    for name in ("update_clip", "mars_gamma"):
        with pytest.raises(TypeError, match=f"adamw_: {name} sums over whole arrays"):
            x = np.ones(2)
            ss.functional.adamw_(x, x, x * 0, x * 0, step=1, **{name: 1.0})
        with pytest.raises(TypeError, match=f"state: {name} sums over whole arrays"):
            ss.functional.state("adamw", x, **{name: 1.0})
        rows = ss.RowGradient([0], np.ones((1, 2)))
        with pytest.raises(ValueError, match=f"needs {name}=None, which sees whole leaves"):
            ss.AdamW(np.ones((3, 2)), **{name: 1.0}).step(rows)


def test_an_option_is_settled_and_not_told_where_it_is_off():
    optimizer = ss.AdamW(np.ones(2), lr=0.1)
    assert not any(name in repr(optimizer) for name in LOOP)
    with pytest.raises(ValueError, match="mars_gamma is settled when the optimizer is made"):
        optimizer.mars_gamma = 0.025
    assert "update_clip=1.0" in repr(ss.AdamW(np.ones(2), update_clip=1.0))
    state = optimizer.state_dict()
    for entry in state["groups"]:
        for name in LOOP:
            del entry["hyperparams"][name]  # as older files
    optimizer.load_state_dict(state)


def test_groups_have_options_of_their_own():
    groups = [ss.group("b", update_clip=None, mars_gamma=None, cautious_decay=False)]
    options = {"update_clip": 0.5, "mars_gamma": 0.1, "cautious_decay": True}
    params, plain, both = drawn(0), drawn(0), drawn(0)
    optimizer = ss.AdamW(params, lr=0.1, weight_decay=0.1, groups=groups, **options)
    alone = ss.AdamW(plain, lr=0.1, weight_decay=0.1)
    whole = ss.AdamW(both, lr=0.1, weight_decay=0.1, **options)
    for t in range(5):
        for each in (optimizer, alone, whole):
            each.step(drawn(t + 1))
    assert same_bits(params["b"], plain["b"]) and same_bits(params["w"], both["w"])
    assert set(optimizer.state["w"]) - set(optimizer.state["b"]) == {"last_grad"}
    assert not same_bits(both["b"], plain["b"])

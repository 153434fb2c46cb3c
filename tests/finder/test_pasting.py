"""The line to paste makes the optimizer that was tried, at the rate that was found."""

from __future__ import annotations

import re

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from stepsize.finder.pasting import constructor_call, line, pasted


def params():
    return {
        "a": {"w": np.ones((2, 2)), "b": np.ones(2)},
        "c": {"w": np.ones((2, 2)), "b": np.ones(2)},
    }


def remade(optimizer, lr, over=None):
    found = {"ss": ss, "params": params() if over is None else over, "optimizer": optimizer}
    exec(pasted(optimizer, lr), found)
    return found["optimizer"]


def described(optimizer):
    """All that makes an optimizer: its groups by leaf, its options, its wrappers."""
    names = []
    while hasattr(optimizer, "inner"):
        kept = {k: v for k, v in vars(optimizer).items() if k != "inner" and k[0] != "_"}
        names.append((type(optimizer), kept))
        optimizer = optimizer.inner
    groups = optimizer.state_dict()["groups"]
    values = {leaf: g["hyperparams"] for g in groups for leaf in g["leaves"]}
    for leaf in values:
        values[leaf] = dict(values[leaf])
        if not isinstance(values[leaf]["lr"], dict):
            values[leaf]["lr"] = round(values[leaf]["lr"], 12)
    return type(optimizer), values, optimizer.internals.options, names


def other(field):
    """A value of a hyperparameter other than its default, where one is easily made."""
    value = field.default
    if isinstance(value, bool):
        return not value
    if isinstance(value, float) and 0 < value < 1:
        return value / 2
    if isinstance(value, tuple) and all(isinstance(v, float) and 0 < v < 1 for v in value):
        return tuple(v / 2 for v in value)
    return value


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_rule_is_made_again(rule, changed, grouped):
    words = {n: other(f) for n, f in rule.fields.items() if n != "lr"} if changed else {}
    # Some go together with others only; those keep their defaults.
    for name in list(words):
        try:
            rule(params(), **words)
        except ValueError:
            words.pop(name)
    if grouped:
        words["groups"] = [ss.group("*/b", lr=0.25), ss.group("a/w", lr=0.5)]
    made = rule(params(), lr=1.0, **words)
    again = remade(made, 1.0)
    assert described(again) == described(made)
    if not grouped:
        assert remade(made, 0.5).lr == 0.5
    else:
        assert set(remade(made, 0.5).lr) == {0.5, 0.125, 0.25}


@pytest.mark.parametrize(
    "make",
    [
        lambda p: ss.AdamW(p, betas=(0.9, 0.95), groups=[ss.group("*/b", weight_decay=0.0)]),
        lambda p: ss.SGD(p, 1.0, groups=[ss.group("a/*", lr=0.1), ss.group("c/b", momentum=0.9)]),
        lambda p: ss.SGD(p, lr=1.0, momentum=0.9, groups=[ss.group("c/b", lr=0.0)]),
        lambda p: ss.Adam(p, clip_norm=1.0, on_nonfinite="skip", state_dtype="bfloat16"),
        lambda p: ss.AdamW(p, weight_decay=ss.schedules.cosine(0.1, 0.0, 10)),
        lambda p: ss.SGD(p, weight_decay=ss.schedules.cosine(0.5, 0.9, 9) * 0.1),
        lambda p: ss.SGD(p, weight_decay=ss.schedules.constant(1).warmup(9)),
        lambda p: ss.Lookahead(ss.SGD(p, momentum=0.9), k=3),
        lambda p: ss.EMA(ss.Lookahead(ss.SGD(p)), decay=0.9, warmup=True),
        lambda p: ss.SAM(ss.SGD(p), rho=0.1),
        lambda p: ss.Centralize(ss.Adam(p)),
        lambda p: ss.AdaptiveClip(ss.Adam(p), clip=0.1),
        lambda p: ss.SWA(ss.Adam(p), start=3, every=2),
        lambda p: ss.Accumulate(ss.Adam(p), every=2),
        lambda p: ss.GradientNoise(ss.Adam(p), seed=3),
        lambda p: ss.Mechanic(ss.Adam(p), s_init=1e-5),
    ],
)  # fmt: skip
def test_groups_options_schedules_and_wrappers_come_along(make):
    made = make(params())
    lr = max(made.lr) if isinstance(made.lr, tuple) else made.lr
    again = remade(made, lr)
    assert type(again) is type(made)
    if pasted(made, lr).startswith("optimizer.lr = "):
        assert again is made
    else:
        assert described(again) == described(make(params()))


def test_groups_in_the_form_of_torch_come_along():
    over = [{"params": params()["a"], "lr": 0.1, "momentum": 0.5}, {"params": params()["c"]}]
    made = ss.SGD(over, lr=1.0, nesterov=False)
    again = remade(made, 0.5, over)
    assert again.lr == (0.05, 0.5) and again.momentum == (0.5, 0.0)
    plain = [{"params": params()["a"], "momentum": 0.5}, {"params": params()["c"]}]
    again = remade(ss.SGD(plain, lr=1.0), 0.5, plain)
    assert again.lr in (0.5, (0.5, 0.5)) and again.momentum == (0.5, 0.0)


def test_another_packages_optimizer_has_its_rate_set():
    class Plain:
        lr = 1.0

    assert constructor_call(Plain()) == "optimizer.lr = {}"
    assert remade(Plain(), 0.25).lr == 0.25
    assert line("ss.SGD(params, lr={})", 0.5) == "optimizer = ss.SGD(params, lr=5.0e-01)"


def test_a_rule_of_the_users_own_keeps_its_name():
    class Mine(ss.Lookahead):
        """A wrapper of the user's own."""

    made = Mine(ss.SGD(params(), lr=1.0, momentum=0.5))
    told = "Mine(ss.SGD(params, lr=5.0e-01, momentum=0.5), k=5, alpha=0.5)"
    assert pasted(made, 0.5) == f"optimizer = {told}"


def quadratic(p, batch):
    h = np.array([1.0, 10.0])
    return 0.5 * float(sum(h @ (v**2) for v in p.values())), {k: h * v for k, v in p.items()}


def test_the_numbers_of_a_print_agree():
    rng = np.random.default_rng(0)
    for optimizer in ("sgd", "adam", "lion", "adagrad", lambda p: ss.SGD(p, momentum=0.9)):
        for noise in (0.0, 0.3):

            def noisy(p, batch, noise=noise):
                loss, grads = quadratic(p, batch)
                return loss, {k: g + noise * rng.standard_normal(2) for k, g in grads.items()}

            found = ss.lr_find(noisy, {"x": np.array([3.0, -2.0])}, [None], optimizer=optimizer)
            text, rate = str(found), f"{found.suggestion:.1e}"
            assert text.startswith(f"learning rate {rate}, ")
            assert f"lr={rate}" in text.splitlines()[-1]
            assert found.peak >= found.suggestion
            won = f"{found.probes[0][0]:.1e}"
            raced = [row for row in text.splitlines() if row.startswith("of the constant rates")]
            if won != rate and abs(np.log(found.probes[0][0] / found.suggestion)) > 0.06:
                word = "lower" if found.suggestion < found.probes[0][0] else "higher"
                assert f"the suggestion is {word}" in raced[0]
                assert won in raced[0]
            assert found.interval[0] <= found.probes[0][0] <= found.interval[1]
            _agree(found, text)
            assert "won" not in found.why or "e-" not in found.why


def _agree(found, text):
    """Whether each rate that is printed is in the one interval, but for those of the range test."""
    low, high = found.interval
    assert low <= found.suggestion <= found.peak <= high
    rows = [row for row in text.splitlines() if not row.startswith("range test")]
    for rate in re.findall(r"\d\.\de[+-]\d\d", "\n".join(rows)):
        assert low * 0.95 <= float(rate) <= high * 1.05, text


@pytest.mark.parametrize("ends", [{}, {"lr_max": 0.01}, {"lr_min": 0.5}, {"refine": 200}])
def test_a_print_has_one_number_one_confidence_and_one_interval(ends):
    rng = np.random.default_rng(1)

    def noisy(p, batch):
        loss, grads = quadratic(p, batch)
        return loss, {k: g + 0.3 * rng.standard_normal(2) for k, g in grads.items()}

    for function in (quadratic, noisy):
        for optimizer in ("sgd", "adam", "adagrad", lambda p: ss.SGD(p, momentum=0.9)):
            start = {"x": np.array([3.0, -2.0])}
            found = ss.lr_find(function, start, [None], optimizer=optimizer, **ends)
            if not found.usable:
                continue
            text = str(found)
            _agree(found, text)
            assert text.count("confidence") == 1
            decades = np.log10(found.interval[1] / found.interval[0])
            stretched = found.probes[0][0] in found.interval  # by the rate that won
            assert decades < 1.31 or found.confidence == "low" or stretched


def test_a_frozen_group_stays_frozen_and_a_scale_is_left_out():
    start = {"x": np.array([3.0, -2.0]), "y": np.array([1.0, 1.0])}
    seen = []

    def watching(p, batch):
        seen.append(p["y"].copy())
        return quadratic(p, batch)

    frozen = lambda p: ss.SGD(p, lr=0.1, groups=[ss.group("y", lr=0.0)])  # noqa: E731
    found = ss.lr_find(watching, start, [None], optimizer=frozen)
    assert found.usable and all(np.array_equal(y, start["y"]) for y in seen)
    assert "ss.group('y', lr=0.0)" in str(found)
    plain = ss.lr_find(quadratic, start, [None], optimizer=ss.SGD(start, lr=0.1))
    optimizer = ss.SGD(start, lr=0.1)
    optimizer.lr_scale = 0.01
    assert ss.lr_find(quadratic, start, [None], optimizer=optimizer).suggestion == plain.suggestion


def test_results_have_short_reprs_and_frames():
    found = ss.lr_find(quadratic, {"x": np.array([3.0, -2.0])}, [None])
    other = ss.lr_find(quadratic, {"x": np.array([3.0, -2.0])}, [None], parameter="momentum")
    for result in (found, other):
        assert "\n" not in repr(result) and len(repr(result)) < 130
    assert list(found.to_pandas().columns) == ["lr", "loss", "smoothed"]
    assert len(found.to_pandas()) == len(found.lrs)
    assert list(other.to_pandas().columns) == ["value", "loss"]

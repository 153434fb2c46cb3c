"""Settings moved to other batch sizes, lengths and widths: the laws that the rules state."""

import math

import numpy as np
import pytest

import stepsize as ss
from stepsize.scaling.rules import law_of
from together import alike, together

CHANGES = {
    "batch": {"batch": (64, 256)},
    "less": {"batch": (64, 4)},
    "length": {"steps": (1000, 5000)},
    "data": {"data": (1000, 9000)},
    "all": {"batch": (64, 256), "steps": (1000, 3000), "data": (1000, 2000)},
    "critical": {"batch": (64, 256), "critical_batch": 100},
}
MOVABLE = [c for c in ss.optimizers.registry() if c is not ss.MADGRAD]


def mlp(n):
    return {
        "in": {"w": np.ones((5, n)), "b": np.ones(n)},
        "mid": {"w": np.ones((n, n)), "b": np.ones(n)},
        "out": {"w": np.ones((n, 3)), "b": np.ones(3)},
    }


@pytest.mark.parametrize("rule", MOVABLE, ids=lambda c: c.__name__)
@together("change", CHANGES.values(), alike)
def test_every_optimizer_takes_its_settings(rule, change):
    params = {"w": np.ones((4, 3))}
    moved = ss.transfer({}, rule=rule, **change)
    rule(params, **moved.settings)
    assert str(moved).count("\n") == len(moved.moves)


@pytest.mark.parametrize("rule", MOVABLE, ids=lambda c: c.__name__)
def test_nothing_moves_without_a_change(rule):
    moved = ss.transfer({}, rule=rule)
    assert moved.settings == {name: field.default for name, field in rule.fields.items()}
    assert all(move.before == move.after for move in moved.moves)


@pytest.mark.parametrize("rule", MOVABLE, ids=lambda c: c.__name__)
@together("change", CHANGES.values(), alike)
def test_there_and_back(rule, change):
    back = {name: pair[::-1] if name != "critical_batch" else pair for name, pair in change.items()}
    there = ss.transfer({}, rule=rule, **change)
    again = ss.transfer(there.settings, rule=rule, **back)
    for name, field in rule.fields.items():
        if isinstance(field.default, float):
            assert again.settings[name] == pytest.approx(field.default, rel=1e-12), name
    if "betas" in rule.fields:
        assert again.settings["betas"] == pytest.approx(rule.fields["betas"].default)


def test_what_each_kind_of_rule_is():
    linear = {c.__name__ for c in MOVABLE if law_of(c, {})[0].power == 1 and not c.adapts_lr}
    assert linear == {"ASGD", "SGD", "ScheduleFreeSGD"}
    timed = {c.__name__ for c in MOVABLE if law_of(c, {})[0].timed}
    assert {"SGD", "AdamW", "NAdamW", "Lion", "SignSGD", "Adan", "Muon", "SOAP"} <= timed
    assert not timed & {"Adam", "RAdam", "RMSprop", "Adagrad", "LARS", "NAdam", "Shampoo"}
    assert law_of(ss.Adam, {"decoupled_weight_decay": True})[0].timed


def test_batch_moves_rate_as_scale_lr_does():
    for rule, word in ((ss.SGD, "linear"), (ss.AdamW, "sqrt")):
        moved = ss.transfer({"lr": 0.3}, batch=(32, 96), rule=rule)
        by_word = ss.transfer({"lr": 0.3}, batch=(32, 96), rule=word)
        assert moved.settings["lr"] == by_word.settings["lr"] == ss.scale_lr(0.3, 32, 96, word)


def test_half_life_in_examples_is_kept():
    for name, rule in (("betas", ss.AdamW), ("alpha", ss.RMSprop), ("rho", ss.Adadelta)):
        moved = ss.transfer({}, batch=(64, 16), rule=rule)
        before, after = (np.atleast_1d(v) for v in (moved[name].before, moved[name].after))
        assert math.log(0.5) / math.log(after[-1]) * 16 == pytest.approx(
            math.log(0.5) / math.log(before[-1]) * 64
        )
    assert ss.transfer({}, batch=(64, 16), rule=ss.Lion).settings["betas"] == (0.9, 0.99)


@pytest.mark.parametrize("rule", [ss.SGD, ss.AdamW, ss.Lion], ids=lambda c: c.__name__)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_timescale_of_decay_in_epochs_is_kept_but_for_what_length_does_to_the_rate(rule, change):
    settings = {"lr": 0.01, "weight_decay": 0.1}
    moved = ss.transfer(settings, rule=rule, **change).settings
    same_rate = ss.transfer(settings, rule=rule, **change, horizon=0.0).settings
    batch, data = change.get("batch", (1, 1)), change.get("data", (1, 1))
    before = batch[0] / (settings["lr"] * settings["weight_decay"] * data[0])
    after = batch[1] / (same_rate["lr"] * same_rate["weight_decay"] * data[1])
    assert after == pytest.approx(before)
    assert moved["weight_decay"] == same_rate["weight_decay"]


def test_a_longer_training_keeps_the_decay():
    moved = ss.transfer({"lr": 1e-3, "weight_decay": 0.1}, steps=(100, 1000), rule=ss.AdamW)
    assert moved["weight_decay"].after == 0.1 and moved["weight_decay"].why == "kept"
    assert moved["lr"].after < 1e-3


def test_the_decay_that_adam_rescales_is_kept():
    moved = ss.transfer({"weight_decay": 0.1}, batch=(64, 256), rule=ss.Adam)
    assert moved.settings["weight_decay"] == 0.1
    assert moved["weight_decay"].why.startswith("kept")


def test_critical_batch_bounds_the_rate():
    def rate(after, critical):
        pair = (10, after)
        return ss.transfer({"lr": 1.0}, batch=pair, rule=ss.SGD, critical_batch=critical)

    assert rate(20, 1e9).settings["lr"] == pytest.approx(2, rel=1e-6)
    assert rate(1e9, 90).settings["lr"] == pytest.approx(10, rel=1e-6)
    noise = ss.NoiseScale(90.0, 80.0, 100.0, 1.0, 90.0)
    assert rate(30, noise).settings == rate(30, 90).settings
    assert "McCandlish" in rate(30, noise)["lr"].why


def test_length_counts_examples():
    peak = ss.transfer({"lr": 1e-3}, steps=(100, 1000), rule=ss.AdamW).settings["lr"]
    assert peak == pytest.approx(1e-3 * 10**-0.32)
    both = ss.transfer({"lr": 1e-3}, batch=(8, 32), steps=(400, 100), rule=ss.AdamW)
    assert both.settings["lr"] == pytest.approx(2e-3)
    assert ss.transfer({"lr": 1.0}, steps=(1, 10), rule=ss.SGD).settings["lr"] == 1.0
    kept = ss.transfer({"lr": 1.0}, steps=(1, 10), rule=ss.AdamW, horizon=0.0)
    assert kept.settings["lr"] == 1.0


def test_schedules_keep_their_shape():
    settings = {
        "lr": ss.schedules.warmup_cosine(1e-3, 100, 1000),
        "weight_decay": ss.schedules.linear(0.1, 0.0, 1000),
        "momentum": ss.schedules.linear(0.8, 0.9, 1000),
    }
    moved = ss.transfer(settings, steps=(1000, 4000), rule=ss.SGD).settings
    for name, schedule in settings.items():
        assert moved[name].length == 4000
        assert moved[name](1400) == pytest.approx(schedule(350))
    shorter = ss.transfer(settings, batch=(8, 32), rule=ss.SGD).settings
    assert shorter["lr"].length == 250
    assert shorter["lr"](25) == pytest.approx(4e-3)


def test_width_by_shape_and_by_name():
    kinds = {"in/w": "input", "*/b": "vector", "mid/*": "hidden", "out/w": "output"}
    settings = {"lr": 0.4, "weight_decay": 0.1}
    for rule, factors in (
        (ss.AdamW, {"in/w": 1, "in/b": 1, "mid/w": 1 / 4, "mid/b": 1, "out/w": 1 / 4, "out/b": 1}),
        (ss.SGD, {"in/w": 4, "in/b": 4, "mid/w": 1, "mid/b": 4, "out/w": 1 / 4, "out/b": 1}),
    ):
        moved = ss.transfer(settings, width=(mlp(8), mlp(32)), rule=rule)
        own = {spec.pattern: spec.overrides for spec in moved.settings["groups"]}
        for leaf, factor in factors.items():
            assert own.get(leaf, {}).get("lr", 0.4) == pytest.approx(0.4 * factor), leaf
            assert own.get(leaf, {}).get("weight_decay", 0.1) == pytest.approx(0.1 / factor), leaf
        assert moved.init == {"out/w": 0.5}
        opt = rule(mlp(32), **moved.settings)
        assert set(opt.lr) == {0.4 * factor for factor in factors.values()}
    named = ss.transfer(settings, width=(8, 32), kinds=kinds, rule=ss.AdamW)
    assert {spec.pattern for spec in named.settings["groups"]} == {"mid/*", "out/w"}


def test_width_in_the_layout_of_torch():
    def torch_mlp(n):
        return {"in": np.ones((n, 5)), "conv": np.ones((n, n, 3, 3)), "out": np.ones((3, n))}

    moved = ss.transfer({}, width=(torch_mlp(8), torch_mlp(16)), rule=ss.AdamW, fan_in=1)
    assert {spec.pattern for spec in moved.settings["groups"]} == {"conv", "out"}
    assert list(moved.init) == ["out"]


@pytest.mark.parametrize(("rule", "factor"), [(ss.SGD, 4 / 2), (ss.AdamW, 1 / 2)])
def test_width_of_a_layer_whose_sides_grow_apart(rule, factor):
    """As MuSGD of the authors' package, by fan-out over fan-in, and MuAdam, by fan-in."""
    models = {"mid": np.ones((8, 8))}, {"mid": np.ones((16, 32))}
    (spec,) = ss.transfer({"lr": 0.1}, width=models, rule=rule).settings["groups"]
    assert spec.overrides["lr"] == pytest.approx(0.1 * factor)


def test_a_leaf_whose_name_is_a_glob():
    models = [{"a[0]*": np.ones((n, n)), "a0": np.ones(3)} for n in (4, 8)]
    moved = ss.transfer({"lr": 1.0}, width=tuple(models), rule=ss.AdamW)
    assert ss.AdamW(models[1], **moved.settings).lr == (1.0, 0.5)


def test_the_settings_given_are_not_changed():
    settings = {"lr": 0.1, "weight_decay": 0.1}
    ss.transfer(settings, batch=(1, 2), width=(mlp(8), mlp(16)), rule=ss.AdamW)
    assert settings == {"lr": 0.1, "weight_decay": 0.1}


def test_an_optimizer_of_ones_own_is_tried_out():
    class Doubled(ss.SGD):
        """Twice the step."""

        def rule(self, x, g, s, h):
            x -= 2 * h.lr * g

    assert ss.transfer({"lr": 1.0}, batch=(1, 3), rule=Doubled).settings["lr"] == 3.0


REFUSED = {
    "settings": (lambda: ss.transfer(0.1, rule=ss.SGD), "settings must be a mapping"),
    "rule": (lambda: ss.transfer({"lr": 0.1}), "rule must be the class"),
    "name": (lambda: ss.transfer({"lr": 0.1}, rule="adam"), "rule must be the class"),
    "batch": (lambda: ss.transfer({}, rule=ss.SGD, batch=32), "batch must be a pair"),
    "zero": (lambda: ss.transfer({}, rule=ss.SGD, batch=(0, 32)), r"batch\[0\] must be"),
    "steps": (lambda: ss.transfer({}, rule=ss.SGD, steps=(1, math.nan)), r"steps\[1\] must be"),
    "critical": (lambda: ss.transfer({}, rule=ss.SGD, critical_batch=9), "needs batch"),
    "no rate": (lambda: ss.transfer({}, rule="sqrt"), "settings must have 'lr'"),
    "function": (lambda: ss.transfer({"lr": len}, rule=ss.SGD), "lr is a function"),
    "typo": (lambda: ss.transfer({"momentun": 0.9}, rule=ss.SGD), "momentun"),
    "between": (lambda: ss.transfer({}, rule=ss.MADGRAD), "rule='linear' or rule='sqrt'"),
    "kinds": (lambda: ss.transfer({}, rule=ss.SGD, width=(1, 2)), "kinds must say"),
    "kind": (
        lambda: ss.transfer({}, rule=ss.SGD, width=(1, 2), kinds={"w": "head"}),
        "must be one of 'input', 'hidden'",
    ),
    "both": (
        lambda: ss.transfer({}, rule=ss.SGD, width=(mlp(1), mlp(2)), kinds={"w": "input"}),
        "kinds goes with two numbers",
    ),
    "leaves": (
        lambda: ss.transfer({}, rule=ss.SGD, width=({"a": np.ones(2)}, {"b": np.ones(2)})),
        "only one has a, b",
    ),
    "axes": (
        lambda: ss.transfer({}, rule=ss.SGD, width=({"a": np.ones(2)}, {"a": np.ones((2, 2))})),
        "a has the shapes",
    ),
    "matrix": (
        lambda: ss.transfer({}, rule=ss.Muon, width=(mlp(2), mlp(4))),
        "no rule for width is known for Muon",
    ),
    "groups": (
        lambda: ss.transfer(
            {"groups": [ss.group("a", lr=1.0)]}, rule=ss.SGD, width=(mlp(1), mlp(2))
        ),
        "groups already",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call()

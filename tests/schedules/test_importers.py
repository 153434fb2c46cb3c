"""Every row of the translation table, against stored values and against the packages installed."""

import importlib.util
import inspect
import json
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import make_schedules as golden
import stepsize as ss

S = vars(ss.schedules)
STORED = json.loads(golden.GOLDEN.read_text())
ROWS = golden.rows()
CALLS = [call for call, _, _ in ROWS]
INSTALLED = {
    importer
    for importer, (package, _) in golden.ASK.items()
    if importlib.util.find_spec(package) is not None
}


def tolerance(call):
    """Keras computes in float32; torch's cosine, a recursion, drifts by 1e-13 in ten lives."""
    return 3e-7 if call.startswith("from_keras") else 1e-12


def agree(call, schedule, values, steps):
    peak = max(values)
    np.testing.assert_allclose(
        schedule(np.array(steps[: len(values)])), values, rtol=0, atol=tolerance(call) * peak
    )


@pytest.mark.parametrize(("call", "here", "difference"), ROWS, ids=CALLS)
def test_rows_of_the_table(call, here, difference):
    schedule = eval(call, S)
    assert difference
    if "table(...)" not in here:
        assert eval(here, S) == schedule and repr(schedule) == here
    agree(call, schedule, STORED["values"][call], STORED["steps"])


def test_installed_packages_still_say_so():
    for call in CALLS:
        if golden.parse(call)[0] in INSTALLED:
            agree(call, eval(call, S), golden.ask(call), golden.STEPS)


def test_the_table_has_every_scheduler_of_the_installed_packages():
    names = {golden.parse(call)[1] for call in CALLS}
    elsewhere = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "LRScheduler"}
    metric = {"ReduceLROnPlateau"}
    optax_others = {"join_schedules", "inject_hyperparams", "inject_stateful_hyperparams"}
    if "from_torch" in INSTALLED:
        import torch

        assert set(torch.optim.lr_scheduler.__all__) <= names | elsewhere | metric
    if "from_optax" in INSTALLED:
        import optax

        public = {name for name in dir(optax.schedules) if name[0].islower() and "_" in name}
        assert public <= names | optax_others


def test_torch_objects():
    steps = np.arange(200)
    for call in CALLS:
        importer, name, keywords = golden.parse(call)
        if importer == "from_torch" and importer in INSTALLED:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = golden.make_torch(name, keywords)[1]
            schedule = ss.schedules.from_torch(made)
            np.testing.assert_allclose(schedule(steps), eval(call, S)(steps), rtol=1e-13)


def torch_like(kind, **attributes):
    """An object with the attributes of a torch or timm scheduler, where neither is installed."""
    return type(kind, (SimpleNamespace,), {})(**attributes)


def test_objects_are_read_by_their_attributes():
    step = torch_like("StepLR", base_lrs=[0.1, 0.2], step_size=7, gamma=0.5)
    assert ss.schedules.from_torch(step, group=1) == ss.schedules.step_decay(0.2, 7, 0.5)
    timm = torch_like(
        "StepLRScheduler",
        base_values=[0.1],
        decay_t=7,
        decay_rate=0.5,
        warmup_t=0,
        warmup_lr_init=0.0,
        warmup_prefix=True,
        noise_range_t=None,
    )
    assert ss.schedules.from_timm(timm) == ss.schedules.step_decay(0.1, 7, 0.5)
    timm.noise_range_t = 3
    with pytest.raises(ValueError, match="StepLRScheduler with noise_range_t is random"):
        ss.schedules.from_timm(timm)


def test_keras_configs():
    config = {"initial_learning_rate": 0.1, "decay_steps": 30, "alpha": 0.0, "name": "CosineDecay"}
    serialized = {"class_name": "CosineDecay", "config": config}
    schedule = torch_like("CosineDecay")
    type(schedule).get_config = lambda self: config
    expected = ss.schedules.cosine(0.1, 0.0, 30)
    assert ss.schedules.from_keras(serialized) == ss.schedules.from_keras(schedule) == expected


def test_functions_chains_and_sequences():
    base = torch_like("LambdaLR", base_lrs=[0.1], lr_lambdas=[lambda step: 1 / (1 + step)])
    assert ss.schedules.from_torch(base)(3) == pytest.approx(0.025)
    product = torch_like("MultiplicativeLR", base_lrs=[0.1], lr_lambdas=[lambda step: 0.5])
    assert ss.schedules.from_torch(product)(np.array([3, 0, 1])) == pytest.approx(
        [0.0125, 0.1, 0.05]
    )
    step = torch_like("StepLR", base_lrs=[0.1], step_size=7, gamma=0.5)
    power = torch_like("ExponentialLR", base_lrs=[0.1], gamma=0.9)
    chain = ss.schedules.from_torch(torch_like("ChainedScheduler", _schedulers=[step, power]))
    steps = np.arange(30)
    np.testing.assert_allclose(chain(steps), 0.1 * 0.5 ** (steps // 7) * 0.9**steps, rtol=1e-13)
    joined = torch_like("SequentialLR", _schedulers=[step, power], _milestones=[10])
    expected = ss.schedules.step_decay(0.1, 7, 0.5).then(ss.schedules.exponential(0.1, 0.9), at=10)
    assert ss.schedules.from_torch(joined) == expected
    other = torch_like("ChainedScheduler", _schedulers=[step, base])
    with pytest.raises(ValueError, match="in a ChainedScheduler, LambdaLR sets the rate instead"):
        ss.schedules.from_torch(other)


def torch_composites():
    import torch

    scheduler = torch.optim.lr_scheduler

    def sequence(optimizer):
        first = scheduler.LinearLR(optimizer, 0.1, total_iters=5)
        second = scheduler.CosineAnnealingLR(optimizer, 30)
        third = scheduler.StepLR(optimizer, 4)
        return scheduler.SequentialLR(optimizer, [first, second, third], [5, 25])

    def chain(optimizer):
        parts = [scheduler.ConstantLR(optimizer, 0.5), scheduler.ExponentialLR(optimizer, 0.97)]
        return scheduler.ChainedScheduler([*parts, scheduler.StepLR(optimizer, 9)])

    def multiplied(optimizer):
        return scheduler.MultiplicativeLR(optimizer, lambda step: 0.9 if step % 2 else 1.05)

    return [sequence, chain, multiplied]


def test_torch_composites():
    for make in torch_composites() if "from_torch" in INSTALLED else ():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = golden.torch_optimizer(0.1)
            scheduler = make(optimizer)
            schedule = ss.schedules.from_torch(scheduler)
            values = golden.walk(optimizer, scheduler, golden.STEPS)
        agree("from_torch", schedule, values, golden.STEPS)


def test_optax_joins():
    first, second = ss.schedules.linear(0, 1, 5), ss.schedules.cosine(1, 0, 20)
    joined = ss.schedules.from_optax("join_schedules", schedules=[first, second], boundaries=[5])
    assert joined == first.then(second, at=5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ('from_torch("StepLr", lr=0.1)', ValueError, "from_torch: 'StepLr' is not a scheduler it "),
        ('from_torch("ReduceLROnPlateau")', ValueError, "not a function of the step; use ss.Plat"),
        ('from_torch("StepLR", lr=0.1)', TypeError, r"StepLR\(lr, step_size, gamma=0.1\): mis"),
        ('from_optax("linear_schedule", value=1)', TypeError, "from_optax: linear_schedule"),
        ("from_keras(3)", TypeError, "expected a schedule, its dict or a name, got 3"),
        ('from_hf("greedy", lr=0.1)', ValueError, "use ss.schedules.Greedy"),
        ('from_hf("cosine_with_min_lr", lr=1, num_warmup_steps=1, num_training_steps=9)',
         ValueError, "give one of min_lr and min_lr_rate, got None and None"),
        ('from_timm("PlateauLRScheduler", lr=0.1)', ValueError, "use ss.Plateau"),
        ('from_torch("LambdaLR", lr=0.1, lr_lambda="posix:_exit")', TypeError,
         "LambdaLR: lr_lambda must be a function of the step, got 'posix:_exit'"),
        ('from_torch("MultiplicativeLR", lr=1, lr_lambda="os:getpid")', TypeError, "be a function"),
        ('from_keras("CosineDecayRestarts", initial_learning_rate=1, first_decay_steps=5, m_mul=2)',
         ValueError, r"CosineDecayRestarts: m_mul must be in \(0, 1\], got 2"),
        ('from_torch("StepLR", lr=0.1, step_size=-1)', ValueError, "from_torch: StepLR: .* got -1"),
        ('from_torch("StepLR", lr="x", step_size=1)', TypeError, "from_torch: StepLR: .* got 'x'"),
        ('from_optax(3)', ValueError, "from_optax: 3 is not a scheduler it knows; give its name"),
        ('from_optax(abs)', ValueError, "is not a scheduler it knows; give its name"),
        ('from_optax([])', ValueError, "is not a scheduler it knows; give its name"),
        ('from_optax("sgdr_schedule", cosine_kwargs=[{}])', TypeError, "sgdr_schedule: .*missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated(call, error, message):
    with pytest.raises(error, match=message):
        eval(call, S)


WORDS = {
    "from_torch": {"lr": 0.1, "max_lr": 0.1, "swa_lr": 0.01, "total_steps": 10, "base_lr": 0.01},
    "from_timm": {"lr": 0.1, "t_initial": 10, "decay_t": 3, "warmup_t": 2},
    "from_hf": {"lr": 0.1, "num_warmup_steps": 2, "num_decay_steps": 3, "num_training_steps": 10},
    "from_optax": {"init_value": 0.1, "boundaries_and_scales": {3: 0.5}},
    "from_keras": {},
}


def words_of(importer):
    """The builders of an importer that take one of a few words, and the arguments they need."""
    for name, builder in sys.modules[importer.__module__].BUILDERS.items():
        known = {} if isinstance(builder, str) else inspect.signature(builder).parameters
        given = {k: v for k, v in WORDS[importer.__name__].items() if k in known}
        needed = {k for k, p in known.items() if p.default is p.empty} - set(given)
        for key, parameter in known.items():
            if isinstance(parameter.default, str) or key == "interpolate_type":
                assert needed <= {key}, f"{name} needs {needed}"
                yield name, key, given


@pytest.mark.parametrize("name", WORDS)
def test_a_misspelt_word_is_not_taken_for_another(name):
    importer = getattr(ss.schedules, name)
    tried = 0
    for builder, key, given in words_of(importer):
        for word in ("lineer", "COS", "", "Linear", None, 3):
            with pytest.raises(ValueError, match=f"{name}: {builder}: .*{key[-4:]} must be one of"):
                importer(builder, **given, **{key: word})
            tried += 1
    assert tried == {"from_torch": 18, "from_timm": 12, "from_hf": 12, "from_optax": 6}.get(name, 0)


@pytest.mark.parametrize("warmup", [5, 8])
def test_a_polynomial_that_is_all_warm_up_goes_on_with_its_end(warmup):
    s = ss.schedules.from_hf(
        "polynomial", lr=1.0, num_warmup_steps=warmup, num_training_steps=5, lr_end=0.1
    )
    assert s(2) == 2 / warmup and s(warmup) == s(1000) == 0.1


@pytest.mark.parametrize(
    ("name", "rate"), [("ConstantLR", 0.05), ("LinearLR", 0.05), ("PolynomialLR", 0.1)]
)
def test_no_steps_of_a_torch_scheduler_are_what_it_sets_when_it_is_made(name, rate):
    factor = {"ConstantLR": {"factor": 0.5}, "LinearLR": {"start_factor": 0.5}}.get(name, {})
    made = ss.schedules.from_torch(name, lr=0.1, total_iters=0, **factor)
    assert [made(k) for k in (0, 1, 100)] == [rate] * 3


def test_a_torch_scheduler_that_has_made_steps_is_told():
    torch = pytest.importorskip("torch")
    lr_scheduler = torch.optim.lr_scheduler

    def rest(make):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        scheduler = make(optimizer)
        for _ in range(3):
            optimizer.step()
            scheduler.step()
        with pytest.warns(UserWarning, match=r"has made 3 steps.*\.shift\(-3\)") as told:
            schedule = ss.schedules.from_torch(scheduler)
        assert len(told) == 1 and told[0].filename == __file__
        assert schedule.shift(-3)(0) == pytest.approx(optimizer.param_groups[0]["lr"])

    rest(lambda o: lr_scheduler.StepLR(o, 2, 0.5))
    rest(
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [2]
        )
    )

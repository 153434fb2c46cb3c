"""Options that no state holds: a resumed run uses what it is given and says so, or refuses it."""

import dataclasses
import inspect
import warnings

import numpy as np
import pytest

import stepsize as ss
from fitting import X, Y, make_params, value_and_grad
from stepsize.optimizers.options import Options
from stepsize.serialization import nested
from stepsize.training.resume import ResumeWarning

# Each option, as the run was started and as it is resumed; and what is refused, in words.
OPTIONS = {
    "maximize": (False, True),
    "clip_norm": (None, 0.01),
    "clip_value": (0.5, 0.01),
    "on_nonfinite": ("raise", "skip"),
    "state_dtype": (None, "bfloat16"),
    "master_weights": (True, False),
    "loss_scale": (None, 8.0),
    "bounds": ((-9, 9), (-8, 8.5)),
    "l1": (0.0, 0.01),
}
REFUSED = {"state_dtype": "make the optimizer with the state_dtype it was saved with"}

WRAPPERS = {
    "EMA": (
        ss.EMA,
        {"decay": (0.9, 0.5), "warmup": (False, True), "gamma": (1.0, 2.0), "power": (0.6, 0.7)},
    ),
    "SWA": (ss.SWA, {"start": (1, 2), "every": (1, 2)}),
    "Lookahead": (ss.Lookahead, {"k": (5, 2), "alpha": (0.5, 0.8)}),
    "Accumulate": (ss.Accumulate, {"every": (3, 2)}),
    "GradientNoise": (ss.GradientNoise, {"eta": (0.1, 0.2), "gamma": (0.5, 0.6), "seed": (1, 2)}),
    "AdaptiveClip": (ss.AdaptiveClip, {"clip": (0.1, 0.01), "eps": (1e-3, 1e-2)}),
    "SAM": (ss.SAM, {"rho": (0.05, 0.1), "adaptive": (False, True)}),
    "Mechanic": (
        ss.Mechanic,
        {"s_init": (1e-3, 1e-2), "weight_decay": (0.0, 0.1), "eps": (1e-8, 1e-6)},
    ),
}
CELLS = [(name, argument) for name, (_, given) in WRAPPERS.items() for argument in given]


def run(path, make, epochs, dtype=np.float64):
    params = {name: leaf.astype(dtype) for name, leaf in make_params().items()}
    optimizer = make(params)

    def function(p, batch):
        loss, grads = value_and_grad(p, batch)
        return loss, {name: np.asarray(grad, dtype) for name, grad in grads.items()}

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="EMA")
        history = ss.fit(
            function, params, optimizer, (X, Y), epochs=epochs, progress=False,
            checkpoint=path, resume=True,
        )  # fmt: skip
    return params, history


def resumed(path, make, text):
    """Resume where it has to say so; a second time it is no news."""
    with pytest.warns(ResumeWarning, match="from step 4 on") as caught:
        params, history = run(path, make, 4)
    assert text in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResumeWarning)
        run(path, make, 5)
    return params, history


def test_every_option_has_its_row():
    fields = {field.name for field in dataclasses.fields(Options)}
    assert {*OPTIONS, "param_rounding"} == fields
    for wrapper, given in WRAPPERS.values():
        arguments = list(inspect.signature(wrapper.__init__).parameters)[2:]
        assert set(given) == set(arguments) - {"num_betas"}  # which its state holds


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_used_and_said(name, tmp_path):
    before, now = OPTIONS[name]
    path = tmp_path / "c"
    run(path, lambda p: ss.AdamW(p, lr=0.05, **{name: before}), 2)

    def make(params):
        return ss.AdamW(params, lr=0.05, **{name: now})

    if name in REFUSED:
        with pytest.raises(ss.CheckpointError, match=REFUSED[name]):
            run(path, make, 4)
        return
    old, new = (str(v) if name == "bounds" else v for v in (before, now))  # as they print
    _, history = resumed(path, make, f"{name}={new!r} instead of {old!r}")
    assert history.meta["options"][-1][1][name] == new


@pytest.mark.parametrize(("name", "argument"), CELLS)
def test_an_argument_of_a_wrapper_is_used_and_said(name, argument, tmp_path):
    wrap, given = WRAPPERS[name]
    before, now = given[argument]
    path = tmp_path / "c"
    others = {"every": 3} if name == "Accumulate" else {}
    run(path, lambda p: wrap(ss.SGD(p, lr=0.05), **others | {argument: before}), 2)
    resumed(
        path,
        lambda p: wrap(ss.SGD(p, lr=0.05), **others | {argument: now}),
        f"{name}: {argument}={now!r} instead of {before!r}",
    )


def test_the_rounding_of_parameters_is_used_and_said(tmp_path):
    def make(rounding):
        return lambda p: ss.SGD(p, lr=0.05, master_weights=False, param_rounding=rounding)

    run(tmp_path / "c", make("nearest"), 2, np.float16)
    said = "param_rounding='stochastic' instead of 'nearest'"
    with pytest.warns(ResumeWarning, match=said):
        run(tmp_path / "c", make("stochastic"), 4, np.float16)


def test_a_changed_limit_acts(tmp_path):
    before, _ = run(tmp_path / "c", lambda p: ss.SGD(p, lr=0.05), 2)

    def limited(params):
        return ss.SGD(params, lr=0.05, clip_norm=1e-9)

    after, _ = resumed(tmp_path / "c", limited, "clip_norm=1e-09")
    assert all(np.allclose(after[k], before[k], atol=1e-7, rtol=0) for k in before)


def test_another_dtype_of_the_parameters_is_refused(tmp_path):
    run(tmp_path / "c", lambda p: ss.SGD(p, lr=0.05), 2)
    with pytest.raises(ss.CheckpointError, match=r"parameter b is float64.*float32"):
        run(tmp_path / "c", lambda p: ss.SGD(p, lr=0.05), 4, np.float32)


def test_a_file_that_does_not_say_is_taken(tmp_path):
    path = tmp_path / "c"
    run(path, lambda p: ss.SGD(p, lr=0.05), 2)
    state = nested.load(path, "run")
    del state["history"]["meta"]["options"]
    nested.dump(path, "run", state)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResumeWarning)
        _, history = run(path, lambda p: ss.SGD(p, lr=0.05, clip_norm=1.0), 4)
    assert history.steps > 0

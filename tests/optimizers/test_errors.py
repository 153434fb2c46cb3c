"""Bad input: an error that names leaf or argument, value and fix; nothing has changed."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from stepsize.optimizers.options import Options
from together import alike, class_of, together


def ones(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


def nest():
    return {"layers": [{"w": ones(3, 2), "b": ones(2)}], "out": ones(4)}


def frozen():
    leaf = ones(3)
    leaf.flags.writeable = False
    return {"w": leaf}


def crossed():
    memory = ones(6)
    return {"a": memory[:4], "b": memory[3:]}


def interleaved():
    memory = ones(9)
    return {"a": memory[0:8:2], "b": memory[1:9:2], "c": memory[2:5]}


def folded():
    return {"a": np.lib.stride_tricks.as_strided(ones(6), (3, 3), (8, 8))}


ACCEPTED = (
    "float32, float64, complex64, complex128, float16 or bfloat16; convert it with "
    ".astype(np.float32)"
)
BAD_PARAMS = {
    "nothing": (dict, ValueError, "X: params holds no array; give at least one"),
    "None": (lambda: [None], ValueError, "X: params holds no array; give at least one"),
    "numbers": (
        lambda: [1.0, 2.0],
        TypeError,
        "X: parameter 0 is a float, expected a NumPy array or a nest of them; convert it with "
        "np.array(..., np.float32)",
    ),
    "whole numbers": (
        lambda: {"w": ones(3, dtype=np.int64)},
        TypeError,
        f"X: w has dtype int64, expected {ACCEPTED}",
    ),
    "half precision in another byte order": (
        lambda: {"w": ones(3, dtype=np.dtype(np.float16).newbyteorder())},
        TypeError,
        f"X: w has dtype >f2, expected {ACCEPTED}",
    ),
    "another byte order": (
        lambda: {"w": ones(3, dtype=np.dtype(float).newbyteorder())},
        TypeError,
        f"X: w has dtype >f8, expected {ACCEPTED}",
    ),
    "read-only": (
        frozen,
        ValueError,
        "X: w is read-only, but parameters are updated in place; pass a copy",
    ),
    "overlap": (
        crossed,
        ValueError,
        "X: b overlaps a in memory, so one step would update it twice; pass each array once, or a "
        "copy",
    ),
    "interleaved": (
        interleaved,
        ValueError,
        "X: c overlaps a in memory, so one step would update it twice; pass each array once, or a "
        "copy",
    ),
    "twice": (
        lambda: [leaf := ones(2), leaf],
        ValueError,
        "X: 1 overlaps 0 in memory, so one step would update it twice; pass each array once, or a "
        "copy",
    ),
    "two of one name": (
        lambda: {"a": {"b": ones(1)}, "a/b": ones(2)},
        ValueError,
        "X: two arrays are both named a/b, but states and checkpoints go by name; rename a key",
    ),
    "folded": (
        folded,
        ValueError,
        "X: a overlaps itself (strides (8, 8) for shape (3, 3)); pass a copy",
    ),
}


@together("kind", BAD_PARAMS, alike)
@pytest.mark.parametrize("cls", RULES)
def test_bad_parameters(cls, kind):
    bad, error, message = BAD_PARAMS[kind]
    with pytest.raises(error) as caught:
        cls(bad())
    assert str(caught.value) == message.replace("X:", f"{cls.__name__}:")


def test_interleaved_leaves_that_share_nothing_are_fine():
    params = interleaved()
    del params["c"]
    ss.SGD(params, lr=1.0).step({"a": ones(4), "b": 2 * ones(4)})
    assert params["a"].tolist() == [0] * 4 and params["b"].tolist() == [-1] * 4


NUMBERS = [(cls, part) for cls in RULES for f in cls.fields.values() for part in f.parts()]
NUMBERS = [(cls, part) for cls, part in NUMBERS if part.name in ("lr", "momentum") or part.low == 0]


def given(cls, part, value):
    """The keyword that sets one number of a field to a value."""
    known = next(f for f in cls.fields.values() if part in f.parts())
    if not isinstance(known.default, tuple):
        return {known.name: value}
    items = list(known.default)
    items[known.parts().index(part)] = value
    return {known.name: tuple(items)}


@together("value", [-0.1, math.nan, math.inf, -math.inf, 1e9], alike)
@together("number", NUMBERS, lambda number: class_of(number[0]))
def test_numbers_out_of_range(number, value):
    cls, part = number
    if part.holds(value):
        return
    known = next(f for f in cls.fields.values() if part in f.parts())
    if isinstance(known.default, bool):
        expected = f"{cls.__name__}: {part.label} must be True or False, got {value!r}"
        error = TypeError
    else:
        expected = f"{cls.__name__}: {part.label} must be {part.describe()}, got {value!r}"
        error = ValueError
    with pytest.raises(error) as caught:
        cls(ones(1), **given(cls, part, value))
    assert str(caught.value) == expected


@pytest.mark.parametrize("cls", RULES)
@together("value", ["0.1", True, [0.1], 1j, ones(2)], alike)
def test_rates_that_are_no_number(cls, value):
    with pytest.raises(TypeError) as caught:
        cls(ones(1), lr=value)
    assert str(caught.value) == (
        f"{cls.__name__}: lr must be a number, a schedule or a function of the step, got "
        f"{type(value).__name__} {value!r}"
    )


def sgd(**keywords):
    return lambda: ss.SGD(nest(), **keywords)


def set_on(optimizer, name, value):
    setattr(optimizer, name, value)


SGD_TAKES = ", ".join([*ss.SGD.fields, *Options.names()])
BAD_ARGUMENTS = [
    (
        sgd(momentun=0.9),
        TypeError,
        f"SGD: unknown argument 'momentun'; did you mean momentum? (it takes {SGD_TAKES})",
    ),
    (sgd(foo=1), TypeError, f"SGD: unknown argument 'foo' (it takes {SGD_TAKES})"),
    (
        lambda: ss.Adam(ones(1), betas=(0.9, 1.5)),
        ValueError,
        "Adam: betas[1] must be in [0, 1), got 1.5",
    ),
    (
        lambda: ss.Adam(ones(1), betas=(0.9, "x")),
        TypeError,
        "Adam: betas[1] must be a number, a schedule or a function of the step, got str 'x'",
    ),
    (
        lambda: ss.Adam(ones(1), betas=0.9),
        ValueError,
        "Adam: betas must be 2 numbers, got 0.9",
    ),
    (
        lambda: ss.Adam(ones(1), amsgrad=1),
        TypeError,
        "Adam: amsgrad must be True or False, got 1",
    ),
    (
        sgd(nesterov=True),
        ValueError,
        "SGD: nesterov=True needs momentum > 0 and dampening = 0, got momentum=0.0, dampening=0.0",
    ),
    (
        sgd(clip_norm=0),
        ValueError,
        "SGD: clip_norm must be a finite number > 0, or None for no limit, got 0",
    ),
    (
        sgd(clip_value=[1]),
        TypeError,
        "SGD: clip_value must be a number > 0, or None for no limit, got [1]",
    ),
    (
        sgd(loss_scale=0),
        ValueError,
        "SGD: loss_scale must be a finite number > 0, None or 'dynamic', got 0",
    ),
    (
        lambda: ss.SGD(ones(1), 0.1, 0.9),
        TypeError,
        "SGD: only params and lr go by position, got 0.9 as well; name it, such as momentum=0.9",
    ),
    (
        lambda: setattr(ss.SGD([{"params": ones(1)}, {"params": ones(1)}]), "lr", (1, 2, 3)),
        ValueError,
        "SGD: lr has 3 values for 2 groups; give one number for all, or one for each",
    ),
    (
        lambda: setattr(ss.SGD(ones(1)), "lr_scale", "half"),
        TypeError,
        "SGD: lr_scale must be a number, got str 'half'",
    ),
    (
        lambda: setattr(ss.SGD(ones(1)), "lr_scale", math.nan),
        ValueError,
        "SGD: lr_scale must be a finite number >= 0, got nan",
    ),
    (
        lambda: ss.PolyakSGD(ones(1)).step(ones(1), loss=ones(1)),
        TypeError,
        "PolyakSGD: loss is a ndarray, not a number; the rule needs it, step(grads, loss=...)",
    ),
    (
        sgd(on_nonfinite="drop"),
        ValueError,
        "SGD: on_nonfinite must be one of 'raise', 'skip', 'ignore', got 'drop'",
    ),
    (sgd(maximize=1), TypeError, "SGD: maximize must be True or False, got 1"),
    (
        sgd(groups=[ss.group("*/x", lr=1)]),
        ValueError,
        "SGD: group '*/x' matches no leaf; the leaves are layers/0/b, layers/0/w, out",
    ),
    (
        sgd(groups=[ss.group("out", lr_=1)]),
        TypeError,
        f"SGD: group 'out': unknown argument 'lr_'; did you mean lr? (it takes "
        f"{', '.join(ss.SGD.fields)})",
    ),
    (
        sgd(groups=[ss.group("out", lr=-1)]),
        ValueError,
        "SGD: group 'out': lr must be a finite number >= 0, got -1",
    ),
    (
        sgd(groups="out"),
        TypeError,
        "SGD: groups must be a list of ss.group(pattern, ...), got 'out'",
    ),
    (
        sgd(groups=["out"]),
        TypeError,
        "SGD: groups must be a list of ss.group(pattern, ...), got 'out'",
    ),
    (
        lambda: ss.SGD([{"params": ones(1)}], groups=[ss.group("0", lr=1)]),
        ValueError,
        "SGD: give groups either in params or by groups=, not both",
    ),
    (
        lambda: ss.SGD([{"params": ones(1), "mometum": 1}]),
        TypeError,
        f"SGD: group 0: unknown argument 'mometum'; did you mean momentum? (it takes "
        f"{', '.join(ss.SGD.fields)})",
    ),
    (
        lambda: set_on(sgd()(), "momentun", 1),
        AttributeError,
        f"SGD has no attribute 'momentun'; did you mean momentum?; it has "
        f"{', '.join(ss.SGD.fields)} and lr_scale to set",
    ),
    (
        lambda: set_on(sgd()(), "momentum", 0.9),
        ValueError,
        "SGD: momentum=0.9 needs state that this optimizer was made without; make a new one with "
        "momentum=0.9",
    ),
    (
        lambda: set_on(ss.Adam(ones(1)), "amsgrad", True),
        ValueError,
        "Adam: amsgrad is settled when the optimizer is made (it is False); make a new one "
        "with amsgrad=True",
    ),
    (
        lambda: set_on(sgd()(), "lr_scale", -1),
        ValueError,
        "SGD: lr_scale must be a finite number >= 0, got -1",
    ),
    (
        lambda: ss.Adagrad(ones(1), initial_accumulator_value=lambda step: 1.0),
        TypeError,
        "Adagrad: initial_accumulator_value acts once, at the start: give a number",
    ),
    (
        lambda: sgd()().clone({"a": ones(3)}),
        ValueError,
        "SGD: expected the leaves layers/0/b, layers/0/w, out, got a",
    ),
    (
        lambda: ss.SGD([ones(2)]).clone([ones(3)]),
        ValueError,
        "SGD: 0 must have shape (2,) and dtype float64, got (3,) and float64",
    ),
    (
        lambda: ss.set_num_threads(0),
        ValueError,
        "set_num_threads: count must be a whole number >= 1, got 0; "
        "None uses as many as the environment allows",
    ),
]


@pytest.mark.parametrize(("act", "error", "message"), BAD_ARGUMENTS)
def test_bad_arguments(act, error, message):
    with pytest.raises(error) as caught:
        act()
    assert str(caught.value) == message


# The machine.


def test_an_unknown_target_is_refused_with_the_names_there_are():
    run = subprocess.run(
        [sys.executable, "-c", "import stepsize"],
        env={**os.environ, "STEPSIZE_TARGET": "sse9"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    names = ", ".join(ss.build_info()["available_targets"])
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1] == (
        "ValueError: STEPSIZE_TARGET: 'sse9' is not an instruction set of this build and "
        f"processor; use one of {names}, or unset it for the best"
    )


@pytest.mark.parametrize(
    "call",
    (
        lambda f, x: ss.fit(lambda p, _: f(p), x, ss.SGD(x, lr=0.1), [0] * 4, epochs=1),
        lambda f, x: ss.lr_find(lambda p, _: f(p), x, [0] * 4),
        lambda f, x: ss.autolr(lambda p, _: f(p), x, [0] * 4, epochs=1),
        lambda f, x: ss.minimize(f, x),
        lambda f, x: ss.LBFGS(x).step(f),
        lambda f, x: ss.SAM(ss.SGD(x, lr=0.1)).step(f),
    ),
    ids=("fit", "lr_find", "autolr", "minimize", "LBFGS", "SAM"),
)
@pytest.mark.parametrize(
    ("function", "what"),
    (
        (np.sum, "float64"),
        (lambda x: (x, 2 * x, 1), r"a tuple \(ndarray of .*, ndarray of .*, int\)"),
    ),
    ids=("the loss alone", "three things"),
)
def test_a_function_that_returns_something_else_is_told_what_to_return(call, function, what):
    x = np.ones(3)
    with pytest.raises(TypeError, match=rf"must return \(loss, grads\).*it returned {what}"):
        call(function, x)
    assert (x == 1).all()

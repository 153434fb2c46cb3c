"""Which leaves are hidden matrices: by name and shape, with what is unsure said."""

import numpy as np
import pytest

import stepsize as ss
from stepsize.optimizers.matrix_groups import KINDS
from stepsize.scaling.width import KINDS as OF_TRANSFER

MODELS = {
    # One column a leaf: its kind, and "?" where that is unsure.
    "a transformer by name": (
        0,
        {
            "wte": ((300, 16), "input"),
            "wpe/w": ((32, 16), "input"),
            "h/0/attn/qkv/w": ((16, 48), "hidden"),
            "h/0/attn/out_proj/w": ((16, 16), "hidden"),
            "h/0/attn/heads": ((4, 16, 4), "hidden"),
            "h/0/output/dense": ((64, 16), "hidden?"),
            "h/0/ln/scale": ((16,), "vector"),
            "h/0/b": ((16,), "vector"),
            "lm_head/w": ((16, 300), "output"),
            "temperature": ((), "vector"),
        },
    ),
    "as flax calls it": (
        0,
        {
            "patchEmbed/kernel": ((4, 4, 3, 16), "input"),
            "Dense_0/kernel": ((16, 16), "hidden"),
            "Classifier/kernel": ((16, 10), "output"),
            "Classifier/bias": ((10,), "vector"),
        },
    ),
    "layers without names": (
        0,
        {
            "0/w": ((784, 64), "input?"),
            "0/b": ((64,), "vector"),
            "1/w": ((64, 32), "hidden"),
            "2/w": ((32, 10), "output?"),
        },
    ),
    "a convolutional network as torch has it": (
        1,
        {
            "conv1": ((16, 3, 3, 3), "input?"),
            "conv2": ((32, 16, 3, 3), "hidden"),
            "fc": ((10, 32), "output?"),
        },
    ),
    "a table of tokens": (
        0,
        {
            "x/a": ((50_000, 64), "input?"),
            "x/m": ((64, 64), "hidden"),
            "x/z": ((64, 50_000), "output?"),
        },
    ),
    "stacked layers": (
        0,
        {
            "embedding": ((99, 8), "input"),
            "layers/w": ((6, 8, 8), "hidden"),
            "layers/bias": ((6, 8), "vector?"),
            "head": ((8, 99), "output"),
        },
    ),
    "one column": (
        0,
        {"embed": ((9, 4), "input"), "out": ((4, 1), "vector"), "w": ((4, 4), "hidden")},
    ),
    "no end in sight": (0, {"first": ((8, 8), "hidden?"), "last": ((8, 8), "hidden?")}),
}


def nest_of(model):
    return {path: np.zeros(shape) for path, (shape, _) in model.items()}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_decided_and_what_is_said(name):
    fan_in, model = MODELS[name]
    found = ss.matrix_groups(nest_of(model), fan_in=fan_in)
    told = {path: kind + "?" * (path in found.unsure) for path, kind in found.items()}
    assert told == {path: kind for path, (_, kind) in sorted(model.items())}
    text = str(found)
    assert text.count("(unsure)") == len(found.unsure)
    for path, kind in found.items():
        line = next(line for line in text.splitlines() if line.split()[0] == path)
        assert kind in line and found.why[path] in line
    for kind in KINDS:
        assert f"{len(found.paths(kind))} {kind}" in repr(found)


def test_the_caller_knows_better():
    params = nest_of(MODELS["no end in sight"][1])
    found = ss.matrix_groups(params, {"f*": "input", "*": "output"})
    assert dict(found) == {"first": "input", "last": "output"} and not found.unsure
    for kinds, kind, message in (
        ({"x": "input"}, ValueError, "'x' of kinds matches no leaf; the leaves are first, last"),
        ({"*": "matrix"}, ValueError, r"kinds\['\*'\] must be one of 'input', 'hidden'"),
        ("*", TypeError, "kinds must be a dict"),
    ):
        with pytest.raises(kind, match=message):
            ss.matrix_groups(params, kinds)
    with pytest.raises(ValueError, match="fan_in"):
        ss.matrix_groups(params, fan_in=2)
    assert KINDS == OF_TRANSFER


def test_it_is_what_partitions_and_groups_take():
    random = np.random.default_rng(0)
    model = MODELS["a transformer by name"][1]
    params = {path.replace("qkv", "q[k]v"): random.normal(size=s) for path, (s, _) in model.items()}
    params["temperature"] = np.array(1.0)
    found = ss.matrix_groups(params)
    opt = ss.Partition(found.rules(ss.Muon, ss.AdamW), params)
    muon, adamw = opt.parts.values()
    assert muon.rule is ss.Muon and muon.paths == found.paths("hidden")
    assert adamw.paths == found.paths("input", "output", "vector")
    twin = ss.arrays.copy(params)
    adam = {"use_muon": False}
    one = ss.Muon(twin, groups=found.groups(input=adam, output=adam, hidden={"momentum": 0.9}))
    assert one.momentum == (0.95, 0.95, 0.95, 0.9)[:2] + one.momentum[2:]
    assert {p for p, slots in one.state.items() if "momentum_buffer" in slots} == {
        path for path in found.paths("hidden") if params[path].ndim == 2
    }
    assert one.momentum[-1] == 0.9 and len(one.momentum) == 4
    with pytest.raises(ValueError, match="kind must be one of"):
        found.groups(matrix={})


def test_nothing_hidden_and_nothing_else():
    vectors = ss.matrix_groups({"b": np.zeros(3)})
    assert vectors.rules(ss.Muon, ss.AdamW) == {"*": ss.AdamW}
    matrices = ss.matrix_groups({"w": np.eye(3)}, {"*": "hidden"})
    assert matrices.rules(ss.Muon, ss.AdamW) == {("w",): ss.Muon}
    assert vectors.groups(hidden={"lr": 1.0}) == []


def test_a_tuple_of_globs_is_a_glob():
    params = {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(2)}
    opt = ss.SGD(params, lr=1.0, groups=[ss.group(("a", "c"), lr=0.5)])
    opt.step({name: np.ones(2) for name in params})
    assert params["a"][0] == params["c"][0] == -0.5 and params["b"][0] == -1.0
    for pattern in ((), ("a", 3), 3):
        with pytest.raises(TypeError, match="a glob of leaf paths such as '\\*/b', or a tuple"):
            ss.group(pattern)
    with pytest.raises(ValueError, match="group \\('x', 'y'\\) matches no leaf"):
        ss.SGD(params, groups=[ss.group(("x", "y"), lr=1.0)])

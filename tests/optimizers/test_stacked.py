"""Matrices that lie in one array: a stack moves as its matrices do as leaves of their own."""

import numpy as np
import pytest

import stepsize as ss
from cases import DTYPES, RULES, numpy_rule, random_grads, random_nest, same_bits
from together import alike, together

STACKED = [cls for cls in RULES if "stacked" in cls.fields]
FLAT = [cls for cls in RULES if "flatten" in cls.fields]
# Of layers, of layers and heads, of kernels, of vectors, of numbers, and of nothing.
SHAPES = {
    1: ((3, 5, 4), (70, 6, 6), (2, 4, 3, 2, 2), (5, 7), (4,), (3, 0, 2), (0, 3, 2), (3, 1, 130)),
    2: ((2, 3, 4, 6), (2, 2, 3, 3, 2), (2, 2), (1, 2, 9)),
}


def test_the_matrix_rules_have_it():
    assert {ss.Muon, ss.Shampoo, ss.SOAP} <= set(STACKED) and set(FLAT) >= {ss.Muon, ss.SOAP}


@together("dtype", DTYPES, alike)
@together("cls", STACKED, alike)
@pytest.mark.parametrize("flatten", [False, True], ids=["as they are", "flat"])
def test_a_stack_is_its_matrices_to_the_bit(cls, dtype, flatten):
    def make(params, **more):
        return cls(params, lr=0.1, flatten=flatten, **more)

    for count, shapes in SHAPES.items():
        nest = random_nest({str(k): shape for k, shape in enumerate(shapes)}, dtype)
        nest = {name: np.asarray(leaf) for name, leaf in nest.items()}
        places = {n: list(np.ndindex(leaf.shape[:count])) for n, leaf in nest.items()}
        apart = {f"{n}{i}": np.array(nest[n][i]) for n in nest for i in places[n]}
        stack, alone = make(nest, stacked=count), make(apart)
        with numpy_rule(cls):
            stated = make(ss.arrays.copy(nest), stacked=count)
        for seed in range(4):
            grads = random_grads(nest, seed)
            given = {n: None if seed == 2 and n == "0" else np.asarray(g) for n, g in grads.items()}
            alone.step(
                {
                    f"{n}{i}": None if g is None else np.array(g[i])
                    for n, g in given.items()
                    for i in places[n]
                }
            )
            stack.step(given)
            stated.step(given)
        for n in nest:
            assert same_bits(nest[n], stated.params[n])
            for i in places[n]:
                assert same_bits(np.array(nest[n][i]), apart[f"{n}{i}"])
                for slot, array in alone.state[f"{n}{i}"].items():
                    assert same_bits(np.array(stack.state[n][slot][i]), array)


@together("dtype", DTYPES, alike)
@together("cls", FLAT, alike)
def test_a_flat_kernel_is_a_matrix_to_the_bit(cls, dtype):
    kernels = random_nest({"a": (4, 3, 2, 2), "b": (6, 2, 5), "c": (5, 4), "d": (7,)}, dtype)
    matrices = {n: np.array(x.reshape(len(x), -1) if x.ndim > 2 else x) for n, x in kernels.items()}
    one = cls(kernels, lr=0.1, flatten=True)
    with numpy_rule(cls):
        stated = cls(ss.arrays.copy(kernels), lr=0.1, flatten=True)
    other = cls(matrices, lr=0.1)
    for seed in range(3):
        grads = random_grads(kernels, seed)
        one.step(grads)
        stated.step(grads)
        other.step({n: g.reshape(matrices[n].shape) for n, g in grads.items()})
    for n, kernel in kernels.items():
        assert same_bits(kernel.reshape(matrices[n].shape), matrices[n])
        assert same_bits(kernel, stated.params[n])


@together("cls", STACKED, alike)
def test_the_number_of_threads_and_a_resume_change_nothing(cls, tmp_path):
    source = random_nest({"many": (60, 24, 24), "large": (2, 500, 300), "b": (60, 24)}, np.float32)
    found = []
    for threads in (1, 2, 3):
        params = ss.arrays.copy(source)
        ss.set_num_threads(threads)
        try:
            optimizer = cls(params, stacked=1, clip_norm=1.0)
            optimizer.step(random_grads(params, 0))
            optimizer.save(tmp_path / "state")
            again = cls(params, stacked=1, clip_norm=1.0)
            again.load(tmp_path / "state")
            stats = again.step(random_grads(params, 1), stats=True)
        finally:
            ss.set_num_threads(None)
        found.append(({name: leaf.tobytes() for name, leaf in params.items()}, stats))
    assert found[0] == found[1] == found[2]


@together("cls", STACKED, alike)
def test_groups_of_stacks_beside_other_leaves(cls):
    params = random_nest({"layers/w": (3, 4, 4), "head": (4, 2)}, np.float64)
    opt = cls(params, groups=[ss.group("layers/*", stacked=1)])
    assert opt.stacked == (None, 1)
    shapes = {slot.shape for slot in opt.state["layers/w"].values()}
    assert shapes <= {(3, 4, 4), (3, 4)}
    opt.step(random_grads(params, 0))
    with pytest.raises(ValueError, match=r"stacked=2 counts .*but b has shape \(4,\); give it a"):
        cls({"w": np.zeros((2, 2, 4, 4)), "b": np.zeros(4)}, stacked=2)
    with pytest.raises(ValueError, match="stacked is settled when the optimizer is made"):
        opt.stacked = (None, 2)
    for bad in (0, -1, 1.5, "one"):
        with pytest.raises((TypeError, ValueError), match="stacked"):
            cls(params, stacked=bad)
